"""Does a machine that comes out of another keep all that is promised, and is nonsense refused with what shows it?"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import islice, pairwise

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from engine.testing.walked.extensions import Drawn, changes_of
from states import EVALUATION, PREDICTION, TRAINING, Event, Guard, Machine, MachineRefused, State, Transition, Trigger
from states.checked import Checked
from states.errors import ExtensionRefused, Offence, Rule, StateloopError
from states.grammar import TRAINING_ORDER
from states.names import is_stop, name_of
from states.places import Place, begun, moves
from states.walk import Plan, script, walk


PAIR = (Drawn.PUT_0_BEGIN, Drawn.PUT_0_END)


@st.composite
def extensions(draw: st.DrawFn) -> tuple[Machine, MachineRefused | None]:
    """A machine after some changes that were accepted, and what refused the last one, if a rule of `prove` did."""
    machine = draw(st.sampled_from([TRAINING, TRAINING, EVALUATION, PREDICTION]))
    for _ in range(draw(st.integers(1, 3))):
        try:
            machine = draw(changes_of(machine))(machine)
        except MachineRefused as refused:
            return machine, refused
        except ExtensionRefused:  # each is refused by example below
            continue
    return machine, None


def steps(machine: Machine, data: st.DataObject) -> Iterator[tuple[Place, Transition, Place]]:
    """A random way through a machine and those that it holds: any report, any answer."""
    place = begun(machine)
    for _ in range(60):
        if place.over:
            return
        ways = list(moves(place))
        row, there = data.draw(st.sampled_from(ways))
        yield place, row, there
        place = there


@given(extensions(), st.data())
def test_an_extension_that_is_accepted_nests_counts_up_and_is_taken_alike_by_pytransitions(
    drawn: tuple[Machine, MachineRefused | None], data: st.DataObject
) -> None:
    machine, _ = drawn
    checked = {m.name: Checked(m) for m in (machine, *machine.within)}
    scopes: list[str] = []
    for place, row, there in steps(machine, data):
        taken = checked[place.machine.name].choose(row.source, row.trigger, lambda guard, row=row: guard is row.guard)
        assert taken == row
        for event in row.events:
            scope, _, side = name_of(event).rpartition("_")
            if side == "begin":
                scopes.append(scope)
            elif side == "end":
                assert scopes.pop() == scope
        assert tuple(scopes) == there.scopes
        if there.over:
            assert not scopes


@given(extensions())
def test_an_extension_that_is_accepted_dies_with_its_outermost_end(
    drawn: tuple[Machine, MachineRefused | None],
) -> None:
    machine, _ = drawn
    for row in (*machine.deaths, *machine.departures):
        scopes = machine.proof.scopes[row.source]
        ends = [name_of(event) for event in row.heard if event is not Event.EXCEPTION]
        assert ends == ([f"{scopes[0]}_end"] if scopes else [])


def opened(path: tuple[Transition, ...]) -> tuple[list[str], list[str]]:
    """What is open at the end of a path, and what was ended that was not open."""
    scopes: list[str] = []
    wrong: list[str] = []
    for row in path:
        for event in row.events:
            scope, _, side = name_of(event).rpartition("_")
            if side == "begin":
                scopes.append(scope)
            elif side == "end" and scopes[-1:] == [scope]:
                scopes.pop()
            elif side == "end":
                wrong.append(scope)
    return scopes, wrong


def closes_all(scopes: list[str], row: Transition) -> bool:
    """Whether all that is open is ended on a row, at some moment."""
    depth = len(scopes)
    sides = [name_of(event).rpartition("_")[2] for event in row.events]
    depths = [depth := depth + {"begin": 1, "end": -1}.get(side, 0) for side in sides]
    return 0 in depths


def cycle(path: tuple[Transition, ...]) -> tuple[Transition, ...]:
    """The end of a path that comes back to where it began."""
    starts = [at for at, row in enumerate(path) if row.source is path[-1].dest]
    assert starts, "the path does not come back"
    return path[starts[-1] :]


SHOWS: dict[Rule, Callable[[tuple[Transition, ...]], bool]] = {
    Rule.END_WITHOUT_BEGIN: lambda path: len(opened(path)[1]) > len(opened(path[:-1])[1]),
    Rule.BEGIN_NEVER_ENDED: lambda path: bool(opened(path)[0]),
    Rule.ENDED_EARLY: lambda path: bool(opened(path[:-1])[0]) and closes_all(opened(path[:-1])[0], path[-1]),
    Rule.FINAL_HEARS_MORE: lambda path: len(path[-1].heard) > 1,
    Rule.LAST_ROW_GUARDED: lambda path: path[-1].guard is not None,
    Rule.NO_ACTION: lambda path: all(row.trigger is None for row in cycle(path)),
    Rule.NO_STOP: lambda path: not any(row.guard is not None and is_stop(row.guard) for row in cycle(path)),
}


def check_offence(offence: Offence) -> None:
    """The path is one, from the beginning, and shows what is said of it."""
    path = offence.path
    assert all(one.dest is other.source for one, other in pairwise(path))
    if path and offence.rule in SHOWS:
        assert path[0].source is State.IDLE
        assert SHOWS[offence.rule](path), str(offence)
    if offence.rule is Rule.SECOND_STACK:
        reached = f"{name_of(path[-1].dest)} is reached with {' > '.join(opened(path)[0]) or 'nothing'}"
        assert offence.text.startswith(reached)


@given(extensions())
def test_an_extension_that_is_refused_comes_with_a_path_that_shows_why(
    drawn: tuple[Machine, MachineRefused | None],
) -> None:
    _, refused = drawn
    for offence in refused.offences if refused else ():
        check_offence(offence)


def test_a_machine_with_nothing_that_is_open_for_the_whole_run_is_a_machine() -> None:
    machine = TRAINING.without(Event.TRAIN_BEGIN, Event.TRAIN_END)
    assert machine.order.judge(["epoch_begin", "epoch_end", "epoch_begin", "epoch_end"])


@pytest.mark.parametrize("at", [{"after": State.IDLE}, {"before": State.DONE}])
def test_a_scope_around_or_behind_the_outermost_one_is_refused(at: dict[str, State]) -> None:
    with pytest.raises(MachineRefused, match="the outermost scope ends before the run does"):
        TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, events=PAIR, **at)


@pytest.mark.parametrize("machine", [TRAINING, EVALUATION, PREDICTION], ids=lambda machine: machine.name)
@pytest.mark.parametrize("skip", [None, Drawn.SKIP_PUT_0])
@pytest.mark.parametrize("events", [(), PAIR])
def test_what_was_put_in_before_a_state_can_be_taken_out_again(
    machine: Machine, skip: Enum | None, events: tuple[Enum, ...]
) -> None:
    put = 0
    for state in machine.states:
        try:
            longer = machine.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=state, events=events, skip=skip)
        except (ExtensionRefused, MachineRefused):
            continue
        put += 1
        assert len(longer.rows) > len(machine.rows)
        assert longer.without(Drawn.PUT_0, name=machine.name) == machine
    assert put > 2


@given(extensions(), plans(min_batches=0, endless=True), scripts())
def test_what_is_heard_of_an_extension_is_legal_in_its_own_order(
    drawn: tuple[Machine, MachineRefused | None], plan: Plan, chosen: Script
) -> None:
    machine, _ = drawn
    mine = [state for state in machine.states if isinstance(state, Drawn) and state not in machine.holds]
    reports = {state: choosing(machine.rows_from(state)) for state in mine}
    taken = islice(walk(machine, evolve(plan, reports=reports), chosen.answers()), 200)
    heard: list[Enum] = []
    try:
        heard.extend(event for step in taken for event in step.row.events)
    except StateloopError:  # a plan does not say what a state reports whose rows were changed
        assume(heard)
    assert machine.order.judge(heard).prefix


def choosing(rows: Sequence[Transition]) -> Callable[[object], Enum | None]:
    return lambda counters: rows[0].trigger


def test_the_order_of_machines_within_machines_is_that_of_their_runs() -> None:
    twice = EVALUATION.insert(Drawn.PUT_0, before=State.FORWARD, holds=EVALUATION)
    silent = EVALUATION.without(Event.STOP)
    machines = [
        TRAINING.replace({}, holds={State.VALIDATE: twice}),
        TRAINING.insert(Drawn.PUT_0, before=State.FORWARD, holds=silent),
    ]
    for machine in machines:
        for guard in (None, Guard.STOP_TRAINING, Guard.STOP_VALIDATE):
            for asked in range(8):
                answers = script({name_of(guard): [asked]} if guard else {})
                steps = walk(machine, Plan(epochs=2, batches=2, valid_batches=2), answers)
                judged = machine.order.judge([event for step in steps for event in step.row.events])
                assert judged.legal, (machine.name, guard, asked, str(judged))


def test_a_run_that_is_left_with_a_batch_open_is_no_order_that_is_promised() -> None:
    for order in (TRAINING.order, TRAINING_ORDER):
        assert not order.judge(["train_begin", "epoch_begin", "batch_begin", "train_end"]).prefix


def test_states_that_are_put_before_the_same_one_come_in_the_order_in_which_they_were_put() -> None:
    machine = TRAINING
    for number in range(3):
        machine = machine.insert(Drawn[f"PUT_{number}"], Drawn[f"DONE_PUT_{number}"], before=State.STEP)
    way = [State.AVERAGE, Drawn.PUT_0, Drawn.PUT_1, Drawn.PUT_2]
    assert [machine.rows_from(state)[-1].dest for state in way] == [*way[1:], State.STEP]
    assert machine.name == "training with put_0 with put_1 with put_2"


def test_what_was_heard_on_entering_a_state_is_heard_behind_the_one_that_is_put_before_it() -> None:
    machine = TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.STEP, events=PAIR, skip=Drawn.SKIP_PUT_0)
    rows = [*machine.rows_from(State.AVERAGE), *machine.rows_from(Drawn.PUT_0)]
    assert [str(row) for row in rows] == [
        "average grads_averaged [skip_put_0] -> step: step_begin",
        "average grads_averaged -> put_0: put_0_begin",
        "put_0 done_put_0 -> step: put_0_end, step_begin",
    ]


def test_behind_a_state_its_guards_are_asked_behind_the_one_that_is_put_there() -> None:
    machine = TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, after=State.BACKWARD, events=PAIR)
    assert [str(row) for row in machine.rows_from(State.BACKWARD)] == [
        "backward grads_ready -> put_0: backward_end, put_0_begin"
    ]
    assert [row.guard for row in machine.rows_from(Drawn.PUT_0)] == [Guard.ACCUMULATE, Guard.SKIP_STEP, None]


def test_a_stop_inside_of_what_a_state_holds_leads_to_where_the_run_stops() -> None:
    machine = TRAINING.insert(Drawn.PUT_0, before=State.FORWARD, holds=EVALUATION, skip=Drawn.SKIP_PUT_0)
    stopped = machine.row(Drawn.PUT_0, Trigger.VALIDATION_STOPPED)
    assert str(stopped) == "put_0 validation_stopped -> stopping: batch_end, epoch_end"
    assert machine.holds[Drawn.PUT_0] is EVALUATION


def test_without_a_word_goes_what_nothing_leads_to_any_more() -> None:
    machine = TRAINING.without(State.VALIDATE)
    assert State.VALIDATE not in machine.states
    assert not machine.holds
    assert Event.FORWARD_BEGIN not in TRAINING.without(Event.FORWARD_BEGIN, Event.FORWARD_END).events
    assert Guard.ACCUMULATE not in TRAINING.without(Guard.ACCUMULATE).guards


@pytest.mark.parametrize(
    ("extend", "phrase"),
    [
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0), "neither of before and after"),
        (lambda: TRAINING.insert(Drawn.PUT_0, before=State.STEP), "reports nothing"),
        (lambda: TRAINING.insert(State.STEP, Drawn.DONE_PUT_0, before=State.LOSS), "has the state step already"),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=Drawn.PUT_1), "has no state put_1"),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.IDLE), "no row of training leads to idle"),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, after=State.FETCH), "fetch reports"),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.STEP, events=PAIR[:1]), "events is"),
        (lambda: TRAINING.insert("put", Drawn.DONE_PUT_0, before="step"), "write State.STEP, the member itself"),
        (
            lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.STEP, events=Drawn.PUT_0_BEGIN),
            "events is",
        ),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.STEP, events=None), "events is"),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.STEP, skip=Guard.STOP_EPOCH), "skip is"),
        (lambda: TRAINING.insert(Drawn.PUT_0, Drawn.DONE_PUT_0, before=State.FETCH, holds=EVALUATION), "is to hold"),
        (lambda: TRAINING.insert(Drawn.PUT_0, before=State.FETCH, holds=3), "holds is 3"),
        (lambda: TRAINING.replace([TRAINING.rows[0]]), "stands where rows stand"),
        (lambda: TRAINING.replace({TRAINING.rows[0]: None}), "None stands where rows stand"),
        (lambda: TRAINING.replace({TRAINING.rows[0]: "abc"}), "'a' stands where rows stand"),
        (lambda: TRAINING.without("step"), "write State.STEP, the member itself"),
        (lambda: TRAINING.row(State.STEP), "training has no row 'step'"),
        (lambda: TRAINING.replace({evolve(TRAINING.rows[0], heard=()): ()}), "training has no row"),
        (TRAINING.without, "names nothing"),
        (lambda: TRAINING.without(Drawn.PUT_0), "training has no put_0"),
        (lambda: TRAINING.without(State.EPOCH), "cannot be taken out"),
    ],
)
def test_what_cannot_be_put_together_is_refused_with_what_to_do(extend: Callable[[], object], phrase: str) -> None:
    with pytest.raises(ExtensionRefused, match="allowed:") as raised:
        extend()
    assert phrase in str(raised.value)
    assert "instead:" in str(raised.value)
