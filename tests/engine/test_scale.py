"""Does a batch cost the same however much there is around it?  Counted in Python's instructions and in memory."""

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from engine import Action, Callback, Engine, Run
from states import TRAINING, Machine, State, Transition, Trigger
from tests.engine.tools import hears


LOSS, BATCH = torch.zeros(()), (torch.zeros(2, 1), torch.zeros(2, 1))


def reporting(trigger: Enum) -> Callable[[Run], Enum]:
    return lambda run: trigger


def fake_loss(run: Run) -> Enum:
    run.loss = LOSS
    return Trigger.LOSS_READY


FAKE = {
    State.FORWARD: reporting(Trigger.OUTPUT_READY),
    State.LOSS: fake_loss,
    State.BACKWARD: reporting(Trigger.GRADS_READY),
    State.STEP: reporting(Trigger.WEIGHTS_MOVED),
    State.ZERO_GRAD: reporting(Trigger.GRADS_CLEARED),
}


def fake_engine(*callbacks: object, metrics: dict[str, Any] | None = None, machine: Machine = TRAINING) -> Engine:
    """An engine whose actions compute nothing."""
    model = nn.Linear(1, 1)
    more = {s: Action(reporting(passed(s)), (passed(s),)) for s in machine.states if isinstance(s, Extra)}
    return Engine(
        model,
        optimizer=optim.SGD(model.parameters()),
        callbacks=list(callbacks),
        metrics=metrics,
        recorder=None,
        machine=machine,
        actions={**FAKE, **more},
    )


class Counting:
    """A loader that counts what Python executes between two of its batches, the first and the last of *between*.

    Instructions of Python's are what the Python of a batch costs, the same each time on any machine.
    """

    def __init__(self, between: tuple[int, int], number: int) -> None:
        self.between, self.number, self.drawn, self.instructions = between, number, 0, 0

    def __iter__(self) -> Iterator[Any]:
        first, last = self.between
        for _ in range(self.number):
            if self.drawn == first:
                self._begin()
            elif self.drawn == last:
                sys.settrace(None)
            self.drawn += 1
            yield BATCH

    def _begin(self) -> None:
        frame = sys._getframe(2)  # whoever draws
        sys.settrace(self._trace)
        while frame is not None and not frame.f_code.co_filename.endswith("drive.py"):
            self._trace(frame, "call", None)
            frame.f_trace = self._trace
            frame = frame.f_back

    def _trace(self, frame: FrameType, event: str, _: object) -> object:
        if frame.f_code is Counting.__iter__.__code__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.instructions += event == "opcode"
        return self._trace


def counted(engine: Engine, between: tuple[int, int], *, length: int, epochs: int = 1) -> int:
    """What is executed between two batches of a run."""
    loader, before = Counting(between, length), sys.gettrace()
    try:
        engine.fit(loader, epochs=epochs)
    finally:
        sys.settrace(before)
    return loader.instructions


def per_batch(engine: Engine, first: int = 2, number: int = 3) -> float:
    """What one more batch costs: counting itself costs something at its begin and its end, the same each time."""
    one, other = (counted(engine, (first, first + more), length=first + more + 1) for more in (1, 1 + number))
    return (other - one) / number


class Deaf(Callback):
    """Hears the ends of epochs, and nothing of a batch."""

    def on_epoch_end(self, run: Run) -> None:
        pass


# States far from the batch, and what each of them reports.
Extra = Enum("Extra", [f"EXTRA_{number}" for number in range(10)])
Passed = Enum("Passed", [f"{state.name}_PASSED" for state in Extra])


def passed(state: Enum) -> Enum:
    return Passed[f"{state.name}_PASSED"]


def longer(number: int) -> Machine:
    """The training machine with more states between the end of an epoch and the next."""
    into = TRAINING.rows.index(next(row for row in TRAINING.rows if row.trigger is Trigger.WINDOW_EMPTY))
    states = [*list(Extra)[:number], State.CLOSE]
    rows = [*TRAINING.rows]
    rows[into] = evolve(rows[into], dest=states[0])
    rows += [Transition(one, passed(one), None, other) for one, other in pairwise(states)]
    return evolve(TRAINING, name=f"longer by {number}", rows=rows)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 30), st.integers(0, 10))
@settings(max_examples=20)
def test_a_batch_costs_the_same_whatever_is_around_it(first: int, number: int, deaf: int, states: int) -> None:
    """However many batches, callbacks that do not hear of it, and states elsewhere in the machine."""
    around = fake_engine(*(Deaf() for _ in range(deaf)), machine=longer(states) if states else TRAINING)
    assert per_batch(around, first, number) == ALONE


ALONE = per_batch(fake_engine())


def test_the_dispatch_of_a_batch_is_this_many_instructions() -> None:
    """Those of the five fake actions among them.  A change that makes it more is to be a choice."""
    assert ALONE <= 250


def test_an_epoch_costs_the_same_however_many_came_before() -> None:
    """From its first batch to that of the next one."""
    costs = {
        counted(fake_engine(Deaf()), (3 * epoch, 3 * epoch + 3), length=3, epochs=epoch + 2) for epoch in (1, 2, 30)
    }
    assert len(costs) == 1
    assert costs.pop() > 3 * ALONE


def test_one_more_listener_costs_its_calls_alone() -> None:
    silent, silent_too = (hears("batch_end", lambda run: None) for _ in range(2))
    one, two = per_batch(fake_engine(silent)), per_batch(fake_engine(silent, silent_too))
    assert one - ALONE == two - one <= 20


@pytest.mark.parametrize("metrics", [None, {}], ids=["nothing measured", "mean loss"])
def test_batches_leave_no_memory_behind(metrics: dict[str, Any] | None) -> None:
    """Blocks that Python holds after a run are as many however long it was; a leak of one per batch is 20,000."""
    engine = fake_engine(metrics=metrics)

    def held(number: int) -> int:
        run = engine.fit([BATCH] * number)
        assert run.batches_done == number
        del run
        gc.collect()
        return sys.getallocatedblocks()

    held(2_000)
    few, many = held(2_000), held(22_000)
    assert abs(many - few) < 200


def test_a_batch_holds_no_more_memory_than_the_one_before() -> None:
    """Within a run, too: the blocks in use at the ends of batches far apart are the same but for a few."""
    held: list[int] = []

    def look(run: Run) -> None:
        if run.batch_index % 1000 == 0:
            held.append(sys.getallocatedblocks())

    fake_engine(hears("batch_end", look), metrics={}).fit([BATCH] * 10_001)
    settled = held[2:]
    assert max(settled) - min(settled) < 200


def test_every_batch_allocates_the_same() -> None:
    """Bytes in use at most from one batch to the next: a few small objects.

    Now and then a list that grows is copied, or somebody else allocates: a tenth of the batches may have that.
    """
    peaks: list[int] = []

    def look(run: Run) -> None:
        if tracemalloc.is_tracing() and run.batch_index >= 20:
            held, peak = tracemalloc.get_traced_memory()
            peaks.append(peak - held)
            tracemalloc.reset_peak()

    engine = fake_engine(hears("batch_begin", look), metrics={})
    engine.fit([BATCH] * 30)
    tracemalloc.start()
    try:
        engine.fit([BATCH] * 200)
    finally:
        tracemalloc.stop()
    least, *_, most = sorted(peaks)[: int(0.9 * len(peaks))]
    assert 0 < least <= most < 400


def test_the_engine_loads_nothing_heavy() -> None:
    """What a program pays that uses it: attrs, and nothing of torch that torch does not load itself."""
    program = (
        "import sys, torch; before = set(sys.modules); from engine import Callback, Engine; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}), "
        "*(name for name in set(sys.modules) - before if name.startswith('torch.')))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert set(done.stdout.split()) <= {"attr", "attrs", "engine", "html", "states"}
