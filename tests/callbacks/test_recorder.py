"""Does the recorder keep what happened, whole and cheaply, and forget the rest?  Against what a plain callback saw."""

import csv
import gc
import math
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from engine import Engine, Outcome, Refused, Run, State, Trigger, loss_from
from engine.callbacks import ClipGradients, Recorder
from engine.callbacks.recorder import WAITING
from engine.errors import ArgumentRefused
from engine.testing import check_order
from engine.testing.pairs.values import Value, leaves
from tests.engine.standin import engine_of
from tests.engine.tools import Count, answers, batches, hears, refuses, same, small_engine, small_model, weights_of
from tests.testing.subjects import subject


class Seen:
    """A plain callback that reads everything in each batch, before others change it."""

    order = -95

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_loss_end(self, run: Run) -> None:
        self.batches.append(run.batches_done)
        self.losses.append(run.loss.item())
        self.rates.append(float(run.optimizer.param_groups[0]["lr"]))


def ramp(run: Run) -> None:
    """A schedule: another rate for each batch."""
    rate = run.optimizer.param_groups[0]["lr"]
    if isinstance(rate, Tensor):
        rate.fill_(0.1 / (1 + run.batches_done))
    else:
        run.optimizer.param_groups[0]["lr"] = 0.1 / (1 + run.batches_done)


def recorded(engine: Engine) -> Recorder:
    assert engine.recorder is not None
    return engine.recorder


def test_in_one_line_it_says_how_much_there_is_and_reads_nothing() -> None:
    engine = small_engine()
    assert repr(engine.recorder) == "<Recorder: epochs 0, batches 0>"
    engine.fit(batches(3), epochs=2)
    with Count() as counted:
        assert repr(engine.recorder) == "<Recorder: epochs 2, batches 6>"
    assert counted.total == 0


def state_of(recorder: Recorder) -> dict[str, Value]:
    return dict(leaves("state", recorder.state_dict(), full=True))


# --- What is kept -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 3), st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_each_batch_that_had_a_loss_is_kept_as_it_was(
    number: int, epochs: int, skipped: set[int], unstepped: set[int]
) -> None:
    seen = Seen()
    doubles = hears("loss_end", lambda run: run.loss.data.mul_(2))
    skips = answers("skip_batch", lambda run: run.batches_done in skipped)
    drops = answers("skip_step", lambda run: run.batches_done in unstepped)
    engine = small_engine(seen, doubles, skips, drops, hears("batch_begin", ramp))
    engine.fit(batches(number), epochs=epochs)
    recorder = recorded(engine)
    assert (recorder.batches, recorder.losses) == (seen.batches, seen.losses)
    assert recorder.hypers.get("0.lr", []) == seen.rates
    wanted = np.array(seen.losses)
    for at, smoothed in enumerate(recorder.smoothed):
        weights = 0.98 ** np.arange(at + 1)[::-1]
        assert smoothed == pytest.approx(wanted[: at + 1] @ weights / weights.sum(), rel=1e-9)


def test_a_long_run_keeps_few_points_over_all_of_it() -> None:
    seen = Seen()
    engine = small_engine(seen, hears("batch_begin", ramp), recorder=Recorder(points=100))
    engine.fit(batches(3) * 300, epochs=3)
    recorder = recorded(engine)
    step = recorder.batches[1]
    assert (step, len(recorder.batches)) == (32, 85)
    assert recorder.batches == seen.batches[::step]
    assert recorder.losses == seen.losses[::step]
    assert recorder.hyper("lr") == seen.rates[::step]
    assert [record["batches"] for record in recorder.epochs] == [900, 1800, 2700]


def test_an_epoch_of_many_batches_is_read_in_between() -> None:
    seen: list[int] = []
    engine = small_engine(hears("batch_end", lambda run: seen.append(len(engine.recorder._came))))
    engine.fit(batches(1) * (2 * WAITING + 5))
    assert max(seen) <= WAITING + 4  # and the numbers of the optimizer
    assert len(recorded(engine).losses) == 2 * WAITING + 5


def test_nothing_is_read_on_the_host_in_a_batch() -> None:
    counts: list[int] = []
    with Count() as count:
        engine = small_engine(
            hears("batch_begin", ramp), hears("batch_end", lambda run: counts.append(count.host_reads)), metrics=None
        )
        engine.fit(batches(7))
    assert counts == [0] * 7


def test_the_records_are_those_of_the_history_with_batches_and_time() -> None:
    engine = small_engine(metrics={"off": lambda output, targets: (output - targets).mean()})
    run = engine.fit(batches(3), batches(2), epochs=3)
    epochs = recorded(engine).epochs
    for number, (record, known) in enumerate(zip(epochs, run.history, strict=True)):
        assert {name: record[name] for name in known} == known
        assert record.keys() - known.keys() == {"batches", "started", "seconds"}
        assert record["batches"] == 3 * (number + 1)
        assert record["seconds"] > 0
    assert all(one["started"] + one["seconds"] <= other["started"] + 1e-3 for one, other in pairwise(epochs))
    epochs[0]["epoch"] = 7
    assert recorded(engine).epochs[0]["epoch"] == 0


def test_what_others_add_to_a_record_is_in_it_and_nothing_of_the_run_is_held() -> None:
    def adds(run: Run) -> None:
        run.history[-1]["late"] = run.epoch + 0.5

    def looks(run: Run) -> None:
        states.append(engine.recorder.state_dict()["epochs"])

    states: list[Any] = []
    clips, later = ClipGradients(norm=1.0), hears("epoch_end", looks, order=290)
    engine = small_engine(clips, hears("epoch_end", adds, order=100), later, metrics=None)
    run = engine.fit(batches(3), epochs=2)
    recorder = recorded(engine)
    assert [{name: one[name] for name in known} for one, known in zip(recorder.epochs, run.history, strict=True)] == (
        run.history
    )
    assert [one["late"] for one in recorder.epochs] == [0.5, 1.5]
    assert [*recorder.epochs[0]] == ["epoch", "updates", "batches", "grad_norm", "late", "started", "seconds"]
    assert "grad_norm" in recorder.table()
    assert [axes.get_ylabel() for axes in recorder.plot_metrics().axes] == ["grad_norm", "late"]
    assert states == [recorder.epochs[:1], recorder.epochs]
    run.history[-1]["late"] = 7.0
    assert recorder.epochs[-1]["late"] == 1.5


def test_what_was_measured_is_recorded_where_there_is_no_history() -> None:
    def forgets(run: Run) -> None:
        run.history.clear()
        run.metrics["own"] = 0.5

    engine = small_engine(hears("epoch_end", forgets, order=-95))
    engine.fit(batches(3), epochs=2)
    assert [(one["epoch"], one["updates"], one["own"]) for one in recorded(engine).epochs] == [(0, 3, 0.5), (1, 6, 0.5)]


def test_a_stopped_epoch_has_its_batches_and_no_record() -> None:
    engine = small_engine(hears("batch_end", lambda run: run.batches_done == 4 and run.stop("enough")))
    run = engine.fit(batches(3), epochs=3)
    recorder = recorded(engine)
    assert run.outcome is Outcome.STOPPED
    assert recorder.batches == [0, 1, 2, 3, 4]
    assert [record["epoch"] for record in recorder.epochs] == [0]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_a_run_had_before_it_died_is_there(error: type[BaseException]) -> None:
    def fail(run: Run) -> None:
        if run.batches_done == 4:
            raise error

    engine = small_engine(hears("backward_begin", fail))
    with pytest.raises(error):
        engine.fit(batches(3), epochs=3)
    recorder = recorded(engine)
    assert (recorder.batches, len(recorder.epochs)) == ([0, 1, 2, 3, 4], 1)
    assert (recorder._came, recorder._hypers._seen, recorder._room._room) == ([], [], None)
    engine.remove(engine.callbacks[-1])
    engine.fit(batches(2))
    assert recorder.batches == [0, 1]


def test_an_evaluation_and_a_prediction_change_nothing() -> None:
    engine = small_engine()
    engine.fit(batches(3), batches(2), epochs=2)
    before = state_of(recorded(engine))
    engine.evaluate(batches(4))
    engine.predict(batches(4))
    assert state_of(recorded(engine)) == before


# --- Continuing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_training_that_is_continued_is_one_that_was_never_interrupted(start: int, tmp_path: Path) -> None:
    loader = batches(4)
    whole = small_engine()
    whole.fit(loader, loader, epochs=3)
    first = small_engine()
    first.fit(loader, loader, epochs=start)
    parts = (first.model, first.optimizer, first.recorder)
    torch.save([part.state_dict() for part in parts], tmp_path / "all.pt")

    second = small_engine()
    states = torch.load(tmp_path / "all.pt", weights_only=True)
    for part, state in zip((second.model, second.optimizer, second.recorder), states, strict=True):
        part.load_state_dict(state)
    second.fit(loader, loader, epochs=3, start_epoch=start)
    ours, theirs = recorded(second), recorded(whole)
    assert (ours.batches, ours.losses, ours.smoothed) == (theirs.batches, theirs.losses, theirs.smoothed)
    assert ours.hypers == theirs.hypers
    counted = ("epoch", "batches", "train_loss", "valid_loss")
    assert [[one[name] for name in counted] for one in ours.epochs] == [
        [one[name] for name in counted] for one in theirs.epochs
    ]


def test_a_state_holds_no_list_that_grows_with_the_batches() -> None:
    def sizes(value: object) -> list[int]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return [len(inner), *(size for one in inner for size in sizes(one))]

    def spoils(run: Run) -> None:
        run.loss = run.loss * (math.nan if run.batches_done == 0 else math.inf if run.batches_done == 7 else 1)

    skips = answers("skip_backward", lambda run: run.batches_done in (0, 7))
    engine = small_engine(skips, hears("batch_begin", ramp), hears("loss_end", spoils, order=-100), metrics=None)
    engine.fit(batches(100), epochs=2)
    state = recorded(engine).state_dict()
    assert max(sizes(state)) <= 20
    assert [kept.dtype for kept in state["series"]["changes"]["0.lr"]] == [torch.int64, torch.float64]
    with torch.device("meta"):  # a default device: neither the state nor what is made of it lies there
        other = Recorder()
        other.load_state_dict(recorded(engine).state_dict())
    assert other.hypers == recorded(engine).hypers
    assert repr((other.batches, other.losses, other.smoothed)) == repr(
        (recorded(engine).batches, recorded(engine).losses, recorded(engine).smoothed)
    )
    assert state_of(other) == state_of(recorded(engine))


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_updates_and_batches_of_a_part_of_an_epoch_both_count(loaded: bool, error: type[BaseException] | None) -> None:
    def breaks_off(run: Run) -> None:
        if run.batches_done == 14:
            if error is not None:
                raise error
            run.stop("enough")

    engine = small_engine(hears("batch_end", breaks_off, order=10))
    with nullcontext() if error is None else pytest.raises(error):
        engine.fit(batches(10), epochs=3)
    run, recorder = engine.last_run, recorded(engine)
    engine.remove(engine.callbacks[-1])
    if loaded:
        recorder.load_state_dict(recorder.state_dict())
    engine.fit(batches(10), epochs=3, start_epoch=2)
    assert (run.updates, len(recorder.batches)) == (15, 25)
    assert [(one["updates"], one["batches"]) for one in recorder.epochs] == [(10, 10), (25, 25)]
    engine.fit(batches(10), epochs=2, start_epoch=1)
    assert [(one["updates"], one["batches"]) for one in recorder.epochs] == [(10, 10), (20, 20)]


def test_a_later_epoch_that_is_trained_again_replaces_all_behind_it() -> None:
    engine = small_engine()
    engine.fit(batches(3), epochs=4)
    before = recorded(engine).losses
    engine.fit(batches(2), epochs=3, start_epoch=2)
    recorder = recorded(engine)
    assert recorder.losses[:6] == before[:6]
    assert recorder.batches == list(range(8))
    assert [(one["epoch"], one["batches"]) for one in recorder.epochs] == [(0, 3), (1, 6), (2, 8)]


def test_a_second_training_begins_anew() -> None:
    engine = small_engine()
    engine.fit(batches(3), epochs=2)
    engine.fit(batches(2))
    assert recorded(engine).batches == [0, 1]
    engine.fit(batches(2), epochs=0)
    assert (recorded(engine).batches, recorded(engine).epochs) == ([], [])


def test_a_state_that_is_loaded_in_the_middle_of_a_run_is_gone_on_from() -> None:
    states: list[dict[str, Any]] = []

    def travel(run: Run) -> None:
        if run.batches_done == 1:
            states.append(engine.recorder.state_dict())
            run.optimizer.param_groups[0]["lr"] = 0.3
        if run.batches_done == 3:
            engine.recorder.load_state_dict(states[0])

    engine = small_engine(hears("batch_end", travel))
    engine.fit(batches(5))
    assert recorded(engine).batches == [0, 1, 4]
    assert recorded(engine).hyper("lr") == [0.1, 0.1, 0.3]


# --- In all places ----------------------------------------------------------------------------------------------------


def test_an_own_loop_is_recorded_as_fit_is() -> None:
    loader, fitted, own = batches(3), small_engine(), small_engine()
    fitted.fit(loader, epochs=2)
    model, optimizer = own.model, own.optimizer
    with own.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(loader):
                output = model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = own.loss_fn(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                assert recorded(own).losses[-1] == loss.item()
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)
    assert recorded(own).losses == recorded(fitted).losses
    assert [one["train_loss"] for one in recorded(own).epochs] == [one["train_loss"] for one in recorded(fitted).epochs]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("metrics", [None, {}])
def test_losses_of_other_types_and_of_one_element_are_kept(dtype: torch.dtype, metrics: Any) -> None:
    losses = {State.LOSS: loss_from(lambda run: (run.output - run.targets).square().mean().to(dtype).reshape(1, 1))}
    seen = Seen()
    engine = small_engine(seen, actions=losses, metrics=metrics)
    engine.fit(batches(3))
    assert recorded(engine).losses == seen.losses


def test_losses_that_are_no_number_have_no_point_where_nobody_measures() -> None:
    class Odd:
        def backward(self) -> None:
            pass

    kinds = [Odd(), None]
    engine = small_engine(actions={State.LOSS: loss_from(lambda run: kinds[0])}, metrics=None)
    engine.fit(batches(2), epochs=1)
    assert recorded(engine).losses == []
    assert [record["epoch"] for record in recorded(engine).epochs] == [0]


@pytest.mark.parametrize("how", [{"checked": True}, {"metrics": None}, {"optimizer": "several"}])
def test_the_same_is_kept_in_other_ways(how: dict[str, Any]) -> None:
    plain, model = small_engine(), small_model()
    if "optimizer" in how:
        halves = {"w": [model.weight], "b": [model.bias]}
        how = {"optimizer": {name: optim.SGD(part, lr=0.1, momentum=0.5) for name, part in halves.items()}}
    other = small_engine(model=model, **how)
    plain.fit(batches(3), epochs=2)
    other.fit(batches(3), epochs=2)
    assert recorded(other).losses == recorded(plain).losses
    if "optimizer" in how:
        assert recorded(other).hyper("lr", optimizer="b") == [0.1] * 6
        assert recorded(other).hyper("momentum", optimizer="w", group=0) == [0.5] * 6


def test_a_captured_training_is_recorded_with_its_rate_as_a_tensor() -> None:
    captured, plain = (engine_of(hears("batch_begin", ramp), capture=capture) for capture in (True, False))
    captured.fit(batches(6), epochs=2)
    plain.fit(batches(6), epochs=2)
    assert "replay" in captured._cuda.log
    assert recorded(captured).losses == recorded(plain).losses
    assert recorded(captured).hyper("lr") == pytest.approx([0.1 / (1 + number) for number in range(12)])


class Elsewhere(Tensor):
    """A tensor that seems to lie on another device than the CPU."""

    is_cpu = False


def test_a_rate_that_is_a_tensor_on_a_device_is_copied_there_and_not_read() -> None:
    seen, counts = Seen(), []
    model = small_model()
    rate = torch.tensor(0.1).as_subclass(Elsewhere)
    sgd = optim.SGD(model.parameters(), lr=torch.tensor(0.1), fused=True)
    sgd.param_groups[0]["lr"] = rate
    count = Count()
    reads = hears("loss_end", lambda run: counts.append(count.host_reads), order=-89)
    before = hears("loss_end", lambda run: counts.append(count.host_reads), order=-91)
    step = {State.STEP: lambda run: Trigger.WEIGHTS_MOVED}
    engine = small_engine(seen, hears("batch_begin", ramp), reads, before, model=model, optimizer=sgd, actions=step)
    with count:
        engine.fit(batches(5))
    assert counts[::2] == counts[1::2]
    assert recorded(engine).hyper("lr") == seen.rates
    assert recorded(engine).losses == seen.losses


def test_a_recorder_that_is_refused_is_not_there() -> None:
    engine = small_engine(recorder=None)
    assert engine.recorder is None
    assert not any(isinstance(callback, Recorder) for callback in engine.callbacks)
    assert len(engine.fit(batches(2)).history) == 1


def test_several_recorders_listen_side_by_side() -> None:
    own = Recorder(points=2, beta=0)
    engine = small_engine()
    engine.add(own)
    engine.fit(batches(5))
    assert own.batches == [0, 4]
    assert own.smoothed == own.losses
    assert len(recorded(engine).batches) == 5


def test_weights_are_the_same_bit_for_bit_with_and_without() -> None:
    with_it, without = small_engine(), small_engine(recorder=None)
    for engine in (with_it, without):
        engine.fit(batches(4), epochs=2)
    assert same(weights_of(with_it.model), weights_of(without.model))


def test_nothing_of_a_run_is_held_when_it_has_ended() -> None:
    recorder = Recorder()

    def train() -> list[weakref.ref[object]]:
        model, loader = nn.Linear(2, 1), batches(3)
        sgd = optim.SGD(model.parameters(), lr=torch.tensor(0.1))
        run = Engine(model, nn.MSELoss(), sgd, recorder=recorder).fit(loader)
        return [weakref.ref(one) for one in (run, model, model.weight, loader[0][0], sgd.param_groups[0]["lr"])]

    refs = train()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5
    assert len(recorder.losses) == 3


def test_the_order_holds_with_it() -> None:
    check_order(subject(), runs=20, seed=0)


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 0, -3, 2.0, True, "many"])
def test_points_that_could_not_be_meant_are_refused(points: Any) -> None:
    with refuses(ArgumentRefused, "points is", "2 or more"):
        Recorder(points=points)


@pytest.mark.parametrize("beta", [1, -0.1, 2.0, "0.9", None, math.nan])
def test_a_beta_that_could_not_be_meant_is_refused(beta: Any) -> None:
    with refuses(ArgumentRefused, "beta is", "below 1"):
        Recorder(beta=beta)


def test_what_is_no_recorder_is_refused() -> None:
    with refuses(ArgumentRefused, "the recorder is", "None to keep nothing"):
        small_engine(recorder=True)


@pytest.mark.parametrize("how", [{}, {"recorder": None}])
def test_one_among_the_callbacks_is_refused_for_it_would_not_be_the_one_of_the_engine(how: dict[str, Any]) -> None:
    with refuses(ArgumentRefused, "a Recorder among the callbacks", "pass recorder=Recorder(...)"):
        small_engine(Recorder(points=5), **how)
    given = iter([hears("train_begin", lambda run: None)])
    sgd = optim.SGD((model := small_model()).parameters(), lr=0.1)
    assert len(Engine(model, nn.MSELoss(), sgd, given).callbacks) == 1 + len(small_engine().callbacks)


def test_an_unknown_hyperparameter_is_refused_with_those_that_there_are() -> None:
    engine = small_engine()
    with refuses(ArgumentRefused, "'0.lr'", "none yet"):
        recorded(engine).hyper("lr")
    engine.fit(batches(1))
    with refuses(ArgumentRefused, "'1.lr'", "0.lr, 0.momentum"):
        recorded(engine).hyper("lr", group=1)


# --- Tables and plots -------------------------------------------------------------------------------------------------


def trained() -> Recorder:
    """Three epochs, the second without a validation, on an engine with a schedule."""
    skips = answers("skip_validate", lambda run: run.epoch == 1)
    engine = small_engine(skips, hears("batch_begin", ramp), metrics={"off": lambda o, t: (o - t).abs().mean()})
    engine.fit(batches(4), batches(2), epochs=3)
    return recorded(engine)


def test_the_table_has_a_line_for_each_epoch_and_blanks_where_nothing_was_measured() -> None:
    lines = trained().table().split("\n")
    assert lines[0].split() == [
        *("epoch", "updates", "train_loss", "train_off", "valid_loss", "valid_off", "seconds"),
    ]
    assert [len(line.split()) for line in lines] == [7, 7, 5, 7]
    assert len({line.index(line.split()[-1]) for line in lines}) == 1


def test_the_csv_file_has_all_digits(tmp_path: Path) -> None:
    recorder = trained()
    recorder.to_csv(tmp_path / "new" / "epochs.csv")
    with (tmp_path / "new" / "epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, record in zip(rows, recorder.epochs, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == record


def test_the_frame_has_a_row_for_each_epoch() -> None:
    recorder = trained()
    frame = recorder.to_frame()
    assert list(frame.index) == [0, 1, 2]
    assert list(frame["train_loss"]) == [record["train_loss"] for record in recorder.epochs]
    assert list(frame["valid_loss"].isna()) == [False, True, False]
    assert Recorder().to_frame().empty


def test_what_is_drawn_is_what_was_recorded(tmp_path: Path) -> None:
    recorder = trained()
    raw, smoothed, valid, *_ = recorder.plot_loss(tmp_path / "loss.png").axes[0].lines
    for line, wanted in ((raw, recorder.losses), (smoothed, recorder.smoothed)):
        assert list(line.get_xdata()) == recorder.batches
        assert list(line.get_ydata()) == wanted
    with_it = [record for record in recorder.epochs if "valid_loss" in record]
    assert list(valid.get_xdata()) == [4, 12]
    assert list(valid.get_ydata()) == [record["valid_loss"] for record in with_it]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list(recorder.plot_lr().axes[0].lines[0].get_ydata()) == recorder.hyper("lr")
    assert [axes.get_ylabel() for axes in recorder.plot_schedule().axes] == ["lr of group 0"]
    panels = recorder.plot_metrics().axes
    assert [axes.get_ylabel() for axes in panels] == ["loss", "off"]
    assert [list(line.get_xdata()) for line in panels[0].lines] == [[0, 1, 2], [0, 2]]


@pytest.mark.parametrize("draw", [Recorder.plot_loss, Recorder.plot_lr, Recorder.plot_metrics, Recorder.plot_schedule])
def test_a_plot_of_nothing_is_refused(draw: Callable[[Recorder], object]) -> None:
    with refuses(Refused, "nothing to draw", "train"):
        draw(Recorder())


def test_a_schedule_that_never_moved_is_refused() -> None:
    engine = small_engine()
    engine.fit(batches(2))
    with refuses(Refused, "no hyperparameter that moved", "plot_lr()"):
        recorded(engine).plot_schedule()


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = trained()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with refuses(Refused, "pandas", "pip install pandas"):
        recorder.to_frame()
