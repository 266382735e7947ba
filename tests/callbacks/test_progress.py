"""Does progress show what it should, where it should, cost next to nothing, and leave the terminal clean?"""

import importlib.machinery
import io
import logging
import os
import pty
import re
import select
import subprocess
import sys
import termios
import types
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Callback, Engine, Outcome
from engine.callbacks import Progress
from engine.errors import ArgumentRefused
from engine.layout import screen
from engine.layout.epoch_table import EpochTable
from engine.layout.screen import ERASE_LINE
from engine.testing import check_order
from states import EVALUATION, TRAINING, Event, Machine, State, Transition, Trigger
from states.errors import typed
from tests.testing.subjects import subject


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
    """A line with its numbers taken out, and its columns put close together."""
    return re.sub(r"  +", "  ", re.sub(r"\d+\.\d+(e-\d+)?", "#", line)).strip()


HEAD = "epoch  train_loss  valid_loss  time"


def test_each_epoch_has_its_bars_and_leaves_a_row() -> None:
    terminal = Terminal()
    engine_with(Progress(stream=terminal, refresh_seconds=1e-9)).fit(loader(3), loader(2), epochs=2)

    drawn = terminal.getvalue()
    assert all(title in drawn for title in ("epoch 0/1 train", "epoch 0/1 valid", "epoch 1/1 train", "epoch 1/1 valid"))
    assert re.search(r"epoch 0/1 train: .* 2/3 \[.*batches/s, loss \d\.\d{4}\]", drawn)
    assert [forgiving(line) for line in terminal.screen] == [HEAD, "0/1  #  #  # s", "1/1  #  #  # s"]


def test_a_run_without_a_last_epoch_and_a_loader_without_a_length_are_shown_without_an_end() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal, refresh_seconds=1e-9))
    engine.fit(Stream(loader(5)), loader(2), epochs=None, max_updates=7)

    assert "epoch 1 train: 2 batches" in terminal.getvalue()
    assert [line.split()[0] for line in terminal.screen] == ["epoch", "0", "1"]


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
    assert len(terminal.screen) == 2


class File(io.StringIO):
    """A file that remembers what had been written when it was flushed last."""

    kept = ""

    def flush(self) -> None:
        self.kept = self.getvalue()


def test_a_file_gets_the_table_alone_line_by_line_and_no_control_characters() -> None:
    file, seen = File(), []
    engine = engine_with(Progress(stream=file, refresh_seconds=1e-9))
    engine.on("epoch_end", order=901)(lambda run: seen.append(file.kept))
    engine.on("validate_end", order=901)(lambda run: seen.append(file.kept))
    engine.fit(loader(3), loader(2), epochs=2)

    first, second, third = file.getvalue().splitlines(keepends=True)
    assert [*map(forgiving, (first, second, third))] == [HEAD, "0/1  #  #  # s", "1/1  #  #  # s"]
    assert len({*map(len, (first, second, third))}) == 1
    assert seen == ["", first + second, first + second, first + second + third]
    assert file.getvalue().replace("\n", "").isprintable()


def test_by_default_a_program_without_a_terminal_writes_its_table_where_errors_go(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "stateloop"):
        engine_with(Progress()).fit(loader(3), loader(2), epochs=2)

    out, error = capfd.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 3
    assert not [record for record in caplog.records if "callbacks" in record.pathname]


def test_a_program_without_any_place_for_errors_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # as where Python has no console

    assert engine_with(Progress()).fit(loader(3)).outcome is Outcome.COMPLETED


def test_the_head_comes_again_where_the_columns_change_and_once_in_each_training() -> None:
    file = io.StringIO()
    engine = engine_with(Progress(stream=file))
    engine.guard("skip_validate")(lambda run: run.epoch == 2)
    for _ in range(2):
        engine.fit(loader(3), loader(2), epochs=4)

    begins = [line.split()[0] for line in file.getvalue().splitlines()]
    assert begins == 2 * ["epoch", "0/3", "1/3", "epoch", "2/3", "epoch", "3/3"]


@settings(max_examples=20)
@given(values=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=4))
def test_numbers_of_any_size_stay_in_their_columns(values: list[float]) -> None:
    file = io.StringIO()
    engine = engine_with(Progress(stream=file))
    engine.on("epoch_end")(lambda run: run.metrics.update(m=values[run.epoch]))
    engine.fit(loader(1), epochs=len(values))

    lines = file.getvalue().splitlines()
    assert len(lines) == len(values) + 1
    assert len({*map(len, lines)}) == 1


def test_a_column_that_a_word_has_made_wider_stays_as_wide() -> None:
    file, words = io.StringIO(), ["as good as ever", "a word", "much better than before", "worse"]
    engine = engine_with(Progress(stream=file))
    engine.on("epoch_end")(lambda run: run.metrics.update(how=words[run.epoch]))
    engine.fit(loader(1), epochs=4)

    lines = file.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["epoch", "0/3", "1/3", "epoch", "2/3", "3/3"]
    assert [*map(len, lines)] == 3 * [len(lines[0])] + 3 * [len(lines[0]) + 8]


def test_epochs_that_begin_later_are_shown_with_their_numbers() -> None:
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        engine_with(Progress(stream=stream, refresh_seconds=1e-9)).fit(loader(1), epochs=101, start_epoch=98)

    assert [line[:7] for line in file.getvalue().splitlines()] == ["  epoch", " 98/100", " 99/100", "100/100"]
    assert "epoch 98/100 train" in terminal.getvalue()


@pytest.mark.parametrize("size", [(24, 60), (0, 0)], ids=["sixty columns", "unknown"])
def test_bars_are_as_wide_as_the_terminal_and_drawn_where_that_is_not_known(size: tuple[int, int]) -> None:
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, size)
    with open(inside, "w") as stream:  # noqa: PTH123  # a descriptor has no path
        engine_with(Progress(stream=stream, refresh_seconds=1e-9)).fit(loader(3))
        drawn = b""
        while select.select([outside], [], [], 0)[0]:
            drawn += os.read(outside, 4096)
    os.close(outside)

    bars = [part for part in drawn.decode().split("\r") if part.startswith("epoch 0/0 train")]
    assert len(bars) == 4
    assert all("/3 [" in bar for bar in bars[1:])
    assert size != (24, 60) or {*map(len, bars)} == {56}  # a `^C` has its place


# Notebooks


class Cell(io.StringIO):
    """What a kernel puts in the place of `sys.stdout`."""


class ZMQInteractiveShell:
    """The shell of a Jupyter kernel, by its name."""


class Colab(ZMQInteractiveShell):
    """One that is derived from it."""


class TerminalInteractiveShell:
    """The shell of `ipython` in a terminal."""


def notebook(monkeypatch: pytest.MonkeyPatch, shell: Any) -> Cell:
    kernel, cell = types.ModuleType("IPython"), Cell()
    kernel.get_ipython = lambda: shell  # that is what it is for
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setattr(sys, "stdout", cell)
    return cell


@pytest.mark.parametrize("shell", [ZMQInteractiveShell(), Colab()])
def test_a_notebook_without_widgets_gets_a_bar_that_stays_on_one_line_and_the_table(
    shell: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cell = notebook(monkeypatch, shell)
    monkeypatch.setattr(screen, "find_spec", lambda name: None)
    engine_with(Progress(refresh_seconds=1e-9), machine=probing()).fit(loader(3), loader(2), epochs=2)

    drawn = cell.getvalue()
    assert "\x1b" not in drawn
    assert re.search(r"epoch 0/1 train: .* 2/3 \[.*loss", drawn)
    lines = [line.split("\r")[-1] for line in drawn.split("\n")]
    assert [forgiving(line) for line in lines] == [HEAD, "0/1  #  #  # s", "1/1  #  #  # s", ""]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("shell", [TerminalInteractiveShell(), None])
def test_another_shell_of_ipython_is_no_notebook(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = notebook(monkeypatch, shell)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    engine_with(Progress()).fit(loader(3))

    assert cell.getvalue() == ""
    assert len(terminal.screen) == 2


class Widget:
    """As much of one of ipywidgets as tqdm asks for."""

    shown: list["Widget"] = []  # noqa: RUF012  # emptied by each test

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)
        self.value, self.bar_style, self.closed = "", "", False
        self.layout = types.SimpleNamespace()
        self.style = types.SimpleNamespace()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def widgets(monkeypatch: pytest.MonkeyPatch) -> list[Widget]:
    """A notebook with widgets; gives those that are displayed."""
    shown: list[Widget] = []
    names = {"ipywidgets": ("HTML", "FloatProgress", "HBox"), "IPython.display": ("display",)}
    for name, parts in names.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for part in parts:
            setattr(module, part, shown.append if part == "display" else Widget)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "tqdm.notebook", raising=False)
    screen.widget_bar.cache_clear()
    yield shown
    screen.widget_bar.cache_clear()
    sys.modules.pop("tqdm.notebook", None)


def test_a_notebook_with_widgets_gets_bars_that_go_and_the_table(
    widgets: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = notebook(monkeypatch, ZMQInteractiveShell())
    engine = engine_with(Progress(refresh_seconds=1e-9))
    engine.guard("stop_epoch")(lambda run: run.batch_index == 2)
    engine.fit(loader(3), loader(2), epochs=2)

    titles = [bar.children[0].value.partition(":")[0].replace("\u2007", " ") for bar in widgets]
    assert titles == [f"epoch {epoch}/1 {name}" for epoch in (0, 1) for name in ("train", "valid")]
    assert all(bar.closed for bar in widgets)
    assert not any(bar.children[1].bar_style == "danger" for bar in widgets)
    assert [bar.children[1].value for bar in widgets] == [2, 2, 2, 2]
    assert [forgiving(line) for line in cell.getvalue().splitlines()] == [HEAD, "0/1  #  #  # s", "1/1  #  #  # s"]


def test_a_run_that_dies_in_a_notebook_leaves_no_bar(widgets: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    cell = notebook(monkeypatch, ZMQInteractiveShell())
    with pytest.raises(KeyboardInterrupt):
        engine_with(Progress(refresh_seconds=1e-9), Fault("valid", KeyboardInterrupt())).fit(
            loader(3), loader(3), epochs=2
        )

    assert len(widgets) == 4
    assert all(bar.closed for bar in widgets)
    assert [forgiving(line) for line in cell.getvalue().splitlines()][1:] == [
        "0/1  #  #  # s",
        "stopped by Ctrl-C in the validation of epoch 1",
    ]


# Several processes


@pytest.mark.parametrize(("rank", "shows"), [("0", True), ("1", False), ("13", False)])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_of_the_processes_that_torchrun_starts_the_first_alone_shows_anything(
    rank: str, shows: bool, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    shown = stream()
    engine = engine_with(Progress(stream=shown, refresh_seconds=1e-9))
    engine.on("epoch_end", once=2)(lambda run: run.stop("enough"))
    engine.fit(loader(3), loader(2), epochs=3)
    engine.evaluate(loader(2))

    assert bool(shown.getvalue()) is shows


RANKED = """
import sys, torch
from torch import distributed
from engine import Engine
from engine.callbacks import Progress
torch.set_num_threads(1)
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
model = torch.nn.Linear(2, 1)
engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [Progress()])
engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
distributed.destroy_process_group()
"""


def test_of_two_processes_that_know_each_other_the_first_alone_shows_anything(tmp_path: Path) -> None:
    environment = {**{k: v for k, v in os.environ.items() if k != "RANK"}, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RANKED, str(tmp_path / "meeting"), str(rank)],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], told
    rows = [[line for line in text.splitlines() if re.match(r"epoch  train_loss| +\d/1 ", line)] for text in told]
    assert [len(found) for found in rows] == [3, 0]


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
    assert said[:2] == [HEAD, "0/2  #  #  # s"]
    assert said[2:] == [told(where, what, " of 4" if sized else "")]
    assert (ERASE_LINE in terminal.getvalue()) is (what is not None)
    assert terminal.getvalue().endswith("\n")
    assert progress._bars == []


def told(where: str, what: BaseException | None, of: str) -> str:
    """What is said of a run that ended in the middle of its second epoch."""
    if what is None:
        place = f"in epoch 1 at batch 2{of}" if where == "train" else "in the validation of epoch 1 at batch 2 of 3"
        return f"stopped {place}: enough"
    place = f"in epoch 1 at batch 1{of}" if where == "train" else "in the validation of epoch 1"
    return f"stopped by Ctrl-C {place}" if isinstance(what, KeyboardInterrupt) else f"failed {place}: ValueError"


@pytest.mark.parametrize("where", ["train", "valid"])
@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_file_says_where_a_run_died(where: str, what: BaseException) -> None:
    file = io.StringIO()
    with pytest.raises(type(what)):
        engine_with(Progress(stream=file), Fault(where, what)).fit(loader(4), loader(3), epochs=3)

    assert [forgiving(line) for line in file.getvalue().splitlines()][2:] == [told(where, what, " of 4")]
    assert file.getvalue().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("event", "once", "place"),
    [
        ("train_begin", 1, "before epoch 0"),
        ("epoch_begin", 2, "before epoch 1"),
        ("batch_begin", 4, "in epoch 1 at batch 1 of 2"),
        ("epoch_end", 1, "in epoch 0 at batch 2 of 2"),
    ],
)
def test_a_run_that_is_interrupted_between_batches_says_where(event: str, once: int, place: str) -> None:
    file = io.StringIO()
    engine = engine_with(Progress(stream=file))
    engine.on(event, once=once)(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        engine.fit(loader(2), epochs=2)

    assert file.getvalue().splitlines()[-1] == f"stopped by Ctrl-C {place}"


def test_a_second_training_that_dies_before_its_first_epoch_does_not_say_where_the_first_was() -> None:
    file = io.StringIO()
    engine = engine_with(Progress(stream=file))
    engine.fit(loader(2), epochs=1)
    engine.on("train_begin")(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        engine.fit(loader(2), epochs=1)

    assert file.getvalue().splitlines()[-1] == "stopped by Ctrl-C before epoch 0"


class Interrupt:
    """Presses Ctrl-C."""

    def __call__(self, run: Any) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_an_evaluation_or_a_prediction_by_itself_that_dies_says_where(call: str) -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal, refresh_seconds=1e-9))
    engine.on("validate_batch_begin" if call == "evaluate" else "predict_batch_begin", once=2)(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        getattr(engine, call)(loader(3))

    assert terminal.screen == ["stopped by Ctrl-C at batch 1 of 3"]


def test_a_ctrl_c_that_the_terminal_has_echoed_is_wiped_where_no_bar_is_open() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal))

    @engine.on("train_begin")
    def press(run: Any) -> None:
        terminal.write("^C")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.fit(loader(2))

    assert terminal.screen == ["stopped by Ctrl-C before epoch 0"]


def test_a_stop_between_two_epochs_and_one_of_a_lone_prediction_are_told_as_such() -> None:
    terminal = Terminal()
    engine = engine_with(Progress(stream=terminal))
    engine.on("epoch_end")(lambda run: run.stop("one is enough"))
    engine.on("predict_batch_end")(lambda run: run.stop("so is one batch"))
    engine.fit(loader(2), epochs=3)
    engine.predict([torch.ones(4, 2)] * 3)

    assert terminal.screen[2:] == ["stopped before epoch 1: one is enough", "stopped at batch 1 of 3: so is one batch"]


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

    head, line = terminal.screen
    assert head.split() == ["epoch", "train_loss", *more, "time"]
    assert re.search(r"  None  +high  tensor\(\[\[0.* \.\.\.  +3\.0000  +0\.5000  ", line)


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
    wanted = "stopped at batch 1 of 3: enough"
    if guard != "run.stop":
        wanted = "evaluation stopped at batch 1 of 3  valid_loss #  # s"
    assert [forgiving(line) for line in terminal.screen] == [wanted]


def test_it_hears_after_the_callbacks_of_the_user() -> None:
    progress = Progress()

    assert engine_with(progress, Fault("train", None)).callbacks[-1] is progress


def test_two_engines_in_a_row_share_nothing_but_the_screen() -> None:
    terminal = Terminal()
    progress = Progress(stream=terminal, refresh_seconds=1e-9)
    for _ in range(2):
        engine_with(progress).fit(loader(2))

    assert len(terminal.screen) == 4


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "often", None, True])
def test_a_refresh_that_is_no_number_above_zero_is_refused(seconds: Any) -> None:
    with pytest.raises(ArgumentRefused, match="refresh_seconds is ") as caught:
        Progress(refresh_seconds=seconds)

    assert caught.value.what == f"refresh_seconds is {seconds!r}, {typed(seconds)}"
    assert caught.value.allowed == "a number of seconds above 0"


@pytest.mark.parametrize(
    "stream", ["progress.txt", Path("progress.txt"), object(), 2], ids=["text", "path", "object", "2"]
)
def test_a_stream_that_cannot_be_written_to_is_refused(stream: Any) -> None:
    with pytest.raises(ArgumentRefused, match="stream is ") as caught:
        Progress(stream=stream)

    assert caught.value.allowed == "a file that is open for text: an object with write, flush, isatty"
    assert 'open("progress.txt", "w")' in caught.value.instead


MANY = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "valid_f1", "grad_norm")


@given(
    columns=st.integers(1, 120),
    names=st.lists(st.sampled_from(MANY), unique=True),
    word=st.text("abc", min_size=1, max_size=40),
)
def test_a_row_is_as_wide_as_it_may_be_at_most_and_names_are_whole(columns: int, names: list[str], word: str) -> None:
    cells = {"epoch": "0/1", **dict.fromkeys(names, "1.0000"), "note": word, "time": "1.0 s"}
    head, row = EpochTable().lines(cells, columns)

    shown = [name for name in head.split() if not name.startswith("(")]
    assert shown == [name for name in cells if name in shown]
    assert shown[0] == "epoch"
    assert head.endswith(f"(+{len(cells) - len(shown)})") or len(shown) == len(cells)
    assert columns < len("epoch  (+1)") or max(len(head), len(row)) <= columns
    assert row.split() == " ".join(cells[name] for name in shown).split()


def test_columns_give_way_in_the_order_that_is_said() -> None:
    cells = {"epoch": "0/1", **dict.fromkeys(MANY, "1.0000"), "time": "1.0 s"}
    gone: list[str] = []
    for columns in range(120, 0, -1):
        head = EpochTable().lines(cells, columns)[0].split()
        gone += [name for name in cells if name not in (*head, *gone)]

    assert gone == ["grad_norm", "train_accuracy", "time", "valid_f1", "valid_accuracy", "train_loss", "valid_loss"]


def test_a_table_that_the_terminal_is_too_narrow_for_stays_on_its_lines_and_in_a_file_it_is_whole() -> None:
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 60))
    file = io.StringIO()
    with open(inside, "w") as terminal:  # noqa: PTH123  # a descriptor has no path
        for stream in (terminal, file):
            engine = engine_with(Progress(stream=stream))
            engine.on("epoch_end")(lambda run: run.metrics.update(dict.fromkeys(MANY[2:], 0.5)))
            engine.fit(loader(1), epochs=2)
        drawn = b""
        while select.select([outside], [], [], 0)[0]:
            drawn += os.read(outside, 4096)
    os.close(outside)

    lines = re.sub(r"\x1b\[\w|.*\r(?!\n)", "", drawn.decode()).splitlines()
    assert lines[0].split() == ["epoch", "train_loss", "valid_loss", "valid_accuracy", "(+3)"]
    assert len(lines) == 3
    assert all(len(line) <= 60 for line in lines)
    assert file.getvalue().split("\n")[0].split() == ["epoch", "train_loss", *MANY[2:], "time"]


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(subject(lambda: Progress(stream=Terminal(), refresh_seconds=1e-9)), runs=20, seed=0)
