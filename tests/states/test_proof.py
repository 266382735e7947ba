"""Does the proof see every way to break a rule?  A small machine that keeps them all, and what is done to it."""

import copy
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

import pytest
from attrs import evolve, frozen

from states import (
    EVALUATION,
    PREDICTION,
    TRAINING,
    Count,
    Counter,
    Event,
    Guard,
    Machine,
    MachineRefused,
    State,
    StateloopError,
    Transition,
    Trigger,
    When,
    prove,
)
from states.checked import Checked
from states.errors import Offence, Rule
from tests.states.between import BETWEEN
from tests.states.strategies import BUILT_IN, Judged


S, T, E, G, Row = State, Trigger, Event, Guard, Transition
ONE_BATCH = (E.BATCH_BEGIN, E.BATCH_END)


@frozen(kw_only=True)
class Draft:
    """What a machine is built from; unlike a machine it may be wrong."""

    rows: tuple[Transition, ...] = (
        Row(S.IDLE, T.FIT_ASKED, None, S.EPOCH, (E.TRAIN_BEGIN,)),
        Row(S.EPOCH, None, G.STOP_TRAINING, S.DONE, (E.TRAIN_END,)),
        Row(S.EPOCH, None, None, S.FETCH),
        Row(S.FETCH, T.BATCH_READY, None, S.EPOCH, ONE_BATCH),
        Row(S.FETCH, T.LOADER_DRY, None, S.DONE, (E.TRAIN_END,)),
    )
    finals: tuple[Enum, ...] = (S.DONE,)
    counts: tuple[Count, ...] = ()
    holds: tuple[tuple[Enum, Machine], ...] = ()

    def build(self) -> Machine:
        return Machine(
            name="small", initial=S.IDLE, finals=self.finals, rows=self.rows, counts=self.counts, holds=dict(self.holds)
        )

    def plus(self, *rows: Transition) -> "Draft":
        """With more rows; in the groups that there are they stand last."""
        return evolve(self, rows=(*self.rows, *rows))

    def instead(self, number: int, *rows: Transition) -> "Draft":
        """With other rows for one."""
        return evolve(self, rows=(*self.rows[:number], *rows, *self.rows[number + 1 :]))


GOOD = Draft()
# A validation after each pass over the loader, whose stops are yet to be taken; and where a run may come to its end.
HOLDING = evolve(GOOD, holds=((S.VALIDATE, EVALUATION),)).plus(
    Row(S.FETCH, T.UPDATES_SPENT, None, S.VALIDATE), Row(S.VALIDATE, T.VALIDATED, None, S.EPOCH)
)
STOPPING = Row(S.STOPPING, None, None, S.DONE, (E.TRAIN_END,))


class Mine(Enum):
    """Words of a user's own that mean two things, or look like others."""

    FETCH = "another fetch"
    WARM = "warm"
    ERROR_RAISED = "another error"


# One change that breaks just this rule; the rows that the path to it takes, by their number.
BROKEN: Mapping[str, tuple[Rule, Draft]] = {
    "an event that is a string": (
        Rule.UNKNOWN_WORD,
        GOOD.plus(Row(S.FETCH, T.UPDATES_SPENT, None, S.EPOCH, ("stop",))),
    ),  # on purpose
    "a guard where a trigger stands": (Rule.UNKNOWN_WORD, GOOD.plus(Row(S.FETCH, G.SKIP_STEP, None, S.EPOCH))),
    "a count of what never happens": (
        Rule.UNKNOWN_WORD,
        evolve(GOOD, counts=(Count(Counter.UPDATES, 1, When.BEFORE, E.STEP_END),)),
    ),
    "a machine held where nothing is reported": (Rule.UNKNOWN_WORD, evolve(GOOD, holds=((S.EPOCH, EVALUATION),))),
    "two words of one name": (Rule.NAME_TWICE, GOOD.plus(Row(S.FETCH, Mine.FETCH, None, S.EPOCH))),
    "one word in two parts": (
        Rule.NAME_TWICE,
        GOOD.plus(
            Row(S.FETCH, T.UPDATES_SPENT, Mine.WARM, S.EPOCH), Row(S.FETCH, T.UPDATES_SPENT, None, Mine.WARM)
        ).plus(Row(Mine.WARM, T.OUTPUT_READY, None, S.EPOCH)),
    ),
    "rows of a state that nothing leads to": (
        Rule.UNREACHABLE,
        GOOD.plus(Row(S.BATCH, T.OUTPUT_READY, None, S.DONE, (E.TRAIN_END,))),
    ),
    "a final state that nothing leads to": (Rule.FINAL_OUT_OF_REACH, evolve(GOOD, finals=(S.DONE, S.STOPPING))),
    "a row of a final state": (Rule.FINAL_LEFT, GOOD.plus(Row(S.DONE, T.FIT_ASKED, None, S.EPOCH, (E.TRAIN_BEGIN,)))),
    "a batch heard in a final state": (
        Rule.FINAL_HEARS_MORE,
        GOOD.instead(4, Row(S.FETCH, T.LOADER_DRY, None, S.DONE, (*ONE_BATCH, E.TRAIN_END))),
    ),
    "a state without rows": (Rule.DEAD_END, GOOD.plus(Row(S.FETCH, T.UPDATES_SPENT, None, S.CLOSE))),
    "a way round that never leads home": (
        Rule.DEAD_END,
        GOOD.plus(
            Row(S.FETCH, T.UPDATES_SPENT, None, S.CLOSE),
            Row(S.CLOSE, T.NO_VALIDATION, G.STOP_EPOCH, S.CLOSE),
            Row(S.CLOSE, T.NO_VALIDATION, None, S.CLOSE),
        ),
    ),
    "an initial state that decides": (
        Rule.INITIAL_DECIDES,
        GOOD.instead(0, Row(S.IDLE, None, None, S.EPOCH, (E.TRAIN_BEGIN,))),
    ),
    "a counter that no run has": (
        Rule.UNKNOWN_WORD,
        evolve(GOOD, counts=(Count(Mine.WARM, 1, When.BEFORE, E.BATCH_BEGIN),)),
    ),
    "a counter that moves by a text": (
        Rule.UNKNOWN_WORD,
        evolve(GOOD, counts=(Count(Counter.EPOCH, "1", When.BEFORE, E.BATCH_BEGIN),)),
    ),
    "a trigger in a state that decides": (
        Rule.DECIDES_AND_REPORTS,
        GOOD.plus(Row(S.EPOCH, T.EPOCHS_SPENT, None, S.DONE, (E.TRAIN_END,))),
    ),
    "a group that may answer no to all": (
        Rule.LAST_ROW_GUARDED,
        GOOD.plus(Row(S.FETCH, T.UPDATES_SPENT, G.SKIP_BATCH, S.EPOCH)),
    ),
    "a row after one without a guard": (Rule.NEVER_TAKEN, GOOD.plus(Row(S.EPOCH, None, None, S.FETCH, ONE_BATCH))),
    "a guard asked again": (
        Rule.GUARD_TWICE,
        GOOD.instead(2, Row(S.EPOCH, None, G.STOP_TRAINING, S.FETCH), GOOD.rows[2]),
    ),
    "rows that hear something else first": (
        Rule.FIRST_DIFFERS,
        GOOD.instead(3, Row(S.FETCH, T.BATCH_READY, G.SKIP_BATCH, S.EPOCH, (), ONE_BATCH), GOOD.rows[3]),
    ),
    "something heard first where nothing is reported": (
        Rule.FIRST_DIFFERS,
        GOOD.instead(2, Row(S.EPOCH, None, None, S.FETCH, (), ONE_BATCH)).instead(
            1, Row(S.EPOCH, None, G.STOP_TRAINING, S.DONE, (E.TRAIN_END,), ONE_BATCH)
        ),
    ),
    "a batch that is left open": (
        Rule.SECOND_STACK,
        GOOD.plus(Row(S.FETCH, T.UPDATES_SPENT, None, S.EPOCH, (E.BATCH_BEGIN,))),
    ),
    "a batch that ends unbegun": (
        Rule.END_WITHOUT_BEGIN,
        GOOD.plus(Row(S.FETCH, T.UPDATES_SPENT, None, S.EPOCH, (E.BATCH_END,))),
    ),
    "a training that never ends": (
        Rule.BEGIN_NEVER_ENDED,
        GOOD.instead(1, Row(S.EPOCH, None, G.STOP_TRAINING, S.DONE)).instead(
            4, Row(S.FETCH, T.LOADER_DRY, None, S.DONE)
        ),
    ),
    "a run that goes on behind its outermost end": (
        Rule.ENDED_EARLY,
        GOOD.instead(1, Row(S.EPOCH, None, G.STOP_TRAINING, S.STOPPING, (E.TRAIN_END,))).plus(
            Row(S.STOPPING, None, None, S.DONE)
        ),
    ),
    "an outermost end that is heard first": (
        Rule.ENDED_EARLY,
        GOOD.instead(4, Row(S.FETCH, T.LOADER_DRY, None, S.DONE, (), (E.TRAIN_END,))),
    ),
    "a word that is called as a death is": (
        Rule.NAME_TWICE,
        GOOD.plus(Row(S.FETCH, Mine.ERROR_RAISED, None, S.EPOCH)),
    ),
    "decisions that go round": (
        Rule.NO_ACTION,
        GOOD.instead(2, Row(S.EPOCH, None, G.SKIP_BATCH, S.BATCH), GOOD.rows[2]).plus(
            Row(S.BATCH, None, None, S.EPOCH)
        ),
    ),
    "a stop of a held machine that nobody takes": (Rule.HELD_STOP, HOLDING),
    "a stop after which the run goes on and may stop": (
        Rule.STOP_TWICE,
        GOOD.instead(1, Row(S.EPOCH, None, G.STOP_TRAINING, S.FETCH, (E.STOP,))),
    ),
    "a stop that is heard twice at once": (
        Rule.STOP_TWICE,
        GOOD.instead(1, Row(S.EPOCH, None, G.STOP_TRAINING, S.STOPPING, (E.STOP, E.STOP))).plus(STOPPING),
    ),
    "a stop of a held machine behind which it is entered again": (
        Rule.STOP_TWICE,
        HOLDING.instead(1, Row(S.EPOCH, None, G.STOP_EPOCH, S.DONE, (E.TRAIN_END,))).plus(
            Row(S.VALIDATE, T.VALIDATION_STOPPED, None, S.EPOCH)
        ),
    ),
    "a validation behind a stop that would be stopped as well": (
        Rule.STOP_TWICE,
        evolve(
            GOOD.instead(1, Row(S.EPOCH, None, G.STOP_TRAINING, S.VALIDATE)).plus(
                Row(S.VALIDATE, T.VALIDATED, None, S.STOPPING),
                Row(S.VALIDATE, T.VALIDATION_STOPPED, None, S.STOPPING),
                STOPPING,
            ),
            holds=((S.VALIDATE, EVALUATION),),
        ),
    ),
    "a stop of a held machine that is heard again": (
        Rule.STOP_TWICE,
        HOLDING.plus(Row(S.VALIDATE, T.VALIDATION_STOPPED, None, S.STOPPING, (E.STOP,)), STOPPING),
    ),
    "a way round without a stop": (Rule.NO_STOP, GOOD.plus(Row(S.FETCH, T.UPDATES_SPENT, None, S.FETCH))),
}

REPORTS: Mapping[Enum, Sequence[Enum]] = {S.IDLE: [T.FIT_ASKED], S.FETCH: [T.BATCH_READY, T.LOADER_DRY]}
MISREPORTED: Mapping[str, tuple[Rule, Mapping[Enum, Sequence[Enum]], str]] = {
    "one too many": (
        Rule.REPORT_REFUSED,
        {**REPORTS, S.FETCH: [*REPORTS[S.FETCH], T.LOSS_READY]},
        "the action of fetch may report loss_ready; no row takes it",
    ),
    "of a state that decides": (
        Rule.REPORT_REFUSED,
        {**REPORTS, S.EPOCH: [T.EPOCH_DUE]},
        "the action of epoch may report epoch_due; no row takes it",
    ),
    "one too few": (
        Rule.NO_REPORT,
        {**REPORTS, S.FETCH: [T.LOADER_DRY]},
        "no action of fetch reports batch_ready",
    ),
    "no action": (Rule.NO_REPORT, {S.FETCH: REPORTS[S.FETCH]}, "idle has no action, and its rows wait for fit_asked"),
}


def offences_of(build: Callable[[], object]) -> tuple[Offence, ...]:
    with pytest.raises(MachineRefused) as refused:
        build()
    assert all(str(offence).splitlines()[0] in str(refused.value) for offence in refused.value.offences)
    assert f"breaks {len(refused.value.offences)} rule(s)" in str(refused.value)
    return refused.value.offences


def assert_shown(offence: Offence, rows: Sequence[Transition]) -> None:
    """A path is a way that the rows go; where the state can be reached at all, it begins at the beginning."""
    assert set(offence.path) <= set(rows)
    assert all(before.dest is after.source for before, after in zip(offence.path, offence.path[1:], strict=False))
    assert not offence.path or offence.path[0].source is State.IDLE


def test_the_small_machine_keeps_every_rule() -> None:
    assert prove(GOOD.build(), REPORTS).states == (S.IDLE, S.EPOCH, S.DONE, S.FETCH)


def test_every_rule_is_broken_somewhere_below() -> None:
    assert {rule for rule, _ in BROKEN.values()} | {rule for rule, _, _ in MISREPORTED.values()} == set(Rule)


@pytest.mark.parametrize("change", BROKEN)
def test_a_broken_rule_is_named_and_the_machine_is_never_built(change: str) -> None:
    rule, draft = BROKEN[change]
    offences = offences_of(draft.build)
    assert {offence.rule for offence in offences} == {rule}
    for offence in offences:
        assert_shown(offence, draft.rows)


# Where the path to an offence ends, and after how many rows.  What is not listed is about words, or about what cannot
# be reached: there is no way to show.
SHOWN: Mapping[str, tuple[int, str]] = {
    "a row of a final state": (2, "epoch [stop_training] -> done: train_end"),
    "a batch heard in a final state": (3, "fetch loader_dry -> done: batch_begin, batch_end, train_end"),
    "a machine held where nothing is reported": (1, "idle fit_asked -> epoch: train_begin"),
    "a stop of a held machine that nobody takes": (3, "fetch updates_spent -> validate"),
    "a stop after which the run goes on and may stop": (2, "epoch [stop_training] -> fetch: stop"),
    "a stop that is heard twice at once": (2, "epoch [stop_training] -> stopping: stop, stop"),
    "a stop of a held machine behind which it is entered again": (4, "validate validation_stopped -> epoch"),
    "a validation behind a stop that would be stopped as well": (2, "epoch [stop_training] -> validate"),
    "a stop of a held machine that is heard again": (4, "validate validation_stopped -> stopping: stop"),
    "a state without rows": (3, "fetch updates_spent -> close"),
    "a way round that never leads home": (3, "fetch updates_spent -> close"),
    "a trigger in a state that decides": (1, "idle fit_asked -> epoch: train_begin"),
    "a group that may answer no to all": (3, "fetch updates_spent [skip_batch] -> epoch"),
    "a row after one without a guard": (2, "epoch -> fetch: batch_begin, batch_end"),
    "a guard asked again": (2, "epoch [stop_training] -> fetch"),
    "rows that hear something else first": (3, "fetch batch_ready -> epoch: batch_begin, batch_end"),
    "something heard first where nothing is reported": (
        2,
        "epoch [stop_training] -> done: batch_begin, batch_end, train_end",
    ),
    "a batch that is left open": (3, "fetch updates_spent -> epoch: batch_begin"),
    "a batch that ends unbegun": (3, "fetch updates_spent -> epoch: batch_end"),
    "a training that never ends": (2, "epoch [stop_training] -> done"),
    "a run that goes on behind its outermost end": (2, "epoch [stop_training] -> stopping: train_end"),
    "an outermost end that is heard first": (3, "fetch loader_dry -> done: train_end"),
    "decisions that go round": (3, "batch -> epoch"),
    "a way round without a stop": (3, "fetch updates_spent -> fetch"),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_path_leads_from_the_beginning_to_what_is_broken(change: str) -> None:
    (offence,) = offences_of(BROKEN[change][1].build)
    assert (len(offence.path), str(offence.path[-1]) if offence.path else "") == SHOWN.get(change, (0, ""))


@pytest.mark.parametrize("lie", MISREPORTED)
def test_what_actions_declare_is_compared_in_both_directions(lie: str) -> None:
    rule, reports, text = MISREPORTED[lie]
    machine = GOOD.build()
    (offence,) = offences_of(lambda: prove(machine, reports))
    assert (offence.rule, offence.text) == (rule, text)
    assert_shown(offence, machine.rows)


@pytest.mark.parametrize("one", BROKEN)
@pytest.mark.parametrize("two", ["a way round without a stop", "a count of what never happens"])
def test_two_broken_rules_are_both_listed(one: str, two: str) -> None:
    rules = {BROKEN[one][0], BROKEN[two][0]}
    changed = [row for row in BROKEN[two][1].rows if row not in GOOD.rows]
    spare = [evolve(row, trigger=T.EPOCHS_SPENT) for row in changed]  # a trigger that no other change uses in fetch
    draft = evolve(BROKEN[one][1].plus(*spare), counts=(*BROKEN[one][1].counts, *BROKEN[two][1].counts))
    assert {offence.rule for offence in offences_of(draft.build)} == rules


def test_the_path_is_the_shortest_one() -> None:
    (offence,) = offences_of(BROKEN["a batch that is left open"][1].build)
    assert [str(row) for row in offence.path] == [
        "idle fit_asked -> epoch: train_begin",
        "epoch -> fetch",
        "fetch updates_spent -> epoch: batch_begin",
    ]
    assert offence.text == "epoch is reached with train > batch open, and with train"


def test_a_refusal_is_worded_for_the_reader() -> None:
    with pytest.raises(MachineRefused) as refused:
        BROKEN["a way round without a stop"][1].build()
    assert str(refused.value) == (
        "the machine 'small' breaks 1 rule(s):\n"
        "  1. a cycle asks no stop guard: no stop guard is asked in fetch -> fetch\n"
        "    idle fit_asked -> epoch: train_begin\n"
        "    epoch -> fetch\n"
        "    fetch updates_spent -> fetch"
    )


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_each_row_is_taken_on_a_shortest_path_by_pytransitions_too(built_in: Judged) -> None:
    machine, checked = built_in.machine, Checked(built_in.machine)
    paths = prove(machine).paths
    assert list(paths) != []
    assert set(paths) == set(machine.rows)
    for row, path in paths.items():
        assert path[-1] is row
        state: Enum = machine.initial
        for step in path:
            assert checked.choose(state, step.trigger, lambda guard, step=step: guard is step.guard) is step
            state = step.dest
        assert len({step.source for step in path}) == len(path)  # a shortest path is nowhere twice


@pytest.mark.parametrize("machine", [TRAINING, EVALUATION, PREDICTION], ids=lambda machine: machine.name)
def test_proving_again_says_the_same(machine: Machine) -> None:
    assert prove(machine) == machine.proof
    assert str(prove(machine)).startswith(f"{machine.name}: proved for every answer of every guard")


def test_one_event_without_its_comma_is_refused_with_the_comma() -> None:
    with pytest.raises(StateloopError, match=re.escape("write (Event.TRAIN_BEGIN,), with its comma")):
        Row(S.IDLE, T.FIT_ASKED, None, S.EPOCH, E.TRAIN_BEGIN)


@pytest.mark.parametrize("thing", ["x", None, Machine])
def test_what_is_no_machine_cannot_be_proved(thing: object) -> None:
    with pytest.raises(StateloopError, match="prove takes a Machine, not a"):
        prove(thing)


def test_the_rows_that_stop_for_good_are_those_after_which_no_cycle_is_in_reach() -> None:
    assert {str(row) for row in TRAINING.stops} == {
        str(row) for row in TRAINING.rows if row.guard is G.STOP_TRAINING and row.dest is S.STOPPING
    }
    assert {row.guard for row in EVALUATION.stops} == {G.STOP_TRAINING, G.STOP_VALIDATE}
    assert {row.guard for row in PREDICTION.stops} == {G.STOP_PREDICT}


def test_a_held_machine_whose_stops_end_the_one_around_it_keeps_every_rule() -> None:
    draft = HOLDING.plus(Row(S.VALIDATE, T.VALIDATION_STOPPED, None, S.STOPPING), STOPPING)
    assert draft.build().holds == {S.VALIDATE: EVALUATION}


def test_what_asks_again_behind_a_stop_is_answered_and_leads_to_the_end() -> None:
    """The way back to where `stop_training` is asked leads nowhere else any more."""
    back = HOLDING.plus(Row(S.VALIDATE, T.VALIDATION_STOPPED, None, S.EPOCH)).build()
    assert back.proof.states
    flushing = [
        evolve(row, dest=S.WINDOW, heard=()) if row.source is S.EPOCH and row.guard is G.STOP_TRAINING else row
        for row in TRAINING.rows
    ]
    assert evolve(TRAINING, name="flushing", rows=flushing).proof.states  # CLOSE asks before it validates


def test_a_stop_two_machines_down_is_taken_too() -> None:
    """The machine between does not ask `stop_training` itself."""
    (offence,) = offences_of(evolve(HOLDING, holds=((S.VALIDATE, BETWEEN),)).build)
    assert offence.rule is Rule.HELD_STOP
    assert "validate holds between, which can stop the whole run" in offence.text


def test_a_held_machine_that_says_nothing_of_its_stop_leaves_that_to_the_one_around_it() -> None:
    rows = [evolve(row, heard=()) if E.STOP in row.events else row for row in EVALUATION.rows]
    quiet = evolve(EVALUATION, name="quiet", rows=rows)
    told = HOLDING.plus(Row(S.VALIDATE, T.VALIDATION_STOPPED, None, S.STOPPING, (E.STOP,)), STOPPING)
    assert evolve(told, holds=((S.VALIDATE, quiet),)).build().name == "small"


def test_a_machine_can_be_copied_and_pickled() -> None:
    for machine in (TRAINING, EVALUATION, PREDICTION):
        for again in (copy.deepcopy(machine), pickle.loads(pickle.dumps(machine))):  # noqa: S301  # our own
            assert again == machine
            assert again.holds == machine.holds
            assert again.proof.scopes == machine.proof.scopes
