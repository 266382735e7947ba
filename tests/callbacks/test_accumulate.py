"""Does a step get the mean over its window's batches, or samples, as a loop by hand computes it?"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import Engine, State, Trigger
from engine.callbacks.accumulate import Accumulate
from engine.errors import ArgumentRefused, LossRefused
from engine.testing import check_order
from tests.callbacks.test_progress import Fault, HostReads
from tests.testing.subjects import subject


Batch = tuple[Tensor, Tensor]


def loss_fn(output: Tensor, targets: Tensor) -> Tensor:
    """The mean over the batch; of an empty one 0."""
    return (output - targets).square().sum() / max(len(output), 1)


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def batches_of(sizes: Sequence[int]) -> list[Batch]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 3, generator=chance), torch.randn(n, 1, generator=chance)) for n in sizes]


def trained(batches: list[Batch], *callbacks: object, epochs: int = 2) -> list[Tensor]:
    model, optimizer = made()
    Engine(model, loss_fn, optimizer, callbacks).fit(batches, epochs=epochs)
    return [parameter.detach() for parameter in model.parameters()]


def by_hand(
    batches: list[Batch], full: Callable[[list[int]], bool], *, by_samples: bool, epochs: int = 2
) -> list[Tensor]:
    """A loop as one writes it: sum the gradients of a window, divide, step; the last window is stepped, too."""
    model, optimizer = made()
    for _ in range(epochs):
        window: list[int] = []
        for number, (inputs, targets) in enumerate(batches):
            window.append(len(inputs))
            loss = loss_fn(model(inputs), targets)
            (loss * (len(inputs) / (window[0] or 1)) if by_samples else loss).backward()
            if full(window) or number + 1 == len(batches):
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    if len(window) > 1:
                        parameter.grad /= len(window)
                    if by_samples and sum(window):
                        parameter.grad *= len(window) * (window[0] or 1) / sum(window)
                optimizer.step()
                optimizer.zero_grad()
                window = []
    return [parameter.detach() for parameter in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@given(number=st.integers(1, 7), size=st.integers(1, 4), window=st.integers(1, 4))
def test_batches_give_the_bits_of_the_loop_by_hand(number: int, size: int, window: int) -> None:
    batches = batches_of([size] * number)
    wanted = by_hand(batches, lambda sizes: len(sizes) == window, by_samples=False)

    assert same(trained(batches, Accumulate(batches=window)), wanted)


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=7), samples=st.integers(1, 12))
def test_samples_give_the_bits_of_the_weighted_loop_by_hand(sizes: list[int], samples: int) -> None:
    batches = batches_of(sizes)
    wanted = by_hand(batches, lambda sizes: sum(sizes) >= samples, by_samples=True)

    assert same(trained(batches, Accumulate(samples=samples)), wanted)


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=7), samples=st.integers(1, 12))
def test_samples_give_the_step_of_one_large_batch(sizes: list[int], samples: int) -> None:
    batches, windows = batches_of(sizes), [[]]
    for batch in batches:
        if sum(len(inputs) for inputs, _ in windows[-1]) >= samples:
            windows.append([])
        windows[-1].append(batch)
    large = [(torch.cat([x for x, _ in window]), torch.cat([y for _, y in window])) for window in windows]

    for mine, wanted in zip(trained(batches, Accumulate(samples=samples)), trained(large), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5)


@given(number=st.integers(1, 7), size=st.integers(1, 5), window=st.integers(1, 4))
def test_samples_in_equal_batches_are_batches_bit_for_bit(number: int, size: int, window: int) -> None:
    batches = batches_of([size] * number)

    assert same(trained(batches, Accumulate(samples=window * size)), trained(batches, Accumulate(batches=window)))


def test_the_loss_that_is_shown_and_recorded_is_that_of_the_loss_function() -> None:
    model, optimizer = made()
    engine = Engine(model, loss_fn, optimizer, [Accumulate(samples=7)])
    made_by_action, seen = [], []
    engine.on("loss_end")(lambda run: made_by_action.append(run.loss))
    for event in ("backward_begin", "backward_end", "step_begin", "batch_end"):
        engine.on(event, order=21)(lambda run: seen.append(run.loss is made_by_action[-1]))
    run = engine.fit(batches_of([2, 4, 1, 3]))

    assert seen
    assert all(seen)
    values = [loss.item() * size for loss, size in zip(made_by_action, [2, 4, 1, 3], strict=True)]
    assert run.history[0]["train_loss"] == pytest.approx(sum(values) / 10)


def test_a_batch_that_is_skipped_is_not_in_the_window() -> None:
    model, optimizer = made()
    engine = Engine(model, loss_fn, optimizer, [Accumulate(samples=6)])
    engine.guard("skip_batch")(lambda run: run.batch_index == 1)
    engine.guard("skip_backward")(lambda run: run.batch_index == 2)
    updates = engine.fit(batches_of([2, 9, 9, 3, 1, 2])).updates
    left = [batch for number, batch in enumerate(batches_of([2, 9, 9, 3, 1, 2])) if number not in (1, 2)]

    assert updates == 2
    assert same(list(model.parameters()), trained(left, Accumulate(samples=6), epochs=1))


def test_a_loop_of_ones_own_gets_the_weights_too() -> None:
    model, optimizer = made()
    engine = Engine(model, loss_fn, optimizer, [Accumulate(samples=7)])
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches_of([2, 4, 1, 3])):
                run.report(Trigger.OUTPUT_READY, output=model(inputs))
                loss = loss_fn(run.output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)

    assert same(list(model.parameters()), trained(batches_of([2, 4, 1, 3]), Accumulate(samples=7)))


def test_a_loop_of_ones_own_that_reports_the_loss_behind_its_backward_is_refused_before_the_step() -> None:
    model, optimizer = made()
    engine = Engine(model, loss_fn, optimizer, [Accumulate(samples=6)])

    def loop() -> None:
        with engine.start() as run:
            for _ in run.each_epoch():
                for inputs, targets in run.each_batch(batches_of([2, 4])):
                    run.report(Trigger.OUTPUT_READY, output=model(inputs))
                    loss = loss_fn(run.output, targets)
                    loss.backward()
                    run.report(Trigger.LOSS_READY, loss=loss)
                    if run.report(Trigger.GRADS_READY) is State.STEP:
                        optimizer.step()
                        run.report(Trigger.WEIGHTS_MOVED)

    with pytest.raises(LossRefused, match=r"no gradient came through run.loss in .*batch 1, update 0(.|\n)*LOSS_READY"):
        loop()
    assert same(list(model.parameters()), list(made()[0].parameters()))

    optimizer.zero_grad()  # of what that loop has left
    engine.fit(batches_of([2, 4]))
    assert same(list(model.parameters()), trained(batches_of([2, 4]), Accumulate(samples=6), epochs=1))


@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
@pytest.mark.parametrize("make", [lambda: Accumulate(batches=3), lambda: Accumulate(samples=7)])
def test_an_open_window_is_forgotten_however_the_run_before_has_ended(what: Any, make: Any) -> None:
    batches, once = batches_of([2, 4, 1, 3]), batches_of([5, 2, 3])
    model, optimizer = made()
    engine = Engine(model, loss_fn, optimizer, [make(), Fault("train", what)])
    with suppress(ValueError, KeyboardInterrupt):
        engine.fit(batches, epochs=3)
    fresh, fresh_optimizer = made()
    fresh.load_state_dict(model.state_dict())
    fresh_optimizer.load_state_dict(deepcopy(optimizer.state_dict()))
    engine.fit(once)
    Engine(fresh, loss_fn, fresh_optimizer, [make()]).fit(once)

    assert same(list(model.parameters()), list(fresh.parameters()))


def test_a_parameter_that_two_optimizers_hold_is_rescaled_once() -> None:
    gradients = []
    for held in (1, 2):
        model, _ = made()
        optimizers = {name: torch.optim.SGD(model.parameters(), lr=0.1) for name in "ab"[:held]}
        engine = Engine(model, loss_fn, optimizers, [Accumulate(samples=7)])
        engine.on("step_begin", order=21)(
            lambda run, model=model: gradients.append([parameter.grad.clone() for parameter in model.parameters()])
        )
        engine.fit(batches_of([2, 5]))

    assert len(gradients) == 2
    assert same(*gradients)


def test_a_loss_without_a_graph_is_refused_as_ever() -> None:
    def forgets(output: Tensor, targets: Tensor) -> Tensor:
        loss = loss_fn(output, targets)
        return loss.detach() if len(output) == 3 else loss

    model, optimizer = made()
    with pytest.raises(LossRefused, match="without a graph"):
        Engine(model, forgets, optimizer, [Accumulate(samples=9)]).fit(batches_of([2, 3]))


def test_nothing_is_read_on_the_host() -> None:
    counts = []
    for callbacks in ((), (Accumulate(samples=7),)):
        with HostReads() as reads:
            trained(batches_of([2, 4, 1, 3] * 5), *callbacks)
        counts.append(reads.count)

    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "batches is None and samples is None\n  allowed:  one of them"),
        ({"batches": 2, "samples": 8}, "batches is 2 and samples is 8\n  allowed:  one of them"),
        ({"batches": 0}, "batches is 0, an int\n  allowed:  a whole number, 1 or more"),
        ({"samples": 1.5}, "samples is 1.5, a float\n  allowed:  a whole number, 1 or more"),
        ({"batches": True}, "batches is True, a bool"),
    ],
)
def test_what_is_no_number_of_batches_or_samples_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        Accumulate(**given)

    assert str(caught.value).startswith(message)


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(subject(lambda: Accumulate(batches=2), lambda: Accumulate(samples=3)), runs=20, seed=0)
