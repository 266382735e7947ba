"""Is everything walked that may happen, and nothing else?  Against the reference walk, in both directions."""

from collections.abc import Iterable, Iterator

import pytest
from attrs import evolve
from hypothesis import given, settings

from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import EVALUATION, PREDICTION, TRAINING, Counter, Event, Guard, Machine, State
from states.explore import Explored, Listening, TooMany, explore, heard_in, stops
from states.following import follow
from states.grammar import EVALUATION_ORDER, PREDICTION_ORDER, TRAINING_ORDER, Grammar
from states.names import name_of
from states.strides import Heard, Strides
from states.walk import Plan, Step, walk


BOTH = [(TRAINING, TRAINING_ORDER), (EVALUATION, EVALUATION_ORDER), (PREDICTION, PREDICTION_ORDER)]
NAMES = [machine.name for machine, _ in BOTH]


def heard(steps: list[Step]) -> list[Heard]:
    """What a walk lets be heard, as a monitor gets it."""
    return [
        Heard(
            name_of(hearing.event), hearing.state, step.depth, tuple(hearing.counters[counter] for counter in Counter)
        )
        for step in steps
        for hearing in (*step.first, *step.heard)
    ]


def plans_up_to(*, epochs: int, batches: int, valid_batches: int | None, updates: int | None = None) -> Iterator[Plan]:
    """All plans up to these bounds, small ones first."""
    valid: Iterable[int | None] = (None,) if valid_batches is None else (None, *range(1, valid_batches + 1))
    limits: Iterable[int | None] = (None,) if updates is None else (None, *range(1, updates + 1))
    plans = [
        Plan(epochs=e, batches=b, valid_batches=v, max_updates=u)
        for e in range(epochs + 1)
        for b in range(1, batches + 1)
        for v in valid
        for u in limits
    ]
    return iter(
        sorted(plans, key=lambda p: (p.epochs or 0) * (p.batches + (p.valid_batches or 0)) + (p.max_updates or 0))
    )


@pytest.mark.parametrize(("machine", "order"), BOTH, ids=NAMES)
def test_whatever_happens_is_legal_by_the_grammar_written_by_hand(machine: Machine, order: Grammar) -> None:
    found = explore(machine, {"grammar": Listening(order.order), "rows": Listening(machine.order)})
    assert found.broken == ()
    assert found.rows >= {*machine.rows}


@given(plans(max_epochs=2, max_batches=3), scripts())
def test_a_run_of_the_reference_walk_is_followed_to_its_end(plan: Plan, script: Script) -> None:
    trace = heard(list(walk(TRAINING, plan, script.answers())))
    followed = follow(Strides(TRAINING, plan, None, faults=False), trace)
    assert followed.at is None
    assert followed.over


@given(plans(max_epochs=2, max_batches=3), scripts())
def test_a_counter_or_a_state_that_is_wrong_is_found_where_it_is(plan: Plan, script: Script) -> None:
    trace = heard(list(walk(TRAINING, plan, script.answers())))
    strides = Strides(TRAINING, plan, None, faults=False)
    for number, one in enumerate(trace):
        counters = (one.counters[0], one.counters[1] + 7, *one.counters[2:])
        for wrong in (
            evolve(one, counters=counters),
            evolve(one, state=State.LOSS if one.state is not State.LOSS else State.STEP),
        ):
            assert follow(strides, [*trace[:number], wrong, *trace[number + 1 :]]).at == number


@pytest.mark.parametrize("plan", list(plans_up_to(epochs=1, batches=2, valid_batches=1)), ids=str)
def test_each_way_that_is_walked_under_a_plan_is_one_of_the_reference_walk(plan: Plan) -> None:
    """The answers of a way, given to the reference walk, let be heard what the way says."""
    for way in explore(TRAINING, {}, plan=plan, faults=False).ways():
        answers = iter([answer for stride in way for _, answer in stride.asked])
        told = [one for stride in way for one in stride.heard]
        walked = heard(list(walk(TRAINING, plan, lambda *_, answers=answers: next(answers, False))))
        assert walked[: len(told)] == told


@pytest.mark.parametrize("plan", [None, Plan(epochs=2, batches=1, valid_batches=1)], ids=str)
@pytest.mark.parametrize("machine", [TRAINING, EVALUATION, PREDICTION], ids=NAMES)
def test_each_way_leads_home(machine: Machine, plan: Plan | None) -> None:
    """On, to the end of the run: the same stride never twice, and nothing behind a death."""
    found = explore(machine, {}, plan=plan)
    strides = Strides(machine, plan, None, faults=True)
    for way in found.ways():
        home = found.home(way)
        assert len({*home}) == len(home)
        assert way[-1].death is None or not home
        assert follow(strides, [one for stride in (*way, *home) for one in stride.heard]).over


def test_the_plans_up_to_a_bound_come_small_ones_first() -> None:
    plans = list(plans_up_to(epochs=2, batches=2, valid_batches=1, updates=1))
    assert plans[0] == Plan(epochs=0, batches=1)
    assert len(plans) == len({*plans}) == 3 * 2 * 2 * 2
    assert plans[-1].epochs == 2


def test_the_bounds_that_the_documentation_names_are_walked() -> None:
    found = explore(
        TRAINING, {"grammar": Listening(TRAINING_ORDER.order)}, plan=Plan(epochs=2, batches=3, valid_batches=1)
    )
    assert found.broken == ()
    assert (found.states, found.strides) == (3277, 20345)


def test_only_those_who_answer_may_say_yes() -> None:
    found = explore(TRAINING, {}, answering=stops(TRAINING))
    guards = {row.guard for row in found.rows}
    assert guards == {None, Guard.STOP_TRAINING, Guard.STOP_EPOCH, Guard.STOP_VALIDATE}
    assert not any(guard in {row.guard for row in explore(TRAINING, {}, answering=[]).rows} for guard in Guard)


def test_a_fault_is_one_of_each_word_at_which_something_may_raise() -> None:
    found = explore(TRAINING, {})
    raising = {stride.raises for way in found.ways() for stride in way if stride.raises is not None}
    acting = {
        state for state in TRAINING.states if not TRAINING.decides(state) and state not in (State.IDLE, State.DONE)
    }
    assert raising >= acting - {State.VALIDATE}
    assert raising >= {*TRAINING.guards, *EVALUATION.guards}
    assert raising >= {*heard_in(TRAINING)} - {Event.EXCEPTION, Event.TRAIN_END}
    assert all(stride.death is None for way in explore(TRAINING, {}, faults=False).ways() for stride in way)


def shortest(found: Explored) -> tuple[tuple[str, ...], int]:
    (broken,) = found.broken
    return broken.trace, broken.at


def test_the_way_that_breaks_a_monitor_is_a_shortest_one_and_says_where() -> None:
    silent = Grammar("run = train_begin epoch_begin* train_end", Event.TRAIN_END, events=heard_in(TRAINING))
    assert shortest(explore(TRAINING, {"silent": Listening(silent.order)}, faults=False)) == (
        ("train_begin", "stop"),
        1,
    )
    endless = Grammar("run = train_begin (epoch_begin | train_end | stop)+ train_end", Event.TRAIN_END)
    trace, at = shortest(explore(TRAINING, {"endless": Listening(endless.order)}, faults=False))
    assert (trace, at) == (("train_begin", "train_end"), 2)


def test_a_walk_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("states.explore.MOST", 20)
    with pytest.raises(TooMany, match="training has more than 20 spots"):
        explore(TRAINING, {})


@settings(max_examples=20)
@given(plans(max_epochs=1, max_batches=2), scripts(EVALUATION))
def test_an_evaluation_is_followed_as_well(plan: Plan, script: Script) -> None:
    trace = heard(list(walk(EVALUATION, plan, script.answers())))
    assert follow(Strides(EVALUATION, plan, None, faults=True), trace).over
