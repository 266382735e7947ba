"""Do the timings say what was called and how long it took, and does nobody else notice them?"""

from collections import Counter as Tally
from collections.abc import Callable
from enum import Enum
from functools import partial
from time import perf_counter, sleep
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Engine, Run, State, Trigger
from engine.errors import ArgumentRefused, EngineBusy
from engine.running.link import reached
from states import TRAINING, Counter, Guard
from states.names import name_of
from states.walk import Plan, walk
from tests.engine.tools import (
    Recorder,
    answers,
    batches,
    hears,
    refuses,
    same,
    small_engine,
    still_works,
    weights_of,
)


@settings(max_examples=25, deadline=None)
@given(
    epochs=st.integers(0, 3), number=st.integers(1, 4), valid=st.none() | st.integers(1, 3), skipped=st.integers(0, 9)
)
def test_each_action_and_each_call_is_counted_as_the_table_says(
    epochs: int, number: int, valid: int | None, skipped: int
) -> None:
    """The walk over the table is the reference: it knows nothing of actions."""
    recorder = Recorder()
    engine = small_engine(recorder, answers("skip_step", lambda run: run.batches_done == skipped), recorder=None)
    with engine.timed() as timings:
        engine.fit(batches(number), None if valid is None else batches(valid), epochs)

    plan = Plan(epochs=epochs, batches=number, valid_batches=valid)
    steps = list(
        walk(TRAINING, plan, lambda guard, at: guard is Guard.SKIP_STEP and at[Counter.BATCHES_DONE] == skipped)
    )
    done = Tally(
        (("training", "evaluation")[step.depth], name_of(step.row.source)) for step in steps if step.row.trigger
    )
    done.pop(("training", "average"), None)  # of one batch there is no mean: nothing is called
    assert {key: spent.calls for key, spent in timings.states.items()} == done
    heard = Tally(note.event for note in recorder.notes)
    assert {key[1]: spent.calls for key, spent in timings.callbacks.items() if key[0] == "Recorder"} == heard


def test_what_takes_long_is_said_to_take_long_and_what_is_inside_of_another_is_counted_once() -> None:
    def sleepy(run: Run) -> Enum:
        sleep(0.02)
        run.output = run.model(run.inputs)
        return Trigger.OUTPUT_READY

    engine = small_engine(hears("validate_end", lambda run: sleep(0.05)), actions={State.FORWARD: sleepy})
    begin = perf_counter()
    with engine.timed() as timings:
        engine.fit(batches(3), batches(2))
    wall = perf_counter() - begin

    states, callbacks = timings.states, timings.callbacks
    assert states["training", "forward"].seconds >= 0.06
    assert states["evaluation", "forward"].seconds >= 0.04
    assert states["evaluation", "forward"].microseconds >= 20_000
    assert callbacks["Hears", "validate_end"].seconds >= 0.05
    assert states["training", "validate"].seconds < 0.09  # without what ran in there
    parts = sum(spent.seconds for spent in (*states.values(), *callbacks.values()))
    assert parts + timings.elsewhere == pytest.approx(timings.seconds)
    assert timings.elsewhere >= 0
    assert parts < timings.seconds < wall


def note(notes: list[Any], run: Run) -> None:
    notes.append(run.where)


def ways(engine: Engine) -> dict[str, Callable[[], object]]:
    def stepped() -> None:
        with engine.start(batches(3), batches(1), epochs=2) as run:
            for _ in run:
                pass

    return {"fit": lambda: engine.fit(batches(3), batches(1), epochs=2), "advance": stepped}


@pytest.mark.parametrize("way", ["fit", "advance"])
@pytest.mark.parametrize("checked", [False, True])
def test_callers_see_the_same_trace_and_the_same_weights(way: str, checked: bool) -> None:
    seen = []
    for timed in (False, True):
        recorder = Recorder()
        engine = small_engine(recorder, checked=checked)
        engine.on("batch_end", every=2)(partial(note, recorder.notes))
        if timed:
            with engine.timed(synchronize=True):
                ways(engine)[way]()
        else:
            ways(engine)[way]()
        seen.append((recorder.notes, weights_of(engine.model), engine.last_run.history))

    assert seen[0][0] == seen[1][0]
    assert same(seen[0][1], seen[1][1])
    assert seen[0][2] == seen[1][2]


def test_both_ways_count_alike_and_filters_count_what_they_let_through() -> None:
    counts = []
    for way in ("fit", "advance"):
        engine = small_engine()
        engine.on("batch_end", every=4)(lambda run: None)
        with engine.timed() as timings:
            ways(engine)[way]()
        timed = timings.states | timings.callbacks
        timed.pop(("training", "average"), None)  # `advance` calls it for a window of one batch, too
        counts.append({key: spent.calls for key, spent in timed.items()})

    assert counts[0] == counts[1]
    assert counts[0]["<lambda>", "batch_end"] == 1


def test_a_loop_of_ones_own_is_elsewhere_and_evaluate_and_predict_are_timed_too() -> None:
    engine = small_engine(Recorder())
    with engine.timed() as timings:
        with engine.start(batches(2)) as run:
            for _ in run.each_epoch():
                for inputs, targets in run.each_batch():
                    output = engine.model(inputs)
                    sleep(0.02)
                    run.report(Trigger.OUTPUT_READY, output=output)
                    loss = torch.nn.functional.mse_loss(output, targets)
                    run.report(Trigger.LOSS_READY, loss=loss)
                    loss.backward()
                    run.report(Trigger.GRADS_READY)
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)
        engine.evaluate(batches(1))
        engine.predict(batches(1))

    assert ("training", "forward") not in timings.states
    assert timings.states["training", "fetch"].calls == 3
    assert timings.elsewhere >= 0.04
    assert timings.states["evaluation", "loss"].calls == timings.states["prediction", "forward"].calls == 1
    assert timings.callbacks["Outputs", "predict_batch_end"].calls == 1


def test_a_run_that_is_prepared_outside_has_the_very_actions_and_methods_of_one_without() -> None:
    recorder = Recorder()
    engine = small_engine(recorder)
    plain = engine.source()
    with engine.timed() as timings:
        pass
    after = engine.source()

    assert after.splitlines() == plain.splitlines()
    ready = engine._prepared(engine._run(Run, TRAINING, batches(1)))
    assert [listener.hears for listener in ready.listeners] == [one.hears for one in engine._registry.arranged()]
    assert not any(
        "timed" in getattr(at.action.do, "__qualname__", "")
        for at in reached(ready.linked(TRAINING).start)
        if at.action
    )
    engine.fit(batches(1))
    assert (timings.states, timings.callbacks) == ({}, {})


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_what_dies_is_counted_and_the_engine_is_as_good_as_new(what: BaseException) -> None:
    def die(run: Run) -> None:
        raise what

    engine = small_engine(*([hears("loss_end", die)]))
    with pytest.raises(type(what)), engine.timed() as timings:
        engine.fit(batches(3))

    assert timings.callbacks["Hears", "loss_end"].calls == 1
    assert engine._timings is None
    engine.remove(engine.callbacks[-1])
    still_works(engine)
    assert timings.states["training", "forward"].calls == 1


def test_a_second_one_inside_of_the_first_is_refused() -> None:
    engine = small_engine()
    with engine.timed() as timings:
        with refuses(EngineBusy, "engine.timed() was called while it is open already"), engine.timed():
            pass
        engine.fit(batches(1))

    assert timings.states["training", "forward"].calls == 1


def test_with_synchronize_each_call_waits_for_the_device_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)
    device = torch.device("meta")

    def elsewhere(run: Run) -> None:
        run.device = device

    for synchronize in (False, True):
        engine = small_engine(metrics=None, recorder=None)
        engine.on("batch_end")(elsewhere)
        with engine.timed(synchronize=synchronize):
            engine.fit(batches(1))
    assert set(waits) == {device}
    assert len(waits) == 6  # batch_end itself, fetch, window, close, Records in epoch_end, train


def test_the_text_is_a_table_with_the_largest_share_first_and_a_hundred_per_cent() -> None:
    engine = small_engine(hears("batch_end", lambda run: sleep(0.001)), hears("batch_end", lambda run: sleep(0.05)))
    with engine.timed() as timings:
        engine.fit(batches(3), batches(1))
    lines = str(timings).splitlines()

    gap = lines.index("")
    assert lines[0].split() == ["machine", "state", "calls", "seconds", "µs", "a", "call", "share"]
    assert lines[gap + 1].split()[:4] == ["callback", "event", "or", "guard"]
    assert [line.split()[0] for line in lines[gap + 2 : gap + 4]] == ["Hears#2", "Hears"]
    assert max(map(len, lines)) <= 100
    shares = [float(line.split()[-1].rstrip("%")) for line in lines if line.endswith("%")]
    assert shares[-1] == 100
    assert sum(shares[:-1]) == pytest.approx(100, abs=2)
    assert "validate" in timings.table(least=0)
    with small_engine().timed() as nothing:
        pass
    assert "callback" not in str(nothing)


def test_what_took_next_to_nothing_is_one_row_and_all_are_shown_where_asked_for() -> None:
    engine = small_engine(hears("batch_end", lambda run: sleep(0.2)), hears("epoch_end", lambda run: None))
    with engine.timed() as timings:
        engine.fit(batches(4), batches(1))
    text, whole = str(timings).splitlines(), timings.table(least=0).splitlines()

    of_states, of_callbacks = (line.split() for line in text if line.split()[1:2] == ["more"])
    for part, (count, _, calls, *_) in ((timings.states, of_states), (timings.callbacks, of_callbacks)):
        small = [spent.calls for spent in part.values() if spent.seconds < 0.001 * timings.seconds]
        assert (int(count), int(calls)) == (len(small), sum(small))
    assert len(text) == len(whole) - int(of_states[0]) - int(of_callbacks[0]) + 2
    assert len(whole) == len(timings.states) + len(timings.callbacks) + 5
    assert not any(" more" in line for line in whole)
    assert timings.table(least=1.0).count(" more") == 2


@pytest.mark.parametrize("least", [-0.1, 2, float("nan"), "x", None, True])
def test_a_least_that_is_no_share_is_refused(least: Any) -> None:
    with small_engine().timed() as timings, refuses(ArgumentRefused, f"least is {least!r}", "0 to 1"):
        timings.table(least=least)
