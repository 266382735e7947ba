"""Does the progress bar show what it should, cost next to nothing, and leave the terminal clean?"""

import io
import logging
import re
from enum import Enum
from typing import Any

import pytest
import torch
from attrs import evolve
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Callback, Engine, Outcome
from engine.callbacks import Progress
from engine.callbacks.progress import ERASE_LINE
from engine.errors import ArgumentRefused
from states import EVALUATION, TRAINING, Event, Machine, State, Transition, Trigger
from states.errors import typed


class Terminal(io.StringIO):
    """A stream that says that it is a terminal, and can tell what stands on its screen."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        rows, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[AK]|[\r\n]|[^\r\n\x1b]+", self.getvalue()):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                rows += [""] * (row == len(rows))
            elif part == "\x1b[A":
                row -= 1
            elif part == "\x1b[K":
                rows[row] = rows[row][:column]
            else:
                rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
                column += len(part)
        return "\n".join(row.rstrip() for row in rows).rstrip().split("\n")


class Stream:
    """A loader without a length."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Any:
        return iter(self.batches)


def loader(batches: int) -> list[Any]:
    return [(torch.ones(4, 2), torch.zeros(4, 1))] * batches


def engine_with(*callbacks: object, machine: Machine = TRAINING) -> Engine:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    return Engine(model, torch.nn.MSELoss(), sgd, callbacks, machine=machine)


def forgiving(line: str) -> str:
    """A line with its numbers taken out."""
    return re.sub(r"\d+\.\d+(e-\d+)?", "#", line)


def test_each_epoch_has_its_bars_and_leaves_one_line() -> None:
    terminal = Terminal()
    engine_with(Progress(stream=terminal, refresh_seconds=1e-9)).fit(loader(3), loader(2), epochs=2)

    drawn = terminal.getvalue()
    assert all(title in drawn for title in ("epoch 0/1 train", "epoch 0/1 valid", "epoch 1/1 train", "epoch 1/1 valid"))
    assert re.search(r"epoch 0/1 train: .* 2/3 \[.*batches/s, loss \d\.\d{4}\]", drawn)
    assert [forgiving(line) for line in terminal.screen] == [
        "epoch 0/1  train_loss #  valid_loss #  # s",
        "epoch 1/1  train_loss #  valid_loss #  # s",
    ]


def test_a_run_without_a_last_epoch_and_a_loader_without_a_length_are_shown_without_an_end() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal, refresh_seconds=1e-9))
    engine.fit(Stream(loader(5)), loader(2), epochs=None, max_updates=7)

    assert "epoch 1 train: 2 batches" in terminal.getvalue()
    assert len(terminal.screen) == 2


class Own(Enum):
    PROBE = "probe"  # a validation after each batch


def probing() -> Machine:
    into = Transition(State.ZERO_GRAD, Trigger.GRADS_CLEARED, None, Own.PROBE)
    back = Transition(Own.PROBE, Trigger.VALIDATED, None, State.EPOCH, heard=(Event.BATCH_END,))
    ends = (Event.BATCH_END, Event.EPOCH_END)
    stop = Transition(Own.PROBE, Trigger.VALIDATION_STOPPED, None, State.STOPPING, heard=ends)
    rows = (row for row in TRAINING.rows if row.source is not State.ZERO_GRAD)
    return evolve(TRAINING, rows=(*rows, into, back, stop), holds={**TRAINING.holds, Own.PROBE: EVALUATION})


def test_a_validation_inside_an_epoch_gives_the_bar_of_the_training_back() -> None:
    terminal = Terminal()
    progress = Progress(stream=terminal, refresh_seconds=1e-9)
    engine = engine_with(progress, machine=probing())
    open_bars: list[int] = []
    engine.on("validate_end", order=901)(lambda run: open_bars.append(len(progress._bars)))

    engine.fit(loader(3), loader(2))

    assert open_bars == [1, 1, 1, 0]  # the last one is at the end of the epoch, when the training's bar is full
    assert re.search(r"epoch 0/0 train: .* 2/3 ", terminal.getvalue())
    assert len(terminal.screen) == 1


def test_nothing_is_drawn_where_no_terminal_is_and_the_lines_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    file = io.StringIO()
    with caplog.at_level(logging.INFO, "stateloop"):
        engine_with(Progress(stream=file)).fit(loader(3), loader(2), epochs=2)

    assert file.getvalue() == ""
    lines = [forgiving(record.getMessage()) for record in caplog.records if "progress" in record.pathname]
    assert lines == [f"epoch {epoch}/1  train_loss #  valid_loss #  # s" for epoch in (0, 1)]


def test_by_default_a_program_without_a_terminal_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    engine_with(Progress()).fit(loader(3), loader(2), epochs=2)

    assert capfd.readouterr() == ("", "")


class HostReads(TorchDispatchMode):
    """Counts how often a tensor is read on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_the_loss_is_read_once_for_each_drawing_and_never_per_batch() -> None:
    counts = []
    for callbacks in ((), (Progress(stream=Terminal(), refresh_seconds=1000),)):
        with HostReads() as reads:
            engine_with(*callbacks).fit(loader(100), loader(50), epochs=2)
        counts.append(reads.count)

    without, with_progress = counts
    assert with_progress - without == 4  # two epochs, each with a training and a validation that end


class Fault(Callback):
    """Stops or raises in the middle of the second epoch's training or validation."""

    def __init__(self, where: str, what: BaseException | None) -> None:
        self.where, self.what = where, what

    def on_batch_end(self, run: Any) -> None:
        self._at("train", run)

    def on_validate_batch_end(self, run: Any) -> None:
        self._at("valid", run)

    def _at(self, where: str, run: Any) -> None:
        if (where, run.epoch, run.batch_index) == (self.where, 1, 1):
            if self.what is not None:
                raise self.what
            run.stop("enough")


@pytest.mark.parametrize("where", ["train", "valid"])
@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
@pytest.mark.parametrize("sized", [True, False])
def test_the_terminal_is_clean_however_a_run_ends(where: str, what: BaseException | None, sized: bool) -> None:
    terminal = Terminal()
    progress = Progress(stream=terminal, refresh_seconds=1e-9)
    engine = engine_with(progress, Fault(where, what))
    batches: Any = loader(4) if sized else Stream(loader(4))
    if what is None:
        assert engine.fit(batches, loader(3), epochs=3).outcome is Outcome.STOPPED
    else:
        with pytest.raises(type(what)):
            engine.fit(batches, loader(3), epochs=3)

    said = [forgiving(line) for line in terminal.screen]
    assert said[0] == "epoch 0/2  train_loss #  valid_loss #  # s"
    assert said[1:] == ([] if what else ["stopped in epoch 1 at batch 2: enough"])
    assert terminal.getvalue().endswith("\n" if what is None else ERASE_LINE)
    assert progress._bars == []


def test_a_stop_between_two_epochs_and_one_of_a_lone_prediction_are_told_as_such() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal))
    engine.on("epoch_end")(lambda run: run.stop("one is enough"))
    engine.on("predict_batch_end")(lambda run: run.stop("so is one batch"))
    engine.fit(loader(2), epochs=3)
    engine.predict([torch.ones(4, 2)] * 3)

    assert terminal.screen[1:] == ["stopped before epoch 1: one is enough", "stopped at batch 1: so is one batch"]


def test_what_a_callback_has_put_among_the_metrics_is_shown_in_its_line_whatever_it_is() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal))
    more = {
        "nothing": None,
        "word": "high",
        "many": torch.zeros(99, 3),
        "step": 3,
        "half": torch.tensor(0.5).numpy()[()],
    }
    engine.on("epoch_end")(lambda run: run.metrics.update(more))
    engine.fit(loader(2))

    (line,) = terminal.screen
    assert re.search(r"  nothing None  word high  many tensor\(\[\[0.* \.\.\.  step 3\.0000  half 0\.5000  ", line)


def test_an_evaluation_and_a_prediction_by_themselves_are_shown() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal, refresh_seconds=1e-9))
    engine.evaluate(loader(3))
    engine.predict([torch.ones(4, 2)] * 3)

    drawn = terminal.getvalue()
    assert "evaluation: " in drawn
    assert "prediction: " in drawn
    assert [forgiving(line) for line in terminal.screen] == ["evaluation  valid_loss #  # s", "prediction  # s"]


@pytest.mark.parametrize("guard", ["stop_validate", "run.stop"])
def test_an_evaluation_that_is_stopped_is_told_once_and_by_a_guard_of_its_own_with_its_numbers(guard: str) -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal))
    if guard == "run.stop":
        engine.on("validate_batch_end")(lambda run: run.stop("enough"))
    else:
        engine.guard(guard)(lambda run: run.batch_index == 1)

    assert engine.evaluate(loader(3)).outcome is Outcome.STOPPED
    wanted = "stopped at batch 1: enough" if guard == "run.stop" else "evaluation stopped at batch 1  valid_loss #  # s"
    assert [forgiving(line) for line in terminal.screen] == [wanted]


def test_it_hears_after_the_callbacks_of_the_user() -> None:
    progress = Progress()

    assert engine_with(progress, Fault("train", None)).callbacks[-1] is progress


def test_two_engines_in_a_row_share_nothing_but_the_screen() -> None:
    terminal = Terminal()
    progress = Progress(stream=terminal, refresh_seconds=1e-9)
    for _ in range(2):
        engine_with(progress).fit(loader(2))

    assert len(terminal.screen) == 2


@pytest.mark.parametrize("given", [0, -1.0, float("nan"), float("inf"), "often", None])
def test_a_refresh_that_is_no_number_above_zero_is_refused(given: Any) -> None:
    with pytest.raises(ArgumentRefused, match="refresh_seconds is ") as caught:
        Progress(refresh_seconds=given)

    assert caught.value.what == f"refresh_seconds is {given!r}, {typed(given)}"
    assert caught.value.allowed == "a number of seconds above 0"
