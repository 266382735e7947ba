"""Which learning rate does a curve of losses suggest?  Four published ways to read it, on lists of numbers.

Each takes the rates, rising, and as many finite losses, and gives a rate, or `None` where the curve is too short for it
or has nothing of what it looks for.  The ways are those of fastai (`fastai/callback/schedule.py`), number for number;
but on a curve that falls nowhere `valley` and `steep` are `None`, where fastai names a rate that means nothing.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise, takewhile
from math import isfinite, log


Curve = tuple[Sequence[float], list[float]]

# What is not looked at: a share of the rates at the start, and the last points, where the loss has run away.
SKIPPED_SHARE, SKIPPED_END = 10, 5
# The least points of which a valley has thirds.
THIRDS = 3
# `slide`: how far the two places are apart, and how much their slopes may differ.
APART, ALIKE = 15, 0.005
# `minimum`: by what the rate of the lowest loss is divided.
SAFETY = 10


def trimmed(rates: Sequence[float], losses: Sequence[float], planned: int) -> Curve:
    """The part of a curve that is looked at: without the first tenth of the *planned* points and the last five.

    What is left is cut before the first loss that is not finite.

    Example:
        >>> trimmed(range(1, 21), [2.0] * 12 + [float("inf")] * 8, planned=30)
        (range(4, 13), [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    """
    first = planned // SKIPPED_SHARE
    kept = list(takewhile(isfinite, losses[first:-SKIPPED_END]))
    return rates[first : first + len(kept)], kept


def valley(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The middle of the longest fall: of the longest falling subsequence of the losses, the first if there are several.

    Points that rise for a moment are no part of it.  What begins it is found by counting its points back from its end,
    so where such points are in between, this lies a little towards the end.

    Example:
        >>> valley([1, 2, 3, 4, 5, 6, 7, 8], [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 8.0, 9.0])
        3
    """
    lengths = _falls(losses)
    longest = max(lengths, default=0)
    if longest < THIRDS:
        return None
    start = lengths.index(longest) - longest  # the point before the first, as published
    return rates[start + longest // 3 + longest // 6]


def slide(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the loss begins to slide up, seen from the end.

    Two places, 15 points apart, go back from the end as long as their slopes differ by more than 0.005; the rate of the
    left one is taken.  (The slope between two points is not divided by the step between their rates.)

    Example:
        >>> slide(range(20), [1.0] * 17 + [2.0, 4.0, 8.0])  # the right place is on level ground at point 15
        1
    """
    slopes = _slopes(losses)
    left = len(losses) - 1 - APART
    if left < 0:
        return None
    found = left
    while left >= 0 and abs(slopes[left + APART] - slopes[left]) > ALIKE:
        found, left = left, left - 1
    return rates[found]


def minimum(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """A tenth of the rate with the lowest loss.

    Example:
        >>> minimum([0.1, 1.0, 10.0], [3.0, 2.0, 4.0])
        0.1
    """
    return rates[losses.index(min(losses))] / SAFETY if losses else None


def steep(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where the loss falls fastest over the logarithm of the rate, from this point to the next.

    Example:
        >>> steep([0.01, 0.1, 1.0, 10.0], [3.0, 2.5, 1.0, 4.0])
        0.1
    """
    steps = zip(pairwise(losses), pairwise(rates), strict=True)
    slopes = [(after - before) / (log(high) - log(low)) for (before, after), (low, high) in steps]
    steepest = min(slopes, default=0.0)
    return rates[slopes.index(steepest)] if steepest < 0 else None


def _falls(losses: Sequence[float]) -> list[int]:
    """For each point, how many points the longest falling subsequence has that ends there.

    Of all falls with so many points, the one that ends highest can go on to most points: its end is kept.  So the work
    is n log n (Fredman 1975), where a look at all pairs takes n squared.
    """
    ends: list[float] = []  # negated, so they rise
    lengths = []
    for loss in losses:
        shorter = bisect_left(ends, -loss)
        ends[shorter : shorter + 1] = [-loss]
        lengths.append(shorter + 1)
    return lengths


def _slopes(losses: Sequence[float]) -> list[float]:
    """The slope at each point, of points one apart: half the difference of its neighbours (`numpy.gradient`)."""
    last = len(losses) - 1
    around = [(max(i - 1, 0), min(i + 1, last)) for i in range(last + 1)]
    return [(losses[after] - losses[before]) / max(after - before, 1) for before, after in around]
