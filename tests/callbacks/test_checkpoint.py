"""Are the files there that should be, no others, and nothing deleted that another has written?"""

import os
from collections.abc import Callable
from itertools import count
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import Callback, Engine, Outcome, Run
from engine.callbacks.checkpoint import Checkpoint
from engine.callbacks.early_stopping import EarlyStopping
from engine.callbacks.reduce_on_plateau import ReduceLROnPlateau
from engine.callbacks.stop_after import StopAfter
from engine.errors import ArgumentRefused
from engine.keeping.files import read
from engine.testing import check_order
from tests.engine.tools import answers, batches, hears, same, small_engine, weights_of
from tests.testing.subjects import subject


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is waited for in the tests of `engine.keeping.files`."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


class Feeds(Callback):
    """Puts a metric there, from a list."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, run: Run) -> None:
        run.metrics["score"] = self.values[run.epoch]


def trained(checkpoint: Checkpoint, values: list[float], start: int = 0, *more: object) -> Engine:
    engine = small_engine(Feeds(values), checkpoint, *more)
    engine.fit(batches(1), epochs=len(values), start_epoch=start)
    return engine


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def plain(values: list[float], mode: str, keep: int) -> list[int]:
    """The epochs of the best values, the best first, in the plainest way there is."""
    left = {epoch: (value if mode == "min" else -value) for epoch, value in enumerate(values) if not isnan(value)}
    best = []
    while left and len(best) < keep:
        epoch = min(left, key=lambda epoch: (left[epoch], epoch))
        best.append(epoch)
        del left[epoch]
    return best


values_of = st.lists(st.integers(-3, 3).map(float) | st.sampled_from([nan, inf]), min_size=1, max_size=7)
folders = count()


@given(values_of, st.sampled_from(["min", "max"]), st.integers(1, 3), st.booleans())
def test_the_best_are_kept_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], mode: str, keep: int, last: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"best-{next(folders)}"
    checkpoint = Checkpoint(folder, monitor="score", mode=mode, keep=keep, last=last)
    trained(checkpoint, values)
    best = plain(values, mode, keep)
    files = [f"epoch-{epoch}_score-{values[epoch]:.6g}.pt" for epoch in best]
    assert names_in(folder) == {*files, *(["last.pt"] if last else [])}
    assert checkpoint.best_path == (folder / files[0] if files else None)
    assert [read(folder / name)["epoch"] for name in files] == [epoch + 1 for epoch in best]


@given(values_of, st.integers(1, 3), st.data())
def test_a_training_in_two_parts_keeps_what_one_keeps(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], keep: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(values)))
    folders_of = [tmp_path_factory.getbasetemp() / f"parts-{next(folders)}" for _ in range(2)]
    whole, first, second = (
        Checkpoint(folder, monitor="score", mode="min", keep=keep) for folder in (*folders_of, folders_of[1])
    )
    trained(whole, values)
    trained(first, values[:cut])
    engine = small_engine(Feeds(values), second)
    engine.fit(batches(1), epochs=len(values), start_epoch=engine.load(folders_of[1] / "last.pt"))
    assert names_in(folders_of[0]) == names_in(folders_of[1])
    assert whole.state_dict() == second.state_dict()


def test_the_file_holds_the_weights_of_its_epoch(tmp_path: Path) -> None:
    kept: list[Any] = []
    keeps = hears("epoch_end", lambda run: kept.append(weights_of(run.model)), order=1)
    trained(Checkpoint(tmp_path, monitor="score", mode="max"), [1.0, 3.0, 2.0], 0, keeps)
    best, last = read(tmp_path / "epoch-1_score-3.pt"), torch.load(tmp_path / "last.pt")
    assert same(best["model"].values(), kept[1])
    assert same(last["model"].values(), kept[2])
    assert (best["epoch"], best["updates"], best["batches_done"], len(best["history"])) == (2, 2, 2, 2)
    assert last["torch"] == torch.__version__


def test_in_one_line_it_says_where_it_writes_and_what_is_the_best(tmp_path: Path) -> None:
    assert repr(Checkpoint(tmp_path)) == f"<Checkpoint in {tmp_path}>"
    checkpoint = Checkpoint(tmp_path, monitor="score", mode="max")
    assert repr(checkpoint) == f"<Checkpoint in {tmp_path}; the best of score: none yet>"
    trained(checkpoint, [1.0, 3.0])
    assert repr(checkpoint) == f"<Checkpoint in {tmp_path}; the best of score: {checkpoint.best_path}>"


def test_without_a_monitor_there_is_the_last_alone(tmp_path: Path) -> None:
    small_engine(Checkpoint(tmp_path / "new" / "run")).fit(batches(1), epochs=3)
    assert names_in(tmp_path / "new" / "run") == {"last.pt"}


def test_nothing_is_made_before_the_first_file(tmp_path: Path) -> None:
    engine = small_engine(Checkpoint(tmp_path / "run"), hears("batch_end", lambda run: run.stop("enough")))
    engine.fit(batches(2))
    assert names_in(tmp_path) == set()


def test_an_epoch_that_was_stopped_is_not_saved(tmp_path: Path) -> None:
    run = small_engine(Checkpoint(tmp_path), StopAfter(batches=3)).fit(batches(2), epochs=5)
    assert run.outcome is Outcome.STOPPED
    assert read(tmp_path / "last.pt")["epoch"] == 1


@pytest.mark.parametrize("fault", [ValueError("x"), KeyboardInterrupt()])
def test_what_was_saved_before_a_death_stays(tmp_path: Path, fault: BaseException) -> None:
    def fails(run: Run) -> None:
        if run.epoch == 2:
            raise fault

    with pytest.raises(type(fault)):
        small_engine(Checkpoint(tmp_path), hears("batch_end", fails)).fit(batches(2), epochs=5)
    assert names_in(tmp_path) == {"last.pt"}
    assert read(tmp_path / "last.pt")["epoch"] == 2


def test_every_is_counted_over_all_parts_of_a_training(tmp_path: Path) -> None:
    values = [float(epoch) for epoch in range(8)]
    trained(Checkpoint(tmp_path, monitor="score", mode="max", keep=9, every=3), values, 2)
    assert names_in(tmp_path) == {"epoch-2_score-2.pt", "epoch-5_score-5.pt", "last.pt"}
    assert read(tmp_path / "last.pt")["epoch"] == 6


def test_an_epoch_without_a_validation_writes_the_last_alone(tmp_path: Path) -> None:
    skips = answers("skip_validate", lambda run: run.epoch % 2 == 0)
    checkpoint = Checkpoint(tmp_path, monitor="valid_loss", mode="min", keep=9)
    small_engine(checkpoint, skips).fit(batches(1), batches(1), epochs=4)
    assert sorted(name[:8] for name in names_in(tmp_path)) == ["epoch-1_", "epoch-3_", "last.pt"]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "epoch-0_score-1.pt.bak").touch()
    (tmp_path / "notes.txt").touch()
    trained(Checkpoint(tmp_path, monitor="score", mode="min"), [5.0, 4.0])
    trained(Checkpoint(tmp_path, monitor="score", mode="min"), [3.0, 2.0])  # a run that knows nothing of the first
    assert names_in(tmp_path) == {
        "epoch-0_score-1.pt.bak",
        "notes.txt",
        "epoch-1_score-4.pt",
        "epoch-1_score-2.pt",
        "last.pt",
    }


def test_a_second_fit_begins_anew_and_epochs_trained_anew_are_ranked_anew(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, monitor="score", mode="min", keep=2)
    trained(checkpoint, [0.0, 1.0, 2.0])
    trained(checkpoint, [9.0, 8.0])
    assert [kept.value for kept in checkpoint._kept] == [8.0, 9.0]
    trained(checkpoint, [0.0, 7.0, 6.0], 1)  # epoch 1 once more
    assert [kept.value for kept in checkpoint._kept] == [6.0, 7.0]
    assert all((tmp_path / kept.name).exists() for kept in checkpoint._kept)


def test_a_new_file_is_there_before_an_old_one_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path, monitor="score", mode="min")
    seen: list[set[str]] = []
    unlink = Path.unlink

    def watched(self: Path, missing_ok: bool = False) -> None:
        seen.append(names_in(tmp_path))
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    trained(checkpoint, [2.0, 1.0])
    assert seen == [{"epoch-0_score-2.pt", "epoch-1_score-1.pt", "last.pt"}]


def test_a_disk_that_is_full_leaves_the_old_files_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path, monitor="score", mode="min")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    fills = hears("batch_end", lambda run: monkeypatch.setattr(os, "fsync", full) if run.epoch else None)
    with pytest.raises(OSError, match="no space left"):
        trained(checkpoint, [2.0, 1.0], 0, fills)
    assert names_in(tmp_path) == {"epoch-0_score-2.pt", "last.pt"}
    assert checkpoint.best_path == tmp_path / "epoch-0_score-2.pt"


def test_a_name_of_a_metric_is_no_path(tmp_path: Path) -> None:
    sets = hears("epoch_end", lambda run: run.metrics.update({"../../a b": 0.25}))
    small_engine(sets, Checkpoint(tmp_path / "run", monitor="../../a b", mode="max")).fit(batches(1))
    assert names_in(tmp_path / "run") == {"epoch-0_.._.._a_b-0.25.pt", "last.pt"}
    assert names_in(tmp_path) == {"run"}


@pytest.mark.parametrize("name", ["../x.pt", "/etc/passwd", "..", "epoch-1_a/../../x-1.pt", "notes.txt", "last.pt"])
def test_a_state_that_names_files_of_others_is_refused(tmp_path: Path, name: str) -> None:
    checkpoint = Checkpoint(tmp_path, monitor="score", mode="min")
    with pytest.raises(ArgumentRefused, match="the state of Checkpoint has the file"):
        checkpoint.load_state_dict({"monitored": ["score", "min"], "kept": [[1.0, 0, name]]})
    assert checkpoint.best_path is None


def test_a_training_that_goes_on_in_another_folder_has_its_best_there(tmp_path: Path) -> None:
    first, second = (Checkpoint(tmp_path / name, monitor="score", mode="min") for name in ("one", "two"))
    trained(first, [1.0, 2.0])
    assert (first.best_path, names_in(tmp_path / "one")) == (
        tmp_path / "one" / "epoch-0_score-1.pt",
        {"epoch-0_score-1.pt", "last.pt"},
    )
    engine = small_engine(Feeds([1.0, 2.0, 4.0, 3.0]), second)
    start = engine.load(tmp_path / "one" / "last.pt")
    assert second.best_path is None
    engine.fit(batches(1), epochs=4, start_epoch=start)
    assert second.best_path == tmp_path / "two" / "epoch-3_score-3.pt"
    assert names_in(tmp_path / "two") == {"epoch-3_score-3.pt", "last.pt"}
    assert names_in(tmp_path / "one") == {"epoch-0_score-1.pt", "last.pt"}


def test_a_state_of_another_metric_is_refused_and_without_a_monitor_it_is_not_ranked(tmp_path: Path) -> None:
    state = trained(Checkpoint(tmp_path, monitor="score", mode="min"), [1.0]).callbacks[-1].state_dict()
    with pytest.raises(ArgumentRefused, match="the state is of monitor='score', mode='min'"):
        Checkpoint(tmp_path, monitor="score", mode="max").load_state_dict(state)
    plain_one = Checkpoint(tmp_path)
    plain_one.load_state_dict(state)
    assert plain_one.best_path is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 0}, "keep is 0"),
        ({"every": 0}, "every is 0"),
        ({"keep": 2}, "monitor is None"),
        ({"mode": "min"}, "monitor is None"),
        ({"last": False}, "monitor is None"),
        ({"monitor": "x"}, "mode is None"),
        ({"folder": ""}, "folder is ''"),
        ({"folder": 3}, "folder is 3"),
        ({"folder": __file__}, ", a file"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentRefused, match=message):
        Checkpoint(**{"folder": "never", **arguments})
    assert not Path("never").exists()


def test_they_hear_the_end_of_an_epoch_in_an_order_that_saves_what_all_of_them_decided(tmp_path: Path) -> None:
    engine = small_engine(
        Checkpoint(tmp_path),
        StopAfter(epochs=3),
        EarlyStopping(monitor="train_loss", mode="min", patience=3),
        ReduceLROnPlateau(monitor="train_loss", mode="min", patience=3),
    )
    (end,) = (line for line in str(engine.dry_run(batches=1)).splitlines() if "epoch_end" in line)
    assert end.split("  ")[-1].strip() == "Metrics, Recorder, ReduceLROnPlateau, EarlyStopping, StopAfter, Checkpoint"


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [Checkpoint, lambda folder: Checkpoint(folder, monitor="train_loss", mode="min", last=False)]
)
def test_it_gets_along_with_whatever_a_run_may_do(tmp_path: Path, make: Callable[[Path], Checkpoint]) -> None:
    check_order(subject(lambda: make(tmp_path)), runs=20, seed=0)
