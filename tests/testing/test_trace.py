"""Is a run written down as it was, and is whatever is not so found at its line?"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from io import StringIO
from itertools import count
from pathlib import Path

import pytest
from attrs import asdict, evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import Action, Callback, Engine, Run, State, Trigger
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from engine.testing.tracing import record
from states import EVALUATION, PREDICTION, TRAINING, Count, Counter, Event, Guard, When
from states.askings import answering
from states.grammar import TRAINING_ORDER
from states.names import name_of
from states.trace import Trace, TraceLine, TraceRefused, read, rows_of, write
from states.verify import verify
from states.walk import Plan
from tests.engine.ownloop import WAYS, fitted
from tests.engine.ownloop import batch as whole
from tests.engine.recording import Heard, Tiny, answers_by, batches, hears_everything


Way = Callable[[Engine, Plan], object]
Mine = Enum("Mine", "CLIP CLIPPED SKIP_CLIP CLIP_BEGIN CLIP_END")
CLIPPING = TRAINING.insert(
    Mine.CLIP, Mine.CLIPPED, before=State.STEP, events=(Mine.CLIP_BEGIN, Mine.CLIP_END), skip=Mine.SKIP_CLIP
)
NOBODY = Script({})
SHORT = Plan(epochs=1, batches=2, valid_batches=1)


def trace_of(engine: Engine, use: Callable[[], object]) -> Trace:
    """What is recorded while an engine is used, whatever that raises."""
    file = StringIO()
    with record(engine, file), suppress(Planned):
        use()
    file.seek(0)
    return read(file)


def recorded(plan: Plan, chosen: Script = NOBODY, way: Way = fitted, *, callbacks: Sequence[object] = ()) -> Trace:
    engine = Tiny(plan, [*callbacks, answers_by(chosen.answers())]).engine
    return trace_of(engine, lambda: way(engine, plan))


class Planned(BaseException):
    """What is raised on purpose; a KeyboardInterrupt as well."""


class Interrupted(Planned, KeyboardInterrupt):
    """Ctrl-C, on purpose."""


def raising(at: int, error: type[BaseException]) -> Callable[[], None]:
    """A function that raises at one of its calls."""
    calls = count()

    def call() -> None:
        if next(calls) == at:
            raise error

    return call


ERRORS = st.sampled_from([Planned, Interrupted])


# What is recorded is legal


@given(plans(), scripts(), st.sampled_from([fitted, *WAYS.values()]), st.booleans())
def test_what_is_recorded_is_what_was_heard_and_is_legal(plan: Plan, chosen: Script, way: Way, checked: bool) -> None:
    log: list[Heard] = []
    tiny = Tiny(plan, [hears_everything("Ear", log)(), answers_by(chosen.answers())], checked=checked)
    trace = trace_of(tiny.engine, lambda: way(tiny.engine, plan))
    heard = [
        (name_of(one.event), name_of(one.state), {name_of(c): value for c, value in one.counters.items()})
        for one in log
    ]
    assert [(line.event, line.state, line.counters) for line in trace.lines if line.callback is None] == heard
    assert [(line.event, line.state, line.counters) for line in trace.lines if line.callback == "Ear"] == heard
    for by in (TRAINING, TRAINING_ORDER, TRAINING.order):
        assert (found := verify(trace, by)), found


@given(plans(), scripts(), st.integers(0, 80), ERRORS, st.sampled_from([fitted, *WAYS.values()]))
def test_a_death_in_a_callback_is_legal(plan: Plan, chosen: Script, at: int, error: type, way: Way) -> None:
    raises = raising(at, error)
    methods = {f"on_{name_of(event)}": lambda self, run: raises() for event in Event}
    trace = recorded(plan, chosen, way, callbacks=[type("Fails", (Callback,), methods)()])
    assert (found := verify(trace, TRAINING)), found
    assert {line.raised for line in trace.lines} <= {None, error.__name__}


@given(plans(), st.integers(0, 40), ERRORS, st.booleans(), st.sampled_from([fitted, *WAYS.values()]))
def test_a_death_in_a_guard_is_legal(plan: Plan, at: int, error: type, checked: bool, way: Way) -> None:
    raises = raising(at, error)
    tiny = Tiny(plan, [answers_by(lambda guard, counters: bool(raises()))], checked=checked)
    trace = trace_of(tiny.engine, lambda: way(tiny.engine, plan))
    assert (found := verify(trace, TRAINING)), found


@given(plans(), st.integers(0, 20), ERRORS, st.sampled_from([State.FORWARD, State.STEP, State.CLOSE, State.FETCH]))
def test_a_death_in_an_action_is_legal(plan: Plan, at: int, error: type, state: State) -> None:
    raises = raising(at, error)
    told = {State.FORWARD: Trigger.OUTPUT_READY, State.STEP: Trigger.WEIGHTS_MOVED, State.CLOSE: Trigger.NO_VALIDATION}

    def act(run: Run) -> Trigger:
        raises()
        run.output = run.model(run.inputs)
        return told[state]

    engine = Tiny(plan, actions={state: act} if state in told else {}).engine
    valid = batches(plan.valid_batches) if plan.valid_batches else None
    loader = Loader(batches(plan.batches), raises) if state is State.FETCH else batches(plan.batches)
    trace = trace_of(engine, lambda: engine.fit(loader, valid, plan.epochs))
    assert (found := verify(trace, TRAINING)), found


class Loader(list):
    """Batches, where something is called before each."""

    def __init__(self, given: list, call: Callable[[], None]) -> None:
        super().__init__(given)
        self.call = call

    def __iter__(self):
        for batch in super().__iter__():
            self.call()
            yield batch


@given(plans(), scripts(), st.integers(0, 60), st.none() | ERRORS)
def test_a_run_that_is_left_and_one_that_dies_of_the_code_around_it_are_legal(
    plan: Plan, chosen: Script, taken: int, error: type | None
) -> None:
    def left(engine: Engine, plan: Plan) -> None:
        valid = batches(plan.valid_batches) if plan.valid_batches else None
        with engine.start(batches(plan.batches), valid, plan.epochs) as run:
            for _ in range(taken):
                run.advance()
            if error is not None:
                raise error

    trace = recorded(plan, chosen, left)
    if trace.lines:
        assert (found := verify(trace, TRAINING)), found


def test_when_the_last_of_several_fails_at_the_end_of_a_run_that_was_left_the_trace_is_legal() -> None:
    class Fails(Callback):
        def on_train_end(self, run: Run) -> None:
            raise Planned

    def left(engine: Engine, plan: Plan) -> None:
        with engine.start(batches(2)) as run:
            run.advance(to=State.FORWARD)

    trace = recorded(SHORT, way=left, callbacks=[Fails(), hears_everything("Ear", [])()])
    assert [line.state for line in trace.lines if line.event == "train_end"] == ["left", "left", "failed"]
    assert verify(trace, TRAINING)


@given(plans(max_epochs=2, max_batches=3), scripts(), scripts())
def test_one_may_say_no_and_another_yes(plan: Plan, one: Script, other: Script) -> None:
    trace = recorded(plan, one, callbacks=[answers_by(other.answers()), answers_by(NOBODY.answers())])
    assert (found := verify(trace, TRAINING)), found


def test_validation_of_ones_own_is_legal_where_no_machine_runs() -> None:
    engine = Tiny(SHORT, actions={State.VALIDATE: lambda run: Trigger.VALIDATED}).engine
    trace = trace_of(engine, lambda: fitted(engine, SHORT))
    assert verify(trace, TRAINING)
    assert "validate_begin" not in trace.events


def test_epochs_may_start_anywhere() -> None:
    engine = Tiny(SHORT).engine
    trace = trace_of(engine, lambda: engine.fit(batches(2), None, 5, start_epoch=3))
    assert verify(trace, TRAINING)
    assert {line.counters["epoch"] for line in trace.lines} == {3, 4, 5}


def test_runs_in_a_callback_and_one_after_the_other_are_told_apart() -> None:
    class Tests(Callback):
        def on_epoch_end(self, run: Run) -> None:
            engine.evaluate(batches(1))

    engine = Tiny(SHORT, [Tests()]).engine
    trace = trace_of(engine, lambda: (engine.fit(batches(2), batches(1)), engine.predict(batches(1))))
    begun = [(line.run, line.machine) for line in trace.lines if line.event and line.event.endswith("n_begin")]
    assert begun[0] == (0, "training")
    assert {line.run: line.machine for line in trace.lines if not line.depth} == {
        0: "training",
        1: "evaluation",
        2: "prediction",
    }
    assert str(verify(trace, TRAINING)).endswith(", 3 runs)")


@given(plans(), scripts(CLIPPING))
def test_a_machine_of_ones_own_is_recorded_with_its_words(plan: Plan, chosen: Script) -> None:
    actions = {Mine.CLIP: Action(lambda run: Mine.CLIPPED, reports=(Mine.CLIPPED,))}
    guards = [*Guard, Mine.SKIP_CLIP]
    engine = Tiny(plan, [answers_by(chosen.answers(), guards)], machine=CLIPPING, actions=actions).engine
    trace = trace_of(engine, lambda: fitted(engine, plan))
    assert (found := verify(trace, CLIPPING)), found
    with pytest.raises(TraceRefused, match="was recorded from the machine 'training with clip', not from 'training'"):
        verify(trace, TRAINING)


def test_a_table_that_has_changed_is_another_machine() -> None:
    trace = recorded(SHORT)
    with pytest.raises(TraceRefused, match=r"from another one, not from 'training': it has the row .*skip_validate"):
        verify(trace, TRAINING.without(Guard.SKIP_VALIDATE, name="training"))
    with pytest.raises(TraceRefused, match="from the machine 'training', not from 'evaluation'"):
        verify(trace, EVALUATION)


# What is written is read


@given(plans(max_epochs=2), scripts())
def test_what_is_written_is_read(plan: Plan, chosen: Script) -> None:
    trace = recorded(plan, chosen)
    write(trace, file := StringIO())
    file.seek(0)
    assert asdict(read(file)) == asdict(trace)


def test_each_line_is_in_the_file_before_the_next_thing_happens(tmp_path: Path) -> None:
    seen: list[Trace] = []
    engine = Tiny(SHORT).engine
    engine.on("step_begin", once=2)(lambda run: seen.append(read(tmp_path / "t.jsonl")))
    with record(engine, tmp_path / "t.jsonl"):
        fitted(engine, SHORT)
    assert (seen[0].events[-1], seen[0].torn) == ("step_begin", False)
    assert verify(seen[0], TRAINING).prefix
    assert seen[0].lines == read(tmp_path / "t.jsonl").lines[: len(seen[0].lines)]


@given(plans(max_epochs=1), st.data())
def test_of_a_torn_file_all_whole_lines_are_read(plan: Plan, data: st.DataObject) -> None:
    trace = recorded(plan)
    trace = evolve(trace, lines=tuple(evolve(line, seconds=0.0, micros=None) for line in trace.lines))
    write(trace, file := StringIO())
    head = file.getvalue().index("\n") + 1
    text = file.getvalue()[: data.draw(st.integers(head, len(file.getvalue())))]
    found = read(StringIO(text))
    assert found.lines == trace.lines[: len(found.lines)]
    whole = text.count("\n") - 1
    assert len(found.lines) == whole + (not text.endswith("\n") and not found.torn)
    assert verify(found, TRAINING).prefix


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "line 1: no trace begins with ''"),
        ("hello\n", "line 1: no trace begins with 'hello'"),
        ('{"a": 1}\n', "line 1: no trace begins with '{\"a\": 1}'"),
        ('{"stateloop_trace": 1, "machine": "m"}', "line 1: no trace begins with"),
        ('{"stateloop_trace": 1, "machine": "m", "rows": {"m": [1]}}', "line 1: no trace begins with"),
        ('{"stateloop_trace": 2}\n', "line 1: a trace in format 2"),
        ("HEAD{tor\nLINE", "line 2: '{tor' is no line of a trace: it is no JSON object"),
        ("HEADLINE[]\n", "line 3: '[]' is no line of a trace: it is no JSON object"),
        ('HEAD{"colour": 1}\n', "it has colour"),
        ('HEAD{"machine": "m", "state": "s", "counters": {}}\n', "an event, or a guard and who is asked"),
        ('HEAD{"machine": "m", "state": "s", "counters": {}, "guard": "g"}\n', "an event, or a guard and who is asked"),
        ('HEAD{"machine": 1, "state": "s", "counters": {}, "event": "e"}\n', "'machine' must be"),
        ('HEAD{"machine": "m", "state": "s", "counters": {"epoch": "1"}, "event": "e"}\n', "'counters' must be"),
        ('HEAD{"state": "s", "counters": {}, "event": "e"}\n', "'machine'"),
    ],
)
def test_a_foreign_file_is_refused_with_its_line(text: str, what: str, tmp_path: Path) -> None:
    write(Trace("m", {}, ()), head := StringIO())
    line = TraceLine(machine="m", state="s", counters={}, event="e").to_json()
    (tmp_path / "f.jsonl").write_text(text.replace("HEAD", head.getvalue()).replace("LINE", line))
    with pytest.raises(TraceRefused) as refused:
        read(tmp_path / "f.jsonl")
    assert what in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'f.jsonl'}, line ")


def test_a_recording_leaves_the_engine_as_it_was_whatever_happens(tmp_path: Path) -> None:
    engine = Tiny(SHORT).engine
    before = engine.callbacks
    with suppress(Planned), record(engine, tmp_path / "t.jsonl"):
        fitted(engine, SHORT)
        raise Planned
    length = (tmp_path / "t.jsonl").stat().st_size
    assert engine.callbacks == before
    fitted(engine, SHORT)
    assert (tmp_path / "t.jsonl").stat().st_size == length


def test_calls_are_timed_and_what_they_answer_and_raise_is_told() -> None:
    class Fails(Callback):
        def on_epoch_end(self, run: Run) -> None:
            raise Planned

    trace = recorded(SHORT, Script({"skip_batch": [1]}), callbacks=[Fails()])
    calls = [line for line in trace.lines if line.callback]
    assert all(line.micros is not None and line.micros >= 0 for line in calls)
    assert all(line.micros is None for line in trace.lines if not line.callback)
    assert [line.answer for line in calls if line.guard == "skip_batch"] == [False, True]
    assert [line.callback for line in calls if line.raised == "Planned"] == ["Fails"]
    for run in {line.run for line in trace.lines}:
        seconds = [line.seconds for line in trace.lines if line.run == run and not line.callback]
        assert seconds == sorted(seconds)


# What is not legal is found at its line


@st.composite
def silent(draw: st.DrawFn) -> Trace:
    """A trace without calls, of a run that may die."""
    trace = recorded(draw(plans(max_epochs=2, max_batches=3)), draw(scripts()))
    lines = tuple(line for line in trace.lines if line.callback is None)
    return evolve(trace, lines=lines)


@given(silent(), st.data())
def test_a_line_that_was_taken_out_is_missed(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(trace.lines) - 1))
    found = verify(evolve(trace, lines=(*trace.lines[:at], *trace.lines[at + 1 :])), TRAINING)
    assert not found
    assert found.at == (at if at < len(trace.lines) - 1 else None)


@given(silent(), st.data())
def test_two_lines_that_were_swapped_are_found(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(trace.lines) - 2))
    one, other = trace.lines[at : at + 2]
    assume(one.event != other.event)
    assert verify(evolve(trace, lines=(*trace.lines[:at], other, one, *trace.lines[at + 2 :])), TRAINING).at == at


@given(silent(), st.data())
def test_a_line_that_comes_twice_is_found(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(trace.lines) - 1))
    lines = (*trace.lines[: at + 1], *trace.lines[at:])
    assert verify(evolve(trace, lines=lines), TRAINING).at == at + 1


@given(silent(), st.data())
def test_no_later_line_is_found_than_by_the_order_alone(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(trace.lines) - 1))
    wrong = evolve(trace.lines[at], event=data.draw(st.sampled_from([name_of(event) for event in Event])))
    assume(wrong != trace.lines[at])
    changed = evolve(trace, lines=(*trace.lines[:at], wrong, *trace.lines[at + 1 :]))
    assert verify(changed, TRAINING).at == at
    judged = verify(changed, TRAINING_ORDER).at
    assert judged is None or judged >= at
    assert judged == TRAINING_ORDER.judge(changed.events).at


@given(silent(), st.data())
def test_what_a_line_shows_is_looked_at_too(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(trace.lines) - 1))
    line = trace.lines[at]
    counter = data.draw(st.sampled_from(list(line.counters)))
    assume(at > 0 or counter != "epoch")  # epochs may start anywhere
    wrong = data.draw(
        st.sampled_from(
            [
                evolve(line, state="idle"),
                evolve(line, depth=line.depth + 1),
                evolve(line, row=str(TRAINING.rows[-2]) if line.row is None else None),
                evolve(line, counters={**line.counters, counter: line.counters[counter] + 1}),
                evolve(line, counters={**line.counters, "laps": 1}),
            ]
        )
    )
    assert verify(evolve(trace, lines=(*trace.lines[:at], wrong, *trace.lines[at + 1 :])), TRAINING).at == at


@given(plans(max_epochs=2, max_batches=3), scripts(), st.data())
def test_a_call_that_comes_twice_is_found(plan: Plan, chosen: Script, data: st.DataObject) -> None:
    trace = recorded(plan, chosen)
    at = data.draw(st.sampled_from([at for at, line in enumerate(trace.lines) if line.callback and line.event] or [0]))
    assert verify(evolve(trace, lines=(*trace.lines[: at + 1], *trace.lines[at:])), TRAINING).at == at + 1


@st.composite
def answered(draw: st.DrawFn) -> Trace:
    """A trace of the events and the answers alone; one or two answer each guard."""
    scripted = st.builds(lambda chosen: answers_by(chosen.answers()), scripts())
    callbacks = draw(st.lists(scripted, max_size=1))
    trace = recorded(draw(plans(max_epochs=2, max_batches=3)), draw(scripts()), callbacks=callbacks)
    return evolve(trace, lines=tuple(line for line in trace.lines if line.guard or line.callback is None))


def judged(trace: Trace, lines: Sequence[TraceLine]) -> int | None:
    """The line that is found when a trace is changed; it still has to show who answers what, in the same order."""
    assume(answering(lines) == answering(trace.lines))
    return verify(evolve(trace, lines=tuple(lines)), TRAINING).at


# Where a yes of a guard leads on unheard: the same may be heard behind it as behind a no.
UNHEARD = {
    (name_of(row.guard), name_of(row.source))
    for machine in (TRAINING, *TRAINING.within)
    for row in machine.rows
    if row.guard is not None and not row.heard
}


def spared(line: TraceLine) -> bool:
    """Whether a run may go on like this without this answer: `run.stop` or `run.skip` may have said yes."""
    return line.answer is True or (line.guard, line.state) in UNHEARD


@given(answered(), st.data())
def test_an_answer_that_was_taken_out_is_missed(trace: Trace, data: st.DataObject) -> None:
    lines = [at for at, line in enumerate(trace.lines) if line.guard and not spared(line)]
    assume(lines)
    at = data.draw(st.sampled_from(lines))
    assert judged(trace, [*trace.lines[:at], *trace.lines[at + 1 :]]) == at


@given(answered(), st.data())
def test_an_answer_that_comes_twice_is_found(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.sampled_from([at for at, line in enumerate(trace.lines) if line.guard] or [0]))
    said = data.draw(st.booleans())
    assert (
        judged(trace, [*trace.lines[: at + 1], evolve(trace.lines[at], answer=said), *trace.lines[at + 1 :]]) == at + 1
    )


@given(answered(), st.data())
def test_answers_out_of_order_are_found(trace: Trace, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(trace.lines) - 2))
    one, other = trace.lines[at : at + 2]
    assume(one.guard or other.guard)
    assert judged(trace, [*trace.lines[:at], other, one, *trace.lines[at + 2 :]]) in (at, at + spared(one))


def test_a_row_that_nobody_has_chosen_is_found() -> None:
    trace = recorded(SHORT, Script({"skip_step": [1]}))
    at = line_of(trace, guard="skip_step", answer=True)
    lines = [*trace.lines[:at], evolve(trace.lines[at], answer=False), *trace.lines[at + 1 :]]
    assert verify(evolve(trace, lines=tuple(lines)), TRAINING).at == at + 1


@pytest.mark.parametrize("guards", [["accumulate"], ["accumulate", "skip_step"], ["skip_step"]])
def test_guards_of_which_no_line_is_left_are_missed(guards: list[str]) -> None:
    """One asking is missed by what the other askings of the run tell."""
    trace = recorded(SHORT)
    first = line_of(trace, guard="accumulate")
    lines = [line for at, line in enumerate(trace.lines) if at not in (first, first + 1) or line.guard not in guards]
    assert verify(evolve(trace, lines=tuple(lines)), TRAINING).at == line_of(trace, guard=guards[0])


@pytest.mark.parametrize("leave", ["skip", "close", "raise", "go on"])
def test_a_loop_of_ones_own_may_have_it_otherwise_than_all_who_were_asked(leave: str) -> None:
    def loop(engine: Engine, plan: Plan) -> None:
        with engine.start(None, epochs=plan.epochs) as run:
            for _ in run.each_epoch():
                for inputs, targets in run.each_batch(batches(3)):
                    if run.batch_index == 0:
                        whole(engine, run, inputs, targets)
                    elif leave == "raise":
                        raise Planned
                    elif leave != "go on":
                        getattr(run, leave)()

    trace = recorded(SHORT, way=loop)
    assert (found := verify(trace, TRAINING)), found


@pytest.mark.parametrize("scope", ["run", "epoch"])
def test_a_stop_that_was_asked_for_needs_no_answer(scope: str) -> None:
    class Stops(Callback):
        def on_step_end(self, run: Run) -> None:
            run.stop("enough", scope=scope)

    trace = recorded(evolve(SHORT, epochs=2), callbacks=[Stops()])
    assert {"stop_training", "stop_epoch"} <= {line.guard for line in trace.lines if line.answer is False}
    assert (found := verify(trace, TRAINING)), found


@pytest.mark.parametrize("guard", ["skip_step", "accumulate"])
def test_where_a_loop_of_ones_own_skips_nobody_is_asked(guard: str) -> None:
    def loop(engine: Engine, plan: Plan) -> None:
        with engine.start(None, epochs=plan.epochs) as run:
            for _ in run.each_epoch():
                for inputs, targets in run.each_batch(batches(3)):
                    if run.batch_index == 0:
                        whole(engine, run, inputs, targets)
                        continue
                    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                    run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets))
                    run.loss.backward()
                    run.skip(guard)

    trace = recorded(SHORT, way=loop)
    assert (found := verify(trace, TRAINING)), found


@given(plans(max_epochs=2, max_batches=3), st.data())
def test_after_a_yes_another_row_is_not_legal(plan: Plan, data: st.DataObject) -> None:
    trace = recorded(plan)
    asked = [at for at, line in enumerate(trace.lines) if line.guard == "skip_step"]
    assume(asked)
    at = data.draw(st.sampled_from(asked))
    changed = evolve(trace.lines[at], answer=True)
    found = verify(evolve(trace, lines=(*trace.lines[:at], changed, *trace.lines[at + 1 :])), TRAINING)
    following = next(n for n, line in enumerate(trace.lines) if n > at and line.callback is None)
    assert found.at in range(at + 1, following + 1)


def test_a_machine_that_counts_where_nothing_is_heard_is_followed_to_an_end() -> None:
    row, ready = PREDICTION.row, Count(Counter.BATCHES_DONE, 1, When.BEFORE, Trigger.BATCH_READY)
    quiet = PREDICTION.without(*(event for event in PREDICTION.events if name_of(event).count("_") == 2))
    counting = evolve(quiet, name="counting", counts=(ready,))
    zero = dict.fromkeys(map(name_of, Counter), 0)
    begin = TraceLine(
        machine="counting",
        event="predict_begin",
        state="predict",
        counters=zero,
        row=str(row(State.IDLE, Trigger.PREDICTION_ASKED)),
    )
    end = TraceLine(
        machine="counting",
        event="predict_end",
        state="done",
        counters={**zero, "batches_done": 3},
        row="fetch loader_dry -> done: predict_end",
    )
    trace = Trace("counting", rows_of(counting), (begin, end))
    assert verify(trace, counting)


def line_of(trace: Trace, **said: object) -> int:
    """The index of the first line that says this."""
    return next(at for at, line in enumerate(trace.lines) if all(getattr(line, n) == v for n, v in said.items()))


@pytest.mark.parametrize(
    ("which", "change", "verdict"),
    [
        (
            {"event": "step_end", "callback": "Ear"},
            {"event": "step_begin"},
            "Ear is called, and step_begin is not heard\n"
            "  heard:  a call of Ear for step_begin, after backward_end, step_begin, step_end\n"
            "  legal:  calls for step_end, skip_zero_grad of Script in step, batch_end in epoch, "
            "exception in failed or interrupted",
        ),
        (
            {"event": "step_end", "callback": "Ear"},
            {"state": "loss"},
            "wrong state at step_end\n"
            "  heard:  step_end in loss, after backward_end, step_begin, step_end\n"
            "  legal:  step_end in step",
        ),
        (
            {"event": "step_begin", "callback": None},
            {"row": "settle grads_averaged -> flush: step_begin"},
            "wrong row at step_begin\n"
            "  heard:  step_begin on settle grads_averaged -> flush: step_begin, after loss_end, backward_begin, "
            "backward_end\n"
            "  legal:  step_begin on average grads_averaged -> step: step_begin",
        ),
        (
            {"guard": "skip_step"},
            {"guard": "skip_batch"},
            "Script is not asked skip_batch there\n"
            "  heard:  skip_batch of Script in backward, after loss_end, backward_begin, backward_end\n"
            "  legal:  skip_step of Script in backward, exception in failed or interrupted",
        ),
        (
            {"guard": "skip_step"},
            {"state": "window"},
            "wrong state at skip_step\n"
            "  heard:  skip_step in window, after loss_end, backward_begin, backward_end\n"
            "  legal:  skip_step in backward",
        ),
    ],
)
def test_the_verdict_says_what_was_heard_and_what_was_legal(which: dict, change: dict, verdict: str) -> None:
    trace = recorded(SHORT, callbacks=[hears_everything("Ear", [])()])
    at = line_of(trace, **which)
    changed = evolve(trace.lines[at], **change)
    found = verify(evolve(trace, lines=(*trace.lines[:at], changed, *trace.lines[at + 1 :])), TRAINING)
    assert found.at == at
    assert f"the trace, line {at + 2}: {verdict}" == str(found)
