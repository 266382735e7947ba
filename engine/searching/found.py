"""What did a search find?  Losses over learning rates, with four suggestions, as a table and as a picture."""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import takewhile
from math import isfinite, log
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import frozen

from engine.layout.figures import COLOURS, new_figure, saved, tidy
from engine.searching import suggested


if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What each suggestion means, in a line.
MEANS: Mapping[str, str] = MappingProxyType(
    {
        "valley": "in the middle of the longest fall of the loss",
        "slide": "before the loss begins to slide up",
        "minimum": "a tenth of the rate with the lowest loss",
        "steep": "where the loss falls fastest",
    }
)
# How each is drawn.
MARKERS = "osvD"


@frozen(repr=False)
class LRFound:
    """The losses of a search over its learning rates, and what they suggest.

    A batch that was skipped has no loss and no point here.  The last point may be one that is not finite.

    Attributes:
        rates: The learning rates, rising; of several groups, that of the largest.
        losses: The loss of each batch, smoothed: the mean of all up to it, each weighing 0.98 of the one after it.
        raw_losses: The loss of each batch as it was.
        planned: How many rates were to be tried.
        stopped: Why the search ended, in words.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    raw_losses: tuple[float, ...]
    planned: int
    stopped: str

    @property
    def valley(self) -> float | None:
        """A rate in the middle of the longest fall of the loss; see `engine.searching.suggested.valley`."""
        return suggested.valley(*self._trimmed)

    @property
    def slide(self) -> float | None:
        """The rate before the loss begins to slide up; see `engine.searching.suggested.slide`."""
        return suggested.slide(*self._trimmed)

    @property
    def minimum(self) -> float | None:
        """A tenth of the rate with the lowest loss; see `engine.searching.suggested.minimum`."""
        return suggested.minimum(*self._trimmed)

    @property
    def steep(self) -> float | None:
        """The rate where the loss falls fastest; see `engine.searching.suggested.steep`."""
        return suggested.steep(*self._trimmed)

    @property
    def suggestions(self) -> dict[str, float | None]:
        """All four by name; `None` where the curve is too short, or has nothing of what is looked for.

        The first tenth of the planned points and the last five are not looked at, nor is what comes behind a loss that
        is not finite.
        """
        return {"valley": self.valley, "slide": self.slide, "minimum": self.minimum, "steep": self.steep}

    def plot(self, path: str | PathLike[str] | None = None) -> "Figure":
        """Draw the curve with the suggestions on it; light where it is not looked at.

        Args:
            path: Where the picture is written as well; its folders are made.

        Raises:
            PicturesMissing: matplotlib is not installed.
        """
        figure = new_figure(6.4, 4)
        axes = figure.add_subplot(xscale="log", xlabel="learning rate", ylabel="smoothed loss")
        axes.plot(self.rates, self.losses, color=COLOURS[0], alpha=0.3)
        axes.plot(*self._trimmed, color=COLOURS[0])
        heights = []
        for (name, rate), marker, colour in zip(self.suggestions.items(), MARKERS, COLOURS[1:], strict=False):
            if rate is not None:
                heights.append(self._loss_at(rate))
                (point,) = axes.plot(rate, heights[-1], marker, color=colour, label=f"{name}  {rate:.1e}")
                point.set(markersize=7, markeredgecolor="white")
        if heights:
            axes.legend(frameon=False)
        axes.set_ylim(*self._limits(heights))
        axes.set_title(f"learning rate search: {len(self.rates)} of {self.planned} rates", loc="left")
        tidy(axes)
        return saved(figure, path)

    def __str__(self) -> str:
        tried = f"{len(self.rates)} of {self.planned} learning rates"
        if self.rates:
            tried = f"{tried}, from {self.rates[0]:.2e} to {self.rates[-1]:.2e}"
        rows = [
            f"  {name:<8}  {'none' if rate is None else format(rate, '.2e'):<8}  {MEANS[name]}"
            for name, rate in self.suggestions.items()
        ]
        return "\n".join([f"{tried}: {self.stopped}", *rows])

    def __repr__(self) -> str:
        """One line: how many rates, and why no more."""
        return f"<LRFound: {len(self.rates)} of {self.planned} learning rates; {self.stopped}>"

    @property
    def _trimmed(self) -> suggested.Curve:
        return suggested.trimmed(self.rates, self.losses, self.planned)

    def _loss_at(self, rate: float) -> float:
        """The height of the curve at a rate, between two points as the picture has it; at its ends that of the end."""
        after = bisect_right(self.rates, rate)
        if not 0 < after < len(self.rates):
            return self.losses[min(after, len(self.rates) - 1)]
        low, high = self.rates[after - 1], self.rates[after]
        share = (log(rate) - log(low)) / (log(high) - log(low))
        return self.losses[after - 1] * (1 - share) + self.losses[after] * share

    def _limits(self, marked: list[float]) -> tuple[float | None, float | None]:
        """From where to where the picture goes: what is marked is in it, and the fall to the lowest loss.

        A loss that runs away behind that goes on above it: nothing else could be seen.
        """
        looked_at = self._trimmed[1] or list(takewhile(isfinite, self.losses)) or [0.0]
        fall = looked_at[: looked_at.index(min(looked_at)) + 1]
        low, high = min(fall), max(fall + marked)
        room = (high - low) / 4
        return (low - room / 2, high + room) if room else (None, None)
