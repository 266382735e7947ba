"""Which learning rates are tried in a search, and what is the loss at each?  One rate a batch, from small to large."""

from collections.abc import Collection, Iterable, Sequence
from math import inf, isfinite
from typing import Any
from weakref import ref

from torch import Tensor

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.listeners import Callback
from engine.recording.series import Series
from engine.run import Run
from engine.schedules.hyper import Place, check_shared, find, group_numbers
from engine.searching.found import LRFound
from states.errors import shown, typed


# What a loss keeps of its weight in the smoothed mean with each batch behind it.
BETA = 0.98


class LRFinder(Callback):
    """Give each batch a larger learning rate than the one before, keep its loss, and stop where the loss runs away.

    Batch i gets `start_lr * (end_lr / start_lr) ** (i / (num_it - 1))` (Smith 2015, arXiv 1506.01186, with fastai's
    exponential steps), so the first is *start_lr* and the last *end_lr*.  Its loss is smoothed as fastai does: a mean
    in which each loss weighs 0.98 of the one after it.  The run is stopped when all rates were tried, when a loss is
    not finite, and when the smoothed loss is more than *stop_at* times the best so far (where that is below zero: more
    than *stop_at* - 1 times its size above it).

    `engine.lr_find` uses this in a training that it undoes.  In a `fit` by itself **it trains for real**: the learning
    rates are put back at the end, the weights stay as the largest rates have left them; nothing is validated.  Each
    `fit` is a new search.  A rate is for a batch: with batches that are accumulated, a window is stepped with the rate
    of its last batch.

    Args:
        start_lr: The first rate, above 0.
        end_lr: The last rate.
        num_it: How many rates, 2 or more.  In a `fit`, let `epochs` be enough for as many batches.
        stop_at: How many times the best smoothed loss is too much, above 1; `None` goes on until a loss is not finite.
        groups: The number of the optimizer's group whose rate is written, or several, of several optimizers one after
            the other; `None` for all.  The rates of the groups keep their ratios, and the largest goes through the
            rates above; where all are 0, they are written alike.  All others stay as they are.

    Raises:
        ArgumentRefused: numbers of which no search can be made, or, when a run begins, groups that there are not.

    Cost per batch: one write per group, and the loss is read on the host, which waits for the device.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks.lr_finder import LRFinder
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, [finder := LRFinder(start_lr=0.01, end_lr=1.0, num_it=3)])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))], epochs=3)
        >>> [f"{rate:.2f}" for rate in finder.found.rates], finder.found.stopped
        (['0.01', '0.10', '1.00'], 'all of them were tried')
    """

    order = -50

    def __init__(
        self,
        *,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_it: int = 100,
        stop_at: float | None = 4.0,
        groups: int | Collection[int] | None = None,
    ) -> None:
        _check_above("start_lr", start_lr, 0)
        if not is_number(end_lr) or end_lr <= start_lr:
            raise ArgumentRefused(
                f"start_lr is {start_lr:g} and end_lr is {shown(end_lr)}",
                allowed="a finite end_lr above start_lr",
                instead="leave both out for 1e-7 and 10",
            )
        check_count("num_it", num_it, least=2)
        if stop_at is not None:
            _check_above("stop_at", stop_at, 1)
        self.start_lr, self.end_lr, self.num_it, self.stop_at = start_lr, end_lr, num_it, stop_at
        self.groups = group_numbers(groups)
        self._begin()
        # The groups with their rates from before and their ratios to the largest; the loss of the batch before.
        self._swept: list[tuple[Place, float, float]] = []
        self._stale: ref[Tensor] | None = None

    def _begin(self) -> None:
        # The rates with a loss, these losses, and the best when smoothed.
        self._rates: list[float] = []
        self._curve, self._best = Series(self.num_it, BETA), inf
        # How many batches have ended, the rate of the batch in hand, and why it is over, if it is.
        self._tried, self._rate, self._over = 0, self.start_lr, ""

    @property
    def found(self) -> LRFound:
        """What the last run has found, also if it goes on or has failed."""
        return LRFound(
            rates=tuple(self._rates),
            losses=tuple(self._curve.smoothed),
            raw_losses=tuple(self._curve.losses),
            planned=self.num_it,
            stopped=self._over or "the search is not over",
        )

    def writes(self, param_groups: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
        """The learning rates of the groups of the search."""
        return [(place.group, place.name) for place in self._places(param_groups)]

    def skip_validate(self, run: Run) -> bool:
        """What is validated would say nothing."""
        del run
        return True

    def on_train_begin(self, run: Run) -> None:
        """Begin a search; keep the rates that are there, and their ratios."""
        if run.optimizer is None:
            raise ArgumentRefused(
                "the engine has no optimizer, so there is no learning rate to search",
                allowed="an engine with an optimizer, or several",
                instead="write Engine(model, loss_fn, optimizer)",
            )
        self._begin()
        groups = run.optimizer.param_groups
        places = self._places(groups)
        # A tensor is written into, so its number is kept; reading it waits for the device, once.
        before = [rate.item() if isinstance(rate := groups[place.group]["lr"], Tensor) else rate for place in places]
        largest = max(before)
        ratios = [rate / largest if largest else 1.0 for rate in before]
        check_shared("LRFinder", groups, dict.fromkeys(places, self))
        self._swept = list(zip(places, before, ratios, strict=True))

    def on_batch_begin(self, run: Run) -> None:
        """Write the next rate."""
        self._stale = ref(run.loss) if isinstance(run.loss, Tensor) else None
        if not self._over:
            self._rate = self._rate_of(self._tried / (self.num_it - 1))
            self._write(run, [self._rate * ratio for _, _, ratio in self._swept])

    def on_batch_end(self, run: Run) -> None:
        """Keep the loss, unless the batch was skipped: then it is still that of the batch before."""
        if self._over:
            return
        if isinstance(run.loss, Tensor) and (self._stale is None or run.loss is not self._stale()):
            self._keep(run.loss.item())
        self._tried += 1
        if self._tried == self.num_it and not self._over:
            self._over = "all of them were tried"
        if self._over:
            run.stop(f"the learning rate search is over: {self._over}")

    def on_train_end(self, run: Run) -> None:
        """Put the learning rates back, and let go of what belongs to the run."""
        self._write(run, [rate for _, rate, _ in self._swept])
        self._swept, self._stale = [], None
        if not self._over:
            self._over = f"the run ended first{f', by {run.stops[-1]}' if run.stops else ''}"

    def _places(self, groups: Sequence[dict[str, Any]]) -> list[Place]:
        numbers = range(len(groups)) if self.groups is None else self.groups
        return [find("LRFinder", groups, number, "lr") for number in numbers]

    def _write(self, run: Run, rates: Iterable[float]) -> None:
        """Write a rate for each group that is searched."""
        for (place, _, _), rate in zip(self._swept, rates, strict=True):
            assert run.optimizer is not None, "it was there when the run began"
            place.write(run.optimizer.param_groups, rate)  # asked each time: loading a state makes new ones

    def _rate_of(self, share: float) -> float:
        """The rate at this share of the way; so written that both ends are what was given, to the last bit."""
        return float(self.start_lr ** (1 - share) * self.end_lr**share)

    def _keep(self, loss: float) -> None:
        """Add a point to the curve; is it the last?"""
        self._rates.append(self._rate)
        self._curve.take([self._tried], iter([loss]))
        smoothed = self._curve.smoothed[-1]
        self._best = min(self._best, smoothed)
        if not isfinite(loss):
            self._curve.smoothed[-1] = loss  # the average passes it over
            self._over = f"the loss was {loss}"
        elif self.stop_at is not None and smoothed > self._best + (self.stop_at - 1) * abs(self._best):
            self._over = f"the smoothed loss was more than {self.stop_at:g} times its best"


def _check_above(name: str, value: object, least: float) -> None:
    """Refuse what is no finite number above *least*."""
    if not is_number(value) or value <= least:
        raise ArgumentRefused(
            f"{name} is {shown(value)}, {typed(value)}",
            allowed=f"a finite number above {least:g}",
            instead=f"leave {name} out for its default",
        )
