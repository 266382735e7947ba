"""Is nan found where it was, without a look at each batch, and does no run that had one look like a success?"""

import gc
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from math import inf, nan
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Outcome, Run
from engine.callbacks import ShortEpochs
from engine.callbacks.terminate_on_nan import TerminateOnNaN
from engine.errors import ArgumentRefused, LossRefused
from engine.testing import check_order
from tests.engine.tools import Batch, Recorder, answers, batches, hears, small_engine
from tests.testing.subjects import subject


class Stream:
    """A loader without a length."""

    def __init__(self, given: list[Batch]) -> None:
        self.given = given

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.given)


class HostReads(TorchDispatchMode):
    """Counts how often a tensor is read on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def spoilt(length: int, at: int, value: float) -> list[Batch]:
    """Batches of which one makes the loss nan or inf."""
    given = batches(length)
    if at < length:
        given[at] = (given[at][0], torch.full((3, 1), value))
    return given


def frozen_engine(*callbacks: object, **more: Any) -> Any:
    """An engine whose weights stay as they are: only the batch that is spoilt has a loss that is nan."""
    return small_engine(*callbacks, answers("skip_backward", lambda run: True), **more)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 5), st.sampled_from([nan, inf, -inf]))
def test_it_stops_at_the_next_look_and_names_the_batches(length: int, at: int, every: int, value: float) -> None:
    run = frozen_engine(TerminateOnNaN(every=every)).fit(spoilt(length, at, value), epochs=2)
    if at >= length:
        assert run.outcome is Outcome.COMPLETED
        return
    first = at - at % every
    last = min(first + every, length) - 1
    place = f"in batch {first}" if first == last else f"in one of the batches {first} to {last}"
    assert [stop.reason for stop in run.stops] == [f"TerminateOnNaN: the loss was nan or inf {place} of epoch 0"]
    assert (run.outcome, run.batches_done) == (Outcome.STOPPED, last + 1)


@given(st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=8), st.integers(1, 4))
def test_it_is_found_if_and_only_if_a_plain_loop_would_find_it(losses: list[float], every: int) -> None:
    def sets(run: Run) -> None:
        run.loss = run.loss.detach() * 0 + losses[run.batch_index]

    run = frozen_engine(TerminateOnNaN(every=every), hears("loss_end", sets)).fit(batches(len(losses)))
    finite = all(torch.tensor(loss).isfinite() for loss in losses)
    assert (run.outcome is Outcome.COMPLETED) == finite


def test_each_epoch_counts_its_own_batches() -> None:
    def sets(run: Run) -> None:
        if (run.epoch, run.batch_index) == (1, 4):
            run.loss = run.loss * nan

    run = frozen_engine(TerminateOnNaN(every=3), hears("loss_end", sets)).fit(batches(7), epochs=3)
    assert run.stops[0].reason.endswith("one of the batches 3 to 5 of epoch 1")


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_last_batch_of_an_epoch_stops_the_run_before_it_is_validated(epochs: int) -> None:
    heard = Recorder()
    run = small_engine(TerminateOnNaN(), heard).fit(spoilt(4, 3, nan), batches(1), epochs=epochs)
    assert run.outcome is Outcome.STOPPED
    assert "validate_begin" not in heard.events
    assert run.history == []


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_is_found_when_the_epoch_has_ended_is_an_error(epochs: int) -> None:
    engine = small_engine(TerminateOnNaN(every=3))
    with pytest.raises(LossRefused, match="the loss was nan or inf in one of the batches 3 to 4 of epoch 0"):
        engine.fit(Stream(spoilt(5, 4, nan)), epochs=epochs)
    assert engine.last_run.outcome is Outcome.FAILED


def test_an_epoch_that_is_stopped_or_empty_is_not_looked_at() -> None:
    stops = hears("batch_end", lambda run: run.stop("enough") if run.batch_index == 1 else None)
    run = small_engine(TerminateOnNaN(every=9), stops).fit(Stream(spoilt(5, 1, nan)))
    assert [stop.reason for stop in run.stops] == ["enough"]
    skips = answers("skip_batch", lambda run: True)
    assert small_engine(TerminateOnNaN(every=1), skips).fit(batches(3)).outcome is Outcome.COMPLETED


class Breaks(torch.autograd.Function):
    """Gives what it is given, and a gradient that is none."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradient: float) -> Tensor:
        ctx.gradient = gradient
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient * ctx.gradient, None


def breaking(at: int, gradient: float, *callbacks: object, **more: Any) -> Any:
    """An engine whose gradients break at one batch, while all losses are finite."""

    def breaks(run: Run) -> None:
        if run.batch_index == at:
            run.output = Breaks.apply(run.output, gradient)

    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    keeps = hears("step_begin", lambda run: [p.grad.nan_to_num_(0, 0, 0) for p in run.model.parameters()])
    return small_engine(*callbacks, hears("forward_end", breaks), keeps, model=model, optimizer=optimizer, **more)


@pytest.mark.parametrize("gradient", [nan, inf, -inf])
def test_gradients_are_looked_at_where_that_is_wanted(gradient: float) -> None:
    assert breaking(2, gradient, TerminateOnNaN(every=1)).fit(batches(5)).outcome is Outcome.COMPLETED
    run = breaking(2, gradient, TerminateOnNaN(every=1, gradients=True)).fit(batches(5))
    assert run.stops[0].reason == "TerminateOnNaN: the gradients were nan or inf in batch 2 of epoch 0"


def test_large_gradients_are_finite_ones() -> None:
    assert breaking(2, 1e37, TerminateOnNaN(every=1, gradients=True)).fit(batches(5)).outcome is Outcome.COMPLETED


def test_gradients_of_a_skipped_step_do_not_count() -> None:
    skips = answers("skip_step", lambda run: run.batch_index == 2)
    run = breaking(2, inf, TerminateOnNaN(every=1, gradients=True), skips).fit(batches(5))
    assert run.outcome is Outcome.COMPLETED


def test_gradients_of_a_window_that_is_stepped_behind_the_last_batch_are_an_error() -> None:
    accumulates = answers("accumulate", lambda run: run.batch_index != 1)
    engine = breaking(2, nan, TerminateOnNaN(every=1, gradients=True), accumulates)
    with pytest.raises(LossRefused, match="the gradients were nan or inf in batch 2 of epoch 0"):
        engine.fit(batches(3))


def test_the_host_looks_once_in_so_many_batches_and_at_the_end_of_an_epoch() -> None:
    counts = []
    for callbacks in ((), (TerminateOnNaN(every=40),)):
        with HostReads() as reads:
            small_engine(*callbacks).fit(batches(100), batches(50), epochs=2)
        counts.append(reads.count)
    assert counts[1] - counts[0] == 2 * 3


def test_a_second_fit_begins_anew() -> None:
    engine = frozen_engine(TerminateOnNaN(every=1))
    assert engine.fit(spoilt(3, 1, nan)).outcome is Outcome.STOPPED
    assert engine.fit(batches(3)).outcome is Outcome.COMPLETED


def test_it_keeps_no_graph_and_works_with_a_loss_of_one_element_in_a_list() -> None:
    terminate, sums = TerminateOnNaN(), list[Tensor]()
    looks = hears("batch_end", lambda run: sums.append(terminate._loss.sum))
    small_engine(terminate, looks, loss_fn=lambda output, target: (output - target).square().mean(0)).fit(batches(3))
    assert [(one.shape, one.requires_grad) for one in sums] == [((), False)] * 3
    run = frozen_engine(terminate, loss_fn=lambda output, target: (output - target).mean(0)).fit(spoilt(3, 1, -inf))
    assert run.outcome is Outcome.STOPPED


def test_an_epoch_that_is_cut_short_is_looked_at_when_it_has_ended() -> None:
    with pytest.raises(LossRefused, match="the loss was nan or inf in one of the batches 0 to 2 of epoch 0"):
        small_engine(TerminateOnNaN(), ShortEpochs(3)).fit(spoilt(9, 1, nan))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_it_holds_nothing_on_the_device_when_a_run_has_ended(error: type[BaseException] | None) -> None:
    def dies(run: Run) -> None:
        held.append(terminate._loss.sum is not None and terminate._gradients.sum is not None)
        if error is not None:
            raise error

    terminate, held = TerminateOnNaN(gradients=True), list[bool]()
    engine = small_engine(terminate, hears("batch_end", dies))
    with nullcontext() if error is None else pytest.raises(error):
        engine.fit(batches(1))
    assert held == [True]
    assert terminate._loss.sum is None
    assert terminate._gradients.sum is None


@pytest.mark.parametrize("gradients", [False, True])
def test_it_is_in_no_cycle(gradients: bool) -> None:
    gc.disable()
    try:
        terminate = TerminateOnNaN(gradients=gradients)
        left = weakref.ref(terminate)
        del terminate
        assert left() is None
    finally:
        gc.enable()


def test_a_copy_looks_at_gradients_by_itself() -> None:
    first = TerminateOnNaN(every=1, gradients=True)
    run = breaking(2, nan, deepcopy(first)).fit(batches(5))
    assert "the gradients were" in run.stops[0].reason


def test_only_with_gradients_it_hears_of_a_step() -> None:
    assert [hasattr(TerminateOnNaN(gradients=given), "on_step_begin") for given in (False, True)] == [False, True]


@pytest.mark.parametrize(("name", "value"), [("every", 0), ("every", 1.5), ("gradients", 1)])
def test_what_has_no_meaning_is_refused(name: str, value: object) -> None:
    with pytest.raises(ArgumentRefused, match=f"^{name} is "):
        TerminateOnNaN(**{name: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_0_times_inf_is_nan_on_a_gpu_too(value: float) -> None:
    model = nn.Linear(2, 1).cuda()
    optimizer = optim.SGD(model.parameters(), lr=0.0)
    engine = small_engine(TerminateOnNaN(gradients=True), model=model, optimizer=optimizer)
    assert engine.fit(spoilt(5, 2, value)).outcome is Outcome.STOPPED


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [False, True])
def test_it_gets_along_with_whatever_a_run_may_do(gradients: bool) -> None:
    check_order(subject(lambda: TerminateOnNaN(every=2, gradients=gradients)), runs=20, seed=0)
