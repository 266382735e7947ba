"""Does early stopping stop when a plain loop would, and say why?"""

from math import inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Callback, Outcome, Run
from engine.callbacks.early_stopping import EarlyStopping
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.engine.tools import answers, batches, hears, small_engine
from tests.testing.subjects import subject


class Feeds(Callback):
    """Puts a metric there, from a list."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, run: Run) -> None:
        run.metrics["score"] = self.values[run.epoch]


def trained(stopping: EarlyStopping, values: list[float], start: int = 0, *more: object) -> Run:
    engine = small_engine(Feeds(values), stopping, *more)
    return engine.fit(batches(1), epochs=len(values), start_epoch=start)


def plain(values: list[float], mode: str, patience: int, min_delta: float) -> tuple[int, int]:
    """How many epochs a plain loop trains, and which it holds for the best: written without a look at the callback."""
    scores = [-value if mode == "max" else value for value in values]
    best = None
    for epoch, score in enumerate(scores):
        if not isnan(score) and score != inf and (best is None or scores[best] - score > min_delta):
            best = epoch
        if epoch - (-1 if best is None else best) == patience:
            return epoch + 1, -1 if best is None else best
    return len(values), -1 if best is None else best


# Quarters, of which sums and differences are exact.
values_of = st.lists(
    st.integers(-4, 4).map(lambda n: n / 4) | st.sampled_from([nan, inf, -inf]), min_size=1, max_size=9
)


def test_in_one_line_it_says_how_it_is_going() -> None:
    stopping = EarlyStopping(monitor="score", mode="max", patience=3)
    assert repr(stopping) == "<EarlyStopping: score, waited 0 of 3; it has no best yet>"
    trained(stopping, [0.5, 0.75, 0.5])
    assert repr(stopping) == "<EarlyStopping: score, waited 1 of 3; its best is 0.75, of epoch 1>"


@given(values_of, st.sampled_from(["min", "max"]), st.integers(1, 4), st.sampled_from([0.0, 0.25, 0.5]))
def test_it_stops_where_a_plain_loop_stops(values: list[float], mode: str, patience: int, min_delta: float) -> None:
    stopping = EarlyStopping(monitor="score", mode=mode, patience=patience, min_delta=min_delta)
    run = trained(stopping, values)
    assert (run.epoch, stopping.best_epoch) == plain(values, mode, patience, min_delta)
    assert (run.outcome is Outcome.STOPPED) == (run.epoch < len(values))


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 4), (3, 5)])
def test_patience_is_the_number_of_epochs_in_a_row_without_improvement(patience: int, epochs: int) -> None:
    stopping = EarlyStopping(monitor="score", mode="min", patience=patience)
    assert trained(stopping, [2.0, 1.0, 1.0, 1.5, 1.0, 2.0, 1.0]).epoch == epochs


def test_the_stop_says_who_and_why() -> None:
    run = trained(EarlyStopping(monitor="score", mode="max", patience=2), [0.5, 0.75, 0.5, 0.75, 0.0])
    (stop,) = run.stops
    assert stop.reason == (
        "EarlyStopping: score has not improved for 2 epochs (patience 2); its best is 0.75, of epoch 1"
    )
    run = trained(EarlyStopping(monitor="score", mode="max", patience=1), [nan, 1.0])
    assert run.stops[0].reason.endswith("has not improved for 1 epoch (patience 1); it never had a best")


def test_a_stop_asked_at_the_end_of_the_last_epoch_comes_too_late() -> None:
    assert trained(EarlyStopping(monitor="score", mode="min", patience=1), [1.0, 1.0]).outcome is Outcome.COMPLETED


def test_epochs_that_were_stopped_or_not_validated_are_not_counted() -> None:
    stopping = EarlyStopping(monitor="valid_loss", mode="max", patience=2)
    skips = answers("skip_validate", lambda run: run.epoch % 2 == 1)
    engine = small_engine(stopping, skips)
    run = engine.fit(batches(1), batches(1), epochs=20)
    assert run.epoch == 5  # epoch 0 is the best, 2 and 4 are not better
    engine.add(hears("batch_end", lambda run: run.stop("enough") if run.epoch == 1 else None))
    engine.fit(batches(1), batches(1), epochs=20)
    assert (stopping.best_epoch, stopping.waited) == (0, 0)


def test_a_second_fit_begins_anew_and_one_that_goes_on_does_not() -> None:
    stopping = EarlyStopping(monitor="score", mode="min", patience=3)
    trained(stopping, [0.0, 1.0])
    assert trained(stopping, [5.0, 4.0, 3.0, 2.0]).outcome is Outcome.COMPLETED
    trained(stopping, [0.0, 1.0, 1.0])
    assert stopping.waited == 2
    assert trained(stopping, [9.0, 9.0, 9.0, 1.0, 1.0, 1.0], 3).epoch == 4


@given(values_of, st.integers(1, 3), st.data())
def test_a_run_in_two_parts_stops_where_one_run_does(values: list[float], patience: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    whole, first, second = (EarlyStopping(monitor="score", mode="min", patience=patience) for _ in range(3))
    expected = trained(whole, values)
    run = trained(first, values[:cut])
    if run.outcome is Outcome.COMPLETED:
        second.load_state_dict(first.state_dict())
        run = trained(second, values, cut)
        assert (run.epoch, second.state_dict()) == (expected.epoch, whole.state_dict())


def test_a_state_of_another_metric_is_refused() -> None:
    state = EarlyStopping(monitor="accuracy", mode="max", patience=1).state_dict()
    with pytest.raises(ArgumentRefused, match="the state is of monitor='accuracy', mode='max'"):
        EarlyStopping(monitor="loss", mode="min", patience=1).load_state_dict(state)


def test_two_of_them_stop_at_what_comes_first() -> None:
    never = EarlyStopping(monitor="train_loss", mode="min", patience=5)
    soon = EarlyStopping(monitor="score", mode="max", patience=1)
    run = trained(never, [1.0, 0.0, 0.0], 0, soon)
    assert (run.epoch, run.stops[0].reason.split()[1]) == (2, "score")


@pytest.mark.parametrize("patience", [0, 1.5, True, "3"])
def test_a_patience_that_is_no_number_of_epochs_is_refused(patience: object) -> None:
    with pytest.raises(ArgumentRefused, match="patience is"):
        EarlyStopping(monitor="loss", mode="min", patience=patience)


@pytest.mark.slow
def test_it_gets_along_with_whatever_a_run_may_do() -> None:
    check_order(subject(lambda: EarlyStopping(monitor="train_loss", mode="max", patience=1)), runs=20, seed=0)
