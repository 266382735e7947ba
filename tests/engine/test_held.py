"""Do machines that states hold run as they should, wherever they are held, and who stops whom?"""

from enum import Enum
from typing import Any

import pytest
from attrs import evolve

from engine import Action, Outcome, Run
from engine.errors import ArgumentRefused, LoaderRefused
from states import EVALUATION, PREDICTION, TRAINING, Event, Guard, Machine, State, Transition, Trigger
from states.errors import MachineRefused
from tests.engine.tools import (
    Recorder,
    answers,
    batches,
    changed,
    nothing_changes,
    own_fetch,
    refuses,
    same,
    small_engine,
    weights_of,
)
from tests.states.between import BETWEEN


def test_machines_held_at_any_depth_run_and_die_with_those_around_them() -> None:
    """A validation that holds a validation of its own: each with a run of its own, on the same loader."""
    depths: list[int] = []

    def depth(run: Run) -> int:
        return 0 if run.parent is None else 1 + depth(run.parent)

    for checked in (False, True):
        engine = small_engine(machine=changed(holds={State.VALIDATE: BETWEEN}), checked=checked)
        engine.on("validate_end")(lambda run: depths.append(depth(run)))
        run = engine.fit(batches(1), batches(2), epochs=2)
        assert (run.outcome, run.history[-1]["valid_loss"] > 0) == (Outcome.COMPLETED, True)
    assert depths == [2, 2, 2, 2]


# --- In the middle of an epoch ----------------------------------------------------------------------------------------


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


# --- Without a loader -------------------------------------------------------------------------------------------------


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


def gated() -> Machine:
    """A validation after each batch, unless a guard leads round it."""
    gate = (
        Transition(Mid.LOOK, None, Mid.SKIP_PROBE, State.EPOCH, (Event.BATCH_END,)),
        Transition(Mid.LOOK, None, None, Mid.PROBE),
    )
    return probing(*gate)


REPORTS_OF_HELD = (Trigger.VALIDATED, Trigger.VALIDATION_STOPPED)


def test_a_guard_may_lead_round_a_validation_that_has_no_loader() -> None:
    """Nobody else does: without one who answers it, the run would come there in any case."""
    with refuses(ArgumentRefused, "comes to probe in any case"):
        small_engine(machine=gated()).fit(batches(2))
    engine = small_engine(answers("skip_probe", lambda run: run.valid_loader is None), machine=gated())
    assert engine.fit(batches(2)).updates == 2
    own = small_engine(machine=gated(), actions={Mid.PROBE: Action(lambda run: Trigger.VALIDATED, REPORTS_OF_HELD)})
    assert own.fit(batches(2)).updates == 2


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


# --- Evaluated alone --------------------------------------------------------------------------------------------------


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


# --- Stops ------------------------------------------------------------------------------------------------------------


def last_validation(*more: Transition) -> Machine:
    """A training that validates once more behind a stop, by a machine that does not ask for one: it would stop too."""
    calm = [row for row in EVALUATION.rows if State.STOPPING not in (row.source, row.dest)]
    rows = [
        evolve(row, dest=Mid.PROBE, heard=(Event.STOP,))
        if row.source is State.EPOCH and row.guard is Guard.STOP_TRAINING
        else row
        for row in TRAINING.rows
    ]
    rows.append(Transition(Mid.PROBE, Trigger.VALIDATED, None, State.STOPPING, (Event.EPOCH_END,)))
    held = {**TRAINING.holds, Mid.PROBE: evolve(EVALUATION, name="calm", rows=calm)}
    return changed(rows=[*rows, *more], holds=held)


def test_a_validation_behind_a_stop_runs_to_its_end_and_may_never_come() -> None:
    """Without a loader, it is not asked for."""
    machine = last_validation()
    assert small_engine(machine=machine).fit(batches(2)).outcome is Outcome.COMPLETED
    recorder = Recorder()
    engine = small_engine(recorder, machine=machine)
    engine.on("batch_end", once=2)(lambda run: run.stop("enough"))
    run = engine.fit(batches(4), batches(2), epochs=2)
    assert (run.outcome, len(run.stops), recorder.events.count("validate_batch_end")) == (Outcome.STOPPED, 1, 2)
    assert recorder.events[-3:] == ["validate_end", "epoch_end", "train_end"]
    assert recorder.events.count("stop") == 1


def test_a_validation_that_ran_to_its_end_says_so_also_behind_a_stop() -> None:
    """Whether it was stopped is what was granted in there, not what was before."""
    stopped = Transition(Mid.PROBE, Trigger.VALIDATION_STOPPED, None, State.STOPPING, (Event.EPOCH_END,))
    engine = small_engine(machine=last_validation(stopped))
    engine.on("batch_end", once=1)(lambda run: run.stop("enough"))
    run = engine.fit(batches(2), batches(2))
    assert str(run.recent[-2]) == "probe validated -> stopping: epoch_end"
    listed = engine.dry_run(1, 2, 2, answers={"stop_training": [2]}).lines
    assert "probe validated -> stopping: epoch_end" in {line.transition for line in listed}


def test_a_stop_two_machines_down_is_listed_as_it_happens() -> None:
    recorder = Recorder()
    stop = answers("stop_training", lambda run: run.parent is not None and run.batch_index == 1)
    engine = small_engine(recorder, stop, machine=changed(holds={State.VALIDATE: BETWEEN}))
    assert engine.fit(batches(1), batches(3), epochs=2).outcome is Outcome.STOPPED
    listed = engine.dry_run(2, 1, 3, answers={"stop_training": [5]}).calls()
    assert [event for event, who in listed if who == "Recorder#2"] == recorder.events
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
