"""Are the built-in machines the ones that were meant?  What callbacks hear, told by example."""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import pytest
from attrs import evolve

from states import EVALUATION, PREDICTION, TRAINING, Counter, Event, Guard, Machine, State, Trigger
from states.grammar import accepts
from states.names import is_stop, name_of
from states.places import begun, moves
from states.walk import Plan, script, walk
from tests.states.strategies import BUILT_IN, SCALED, Judged


EVERY = [built_in.machine for built_in in BUILT_IN]
machines = pytest.mark.parametrize("machine", EVERY, ids=lambda machine: machine.name)

# Shorthands for what is heard in a batch.
SUMMED = "batch_begin forward_begin forward_end loss_begin loss_end backward_begin backward_end "
STEPPED = f"{SUMMED}step_begin step_end batch_end "
KEPT = f"{SUMMED}batch_end "
SEEN = "batch_begin forward_begin forward_end loss_begin loss_end batch_end "
SKIPPED = "batch_begin batch_end "
VALID = (
    "validate_batch_begin validate_forward_begin validate_forward_end validate_loss_begin validate_loss_end "
    "validate_batch_end "
)


def heard(machine: Machine, plan: Plan, yes: Mapping[str, Sequence[int]]) -> str:
    steps = walk(machine, plan, script(yes))
    return " ".join(name_of(event) for step in steps for event in step.row.events)


ONE, TWO = Plan(epochs=1, batches=1), Plan(epochs=1, batches=2)
ONE_VALID = Plan(epochs=1, batches=1, valid_batches=2)


@pytest.mark.parametrize(
    ("plan", "yes", "inside"),
    [
        pytest.param(Plan(epochs=0), {}, "", id="no epoch"),
        pytest.param(Plan(epochs=2, batches=0), {}, "epoch_begin epoch_end epoch_begin epoch_end", id="empty loader"),
        pytest.param(ONE, {}, f"epoch_begin {STEPPED} epoch_end", id="one batch"),
        pytest.param(ONE, {"skip_batch": [0]}, f"epoch_begin {SKIPPED} epoch_end", id="skipped batch"),
        pytest.param(ONE, {"skip_backward": [0]}, f"epoch_begin {SEEN} epoch_end", id="skipped backward"),
        pytest.param(ONE, {"skip_step": [0]}, f"epoch_begin {KEPT} epoch_end", id="dropped gradients are not flushed"),
        pytest.param(ONE, {"skip_zero_grad": [0]}, f"epoch_begin {STEPPED} epoch_end", id="kept gradients"),
        pytest.param(TWO, {"accumulate": [0]}, f"epoch_begin {KEPT} {STEPPED} epoch_end", id="accumulated"),
        pytest.param(
            TWO, {"accumulate": [1]}, f"epoch_begin {STEPPED} {KEPT} step_begin step_end epoch_end", id="flush"
        ),
        pytest.param(
            TWO,
            {"accumulate": [0], "stop_epoch": [1]},
            f"epoch_begin {KEPT} step_begin step_end epoch_end",
            id="a stopped epoch is flushed",
        ),
        pytest.param(
            TWO,
            {"accumulate": [0], "skip_batch": [1]},
            f"epoch_begin {KEPT} {SKIPPED} step_begin step_end epoch_end",
            id="a window waits over a skipped batch",
        ),
        pytest.param(
            TWO, {"accumulate": [0], "skip_step": [0]}, f"epoch_begin {KEPT} {KEPT} epoch_end", id="a window is dropped"
        ),
        pytest.param(ONE, {"stop_training": [0]}, "stop", id="stopped before the first epoch"),
        pytest.param(ONE, {"stop_training": [1]}, "epoch_begin stop epoch_end", id="stopped before the first batch"),
        pytest.param(
            TWO,
            {"accumulate": [0], "stop_training": [2]},
            f"epoch_begin {KEPT} stop epoch_end",
            id="a stopped training is not flushed",
        ),
        pytest.param(ONE, {"stop_epoch": [0]}, "epoch_begin epoch_end", id="an epoch stopped at once"),
        pytest.param(
            Plan(epochs=2, batches=1),
            {"stop_training": [3]},
            f"epoch_begin {STEPPED} epoch_end stop",
            id="between epochs",
        ),
        pytest.param(
            ONE_VALID,
            {},
            f"epoch_begin {STEPPED} validate_begin {VALID} {VALID} validate_end epoch_end",
            id="validation",
        ),
        pytest.param(ONE_VALID, {"skip_validate": [0]}, f"epoch_begin {STEPPED} epoch_end", id="skipped validation"),
        pytest.param(
            ONE_VALID, {"stop_training": [3]}, f"epoch_begin {STEPPED} stop epoch_end", id="stopped before validation"
        ),
        pytest.param(
            ONE_VALID,
            {"stop_training": [5]},
            f"epoch_begin {STEPPED} validate_begin {VALID} stop validate_end epoch_end",
            id="stopped in validation",
        ),
        pytest.param(
            evolve(ONE_VALID, epochs=2),
            {"stop_training": [7]},
            f"epoch_begin {STEPPED} validate_begin {VALID} {VALID} validate_end epoch_end stop",
            id="stopped after validation",
        ),
        pytest.param(
            ONE_VALID,
            {"stop_validate": [1]},
            f"epoch_begin {STEPPED} validate_begin {VALID} validate_end epoch_end",
            id="only the validation is stopped",
        ),
        pytest.param(
            Plan(epochs=9, batches=2, max_updates=3),
            {},
            f"epoch_begin {STEPPED} {STEPPED} epoch_end epoch_begin {STEPPED} epoch_end",
            id="updates spent in the middle of an epoch",
        ),
        pytest.param(Plan(epochs=9, max_updates=0), {}, "", id="no updates at all"),
    ],
)
def test_what_a_training_hears(plan: Plan, yes: Mapping[str, Sequence[int]], inside: str) -> None:
    trace = heard(TRAINING, plan, yes).split()
    assert trace == ["train_begin", *inside.split(), "train_end"]
    assert accepts(trace)


def test_what_an_evaluation_and_a_prediction_hear_alone() -> None:
    whole = f"validate_begin {VALID}{VALID}validate_end"
    assert heard(EVALUATION, Plan(batches=2), {}) == whole
    assert heard(EVALUATION, Plan(batches=3), {"stop_validate": [2]}) == whole
    assert heard(EVALUATION, Plan(batches=2), {"stop_training": [1]}) == f"validate_begin {VALID}stop validate_end"
    batch = "predict_batch_begin predict_forward_begin predict_forward_end predict_batch_end "
    assert heard(PREDICTION, Plan(batches=2), {}) == f"predict_begin {batch}{batch}predict_end"
    assert heard(PREDICTION, Plan(batches=2), {"stop_predict": [1]}) == f"predict_begin {batch}stop predict_end"


@machines
def test_every_scope_that_begins_ends_too(machine: Machine) -> None:
    sides = [name_of(event).rpartition("_") for event in machine.events]
    assert {scope for scope, _, side in sides if side == "begin"} == {
        scope for scope, _, side in sides if side == "end"
    }


@machines
def test_a_stop_of_the_run_is_heard_before_any_end_and_nothing_is_decided_after_it(machine: Machine) -> None:
    granted = [row for row in machine.rows if Event.STOP in row.events]
    assert granted
    for row in granted:
        assert row.heard[0] is Event.STOP
        assert row.dest is State.STOPPING
        assert row.guard is not None
        assert is_stop(row.guard)
    assert [row.guard for row in machine.rows_from(State.STOPPING)] == [None]


def test_every_row_that_stop_training_guards_grants_a_stop() -> None:
    for row in chain(TRAINING.rows, EVALUATION.rows):
        assert (row.guard is Guard.STOP_TRAINING) == (Event.STOP in row.events)


@machines
def test_a_stop_is_asked_before_anything_is_skipped(machine: Machine) -> None:
    for rows in machine.groups.values():
        stops = [is_stop(row.guard) for row in rows if row.guard is not None]
        assert stops == sorted(stops, reverse=True)


def test_every_built_in_word_is_used() -> None:
    machines = (*EVERY, SCALED.machine)
    rows = [row for machine in machines for row in (*machine.rows, *machine.deaths, *machine.departures)]
    assert {row.trigger for row in rows} == {*Trigger, None}
    assert {row.guard for row in rows} == {*Guard, None}
    assert {event for row in rows for event in row.events} == set(Event)
    assert {state for row in rows for state in (row.source, row.dest)} == set(State)
    assert {count.counter for machine in machines for count in machine.counts} == set(Counter)


def test_no_name_is_used_for_two_words() -> None:
    words = [*State, *Trigger, *Event, *Guard]
    assert len({name_of(word) for word in words}) == len(words)
    assert all(word.value == name_of(word) for word in (*words, *Counter))


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_a_run_may_die_wherever_it_has_begun_and_its_listeners_hear_the_outermost_end(built_in: Judged) -> None:
    machine, deaths = built_in.machine, built_in.machine.deaths
    mortal = [state for state in machine.states if state not in (machine.initial, *machine.finals)]
    ways = {Trigger.ERROR_RAISED: State.FAILED, Trigger.INTERRUPT: State.INTERRUPTED}
    assert {row.group for row in deaths} == {(state, trigger) for state in mortal for trigger in ways}
    for row in deaths:
        assert (row.dest, row.guard, row.events) == (
            ways[row.trigger],  # deaths have triggers
            None,
            (Event.EXCEPTION, built_in.order.outermost),
        )


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_what_is_heard_of_a_death_is_legal_in_every_state_that_can_die(built_in: Judged) -> None:
    ways = {begun(built_in.machine): tuple[Event, ...]()}
    for place in (queue := list(ways)):
        new = {there: (*ways[place], *row.events) for row, there in moves(place) if there not in ways}
        ways.update(new)
        queue.extend(new)
    mortal = {row.source: row.events for row in built_in.machine.deaths}
    died = set()
    for place, way in ways.items():
        if (state := place.frames[0].state) in mortal:
            verdict = accepts([*way, *mortal[state]], built_in.order)
            assert verdict, f"{state}: {verdict}"
            died.add(state)
    assert died == set(mortal)


@machines
def test_the_rows_of_a_group_stand_together(machine: Machine) -> None:
    groups = [row.group for row in machine.rows]
    changes = sum(before != after for before, after in pairwise(groups))
    assert changes == len(set(groups)) - 1


def test_training_holds_the_evaluation_that_runs_alone_too() -> None:
    assert dict(TRAINING.holds) == {State.VALIDATE: EVALUATION}
    assert [machine.gradients for machine in EVERY] == [True, False, False]


def test_no_gradient_survives_a_flush_and_a_skipped_step() -> None:
    # Wherever the weights may have moved or the gradients are dropped, the way back to the loader clears them, but for
    # the guard that asks to keep them.
    after_skip = [row.dest for row in TRAINING.rows if row.guard is Guard.SKIP_STEP]
    assert after_skip == [State.ZERO_GRAD, State.CLEAR]
    for state, clearing in ((State.STEP, State.ZERO_GRAD), (State.FLUSH, State.CLEAR)):
        kept, cleared = TRAINING.rows_from(state)
        assert (kept.guard, cleared.guard, cleared.dest) == (Guard.SKIP_ZERO_GRAD, None, clearing)
