"""How are curves put together?  One after the other, behind a fixed number of steps, and again and again."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import fsum, isclose

from attrs import field, frozen

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.schedules.curves import Curve, check_curve
from states.errors import shown, typed


# How far from 1 the sum of proportions may be: 0.7 + 0.2 + 0.1 is not 1 exactly.
TOLERANCE = 1e-6


def in_phases(step: float, ends: Iterable[float], curves: Sequence[Curve]) -> float:
    """The value of the first curve whose last step is not passed yet; each begins where the one before it has ended.

    Args:
        step: Where, counted from 0.
        ends: The last step of each phase, perhaps between two steps; a phase that ends before its begin has no steps.
        curves: One for each phase.
    """
    begin, phases = 0.0, list(zip(ends, curves, strict=True))
    for end, curve in phases[:-1]:
        if step <= end:
            return _within(step, begin, end, curve)
        begin = end
    end, curve = phases[-1]
    return _within(step, begin, end, curve)


def _within(step: float, begin: float, end: float, curve: Curve) -> float:
    """The value in a phase; at its last step exactly the last one, whatever was rounded on the way."""
    steps = end - begin + 1
    return curve.at(steps - 1 if step >= end else step - begin, steps)


@frozen
class _Combined:
    proportions: Sequence[float]
    curves: Sequence[Curve]
    # The share of the steps at which each phase is over.
    _shares: tuple[float, ...] = field(init=False, repr=False, eq=False)

    @_shares.default
    def _summed(self) -> tuple[float, ...]:
        return (*tuple(accumulate(self.proportions))[:-1], 1.0)

    def at(self, step: float, steps: float) -> float:
        """The value of the curve whose phase it is."""
        return in_phases(step, [share * steps - 1 for share in self._shares], self.curves)


def combine(proportions: Sequence[float], curves: Sequence[Curve]) -> Curve:
    """One curve after the other, each for its proportion of the steps.

    A phase ends at `(sum of the proportions so far) * steps - 1`, and the next begins there, between two steps if need
    be: as in torch's `OneCycleLR` with its two phases.  A phase that is over before the first step is passed over.
    What is combined may be combined again.

    Raises:
        ArgumentRefused: a proportion that is no number above 0, a sum that is not 1 (but for a millionth), another
            number of curves, or what is no curve.

    Example:
        >>> from engine.schedules.curves import Cosine, Linear
        >>> curve = combine([0.4, 0.6], [Linear(0.0, 1.0), Cosine(1.0, 0.0)])
        >>> [round(curve.at(step, 10), 3) for step in range(10)]
        [0.0, 0.333, 0.667, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067, 0.0]
    """
    for number in proportions:
        if not is_number(number) or number <= 0:
            raise _not_combined(f"the proportion {shown(number)}, {typed(number)}")
    if not isclose(fsum(proportions), 1, rel_tol=0, abs_tol=TOLERANCE):
        raise _not_combined(f"proportions whose sum is {fsum(proportions):g}")
    if len(curves) != len(proportions):
        raise _not_combined(f"{len(proportions)} proportions and {len(curves)} curves")
    for curve in curves:
        check_curve("combine", curve)
    return _Combined(tuple(proportions), tuple(curves))


def _not_combined(what: str) -> ArgumentRefused:
    return ArgumentRefused(
        f"combine was given {what}",
        allowed="numbers above 0 whose sum is 1, and as many curves",
        instead="write combine([0.1, 0.9], [Linear(0.01, 0.1), Cosine(0.1, 0)])",
    )


@frozen
class _LedIn:
    count: int
    first: Curve
    then: Curve

    def at(self, step: float, steps: float) -> float:
        """The value of the one whose turn it is."""
        if step < self.count:
            return self.first.at(step, self.count + 1)
        return self.then.at(step - self.count, steps - self.count)


def lead_in(count: int, first: Curve, then: Curve) -> Curve:
    """A curve for a number of steps, whatever there are in all, and then another one for those that are left.

    At step *count* the first would be at its end, and the other is at its start: a warm-up of so many steps.  Where
    there are not as many steps, the first is cut short.

    Raises:
        ArgumentRefused: *count* is no whole number above 0, or what is no curve.

    Example:
        >>> from engine.schedules.curves import Cosine, Linear
        >>> curve = lead_in(2, Linear(0.0, 1.0), Cosine(1.0, 0.0))
        >>> [round(curve.at(step, 7), 4) for step in range(7)]
        [0.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 0.0]
    """
    check_count("count", count, least=1)
    check_curve("lead_in", first)
    check_curve("lead_in", then)
    return _LedIn(count, first, then)


@frozen
class _Repeated:
    curve: Curve
    cycles: int
    grow: float
    # At how many lengths of the first cycle each one begins, and the last one ends.
    _begins: tuple[float, ...] = field(init=False, repr=False, eq=False)

    @_begins.default
    def _summed(self) -> tuple[float, ...]:
        return tuple(accumulate((self.grow**cycle for cycle in range(self.cycles)), initial=0))

    def at(self, step: float, steps: float) -> float:
        """The value in the cycle that is open."""
        begins, whole = self._begins, self._begins[-1]
        cycle = min(bisect_right(begins, step * whole / steps), self.cycles) - 1
        begin, end = (steps * part / whole for part in begins[cycle : cycle + 2])
        return self.curve.at(step - begin, end - begin + 1)


def repeat(curve: Curve, cycles: int, *, grow: float = 1) -> Curve:
    """A curve again and again, for warm restarts: each cycle is *grow* times as long as the one before.

    A cycle would be at its end where the next one is at its start, so it stops one step short of it, the last cycle
    too: as in torch's `CosineAnnealingWarmRestarts`, which it equals where the lengths of all cycles are whole numbers.

    Raises:
        ArgumentRefused: *cycles* is no whole number above 0, *grow* no number above 0, or what is no curve.

    Example:
        >>> from engine.schedules.curves import Cosine, Linear
        >>> curve = repeat(Linear(1.0, 0.0), 2, grow=2)
        >>> [curve.at(step, 6) for step in range(6)]
        [1.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    check_curve("repeat", curve)
    check_count("cycles", cycles, least=1)
    if not is_number(grow) or grow <= 0:
        raise ArgumentRefused(
            f"repeat was given grow {shown(grow)}, {typed(grow)}",
            allowed="a number above 0",
            instead="say 2 for cycles of which each is twice as long as the one before; leave it out for 1",
        )
    return _Repeated(curve, cycles, grow)
