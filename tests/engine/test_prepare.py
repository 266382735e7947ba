"""Is what could never run refused when the engine is made?  Actions of one's own, and machines that miss a count."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from attrs import evolve, exceptions
from torch import Tensor, nn, optim

from engine import Action, Engine, Outcome, Run, loss_from, output_from
from engine.errors import ArgumentRefused, OptimizerRefused
from states import EVALUATION, TRAINING, Counter, Event, Guard, Machine, State, Transition, Trigger
from states.errors import MachineRefused, StateloopError, TriggerRefused
from tests.engine.tools import (
    answers,
    batches,
    changed,
    nothing_changes,
    own_fetch,
    refuses,
    same,
    small_engine,
    small_model,
    weights_of,
)


@pytest.mark.parametrize(
    "given",
    [3, None, Action(None, (Trigger.OUTPUT_READY,)), lambda: None],
    ids=["a number", "nothing", "an action of nothing", "a function of nothing"],
)
def test_an_action_that_cannot_be_called_with_a_run_is_refused_when_the_engine_is_made(given: object) -> None:
    with refuses(ArgumentRefused, "actions[State.FORWARD] cannot be called with a run alone", "output_from"):
        small_engine(actions={State.FORWARD: given})


@pytest.mark.parametrize("given", [None, "output", lambda output, targets: output])
@pytest.mark.parametrize("make", [output_from, loss_from])
def test_what_cannot_compute_from_a_run_is_refused_where_it_is_written(
    make: Callable[[Any], Action], given: Any
) -> None:
    with refuses(ArgumentRefused, f"{make.__name__} cannot be called with a run alone", "lambda run: ..."):
        make(given)


def test_actions_that_are_no_dict_are_refused() -> None:
    with refuses(ArgumentRefused, "actions is a list", "a dict of states and actions"):
        small_engine(actions=[State.FORWARD])


@pytest.mark.parametrize("counter", [Counter.EPOCH, Counter.BATCH_INDEX, Counter.WINDOW])
def test_a_machine_that_does_not_count_what_our_actions_look_at_is_refused(counter: Counter) -> None:
    """Without `epoch` a training would never end; without `batch_index` a full loader would be called empty."""
    machine = changed(counts=[count for count in TRAINING.counts if count.counter is not counter])
    with refuses(
        ArgumentRefused, f"looks at run.{counter.value}", "never moves that counter", "counts=TRAINING.counts"
    ):
        small_engine(machine=machine)


def test_a_held_machine_that_does_not_count_is_refused_too() -> None:
    held = Machine(
        name="held",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=EVALUATION.rows,
        gradients=False,
    )
    with refuses(ArgumentRefused, "the machine 'held' never moves that counter"):
        small_engine(machine=changed(holds={State.VALIDATE: held}))


def test_a_machine_that_always_validates_needs_a_loader_for_it() -> None:
    rows = [row for row in TRAINING.rows if row.trigger is not Trigger.NO_VALIDATION]
    machine = changed(rows=rows)
    close = Action(lambda run: Trigger.VALIDATION_DUE, (Trigger.VALIDATION_DUE,))
    engine = small_engine(machine=machine, actions={State.CLOSE: close})
    with nothing_changes(engine.model, engine.optimizer), refuses(ArgumentRefused, "comes to validate in any case"):
        engine.fit(batches(1))
    assert engine.fit(batches(1), batches(1)).outcome is Outcome.COMPLETED


def test_max_updates_are_refused_where_a_fetch_of_ones_own_would_not_see_them() -> None:
    engine = small_engine(actions={State.FETCH: own_fetch})
    assert engine.fit(batches(4), epochs=2).updates == 8
    for call in (lambda: engine.fit(batches(4), max_updates=2), lambda: engine.dry_run(max_updates=2)):
        with refuses(ArgumentRefused, "the action of fetch is a function of your own", "Trigger.UPDATES_SPENT))}"):
            call()

    def limited(run: Run) -> Enum:
        return Trigger.UPDATES_SPENT if run.updates >= run.max_updates else own_fetch(run)

    reports = (Trigger.BATCH_READY, Trigger.LOADER_DRY, Trigger.UPDATES_SPENT)
    engine = small_engine(actions={State.FETCH: Action(limited, reports)})
    assert engine.fit(batches(4), epochs=2, max_updates=2).updates == 2


class Probe(Enum):
    PROBE = "probe"
    GO = "go"


def test_max_updates_are_refused_where_another_state_alone_takes_that_they_are_spent() -> None:
    """The engine's own fetch would report it all the same, and nothing would follow from that."""
    spent = next(row for row in TRAINING.rows if row.trigger is Trigger.UPDATES_SPENT)
    rows = [
        evolve(row, dest=Probe.PROBE) if row.dest is State.FETCH else row for row in TRAINING.rows if row is not spent
    ]
    rows += [Transition(Probe.PROBE, Probe.GO, None, State.FETCH), evolve(spent, source=Probe.PROBE)]
    probe = Action(lambda run: Probe.GO, (Probe.GO, Trigger.UPDATES_SPENT))
    for checked in (False, True):
        engine = small_engine(machine=changed(rows=rows), actions={Probe.PROBE: probe}, checked=checked)
        assert engine.fit(batches(3)).updates == 3
        with refuses(ArgumentRefused, "has no row for updates_spent in fetch"):
            engine.fit(batches(4), max_updates=2)


def test_a_sure_action_of_a_user_is_looked_at_where_a_machine_takes_less_than_it_reports() -> None:
    """In a validation no row takes `updates_spent`."""
    reports = (Trigger.BATCH_READY, Trigger.LOADER_DRY, Trigger.UPDATES_SPENT)
    spent = Action(lambda run: Trigger.UPDATES_SPENT if run.parent else own_fetch(run), reports, sure=True)
    for checked in (False, True):
        engine = small_engine(actions={State.FETCH: spent}, checked=checked)
        with pytest.raises(TriggerRefused, match="the action of fetch reported updates_spent"):
            engine.fit(batches(2), batches(1))


@pytest.mark.parametrize(("name", "value"), [("machine", EVALUATION), ("actions", {}), ("metrics", {})])
def test_what_was_checked_together_cannot_be_put_asunder(name: str, value: object) -> None:
    with pytest.raises(exceptions.FrozenAttributeError):
        setattr(small_engine(), name, value)


def test_metrics_and_actions_are_those_that_were_given_and_no_others() -> None:
    given = {"size": lambda output, targets: output.sum()}
    engine = small_engine(metrics=given)
    given["late"] = given["size"]
    assert list(engine.metrics) == ["size"]
    with pytest.raises(TypeError):
        engine.metrics["late"] = given["size"]


class Mine(Enum):
    """Words of a machine of one's own."""

    STOP_NEVER = "stop_never"
    COIN = "coin"
    HEADS = "heads"
    TAILS = "tails"


def test_a_dry_run_can_be_told_what_a_state_of_ones_own_reports() -> None:
    rows = [
        *(evolve(row, dest=Mine.COIN) if row.source is State.ZERO_GRAD else row for row in TRAINING.rows),
        Transition(Mine.COIN, Mine.HEADS, None, State.EPOCH),
        Transition(Mine.COIN, Mine.TAILS, None, State.EPOCH),
    ]
    toss = Action(lambda run: Mine.HEADS, (Mine.HEADS, Mine.TAILS))
    engine = small_engine(machine=changed(rows=rows), actions={Mine.COIN: toss})
    with pytest.raises(StateloopError, match="coin can report several triggers"):
        engine.dry_run()
    lines = engine.dry_run(reports={Mine.COIN: lambda counters: Mine.TAILS}).lines
    assert lines[-1].word is Event.TRAIN_END


def test_a_diagram_can_be_that_of_a_held_machine_with_those_who_hear_it() -> None:
    engine = small_engine()
    engine.on("validate_end")(hear_it)
    assert "hear_it" not in engine.diagram("mermaid")
    assert "hear_it" in engine.diagram("mermaid", machine=EVALUATION)


def hear_it(run: Run) -> None:
    """Hears something."""


def test_the_first_action_can_be_replaced_and_validations_are_prepared_as_ever() -> None:
    """A model that trains in evaluation mode; each module's own mode is put back all the same."""
    modes: list[tuple[str, bool]] = []

    def prepare(run: Run) -> Enum:
        run.model.eval()
        run.model.zero_grad()
        return Trigger.FIT_ASKED

    model = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
    model[0].eval()
    before = [module.training for module in model.modules()]
    engine = small_engine(model=model, actions={State.IDLE: prepare})
    for event in ("batch_begin", "validate_batch_begin"):
        engine.on(event)(lambda run, event=event: modes.append((event, run.model.training)))
    run = engine.fit(batches(1), batches(1))
    assert run.outcome is Outcome.COMPLETED
    assert modes == [("batch_begin", False), ("validate_batch_begin", False)]
    assert [module.training for module in model.modules()] == before
    assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED


def test_a_loss_that_was_given_no_targets_is_explained() -> None:
    """A batch that is no pair, a forward of one's own for it, and the loss as ever: the error says what is missing."""
    engine = small_engine(actions={State.FORWARD: output_from(lambda run: run.model(run.inputs["x"]))})
    with pytest.raises(AttributeError) as raised:
        engine.fit([{"x": batches(1)[0][0]}])
    assert "the batch was no pair, so the loss function was given None for targets" in raised.value.__notes__[0]
    assert "loss_from(lambda run: ...)" in raised.value.__notes__[0]


@pytest.mark.parametrize("name", ["", "__debug__", "class", "run", "\N{SNOWMAN}"])
def test_a_machine_of_any_name_runs(name: str) -> None:
    assert small_engine(machine=changed(name=name)).fit(batches(2)).updates == 2


def test_the_loop_can_be_shown_of_a_checked_engine_and_of_a_validation_as_it_runs_in_a_training() -> None:
    engine = small_engine(answers("stop_training", lambda run: False), checked=True)
    assert "while True:" in engine.source()
    assert "stop_training(run):  # asks Answers" in engine.source(EVALUATION)


def test_one_callback_has_one_tally_for_a_guard_that_two_rows_ask() -> None:
    engine = small_engine(answers("accumulate", lambda run: run.window < 2), answers("skip_step", lambda run: True))
    run = engine.fit(batches(5))
    counts = {tally.guard: (tally.count, tally.transition.source) for tally in run.skips}
    assert counts[Guard.SKIP_STEP] == (3, State.WINDOW)
    assert len(run.skips) == 2


# --- What a machine needs, and what it does not -----------------------------------------------------------------------


def test_what_no_action_of_a_machine_needs_is_not_asked_for() -> None:
    """A loss where no loss is computed, an optimizer where nothing is stepped."""
    rows = (
        Transition(State.IDLE, Trigger.FIT_ASKED, None, State.EPOCH, (Event.TRAIN_BEGIN,)),
        Transition(State.EPOCH, None, Guard.STOP_TRAINING, State.DONE, (Event.TRAIN_END,)),
        Transition(State.EPOCH, None, None, State.FETCH),
        Transition(State.FETCH, Trigger.BATCH_READY, None, State.FORWARD, (Event.BATCH_BEGIN,)),
        Transition(State.FETCH, Trigger.LOADER_DRY, None, State.DONE, (Event.TRAIN_END,)),
        Transition(State.FORWARD, Trigger.OUTPUT_READY, None, State.EPOCH, (Event.BATCH_END,)),
    )
    counts = [count for count in TRAINING.counts if count.what is Event.BATCH_END]
    machine = Machine(name="pass", initial=State.IDLE, finals=(State.DONE,), rows=rows, counts=counts)
    run = Engine(small_model(), machine=machine).fit(batches(3))
    assert (run.outcome, run.batch_index) == (Outcome.COMPLETED, 3)


def test_what_an_action_of_ones_own_reports_is_refused_where_no_machine_takes_it() -> None:
    """A fetch that can report what a training takes and a validation does not is that of both."""
    more = Transition(State.FETCH, Mine.TAILS, None, State.EPOCH)
    reports = (Trigger.BATCH_READY, Trigger.LOADER_DRY, Trigger.UPDATES_SPENT, Mine.TAILS)
    fetch = {State.FETCH: Action(own_fetch, reports)}
    engine = small_engine(machine=changed(rows=[*TRAINING.rows, more]), actions=fetch)
    assert engine.fit(batches(2), batches(1)).updates == 2
    with pytest.raises(MachineRefused, match="the action of fetch may report tails; no row takes it"):
        small_engine(actions=fetch)
    held = evolve(EVALUATION, rows=[*EVALUATION.rows, Transition(State.FETCH, Mine.TAILS, None, State.EVALUATE)])
    engine = small_engine(machine=changed(holds={State.VALIDATE: held}), actions=fetch)
    assert engine.fit(batches(2), batches(1)).updates == 2


def test_callbacks_stop_a_fit_whatever_its_machine_records() -> None:
    """A machine without gradients is a training if `fit` runs it; a lone evaluation is none."""
    stop = answers("stop_training", lambda run: run.batch_index == 1)
    engine = Engine(small_model(), nn.MSELoss(), callbacks=[stop], machine=EVALUATION)
    assert (engine.fit(batches(3)).outcome, engine.last_run.batch_index) == (Outcome.STOPPED, 1)
    assert (engine.evaluate(batches(3)).outcome, engine.last_run.batch_index) == (Outcome.COMPLETED, 3)


def test_an_engine_that_is_given_no_optimizer_accumulates_as_one_that_is() -> None:
    """The user's actions step: what is averaged before are the gradients of the model."""

    def trained(given: bool) -> list[Tensor]:
        model = small_model()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(run: Run) -> Enum:
            optimizer.step()
            return Trigger.WEIGHTS_MOVED

        def clear(run: Run) -> Enum:
            optimizer.zero_grad()
            return Trigger.GRADS_CLEARED

        actions = {State.STEP: step, State.FLUSH: step, State.ZERO_GRAD: clear, State.CLEAR: clear}
        engine = Engine(model, nn.MSELoss(), optimizer if given else None, actions=actions)
        engine.guard("accumulate")(lambda run: run.window < 4)
        assert engine.fit(batches(6)).updates == 2
        return weights_of(model)

    assert same(trained(given=True), trained(given=False))


@pytest.mark.parametrize("left", [State.STEP, State.FLUSH, State.ZERO_GRAD, State.CLEAR])
def test_an_optimizer_is_asked_for_where_one_action_of_the_engines_own_is_left_that_needs_it(left: State) -> None:
    idle = {
        State.STEP: lambda run: Trigger.WEIGHTS_MOVED,
        State.FLUSH: lambda run: Trigger.WEIGHTS_MOVED,
        State.ZERO_GRAD: lambda run: Trigger.GRADS_CLEARED,
        State.CLEAR: lambda run: Trigger.GRADS_CLEARED,
    }
    del idle[left]
    with refuses(OptimizerRefused, "the optimizer is None"):
        Engine(small_model(), nn.MSELoss(), actions=idle).fit(batches(1))


def test_a_loss_is_asked_for_where_a_held_machine_will_compute_one() -> None:
    """A training that computes none, and a validation that does: it is held, and runs if there is a loader for it."""
    rows = (
        Transition(State.IDLE, Trigger.FIT_ASKED, None, State.CLOSE, (Event.TRAIN_BEGIN,)),
        Transition(State.CLOSE, Trigger.VALIDATION_DUE, None, State.VALIDATE),
        Transition(State.CLOSE, Trigger.NO_VALIDATION, None, State.DONE, (Event.TRAIN_END,)),
        Transition(State.VALIDATE, Trigger.VALIDATED, None, State.DONE, (Event.TRAIN_END,)),
        Transition(State.VALIDATE, Trigger.VALIDATION_STOPPED, None, State.DONE, (Event.TRAIN_END,)),
    )
    machine = Machine(name="once", initial=State.IDLE, finals=(State.DONE,), rows=rows, holds=TRAINING.holds)
    engine = Engine(small_model(), machine=machine)
    assert engine.fit(batches(1)).outcome is Outcome.COMPLETED
    with refuses(ArgumentRefused, "the engine has no loss function"):
        engine.fit(batches(1), batches(1))


class Odd(Enum):
    """A guard with a name that pytransitions uses itself."""

    STATE = "state"


def test_a_guard_that_is_called_as_pytransitions_calls_a_state_is_refused_before_the_run() -> None:
    rows = [evolve(row, guard=Odd.STATE) if row.guard is Guard.SKIP_BATCH else row for row in TRAINING.rows]
    engine = small_engine(answers("state", lambda run: True), machine=changed(rows=rows), checked=True)
    with nothing_changes(engine.model, engine.optimizer), pytest.raises(StateloopError, match=r"the guard Odd\.STATE"):
        engine.fit(batches(1))
    assert small_engine(answers("state", lambda run: True), machine=engine.machine).fit(batches(1)).updates == 0
