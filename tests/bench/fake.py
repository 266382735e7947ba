"""What does the machine itself cost?  Batches of fake work: actions that compute nothing, so that the rest is left.

The same fakes are called by hand from a plain loop, which is the baseline of `dispatch`.
"""

import resource
from collections.abc import Callable
from enum import Enum

import torch
from attrs import define, evolve
from torch import Tensor, nn

from engine import Engine
from states import State, Trigger
from tests.bench.contenders import CHECKED
from tests.bench.results import Measured, Memory, Table
from tests.bench.timing import Pair, interleave, seconds


@define
class Hand:
    """What the fakes write to, in the plain loop."""

    inputs: object = None
    output: object = None
    loss: Tensor | None = None


_LOSS = torch.zeros(())


def forward(run) -> Enum:
    run.output = None
    return Trigger.OUTPUT_READY


def loss(run) -> Enum:
    run.loss = _LOSS
    return Trigger.LOSS_READY


def backward(run) -> Enum:
    return Trigger.GRADS_READY


def step(run) -> Enum:
    return Trigger.WEIGHTS_MOVED


def zero_grad(run) -> Enum:
    return Trigger.GRADS_CLEARED


def plain(number: int) -> None:
    """The fakes, called by hand."""
    run = Hand()
    for inputs in range(number):
        run.inputs = inputs
        forward(run)
        loss(run)
        backward(run)
        step(run)
        zero_grad(run)


def engine(*, checked: bool = False) -> Engine:
    """An engine whose actions are the fakes."""
    actions = {
        State.FORWARD: forward,
        State.LOSS: loss,
        State.BACKWARD: backward,
        State.STEP: step,
        State.ZERO_GRAD: zero_grad,
    }
    model = nn.Linear(1, 1)
    return Engine(model, None, torch.optim.SGD(model.parameters(), lr=0.1), actions=actions, checked=checked)


def fit(number: int, *, checked: bool) -> None:
    """The engine does the same."""
    run = engine(checked=checked).fit(range(number))
    assert (run.updates, run.batches_done) == (number, number), "not every batch was stepped"


def dispatch(rounds: int, number: int = 50_000, slow_number: int = 2_000) -> Table:
    """The table of fake work: the engine in many rounds, checked in few and short ones."""
    row, noise = _row("fit", number, rounds, lambda count: fit(count, checked=False))
    checked, _ = _row("fit, checked", slow_number, min(rounds, 5), lambda count: fit(count, checked=True))
    checked = evolve(checked, note=CHECKED.note)
    floor = evolve(row, name="plain loop, fakes by hand", pairs=noise, once=[])
    text = "fake work: actions that compute nothing, the mean of the loss is kept"
    return Table("dispatch", text, 0, floor, [row, checked])


def _row(name: str, number: int, rounds: int, work: Callable[[int], None]) -> tuple[Measured, list[Pair]]:
    def run() -> float:
        return seconds(lambda: work(number))

    def base() -> float:
        return seconds(lambda: plain(number))

    pairs, noise = interleave({name: run}, base, rounds)
    return Measured(name, "", "", number, pairs[name], [], 0.0, 0), noise


def memory(number: int) -> Memory:
    """Fit many batches of fake work, in two halves: by how much does the second half raise the peak?"""
    trained = engine()
    trained.fit(range(max(number // 2, 1)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trained.fit(range(max(number // 2, 1)))
    return Memory(number, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
