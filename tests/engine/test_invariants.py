"""Does the order always hold?  The eight invariants, over random plans, guards, stacks and faults."""

import sys
from collections.abc import Iterator
from enum import Enum
from types import FrameType

import pytest
import torch
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from engine import Callback, Outcome
from engine.run import Run
from engine.running.drive import follow
from engine.testing.runs import described
from engine.testing.runs.described import ERRORS, Script
from engine.testing.strategies import faults, plans, scripts
from states import TRAINING, Counter, Event, Guard, State, Transition
from states.grammar import TRAINING_ORDER
from states.names import name_of
from states.walk import Plan, script
from tests.engine.recording import Heard, Tiny, answers_by, counters_of, expected, hearings, hears_everything


def events(log: list[Heard]) -> list[Enum]:
    return [heard.event for heard in log]


@given(plans(), scripts(), st.booleans())
def test_what_is_heard_is_what_the_table_says_state_and_counters_too(plan: Plan, chosen: Script, checked: bool) -> None:
    """Invariants 2, 3 and 6: the fast walk and pytransitions give the hearings of the reference walk, one by one."""
    log: list[Heard] = []
    tiny = Tiny(plan, [hears_everything("Ear", log)(), answers_by(chosen.answers())], checked=checked)
    tiny.fit()
    said = hearings(expected(plan, chosen.answers()))
    assert [(h.event, h.state, h.counters) for h in log] == [(h.event, h.state, h.counters) for h in said]


@given(plans(), scripts())
def test_every_trace_is_legal_and_so_is_every_prefix(plan: Plan, chosen: Script) -> None:
    """Invariant 1, by the grammar that was written by hand."""
    log: list[Heard] = []
    Tiny(plan, [hears_everything("Ear", log)(), answers_by(chosen.answers())]).fit()
    assert TRAINING_ORDER.judge(events(log)).legal
    assert all(TRAINING_ORDER.judge(events(log)[:length]).prefix for length in range(len(log)))


@given(plans(), scripts())
def test_begins_and_ends_balance_and_counters_only_grow(plan: Plan, chosen: Script) -> None:
    """Invariant 2, counted anew from the trace alone."""
    log: list[Heard] = []
    run = Tiny(plan, [hears_everything("Ear", log)(), answers_by(chosen.answers())]).fit()
    open_scopes: list[str] = []
    for heard in log:
        scope, _, side = name_of(heard.event).rpartition("_")
        if side == "begin":
            open_scopes.append(scope)
        elif side == "end":
            assert open_scopes.pop() == scope
    assert not open_scopes
    for counter in (Counter.EPOCH, Counter.UPDATES, Counter.BATCHES_DONE):
        values = [heard.counters[counter] for heard in log]
        assert values == sorted(values)
    heard_events = events(log)
    assert run.epoch == heard_events.count(Event.EPOCH_END)
    assert run.updates == heard_events.count(Event.STEP_END)
    assert run.batches_done == heard_events.count(Event.BATCH_END)


@frozen
class Seat:
    """One callback of a random stack: its place, and the seats that it wants to come after."""

    order: int
    after: tuple[int, ...]


@st.composite
def stacks(draw: st.DrawFn) -> list[Seat]:
    """Callbacks with random orders; each may run after earlier drawn ones, in a shuffled list: never a ring."""
    number = draw(st.integers(1, 5))
    seats = []
    for index in range(number):
        after = draw(st.sets(st.integers(0, index - 1), max_size=2)) if index else set()
        seats.append(Seat(draw(st.integers(-2, 2)), tuple(sorted(after))))
    return seats


def seat_order(seats: list[Seat], registered: list[int]) -> list[int]:
    """The declared order, worked out the slow way: always the first that may come next."""
    placed: list[int] = []
    while len(placed) < len(seats):
        free = [i for i in registered if i not in placed and set(seats[i].after) <= set(placed)]
        placed.append(min(free, key=lambda i: (seats[i].order, registered.index(i))))
    return placed


@given(stacks(), st.data(), plans(), scripts())
def test_all_hear_an_event_in_the_declared_order_before_any_hears_the_next(
    seats: list[Seat], data: st.DataObject, plan: Plan, chosen: Script
) -> None:
    """Invariant 4, for stacks of classes with `order` and `runs_after` and for functions."""
    log: list[Heard] = []
    registered = data.draw(st.permutations(range(len(seats))))
    classes: list[type[Callback]] = []
    for index, seat in enumerate(seats):
        after = tuple(classes[i] for i in seat.after)
        classes.append(hears_everything(str(index), log, order=seat.order, after=after))
    tiny = Tiny(plan, [*(classes[i]() for i in registered), answers_by(chosen.answers())])
    tiny.engine.on("batch_end", order=100)(
        lambda run: log.append(Heard("function", Event.BATCH_END, run.state, counters_of(run)))
    )
    tiny.fit()
    wanted = [str(i) for i in seat_order(seats, list(registered))]
    said = hearings(expected(plan, chosen.answers()))
    assert [(heard.who, heard.event) for heard in log] == [
        (who, hearing.event)
        for hearing in said
        for who in (*wanted, *(("function",) if hearing.event is Event.BATCH_END else ()))
    ]


class Watcher(Callback):
    """Compares the weights around every step that was asked to be skipped."""

    def __init__(self, answers: Callback) -> None:
        self.answers = answers
        self.before: list[torch.Tensor] = []
        self.moved_without_step = False

    def on_batch_begin(self, run: Run) -> None:
        self.before = [p.detach().clone() for p in run.model.parameters()]
        self.stepped = False

    def on_step_end(self, run: Run) -> None:
        self.stepped = True

    def on_batch_end(self, run: Run) -> None:
        same = all(torch.equal(a, b) for a, b in zip(self.before, run.model.parameters(), strict=True))
        self.moved_without_step |= not same and not self.stepped


@given(plans(), scripts())
def test_a_skipped_thing_is_not_done_and_after_a_stop_nothing_begins(plan: Plan, chosen: Script) -> None:
    """Invariant 5."""
    log: list[Heard] = []
    answers = answers_by(chosen.answers())
    watcher = Watcher(answers)
    run = Tiny(plan, [hears_everything("Ear", log)(), watcher, answers]).fit()
    assert not watcher.moved_without_step
    heard = events(log)
    if Event.STOP in heard:
        rest = heard[heard.index(Event.STOP) + 1 :]
        assert rest
        assert all(name_of(event).endswith("_end") for event in rest)
        assert run.outcome is Outcome.STOPPED
        assert name_of(run.stops[-1].guard) == "stop_training"
    else:
        assert run.outcome is Outcome.COMPLETED


class Fault(Callback):
    """Raises at the n-th thing that it hears, or at the n-th guard that it is asked."""

    def __init__(self, at: int, error: BaseException, order: int) -> None:
        self.left, self.error, self.order = at, error, order

    def tick(self) -> None:
        if self.left == 0:
            self.left -= 1
            raise self.error
        self.left -= 1


def faulty(at: int, error: BaseException, order: int, where: str) -> Fault:
    def hear(self: Fault, run: Run) -> None:
        self.tick()

    def answer(self: Fault, run: Run) -> bool:
        self.tick()
        return False

    if where == "event":
        methods = {f"on_{name_of(event)}": hear for event in Event if event is not Event.EXCEPTION}
    else:
        methods = {name_of(guard): answer for guard in Guard}
    return type("Faulty", (Fault,), methods)(at, error, order)


def raised_by(tiny: Tiny) -> BaseException | None:
    try:
        tiny.fit()
    except BaseException as error:  # noqa: BLE001  # every kind is raised on purpose
        return error
    return None


@given(plans(), scripts(), faults(where=("event", "guard"), max_at=120), st.booleans())
def test_an_exception_leaves_a_legal_prefix_the_outermost_end_and_a_usable_engine(
    plan: Plan, chosen: Script, drawn: described.Fault, checked: bool
) -> None:
    """Invariant 8, for callbacks and guards, heard by one before and by one after the callback that fails."""
    log: list[Heard] = []
    error = drawn.error("on purpose")
    fault = faulty(drawn.at, error, 0, drawn.where)
    ears = [hears_everything("first", log, order=-1)(), hears_everything("last", log, order=1)()]
    tiny = Tiny(plan, [*ears, fault, answers_by(chosen.answers())], checked=checked)
    raised = raised_by(tiny)
    assert raised is (error if fault.left < 0 else None)
    first, last = ([heard.event for heard in log if heard.who == who] for who in ("first", "last"))
    assert TRAINING_ORDER.judge(first).legal
    if raised is None:
        assert last == first
    else:
        check_death(tiny.engine.last_run, error)
        check_ears(first, last, [hearing.event for hearing in hearings(expected(plan, chosen.answers()))])
    check_usable(tiny, fault, log)


def check_death(run: Run, error: BaseException) -> None:
    assert "its last transitions" in error.__notes__[0]
    assert run.errors == [error]
    assert run.outcome is (Outcome.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Outcome.FAILED)
    assert run.iterator is None
    assert not run.modes


def check_ears(first: list[Enum], last: list[Enum], said: list[Enum]) -> None:
    """What each heard of a run that died, against what the whole run would have been."""
    if Event.EXCEPTION not in first:
        assert first == said  # the callback failed at the last end, which all the others heard
        assert last == said
        return
    died = first.index(Event.EXCEPTION)
    assert first == [*said[:died], Event.EXCEPTION, Event.TRAIN_END]
    assert last in (first, [*said[: died - 1], Event.EXCEPTION, Event.TRAIN_END])  # it failed between the two, or not


def check_usable(tiny: Tiny, fault: Fault, log: list[Heard]) -> None:
    log.clear()
    fault.left = -1
    again = tiny.engine.fit([(torch.ones(1, 1), torch.ones(1, 1))])
    assert again.state is State.DONE
    assert TRAINING_ORDER.judge([heard.event for heard in log if heard.who == "first"]).legal


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("kind", ERRORS)
def test_an_exception_in_any_action_ends_the_run_in_the_one_way(kind: type[BaseException], checked: bool) -> None:
    """Invariant 8, for every state that has an action."""
    acting = [state for state in TRAINING.states if not TRAINING.decides(state) and state is not State.DONE]
    for state in acting:
        log: list[Heard] = []
        error = kind(name_of(state))
        tiny = failing_in(
            state, error, [hears_everything("Ear", log)(), answers_by(script({"accumulate": [2]}))], checked
        )
        with pytest.raises(kind) as raised:
            tiny.fit()
        assert raised.value is error
        if state is State.IDLE:
            assert not log
        else:
            assert events(log)[-2:] == [Event.EXCEPTION, Event.TRAIN_END]
            assert TRAINING_ORDER.judge(events(log)).legal
            assert tiny.engine.last_run.state in (State.FAILED, State.INTERRUPTED)


def failing_in(state: State, error: BaseException, callbacks: list[object], checked: bool) -> Tiny:
    """A training in which the action of one state fails."""

    def fail(run: Run) -> Enum:
        raise error

    return Tiny(Plan(epochs=2, batches=3, valid_batches=2), callbacks, checked=checked, actions={state: fail})


@frozen
class Interrupter:
    """Raises Ctrl-C before the n-th line of the loop that runs, or of `follow`.

    Not inside of `end`: CPython looks for signals at calls and at jumps, and never between drawing one who is still to
    hear and calling it.
    """

    at: int
    lines: list[int] = field(factory=list)

    def __enter__(self) -> None:
        sys.settrace(self.trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def trace(self, frame: FrameType, event: str, argument: object) -> object:
        code = frame.f_code
        ours = code is follow.__code__ or (code.co_filename.startswith("<stateloop") and code.co_name != "<module>")
        if not ours:
            return None
        if event == "line":
            self.lines.append(frame.f_lineno)
            if len(self.lines) == self.at:
                raise KeyboardInterrupt
        return self.trace


@pytest.mark.parametrize("checked", [False, True])
def test_ctrl_c_at_any_line_of_the_loop_ends_the_run_in_the_one_way(checked: bool) -> None:
    """Invariant 8, for an interrupt that comes between two lines: all of them, one after the other."""
    plan, at, died = Plan(epochs=1, batches=1, valid_batches=1), 0, 0
    said = [hearing.event for hearing in hearings(expected(plan, script({})))]
    while True:
        at += 1
        log: list[Heard] = []
        tiny = Tiny(plan, [hears_everything("first", log)(), hears_everything("second", log)()], checked=checked)
        try:
            with Interrupter(at):
                tiny.fit()
        except KeyboardInterrupt:
            died += 1
            check_interrupted(tiny, log, said)
        else:
            break
    assert died == at - 1 > 50


def check_interrupted(tiny: Tiny, log: list[Heard], said: list[Enum]) -> None:
    """Both heard the same legal prefix, or the second missed the one event in between; and the end came once, last."""
    run = tiny.engine.last_run
    first, second = ([heard.event for heard in log if heard.who == who] for who in ("first", "second"))
    assert run.outcome is Outcome.INTERRUPTED
    if not log:  # before anything was heard
        return
    assert first[-1] is second[-1] is Event.TRAIN_END
    assert first.count(Event.TRAIN_END) == second.count(Event.TRAIN_END) == 1
    if Event.EXCEPTION not in first:  # it came when the end was being heard
        assert first == second == said
        return
    died = first.index(Event.EXCEPTION)
    assert first == [*said[:died], Event.EXCEPTION, Event.TRAIN_END]
    assert second in (first, [*said[: died - 1], Event.EXCEPTION, Event.TRAIN_END])


class FailsAtTheEnd(Callback):
    def on_train_end(self, run: Run) -> None:
        msg = "at the end"
        raise ValueError(msg)


def test_a_callback_that_fails_at_the_last_end_does_not_rob_the_others() -> None:
    log: list[Heard] = []
    tiny = Tiny(Plan(epochs=1, batches=1), [FailsAtTheEnd(), hears_everything("Ear", log)()])
    with pytest.raises(ValueError, match="at the end"):
        tiny.fit()
    assert events(log)[-2:] == [Event.EPOCH_END, Event.TRAIN_END]
    assert tiny.engine.last_run.outcome is Outcome.FAILED


def test_errors_of_callbacks_while_a_run_dies_are_kept_and_the_first_is_raised() -> None:
    log: list[Heard] = []
    first = RuntimeError("first")
    tiny = Tiny(
        Plan(epochs=1, batches=1),
        [faulty(3, first, -1, "event"), FailsAtTheEnd(), hears_everything("Ear", log)()],
    )
    with pytest.raises(RuntimeError) as raised:
        tiny.fit()
    assert raised.value is first
    assert [str(error) for error in tiny.engine.last_run.errors] == ["first", "at the end"]
    assert events(log)[-2:] == [Event.EXCEPTION, Event.TRAIN_END]


def test_every_row_of_the_table_is_taken_by_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row coverage: for each row a plan whose reference walk takes it, and the engine takes the same rows."""
    monkeypatch.setattr("engine.run.REMEMBERED", None)
    wanted = set(TRAINING.rows)
    taken: set[Transition] = set()
    for plan, yes in _tours():
        steps = [step.row for step in expected(plan, script(yes)) if step.depth == 0]
        run = Tiny(plan, [answers_by(script(yes))]).fit()
        assert list(run.recent) == steps
        taken |= set(steps)
    assert taken == wanted


def _tours() -> Iterator[tuple[Plan, dict[str, list[int]]]]:
    plan = Plan(epochs=2, batches=3, valid_batches=2)
    yield Plan(epochs=1, batches=1), {}
    yield Plan(epochs=2, batches=3, max_updates=2), {}
    yield plan, {"accumulate": [2]}
    yield plan, {"accumulate": [2], "skip_step": [2]}  # the third asking is that of the flush
    yield plan, {"accumulate": [2], "skip_zero_grad": [2]}
    for guard in Guard:
        yield plan, {name_of(guard): [0]}
    yield plan, {"stop_training": [1]}
    yield plan, {"stop_training": [5]}  # after the loader, when validation is due
    yield plan, {"stop_training": [6]}  # at the first batch of the validation
    yield plan, {"stop_training": [9]}  # after the validation
