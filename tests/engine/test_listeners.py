"""Who hears what, in which order, how often; and who had a say in a stop or a skip?"""

import warnings
from collections.abc import Callable
from enum import Enum

import attrs
import pytest
import torch
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine import Action, Callback, Engine, Outcome, Run
from states import EVALUATION, TRAINING, Guard, Machine, State, Transition, Trigger
from states.names import name_of
from states.walk import script
from tests.engine.tools import Recorder, answers, batches, hears, small_engine


def says(log: list[str], name: str, event: str = "epoch_end", **more: object) -> Callback:
    """A callback of a class of its own that writes down its name."""
    return type(name, (Callback,), {f"on_{event}": lambda self, run: log.append(name), **more})()


# --- Order ------------------------------------------------------------------------------------------------------------


@frozen
class Seat:
    """One listener of a random list: its order, and whether it is a function."""

    order: int
    function: bool


SEATS = st.lists(st.builds(Seat, st.integers(-3, 3), st.booleans()), min_size=1, max_size=8)


@given(SEATS)
def test_callbacks_and_functions_are_called_by_order_and_then_by_registration(seats: list[Seat]) -> None:
    log: list[str] = []
    asked: list[str] = []
    engine = small_engine()
    for number, seat in enumerate(seats):
        name = str(number)
        if seat.function:
            engine.on("epoch_end", order=seat.order)(lambda run, name=name: log.append(name))
            engine.guard("skip_step", order=seat.order)(lambda run, name=name: asked.append(name) is not None)
        else:
            guard = {"skip_step": lambda self, run, name=name: asked.append(name) is not None}
            engine.add(says(log, name, order=seat.order, **guard))
    engine.fit(batches(1), epochs=2)
    wanted = [str(number) for number, _ in sorted(enumerate(seats), key=lambda pair: pair[1].order)]
    assert log == wanted * 2
    assert asked == wanted * 2


def test_runs_after_is_stronger_than_order_and_holds_for_subclasses() -> None:
    log: list[str] = []

    class Base(Callback):
        order = 50

        def on_epoch_end(self, run: Run) -> None:
            log.append(type(self).__name__)

    class Sub(Base): ...

    early = says(log, "Early", order=-10, runs_after=(Base,))
    late = says(log, "Late", order=70, runs_after=(Base,))
    engine = small_engine(early, late, says(log, "Last", order=60), says(log, "First"), Sub(), Base())
    engine.fit(batches(1))
    assert log == ["First", "Sub", "Base", "Early", "Last", "Late"]
    assert [type(callback).__name__ for callback in engine.callbacks] == ["Metrics", "Recorder", *log]


def test_runs_after_a_class_that_is_not_there_asks_for_nothing() -> None:
    log: list[str] = []
    engine = small_engine(says(log, "One", runs_after=(Recorder,)), says(log, "Two"))
    engine.fit(batches(1))
    assert log == ["One", "Two"]


def test_two_instances_of_one_class_do_not_wait_for_each_other() -> None:
    log: list[object] = []

    class After(Callback):
        runs_after = (Callback,)  # all others

        def on_epoch_end(self, run: Run) -> None:
            log.append(self)

    one, two = After(), After()
    engine = small_engine(one, two, hears("epoch_end", lambda run: log.append("another")))
    engine.fit(batches(1))
    assert log == ["another", one, two]


def test_the_values_of_the_epoch_are_there_for_every_callback_that_comes_after_the_engines_own() -> None:
    seen: list[list[str]] = []
    engine = small_engine(hears("epoch_end", lambda run: seen.append(sorted(run.metrics)), order=-99))
    engine.fit(batches(1), batches(1))
    assert seen == [["train_loss", "valid_loss"]]


# --- Every and once ---------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["batch_end", "epoch_end", "validate_batch_end", "validate_end", "train_end"]),
    st.integers(1, 5),
    st.booleans(),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)
def test_hearings_are_counted_over_the_whole_run_also_across_its_validations(  # noqa: PLR0917  # what is random
    event: str, number: int, once: bool, epochs: int, length: int, checked: bool
) -> None:
    every_one: list[tuple[int, int]] = []
    some: list[tuple[int, int]] = []
    engine = small_engine(checked=checked)
    engine.on(event)(lambda run: every_one.append((run.epoch, run.batch_index)))
    which = {"once": number} if once else {"every": number}
    engine.on(event, **which)(lambda run: some.append((run.epoch, run.batch_index)))
    for _ in range(2):  # and each run counts from the start
        every_one.clear()
        some.clear()
        engine.fit(batches(2), batches(length), epochs=epochs)
        last = slice(number - 1, number) if once else slice(number - 1, None, number)
        assert some == every_one[last]
        assert every_one


def test_an_evaluation_inside_a_callback_counts_for_itself() -> None:
    heard: list[str] = []
    engine = small_engine()
    engine.on("validate_batch_end", once=2)(
        lambda run: heard.append("in the run" if run.parent else "in the evaluation")
    )
    engine.on("epoch_end")(lambda run: engine.evaluate(batches(2)))
    engine.fit(batches(1), batches(1), epochs=2)
    assert heard == ["in the evaluation", "in the run", "in the evaluation"]


def test_one_function_may_hear_several_events_each_counted_alone() -> None:
    heard: list[str] = []

    def note(run: Run) -> None:
        heard.append(name_of(run.state))

    engine = small_engine()
    engine.on("epoch_begin")(engine.on("batch_end", every=2)(note))
    engine.fit(batches(4), epochs=1)
    assert heard == ["epoch", "epoch", "epoch"]
    engine.remove(note)
    engine.fit(batches(4))
    assert len(heard) == 3


# --- Guards -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=5), st.sampled_from(["skip_step", "stop_epoch", "stop_training"]))
def test_several_who_answer_are_asked_in_order_until_the_first_yes(verdicts: list[bool], guard: str) -> None:
    asked: list[int] = []

    def answering(number: int) -> Callable[[Run], bool]:
        def answer(run: Run) -> bool:
            if run.updates or run.batch_index or run.state not in (State.EPOCH, State.BACKWARD):
                return False
            asked.append(number)
            return verdicts[number]

        return answer

    engine = small_engine(*(answers(guard, answering(number), order=-number) for number in range(len(verdicts))))
    run = engine.fit(batches(2))
    order = list(reversed(range(len(verdicts))))
    yes = [number for number in order if verdicts[number]]
    assert asked == (order[: order.index(yes[0]) + 1] if yes else order)
    records = run.skips if guard == "skip_step" else run.stops
    assert len(records) == (1 if yes else 0)


def test_a_plain_function_answers_a_guard_and_is_removed_like_any_other() -> None:
    engine = small_engine()

    @engine.guard("skip_batch")
    def odd(run: Run) -> bool:
        return run.batch_index % 2 == 1

    assert engine.fit(batches(5)).updates == 3
    engine.remove(odd)
    assert engine.fit(batches(5)).updates == 5


# --- Names, adding, removing ------------------------------------------------------------------------------------------


def test_two_with_one_name_are_told_apart_by_a_number() -> None:
    engine = small_engine(Recorder(), Recorder())

    @engine.on("epoch_end", every=2)
    def report(run: Run) -> None: ...

    engine.on("epoch_end", once=1)(report_again := (lambda run: None))
    engine.on("epoch_begin")(report)
    heard = {word: who for word, who in _who(engine).items() if word in ("epoch_begin", "epoch_end")}
    assert heard == {
        "epoch_begin": ["Metrics", "Recorder", "Recorder#2", "Recorder#3", "report#2"],
        "epoch_end": ["Metrics", "Recorder", "Recorder#2", "Recorder#3", "<lambda> (once, at 1)"],
    }
    engine.remove(report_again)
    engine.add(Recorder())
    assert _who(engine)["epoch_end"] == ["Metrics", *(f"Recorder{number}" for number in ("", "#2", "#3", "#4"))]


def _who(engine: Engine) -> dict[str, list[str]]:
    listing = engine.dry_run(batches=0)
    return {name_of(line.word): list(line.callbacks) for line in listing.lines}


def test_both_instances_of_one_class_hear_the_same() -> None:
    one, two = Recorder(), Recorder()
    small_engine(one, two).fit(batches(2), batches(1))
    assert one.notes
    assert one.notes == two.notes


def test_a_bound_method_is_removed_by_naming_it_again() -> None:
    class Counter:
        heard = 0

        def hear(self, run: Run) -> None:
            self.heard += 1

    counter, other = Counter(), Counter()
    engine = small_engine()
    engine.on("epoch_end")(counter.hear)
    engine.on("epoch_end")(other.hear)
    engine.remove(counter.hear)
    engine.fit(batches(1))
    assert (counter.heard, other.heard) == (0, 1)


def test_removing_looks_for_the_object_itself_and_not_for_an_equal_one() -> None:
    class Alike(Recorder):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None

    one, two = Alike(), Alike()
    engine = small_engine(one, two)
    engine.remove(two)
    engine.fit(batches(1))
    assert one.notes
    assert not two.notes


@pytest.mark.parametrize("event", ["train_begin", "batch_end", "validate_batch_begin", "train_end"])
def test_what_is_added_or_removed_while_a_run_goes_on_counts_from_the_next_run_on_and_says_so(event: str) -> None:
    added, removed, heard = Recorder(), Recorder(), list[str]()
    done: list[bool] = []

    def change(run: Run) -> None:
        if done:
            return
        done.append(True)
        on, guard = engine.on("epoch_end"), engine.guard("skip_step")
        said = "while a run goes on: it takes effect at the next run"
        with pytest.warns(UserWarning, match=f"a callback was added {said}") as one:
            engine.add(added)
        with pytest.warns(UserWarning, match=f"a callback was added {said}") as two:
            on(lambda run: heard.append("function"))
        with pytest.warns(UserWarning, match=f"a callback was added {said}") as three:
            guard(lambda run: heard.append("guard") is not None)
        with pytest.warns(UserWarning, match=f"a callback was removed {said}") as four:
            engine.remove(removed)
        assert [warning.filename for seen in (one, two, three, four) for warning in seen] == [__file__] * 4

    engine = small_engine(removed, hears(event, change))
    run = engine.fit(batches(2), batches(2), epochs=2)
    assert done
    assert run.outcome is Outcome.COMPLETED
    assert added.notes == []
    assert heard == []
    whole = list(removed.notes)
    assert whole[-1].event == "train_end"
    engine.fit(batches(2), batches(2), epochs=2)
    assert added.notes == whole
    assert removed.notes == whole
    assert heard.count("function") == 2
    assert heard.count("guard") == 4


def test_between_runs_adding_and_removing_is_silent() -> None:
    engine = small_engine()
    recorder = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.add(recorder)
        engine.fit(batches(1))
        engine.remove(recorder)


def test_what_is_added_in_a_run_that_fails_is_heard_in_the_next() -> None:
    recorder = Recorder()

    def add_and_fail(run: Run) -> None:
        with pytest.warns(UserWarning, match="added"):
            engine.add(recorder)
        msg = "on purpose"
        raise ValueError(msg)

    failing = hears("batch_begin", add_and_fail)
    engine = small_engine(failing)
    with pytest.raises(ValueError, match="on purpose"):
        engine.fit(batches(1))
    assert recorder.notes == []
    engine.remove(failing)
    engine.fit(batches(1))
    assert recorder.events[-1] == "train_end"


# --- Records of stops -------------------------------------------------------------------------------------------------


def test_a_stop_that_was_asked_for_is_recorded_with_who_where_and_why() -> None:
    engine = small_engine(hears("step_end", lambda run: run.updates == 5 and run.stop("five steps are enough")))
    run = engine.fit(batches(3), epochs=4)
    assert run.outcome is Outcome.STOPPED
    assert run.stopping
    (verdict,) = run.stops
    assert (name_of(verdict.guard), verdict.who, verdict.reason) == (
        "stop_training",
        "run.stop",
        "five steps are enough",
    )
    assert (verdict.epoch, verdict.batch_index, verdict.updates) == (1, 2, 5)
    assert (verdict.transition.source, verdict.transition.dest) == (State.EPOCH, State.STOPPING)
    assert str(verdict) == "stop_training by run.stop (epoch 1, batch 2, update 5): five steps are enough"


def test_a_stop_by_a_guard_names_the_callback() -> None:
    engine = small_engine(Recorder(), answers("stop_training", lambda run: run.epoch == 2))
    run = engine.fit(batches(3), epochs=4)
    (verdict,) = run.stops
    assert (verdict.who, verdict.reason) == ("Answers", "Answers answered stop_training")
    assert verdict.transition.group == (State.TRAIN, Trigger.EPOCH_DUE)
    assert (run.epoch, run.updates, run.state) == (2, 6, State.DONE)


def test_of_several_who_ask_for_a_stop_the_first_reason_is_kept_and_nobody_can_take_it_back() -> None:
    first = hears("batch_begin", lambda run: run.stop("first"))
    second = hears("batch_begin", lambda run: run.stop("second"))
    no = answers("stop_training", lambda run: False, order=-1)
    run = small_engine(first, second, no).fit(batches(3))
    assert [verdict.reason for verdict in run.stops] == ["first"]
    assert run.batches_done == 1


@pytest.mark.parametrize("event", ["validate_begin", "validate_batch_end", "validate_end"])
def test_a_stop_that_is_asked_for_in_a_validation_ends_it_and_the_training(event: str) -> None:
    recorder = Recorder()
    engine = small_engine(hears(event, lambda run: run.stop("seen enough")), recorder)
    run = engine.fit(batches(1), batches(3), epochs=3)
    assert run.outcome is Outcome.STOPPED
    assert [verdict.reason for verdict in run.stops] == ["seen enough"]
    at = recorder.events.index(event)
    wanted = {
        "validate_begin": ["stop", "validate_end", "epoch_end", "train_end"],
        "validate_batch_end": ["stop", "validate_end", "epoch_end", "train_end"],
        "validate_end": ["epoch_end", "stop", "train_end"],  # this epoch is whole: it is recorded, and no other begins
    }
    assert recorder.events[at + 1 :] == wanted[event]
    assert len(run.history) == (event == "validate_end")


class Cool(Enum):
    """A loop behind a stop."""

    COOL = "cool"
    WAIT = "wait"
    WAITED = "waited"
    STOP_COOLING = "stop_cooling"


def cooling(guard: Enum) -> Machine:
    """A training that goes round and round behind a stop, until a guard says that it is cool."""
    stopping = [attrs.evolve(row, dest=Cool.COOL) if row.dest is State.STOPPING else row for row in TRAINING.rows]
    loop = [
        Transition(Cool.COOL, None, guard, State.STOPPING),
        Transition(Cool.COOL, None, None, Cool.WAIT),
        Transition(Cool.WAIT, Cool.WAITED, None, Cool.COOL),
    ]
    return attrs.evolve(TRAINING, rows=[*stopping, *loop])


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
def test_a_stop_that_was_granted_does_not_answer_the_guards_of_a_users_own_behind_it(checked: bool) -> None:
    waits: list[bool] = []

    def wait(run: Run) -> Enum:
        waits.append(run.stopping)
        return Cool.WAITED

    recorder = Recorder()
    engine = small_engine(
        hears("batch_end", lambda run: run.stop("hot")),
        answers("stop_cooling", lambda run: len(waits) == 3),
        recorder,
        machine=cooling(Cool.STOP_COOLING),
        actions={Cool.WAIT: Action(wait, (Cool.WAITED,))},
        checked=checked,
    )
    run = engine.fit(batches(2), epochs=2)
    assert waits == [True] * 3
    assert [(verdict.guard, verdict.who) for verdict in run.stops] == [
        (Guard.STOP_TRAINING, "run.stop"),
        (Cool.STOP_COOLING, "Answers"),
    ]
    assert (run.outcome, run.stopping) == (Outcome.STOPPED, True)
    assert recorder.events[-3:] == ["stop", "epoch_end", "train_end"]


def test_a_yes_to_stop_training_is_kept_where_the_machine_asks_again_later() -> None:
    once = answers("stop_training", lambda run: run.batches_done == 1 and not run.stopping)
    wait = Action(lambda run: Cool.WAITED, (Cool.WAITED,))
    run = small_engine(once, machine=cooling(Guard.STOP_TRAINING), actions={Cool.WAIT: wait}).fit(batches(3))
    assert run.outcome is Outcome.STOPPED
    assert [(verdict.who, verdict.transition.source) for verdict in run.stops] == [("Answers", State.EPOCH)]
    assert [str(row) for row in run.recent][-2:] == ["cool [stop_training] -> stopping", "stopping -> done: train_end"]


def test_a_guard_that_stops_a_validation_ends_that_one_only_and_is_recorded_in_the_training() -> None:
    engine = small_engine(answers("stop_validate", lambda run: run.batch_index == 1))
    run = engine.fit(batches(1), batches(3), epochs=2)
    assert run.outcome is Outcome.COMPLETED
    assert [(str(verdict.guard), verdict.epoch, verdict.batch_index) for verdict in run.stops] == [
        ("Guard.STOP_VALIDATE", 0, 1),
        ("Guard.STOP_VALIDATE", 1, 1),
    ]
    assert len(run.history) == 2


def test_a_list_of_stops_or_skips_can_be_read() -> None:
    skip = answers("skip_step", lambda run: run.batches_done == 0)
    run = small_engine(skip, hears("batch_end", lambda run: run.stop("enough"))).fit(batches(2))
    assert f"{run.stops} {run.skips}" == f"[<{run.stops[0]}>] (<{run.skips[0]}>,)"


def test_a_stop_asked_for_when_nothing_is_left_to_stop_is_none() -> None:
    run = small_engine(hears("train_end", lambda run: run.stop("too late"))).fit(batches(1))
    assert run.outcome is Outcome.COMPLETED
    assert run.stops == []


# --- Records of skips -------------------------------------------------------------------------------------------------

SKIPS = {
    "skip_batch": State.BATCH,
    "skip_backward": State.LOSS,
    "accumulate": State.BACKWARD,
    "skip_step": State.BACKWARD,
    "skip_zero_grad": State.STEP,
}


@given(st.sampled_from(sorted(SKIPS)), st.sets(st.integers(0, 5)), st.booleans())
def test_skips_are_counted_for_each_callback_and_the_last_is_kept(guard: str, yes: set[int], checked: bool) -> None:
    said = script({guard: sorted(yes)})
    when: list[tuple[int, int, int]] = []

    def answer(run: Run) -> bool:
        verdict = said(guard_word, {})
        if verdict:
            when.append((run.epoch, run.batch_index, run.updates))
        return verdict

    engine = small_engine(answers(guard, answer), checked=checked)
    guard_word = next(word for word in engine.machine.guards if name_of(word) == guard)
    run = engine.fit(batches(3), epochs=2)
    assert len(when) == len(yes)
    if not yes:
        assert run.skips == ()
        return
    (tally,) = run.skips
    assert (tally.guard, tally.who, tally.count) == (guard_word, "Answers", len(yes))
    assert (tally.last_epoch, tally.last_batch_index, tally.last_updates) == when[-1]
    assert tally.transition.source is SKIPS[guard]
    times = f"{guard} by Answers: {len(yes)} time{'s' * (len(yes) != 1)}, last at epoch {when[-1][0]}"
    assert str(tally).startswith(times)


def test_each_callback_has_a_tally_of_its_own_and_those_without_a_yes_are_not_shown() -> None:
    never = answers("skip_step", lambda run: False)
    even = answers("skip_step", lambda run: run.batch_index % 2 == 0)
    always = answers("skip_step", lambda run: True)
    run = small_engine(never, even, always).fit(batches(5))
    assert [(tally.who, tally.count) for tally in run.skips] == [("Answers#2", 3), ("Answers#3", 2)]


def test_a_skipped_validation_is_counted_too() -> None:
    run = small_engine(answers("skip_validate", lambda run: run.epoch < 2)).fit(batches(1), batches(1), epochs=3)
    assert [(name_of(tally.guard), tally.count, tally.last_epoch) for tally in run.skips] == [("skip_validate", 2, 1)]
    assert ["valid_loss" in record for record in run.history] == [False, False, True]


def test_a_new_run_begins_with_empty_records() -> None:
    engine = small_engine(
        answers("skip_step", lambda run: True), answers("stop_epoch", lambda run: run.batch_index > 1)
    )
    first, second = engine.fit(batches(3)), engine.fit(batches(3))
    assert [tally.count for tally in first.skips] == [tally.count for tally in second.skips] == [2]
    assert len(first.stops) == len(second.stops) == 1


class OwnGuard(Enum):
    STOP_LOOKING = "stop_looking"


def test_a_yes_to_a_stop_guard_of_ones_own_takes_its_row_and_stops_nothing_else() -> None:
    own = Transition(State.EPOCH, None, OwnGuard.STOP_LOOKING, State.WINDOW)
    rows = [row for old in TRAINING.rows for row in ((own, old) if old.guard is Guard.STOP_EPOCH else (old,))]
    machine = attrs.evolve(TRAINING, name="own", rows=rows)
    model = nn.Linear(1, 1)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), machine=machine)
    engine.guard("stop_looking")(lambda run: run.batch_index == 1)
    run = engine.fit([(torch.ones(2, 1), torch.ones(2, 1))] * 3, epochs=2)
    assert (run.outcome, run.epoch, run.batches_done) == (Outcome.COMPLETED, 2, 2)
    assert [stop.guard for stop in run.stops] == [OwnGuard.STOP_LOOKING] * 2


class Deep(Enum):
    """The words of machines two and three levels within a training."""

    PROBE = "probe"
    PROBED = "probed"
    LOOK = "look"
    PROBE_BEGIN = "probe_begin"
    PROBE_END = "probe_end"
    SKIP_LOOK = "skip_look"


def _within() -> Machine:
    """A training whose validation holds, before each batch, a machine of its own."""
    inner = Machine(
        name="inner",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=(
            Transition(State.IDLE, Trigger.EVALUATION_ASKED, None, Deep.LOOK, (Deep.PROBE_BEGIN,)),
            Transition(Deep.LOOK, None, Deep.SKIP_LOOK, State.DONE, (Deep.PROBE_END,)),
            Transition(Deep.LOOK, None, None, State.DONE, (Deep.PROBE_END,)),
        ),
        gradients=False,
    )
    rows = [
        attrs.evolve(row, dest=Deep.PROBE) if row.source is State.EVALUATE and row.guard is None else row
        for row in EVALUATION.rows
    ]
    rows.append(Transition(Deep.PROBE, Trigger.VALIDATED, None, State.FETCH))
    evaluation = attrs.evolve(EVALUATION, rows=rows, holds={Deep.PROBE: inner})
    return attrs.evolve(TRAINING, holds={State.VALIDATE: evaluation})


def test_the_words_of_a_machine_are_known_however_deep_it_is_held() -> None:
    engine = small_engine(hears("probe_end", print, skip_look=lambda self, run: False), machine=_within())
    engine.on("probe_begin")(print)
    engine.guard("skip_look")(bool)
    listed = [line for line in engine.dry_run(valid_batches=1).lines if isinstance(line.word, Deep)]
    probing = [("probe_begin", ("print",)), ("skip_look", ("Hears", "bool")), ("probe_end", ("Hears",))]
    assert [(name_of(line.word), line.callbacks) for line in listed] == probing * 2  # a batch, and the loader's end
