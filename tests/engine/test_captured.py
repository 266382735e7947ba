"""Is refused before the first batch what a captured step would pass over in silence?"""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
import torch
from attrs import evolve
from torch import nn, optim

from engine import Action, Engine, Run, loss_from, output_from
from engine.errors import ArgumentRefused, OptimizerRefused
from engine.faster.capture import INSIDE
from engine.faster.captured import Inside, check_capture
from engine.measuring.metrics import Metrics
from states import TRAINING, Event, Guard, Machine, State, Transition, Trigger
from states.names import name_of
from tests.engine.standin import NO_EVENT, NO_GUARD, Standin, engine_of, noisy_model, sgd
from tests.engine.tools import answers, batches, changed, hears, refuses, same, small_model, weights_of


def refused(engine: Engine, *phrases: str, kind: type[Any] = ArgumentRefused) -> None:
    """Refused, and nothing has begun."""
    before = weights_of(engine.model)
    with refuses(kind, "capture is True", *phrases):
        engine.fit(batches(2))
    assert engine.last_run is None
    assert same(before, weights_of(engine.model))


@pytest.mark.parametrize("event", NO_EVENT)
def test_who_hears_an_event_inside_is_refused_by_name(event: Event) -> None:
    refused(engine_of(hears(name_of(event), print)), f"Hears hears {name_of(event)}", "batch_end")


@pytest.mark.parametrize("guard", NO_GUARD)
def test_who_answers_a_guard_inside_is_refused_by_name(guard: Guard) -> None:
    refused(engine_of(answers(name_of(guard), lambda run: False)), f"Answers answers {name_of(guard)}")


class Loud(Metrics):
    """Not the engine's own."""


def test_another_metrics_may_read_more_than_the_loss_and_is_refused() -> None:
    refused(engine_of(Loud({})), "Loud hears loss_end")


@pytest.mark.parametrize("state", INSIDE)
def test_an_action_of_the_users_inside_is_refused_by_name(state: State) -> None:
    action = {
        State.FORWARD: output_from(lambda run: run.model(run.inputs)),
        State.LOSS: loss_from(lambda run: run.output.sum()),
    }
    own = action.get(state, lambda run: INSIDE[state])
    refused(engine_of(actions={state: own}), f"actions replaces {name_of(state)}")


def test_an_action_of_the_users_outside_is_taken() -> None:
    seen: list[int] = []

    def close(run: Run) -> Enum:
        seen.append(run.updates)
        return Trigger.NO_VALIDATION

    engine = engine_of(actions={State.CLOSE: Action(close, (Trigger.NO_VALIDATION, Trigger.VALIDATION_DUE))})
    engine.fit(batches(5))
    assert seen == [5]
    assert "replay" in engine._cuda.log


class Clip(Enum):
    CLIP = "clip"
    CLIPPED = "clipped"


def clipping() -> Machine:
    """A state between AVERAGE and STEP."""
    rows = []
    for row in TRAINING.rows:
        if row.source is State.AVERAGE:
            rows += [
                evolve(row, dest=Clip.CLIP, heard=()),
                Transition(Clip.CLIP, Clip.CLIPPED, None, State.STEP, heard=row.heard),
            ]
        else:
            rows.append(row)
    return changed(rows=rows)


def test_parameters_that_the_optimizer_does_not_hold_are_refused_by_name() -> None:
    model = noisy_model()
    engine = Engine(model, nn.MSELoss(), sgd(model[0]), capture=True)
    engine._cuda = Standin(model, engine.optimizer)
    refused(engine, "does not hold 1.weight", "freeze the others", kind=OptimizerRefused)
    for parameter in model[1:].parameters():
        parameter.requires_grad_(requires_grad=False)
    engine.fit(batches(1))


def test_a_zero_grad_of_ones_own_is_refused() -> None:
    engine = engine_of()
    engine.optimizer.zero_grad = lambda: None
    refused(engine, "has a zero_grad of its own", "leave capture out", kind=OptimizerRefused)


def test_a_machine_that_goes_another_way_is_refused() -> None:
    clip = {Clip.CLIP: Action(lambda run: Clip.CLIPPED, (Clip.CLIPPED,))}
    refused(engine_of(machine=clipping(), actions=clip), "does not go from average straight to step")


def test_a_machine_without_one_of_the_states_is_refused_when_it_is_run() -> None:
    (average,) = TRAINING.rows_from(State.AVERAGE)
    rows = [
        evolve(row, dest=State.STEP, heard=average.heard) if row.dest is State.AVERAGE else row
        for row in TRAINING.rows
        if row is not average
    ]
    engine = engine_of(machine=changed(rows=rows))
    assert engine.prove()
    refused(engine, "does not go from backward straight to average")


class Mine(Enum):
    SKIP_FORWARD = "skip_forward"
    STOP_SOON = "stop_soon"


def with_row_before(row: Transition, source: State) -> Machine:
    """TRAINING with one more row, before those of a state."""
    at = next(index for index, other in enumerate(TRAINING.rows) if other.source is source)
    return changed(rows=[*TRAINING.rows[:at], row, *TRAINING.rows[at:]])


def test_a_machine_that_comes_to_a_step_from_elsewhere_is_refused() -> None:
    row = Transition(State.BATCH, None, Mine.SKIP_FORWARD, State.LOSS, heard=(Event.LOSS_BEGIN,))
    refused(engine_of(machine=with_row_before(row, State.BATCH)), "comes to loss from batch, too")


def test_a_machine_that_can_stop_inside_is_refused() -> None:
    (like, *_) = TRAINING.rows_from(State.LOSS)
    engine = engine_of(machine=with_row_before(evolve(like, guard=Mine.STOP_SOON), State.LOSS))
    refused(engine, "run.stop answers stop_soon")


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "fused=True": lambda model: sgd(model, fused=False),
    "capturable=True": lambda model: optim.Adam(model.parameters(), lr=torch.tensor(0.1)),
    "Adagrad": lambda model: optim.Adagrad(model.parameters(), fused=True),
    "LBFGS": lambda model: optim.LBFGS(model.parameters()),
    "lr is 0.1": lambda model: sgd(model, lr=0.1),
    "torch.tensor(0.1, device='cpu')": lambda model: sgd(model, lr=0.1),
}


@pytest.mark.parametrize("phrase", OPTIMIZERS)
def test_an_optimizer_whose_step_cannot_be_captured_is_refused(phrase: str) -> None:
    model = small_model()
    refused(engine_of(model=model, optimizer=OPTIMIZERS[phrase](model)), phrase, kind=OptimizerRefused)


def test_an_lr_that_lies_elsewhere_than_the_parameters_is_refused() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1, device="meta"))], lr=torch.tensor(0.25), fused=True)
    with refuses(OptimizerRefused, "lr is tensor(0.2500)", "lr=torch.tensor(0.25, device='meta')"):
        check_capture(TRAINING, {}, (), nn.Linear(1, 1), optimizer)


def test_a_model_that_is_not_on_a_gpu_is_refused() -> None:
    model = small_model()
    refused(Engine(model, nn.MSELoss(), sgd(model), capture=True), "the model is on cpu", "for a model on cuda")


def test_the_events_and_guards_inside_are_those_that_the_table_has_there() -> None:
    inside = Inside.of(TRAINING)
    assert inside.events == NO_EVENT
    assert tuple(dict.fromkeys(inside.guards)) == NO_GUARD
