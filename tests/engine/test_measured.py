"""Is a metric that cannot come refused before the first batch, and is nobody refused or warned who does it right?"""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from engine import Callback, Engine, Outcome, Run, State, output_from
from engine.callbacks import (
    Checkpoint,
    ClipGradients,
    EarlyStopping,
    Memory,
    Progress,
    ReduceLROnPlateau,
    TorchSchedule,
)
from engine.errors import ArgumentRefused
from tests.engine.tools import batches, hears, nothing_changes, refuses, small_engine, small_model


def stopping(monitor: str) -> EarlyStopping:
    return EarlyStopping(monitor=monitor, mode="min", patience=9)


def accuracy(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (output - targets).abs().mean()


def scheduled(monitor: str) -> Engine:
    model = small_model()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    plateau = TorchSchedule(lr_scheduler.ReduceLROnPlateau(sgd), monitor=monitor)
    return small_engine(plateau, model=model, optimizer=sgd, metrics={"accuracy": accuracy})


ENGINES: dict[str, Callable[[str, Path], Engine]] = {
    "EarlyStopping": lambda name, _: small_engine(stopping(name), metrics={"accuracy": accuracy}),
    "ReduceLROnPlateau": lambda name, _: small_engine(
        ReduceLROnPlateau(monitor=name, mode="min", patience=9), metrics={"accuracy": accuracy}
    ),
    "Checkpoint": lambda name, folder: small_engine(
        Checkpoint(folder, monitor=name, mode="min"), metrics={"accuracy": accuracy}
    ),
    "TorchSchedule": lambda name, _: scheduled(name),
}


@pytest.mark.parametrize("who", ENGINES)
def test_a_misspelt_metric_is_refused_before_the_first_batch_and_nothing_is_changed(who: str, tmp_path: Path) -> None:
    engine = ENGINES[who]("acuracy", tmp_path)
    engine.add(Progress(stream=io.StringIO()))
    said = (
        f"{who} monitors 'acuracy', and nobody measures that",
        "allowed:  train_loss, train_accuracy, valid_loss, valid_accuracy",
        "did you mean 'valid_accuracy'?",
    )
    with nothing_changes(engine.model, engine.optimizer), refuses(ArgumentRefused, *said):
        engine.fit(batches(2), batches(1))
    assert engine.last_run is None


@pytest.mark.parametrize("who", ENGINES)
@pytest.mark.parametrize("name", ["train_loss", "valid_loss", "train_accuracy", "valid_accuracy"])
def test_what_the_engine_measures_is_taken(who: str, name: str, tmp_path: Path) -> None:
    assert ENGINES[who](name, tmp_path).fit(batches(2), batches(1)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("val_loss", "did you mean 'valid_loss'?"),
        ("loss", "take one of these"),
        ("train_acuracy", "did you mean 'train_accuracy'?"),
        ("f1", "take one of these"),
    ],
)
def test_the_names_of_its_own_pass_are_offered(name: str, instead: str) -> None:
    with refuses(ArgumentRefused, instead):
        small_engine(stopping(name), metrics={"accuracy": accuracy}).fit(batches(1), batches(1))


def test_a_metric_of_a_validation_that_never_comes_is_refused() -> None:
    with refuses(ArgumentRefused, "monitors 'valid_loss'", "pass valid_loader to fit"):
        small_engine(stopping("valid_loss")).fit(batches(1))


class Gives(Callback):
    """A callback of the user's own, which puts a number among the metrics without saying so."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_epoch_end(self, run: Run) -> None:
        run.metrics[self.name] = 1.0


@pytest.mark.parametrize("name", ["score", "valid_score", "valid_los", "val_loss"])
def test_a_number_that_a_callback_may_give_is_taken_without_a_word(name: str) -> None:
    assert small_engine(Gives(name), stopping(name)).fit(batches(1), batches(1)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("value", [3, lambda self: ("train_los",), ("train_los", 4)], ids=["number", "method", "tuple"])
@pytest.mark.parametrize("name", ["monitor", "measures"])
def test_a_callback_may_mean_something_else_by_the_names(name: str, value: object) -> None:
    other = hears("epoch_end", bool, **{name: value})
    assert small_engine(other, stopping("train_loss")).fit(batches(1)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(("gives", "name"), [(ClipGradients(norm=1.0), "grad_norm"), (Memory(), "host_peak_mib")])
def test_what_our_own_callbacks_measure_is_known(gives: Any, name: str) -> None:
    assert small_engine(gives, stopping(name)).fit(batches(1)).outcome is Outcome.COMPLETED


def test_a_norm_that_is_not_measured_is_not_known() -> None:
    with refuses(ArgumentRefused, "monitors 'grad_norm'"):
        small_engine(ClipGradients(value=1.0), stopping("grad_norm")).fit(batches(1))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, and it has a peak")
def test_a_peak_of_a_device_that_is_not_there_is_not_known() -> None:
    with refuses(ArgumentRefused, "monitors 'device_peak_mib'"):
        small_engine(Memory(), stopping("device_peak_mib")).fit(batches(1))


def test_an_action_of_ones_own_may_give_it() -> None:
    def forward(run: Run) -> Any:
        run.metrics["forwards"] = 1.0
        return run.model(run.inputs)

    engine = small_engine(stopping("forwards"), actions={State.FORWARD: output_from(forward)})
    assert engine.fit(batches(1)).outcome is Outcome.COMPLETED


def test_a_loop_of_ones_own_may_give_it_and_may_validate_by_itself() -> None:
    engine = small_engine(stopping("valid_loss"), stopping("mine"))
    with engine.start(batches(1)) as run:
        for _ in run:
            run.metrics.update(mine=1.0, valid_loss=1.0)
    assert run.outcome is Outcome.COMPLETED


def test_one_of_the_numbers_of_a_collection_is_taken() -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    scores = torchmetrics.MetricCollection({"abs": torchmetrics.MeanAbsoluteError()})
    engine = small_engine(stopping("valid_scores_abs"), metrics={"scores": scores})
    assert engine.fit(batches(1), batches(1)).outcome is Outcome.COMPLETED
    with refuses(ArgumentRefused, "monitors 'valid_scores_abs'", "pass valid_loader"):
        small_engine(stopping("valid_scores_abs"), metrics={"scores": scores}).fit(batches(1))


def test_of_an_engine_that_measures_nothing_only_what_others_measure_is_known() -> None:
    assert small_engine(Memory(), stopping("host_peak_mib"), metrics=None).fit(batches(1)).epoch == 1
    with refuses(ArgumentRefused, "monitors 'train_loss'", "allowed:  nothing", "leave metrics out"):
        small_engine(stopping("train_loss"), metrics=None).fit(batches(1))


def test_an_engine_that_measures_nothing_is_told_at_the_end_of_its_first_epoch() -> None:
    with warnings.catch_warnings(action="error"), pytest.raises(ArgumentRefused, match="at the end of epoch 0"):
        small_engine(stopping("train_loss"), hears("batch_end", bool), metrics=None).fit(batches(1))
