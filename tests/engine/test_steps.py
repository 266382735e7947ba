"""Does a run go forward one transition at a time, can it be left anywhere, and do runs keep out of each other's way?"""

from collections.abc import Callable
from copy import deepcopy
from threading import Thread

import pytest
import torch
from torch import optim

from engine import Callback, Engine, OpenRun, Outcome, Run, State
from engine.errors import ArgumentRefused, EngineBusy
from states import TRAINING, Event, Trigger
from states.grammar import TRAINING_ORDER
from states.walk import Plan, walk
from tests.engine.tools import (
    Recorder,
    batches,
    hears,
    refuses,
    same,
    small_engine,
    small_model,
    still_works,
    weights_of,
)


def test_each_advance_takes_the_row_that_the_reference_walk_takes() -> None:
    run = small_engine().start(batches(3), batches(2), epochs=2)
    rows = [step.row for step in walk(TRAINING, Plan(epochs=2, batches=3, valid_batches=2)) if step.depth == 0]
    assert list(run) == rows
    assert run.advance() is None
    assert (run.ended, run.state, run.outcome) == (True, State.DONE, Outcome.COMPLETED)


@pytest.mark.parametrize("to", [State.STEP, "step", Event.STEP_BEGIN, "step_begin"])
def test_a_run_goes_to_a_state_or_to_where_an_event_was_heard(to: object) -> None:
    run = small_engine().start(batches(3))
    taken = run.advance(to=to)
    assert (run.state, run.batch_index) == (State.STEP, 0)
    assert taken is TRAINING.row(State.AVERAGE, Trigger.GRADS_AVERAGED)
    run.advance(to=to)
    assert (run.state, run.batch_index) == (State.STEP, 1)
    run.advance(to=to)
    assert run.advance(to=to) is None
    assert run.ended


@pytest.mark.parametrize("to", ["stpe", 3, State.EVALUATE, "validate_begin", Trigger.LOSS_READY])
def test_what_is_no_state_and_no_event_of_the_machine_is_refused(to: object) -> None:
    run = small_engine().start(batches(3))
    with refuses(ArgumentRefused, "which is no state and no event of training"):
        run.advance(to=to)
    assert run.state is State.IDLE


def test_what_is_changed_between_two_transitions_counts() -> None:
    engine = small_engine()
    run = engine.start(batches(1))
    run.advance(to=State.STEP)
    before = weights_of(engine.model)
    engine.optimizer.param_groups[0]["lr"] = 0.0
    list(run)
    assert same(before, weights_of(engine.model))


def places() -> list[tuple[State, Recorder, Engine, OpenRun]]:
    """A run in each state that it comes to."""
    found: dict[State, tuple[State, Recorder, Engine, OpenRun]] = {}
    for stop in range(60):
        recorder = Recorder()
        engine = small_engine(recorder, hears("train_begin", lambda run: None))
        engine.guard("accumulate")(lambda run: run.window < 2)
        run = engine.start(batches(3), batches(1))
        for _ in range(stop):
            run.advance()
        found.setdefault(run.state, (run.state, recorder, engine, run))
    return list(found.values())


def test_a_run_can_be_closed_in_each_state() -> None:
    states = set()
    for state, recorder, engine, run in places():
        states.add(state)
        ended = run.ended
        run._repr_html_()
        run.close()
        run.close()  # once is enough, twice does no harm
        if not ended:
            assert run.outcome is Outcome.STOPPED
        if run.state is State.IDLE:
            assert recorder.events == []
        elif run.state is State.LEFT:
            *before, last = recorder.events
            assert (last, before.count(last)) == ("train_end", 0)
            assert TRAINING_ORDER.judge(before).prefix
            assert not {"stop", "exception"} & set(before)
        else:
            assert TRAINING_ORDER.judge(recorder.events).legal
        if run.state is State.LEFT:
            assert run.recent[-1] in TRAINING.departures
            assert str(run.stops[0]).startswith("stop_training by run.stop")
        run._repr_html_()
        assert engine.fit(batches(2), batches(1)).outcome is Outcome.COMPLETED
    assert states == set(TRAINING.states) - {State.STOPPING}


class Ends(Callback):
    """Raises what ends a loop, if nobody looks."""

    def on_loss_end(self, run: Run) -> None:
        raise StopIteration


def test_a_stop_iteration_of_a_callback_does_not_end_a_loop_in_silence() -> None:
    engine = small_engine(Ends())
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(engine.start(batches(1)))
    assert engine.last_run.outcome is Outcome.FAILED
    with pytest.raises(StopIteration):
        engine.start(batches(1)).advance(to="epoch_end")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("event", ["batch_begin", "step_end", "epoch_end", "validate_batch_end"])
def test_an_exception_ends_a_run_that_is_taken_step_by_step(kind: type[BaseException], event: str) -> None:
    error, recorder = kind("on purpose"), Recorder()

    def fail(run: Run) -> None:
        raise error

    engine = small_engine(recorder, hears(event, fail))
    run = engine.start(batches(2), batches(1))
    with pytest.raises(kind) as raised:
        list(run)
    assert raised.value is error
    assert recorder.events[-2:] == ["exception", "train_end"]
    assert run.outcome is (Outcome.FAILED if kind is ValueError else Outcome.INTERRUPTED)
    assert run.ended
    assert run.advance() is None
    if "validate" not in event:
        assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED
    assert run.errors == [error]


def test_checked_and_a_closure_go_step_by_step_as_they_fit() -> None:
    def engine(**more: object) -> Engine:
        model = small_model()
        return small_engine(model=model, optimizer=optim.LBFGS(model.parameters(), max_iter=3), **more)

    for checked in (False, True):
        one, other = engine(checked=checked), engine(checked=checked)
        one.fit(batches(2), epochs=2)
        list(other.start(batches(2), epochs=2))
        assert same(weights_of(one.model), weights_of(other.model))


def test_one_training_at_a_time_and_a_validation_in_between() -> None:
    engine = small_engine()
    run = engine.start(batches(2))
    other = engine.start(batches(2))
    run.advance(to="batch_end")
    for asked in (lambda: engine.fit(batches(1)), other.advance):
        with pytest.raises(EngineBusy, match="one training at a time"):
            asked()
    before = run.where
    assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED
    assert engine.predict(batches(1)).shape == (3, 1)
    assert (run.where, engine.model.training) == (before, True)
    run.close()
    assert other.advance() is not None
    other.close()
    still_works(engine)


def test_a_run_is_not_told_to_go_on_from_inside_another_run_of_its_engine() -> None:
    engine = small_engine()
    run = engine.start(batches(2))
    run.advance(to="batch_end")

    def again(held: Run) -> None:
        with pytest.raises(EngineBusy, match="while evaluation is in"):
            run.advance()

    with pytest.warns(UserWarning, match="takes effect at the next run"):
        engine.add(hears("validate_begin", again))
    engine.evaluate(batches(1))
    list(run)
    assert run.outcome is Outcome.COMPLETED


def test_capture_and_states_that_report_nothing_are_refused() -> None:
    engine = small_engine()
    for mine in ({State.EPOCH}, "forward", {"forward"}, 3):
        with refuses(ArgumentRefused, "mine has", "states with actions"):
            engine.start(mine=mine)
    with refuses(ArgumentRefused, "capture=True"):
        small_engine(capture=True).start(batches(1))


def test_a_second_engine_over_the_same_model_validates_inside_a_callback() -> None:
    def train(nested: bool) -> Engine:
        engine = small_engine()
        judge = Engine(engine.model, engine.loss_fn)
        if nested:
            engine.on("epoch_end")(lambda run: judge.evaluate(batches(2)))
            engine.on("batch_end")(lambda run: judge.predict(batches(1)))
        engine.fit(batches(3), epochs=2)
        return engine

    assert same(weights_of(train(nested=True).model), weights_of(train(nested=False).model))


def test_a_search_for_a_learning_rate_runs_inside_a_training() -> None:
    tried: list[float] = []

    def search(run: Run) -> None:
        for lr in (0.01, 0.1):
            model = deepcopy(run.model)
            found = small_engine(model=model, optimizer=optim.SGD(model.parameters(), lr=lr)).fit(batches(2))
            tried.append(found.metrics["train_loss"])

    engine, plain = small_engine(hears("epoch_begin", search)), small_engine()
    engine.fit(batches(3), epochs=2)
    plain.fit(batches(3), epochs=2)
    assert len(tried) == 4
    assert same(weights_of(engine.model), weights_of(plain.model))


def test_several_engines_train_one_model_one_after_the_other() -> None:
    model = small_model()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        small_engine(model=model, optimizer=optimizer).fit(batches(3))
    other = small_model()
    small_engine(model=other, optimizer=optim.SGD(other.parameters(), lr=0.1)).fit(batches(3), epochs=2)
    assert same(weights_of(model), weights_of(other))


def test_two_runs_in_two_threads_with_models_of_their_own_are_independent() -> None:
    engines = [small_engine() for _ in range(2)]
    threads = [Thread(target=engine.fit, args=(batches(40),), kwargs={"epochs": 3}) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = small_engine()
    alone.fit(batches(40), epochs=3)
    assert all(same(weights_of(engine.model), weights_of(alone.model)) for engine in engines)


def test_another_thread_is_refused_while_a_run_is_open() -> None:
    engine = small_engine()
    run = engine.start(batches(2))
    run.advance()
    caught: list[BaseException] = []

    def other(act: Callable[[], object]) -> None:
        try:
            act()
        except EngineBusy as error:
            caught.append(error)

    thread = Thread(target=other, args=(lambda: engine.evaluate(batches(1)),))
    thread.start()
    thread.join()
    assert "another thread runs this engine" in str(caught[0])
    run.close()
    assert torch.equal(engine.predict(batches(1)), engine.predict(batches(1)))
