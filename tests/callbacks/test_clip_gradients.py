"""Are gradients clipped as torch clips them, once for each step, and is their norm told?"""

from contextlib import nullcontext
from math import inf, isnan, nan
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from engine import Engine
from engine.callbacks.clip_gradients import ClipGradients
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.callbacks.test_progress import HostReads
from tests.testing.subjects import subject


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)


def batches(number: int = 5) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 3, generator=chance), 3 * torch.randn(4, 1, generator=chance)) for _ in range(number)]


def by_hand(
    window: int, *, norm: float | None, value: float | None, norm_type: float
) -> tuple[list[Tensor], list[float]]:
    """Weights and norms of a loop that clips after the mean over its window is taken."""
    model, optimizer = made()
    norms, waiting = [], 0
    for number, (inputs, targets) in enumerate(batches(), 1):
        nn.functional.mse_loss(model(inputs), targets).backward()
        waiting += 1
        if waiting == window or number == len(batches()):
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad /= waiting
            if norm is not None:
                norms.append(clip_grad_norm_(model.parameters(), norm, norm_type).item())
            if value is not None:
                clip_grad_value_(model.parameters(), value)
            optimizer.step()
            optimizer.zero_grad()
            waiting = 0
    return [parameter.detach() for parameter in model.parameters()], norms


numbers = st.one_of(st.floats(0.01, 10), st.just(inf))


@settings(max_examples=25)
@given(window=st.integers(1, 3), norm=numbers, norm_type=st.sampled_from([1, 2.0, 3.0, inf]))
def test_a_norm_is_clipped_and_measured_as_in_the_loop_by_hand(window: int, norm: float, norm_type: float) -> None:
    model, optimizer = made()
    engine = Engine(model, nn.MSELoss(), optimizer, [ClipGradients(norm=norm, norm_type=norm_type)])
    engine.guard("accumulate")(lambda run: run.window < window)
    run = engine.fit(batches())
    weights, norms = by_hand(window, norm=norm, value=None, norm_type=norm_type)

    assert all(torch.equal(mine, wanted) for mine, wanted in zip(model.parameters(), weights, strict=True))
    assert run.history[0]["grad_norm"] == run.metrics["grad_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-12)


@settings(max_examples=25)
@given(window=st.integers(1, 3), value=numbers)
def test_values_are_clipped_as_in_the_loop_by_hand(window: int, value: float) -> None:
    model, optimizer = made()
    engine = Engine(model, nn.MSELoss(), optimizer, [ClipGradients(value=value)])
    engine.guard("accumulate")(lambda run: run.window < window)
    run = engine.fit(batches())
    weights, _ = by_hand(window, norm=None, value=value, norm_type=2.0)

    assert all(torch.equal(mine, wanted) for mine, wanted in zip(model.parameters(), weights, strict=True))
    assert "grad_norm" not in run.history[0]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_it_holds_nothing_on_the_device_when_a_run_has_ended(error: type[BaseException] | None) -> None:
    model, optimizer = made()
    clips = ClipGradients(norm=1.0)
    engine = Engine(model, nn.MSELoss(), optimizer, callbacks=[clips])

    @engine.on("batch_end", once=3)
    def dies(run: Any) -> None:
        assert clips._mean._room.taken == 3
        if error is not None:
            raise error

    with nullcontext() if error is None else pytest.raises(error):
        engine.fit(batches())
    assert clips._mean._room._room is None


def test_each_epoch_has_a_mean_of_its_own() -> None:
    model, optimizer = made()
    norms: list[float] = []
    engine = Engine(model, nn.MSELoss(), optimizer, [ClipGradients(norm=1.0)])

    @engine.on("step_begin")
    def measure(run: Any) -> None:
        norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item())

    history = engine.fit(batches(), epochs=2).history

    assert [record["grad_norm"] for record in history] == pytest.approx([sum(norms[:5]) / 5, sum(norms[5:]) / 5])


def test_of_an_epoch_without_a_step_the_norm_is_nan() -> None:
    model, optimizer = made()
    engine = Engine(model, nn.MSELoss(), optimizer, [ClipGradients(norm=1.0)])
    engine.guard("skip_step")(lambda run: run.epoch == 1)
    history = engine.fit(batches(), epochs=3).history

    assert [isnan(record["grad_norm"]) for record in history] == [False, True, False]


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_that_is_stopped_changes_no_record(epoch: int) -> None:
    model, optimizer = made()
    engine = Engine(model, nn.MSELoss(), optimizer, [ClipGradients(norm=1.0)])
    engine.on("batch_end", once=5 * epoch + 2)(lambda run: run.stop("enough"))
    run = engine.fit(batches(), epochs=3)

    assert len(run.history) == epoch
    assert run.metrics["grad_norm"] not in [record["grad_norm"] for record in run.history]


def test_of_two_that_clip_norms_the_first_is_told_which_is_that_before_all_clipping() -> None:
    norms = []
    for callbacks in ([ClipGradients(norm=1.0)], [ClipGradients(norm=1.0), ClipGradients(norm=1e-3)]):
        model, optimizer = made()
        run = Engine(model, nn.MSELoss(), optimizer, callbacks).fit(batches(1))
        norms += [run.history[0]["grad_norm"], run.metrics["grad_norm"]]

    assert norms[0] > 1
    assert norms == norms[:1] * 4


def test_a_parameter_that_two_optimizers_hold_is_clipped_once() -> None:
    ends = []
    for held in (1, 2):
        model, _ = made()
        optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.5 / held) for name in "ab"[:held]}
        engine = Engine(model, nn.MSELoss(), optimizers, [ClipGradients(norm=0.5)])
        history = engine.fit(batches(1)).history
        ends.append((history[0]["grad_norm"], [parameter.detach() for parameter in model.parameters()]))

    assert ends[0][0] == ends[1][0]
    torch.testing.assert_close(ends[0][1], ends[1][1])


def test_two_trainings_in_a_row_are_two_trainings() -> None:
    model, optimizer = made()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    engine = Engine(model, nn.MSELoss(), optimizer, [ClipGradients(norm=1.0)])
    first = engine.fit(batches()).history
    model.load_state_dict(start)
    optimizer.state.clear()

    assert engine.fit(batches()).history == first


def test_the_norm_is_read_once_for_each_epoch() -> None:
    counts = []
    for callbacks in ([], [ClipGradients(norm=1.0)], [ClipGradients(value=0.5)]):
        model, optimizer = made()
        with HostReads() as reads:
            Engine(model, nn.MSELoss(), optimizer, callbacks).fit(batches(30), epochs=2)
        counts.append(reads.count)

    assert counts == [counts[0], counts[0] + 2, counts[0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "norm is None and value is None\n  allowed:  one of them"),
        ({"norm": 1.0, "value": 0.5}, "norm is 1.0 and value is 0.5\n  allowed:  one of them"),
        ({"norm": 0}, "norm is 0, an int\n  allowed:  a number above 0; inf too"),
        ({"norm": nan}, "norm is nan, a float"),
        ({"value": -1.0}, "value is -1.0, a float"),
        ({"norm": True}, "norm is True, a bool"),
        ({"norm": 1.0, "norm_type": "inf"}, "norm_type is 'inf', a str"),
    ],
)
def test_what_is_no_number_above_zero_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        ClipGradients(**given)

    assert str(caught.value).startswith(message)


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(subject(lambda: ClipGradients(norm=0.1)), runs=20, seed=0)
