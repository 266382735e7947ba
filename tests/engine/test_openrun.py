"""Does a loop of the user's own give what `fit` gives, and is an illegal order refused before anything has happened?"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import Engine, OpenRun, Outcome, Refused, Run, State, Trigger
from engine.errors import BatchRefused, EngineBusy, LoaderRefused, LossRefused, OutOfOrder
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import TRAINING, Event, Guard, TriggerRefused
from states.grammar import TRAINING_ORDER
from states.names import name_of
from states.walk import Plan
from tests.engine.ownloop import WAYS, batch, fitted
from tests.engine.recording import Heard, Tiny, answers_by, counters_of, hears_everything
from tests.engine.tools import (
    Recorder,
    answers,
    batches,
    hears,
    nothing_changes,
    same,
    small_engine,
    still_works,
    weights_of,
)


def told(
    plan: Plan,
    chosen: Script,
    way: Callable[[Engine, Plan], Run],
    *,
    checked: bool,
    events: Collection[Event] = tuple(Event),
) -> tuple:
    """All that a training leaves behind: the trace, how it ended, who stopped and skipped, the weights.

    A guard that never says yes is answered by nobody: so runs that are straight in places are among these.
    """
    log: list[Heard] = []
    guards = [guard for guard in Guard if name_of(guard) in chosen.yes]
    ear = [hears_everything("Ear", log, events=events)()] if events else []
    tiny = Tiny(plan, [*ear, answers_by(chosen.answers(), guards)] if guards else ear, checked=checked)
    run = way(tiny.engine, plan)
    trace = [(heard.event, heard.state, heard.counters) for heard in log]
    ended = counters_of(run), run.state, run.outcome, repr(run.history), repr(run.metrics), run.recent[-1]
    return trace, ended, list(map(str, run.stops)), list(map(str, run.skips)), [w.tolist() for w in tiny.weights]


# One guard or none is answered; or each may say yes to some of its first askings.
FEW, BUSY = scripts(max_guards=1, max_askings=6), scripts(max_guards=len(Guard), max_askings=4)


@given(plans(), FEW | scripts() | BUSY, st.booleans(), st.sets(st.sampled_from(Event)) | st.just(set(Event)))
def test_each_way_of_writing_a_training_leaves_what_fit_leaves(
    plan: Plan, chosen: Script, checked: bool, events: set[Event]
) -> None:
    left = told(plan, chosen, fitted, checked=checked, events=events)
    for way in WAYS.values():
        assert told(plan, chosen, way, checked=checked, events=events) == left


@pytest.mark.parametrize("guard", Guard)
@pytest.mark.parametrize("way", WAYS)
def test_each_guard_says_yes_in_each_way_as_in_fit(guard: Guard, way: str) -> None:
    plan, chosen = Plan(epochs=2, batches=3, valid_batches=2), Script({name_of(guard): (1, 3)})
    assert told(plan, chosen, WAYS[way], checked=False) == told(plan, chosen, fitted, checked=False)


@given(plans(), scripts(), st.lists(st.integers(0, 3), max_size=40))
def test_a_run_that_is_interrupted_anywhere_goes_on_as_if_it_had_not_been(
    plan: Plan, chosen: Script, breaks: list[int]
) -> None:
    def interrupted(engine: Engine, plan: Plan) -> Run:
        train = batches_of(plan)
        valid = None if plan.valid_batches is None else batches_of(Plan(batches=plan.valid_batches))
        run, waits = engine.start(train, valid, plan.epochs, max_updates=plan.max_updates), iter(breaks)
        while run.advance() is not None:
            match next(waits, 0):
                case 1:
                    repr(run)
                case 2:
                    engine.dry_run()
                case 3:
                    run.advance(to=State.EPOCH)
        return run

    assert told(plan, chosen, interrupted, checked=False) == told(plan, chosen, fitted, checked=False)


def by_hand(engine: Engine, run: OpenRun) -> None:
    """Do the work of the state that the run is in, and report it."""
    match run.state:
        case State.FORWARD:
            run.report(Trigger.OUTPUT_READY, output=engine.model(run.inputs))
        case State.LOSS:
            run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, run.targets))
        case State.BACKWARD:
            run.loss.backward()
            run.report(Trigger.GRADS_READY)
        case State.STEP:
            engine.optimizer.step()
            run.report(Trigger.WEIGHTS_MOVED)


@given(plans(), FEW | scripts(), st.lists(st.booleans(), max_size=80))
def test_what_the_engine_does_and_what_the_loop_reports_may_change_from_state_to_state(
    plan: Plan, chosen: Script, mine: list[bool]
) -> None:
    def mixed(engine: Engine, plan: Plan) -> Run:
        valid = None if plan.valid_batches is None else batches_of(Plan(batches=plan.valid_batches))
        run, turns = engine.start(batches_of(plan), valid, plan.epochs, max_updates=plan.max_updates), iter(mine)
        while not run.ended:
            if run.state in {State.FORWARD, State.LOSS, State.BACKWARD, State.STEP} and next(turns, True):
                by_hand(engine, run)
            else:
                run.advance()
        return run

    assert told(plan, chosen, mixed, checked=False) == told(plan, chosen, fitted, checked=False)


@pytest.mark.parametrize("trigger", Trigger)
def test_a_report_before_the_run_has_begun_and_behind_its_end_is_refused_and_changes_nothing(trigger: Trigger) -> None:
    recorder = Recorder()
    engine = small_engine(recorder)
    run = engine.start()
    for where in ("before", "in train", "behind"):
        if where != "before":
            run.advance() if where == "in train" else run.close()
        if trigger in takes(run) and not run.ended:
            continue
        before = run.state, run.recent, counters_of(run), len(recorder.notes), run.outcome, run.begun
        more = {GIVEN[trigger]: torch.ones(())} if trigger in GIVEN else {}
        with nothing_changes(engine.model, engine.optimizer), pytest.raises(OutOfOrder, match="was reported in"):
            run.report(trigger, **more)
        assert (run.state, run.recent, counters_of(run), len(recorder.notes), run.outcome, run.begun) == before
    still_works(engine)


def batches_of(plan: Plan) -> list:
    from tests.engine.recording import batches as same_batches  # noqa: PLC0415  # those of `Tiny`

    return same_batches(plan.batches)


def going(run: OpenRun, engine: Engine, at: int, then: Callable[[], None]) -> None:
    """A whole training; before its report number `at`, *then* is done."""
    count = 0

    def tick() -> None:
        nonlocal count
        if count == at:
            then()
        count += 1

    for _ in run.each_epoch():
        for inputs, targets in run.each_batch(batches(2)):
            tick()
            output = engine.model(inputs)
            run.report(Trigger.OUTPUT_READY, output=output)
            tick()
            loss = engine.loss_fn(output, targets)
            run.report(Trigger.LOSS_READY, loss=loss)
            loss.backward()
            tick()
            if run.report(Trigger.GRADS_READY) is State.STEP:
                tick()
                engine.optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)
        tick()


def takes(run: OpenRun) -> set[Enum]:
    """What may be reported, told by the table alone."""
    state = State.FORWARD if run.state is State.BATCH else run.state
    return {row.trigger for row in TRAINING.rows_from(state) if row.trigger is not None}


GIVEN = {Trigger.BATCH_READY: "inputs", Trigger.OUTPUT_READY: "output", Trigger.LOSS_READY: "loss"}


@given(st.integers(0, 17), st.sampled_from(list(Trigger)))
def test_an_illegal_report_is_refused_and_changes_nothing(at: int, trigger: Trigger) -> None:
    def train(then: Callable[[OpenRun, Engine, Recorder], None]) -> tuple:
        recorder = Recorder()
        engine = small_engine(recorder)
        with engine.start(epochs=2) as run:
            going(run, engine, at, lambda: then(run, engine, recorder))
        return recorder.notes, counters_of(run), run.outcome, [w.tolist() for w in weights_of(engine.model)]

    def wrong(run: OpenRun, engine: Engine, recorder: Recorder) -> None:
        heard, counters, recent = len(recorder.notes), counters_of(run), run.recent
        before = run.state, run.inputs, run.output, run.loss
        more = {GIVEN[trigger]: torch.ones(())} if trigger in GIVEN else {}
        with nothing_changes(engine.model, engine.optimizer):
            if trigger not in takes(run):
                with pytest.raises(OutOfOrder, match="was reported in"):
                    run.report(trigger, **more)
            elif more:
                with pytest.raises(Refused, match="reported without"):
                    run.report(trigger)
            else:
                with pytest.raises(Refused, match="reported with"):
                    run.report(trigger, loss=torch.ones(()))
        assert (len(recorder.notes), counters_of(run), run.recent) == (heard, counters, recent)
        assert all(a is b for a, b in zip(before, (run.state, run.inputs, run.output, run.loss), strict=True))

    assert train(wrong) == train(lambda *_: None)


def test_a_report_out_of_order_says_what_is_possible_what_happened_and_why() -> None:
    engine = small_engine(answers("skip_backward", lambda run: True))
    with engine.start() as run:
        next(run.each_epoch())
        inputs, targets = next(run.each_batch(batches(1)))
        run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
        assert run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets)) is State.EPOCH
        with pytest.raises(TriggerRefused) as raised:
            run.report(Trigger.GRADS_READY)
    text = str(raised.value)
    assert "grads_ready was reported in epoch (epoch 0, batch 1, update 0)" in text
    assert "allowed:  batch_ready, loader_dry, updates_spent" in text
    assert "skip_backward was answered with yes" in text
    assert "is State.BACKWARD" in text
    assert text.endswith("loss loss_ready [skip_backward] -> epoch: loss_end, batch_end")


@pytest.mark.parametrize(
    ("report", "kind", "phrase"),
    [
        (lambda run: run.report("output_ready"), OutOfOrder, "Trigger.OUTPUT_READY"),
        (lambda run: run.report(State.LOSS), OutOfOrder, "take one of these"),
        (lambda run: run.report(Trigger.GRADS_READY), OutOfOrder, "report first: output_ready, loss_ready"),
        (lambda run: run.report(Trigger.BATCH_READY, inputs=1), OutOfOrder, "reported just before"),
        (lambda run: run.skip("skip_step"), OutOfOrder, "allowed:  skip_batch"),
        (lambda run: run.validate(batches(1)), OutOfOrder, "output_ready was not reported"),
        (lambda run: next(run.each_batch(batches(1))), OutOfOrder, "once in each epoch"),
        (lambda run: next(run.each_epoch()), OutOfOrder, "output_ready was not reported"),
    ],
)
def test_what_is_out_of_order_in_a_batch_is_refused_by_name(
    report: Callable[[OpenRun], object], kind: type[Refused], phrase: str
) -> None:
    engine = small_engine()
    with engine.start() as run:
        next(run.each_epoch())
        next(run.each_batch(batches(2)))
        if "output_ready was not" in phrase:
            run.advance()  # the forward has begun
        before = run.where, run.recent
        with pytest.raises(kind, match=phrase):
            report(run)
        assert (run.where, run.recent) == before


def test_a_loss_is_reported_as_a_tensor() -> None:
    engine = small_engine()
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, _targets in run.each_batch(batches(1)):
                run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                with pytest.raises(LossRefused, match=r"not loss\.item\(\)"):
                    run.report(Trigger.LOSS_READY, loss=1.0)
                run.skip(loss=torch.ones(()))


def heard_by(program: Callable[[OpenRun, Engine], object]) -> tuple[list[str], OpenRun, Engine]:
    """What is heard when a program is run inside the `with`."""
    recorder = Recorder()
    engine = small_engine(recorder)
    with engine.start(epochs=2) as run:
        program(run, engine)
    return recorder.events, run, engine


def test_continue_at_the_top_of_a_batch_takes_its_skip_row() -> None:
    def program(run: OpenRun, engine: Engine) -> None:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                if run.batch_index == 1:
                    continue
                batch(engine, run, inputs, targets)

    _, run, engine = heard_by(program)
    assert (run.updates, run.batches_done, run.outcome) == (4, 6, Outcome.COMPLETED)
    assert [str(tally) for tally in run.skips] == [
        "skip_batch by run.skip: 2 times, last at epoch 1, batch 1, update 3"
    ]
    fit = small_engine(answers("skip_batch", lambda run: run.batch_index == 1))
    fit.fit(batches(3), epochs=2)
    assert same(fit.model.parameters(), engine.model.parameters())


@pytest.mark.parametrize("guard", ["skip_backward", "skip_step", "accumulate"])
def test_a_skip_of_the_loop_is_what_a_callbacks_yes_would_be(guard: str) -> None:
    def program(run: OpenRun, engine: Engine) -> None:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                output = engine.model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = engine.loss_fn(output, targets)
                if guard == "skip_backward" and run.batch_index == 1:
                    run.skip(loss=loss)
                    continue
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if guard != "skip_backward" and run.batch_index == 1:
                    run.skip(guard)
                elif run.report(Trigger.GRADS_READY) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)

    heard, run, engine = heard_by(program)
    recorder = Recorder()
    fit = small_engine(recorder, answers(guard, lambda run: run.batch_index == 1))
    assert fit.fit(batches(3), epochs=2).updates == run.updates
    assert heard == recorder.events
    assert same(fit.model.parameters(), engine.model.parameters())


def test_a_break_stops_the_epoch_and_the_next_one_begins() -> None:
    def program(run: OpenRun, engine: Engine) -> None:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                batch(engine, run, inputs, targets)
                if run.batch_index == 2:
                    break

    heard, run, _ = heard_by(program)
    assert (run.epoch, run.updates, run.outcome) == (2, 4, Outcome.COMPLETED)
    assert [name_of(verdict.guard) for verdict in run.stops] == ["stop_epoch", "stop_epoch"]
    assert TRAINING_ORDER.judge(heard).legal


def test_going_on_with_an_open_batch_is_refused_and_names_what_was_not_reported() -> None:
    engine = small_engine()

    def program() -> None:
        with engine.start() as run:
            for _ in run.each_epoch():
                for inputs, _targets in run.each_batch(batches(3)):
                    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))

    with pytest.raises(OutOfOrder, match="loss_ready was not reported in loss"):
        program()
    assert engine.last_run.outcome is Outcome.FAILED
    still_works(engine)


LEAVING: dict[str, tuple[Callable[[OpenRun, Engine], object], Sequence[str]]] = {
    "before it began": (lambda run, engine: None, []),
    "between epochs": (lambda run, engine: run.advance(), ["stop", "train_end"]),
    "between batches": (lambda run, engine: next(run.each_epoch()), ["stop", "epoch_end", "train_end"]),
    "with a batch in hand": (
        lambda run, engine: (next(run.each_epoch()), next(run.each_batch(batches(2)))),
        ["batch_begin", "train_end"],
    ),
}


@pytest.mark.parametrize("where", LEAVING)
def test_a_run_that_is_left_early_ends_as_its_state_allows(where: str) -> None:
    program, last = LEAVING[where]
    heard, run, engine = heard_by(program)
    assert heard[len(heard) - len(last) :] == list(last)
    assert (run.outcome, run.ended) == (Outcome.STOPPED, True)
    still_works(engine)


def test_an_exception_in_the_users_code_is_a_death() -> None:
    recorder, error = Recorder(), ValueError("mine")
    engine = small_engine(recorder)
    run = engine.start()

    def program() -> None:
        with run:
            for _ in run.each_epoch():
                for _batch in run.each_batch(batches(2)):
                    raise error

    with pytest.raises(ValueError, match="mine") as raised:
        program()
    assert raised.value is error
    assert recorder.events[-2:] == ["exception", "train_end"]
    assert (run.outcome, run.state, run.errors) == (Outcome.FAILED, State.FAILED, [error])
    assert "its last transitions" in error.__notes__[0]
    still_works(engine)


def test_other_inputs_from_forward_begin_are_refused_where_they_come_too_late() -> None:
    def replace(run: Run) -> None:
        run.inputs = run.inputs * 2

    engine = small_engine(hears("forward_begin", replace))
    with engine.start() as run:
        next(run.each_epoch())
        inputs, _ = next(run.each_batch(batches(1)))
        with pytest.raises(BatchRefused, match=r"write run\.advance\(\) before your forward"):
            run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
    assert run.outcome is Outcome.FAILED
    with engine.start() as run:
        next(run.each_epoch())
        inputs, _ = next(run.each_batch(batches(1)))
        run.advance()
        assert torch.equal(run.inputs, inputs * 2)
        run.report(Trigger.OUTPUT_READY, output=engine.model(run.inputs))


def test_without_a_loader_there_is_nothing_to_draw() -> None:
    engine = small_engine()
    with engine.start() as run:
        next(run.each_epoch())
        with pytest.raises(LoaderRefused, match=r"engine\.start\(train_loader"):
            next(run.each_batch())


def test_a_run_is_not_told_to_go_on_from_inside_itself() -> None:
    caught: list[EngineBusy] = []

    def again(run: OpenRun) -> None:
        for act in (run.advance, lambda: run.report(Trigger.LOSS_READY, loss=torch.ones(())), run.close, run.skip):
            with pytest.raises(EngineBusy, match="has not come out of that") as raised:
                act()
            caught.append(raised.value)

    engine = small_engine(hears("batch_begin", again))
    run = engine.start(batches(2))
    assert len(list(run)) > 10
    assert len(caught) == 8
    assert run.outcome is Outcome.COMPLETED
