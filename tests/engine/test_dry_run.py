"""Does the dry run list what a real run does?  The same calls in the same order, readable, without a tensor."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from attrs import asdict, frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import Callback, Engine, Run
from engine.errors import ArgumentRefused
from states import TRAINING, Event, Guard
from states.errors import StateloopError
from states.names import name_of
from states.walk import script
from tests.engine.tools import Count, Recorder, answers, batches, nothing_changes, refuses, small_engine, small_model


# --- As in a real run -------------------------------------------------------------------------------------------------

TOLD = sorted(name_of(event) for event in Event if event is not Event.EXCEPTION and "predict" not in name_of(event))
ASKED = sorted(name_of(guard) for guard in Guard if guard is not Guard.STOP_PREDICT)


@frozen
class Ear:
    """One listener of a random list."""

    events: tuple[str, ...]
    order: int
    every: int
    once: int | None
    function: bool


@frozen
class Call:
    """Something that happened, or would: to whom, when and where."""

    word: str
    who: str
    state: str
    when: tuple[int, int]
    verdict: bool | None = None


EARS = st.lists(
    st.builds(
        Ear,
        st.lists(st.sampled_from(TOLD), min_size=1, max_size=4, unique=True).map(tuple),
        st.integers(-2, 2),
        st.integers(1, 4),
        st.none() | st.integers(1, 4),
        st.booleans(),
    ),
    max_size=5,
)
YES = st.dictionaries(st.sampled_from(ASKED), st.sets(st.integers(0, 8), max_size=3).map(sorted), max_size=4)


def listening(ears: list[Ear], yes: Mapping[str, list[int]], log: list[Call], checked: bool) -> Engine:
    """An engine whose callbacks write down every call, and answer as they are told."""
    engine = small_engine(checked=checked)

    def note(run: Run, word: str, who: str, verdict: bool | None = None) -> None:
        log.append(Call(word, who, name_of(run.state), (run.epoch, run.batch_index), verdict))

    for number, ear in enumerate(ears):
        if ear.function:
            event = ear.events[0]
            which = {"once": ear.once} if ear.once is not None else {"every": ear.every}
            label = f"ear{number}" + (f" (once, at {ear.once})" if ear.once else _every(ear.every))

            def hear(run: Run, event: str = event, label: str = label) -> None:
                note(run, event, label)

            hear.__name__ = f"ear{number}"
            engine.on(event, order=ear.order, **which)(hear)
        else:
            methods: dict[str, Any] = {
                f"on_{event}": lambda self, run, event=event, who=f"Ear{number}": note(run, event, who)
                for event in ear.events
            }
            engine.add(type(f"Ear{number}", (Callback,), {**methods, "order": ear.order})())
    said = script(yes)
    for guard, word in ((name_of(guard), guard) for guard in Guard if name_of(guard) in yes):

        def answer(run: Run, guard: str = guard, word: Guard = word) -> bool:
            verdict = said(word, {})
            note(run, guard, "answer_" + guard, verdict)
            return verdict

        answer.__name__ = f"answer_{guard}"
        engine.guard(guard)(answer)
    return engine


def _every(number: int) -> str:
    return f" (every {number})" if number > 1 else ""


@given(
    EARS,
    YES,
    st.integers(0, 3),
    st.integers(1, 4),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 4),
    st.booleans(),
)
def test_the_dry_run_lists_just_the_calls_that_a_real_run_makes(  # noqa: PLR0917  # what is random
    ears: list[Ear],
    yes: dict[str, list[int]],
    epochs: int,
    length: int,
    valid: int | None,
    max_updates: int | None,
    checked: bool,
) -> None:
    log: list[Call] = []
    engine = listening(ears, yes, log, checked)
    listing = engine.dry_run(epochs, length, valid, max_updates=max_updates, answers=yes)
    assert log == []
    engine.fit(batches(length), None if valid is None else batches(valid), epochs, max_updates=max_updates)
    would = [
        Call(name_of(line.word), who, line.state, line.when, line.verdict)
        for line in listing.lines
        for who in line.callbacks
        if who not in ("Metrics", "Recorder")
    ]
    assert would == log
    heard = [(call.word, call.who) for call in log if call.verdict is None]
    assert [call for call in listing.calls() if call[1] not in ("Metrics", "Recorder")] == heard


@given(st.integers(0, 3), st.integers(1, 3), st.none() | st.integers(1, 2), YES)
def test_every_event_that_a_real_run_announces_is_listed_whoever_hears_it(
    epochs: int, length: int, valid: int | None, yes: dict[str, list[int]]
) -> None:
    recorder = Recorder()
    engine = listening([], yes, [], checked=False)
    bare = [name_of(line.word) for line in engine.dry_run(epochs, length, valid, answers=yes).lines if not _asks(line)]
    engine.add(recorder)
    engine.fit(batches(length), None if valid is None else batches(valid), epochs)
    assert bare == recorder.events


def _asks(line: Any) -> bool:
    return line.verdict is not None


def test_a_dry_run_leaves_no_trace_in_the_hearings_of_the_next_real_run() -> None:
    heard: list[int] = []
    engine = small_engine()
    engine.on("batch_end", every=3)(lambda run: heard.append(run.batch_index))
    first = engine.dry_run(batches=4)
    assert engine.dry_run(batches=4) == first
    engine.fit(batches(4))
    assert heard == [2]


# --- Nothing is touched -----------------------------------------------------------------------------------------------


class Untouchable(nn.Module):
    """A model that must not run."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError


def _explode(*_: object) -> Any:
    raise AssertionError


def test_no_tensor_is_touched_and_nobody_is_called() -> None:
    model = Untouchable()
    callbacks = [
        type("Explodes", (Callback,), {f"on_{name}": _explode for name in TOLD} | dict.fromkeys(ASKED, _explode))()
    ]
    engine = Engine(model, _explode, None, callbacks, metrics={"it": _explode})
    with nothing_changes(model, None), Count() as count:
        listing = engine.dry_run(epochs=3, batches=4, valid_batches=2)
        text = str(listing)
    assert count.seen == {}
    assert engine.last_run is None
    assert text.count("Explodes") > 100


def test_loaders_of_length_0_can_be_imagined() -> None:
    events = [name_of(line.word) for line in small_engine().dry_run(epochs=1, batches=0, valid_batches=0).lines]
    assert events == ["train_begin", "epoch_begin", "validate_begin", "validate_end", "epoch_end", "train_end"]


# --- Text -------------------------------------------------------------------------------------------------------------


class Saver(Callback):
    def on_stop(self, run: Run) -> None: ...

    def on_epoch_end(self, run: Run) -> None: ...


def example() -> Engine:
    engine = small_engine(Saver())
    engine.guard("skip_step")(overflow)
    engine.on("batch_end", every=2)(report)
    return engine


def overflow(run: Run) -> bool:
    return False


def report(run: Run) -> None: ...


TEXT = """\
dry run of training: epochs=2, batches=1, valid_batches=1; nothing is computed

epoch  batch  state       event or guard            callbacks
----------------------------------------------------------------------------
0      0      train       train_begin               Recorder
0      0      epoch       epoch_begin               Metrics, Recorder
0      0      batch       batch_begin
0      0      forward     forward_begin
0      0      forward     forward_end
0      0      loss        loss_begin
0      0      loss        loss_end                  Metrics, Recorder
0      0      backward    backward_begin
0      0      backward    backward_end
0      0      backward    skip_step? yes            overflow
0      0      epoch       batch_end
0      0        evaluate    validate_begin          Metrics
0      0        batch       validate_batch_begin
0      0        forward     validate_forward_begin
0      0        forward     validate_forward_end
0      0        loss        validate_loss_begin
0      0        loss        validate_loss_end       Metrics
0      0        evaluate    validate_batch_end
0      1        done        validate_end            Metrics
0      1      train       epoch_end                 Metrics, Recorder, Saver
1      0      epoch       epoch_begin               Metrics, Recorder
1      0      batch       batch_begin
1      0      forward     forward_begin
1      0      forward     forward_end
1      0      loss        loss_begin
1      0      loss        loss_end                  Metrics, Recorder
1      0      loss        skip_backward? yes        (the plan)
1      0      epoch       batch_end                 report (every 2)
1      1      epoch       stop_training? yes        (the plan)
1      1      stopping    stop                      Saver
1      1      stopping    epoch_end                 Metrics, Recorder, Saver
2      1      done        train_end                 Recorder

faster: SGD has a fused step on cpu: SGD(..., fused=True) is faster. It is not switched on for you: the optimizer is \
yours, its weights may differ in the last bits, and it takes no sparse gradients.
"""


def test_the_text_is_made_to_be_read() -> None:
    listing = example().dry_run(
        epochs=2, batches=1, valid_batches=1, answers={"skip_step": [0], "stop_training": [8], "skip_backward": [1]}
    )
    assert str(listing).splitlines() == TEXT.splitlines()


@given(st.integers(0, 2), st.integers(0, 3), st.none() | st.integers(0, 2), YES)
def test_the_text_has_one_line_for_each_line_of_the_data_in_straight_columns(
    epochs: int, length: int, valid: int | None, yes: dict[str, list[int]]
) -> None:
    listing = listening([], yes, [], checked=False).dry_run(epochs, length, valid, answers=yes)
    head, blank, titles, rule, *rows = str(listing).partition("\n\nfaster: ")[0].splitlines()
    assert head.startswith(f"dry run of training: epochs={epochs}, batches={length}")
    assert blank == ""
    assert set(rule) == {"-"}
    assert len(rows) == len(listing.lines)
    starts = [titles.index(title) for title in ("epoch", "batch", "state", "event or guard", "callbacks")]
    for row, line in zip(rows, listing.lines, strict=True):
        cells = [row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        assert cells[:3] == [str(line.when[0]), str(line.when[1]), line.state]
        word = name_of(line.word)
        assert cells[3] == (word if line.verdict is None else f"{word}? {'yes' if line.verdict else 'no'}")
        assert cells[4] == (", ".join(line.callbacks) or ("(the plan)" if line.verdict is not None else ""))
        assert row == row.rstrip()
        assert row[starts[2] :].startswith("  " * line.depth + line.state)


# --- Data -------------------------------------------------------------------------------------------------------------


def test_the_data_says_who_would_be_asked_at_which_transition_and_by_what_answer() -> None:
    no = answers("skip_step", lambda run: False)
    listing = small_engine(no, no_too := answers("skip_step", lambda run: False)).dry_run(
        epochs=1, batches=2, answers={"skip_step": [1]}
    )
    assert no is not no_too
    asked = [line for line in listing.lines if line.verdict is not None]
    assert [asdict(line) for line in asked] == [
        {
            "depth": 0,
            "when": (0, batch),
            "state": "backward",
            "word": Guard.SKIP_STEP,
            "callbacks": ("Answers", "Answers#2"),
            "transition": transition,
            "verdict": verdict,
        }
        for batch, verdict, transition in [
            (0, False, "backward grads_ready -> average: backward_end"),
            (1, True, "backward grads_ready [skip_step] -> zero_grad: backward_end"),
        ]
    ]


def test_the_lines_of_a_held_machine_are_one_deeper_and_name_its_rows() -> None:
    listing = small_engine(Recorder()).dry_run(epochs=1, batches=1, valid_batches=1)
    deep = [line for line in listing.lines if line.depth == 1]
    assert [line for line in listing.lines if name_of(line.word).startswith("validate")] == deep
    assert deep[0].transition == "idle evaluation_asked -> evaluate: validate_begin"
    assert {line.transition for line in listing.lines if line.depth == 0} <= {str(row) for row in TRAINING.rows}
    assert listing.machine == "training"
    assert (listing.plan.epochs, listing.plan.batches, listing.plan.valid_batches) == (1, 1, 1)


def test_a_stream_can_be_walked_until_its_updates_are_spent() -> None:
    listing = small_engine().dry_run(epochs=None, batches=4, max_updates=6)
    events = [name_of(line.word) for line in listing.lines]
    assert events.count("step_end") == 6
    assert events.count("epoch_end") == 2
    assert "epochs=" not in str(listing).splitlines()[0]
    with pytest.raises(StateloopError, match="the plan has no end"):
        small_engine().dry_run(epochs=None)


@pytest.mark.parametrize("yes", [0, True, "0", [True], [-1], [0.0], None])
def test_askings_that_are_no_list_of_numbers_are_refused(yes: Any) -> None:
    with refuses(ArgumentRefused, f"skip_step says yes are {yes!r}", "whole numbers, from 0", "{'skip_step': [0, 2]}"):
        small_engine(model=small_model()).dry_run(answers={"skip_step": yes})
