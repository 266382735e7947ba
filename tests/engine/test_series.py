"""Are losses, their moving average and hyperparameters right at each point, in bounded memory?  Against plain lists."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.measuring.room import Room
from engine.recording.hyperparameters import Hyperparameters
from engine.recording.series import Series
from engine.several import Optimizers
from engine.testing.pairs.values import Value, leaves


losses = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf]), max_size=80)
# What a hyperparameter is before each loss: it is often what it was.
rates = st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=80, max_size=80)


def kept(state: dict[str, Any]) -> dict[str, Value]:
    """All of a state, to be compared."""
    return dict(leaves("state", state, full=True))


def taken(values: list[float], lrs: list[float], most: int, beta: float = 0.5, cuts: int = 1) -> Series:
    """A series that took the values in as many pieces; batches are numbered 0, 2, 4, ..."""
    series = Series(most, beta)
    size = max(1, len(values) // cuts)
    for at in range(0, len(values), size):
        piece = range(at, min(at + size, len(values)))
        came = [one for n in piece for one in (("lr", lrs[n]), 2 * n)]
        series.take(came, iter(values[at : at + size]))
    return series


def averages(values: list[float], beta: float) -> list[float]:
    """Each from its definition, with numpy: no recursion."""
    found = []
    for n in range(1, len(values) + 1):
        finite = np.array([value for value in values[:n] if math.isfinite(value)])
        weights = (1 - beta) * beta ** np.arange(len(finite))[::-1]
        found.append(float(finite @ weights / (1 - beta ** len(finite))) if len(finite) else math.nan)
    return found


@given(losses, rates, st.integers(2, 30), st.sampled_from([0.0, 0.5, 0.98]), st.integers(1, 9))
def test_each_point_is_exact_and_the_points_are_few_and_even(
    values: list[float], lrs: list[float], most: int, beta: float, cuts: int
) -> None:
    series = taken(values, lrs, most, beta, cuts)
    step = series.step
    assert len(series.losses) <= most
    assert step == 1 or len(series.losses) > most // 2
    assert series.batches == [2 * n for n in range(0, len(values), step)]
    np.testing.assert_equal(series.losses, values[::step])
    np.testing.assert_allclose(series.smoothed, averages(values, beta)[::step], rtol=1e-9, atol=1e-9)
    if values:
        assert series.values("lr") == lrs[: len(values) : step]
        assert len(series.changes["lr"]) <= len(series.losses) + 1


@given(losses, rates, st.integers(2, 30), st.data())
def test_what_is_forgotten_is_as_if_it_had_never_been(
    values: list[float], lrs: list[float], most: int, data: st.DataObject
) -> None:
    begins = sorted(data.draw(st.lists(st.integers(0, len(values)), min_size=1, max_size=5)))
    series, at = Series(most, 0.5), 0
    for epoch, begin in enumerate([*begins, len(values)]):
        series.take([one for n in range(at, begin) for one in (("lr", lrs[n]), n)], iter(values[at:begin]))
        at = begin
        series.begin(epoch)
    epoch = data.draw(st.integers(0, len(begins)))
    cut = [*begins, len(values)][epoch]
    series = Series.of(series.state_dict(), most, 0.5)
    series.forget(epoch)
    assert (series.count, series.end) == (cut, cut)
    assert [begin.epoch for begin in series.begins] == list(range(epoch))
    np.testing.assert_equal(series.losses, values[: cut : series.step])

    series.take([one for n in range(cut, len(values)) for one in (("lr", lrs[n]), n)], iter(values[cut:]))
    np.testing.assert_equal(series.losses, values[:: series.step])
    np.testing.assert_allclose(series.smoothed, averages(values, 0.5)[:: series.step], rtol=1e-9, atol=1e-9)
    if values:
        assert series.values("lr") == lrs[: len(values) : series.step]


@given(losses, rates, st.integers(2, 30), st.integers(2, 30))
def test_a_state_is_a_copy_that_torch_loads_and_that_fits_into_fewer_points(
    values: list[float], lrs: list[float], most: int, fewer: int
) -> None:
    series = taken(values, lrs, most)
    series.begin(3)
    state = series.state_dict()
    again = Series.of(state, most, 0.5)
    assert kept(again.state_dict()) == kept(state)
    series.take([("lr", 7.0), 1000], iter([7.0]))
    assert kept(again.state_dict()) == kept(state)
    again.take([("lr", 7.0), 1000], iter([7.0]))
    assert kept(again.state_dict()) == kept(series.state_dict())
    short = Series.of(state, min(fewer, most), 0.5)
    assert len(short.losses) <= min(fewer, most)
    np.testing.assert_equal(short.losses, values[:: short.step])


def test_a_hyperparameter_that_came_late_is_nan_before() -> None:
    series = Series(10, 0.5)
    series.take([0, 1, ("lr", None), 2], iter([1.0, 2.0, 0.5, 3.0]))
    np.testing.assert_equal(series.values("lr"), [math.nan, math.nan, 0.5])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_a_room_gives_back_what_was_put_bit_for_bit_whatever_is_written_afterwards(dtype: torch.dtype) -> None:
    room = Room(50)
    values = [
        torch.tensor([[number]], dtype=dtype) / 3 if dtype.is_floating_point else torch.tensor(number)
        for number in range(50)
    ]
    wanted = [float(value) for value in values]
    for value in values:
        assert room.put(value)
        value.zero_()
    assert not room.put(values[0])
    assert not room.put(torch.ones(2))
    assert room.take().tolist() == wanted
    assert room.put(values[3])
    assert room.take().tolist() == [0.0]


@pytest.mark.parametrize("value", [None, 0.5, torch.ones(2), torch.ones(0), torch.tensor(1j), {"loss": torch.ones(())}])
def test_a_room_takes_no_other_things(value: Any) -> None:
    room = Room(3)
    assert not room.put(value)
    assert room.put(torch.tensor(1.0))
    assert not room.put(value)
    assert room.take().tolist() == [1.0]


# --- Hyperparameters --------------------------------------------------------------------------------------------------


def weight() -> torch.Tensor:
    return torch.ones(1, requires_grad=True)


def test_numbers_of_all_groups_are_named_and_told_once() -> None:
    adam = torch.optim.Adam([{"params": [weight()], "lr": 0.1}, {"params": [weight()], "lr": 0.2}])
    hypers = Hyperparameters()
    one = {"0.betas.0": 0.9, "0.betas.1": 0.999, "0.eps": 1e-8, "0.weight_decay": 0.0}
    other = {name.replace("0.", "1.", 1): value for name, value in one.items()}
    assert dict(hypers.changed(adam)) == {"0.lr": 0.1, **one, "1.lr": 0.2, **other}
    assert hypers.changed(adam) == ()
    adam.param_groups[1]["betas"] = (0.8, 0.999)
    assert dict(hypers.changed(adam)) == {"1.betas.0": 0.8, "1.betas.1": 0.999}


@pytest.mark.parametrize("rate", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_numbers_of_other_libraries_are_numbers_too_and_a_bool_is_none(rate: Any) -> None:
    sgd = torch.optim.SGD([weight()], lr=rate, nesterov=False)
    sgd.param_groups[0]["own"] = True
    changed = dict(Hyperparameters().changed(sgd))
    assert changed["0.lr"] == 0.5
    assert type(changed["0.lr"]) is float
    assert not {"0.own", "0.nesterov"} & changed.keys()


def test_a_key_and_a_group_that_come_later_are_noticed_and_so_are_groups_that_were_loaded() -> None:
    sgd, hypers = torch.optim.SGD([weight()], lr=0.1), Hyperparameters()
    hypers.changed(sgd)
    sgd.param_groups[0]["initial_lr"] = 0.3
    assert ("0.initial_lr", 0.3) in hypers.changed(sgd)
    sgd.add_param_group({"params": [weight()], "lr": 0.5})
    assert ("1.lr", 0.5) in hypers.changed(sgd)
    state = sgd.state_dict()
    state["param_groups"][1]["lr"] = 0.7
    sgd.load_state_dict(state)
    assert ("1.lr", 0.7) in hypers.changed(sgd)
    assert hypers.changed(sgd) == ()


def test_several_optimizers_are_told_apart_by_name() -> None:
    both = Optimizers({"one": torch.optim.SGD([weight()], lr=0.1), "other": torch.optim.SGD([weight()], lr=0.2)})
    told = dict(Hyperparameters().changed(both))
    assert (told["one.0.lr"], told["other.0.lr"]) == (0.1, 0.2)


def test_tensors_are_listed_and_never_looked_into() -> None:
    class Untouched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            assert func.__name__ in ("numel", "is_complex", "__get__", "__repr__"), func
            return super().__torch_function__(func, types, args, kwargs or {})

    sgd, hypers = torch.optim.SGD([weight()], lr=0.1), Hyperparameters()
    sgd.param_groups[0]["lr"] = rate = torch.tensor(0.1).as_subclass(Untouched)
    assert "0.lr" not in dict(hypers.changed(sgd))
    assert [(name, tensor is rate) for name, tensor in hypers.tensors] == [("0.lr", True)]
    sgd.param_groups[0]["lr"] = torch.tensor(0.2).as_subclass(Untouched)
    sgd.param_groups[0]["params"] = [weight()]
    assert hypers.changed(sgd) == []
    assert [tensor is rate for _, tensor in hypers.tensors] == [False]


def test_other_parameters_of_several_numbers_are_no_error_and_what_came_with_them_is_noticed() -> None:
    """Lists of tensors are compared entry by entry, and torch refuses to."""
    sgd, hypers = torch.optim.SGD([torch.ones(3, requires_grad=True)], lr=0.1), Hyperparameters()
    hypers.changed(sgd)
    sgd.param_groups[0].update(params=[torch.ones(3, requires_grad=True)], lr=0.2)
    assert hypers.changed(sgd) == [("0.lr", 0.2)]
    assert hypers.changed(sgd) == ()
