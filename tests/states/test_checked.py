"""Does pytransitions, given the same rows, go the same ways?"""

import logging
from enum import Enum
from itertools import product
from types import SimpleNamespace

import pytest

from states import (
    EVALUATION,
    PREDICTION,
    TRAINING,
    Event,
    Guard,
    Machine,
    State,
    Transition,
    Trigger,
    TriggerRefused,
)
from states.checked import Checked, to_transitions
from states.names import name_of


MACHINES = [TRAINING, EVALUATION, PREDICTION]
GROUPS = [(machine, group) for machine in MACHINES for group in machine.groups]


@pytest.mark.parametrize(("machine", "group"), GROUPS, ids=lambda value: getattr(value, "name", None))
def test_each_group_goes_the_same_way_for_all_answers(machine: Machine, group: tuple[Enum, Enum | None]) -> None:
    checked, rows = Checked(machine), machine.groups[group]
    guards = [row.guard for row in rows if row.guard is not None]
    for answers in product([False, True], repeat=len(guards)):
        says = dict(zip(guards, answers, strict=True))
        asked: list[Enum] = []

        def ask(guard: Enum, says: dict[Enum, bool] = says, asked: list[Enum] = asked) -> bool:
            asked.append(guard)
            return says[guard]

        expected = next(row for row in rows if row.guard is None or says[row.guard])
        assert checked.choose(*group, ask) is expected
        # In row order, and no further than the first yes.
        assert asked == guards[: rows.index(expected) + 1]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_state_takes_its_own_triggers_and_its_deaths_and_no_other(machine: Machine) -> None:
    checked = Checked(machine)
    taken = {row.group for row in (*machine.rows, *machine.deaths)}
    for state, trigger in product([*machine.states, State.FAILED, State.INTERRUPTED], [*Trigger, None]):
        if (state, trigger) in taken:
            assert checked.choose(state, trigger, lambda _: False).group == (state, trigger)
        else:
            with pytest.raises(TriggerRefused):
                checked.choose(state, trigger, lambda _: False)


def test_a_refusal_says_what_was_reported_where_and_what_is_possible() -> None:
    with pytest.raises(TriggerRefused) as refused:
        Checked(TRAINING).choose(State.FORWARD, Trigger.LOADER_DRY, lambda _: False)
    assert str(refused.value) == (
        "loader_dry was reported in forward, and no row of the machine 'training' takes it there\n"
        "  possible here:  output_ready\n"
        "  taken in:       fetch"
    )
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None  # pytransitions' own error is nowhere behind it


@pytest.mark.parametrize(
    ("state", "trigger", "possible", "takers"),
    [
        (State.EPOCH, Trigger.BATCH_READY, "nothing is reported, it decides", "fetch"),
        (State.DONE, Trigger.FIT_ASKED, "nothing", "idle"),
        (State.FETCH, None, "batch_ready, loader_dry, updates_spent", "epoch, batch, stopping"),
        (State.FETCH, Trigger.PREDICTION_ASKED, "batch_ready, loader_dry, updates_spent", "no state"),
    ],
)
def test_a_refusal_names_every_possibility(state: State, trigger: Trigger | None, possible: str, takers: str) -> None:
    with pytest.raises(TriggerRefused) as refused:
        Checked(TRAINING).choose(state, trigger, lambda _: False)
    assert str(refused.value).splitlines()[1:] == [f"  possible here:  {possible}", f"  taken in:       {takers}"]


def test_a_refused_trigger_asks_nobody_and_the_next_run_is_none_the_wiser() -> None:
    checked = Checked(TRAINING)
    with pytest.raises(TriggerRefused):
        checked.choose(State.IDLE, Trigger.GRADS_READY, lambda guard: pytest.fail(f"{guard} was asked"))
    assert checked.choose(State.IDLE, Trigger.FIT_ASKED, lambda _: False).dest is State.TRAIN


def test_what_a_guard_raises_comes_out_unchanged() -> None:
    class Mine(Exception):
        """A mistake in a guard."""

    def ask(guard: Enum) -> bool:
        raise Mine(guard)

    with pytest.raises(Mine):
        Checked(TRAINING).choose(State.EPOCH, None, ask)


def test_two_runs_share_one_even_when_one_asks_inside_the_other() -> None:
    checked = Checked(TRAINING)

    def ask(guard: Enum) -> bool:
        inner = checked.choose(State.CLOSE, Trigger.VALIDATION_DUE, lambda g: g is Guard.SKIP_VALIDATE)
        assert inner.guard is Guard.SKIP_VALIDATE
        return guard is Guard.STOP_EPOCH

    assert checked.choose(State.EPOCH, None, ask).guard is Guard.STOP_EPOCH


def test_a_truthy_answer_is_a_yes_as_everywhere_else() -> None:
    # pytransitions alone compares with True, so that 2 would be a no.
    assert Checked(TRAINING).choose(State.BATCH, None, lambda _: 2).guard is Guard.SKIP_BATCH  # on purpose


class Mine(Enum):
    """A state and two words of a user's own."""

    WARM = "warm"
    WARMED = "warmed"
    TOO_COLD = "too_cold"


def test_words_of_the_users_own_are_words_like_any() -> None:
    first, *rest = EVALUATION.rows
    warm = Transition(first.source, first.trigger, None, Mine.WARM, first.heard)
    rows = [
        warm,
        Transition(Mine.WARM, Mine.WARMED, Mine.TOO_COLD, State.STOPPING),
        Transition(Mine.WARM, Mine.WARMED, None, State.EVALUATE),
        *rest,
    ]
    checked = Checked(Machine(name="warm", initial=State.IDLE, finals=[State.DONE], rows=rows))
    assert checked.choose(Mine.WARM, Mine.WARMED, lambda guard: guard is Mine.TOO_COLD).dest is State.STOPPING
    assert checked.choose(Mine.WARM, Mine.WARMED, lambda _: False).dest is State.EVALUATE
    assert checked.choose(Mine.WARM, Trigger.INTERRUPT, lambda _: False).dest is State.INTERRUPTED


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_pytransitions_machine_has_the_rows_the_deaths_and_nothing_else(machine: Machine) -> None:
    chart = to_transitions(machine)
    rows = [
        (name_of(row.trigger) if row.trigger else "decide", row.source.name, row.dest.name, row.guard)
        for row in (*machine.rows, *machine.deaths)
    ]
    theirs = [
        (name, arrow.source, arrow.dest, *(condition.func for condition in arrow.conditions))
        for name, event in chart.events.items()
        for arrows in event.transitions.values()
        for arrow in arrows
    ]
    expected = [(*row[:3], name_of(row[3])) if row[3] else row[:3] for row in rows]
    assert sorted(theirs) == sorted(expected)
    assert chart.models == []
    assert {state.value for state in chart.states.values()} == {*machine.states, State.FAILED, State.INTERRUPTED}
    called = [chart.prepare_event, chart.before_state_change, chart.after_state_change, chart.finalize_event]
    assert [callbacks for callbacks in called if callbacks] == []


def test_the_pytransitions_machine_moves_any_object_with_a_state_and_guards() -> None:
    chart = to_transitions(TRAINING)
    run = SimpleNamespace(state=State.BACKWARD, accumulate=lambda: False, skip_step=lambda: True)
    assert chart.events["grads_ready"].trigger(run)
    assert run.state is State.ZERO_GRAD
    assert chart.events["interrupt"].trigger(run)
    assert run.state is State.INTERRUPTED


def test_the_loggers_are_left_alone() -> None:
    before = logging.getLogger("transitions").level
    to_transitions(PREDICTION)
    assert logging.getLogger("transitions").level == before


def test_deaths_hear_the_exception_and_the_outermost_end() -> None:
    row = Checked(TRAINING).choose(State.STEP, Trigger.ERROR_RAISED, lambda _: False)
    assert row.events == (Event.EXCEPTION, Event.TRAIN_END)
