"""Do the strategies draw all that was asked for and nothing else, and shrink to what a person would have chosen?"""

from collections import Counter
from functools import partial

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from engine.errors import ArgumentRefused
from engine.testing.runs.described import ERRORS, PLACES, Fault, Script
from engine.testing.strategies import PHASES, faults, plans, scripts, stacks
from engine.testing.walked.extensions import MANY, Drawn, machines
from states import EVALUATION, PREDICTION, TRAINING, Guard, Machine, State, prove
from states.names import name_of
from states.walk import Plan
from tests.test_layers import loaded_by


class Log: ...


class Save: ...


class Stop: ...


MAKERS = (Log, Save, Stop)
HARD = settings(max_examples=600, database=None)
FEWER = settings(HARD, max_examples=50, phases=PHASES)  # each of these is proved


# --- The simplest one -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "plan"),
    [
        (lambda plan: True, Plan(epochs=0, batches=1)),
        (lambda plan: plan.batches >= 2, Plan(epochs=0, batches=2)),
        (lambda plan: plan.epochs and plan.valid_batches, Plan(epochs=1, batches=1, valid_batches=1)),
        (lambda plan: plan.epochs == 3 and plan.max_updates, Plan(epochs=3, batches=1, max_updates=1)),
    ],
)
def test_a_plan_shrinks_to_the_shortest_training_that_shows_it(found, plan: Plan) -> None:
    assert find(plans(), found, settings=HARD) == plan


def test_a_plan_without_end_shrinks_to_one_batch_and_one_update() -> None:
    endless = find(plans(min_batches=0, endless=True), lambda plan: plan.epochs is None, settings=HARD)
    assert endless == Plan(epochs=None, batches=1, max_updates=1)


@pytest.mark.parametrize(
    ("found", "yes"),
    [
        (lambda script: True, {}),
        (lambda script: script.yes, {"stop_training": (0,)}),
        (lambda script: "skip_step" in script.yes, {"skip_step": (0,)}),
        (lambda script: len(script.yes.get("accumulate", ())) == 2, {"accumulate": (0, 1)}),
        (lambda script: 3 in script.yes.get("skip_batch", ()), {"skip_batch": (3,)}),
    ],
)
def test_a_script_shrinks_to_the_first_asking_of_one_guard(found, yes: dict) -> None:
    assert find(scripts(), found, settings=HARD) == Script(yes)


@pytest.mark.parametrize(
    ("found", "stack"),
    [
        (lambda stack: True, []),
        (lambda stack: Save in stack, [Save]),
        (lambda stack: len({*stack}) == 3, [Log, Save, Stop]),
        (lambda stack: stack.count(Stop) == 2, [Stop, Stop]),
        (lambda stack: Stop in stack and Log in stack[stack.index(Stop) :], [Stop, Log]),
    ],
)
def test_a_stack_shrinks_to_a_few_in_the_given_order(found, stack: list) -> None:
    assert find(stacks(*MAKERS), found, settings=HARD) == stack


def test_a_fault_shrinks_to_the_first_moment() -> None:
    assert find(faults(), lambda fault: True, settings=HARD) == Fault(ValueError, 0, "event")
    interrupted = find(faults(), lambda f: f.error is KeyboardInterrupt and f.where == "action", settings=HARD)
    assert interrupted == Fault(KeyboardInterrupt, 0, "action")


def test_a_machine_shrinks_to_the_one_that_it_came_from() -> None:
    assert find(machines(TRAINING), lambda machine: True, settings=FEWER) == TRAINING
    put = find(machines(EVALUATION), lambda machine: len(machine.states) > len(EVALUATION.states), settings=FEWER)
    assert [name_of(state) for state in put.states if isinstance(state, Drawn)] == ["put_0"]
    assert len(put.rows) == len(EVALUATION.rows) + 1


# --- All that was asked for -------------------------------------------------------------------------------------------


@given(st.data(), st.integers(0, 3), st.integers(0, 3), st.none() | st.integers(3, 5), st.none() | st.integers(1, 5))
def test_a_plan_keeps_its_bounds(
    data: st.DataObject, epochs: int, least: int, valid: int | None, updates: int | None
) -> None:
    plan = data.draw(
        plans(max_epochs=epochs, min_batches=least, max_batches=4, max_valid_batches=valid, max_updates=updates)
    )
    assert plan.epochs <= epochs
    assert least <= plan.batches <= 4
    assert plan.valid_batches is None or least <= plan.valid_batches <= valid
    assert plan.max_updates is None or 1 <= plan.max_updates <= updates


@given(st.data(), st.sampled_from([TRAINING, EVALUATION, PREDICTION]), st.integers(1, 4))
def test_a_script_has_the_guards_of_the_machine_and_keeps_its_bounds(
    data: st.DataObject, machine: Machine, most: int
) -> None:
    script = data.draw(scripts(machine, max_askings=most, max_yes=2, max_guards=2))
    known = {name_of(guard) for one in (machine, *machine.within) for guard in one.guards}
    assert script.yes.keys() <= known
    assert len(script.yes) <= 2
    assert all(1 <= len(askings) <= 2 and max(askings) < most for askings in script.yes.values())
    answer, twin = script.answers(), script.answers()
    said = [answer(guard, {}) for guard in Guard for _ in range(most)]
    assert said == [twin(guard, {}) for guard in Guard for _ in range(most)]
    assert sum(said) == sum(map(len, script.yes.values()))


def test_all_guards_subsets_permutations_and_duplicates_come() -> None:
    guards: set[str] = set()
    drawn: set[tuple] = set()

    @settings(max_examples=200, derandomize=True, database=None)
    @given(scripts(), stacks(*MAKERS), stacks(*MAKERS, min_size=3, duplicates=False))
    def draw(script: Script, stack: list, permuted: list) -> None:
        guards.update(script.yes.keys())
        drawn.update((tuple(stack), tuple(permuted)))

    draw()
    assert guards == {name_of(guard) for guard in TRAINING.guards} | {"stop_validate"}
    assert {(), (Log,), (Save,), (Stop,)} <= drawn
    assert len({stack for stack in drawn if len(stack) == len({*stack}) == 3}) == 6
    assert any(len(stack) > len({*stack}) for stack in drawn)


def test_a_maker_that_says_nothing_of_its_arguments_is_called() -> None:
    make = partial({"log": Log}.__getitem__, "log")
    assert [one() for one in find(stacks(make), bool, settings=HARD)] == [Log]


@given(stacks(*MAKERS, min_size=1, max_size=2, duplicates=False))
def test_a_stack_without_duplicates_has_none_and_keeps_its_size(stack: list) -> None:
    assert 1 <= len(stack) == len({*stack}) <= 2
    assert all(type(make()) is make for make in stack)


@given(faults(where=["guard", "callback"], errors=[KeyError], max_at=2))
def test_a_fault_is_of_those_that_were_asked_for(fault: Fault) -> None:
    assert fault.where in {"guard", "callback"}
    assert fault.error is KeyError
    assert 0 <= fault.at <= 2


def test_machines_are_proved_and_of_great_variety() -> None:
    seen: Counter[str] = Counter()
    drawn: set[Machine] = set()

    @settings(max_examples=150, derandomize=True, database=None)
    @given(machines())
    def draw(machine: Machine) -> None:
        assert prove(machine) is machine.proof
        drawn.add(machine)
        seen["inserted"] += any(isinstance(state, Drawn) for state in machine.states)
        seen["held"] += any(isinstance(state, Drawn) for state in machine.holds)
        seen["skipped"] += any(isinstance(guard, Drawn) for guard in machine.guards)
        seen["heard"] += any(isinstance(event, Drawn) for event in machine.events)
        seen["dropped"] += " without " in machine.name
        seen["redirected"] += " with other rows" in machine.name

    draw()
    assert len(drawn) >= 40
    assert all(seen[what] >= 3 for what in ("inserted", "held", "skipped", "heard", "dropped", "redirected")), seen


def test_as_many_states_are_inserted_as_there_are_words_for() -> None:
    machine = find(machines(PREDICTION, max_changes=MANY), lambda m: len(m.states) > len(PREDICTION.states) + 1)
    assert len({name_of(state) for state in machine.states}) == len(machine.states)
    assert State.IDLE in machine.states


# --- In words, and refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drawn", "text"),
    [
        (Script({}), "no guard says yes"),
        (Script({"skip_batch": (0,)}), "skip_batch: yes at the 1st asking"),
        (Script({"skip_step": [10, 1, 2], "stop_epoch": ()}), "skip_step: yes at the 2nd, 3rd and 11th asking"),
        (Fault(ValueError, 0, "event"), "ValueError in the 1st hearing of an event"),
        (Fault(KeyboardInterrupt, 21, "callback"), "KeyboardInterrupt in the 22nd call of a callback"),
        (Fault(StopIteration, 112, "action"), "StopIteration in the 113th action"),
    ],
)
def test_what_is_drawn_is_said_in_words(drawn: object, text: str) -> None:
    assert str(drawn) == text


@pytest.mark.parametrize(
    ("draw", "phrase"),
    [
        (lambda: plans(max_epochs=-1), "max_epochs is -1"),
        (lambda: plans(max_batches=0), "max_batches is 0"),
        (lambda: plans(min_batches=True), "min_batches is True"),
        (lambda: plans(max_valid_batches=0), "max_valid_batches is 0"),
        (lambda: plans(max_updates=0), "max_updates is 0"),
        (lambda: plans(endless=True, max_updates=None), "max_updates is None"),
        (lambda: scripts("training"), "'training', a str"),
        (lambda: scripts(max_askings=0), "max_askings is 0"),
        (lambda: scripts(max_yes=0), "max_yes is 0"),
        (lambda: scripts(max_guards=1.0), "max_guards is 1.0"),
        (lambda: stacks(Log()), "lambda: Log"),
        (lambda: stacks(lambda where: Log()), "cannot be called without arguments"),
        (lambda: stacks(Log, min_size=2, duplicates=False), "min_size is 2"),
        (lambda: stacks(Log, min_size=2, max_size=1), "max_size is 1"),
        (lambda: stacks(min_size=1), "min_size is 1"),
        (lambda: faults(where=["gaurd"]), "did you mean 'guard'"),
        (lambda: faults(where="guard"), "where is 'guard'"),
        (lambda: faults(errors=[]), "errors is "),
        (lambda: faults(errors=[ValueError("no")]), "pass the class"),
        (lambda: faults(max_at=-1), "max_at is -1"),
        (lambda: machines(max_changes=MANY + 1), f"a whole number from 0 to {MANY}"),
        (lambda: machines(State), "machines was given"),
    ],
)
def test_a_bound_that_cannot_be_kept_is_refused_before_anything_is_drawn(draw, phrase: str) -> None:
    with pytest.raises(ArgumentRefused) as raised:
        draw()
    assert phrase in str(raised.value)
    assert all((raised.value.what, raised.value.allowed, raised.value.instead))


def test_importing_the_strategies_does_not_wait_for_torch() -> None:
    every = "engine.testing.strategies, engine.testing.runs.described, engine.testing.walked.extensions"
    assert "torch" not in loaded_by(f"import {every}")


def test_all_places_and_errors_are_drawn_by_default() -> None:
    drawn: set[Fault] = set()

    @settings(max_examples=300, derandomize=True, database=None)
    @given(faults(max_at=3))
    def draw(fault: Fault) -> None:
        drawn.add(fault)

    draw()
    assert {fault.where for fault in drawn} == {*PLACES}
    assert {fault.error for fault in drawn} == {*ERRORS}
