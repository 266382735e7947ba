"""Does every walk over a table keep the promises?  Random plans and answers, then all answers up to a bound."""

import random
from collections.abc import Hashable, Iterator, Sequence
from enum import Enum
from itertools import product

import pytest
from attrs import define, field
from hypothesis import given

from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import TRAINING, Counter, Guard, Machine, Transition
from states.checked import Checked
from states.grammar import accepts
from states.names import name_of
from states.walk import Plan, Step, walk
from tests.states.observed import Replies, count, every_run, observe
from tests.states.plain_loop import plain_loop
from tests.states.strategies import BUILT_IN, Judged, judged
from tests.states.told import Told


def walked(what: Judged, plan: Plan, script: Script) -> list[Step]:
    return list(walk(what.machine, plan, script.answers()))


def names(steps: Sequence[Step]) -> list[str]:
    return [name_of(event) for step in steps for event in step.row.events]


def machine_of(what: Judged, step: Step) -> Machine:
    """The machine whose row was taken: the built-in one, or the one that it holds."""
    return what.machine if step.depth == 0 else next(iter(what.machine.holds.values()))


@given(judged(), plans(min_batches=0, endless=True), scripts())
def test_every_trace_is_in_the_grammar_and_so_is_every_part_of_it(what: Judged, plan: Plan, script: Script) -> None:
    trace = names(walked(what, plan, script))
    verdict = accepts(trace, what.order)
    assert verdict, str(verdict)
    for length, event in enumerate(trace):
        part = accepts(trace[:length], what.order)
        assert part.prefix
        assert not part.legal
        assert event in part.expected


@given(judged(), plans(min_batches=0, endless=True), scripts())
def test_begins_and_ends_nest_and_what_is_open_was_proved_to_be(what: Judged, plan: Plan, script: Script) -> None:
    outside = {row.source for row in what.machine.rows} & what.machine.holds.keys()
    above = [scope for state in outside for scope in what.machine.proof.scopes[state]]
    scopes: list[str] = []
    for step in walked(what, plan, script):
        for scope, _, side in (name_of(event).rpartition("_") for event in step.row.events):
            if side == "begin":
                scopes.append(scope)
            elif side == "end":
                assert scopes.pop() == scope
        assert scopes == [*(above if step.depth else ()), *machine_of(what, step).proof.scopes[step.row.dest]]
    assert scopes == []


@given(judged(), plans(min_batches=0, endless=True), scripts())
def test_the_counters_are_what_the_events_tell(what: Judged, plan: Plan, script: Script) -> None:
    told = Told()
    for step in walked(what, plan, script):
        assert told.objection(step) == ""


@given(judged(), plans(min_batches=0, endless=True), scripts())
def test_pytransitions_takes_the_same_rows(what: Judged, plan: Plan, script: Script) -> None:
    checked = {machine.name: Checked(machine) for machine in (what.machine, *what.machine.holds.values())}
    for step in walked(what, plan, script):
        answers = iter(step.asked)

        def ask(guard: Enum, answers: Iterator[tuple[Enum, bool]] = answers) -> bool:
            asked, answer = next(answers)
            assert asked is guard
            return answer

        assert checked[machine_of(what, step).name].choose(*step.row.group, ask) is step.row
        assert next(answers, None) is None


@given(plans(min_batches=0, endless=True), scripts())
def test_a_training_that_nobody_stops_is_as_long_as_its_plan(plan: Plan, script: Script) -> None:
    steps = walked(BUILT_IN[0], plan, script)
    end = steps[-1].counters
    if plan.epochs is not None:
        assert end[Counter.EPOCH] <= plan.epochs
        assert end[Counter.BATCHES_DONE] <= plan.epochs * plan.batches
    if plan.max_updates is not None:
        assert end[Counter.UPDATES] <= plan.max_updates
    if "stop" not in names(steps):
        spent = plan.max_updates is not None and end[Counter.UPDATES] >= plan.max_updates
        assert spent or end[Counter.EPOCH] == plan.epochs


@given(plans(min_batches=0, endless=True), scripts())
def test_after_a_stop_only_ends_are_heard_innermost_first(plan: Plan, script: Script) -> None:
    trace = names(walked(BUILT_IN[0], plan, script))
    assert trace.count("stop") <= 1
    after = trace[trace.index("stop") + 1 :] if "stop" in trace else ["train_end"]
    assert after == ["validate_end", "epoch_end", "train_end"][-len(after) :]


# Small enough that every run of them is walked: all answers of every guard, at every asking.
EVERY_RUN_OF = [
    Plan(epochs=0),
    Plan(epochs=1, batches=0, valid_batches=0),
    Plan(epochs=2, batches=0, valid_batches=1),
    Plan(epochs=1, batches=1, valid_batches=2),
    Plan(epochs=1, batches=2, valid_batches=0),
    Plan(epochs=1, batches=3),
    Plan(epochs=2, batches=1),
    Plan(epochs=2, batches=2, max_updates=1),
]


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
@pytest.mark.parametrize("plan", EVERY_RUN_OF, ids=str)
def test_every_run_does_asks_and_hears_what_a_loop_written_by_hand_does(built_in: Judged, plan: Plan) -> None:
    machine = built_in.machine
    for answers, expected in every_run(lambda replies: plain_loop(machine.name, plan, replies)):
        replies = Replies(answers)
        assert observe(machine, plan, replies) == expected
        assert tuple(replies.asked) == answers


@define(eq=False)
class Walked:
    """All that can happen under one plan: from each place, each answer is followed once, whatever led there."""

    what: Judged
    plan: Plan
    places: set[object] = field(factory=set)
    rows: set[Transition] = field(factory=set)

    def all(self) -> "Walked":
        pending: list[tuple[bool, ...]] = [()]
        while pending:
            pending.extend(self._one(pending.pop()))
        return self

    def _one(self, script: tuple[bool, ...]) -> Iterator[tuple[bool, ...]]:
        """Walk one script to its end; yield those that turn off it where nobody was before."""
        replies, told, heard = Replies(script), Told(), self.what.order.order.start
        outside: tuple[int, ...] = ()
        number = 0
        for step in walk(self.what.machine, self.plan, replies):
            self.rows.add(step.row)
            assert told.objection(step) == ""
            for index in range(len(step.asked)):
                # All that what follows can depend on: the row, the counters, the outer ones too, what was heard.
                place = (step.depth, step.row.group, index, heard, count(step.before), outside)
                if number >= len(script) and place not in self.places:
                    self.places.add(place)
                    yield (*replies.asked[:number], True)
                number += 1
            heard = self._hear(step, heard)
            outside = count(step.counters) if step.depth == 0 else outside
        assert not self.what.order.order.moves[heard], "the run is over and more could be heard"

    def _hear(self, step: Step, heard: Hashable) -> Hashable:
        for name in map(name_of, step.row.events):
            assert name in self.what.order.order.moves[heard], f"{step.row}: {name} is not legal"
            heard = self.what.order.order.moves[heard][name]
        return heard


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_all_answers_are_legal_up_to_a_bound_and_every_row_is_taken(built_in: Judged) -> None:
    # The bound: up to 2 epochs, 2 batches, 1 validation batch or no validation, 2 updates or no limit.
    plans = (
        Plan(epochs=epochs, batches=batches, valid_batches=valid_batches, max_updates=max_updates)
        for epochs, batches, valid_batches, max_updates in product(range(3), range(3), (None, 0, 1), (None, 1, 2))
    )
    every = [Walked(built_in, plan).all() for plan in plans]
    held = (row for machine in built_in.machine.holds.values() for row in machine.rows)
    assert set().union(*(walked.rows for walked in every)) == {*built_in.machine.rows, *held}
    # So that nobody makes this quick by walking nothing.
    assert sum(len(walked.places) for walked in every) >= (5000 if built_in.machine is TRAINING else 80)


def test_random_walks_take_every_row() -> None:
    chance = random.Random(0)  # noqa: S311  # no secret
    rows: set[Transition] = set()
    for built_in in BUILT_IN * 150:
        epochs, batches, rate = chance.randint(0, 3), chance.randint(0, 4), chance.choice([0.05, 0.3])
        valid_batches, max_updates = chance.choice([None, 0, 2]), chance.choice([None, 2])
        plan = Plan(epochs=epochs, batches=batches, valid_batches=valid_batches, max_updates=max_updates)
        rows.update(step.row for step in walk(built_in.machine, plan, lambda _, __, rate=rate: chance.random() < rate))
    assert rows == {row for built_in in BUILT_IN for row in built_in.machine.rows}


def test_guards_see_the_counters_of_the_moment_in_which_they_are_asked() -> None:
    seen: list[tuple[str, int, int]] = []

    def answer(guard: Enum, counters: dict[Counter, int]) -> bool:
        if guard in (Guard.ACCUMULATE, Guard.SKIP_ZERO_GRAD):
            seen.append((name_of(guard), counters[Counter.WINDOW], counters[Counter.UPDATES]))
        return guard is Guard.ACCUMULATE and counters[Counter.WINDOW] < 2

    list(walk(TRAINING, Plan(epochs=1, batches=4), answer))
    one, two = [("accumulate", 1, 0), ("accumulate", 2, 0)], [("accumulate", 1, 1), ("accumulate", 2, 1)]
    assert seen == [*one, ("skip_zero_grad", 0, 1), *two, ("skip_zero_grad", 0, 2)]
