"""Is what could never run refused when the engine is made?  Actions of one's own, and machines that miss a count."""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest
from attrs import evolve, exceptions
from torch import Tensor, nn, optim

from engine import Action, Engine, Outcome, Run, loss_from, output_from
from engine.errors import ArgumentRefused, LoaderRefused, OptimizerRefused
from states import EVALUATION, PREDICTION, TRAINING, Counter, Event, Guard, Machine, State, Transition, Trigger
from states.errors import MachineRefused, StateloopError
from tests.engine.tools import (
    Recorder,
    answers,
    batches,
    nothing_changes,
    refuses,
    same,
    small_engine,
    small_model,
    weights_of,
)


def changed(**parts: Any) -> Machine:
    """TRAINING with other parts."""
    whole = {name: getattr(TRAINING, name) for name in ("initial", "finals", "rows", "counts", "holds")}
    return Machine(**{"name": "changed", **whole, **parts})


@pytest.mark.parametrize("given", [3, None, Action(None, (Trigger.OUTPUT_READY,)), lambda: None], ids=repr)
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


def own_fetch(run: Run) -> Enum:
    """Draws by itself, and knows nothing of max_updates."""
    run.iterator = iter(run.loader) if run.iterator is None else run.iterator
    batch = next(run.iterator, None)
    if batch is None:
        return Trigger.LOADER_DRY
    run.inputs, run.targets = batch
    return Trigger.BATCH_READY


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


def test_an_optimizer_with_a_closure_needs_the_states_that_it_evaluates_anew() -> None:
    rows = (
        Transition(State.IDLE, Trigger.FIT_ASKED, None, State.STEP, (Event.TRAIN_BEGIN,)),
        Transition(State.STEP, Trigger.WEIGHTS_MOVED, Guard.STOP_TRAINING, State.DONE, (Event.TRAIN_END,)),
        Transition(State.STEP, Trigger.WEIGHTS_MOVED, None, State.STEP),
    )
    machine = Machine(name="steps", initial=State.IDLE, finals=(State.DONE,), rows=rows)
    model = small_model()
    with refuses(ArgumentRefused, "the machine 'steps' has no forward, loss, backward"):
        Engine(model, nn.MSELoss(), optim.LBFGS(model.parameters()), machine=machine)


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


def test_machines_held_at_any_depth_run_and_die_with_those_around_them() -> None:
    """A validation that holds a validation of its own: each with a run of its own, on the same loader."""
    middle = Machine(
        name="middle",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=(
            Transition(State.IDLE, Trigger.EVALUATION_ASKED, None, State.VALIDATE),
            Transition(State.VALIDATE, Trigger.VALIDATED, None, State.DONE),
            Transition(State.VALIDATE, Trigger.VALIDATION_STOPPED, None, State.DONE),
        ),
        holds={State.VALIDATE: EVALUATION},
        gradients=False,
    )
    depths: list[int] = []

    def depth(run: Run) -> int:
        return 0 if run.parent is None else 1 + depth(run.parent)

    for checked in (False, True):
        engine = small_engine(machine=changed(holds={State.VALIDATE: middle}), checked=checked)
        engine.on("validate_end")(lambda run: depths.append(depth(run)))
        run = engine.fit(batches(1), batches(2), epochs=2)
        assert (run.outcome, run.history[-1]["valid_loss"] > 0) == (Outcome.COMPLETED, True)
    assert depths == [2, 2, 2, 2]


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


# --- Validations in other places, and machines that need less ---------------------------------------------------------


class Mid(Enum):
    """A validation after each batch."""

    PROBE = "probe"
    LOOK = "look"
    DUE = "due"
    NOT_DUE = "not_due"
    SKIP_PROBE = "skip_probe"
    PROBE_BEGIN = "probe_begin"
    PROBE_END = "probe_end"


def probing(*before: Transition, **more: Any) -> Machine:
    """A training that evaluates in the middle of each epoch, behind other rows."""
    to = before[0].source if before else Mid.PROBE
    rows = [evolve(row, dest=to) if row.source is State.ZERO_GRAD else row for row in TRAINING.rows]
    rows = [evolve(row, heard=()) if row.source is State.ZERO_GRAD else row for row in rows]
    ends = (Event.BATCH_END, Event.EPOCH_END)
    back = [
        Transition(Mid.PROBE, Trigger.VALIDATED, None, State.EPOCH, (Event.BATCH_END,)),
        Transition(Mid.PROBE, Trigger.VALIDATION_STOPPED, None, State.STOPPING, ends),
    ]
    return changed(rows=[*rows, *before, *back], **{"holds": {**TRAINING.holds, Mid.PROBE: EVALUATION}, **more})


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
def test_an_evaluation_in_the_middle_of_an_epoch_returns_to_the_batch_loop(checked: bool) -> None:
    """With its own loader, batch by batch, in training mode again; the weights are those of a training without."""
    recorder, modes = Recorder(), list[bool]()
    engine = small_engine(recorder, machine=probing(), checked=checked)
    engine.on("batch_begin")(lambda run: modes.append(run.model.training))
    run = engine.fit(batches(3), batches(2), epochs=2)
    plain = small_engine()
    plain.fit(batches(3), epochs=2)
    assert same(weights_of(engine.model), weights_of(plain.model))
    assert (run.updates, modes, recorder.events.count("validate_begin")) == (6, [True] * 6, 2 * (3 + 1))
    assert [set(record) for record in run.history] == [{"epoch", "updates", "train_loss", "valid_loss"}] * 2


def test_a_stop_in_the_middle_is_heard_and_recorded_once() -> None:
    recorder = Recorder()
    engine = small_engine(recorder, machine=probing())
    engine.on("validate_batch_end", once=3)(lambda run: run.stop("seen enough"))
    run = engine.fit(batches(3), batches(2), epochs=2)
    assert (run.outcome, run.batches_done, len(run.stops)) == (Outcome.STOPPED, 2, 1)
    assert recorder.events[-5:] == ["stop", "validate_end", "batch_end", "epoch_end", "train_end"]


def test_a_validation_in_the_middle_without_a_loader_is_refused_before_the_first_batch() -> None:
    engine = small_engine(machine=probing())
    with nothing_changes(engine.model, engine.optimizer), refuses(ArgumentRefused, "comes to probe in any case"):
        engine.fit(batches(1))
    assert engine.last_run is None


def test_what_leads_to_a_validation_may_look_for_its_loader_itself() -> None:
    """An action that reports one or the other is trusted, and refused where it leads there all the same."""
    due = (
        Transition(Mid.LOOK, Mid.DUE, None, Mid.PROBE),
        Transition(Mid.LOOK, Mid.NOT_DUE, None, State.EPOCH, (Event.BATCH_END,)),
    )
    look = Action(lambda run: Mid.NOT_DUE if run.valid_loader is None else Mid.DUE, (Mid.DUE, Mid.NOT_DUE))
    engine = small_engine(machine=probing(*due), actions={Mid.LOOK: look})
    assert engine.fit(batches(2)).updates == 2
    assert engine.fit(batches(2), batches(1)).updates == 2
    blind = small_engine(machine=probing(*due), actions={Mid.LOOK: Action(lambda run: Mid.DUE, (Mid.DUE, Mid.NOT_DUE))})
    with refuses(LoaderRefused, "valid_loader is None, and changed is in probe (epoch 0, batch 0, update 1)"):
        blind.fit(batches(2))


def own_evaluation() -> Machine:
    """EVALUATION with a begin and an end of its own."""
    own = {Event.VALIDATE_BEGIN: Mid.PROBE_BEGIN, Event.VALIDATE_END: Mid.PROBE_END}
    rows = [evolve(row, heard=tuple(own.get(event, event) for event in row.heard)) for row in EVALUATION.rows]
    renamed = {event: own.get(event, event) for event in EVALUATION.events}
    counts = [evolve(count, what=renamed[count.what]) for count in EVALUATION.counts]
    return evolve(EVALUATION, name="own", rows=rows, counts=counts)


def test_evaluate_runs_the_machine_that_is_held_wherever_it_is_held() -> None:
    """Also one with a begin of its own: its means are nobody's, and that is no error."""
    place = {State.VALIDATE: Mid.PROBE}
    rows = [
        evolve(row, source=place.get(row.source, row.source), dest=place.get(row.dest, row.dest))
        for row in TRAINING.rows
    ]
    heard: list[str] = []
    engine = small_engine(machine=changed(rows=rows, holds={Mid.PROBE: own_evaluation()}))
    engine.on("probe_end")(lambda run: heard.append(run.machine.name))
    assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED
    assert engine.fit(batches(1), batches(1)).outcome is Outcome.COMPLETED
    assert heard == ["own", "own"]


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
    more = Transition(State.FETCH, Mid.NOT_DUE, None, State.EPOCH)
    reports = (Trigger.BATCH_READY, Trigger.LOADER_DRY, Trigger.UPDATES_SPENT, Mid.NOT_DUE)
    fetch = {State.FETCH: Action(own_fetch, reports)}
    engine = small_engine(machine=changed(rows=[*TRAINING.rows, more]), actions=fetch)
    assert engine.fit(batches(2), batches(1)).updates == 2
    with pytest.raises(MachineRefused, match="the action of fetch may report not_due; no row takes it"):
        small_engine(actions=fetch)
    held = evolve(EVALUATION, rows=[*EVALUATION.rows, Transition(State.FETCH, Mid.NOT_DUE, None, State.EVALUATE)])
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


def test_evaluate_never_trains_whatever_is_held() -> None:
    """A machine of phases holds a training: what is evaluated is not that."""
    rows = (
        Transition(State.IDLE, Trigger.FIT_ASKED, None, Mid.PROBE),
        Transition(Mid.PROBE, Trigger.VALIDATED, None, State.DONE),
        Transition(Mid.PROBE, Trigger.VALIDATION_STOPPED, None, State.DONE),
    )
    machine = Machine(name="phases", initial=State.IDLE, finals=(State.DONE,), rows=rows, holds={Mid.PROBE: TRAINING})
    engine = small_engine(machine=machine)
    before = weights_of(engine.model)
    assert list(engine.evaluate(batches(2)).metrics) == ["valid_loss"]
    assert same(before, weights_of(engine.model))


def gated() -> Machine:
    """A validation after each batch, unless a guard leads round it."""
    gate = (
        Transition(Mid.LOOK, None, Mid.SKIP_PROBE, State.EPOCH, (Event.BATCH_END,)),
        Transition(Mid.LOOK, None, None, Mid.PROBE),
    )
    return probing(*gate)


def test_a_guard_may_lead_round_a_validation_that_has_no_loader() -> None:
    """Nobody else does: without one who answers it, the run would come there in any case."""
    with refuses(ArgumentRefused, "comes to probe in any case"):
        small_engine(machine=gated()).fit(batches(2))
    engine = small_engine(answers("skip_probe", lambda run: run.valid_loader is None), machine=gated())
    assert engine.fit(batches(2)).updates == 2
    own = small_engine(machine=gated(), actions={Mid.PROBE: Action(lambda run: Trigger.VALIDATED, REPORTS_OF_HELD)})
    assert own.fit(batches(2)).updates == 2


REPORTS_OF_HELD = (Trigger.VALIDATED, Trigger.VALIDATION_STOPPED)


def test_a_validation_behind_a_stop_or_a_last_update_may_never_come() -> None:
    """Its machine does not ask to stop the run: it would be stopped at once.  Without a loader, it is not asked for."""
    calm = [row for row in EVALUATION.rows if State.STOPPING not in (row.source, row.dest)]
    calm_evaluation = evolve(EVALUATION, name="calm", rows=calm)
    rows = [
        evolve(row, dest=Mid.PROBE, heard=(Event.STOP,))
        if row.source is State.EPOCH and row.guard is Guard.STOP_TRAINING
        else row
        for row in TRAINING.rows
    ]
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATED, None, State.STOPPING, (Event.EPOCH_END,)))
    machine = changed(rows=rows, holds={**TRAINING.holds, Mid.PROBE: calm_evaluation})
    assert small_engine(machine=machine).fit(batches(2)).outcome is Outcome.COMPLETED
    recorder = Recorder()
    engine = small_engine(recorder, machine=machine)
    engine.on("batch_end", once=2)(lambda run: run.stop("enough"))
    run = engine.fit(batches(4), batches(2), epochs=2)
    assert (run.outcome, len(run.stops), recorder.events.count("validate_batch_end")) == (Outcome.STOPPED, 1, 2)
    assert recorder.events[-3:] == ["validate_end", "epoch_end", "train_end"]
    assert recorder.events.count("stop") == 1


def last_probe(trigger: Trigger) -> Machine:
    """A training that validates once, where its loader is left for this reason."""
    rows = [evolve(row, dest=Mid.PROBE) if row.trigger is trigger else row for row in TRAINING.rows]
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATED, None, State.WINDOW))
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATION_STOPPED, None, State.STOPPING, (Event.EPOCH_END,)))
    return changed(rows=rows, holds={**TRAINING.holds, Mid.PROBE: EVALUATION})


def test_a_validation_that_may_never_come_needs_no_loader() -> None:
    """Behind updates that are never spent; where a fetch of the user's own decides whether the loader is left."""
    assert small_engine(machine=last_probe(Trigger.UPDATES_SPENT)).fit(batches(2)).updates == 2
    with refuses(ArgumentRefused, "comes to probe in any case"):
        small_engine(machine=last_probe(Trigger.LOADER_DRY)).fit(batches(2))
    reports = (Trigger.BATCH_READY, Trigger.LOADER_DRY, Trigger.UPDATES_SPENT)
    own = small_engine(machine=last_probe(Trigger.LOADER_DRY), actions={State.FETCH: Action(own_fetch, reports)})
    with refuses(LoaderRefused, "valid_loader is None, and changed is in probe"):
        own.fit(batches(2))


def test_a_validation_that_ran_to_its_end_says_so_also_behind_a_stop() -> None:
    """Whether it was stopped is what was granted in there, not what was before."""
    calm = [row for row in EVALUATION.rows if State.STOPPING not in (row.source, row.dest)]
    rows = [
        evolve(row, dest=Mid.PROBE, heard=(Event.STOP,))
        if row.source is State.EPOCH and row.guard is Guard.STOP_TRAINING
        else row
        for row in TRAINING.rows
    ]
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATED, None, State.STOPPING, (Event.EPOCH_END,)))
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATION_STOPPED, None, State.STOPPING, (Event.EPOCH_END,)))
    machine = changed(rows=rows, holds={**TRAINING.holds, Mid.PROBE: evolve(EVALUATION, name="calm", rows=calm)})
    engine = small_engine(machine=machine)
    engine.on("batch_end", once=1)(lambda run: run.stop("enough"))
    run = engine.fit(batches(2), batches(2))
    assert str(run.recent[-2]) == "probe validated -> stopping: epoch_end"
    listed = engine.dry_run(1, 2, 2, answers={"stop_training": [2]}).lines
    assert "probe validated -> stopping: epoch_end" in {line.transition for line in listed}


def test_a_stop_two_machines_down_is_listed_as_it_happens() -> None:
    between = Machine(
        name="between",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=(
            Transition(State.IDLE, Trigger.EVALUATION_ASKED, None, State.VALIDATE),
            Transition(State.VALIDATE, Trigger.VALIDATED, None, State.DONE),
            Transition(State.VALIDATE, Trigger.VALIDATION_STOPPED, None, State.DONE),
        ),
        holds={State.VALIDATE: EVALUATION},
        gradients=False,
    )
    recorder = Recorder()
    stop = answers("stop_training", lambda run: run.parent is not None and run.batch_index == 1)
    engine = small_engine(recorder, stop, machine=changed(holds={State.VALIDATE: between}))
    assert engine.fit(batches(1), batches(3), epochs=2).outcome is Outcome.STOPPED
    listed = engine.dry_run(2, 1, 3, answers={"stop_training": [5]}).calls()
    assert [event for event, who in listed if who == "Recorder"] == recorder.events
    assert engine.evaluate(batches(3)).outcome is Outcome.COMPLETED


def test_a_stop_of_the_epoch_is_none_of_the_run_where_there_is_one_epoch_only() -> None:
    """A machine without a loop around its epochs: the rest of its one epoch is done and recorded as ever."""
    rows = []
    for row in TRAINING.rows:
        if row.source is State.IDLE:
            rows.append(evolve(row, dest=State.EPOCH, heard=(Event.TRAIN_BEGIN, Event.EPOCH_BEGIN)))
        elif row.source is not State.TRAIN:
            rows.append(evolve(row, dest=State.STOPPING) if row.dest is State.TRAIN else row)
    engine = small_engine(answers("stop_epoch", lambda run: run.batch_index == 1), machine=changed(rows=rows))
    run = engine.fit(batches(3), batches(2))
    assert (run.outcome, run.batches_done, len(run.history)) == (Outcome.COMPLETED, 1, 1)
    assert str(run.recent[-2]) == "validate validated -> stopping: epoch_end"


def test_a_prediction_that_is_held_is_stopped_alone() -> None:
    """`stop_predict` ends this prediction, `run.stop` in there the whole run."""
    rows = [evolve(row, dest=Mid.PROBE) if row.dest is State.VALIDATE else row for row in TRAINING.rows]
    rows = [row for row in rows if row.source is not State.VALIDATE]
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATED, None, State.TRAIN, (Event.EPOCH_END,)))
    quiet = [evolve(row, dest=State.DONE, heard=(Event.PREDICT_END,)) if row.guard else row for row in PREDICTION.rows]
    quiet = [row for row in quiet if row.source is not State.STOPPING]
    with pytest.raises(MachineRefused, match=r"predict \[stop_predict\] -> stopping: stop is no stop of the whole run"):
        changed(rows=rows, holds={Mid.PROBE: PREDICTION})
    machine = changed(rows=rows, holds={Mid.PROBE: evolve(PREDICTION, name="quiet", rows=quiet)})
    guarded = small_engine(answers("stop_predict", lambda run: run.batch_index == 1), machine=machine)
    run = guarded.fit(batches(2), batches(3), epochs=3)
    assert (run.outcome, run.epoch, len(run.stops), len(run.history)) == (Outcome.COMPLETED, 3, 3, 3)
    asked = small_engine(machine=machine)
    asked.on("predict_batch_end", once=1)(lambda run: run.stop("enough"))
    run = asked.fit(batches(2), batches(3), epochs=3)
    assert (run.outcome, run.epoch, run.stops[-1].guard) == (Outcome.STOPPED, 1, Guard.STOP_TRAINING)


class Odd(Enum):
    """A guard with a name that pytransitions uses itself."""

    STATE = "state"


def test_a_guard_that_is_called_as_pytransitions_calls_a_state_is_refused_before_the_run() -> None:
    rows = [evolve(row, guard=Odd.STATE) if row.guard is Guard.SKIP_BATCH else row for row in TRAINING.rows]
    engine = small_engine(answers("state", lambda run: True), machine=changed(rows=rows), checked=True)
    with nothing_changes(engine.model, engine.optimizer), pytest.raises(StateloopError, match=r"the guard Odd\.STATE"):
        engine.fit(batches(1))
    assert small_engine(answers("state", lambda run: True), machine=engine.machine).fit(batches(1)).updates == 0
