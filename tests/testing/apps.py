"""Which engines and tests are the commands and the plugin tried on?  Good and bad ones, and three broken machines."""

from collections.abc import Iterator
from itertools import islice

import pytest

from engine.testing import check
from engine.testing.mutation import survivors
from engine.testing.mutation.mutants import Mutant, in_turn
from engine.testing.runs import search
from states import TRAINING, Machine


APP = """
import torch
from engine import Callback, Engine
from states import TRAINING


class Last(Callback):
    def on_batch_end(self, run):
        self.last = run.loss


class Careless(Callback):
    def on_batch_end(self, run):
        self.last = run.loss.item()  # nothing is there after skip_batch


class Rare(Callback):
    def on_train_begin(self, run):
        assert run.max_updates != 3


class Counting(Callback):
    def on_train_begin(self, run):
        self.begun, self.steps = 0, 0

    def on_batch_begin(self, run):
        self.begun += 1
        assert self.begun == run.batches_done + 1

    def on_step_end(self, run):
        self.steps += 1
        assert self.steps == run.updates


def engine(*callbacks):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    made = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), callbacks)
    return made, {"train_loader": [(torch.ones(4, 2), torch.zeros(4, 1))] * 2}


def factory():
    return engine(Last())


def careless():
    return engine(Careless())


def rare():
    return engine(Rare())


def counting():
    return engine(Counting())


def idle():
    return engine()[0]


def missing():
    raise LookupError("the user's own mistake")


READY = engine()
"""

WEAK = """
from otherapp import factory

def test_it_trains():
    made, arguments = factory()
    made.fit(**arguments)
"""

STRONG = """
def test_it_trains(trace):
    from otherapp import factory
    made, arguments = factory()
    heard = trace(made)
    run = made.fit(**arguments)
    heard.assert_legal()
    assert run.updates == 2
"""

# Broken machines that a few assertions notice, and that a training alone does not.
CHOSEN = {
    "double an event: fetch batch_ready -> batch: batch_begin + batch_begin",
    "double an event: zero_grad grads_cleared -> epoch: batch_end + batch_end",
    "change a count: updates + 1 before step_end => updates = 0 before step_end",
}

REPLAYED = check.replayed(TRAINING, {})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is walked once for all tests, and a few simple cases are enough."""
    simple_cases = search.simple_cases
    monkeypatch.setattr(check, "replayed", lambda machine, monitors, *, ways: REPLAYED)
    monkeypatch.setattr(search, "simple_cases", lambda *given, **named: islice(simple_cases(*given, **named), 10))


@pytest.fixture
def few_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three broken machines are enough."""

    def chosen(machine: Machine, watch: object) -> Iterator[Mutant]:
        return (mutant for mutant in in_turn(machine) if str(mutant) in CHOSEN)

    monkeypatch.setattr(survivors, "_met", chosen)
