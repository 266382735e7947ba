"""Is the metric that is meant the one that is looked at, and is its absence told from its being unknown?"""

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import Run
from engine.errors import ArgumentRefused, MetricRefused
from engine.measuring.monitored import Monitored
from tests.engine.tools import answers, batches, hears, small_engine


def seen(monitor: str, *callbacks: object, valid: bool = True, **parts: object) -> list[float | None]:
    """What is seen of a metric at the end of each of three epochs."""
    values: list[float | None] = []
    looks = hears("epoch_end", lambda run: values.append(Monitored(monitor, "min").value(run)), order=200)
    engine = small_engine(looks, *callbacks, **parts)
    engine.fit(batches(2), batches(1) if valid else None, epochs=3)
    return values


@given(st.floats(allow_nan=True), st.floats(allow_nan=False), st.sampled_from(["min", "max"]))
def test_nothing_improves_on_itself_nan_never_improves_and_the_modes_are_mirror_images(
    value: float, best: float, mode: str
) -> None:
    metric = Monitored("x", mode)
    mirror = Monitored("x", "max" if mode == "min" else "min")
    assert not metric.improves(best, best)
    assert not metric.improves(nan, best)
    assert metric.improves(value, best) == mirror.improves(-value, -best)
    assert metric.improves(value, metric.worst) == (value == value and value != metric.worst)  # noqa: PLR0124  # nan


def test_an_improvement_is_larger_than_min_delta() -> None:
    assert Monitored("x", "min", 0.25).improves(0.7, 1.0)
    assert not Monitored("x", "min", 0.25).improves(0.75, 1.0)
    assert not Monitored("x", "max", 0.25).improves(1.25, 1.0)


def test_what_was_measured_is_seen() -> None:
    values = seen("valid_loss")
    assert len(values) == 3
    assert all(isinstance(value, float) for value in values)


def test_an_epoch_whose_validation_is_skipped_is_passed_over() -> None:
    values = seen("valid_loss", answers("skip_validate", lambda run: run.epoch != 1))
    assert [value is None for value in values] == [True, False, True]


def test_a_metric_of_a_callback_is_passed_over_too_where_nobody_else_measures() -> None:
    def measure(run: Run) -> None:
        run.parent.metrics["score"] = 1.0

    skips = answers("skip_validate", lambda run: run.epoch == 1)
    assert seen("score", hears("validate_end", measure), skips, metrics=None) == [1.0, None, 1.0]


@pytest.mark.parametrize("monitor", ["train_loss", "valid_loss"])
def test_an_epoch_that_was_stopped_is_passed_over(monitor: str) -> None:
    values = seen(monitor, hears("batch_end", lambda run: run.stop("enough") if run.epoch == 1 else None))
    assert [value is None for value in values] == [False, True]


def test_an_unknown_metric_is_told_with_those_that_there_are_and_the_nearest() -> None:
    with pytest.raises(ArgumentRefused) as caught:
        seen("valid_los")
    assert caught.value.what == "monitor is 'valid_los', and nobody had measured that at the end of epoch 0"
    assert caught.value.allowed == "train_loss, valid_loss"
    assert caught.value.instead == "did you mean 'valid_loss'?"


def test_a_metric_of_the_training_is_known_to_be_unknown_in_an_epoch_without_validation_too() -> None:
    with pytest.raises(ArgumentRefused, match="did you mean 'train_loss'"):
        seen("train_los", answers("skip_validate", lambda run: True))


def test_a_metric_of_a_validation_that_never_comes_is_told() -> None:
    with pytest.raises(ArgumentRefused, match="pass valid_loader to fit"):
        seen("valid_loss", valid=False)
    with pytest.raises(ArgumentRefused, match="metrics=None"):
        seen("valid_loss", metrics=None)


def test_what_is_no_number_is_refused() -> None:
    sets = hears("epoch_end", lambda run: run.metrics.update(score=torch.tensor(1.0)))
    with pytest.raises(MetricRefused, match="score is tensor"):
        seen("score", sets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "min"), "monitor is ''"),
        ((None, "min"), "monitor is None"),
        (("x", "auto"), "mode is 'auto'"),
        (("x", "min", -1.0), "min_delta is -1.0"),
        (("x", "min", inf), "min_delta is inf"),
        (("x", "min", True), "min_delta is True"),
        (("x", "min", "0"), "min_delta is '0'"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ArgumentRefused, match=message):
        Monitored(*arguments)
