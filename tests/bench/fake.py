"""What does the machine itself cost?  Batches of fake work: actions that compute nothing, so that the rest is left.

The same fakes are called by hand from a plain loop, which is the baseline of `dispatch`.
"""

import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import partial
from itertools import repeat
from pathlib import Path

import torch
from attrs import define, evolve, frozen
from torch import Tensor, nn

from engine import Action, Engine
from states import TRAINING, State, Trigger
from tests.bench.contenders import CHECKED, EXTENDED, FIT, MORE_STATES, UNMEASURED
from tests.bench.results import ROOT, Measured, Memory, Table
from tests.bench.timing import Pair, interleave, seconds


@define
class Hand:
    """What the fakes write to, in the plain loop."""

    inputs: object = None
    targets: object = None
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


BATCH = (torch.zeros(2, 1), torch.zeros(2, 1))


def plain(number: int) -> None:
    """The fakes, called by hand."""
    run = Hand()
    for run.inputs, run.targets in [BATCH] * number:
        forward(run)
        loss(run)
        backward(run)
        step(run)
        zero_grad(run)


_MORE = Enum("_MORE", [f"{word}_{n}" for n in range(MORE_STATES) for word in ("ADDED", "DONE_ADDED")])


def engine(*, checked: bool = False, measured: bool = False, more: int = 0) -> Engine:
    """An engine whose actions are the fakes; they are sure of what they report, as the engine's own are.

    *more* states are put in between average and step; they do nothing.
    """
    machine, added = TRAINING, {}
    for number in range(more):
        state, done = _MORE[f"ADDED_{number}"], _MORE[f"DONE_ADDED_{number}"]
        machine = machine.insert(state, done, before=State.STEP)
        added[state] = Action(partial(_reports, done), (done,), sure=True)
    actions = {
        State.FORWARD: Action(forward, (Trigger.OUTPUT_READY,), sure=True),
        State.LOSS: Action(loss, (Trigger.LOSS_READY,), sure=True),
        State.BACKWARD: Action(backward, (Trigger.GRADS_READY,), sure=True),
        State.STEP: Action(step, (Trigger.WEIGHTS_MOVED,), sure=True),
        State.ZERO_GRAD: Action(zero_grad, (Trigger.GRADS_CLEARED,), sure=True),
        **added,
    }
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    metrics = {} if measured else None
    return Engine(model, None, optimizer, machine=machine, actions=actions, checked=checked, metrics=metrics)


def _reports(trigger: Enum, run) -> Enum:
    return trigger


def fit(number: int, trained: Engine) -> None:
    """The engine does the same."""
    run = trained.fit([BATCH] * number)
    assert (run.updates, run.batches_done) == (number, number), "not every batch was stepped"


def dispatch(rounds: int, number: int = 50_000, slow_number: int = 2_000) -> Table:
    """The table of fake work: the engine in many rounds, checked in few and short ones."""
    engines = {
        UNMEASURED.name: engine(),
        FIT.name: engine(measured=True),
        EXTENDED.name: engine(more=MORE_STATES),
    }
    works = {name: partial(fit, trained=trained) for name, trained in engines.items()}
    rows, noise = _rows(works, number, rounds)
    floor = evolve(rows[0], name="plain loop, fakes by hand", pairs=noise, note="")
    slow, _ = _rows({CHECKED.name: partial(fit, trained=engine(checked=True))}, slow_number, min(rounds, 5))
    text = "fake work: actions that compute nothing, so that the machine is left; and the mean loss, where it is kept"
    return Table("dispatch", text, 0, floor, [*rows, *slow])


def _rows(works: Mapping[str, Callable[[int], None]], number: int, rounds: int) -> tuple[list[Measured], list[Pair]]:
    runs = {name: partial(seconds, partial(work, number)) for name, work in works.items()}
    pairs, noise = interleave(runs, partial(seconds, partial(plain, number)), rounds)
    notes = {one.name: one.note for one in (UNMEASURED, FIT, EXTENDED, CHECKED)}
    return [Measured(name, "", notes[name], number, pairs[name], [], None, 0) for name in works], noise


def memory(number: int) -> Memory:
    """Fit many batches of fake work in a fresh process: by how much does each half of them raise the peak?"""
    program = f"from tests.bench.fake import grown; print(*grown({number}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    return Memory(number, *map(int, done.stdout.split()))


def grown(number: int) -> Iterator[int]:
    """KiB by which each half of so many batches raises the peak of this process."""
    trained = engine(measured=True)
    trained.fit(_Same(1000))
    for _ in range(2):
        before = _peak()
        trained.fit(_Same(max(number // 2, 1)))
        yield _peak() - before


def _peak() -> int:
    """KiB that this process has had at most; on Linux, `ru_maxrss` would begin with those of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most  # which counts bytes


@frozen
class _Same:
    """A loader that gives one batch again and again, and holds no more than that."""

    number: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return repeat(BATCH, self.number)
