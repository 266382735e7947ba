"""What will a hyperparameter be?  A picture of its course over a run, drawn before the first batch."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from states.svg import PicturesMissing


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")
# How many epochs have a mark of their own.
MARKED = 20


def draw(
    courses: Mapping[str, Mapping[str, Sequence[float]]], epochs: int, batches: int, path: str | Path | None = None
) -> "Figure":
    """The course of each hyperparameter, one above the other, over the batches of a run; its epochs are marked.

    Args:
        courses: By hyperparameter, and by what a line is called (nothing where there is one), a value for each batch.
        epochs: How many epochs the run has.
        batches: How many batches an epoch has.
        path: Where the picture is written as well; its suffix says how.

    Raises:
        PicturesMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # only pictures need it
    except ImportError as missing:
        msg = 'a picture of a schedule needs matplotlib: pip install "stateloop[pictures]"'
        raise PicturesMissing(msg) from missing
    figure = Figure(figsize=(6.4, 0.8 + 2.2 * len(courses)), layout="constrained", dpi=150)
    panels = figure.subplots(len(courses), sharex=True, squeeze=False)[:, 0]
    for axes, (name, lines) in zip(panels, courses.items(), strict=True):
        _draw_lines(axes, name, lines)
        for epoch in _marked(epochs):
            axes.axvline(epoch * batches, color="0.85", linewidth=0.8, zorder=0)
    _name_epochs(panels[0], epochs, batches)
    panels[-1].set_xlabel("batch")
    figure.align_ylabels(panels)
    if path is not None:
        figure.savefig(path)
    return figure


def _draw_lines(axes: "Axes", name: str, lines: Mapping[str, Sequence[float]]) -> None:
    """Steps: a value holds until the next batch."""
    for number, (label, values) in enumerate(lines.items()):
        edges = range(len(values) + 1)
        colour = COLOURS[number % len(COLOURS)]
        axes.step(edges, [*values, values[-1]], where="post", color=colour, label=label)
    axes.set_ylabel(name)
    axes.margins(x=0)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axes.legend(frameon=False)


def _name_epochs(axes: "Axes", epochs: int, batches: int) -> None:
    """The numbers of the epochs, where they begin, above the picture."""
    above = axes.secondary_xaxis("top")
    above.set_xticks([epoch * batches for epoch in _marked(epochs)], [str(epoch) for epoch in _marked(epochs)])
    above.set_xlabel("epoch")
    above.tick_params(length=0)
    above.spines["top"].set_visible(False)


def _marked(epochs: int) -> range:
    """The epochs with a mark: all, or every second, third, ... of many."""
    return range(0, epochs, ceil(epochs / MARKED))
