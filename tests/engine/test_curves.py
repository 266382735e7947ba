"""Have curves the values that torch's schedules have, and do they keep their promises at both ends?"""

import warnings
from collections.abc import Callable
from itertools import pairwise
from math import cos, pi
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from engine.errors import ArgumentRefused
from engine.schedules.curves import Constant, Cosine, Curve, Exponential, Linear, Polynomial
from engine.schedules.phases import combine, lead_in, repeat


numbers = st.floats(-10, 10, allow_subnormal=False)
positives = st.floats(1e-6, 10)
lengths = st.integers(2, 60)
annealers = st.one_of(
    st.builds(Linear, numbers, numbers),
    st.builds(Cosine, numbers, numbers),
    st.builds(Exponential, positives, positives),
    st.builds(Polynomial, numbers, numbers, st.floats(0.2, 4)),
)
curves = st.one_of(annealers, st.builds(Constant, numbers))


def along(curve: Curve, steps: int) -> list[float]:
    return [curve.at(step, steps) for step in range(steps)]


def torchs(make: Callable[[Any], lr_scheduler.LRScheduler], steps: int, lr: float = 0.5) -> list[float]:
    """The learning rates of torch's schedule, one for each step."""
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule, rates = make(sgd), []
    for _ in range(steps):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    return rates


@given(annealers, lengths)
def test_the_first_step_is_exactly_the_start_and_the_last_one_exactly_the_end(curve: Any, steps: int) -> None:
    assert curve.at(0, steps) == curve.start
    assert curve.at(steps - 1, steps) == curve.end


@given(annealers, st.floats(2, 60), st.floats(0, 100))
def test_outside_of_the_steps_the_nearest_end_stays(curve: Any, steps: float, beyond: float) -> None:
    assert curve.at(-beyond, steps) == curve.start
    assert curve.at(steps - 1 + beyond, steps) == curve.end
    assert curve.at(0, 1) == curve.start


@given(annealers, lengths)
def test_the_way_from_one_end_to_the_other_is_never_gone_backwards(curve: Any, steps: int) -> None:
    values = along(curve, steps)
    if curve.start > curve.end:
        values.reverse()

    assert all(later >= before - 1e-14 for before, later in pairwise(values))


@given(st.tuples(numbers, numbers), st.tuples(positives, positives), st.floats(0.2, 4), st.floats(0, 1))
def test_in_between_the_formulas_hold(ends: Any, positive_ends: Any, power: float, p: float) -> None:
    (start, end), (low, high) = ends, positive_ends

    def at(curve: Curve) -> float:
        return curve.at(p * 7, 8)

    assert at(Linear(start, end)) == pytest.approx(start + p * (end - start), abs=1e-12)
    assert at(Cosine(start, end)) == pytest.approx(end + (start - end) / 2 * (1 + cos(pi * p)), abs=1e-12)
    assert at(Exponential(low, high)) == pytest.approx(low ** (1 - p) * high**p, rel=1e-12)
    assert at(Polynomial(start, end, power)) == pytest.approx(end + (start - end) * (1 - p) ** power, abs=1e-12)
    assert at(Constant(start)) == start


@pytest.mark.parametrize(
    ("curve", "make"),
    [
        (Cosine(0.5, 0.02), lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, T_max=20, eta_min=0.02)),
        (Linear(0.05, 0.4), lambda sgd: lr_scheduler.LinearLR(sgd, 0.1, 0.8, total_iters=20)),
        (Polynomial(0.5, 0.0, 2.5), lambda sgd: lr_scheduler.PolynomialLR(sgd, total_iters=20, power=2.5)),
        (Exponential(0.5, 0.5 * 0.8**20), lambda sgd: lr_scheduler.ExponentialLR(sgd, gamma=0.8)),
        (Linear(0.5, 0.0), lambda sgd: lr_scheduler.LambdaLR(sgd, lambda step: 1 - step / 20)),
        (Constant(0.25), lambda sgd: lr_scheduler.ConstantLR(sgd, factor=0.5, total_iters=30)),
        (
            lead_in(5, Linear(0.05, 0.5), Cosine(0.5, 0.0)),
            lambda sgd: lr_scheduler.SequentialLR(
                sgd, [lr_scheduler.LinearLR(sgd, 0.1, 1, 5), lr_scheduler.CosineAnnealingLR(sgd, T_max=15)], [5]
            ),
        ),
    ],
)
def test_each_curve_is_a_schedule_of_torchs(curve: Curve, make: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The epoch parameter", UserWarning)  # torch's SequentialLR uses it itself
        assert along(curve, 21) == pytest.approx(torchs(make, 21), rel=0, abs=1e-12)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.floats(0.01, 0.5), st.floats(0, 0.01))
def test_warm_restarts_are_those_of_torch(first: int, cycles: int, grow: int, lr: float, end: float) -> None:
    steps = first * sum(grow**cycle for cycle in range(cycles))
    curve = repeat(Cosine(lr, end), cycles, grow=grow)

    wanted = torchs(lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, first, grow, end), steps, lr)
    assert along(curve, steps) == pytest.approx(wanted, rel=0, abs=1e-12)


@given(annealers, st.integers(2, 5), st.floats(0.5, 3), st.integers(2, 40), st.floats(1, 1.99))
def test_no_cycle_leaves_the_values_of_its_curve(curve: Any, cycles: int, grow: float, steps: int, more: float) -> None:
    low, high = sorted((curve.start, curve.end))

    for step in range(steps):
        assert low <= repeat(curve, cycles, grow=grow).at(step, steps * more) <= high


@given(st.lists(st.floats(0.05, 1), min_size=2, max_size=5), st.data())
def test_a_phase_ends_at_its_share_of_the_steps_less_one(weights: list[float], data: Any) -> None:
    shares = [weight / sum(weights) for weight in weights]
    parts = [data.draw(annealers) for _ in shares]
    steps, whole = data.draw(st.floats(1 / min(shares) + 1, 200)), 0.0
    curve = combine(shares, parts)

    for share, part in zip(shares, parts, strict=True):
        begin, end = max(whole * steps - 1, 0.0), (whole + share) * steps - 1
        for p in (0.1, 0.5, 0.9):
            assert curve.at(begin + p * (end - begin), steps) == pytest.approx(part.at(p * 9, 10), abs=1e-6)
        whole += share
    assert curve.at(0, steps) == parts[0].start
    assert curve.at(steps - 1, steps) == parts[-1].end


@pytest.mark.parametrize("shares", [(0.7, 0.2, 0.1), (1 / 3, 1 / 3, 1 / 3), (0.1,) * 10])
def test_shares_whose_sum_is_one_but_for_rounding_are_taken(shares: tuple[float, ...]) -> None:
    curve = combine(shares, [Linear(1, 0)] * len(shares))

    assert curve.at(29, 30) == 0


def test_the_last_value_of_a_combination_is_exactly_the_end_whatever_is_rounded() -> None:
    assert combine([0.2, 0.2, 0.6], [Constant(0), Constant(0), Linear(0, 1)]).at(5.5, 6.5) == 1


@given(curves, curves, curves, st.integers(8, 50))
def test_what_is_combined_is_combined_again(one: Curve, other: Curve, third: Curve, steps: int) -> None:
    inner = combine([0.5, 0.5], [one, other])
    nested, flat = combine([0.5, 0.5], [inner, third]), combine([0.25, 0.25, 0.5], [one, other, third])

    assert along(nested, steps) == pytest.approx(along(flat, steps), rel=0, abs=1e-9)


@given(annealers, annealers, st.integers(1, 20), st.integers(1, 60))
def test_a_lead_in_has_as_many_steps_as_it_says_and_the_rest_is_for_the_other(
    first: Any, then: Any, count: int, steps: int
) -> None:
    assume(steps > count)
    curve = lead_in(count, first, then)

    assert [curve.at(step, steps) for step in range(count)] == [first.at(step, count + 1) for step in range(count)]
    assert [curve.at(step, steps) for step in range(count, steps)] == along(then, steps - count)


def test_a_phase_without_a_step_is_passed_over() -> None:
    assert combine([0.1, 0.9], [Linear(7, 8), Linear(1, 0)]).at(4, 5) == 0
    assert combine([0.1, 0.9], [Linear(7, 8), Constant(1)]).at(0, 5) == 1
    assert combine([0.1, 0.9], [Linear(7, 8), Constant(1)]).at(0, 10) == 7  # its only step is its start


class Own:
    def at(self, step: float, steps: float) -> float:
        return step / steps


def test_a_curve_of_ones_own_goes_everywhere() -> None:
    assert combine([0.5, 0.5], [Own(), repeat(Own(), 2)]).at(0, 4) == 0


@pytest.mark.parametrize(
    ("make", "what", "instead"),
    [
        (lambda: Linear("0.1", 0), "Linear was given the start '0.1', a str", "say a number, such as 0.1"),
        (lambda: Cosine(0.1, float("nan")), "Cosine was given the end nan, a float", "say a number, such as 0.1"),
        (lambda: Constant(True), "Constant was given the value True, a bool", "say a number, such as 0.1"),
        (lambda: Exponential(0.1, 0), "Exponential was given the end 0", "say a number, such as 0.1"),
        (lambda: Polynomial(1, 0, -1), "Polynomial was given the power -1", "say a number, such as 0.1"),
        (lambda: combine([0.5, 0.6], [Own()] * 2), "combine was given proportions whose sum is 1.1", "write combine("),
        (lambda: combine([], []), "combine was given proportions whose sum is 0", "write combine("),
        (lambda: combine([1.5, -0.5], [Own()] * 2), "combine was given the proportion -0.5, a float", "write combine("),
        (lambda: combine([0.5, 0.5], [Own()]), "combine was given 2 proportions and 1 curves", "write combine("),
        (lambda: combine([1], [0.1]), "combine was given 0.1, a float", "write Constant(0.1)"),
        (lambda: combine([1], [Own]), "combine was given <class ", "write Cosine(0.1, 0), for example"),
        (lambda: lead_in(0, Own(), Own()), "count is 0, an int", "say count=1"),
        (lambda: lead_in(2, Own(), None), "lead_in was given None, a NoneType", "write Cosine(0.1, 0), for example"),
        (lambda: repeat(Own(), 1.5), "cycles is 1.5, a float", "say cycles=1"),
        (lambda: repeat(Own(), 2, grow=0), "repeat was given grow 0, an int", "say 2 for cycles of which each"),
        (lambda: repeat(3, 2), "repeat was given 3, an int", "write Constant(3)"),
    ],
)
def test_what_is_no_curve_is_refused(make: Any, what: str, instead: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        make()

    assert caught.value.what.startswith(what)
    assert caught.value.instead.startswith(instead)
