"""Are gradients dropped as the optimizer says: by its own method where it has one, by writes alone where it has not?"""

import inspect
import subprocess
import sys
from enum import Enum

import pytest
from attrs import evolve
from torch import optim

from engine import Action, Run, State
from engine.actions import built_in
from engine.errors import ArgumentRefused
from states import TRAINING, Trigger
from tests.engine.tools import Batch, answers, batches, hears, refuses, same, small_engine, small_model, weights_of


OPTIMIZERS = [
    kind
    for kind in vars(optim).values()
    if isinstance(kind, type) and issubclass(kind, optim.Optimizer) and kind is not optim.Optimizer
]


class Keeping(optim.SGD):
    """Drops its gradients in a way of its own."""

    cleared = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.cleared += 1
        super().zero_grad(set_to_none=False)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_torchs_own_optimizers_are_known_to_drop_gradients_by_a_write(kind: type[optim.Optimizer]) -> None:
    """Their method is what was copied; this fails when torch gives one of them another."""
    assert kind.zero_grad is optim.Optimizer.zero_grad
    assert "p.grad = None" in inspect.getsource(optim.Optimizer.zero_grad)


@pytest.mark.parametrize("event", ["train_begin", "batch_begin", "step_end"])
def test_a_zero_grad_that_is_patched_is_called_from_then_on(event: str) -> None:
    """As wrappers do, in the middle of a run too."""
    model, calls = small_model(), [0]
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def patch(run: Run) -> None:
        own = run.optimizer.zero_grad

        def counted() -> None:
            calls[0] += 1
            own()

        if run.batches_done == 0:
            run.optimizer.zero_grad = counted

    small_engine(hears(event, patch), model=model, optimizer=optimizer).fit(batches(3))
    assert calls == [3]


def test_a_zero_grad_of_ones_own_is_called_once_per_step_and_at_the_begin() -> None:
    model = small_model()
    optimizer = Keeping(model.parameters(), lr=0.1)
    small_engine(answers("accumulate", lambda run: run.batch_index % 2 == 0), model=model, optimizer=optimizer).fit(
        batches(5)
    )
    assert optimizer.cleared == 4  # at the begin, after two windows of two batches, and after the flush
    assert all(not parameter.grad.any() for parameter in model.parameters())


def test_gradients_of_parameters_that_join_in_the_middle_of_a_run_are_dropped_too() -> None:
    """As in unfreezing: the groups are those that the optimizer has at that moment."""
    model = small_model()
    optimizer = optim.SGD([model.weight], lr=0.1)
    seen: list[tuple[bool, bool]] = []

    def join(run: Run) -> None:
        if run.batches_done == 1:
            optimizer.add_param_group({"params": [model.bias], "lr": 0.2})

    engine = small_engine(
        hears("batch_begin", join),
        hears("batch_end", lambda run: seen.append((model.weight.grad is None, model.bias.grad is None))),
        model=model,
        optimizer=optimizer,
    )
    engine.fit(batches(3))
    assert seen == [(True, False), (True, True), (True, True)]


@pytest.mark.parametrize("make", [optim.SGD, Keeping])
def test_both_ways_train_alike(make: type[optim.SGD]) -> None:
    def trained(data: list[Batch]) -> object:
        model = small_model()
        small_engine(model=model, optimizer=make(model.parameters(), lr=0.1)).fit(data, epochs=2)
        return weights_of(model)

    def plain(data: list[Batch]) -> object:
        model = small_model()
        engine = small_engine(model=model)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        for inputs, targets in data * 2:
            engine.loss_fn(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        return weights_of(model)

    assert same(trained(batches(4)), plain(batches(4)))


def test_the_notes_in_the_loop_are_what_the_actions_do() -> None:
    """A note that is a statement stands in the code of its action, word by word."""
    noted = [action for action in built_in(TRAINING).values() if action.note]
    assert len(noted) == 9
    for action in noted:
        assert action.note in inspect.getsource(action.do)


def test_the_engines_own_actions_are_sure_and_those_of_a_user_are_looked_at() -> None:
    own = small_engine().source()
    assert "unexpected" not in own
    mine = small_engine(actions={State.FORWARD: lambda run: None}).source()
    assert "trigger = forward(run)" in mine
    assert mine.count("raise unexpected(run, trigger, OUTPUT_READY)") == 1


@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("replaced", [False, True])
def test_gradients_are_averaged_where_there_are_several(window: int, replaced: bool) -> None:
    """The loop does not call the engine's own action for a window of one batch; one of the user's it calls."""
    asked: list[int] = []
    own = built_in(TRAINING)[State.AVERAGE]
    average = evolve(own, do=lambda run: asked.append(run.window) or own.do(run))
    model = small_model()
    engine = small_engine(
        answers("accumulate", lambda run: (run.batch_index + 1) % window != 0),
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.1),
        actions={State.AVERAGE: average} if replaced else {},
    )
    engine.fit(batches(7), epochs=2)
    assert asked == ([window] * (7 // window) * 2 if replaced else [])
    assert engine.source().count("if run.window > 1:") == (1 if replaced else 2)  # the part-filled window is our own
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        data = batches(7)
        for start in range(0, 7, window):
            part = data[start : start + window]
            for inputs, targets in part:
                engine.loss_fn(model(inputs), targets).backward()
            for parameter in model.parameters() if len(part) > 1 else ():
                parameter.grad.div_(len(part))
            optimizer.step()
            optimizer.zero_grad()
    assert same(weights_of(engine.model), weights_of(model))


@pytest.mark.parametrize("word", ["window", 3, Enum("Odd", {"window or print('run') or run.window": 1})])
def test_what_is_written_into_a_loop_is_a_counter_or_a_comment(word: object) -> None:
    with refuses(ArgumentRefused, "several is ", "a member of states.Counter"):
        Action(lambda run: None, (Trigger.OUTPUT_READY,), sure=True, several=word)


def test_a_note_is_text() -> None:
    with refuses(ArgumentRefused, "note is 5", "a line of text"):
        Action(lambda run: None, (Trigger.OUTPUT_READY,), note=5)


def test_a_method_that_was_patched_before_the_engine_is_loaded_is_not_taken_for_torchs() -> None:
    program = """
import functools, torch
calls, own = [], torch.optim.Optimizer.zero_grad

@functools.wraps(own)
def patched(self, set_to_none=True):
    calls.append(1)
    own(self, set_to_none)

torch.optim.Optimizer.zero_grad = patched
from engine import Engine
model = torch.nn.Linear(1, 1)
engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
engine.fit([(torch.ones(2, 1), torch.ones(2, 1))] * 4)
print(len(calls))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "5\n"  # at the begin, and once a batch
