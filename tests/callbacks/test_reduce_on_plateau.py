"""Are the learning rates, and the weights, those of torch's own schedule in a plain loop?"""

from math import inf, nan
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim
from torch.optim import lr_scheduler

from engine import Callback, Run, State, loss_from, output_from
from engine.callbacks.reduce_on_plateau import ReduceLROnPlateau
from engine.errors import ArgumentRefused, CallbackRefused, OptimizerRefused
from engine.testing import check_order
from tests.engine.tools import answers, batches, hears, same, small_engine, small_model, weights_of
from tests.testing.subjects import subject


class Feeds(Callback):
    """Puts a metric there, from a list, and writes the learning rates down."""

    def __init__(self, values: list[float]) -> None:
        self.values, self.rates = values, []

    def on_epoch_begin(self, run: Run) -> None:
        self.rates.append([float(group["lr"]) for group in run.optimizer.param_groups])

    def on_epoch_end(self, run: Run) -> None:
        run.metrics["score"] = self.values[run.epoch]


def two_groups(model: nn.Linear, lr: Any = 0.1) -> optim.SGD:
    return optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.02}], lr=lr, momentum=0.5)


def plain(values: list[float], data: list[Any], lr: Any = 0.1, **arguments: Any) -> tuple[list[Any], list[list[float]]]:
    """Weights and learning rates of a plain loop with torch's schedule."""
    model = small_model()
    sgd = two_groups(model, lr)
    schedule = lr_scheduler.ReduceLROnPlateau(sgd, threshold_mode="abs", **arguments)
    rates = []
    for value in values:
        rates.append([float(group["lr"]) for group in sgd.param_groups])
        for inputs, targets in data:
            nn.functional.mse_loss(model(inputs), targets).backward()
            sgd.step()
            sgd.zero_grad()
        schedule.step(value)
    return weights_of(model), rates


def fitted(values: list[float], reduce: ReduceLROnPlateau, data: list[Any], lr: Any = 0.1) -> Any:
    model, feeds = small_model(), Feeds(values)
    small_engine(feeds, reduce, model=model, optimizer=two_groups(model, lr)).fit(data, epochs=len(values))
    return weights_of(model), feeds.rates


values_of = st.lists(st.integers(-4, 4).map(lambda n: n / 4) | st.sampled_from([nan, inf]), min_size=1, max_size=9)


@given(
    values_of,
    st.sampled_from(["min", "max"]),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.25]),
    st.integers(0, 2),
    st.sampled_from([0.0, 0.015]),
)
def test_it_is_bit_for_bit_torchs_schedule(  # noqa: PLR0917  # Hypothesis gives them
    values: list[float], mode: str, patience: int, min_delta: float, cooldown: int, min_lr: float
) -> None:
    data = batches(2)
    common = {"mode": mode, "factor": 0.3, "cooldown": cooldown, "min_lr": min_lr}
    reduce = ReduceLROnPlateau(monitor="score", patience=patience, min_delta=min_delta, **common)
    weights, rates = fitted(values, reduce, data)
    reference, expected = plain(values, data, patience=patience - 1, threshold=min_delta, **common)
    assert rates == expected
    assert same(weights, reference)


def test_learning_rates_that_are_tensors_are_filled() -> None:
    values, data = [1.0, 2.0, 3.0, 4.0], batches(2)
    reduce = ReduceLROnPlateau(monitor="score", mode="min", patience=1)
    weights, rates = fitted(values, reduce, data, torch.tensor(0.1))
    reference, expected = plain(values, data, torch.tensor(0.1), patience=0, threshold=0.0)
    assert rates == expected
    assert rates[-1][0] < 0.01
    assert same(weights, reference)


@pytest.mark.parametrize(("patience", "reduced"), [(1, 2), (2, 3), (3, 4)])
def test_patience_is_the_number_of_epochs_in_a_row_without_improvement(patience: int, reduced: int) -> None:
    reduce = ReduceLROnPlateau(monitor="score", mode="min", patience=patience)
    _, rates = fitted([1.0] * 6, reduce, batches(1))
    assert [rate for rate, _ in rates].index(rates[0][0] * 0.1) == reduced


def test_each_of_several_optimizers_is_reduced() -> None:
    one, other = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizers = {"one": optim.SGD(one.parameters(), lr=0.5), "other": optim.Adam(other.parameters(), lr=0.25)}
    actions = {
        State.FORWARD: output_from(lambda run: run.model["one"](run.inputs) + run.model["other"](run.inputs)),
        State.LOSS: loss_from(lambda run: run.output.square().mean()),
    }
    engine = small_engine(
        Feeds([1.0, 1.0]),
        ReduceLROnPlateau(monitor="score", mode="min", patience=1, factor=0.5),
        model=nn.ModuleDict({"one": one, "other": other}),
        optimizer=optimizers,
        actions=actions,
    )
    engine.fit(batches(1), epochs=2)
    assert [group["lr"] for group in engine.optimizer.param_groups] == [0.25, 0.125]


@given(values_of, st.integers(1, 3), st.integers(0, 2), st.data())
def test_a_run_in_two_parts_is_like_one(values: list[float], patience: int, cooldown: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    arguments = {"monitor": "score", "mode": "min", "patience": patience, "factor": 0.5, "cooldown": cooldown}
    whole = fitted(values, ReduceLROnPlateau(**arguments), batches(1))

    model, first, second = small_model(), ReduceLROnPlateau(**arguments), ReduceLROnPlateau(**arguments)
    sgd, before, after = two_groups(model), Feeds(values), Feeds(values)
    small_engine(before, first, model=model, optimizer=sgd).fit(batches(1), epochs=cut)
    second.load_state_dict(first.state_dict())
    small_engine(after, second, model=model, optimizer=sgd).fit(batches(1), epochs=len(values), start_epoch=cut)
    assert before.rates + after.rates == whole[1]
    assert same(weights_of(model), whole[0])


def test_a_second_fit_begins_anew_and_nothing_of_the_optimizer_is_held() -> None:
    reduce = ReduceLROnPlateau(monitor="score", mode="min", patience=2, factor=0.5)
    fitted([0.0, 1.0], reduce, batches(1))
    assert reduce._schedules == []
    _, rates = fitted([5.0, 5.0, 5.0], reduce, batches(1))
    assert [rate for rate, _ in rates] == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("fault", [ValueError("x"), KeyboardInterrupt()])
def test_nothing_of_the_optimizer_is_held_after_a_death(fault: BaseException) -> None:
    def fails(run: Run) -> None:
        raise fault

    reduce = ReduceLROnPlateau(monitor="train_loss", mode="min", patience=2)
    with pytest.raises(type(fault)):
        small_engine(reduce, hears("batch_end", fails)).fit(batches(1))
    assert reduce._schedules == []


def test_epochs_that_were_stopped_or_not_validated_are_not_counted() -> None:
    reduce = ReduceLROnPlateau(monitor="valid_loss", mode="max", patience=2)
    skips = answers("skip_validate", lambda run: run.epoch % 2 == 1)
    stops = hears("batch_end", lambda run: run.stop("enough") if run.epoch == 4 else None)
    engine = small_engine(reduce, skips, stops)
    engine.fit(batches(1), batches(1), epochs=9)  # 0 is the best, 2 is not better, 4 is stopped
    assert reduce.state_dict()["schedule"]["num_bad_epochs"] == 1
    assert engine.optimizer.param_groups[0]["lr"] == 0.1


def test_two_that_write_the_learning_rate_are_refused() -> None:
    both = [ReduceLROnPlateau(monitor="train_loss", mode="min", patience=1) for _ in range(2)]
    with pytest.raises(CallbackRefused, match="ReduceLROnPlateau and ReduceLROnPlateau#2 both write lr of group 0"):
        small_engine(*both).fit(batches(1))


def test_an_engine_without_an_optimizer_is_refused() -> None:
    reduce = ReduceLROnPlateau(monitor="train_loss", mode="min", patience=1)
    nothing = hears("train_begin", lambda run: setattr(run, "optimizer", None), order=-1)
    with pytest.raises(OptimizerRefused, match="without an optimizer"):
        small_engine(nothing, reduce).fit(batches(1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("patience", 0),
        ("cooldown", -1),
        ("factor", 1.0),
        ("factor", 0.0),
        ("factor", nan),
        ("factor", "0.1"),
        ("min_lr", -0.1),
        ("min_lr", inf),
        ("min_lr", [0.1]),
    ],
)
def test_what_has_no_meaning_is_refused(name: str, value: object) -> None:
    with pytest.raises(ArgumentRefused, match=f"^{name} is "):
        ReduceLROnPlateau(**{"monitor": "loss", "mode": "min", "patience": 1, name: value})


@pytest.mark.slow
def test_it_gets_along_with_whatever_a_run_may_do() -> None:
    check_order(subject(lambda: ReduceLROnPlateau(monitor="train_loss", mode="max", patience=1)), runs=20, seed=0)
