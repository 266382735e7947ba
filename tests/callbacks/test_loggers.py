"""Do all numbers get to where they are kept, once, however a training ends and however often it goes on?"""

import csv
import doctest
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer as naming

import engine.keeping.trackers
from engine import Engine, Run
from engine.callbacks import CSVFile, JSONLines, Log, MLflow, Sink, TensorBoard, WandB
from engine.errors import ArgumentRefused
from engine.testing import check_order, judge_leaks
from tests.engine.tools import Count, answers, batches, hears, refuses, same, small_engine, weights_of
from tests.testing.subjects import subject


class Listed:
    """A sink of a test's own: it writes down what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def open(self, epoch: int, step: int) -> None:
        self.calls.append(("open", epoch, step))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.calls.append((step, dict(values)))

    def flush(self) -> None:
        self.calls.append("flush")

    def close(self) -> None:
        self.calls.append("close")

    @property
    def rows(self) -> list[Any]:
        return [call for call in self.calls if isinstance(call, tuple) and call[0] != "open"]


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def open_files() -> set[str]:
    found = set()
    for number in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the list itself was open
            found.add(str(number.readlink()))
    return found


def test_a_sink_is_opened_given_each_record_flushed_and_closed() -> None:
    sink = Listed()
    run = small_engine(Log(sink)).fit(batches(3), batches(2), epochs=2)

    first, second = run.history
    assert sink.calls == [("open", 0, 0), (3, first), "flush", (6, second), "flush", "close"]
    assert isinstance(sink, Sink)


def test_the_loss_and_the_rates_of_each_nth_batch_are_those_of_a_plain_loop() -> None:
    sink = Listed()
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters(), "lr": torch.tensor(0.2)}]
    small_engine(Log(sink, every=2), model=model, optimizer=torch.optim.SGD(groups)).fit(batches(5), epochs=2)

    model.load_state_dict(start)
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters(), "lr": 0.2}]
    optimizer, losses = torch.optim.SGD(groups), []
    for inputs, targets in batches(5) * 2:
        loss = torch.nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    rows = [row for row in sink.rows if "batch_loss" in row[1]]
    assert [step for step, _ in rows] == [2, 4, 6, 8, 10]
    assert [values["batch_loss"] for _, values in rows] == losses[1::2]
    assert [values["epoch"] for _, values in rows] == [0, 0, 1, 1, 1]
    assert rows[0][1].keys() == {"epoch", "batch_loss", "lr_0", "lr_1"}
    assert rows[0][1]["lr_1"] == pytest.approx(0.2)


@settings(max_examples=25, deadline=None)
@given(number=st.integers(1, 12), every=st.integers(1, 4), skipped=st.sets(st.integers(0, 12)), stop=st.integers(0, 14))
def test_a_batch_that_was_skipped_has_no_row_and_an_epoch_that_was_stopped_has_none(
    number: int, every: int, skipped: set[int], stop: int
) -> None:
    sink = Listed()
    losses: dict[int, float] = {}
    small_engine(
        Log(sink, every=every),
        answers("skip_batch", lambda run: run.batches_done in skipped),
        answers("stop_training", lambda run: run.batches_done == stop),
        hears("loss_end", lambda run: losses.update({run.batches_done + 1: run.loss.item()})),
    ).fit(batches(number))

    kept = {step: values["batch_loss"] for step, values in sink.rows if "batch_loss" in values}
    assert kept == {step: loss for step, loss in losses.items() if step % every == 0}
    records = [step for step, values in sink.rows if "batch_loss" not in values]
    assert records == ([number] if stop > number else [])


def test_a_value_that_is_no_number_is_left_out_and_one_of_numpy_or_torch_is_a_number() -> None:
    sink = Listed()
    more = {
        "none": None,
        "word": "x",
        "many": torch.zeros(2),
        "np": np.float32(0.5),
        "one": torch.tensor([3.0]),
        "yes": 2,
    }
    engine = small_engine(Log(sink))
    engine.on("epoch_end", order=-200)(lambda run: run.metrics.update(more))
    engine.fit(batches(1))

    ((_, values),) = sink.rows
    assert {name: values[name] for name in more if name in values} == {"np": 0.5, "one": 3.0, "yes": 2}
    assert all(type(value) in (int, float) for value in values.values())


FILES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "csv": lambda path: [{k: float(v) for k, v in row.items() if v} for row in csv_rows(path)],
    "jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
}


def sink_of(path: Path, **more: Any) -> Any:
    return CSVFile(path, **more) if path.suffix == ".csv" else JSONLines(path, **more)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_has_what_the_history_has_and_pandas_reads_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "runs" / f"history.{kind}"
    run = small_engine(Log(sink_of(path))).fit(batches(3), batches(2), epochs=3)

    assert FILES[kind](path) == [{"step": 3 * (n + 1), **record} for n, record in enumerate(run.history)]
    frame = pd.read_csv(path) if kind == "csv" else pd.read_json(path, lines=True)
    assert frame["valid_loss"].tolist() == pytest.approx([record["valid_loss"] for record in run.history])
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("kind", FILES)
def test_evaluate_and_predict_write_nothing_and_erase_nothing(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"history.{kind}"
    engine = small_engine(Log(sink_of(path), every=1))
    engine.fit(batches(2))
    before = path.read_bytes()
    engine.evaluate(batches(1))
    engine.predict(batches(1))

    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", FILES)
def test_a_second_training_begins_the_file_anew_unless_it_appends(kind: str, tmp_path: Path) -> None:
    for append in (False, True):
        path = tmp_path / f"{append}.{kind}"
        engine = small_engine(Log(sink_of(path, append=append)))
        for _ in range(2):
            engine.fit(batches(2), epochs=2)
        assert [row["epoch"] for row in FILES[kind](path)] == [0, 1] * (1 + append)
        assert path.read_text().count("step,") == (kind == "csv")


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("cut", ["7,", '{"step": 7, "ep', "7,1,2,3,4,5,6"])
def test_one_that_appends_forgets_half_a_line(kind: str, cut: str, tmp_path: Path) -> None:
    path = tmp_path / f"history.{kind}"
    engine = small_engine(Log(sink_of(path, append=True)))
    engine.fit(batches(2), epochs=2)
    with path.open("a") as file:
        file.write(cut)
    engine.fit(batches(2), epochs=1)

    assert [(row["step"], row["epoch"]) for row in FILES[kind](path)] == [(2, 0), (4, 1), (2, 0)]


@pytest.mark.parametrize(
    ("kind", "found", "why"),
    [
        ("jsonl", b'{"step": 1, "epoch": 0}\nnonsense\n', "line 2 is 'nonsense', no JSON object"),
        ("jsonl", b"[1]\n", "line 1 is '[1]', no JSON object"),
        ("csv", b"step,epoch\n1,0,2\n", "line 2 has more cells than the header"),
        ("csv", b"step,epoch\n1,x\n", "could not convert string to float: 'x'"),
        ("csv", b"\xff\n", "can't decode byte"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_by_its_name_and_left_alone(
    kind: str, found: bytes, why: str, tmp_path: Path
) -> None:
    path = tmp_path / f"history.{kind}"
    path.write_bytes(found)
    with refuses(ArgumentRefused, str(path), "cannot be gone on in", why, "give the sink another path"):
        small_engine(Log(sink_of(path))).fit(batches(1), epochs=2, start_epoch=1)

    assert path.read_bytes() == found


def test_files_are_in_utf_8_whatever_the_system_writes_by_default(tmp_path: Path) -> None:
    script = f"""
from engine.keeping.sinks import CSVFile
for epoch in range(2):
    sink = CSVFile({str(tmp_path / "a.csv")!r})
    sink.open(epoch, 0)
    sink.write(1, {{"epoch": epoch, "G\\u00fcte": 0.5}})
    sink.write(1, {{"epoch": epoch, "more": 0.5}})
    sink.close()
"""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script], env=plain, check=True)

    assert (tmp_path / "a.csv").read_bytes().startswith("step,epoch,Güte,more\n".encode())


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("loads", [True, False])
@pytest.mark.parametrize("cut", ["", "7,", '{"step": 7, "ep'])
def test_one_that_goes_on_leaves_the_file_of_a_training_that_was_never_cut_off(
    kind: str, loads: bool, cut: str, tmp_path: Path
) -> None:
    """Three epochs were trained when it died, and the checkpoint is that of the first two."""
    whole, path = tmp_path / f"whole.{kind}", tmp_path / f"cut.{kind}"
    small_engine(Log(sink_of(whole), every=2)).fit(batches(3), epochs=4)

    log = Log(sink_of(path), every=2)
    engine = small_engine(log)
    kept: dict[str, Any] = {}

    def keep(run: Run) -> None:
        kept.update(model=run.model.state_dict(), optimizer=run.optimizer.state_dict(), log=log.state_dict())
        torch.save(kept, tmp_path / "kept.pt")

    engine.on("epoch_end", once=2, order=400)(keep)
    engine.fit(batches(3), epochs=3)
    with path.open("a") as file:
        file.write(cut)  # the process was killed while it wrote

    log = Log(sink_of(path), every=2)
    engine = small_engine(log)
    state = torch.load(tmp_path / "kept.pt", weights_only=True)
    engine.model.load_state_dict(state["model"])
    engine.optimizer.load_state_dict(state["optimizer"])
    if loads:
        log.load_state_dict(state["log"])
    engine.fit(batches(3), epochs=4, start_epoch=2)

    rows, expected = FILES[kind](path), FILES[kind](whole)
    if loads:
        assert rows == expected
    else:  # its steps begin anew, nothing is lost
        assert [row["train_loss"] for row in rows if "train_loss" in row] == [
            row["train_loss"] for row in expected if "train_loss" in row
        ]
        assert [row["epoch"] for row in rows if "train_loss" in row] == [0, 1, 2, 3]


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt(), None], ids=["error", "interrupt", "whole"])
def test_steps_and_updates_go_on_from_the_epoch_that_is_trained_again_on_the_same_engine(
    what: BaseException | None, tmp_path: Path
) -> None:
    """The last update of an epoch comes behind its batches: 5 batches, two to an update."""

    def die(run: Run) -> None:
        if run.epoch == 2 and run.batch_index == 3 and what is not None:
            raise what

    whole, path = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    window = answers("accumulate", lambda run: run.batch_index % 2 == 0)
    small_engine(Log(JSONLines(whole), every=2), window).fit(batches(5), epochs=4)
    ends, once = answers("accumulate", lambda run: run.batch_index % 2 == 0), hears("batch_end", die)
    engine = small_engine(Log(JSONLines(path), every=2), ends, once)
    with suppress(ValueError, KeyboardInterrupt):
        engine.fit(batches(5), epochs=4)
    engine.remove(once)
    engine.fit(batches(5), epochs=4, start_epoch=2)

    counts = [
        [(row["step"], row["epoch"], row.get("updates")) for row in FILES["jsonl"](file)] for file in (whole, path)
    ]
    assert counts[0] == counts[1]
    assert [updates for _, _, updates in counts[0] if updates] == [3, 6, 9, 12]


def test_a_column_that_comes_later_is_empty_above_and_one_that_is_left_out_is_empty_there(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    engine = small_engine(Log(CSVFile(path)), answers("skip_validate", lambda run: run.epoch in (0, 2)))
    run = engine.fit(batches(2), batches(1), epochs=4)

    rows = csv_rows(path)
    assert list(rows[0]) == ["step", "epoch", "updates", "train_loss", "valid_loss"]
    assert [row["valid_loss"] != "" for row in rows] == [False, True, False, True]
    assert [float(row["train_loss"]) for row in rows] == [record["train_loss"] for record in run.history]


def test_a_loss_that_is_not_finite_comes_back_as_it_was(tmp_path: Path) -> None:
    for sink in (CSVFile(tmp_path / "a.csv"), JSONLines(tmp_path / "a.jsonl")):
        sink.open(0, 0)
        sink.write(1, {"epoch": 0, "a": float("nan"), "b": float("-inf")})
        sink.close()
        (row,) = FILES[sink.path.suffix[1:]](sink.path)
        assert (str(row["a"]), row["b"]) == ("nan", float("-inf"))


@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
@pytest.mark.parametrize("event", ["train_begin", "batch_end", "epoch_end"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "tensorboard"])
def test_no_file_is_left_open_and_no_row_is_lost_however_a_training_ends(
    kind: str, event: str, what: BaseException | None, tmp_path: Path
) -> None:
    def end(run: Any) -> None:
        if run.epoch != (event != "train_begin"):
            return
        if what is not None:
            raise what
        run.stop("enough")

    def make() -> tuple[Engine, Callable[[], object]]:
        path = tmp_path / f"history.{kind}"
        sink = TensorBoard(path) if kind == "tensorboard" else sink_of(path)
        engine = small_engine(Log(sink, every=1), hears(event, end, order=301))
        return engine, lambda: engine.fit(batches(3), epochs=3)

    before = open_files()
    assert judge_leaks(make) == ()
    assert not [path for path in open_files() - before if str(tmp_path) in path]
    if kind != "tensorboard":
        rows = FILES[kind](tmp_path / f"history.{kind}")
        expected = {"train_begin": 0, "batch_end": 3 + 1 + 1, "epoch_end": 3 + 1 + 3 + 1}[event]
        assert len(rows) == expected


def test_the_rows_of_an_epoch_can_be_read_while_the_training_goes_on(tmp_path: Path) -> None:
    path, seen = tmp_path / "history.csv", []
    engine = small_engine(Log(CSVFile(path)))
    engine.on("epoch_end", order=301)(lambda run: seen.append(len(csv_rows(path))))
    engine.fit(batches(2), epochs=3)

    assert seen == [1, 2, 3]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_tensorboard_reads_the_same_numbers_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of one second are told apart by a number, and read in the order of the alphabet: 10 before 9.
    monkeypatch.setattr(naming, "_global_uid", naming.AtomicCounter(0))
    engine = small_engine(Log(TensorBoard(tmp_path), every=2))
    first = engine.fit(batches(3), batches(1), epochs=2).history
    read = scalars(tmp_path)
    assert read["valid_loss"] == [(3 * (n + 1), pytest.approx(row["valid_loss"])) for n, row in enumerate(first)]
    assert [step for step, _ in read["batch_loss"]] == [2, 4, 6]

    second = engine.fit(batches(3), batches(1), epochs=1).history  # anew: what was there is hidden
    read = scalars(tmp_path)
    assert read["train_loss"] == [(3, pytest.approx(second[0]["train_loss"]))]
    engine.fit(batches(3), epochs=2, start_epoch=1)
    assert [step for step, _ in scalars(tmp_path)["train_loss"]] == [3, 6]
    engine = small_engine(Log(TensorBoard(tmp_path)))  # it goes on, and its state was not loaded: nothing is hidden
    engine.fit(batches(3), epochs=3, start_epoch=2)
    assert [step for step, _ in scalars(tmp_path)["train_loss"]] == [3, 6, 3]


class Tracker(ModuleType):
    """A stand-in for wandb and mlflow, in which a run is active."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.rows: list[Any] = []
        self.over: dict[str, str] = {}
        self.run: Any = SimpleNamespace(log=self._log, define_metric=self._define)
        self.__spec__ = SimpleNamespace()  # it is there: that is all that is asked

    def _define(self, name: str, step_metric: str) -> None:
        assert name not in self.over
        self.over[name] = step_metric

    def _log(self, values: dict[str, float]) -> None:
        row = {name: value for name, value in values.items() if name != "step"}
        assert {self.over[name] for name in row} == {"step"}
        self.rows.append((values["step"], row))

    def init(self, **settings: str) -> Any:
        return nullcontext(settings)

    def start_run(self) -> Any:
        return nullcontext()

    def active_run(self) -> Any:
        return self.run and SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def log_metrics(self, values: dict[str, float], step: int, run_id: str) -> None:
        assert run_id == "r1"
        self.rows.append((step, values))


@pytest.mark.parametrize(("name", "sink"), [("wandb", WandB), ("mlflow", MLflow)])
def test_a_tracker_gets_each_row_in_the_run_that_is_active_and_is_refused_without_one(
    name: str, sink: type[WandB] | type[MLflow], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(name)
    monkeypatch.setitem(sys.modules, name, tracker)
    run = small_engine(Log(sink(), every=2)).fit(batches(3), epochs=2)

    assert [row for row in tracker.rows if "train_loss" in row[1]] == [(3, run.history[0]), (6, run.history[1])]
    assert [step for step, _ in tracker.rows] == [2, 3, 4, 6, 6]
    tracker.run = None
    with refuses(ArgumentRefused, "no run of ", "engine.fit(...)"):
        small_engine(Log(sink())).fit(batches(1))


def test_the_examples_of_the_trackers_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trackers = [Tracker("wandb"), Tracker("mlflow")]
    for tracker in trackers:
        monkeypatch.setitem(sys.modules, tracker.__name__, tracker)
    failed, tried = doctest.testmod(engine.keeping.trackers)
    assert (failed, tried > 0) == (0, True)
    assert [len(tracker.rows) for tracker in trackers] == [2, 2]


@pytest.mark.parametrize(
    ("name", "make", "install"),
    [
        ("wandb", WandB, "pip install 'wandb'"),
        ("mlflow", MLflow, "pip install 'mlflow'"),
        ("tensorboard", lambda: TensorBoard("x"), "pip install 'stateloop[tensorboard]'"),
    ],
)
def test_a_library_that_is_missing_is_told_when_the_sink_is_made(
    name: str, make: Callable[[], object], install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with refuses(ArgumentRefused, f"needs the package {name}", install):
        make()


@pytest.mark.parametrize("given", ["history.csv", None, CSVFile])
def test_what_is_no_sink_is_refused(given: Any) -> None:
    with refuses(ArgumentRefused, "the sink is ", "CSVFile"):
        Log(given)


@pytest.mark.parametrize("given", [0, -1, 1.5, True])
def test_an_every_that_is_no_number_of_batches_is_refused(given: Any) -> None:
    with refuses(ArgumentRefused, f"every is {given!r}"):
        Log(Listed(), every=given)


@pytest.mark.parametrize("make", [CSVFile, JSONLines, TensorBoard])
def test_a_path_that_is_none_is_refused(make: Callable[[Any], object], tmp_path: Path) -> None:
    with refuses(ArgumentRefused, "is 3, an int"):
        make(3)
    if make is not TensorBoard:
        with refuses(ArgumentRefused, "a folder"):
            make(tmp_path)


@pytest.mark.parametrize("make", [CSVFile, JSONLines, TensorBoard])
def test_two_logs_with_one_sink_are_refused_when_the_training_begins(make: Any, tmp_path: Path) -> None:
    sink = make(tmp_path / "history")
    engine = small_engine(Log(sink), Log(sink))
    with refuses(ArgumentRefused, "is written to already", "one Log for each sink"):
        engine.fit(batches(1))
    assert not [path for path in open_files() if str(tmp_path) in path]


def test_a_file_that_cannot_be_written_is_told_before_the_first_batch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    engine = small_engine(Log(CSVFile(tmp_path / "file" / "history.csv")))
    before = weights_of(engine.model)
    with pytest.raises(OSError, match="file"):
        engine.fit(batches(1))

    assert same(before, weights_of(engine.model))


def test_the_epochs_alone_cost_no_host_read_and_the_batches_one_each() -> None:
    reads = []
    for callbacks in ((), (Log(Listed()),), (Log(Listed(), every=5),)):
        with Count() as count:
            small_engine(*callbacks).fit(batches(50), epochs=2)
        reads.append(count.host_reads)

    assert reads == [reads[0], reads[0], reads[0] + 20]


def test_the_training_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    weights = []
    for callbacks in ((), (Log(CSVFile(tmp_path / "history.csv"), every=1),)):
        engine = small_engine(*callbacks)
        engine.fit(batches(6), epochs=2)
        weights.append(weights_of(engine.model))

    assert same(*weights)


def test_the_ordering_kit_finds_nothing(tmp_path: Path) -> None:
    check_order(subject(lambda: Log(CSVFile(tmp_path / "history.csv"), every=2)), runs=20, seed=0)
