"""Are the suggestions those of the published descriptions, and is there none where there is nothing to suggest?"""

from collections.abc import Callable
from itertools import pairwise
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.searching.suggested import minimum, slide, steep, trimmed, valley


Suggest = Callable[[Any, Any], float | None]


def rates_for(number: int) -> list[float]:
    return [float(rate) for rate in np.geomspace(1e-7, 10, number)]


# The published descriptions once more, with numpy and all pairs.


def numpys_valley(rates: list[float], losses: list[float]) -> float:
    lengths = np.ones(len(losses), dtype=int)
    for i in range(len(losses)):
        longer = [lengths[j] + 1 for j in range(i) if losses[i] < losses[j]]
        lengths[i] = max(longer, default=1)
    end = int(np.argmax(lengths))
    start = end - int(lengths[end])
    section = (end - start) / 3
    return rates[start + int(section) + int(section / 2)]


def numpys_slide(rates: list[float], losses: list[float]) -> float:
    gradient, right, left = np.gradient(losses), -1, -16
    rate = rates[left]
    while left >= -len(losses) and abs(gradient[right] - gradient[left]) > 0.005:
        rate = rates[left]
        right, left = right - 1, left - 1
    return rate


def numpys_minimum(rates: list[float], losses: list[float]) -> float:
    return rates[int(np.argmin(losses))] / 10


def numpys_steep(rates: list[float], losses: list[float]) -> float:
    return rates[int(np.argmin(np.diff(losses) / np.diff(np.log(rates))))]


PAIRS = [(valley, numpys_valley), (slide, numpys_slide), (minimum, numpys_minimum), (steep, numpys_steep)]


@st.composite
def curves(draw: st.DrawFn) -> list[float]:
    """Losses of a search as they look: level, a fall, a rise, and noise; or any numbers, with many equal ones."""
    number = draw(st.integers(20, 100))
    if draw(st.booleans()):
        return draw(st.lists(st.integers(-3, 3).map(float), min_size=number, max_size=number))
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    way = np.linspace(0, 1, number)
    begins, turns = sorted(draw(st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9))))
    fall = np.clip((way - begins) / max(turns - begins, 0.05), 0, 1)
    rise = np.exp(np.clip(way - turns, 0, 1) * 20) - 1
    noise = chance.normal(0, draw(st.sampled_from([0.0, 0.01, 0.2])), number)
    return [float(loss) for loss in 3 - 2 * fall + rise + noise]


@given(curves())
def test_each_suggestion_is_that_of_its_published_description(losses: list[float]) -> None:
    rates = rates_for(len(losses))
    falls = any(after < before for before, after in pairwise(losses))
    for ours, numpys in PAIRS:
        suggested = ours(rates, losses)
        if suggested is None:
            assert ours in (valley, steep)
            assert ours is valley or not falls
            assert ours is steep or max_fall(losses) < 3
        else:
            assert suggested == numpys(rates, losses), ours.__name__


def max_fall(losses: list[float]) -> int:
    """The length of the longest falling subsequence, by all pairs."""
    lengths: list[int] = []
    for i, loss in enumerate(losses):
        lengths.append(1 + max((lengths[j] for j in range(i) if loss < losses[j]), default=0))
    return max(lengths)


def hand_made(kind: str) -> list[float]:
    return {
        "a valley": [2.0 - min(max(i - 40, 0), 40) / 40 + max(i - 80, 0) for i in range(100)],
        "a late rise": [-0.02 * min(i, 90) + max(i - 90, 0) for i in range(100)],
        "one step": [2.0] * 31 + [1.0] * 69,
        "falling": [-0.5 * i for i in range(100)],
        "flat": [1.0] * 100,
        "rising": [0.5 * i for i in range(100)],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "suggest", "index"),
    [
        ("a valley", valley, 80 - 41 + 13 + 6),  # the fall has 41 points and ends at 80
        ("falling", valley, 99 - 100 + 33 + 16),
        ("one step", valley, None),
        ("flat", valley, None),
        ("rising", valley, None),
        ("a late rise", slide, 90 - 15),  # at 90 the right place is half on the rise, at 89 it falls as the left one
        ("falling", slide, 84),
        ("flat", slide, 84),
        ("rising", slide, 84),
        ("one step", steep, 30),
        ("flat", steep, None),
        ("rising", steep, None),
    ],
)
def test_hand_made_curves_have_known_suggestions(kind: str, suggest: Suggest, index: int | None) -> None:
    rates = rates_for(100)

    assert suggest(rates, hand_made(kind)) == (None if index is None else rates[index])


@pytest.mark.parametrize(("kind", "index"), [("a valley", 80), ("falling", 99), ("flat", 0), ("rising", 0)])
def test_the_minimum_is_a_tenth_of_the_first_lowest(kind: str, index: int) -> None:
    assert minimum(rates_for(100), hand_made(kind)) == rates_for(100)[index] / 10


def test_steep_is_where_the_loss_falls_most_over_a_factor_of_the_rate() -> None:
    assert steep([1.0, 2.0, 4.0, 400.0, 500.0], [9.0, 8.0, 5.0, 1.0, 0.9]) == 2.0  # not 4.0, whose step is a long one


@pytest.mark.parametrize(("suggest", "least"), [(valley, 3), (slide, 16), (minimum, 1), (steep, 2)])
def test_a_curve_that_is_too_short_suggests_nothing(suggest: Suggest, least: int) -> None:
    for number in range(least + 3):
        suggested = suggest(rates_for(99)[:number], [float(-i) for i in range(number)])
        assert (suggested is None) == (number < least)


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("at", [0, 9, 10, 11, 50, 94, 95, 99])
def test_what_is_looked_at_ends_before_the_first_loss_that_is_not_finite(bad: float, at: int) -> None:
    losses = [float(i) for i in range(100)]
    losses[at] = bad

    rates, left = trimmed(range(100), losses, planned=100)
    assert list(rates) == left == [float(i) for i in range(10, at if 10 <= at < 95 else 95)]


@pytest.mark.parametrize("number", [0, 3, 5, 9, 15])
def test_a_search_that_was_soon_over_leaves_what_it_can(number: int) -> None:
    rates, left = trimmed(range(number), [1.0] * number, planned=100)

    assert len(rates) == len(left) == max(number - 15, 0)
