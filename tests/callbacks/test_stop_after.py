"""Does a run stop after exactly what it was asked to do?"""

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Outcome, Run
from engine.callbacks import stop_after
from engine.callbacks.stop_after import StopAfter
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.engine.tools import Recorder, batches, hears, small_engine
from tests.testing.subjects import subject


@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 3))
def test_exactly_as_many_batches_are_trained(number: int, length: int, epochs: int) -> None:
    trained: list[int] = []
    counts = hears("forward_begin", lambda run: trained.append(run.batches_done))
    run = small_engine(StopAfter(batches=number), counts).fit(batches(length), epochs=epochs)
    total = length * epochs
    assert len(trained) == run.batches_done == run.updates == min(number, total)
    assert (run.outcome is Outcome.STOPPED) == (number <= total)


def test_a_stop_in_the_middle_of_an_epoch_is_followed_by_no_validation() -> None:
    heard = Recorder()
    small_engine(StopAfter(batches=2), heard).fit(batches(3), batches(1), epochs=2)
    assert heard.events[-4:] == ["batch_end", "stop", "epoch_end", "train_end"]
    assert "validate_begin" not in heard.events


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3))
def test_as_many_epochs_of_this_run_are_trained(number: int, epochs: int, start: int) -> None:
    run = small_engine(StopAfter(epochs=number)).fit(batches(1), batches(1), start + epochs, start_epoch=start)
    assert len(run.history) == min(number, epochs)
    assert (run.outcome is Outcome.STOPPED) == (number < epochs)


def test_it_stops_at_the_first_batch_that_ends_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def passes(run: Run) -> None:
        nonlocal now
        now += 1.0

    monkeypatch.setattr(stop_after, "monotonic", lambda: now)
    engine = small_engine(StopAfter(seconds=2.5), hears("batch_begin", passes))
    for _ in range(2):  # the second run has its own time
        run = engine.fit(batches(10))
        assert run.batches_done == 3
        assert run.stops[0].reason == "StopAfter: 2.5 seconds have passed"


def test_an_epoch_that_was_stopped_by_another_does_not_count() -> None:
    stops = hears("batch_end", lambda run: run.stop("enough"))
    run = small_engine(stops, StopAfter(epochs=1)).fit(batches(2), epochs=5)
    assert [stop.reason for stop in run.stops] == ["enough"]


def test_the_reason_says_what_was_done() -> None:
    assert small_engine(StopAfter(epochs=1)).fit(batches(1), epochs=2).stops[0].reason == "StopAfter: 1 epoch ended"
    reason = small_engine(StopAfter(batches=1)).fit(batches(2)).stops[0].reason
    assert reason == "StopAfter: 1 batch was trained"


def test_two_of_them_stop_at_what_comes_first() -> None:
    assert small_engine(StopAfter(batches=7), StopAfter(epochs=1)).fit(batches(3), epochs=9).batches_done == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "StopAfter was given nothing"),
        ({"batches": 1, "epochs": 2}, "StopAfter was given batches=1 and epochs=2"),
        ({"batches": 0}, "batches is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": inf}, "seconds is inf"),
        ({"seconds": nan}, "seconds is nan"),
        ({"seconds": "1"}, "seconds is '1'"),
        ({"seconds": 10**400}, "seconds is 1"),
        ({"seconds": True}, "seconds is True"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentRefused, match=message):
        StopAfter(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["batches", "epochs"])
def test_it_gets_along_with_whatever_a_run_may_do(what: str) -> None:
    check_order(subject(lambda: StopAfter(**{what: 1})), runs=20, seed=0)
