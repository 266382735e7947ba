"""What has happened batch by batch?  Losses, smoothed losses and hyperparameters of a whole run, in bounded memory.

# Theory of operation
#
# The losses are counted from 0, and number n is a point if *step* divides n.  Where there are *most* points, every
# second one goes and *step* doubles: there are always ceil(count / step), evenly spread over the whole run.  The moving
# average goes over all losses, whether they are points or not.
#
# Of a hyperparameter its changes are kept, each with the number of the first point at which it holds.  The point that
# comes next has the number len(losses); where a hyperparameter changes several times before it, the last one holds.  So
# at each point the value is that of its batch, whatever was dropped.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite, nan
from typing import Any

import torch
from attrs import astuple, define, field, frozen
from torch import Tensor


# What came, in order: the number of a batch whose loss is the next of the values that were read; or a hyperparameter's
# name with its value, or with None where that is the next of those.
Came = int | tuple[str, float | None]


@frozen
class Begin:
    """Where an epoch begins: its number, that of its first batch, what came before (updates, losses), the average."""

    epoch: int
    batch: int
    updates: int
    count: int
    average: float
    weight: float


@define(eq=False)
class Series:
    """The points of a run.

    Attributes:
        most: How many points are kept at most.
        beta: How much of it the moving average keeps at each loss.
        step: Every how many losses there is a point: 1, 2, 4, ...
        count: How many losses came.
        end: The number of the batch that comes next.
        updates: How many updates there were, up to the end of the last epoch.
        batches: At each point, the number of its batch.
        losses: The loss of that batch.
        smoothed: The exponential moving average of all losses up to that one, divided by the sum of its weights,
            `1 - beta**n`: the bias correction of Adam (Kingma and Ba, 2015, section 3).  A loss that is not finite is
            passed over; nan before the first that is.
        changes: Of each hyperparameter, from which point on it had which value.
        begins: The epochs that have begun, in order.

    Example:
        >>> series = Series(most=2, beta=0.5)
        >>> series.take([("lr", 0.1), 0, ("lr", 0.2), 1, 2], iter([4.0, 1.0, 1.0]))
        >>> series.batches, series.losses, series.values("lr")
        ([0, 2], [4.0, 1.0], [0.1, 0.2])
        >>> series.smoothed == [4.0, (4 * 0.25 + 1 * 0.5 + 1 * 1) / (0.25 + 0.5 + 1)]
        True
    """

    most: int
    beta: float
    step: int = 1
    count: int = 0
    end: int = 0
    updates: int = 0
    batches: list[int] = field(factory=list)
    losses: list[float] = field(factory=list)
    smoothed: list[float] = field(factory=list)
    changes: dict[str, list[tuple[int, float]]] = field(factory=dict)
    begins: list[Begin] = field(factory=list)
    # The average with its bias, and the sum of its weights.
    average: float = 0.0
    weight: float = 0.0

    def take(self, came: Iterable[Came], values: Iterator[float]) -> None:
        """Take in what came, in order, with the values that were read."""
        for one in came:
            if isinstance(one, int):
                self._add(one, next(values))
            else:
                name, value = one
                self._change(name, next(values) if value is None else value)

    def values(self, name: str) -> list[float]:
        """The value of a hyperparameter at each point; nan before it had one."""
        filled: list[float] = []
        value = nan
        for since, then in (*self.changes[name], (len(self.losses), nan)):
            filled += [value] * (since - len(filled))
            value = then
        return filled

    def begin(self, epoch: int) -> None:
        """An epoch begins."""
        self.begins.append(Begin(epoch, self.end, self.updates, self.count, self.average, self.weight))

    def forget(self, epoch: int) -> None:
        """Forget this epoch and all behind it."""
        at = next((number for number, begin in enumerate(self.begins) if begin.epoch >= epoch), None)
        if at is None:
            return
        begin = self.begins[at]
        self.count, self.end, self.updates = begin.count, begin.batch, begin.updates
        self.average, self.weight = begin.average, begin.weight
        kept = -(-self.count // self.step)
        del self.begins[at:], self.batches[kept:], self.losses[kept:], self.smoothed[kept:]
        left = {name: [one for one in changes if one[0] < kept] for name, changes in self.changes.items()}
        self.changes = {name: changes for name, changes in left.items() if changes}

    def state_dict(self) -> dict[str, Any]:
        """All but *most* and *beta*: what has an entry for each point as tensors, which are small and quick to save.

        Of the hyperparameters, the points from which on there is another value, int64, and these values, float64.
        """
        return {
            **{name: getattr(self, name) for name in ("step", "count", "end", "updates", "average", "weight")},
            "batches": _kept(self.batches, torch.int64),
            **{name: _kept(getattr(self, name), torch.float64) for name in ("losses", "smoothed")},
            "changes": {
                name: [
                    _kept([since for since, _ in changes], torch.int64),
                    _kept([v for _, v in changes], torch.float64),
                ]
                for name, changes in self.changes.items()
            },
            "begins": [astuple(begin) for begin in self.begins],
        }

    @classmethod
    def of(cls, state: Mapping[str, Any], most: int, beta: float) -> "Series":
        """The series of a state; of a longer one, no more than *most* points."""
        copied: dict[str, Any] = {**state, **{name: state[name].tolist() for name in ("batches", "losses", "smoothed")}}
        copied["changes"] = {
            name: list(zip(points.tolist(), values.tolist(), strict=True))
            for name, (points, values) in state["changes"].items()
        }
        copied["begins"] = [Begin(*begin) for begin in state["begins"]]
        series = cls(most, beta, **copied)
        while len(series.losses) > most:
            series._thin()
        return series

    def _add(self, batch: int, loss: float) -> None:
        if isfinite(loss):
            self.average = self.beta * self.average + (1 - self.beta) * loss
            self.weight = self.beta * self.weight + (1 - self.beta)
        if self.count % self.step == 0 and len(self.losses) == self.most:
            self._thin()
        if self.count % self.step == 0:
            self.batches.append(batch)
            self.losses.append(loss)
            self.smoothed.append(self.average / self.weight if self.weight else nan)
        self.count += 1
        self.end = batch + 1

    def _change(self, name: str, value: float) -> None:
        changes = self.changes.setdefault(name, [])
        if not changes or changes[-1][1] != value:
            _hold(changes, len(self.losses), value)

    def _thin(self) -> None:
        """Drop every second point."""
        self.step *= 2
        del self.batches[1::2], self.losses[1::2], self.smoothed[1::2]
        for name, changes in self.changes.items():
            thinned: list[tuple[int, float]] = []
            for since, value in changes:
                _hold(thinned, (since + 1) // 2, value)
            self.changes[name] = thinned


def _kept(numbers: list[Any], dtype: torch.dtype) -> Tensor:
    """Numbers as a tensor, of shape (n,), on the CPU whatever the default device is."""
    return torch.tensor(numbers, dtype=dtype, device="cpu")


def _hold(changes: list[tuple[int, float]], since: int, value: float) -> None:
    """From this point on it is this value, whatever was said of that point before."""
    if changes and changes[-1][0] == since:
        changes.pop()
    changes.append((since, value))
