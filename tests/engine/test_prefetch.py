"""Is every batch the one that it would have been, drawn one ahead, and copied while the one before is worked on?"""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from engine import Engine, Outcome, State
from engine.errors import ArgumentRefused, LoaderRefused
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states.walk import Plan
from tests.engine.recording import Heard, Tiny, answers_by, expected, hearings, hears_everything
from tests.engine.standin import Standin
from tests.engine.tools import Batch, batches, hears, own_fetch, refuses, same, small_engine, still_works, weights_of


def ahead(engine: Engine) -> Standin:
    """Let an engine copy ahead, on the CPU."""
    engine.prefetch = True
    engine._cuda = Standin(engine.model, engine.optimizer)
    return engine._cuda


class Told:
    """A loader that writes down what it was asked for."""

    def __init__(self, given: list[Batch], log: list[str], error: Exception | None = None) -> None:
        self.given, self.log, self.error = given, log, error

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.given):
            self.log.append(f"draw {number}")
            yield batch
        if self.error is not None:
            raise self.error


@given(plans(), scripts())
def test_what_is_heard_and_what_comes_of_it_is_as_without(plan: Plan, chosen: Script) -> None:
    log: list[Heard] = []
    plain, tiny = (Tiny(plan, [hears_everything("Ear", heard)(), answers_by(chosen.answers())]) for heard in ([], log))
    ahead(tiny.engine)
    one, other = plain.fit(), tiny.fit()
    said = hearings(expected(plan, chosen.answers()))
    assert [(h.event, h.state, h.counters) for h in log] == [(h.event, h.state, h.counters) for h in said]
    assert same(plain.weights, tiny.weights)
    assert str(one.history) == str(other.history)  # where no loss was computed, it is nan


def test_the_current_stream_waits_for_a_batch_before_the_next_is_copied() -> None:
    log: list[str] = []
    engine = small_engine(hears("batch_begin", lambda run: log.append(f"batch {run.batch_index}")))
    ahead(engine).log = log
    engine.fit(Told(batches(3), log))
    copies = ["draw 0", "beside", "join", "draw 1", "beside", "batch 0", "join", "draw 2", "beside", "batch 1"]
    assert log == [*copies, "join", "batch 2"]


def test_a_batch_that_cannot_be_copied_does_not_end_the_epoch() -> None:
    """Even if what it raises is what iterators end with."""

    class Odd:
        def to(self, device: torch.device) -> "Odd":
            raise StopIteration

    engine = small_engine()
    ahead(engine)
    with pytest.raises(RuntimeError, match="raised StopIteration") as raised:
        engine.fit([*batches(2), (Odd(), Odd()), *batches(2)])
    assert isinstance(raised.value.__cause__, StopIteration)
    assert (engine.last_run.batches_done, engine.last_run.outcome) == (2, Outcome.FAILED)


def test_a_run_has_one_stream_for_all_copies() -> None:
    made: list[torch.device] = []

    class Counting(Standin):
        def stream(self, device: torch.device, asked: str) -> str:
            made.append(device)
            return super().stream(device, asked)

    engine = small_engine(prefetch=True)
    engine._cuda = Counting(engine.model, engine.optimizer)
    engine.fit(batches(2), batches(1), epochs=3)
    assert len(made) == 1


def test_an_action_of_ones_own_for_fetch_is_refused() -> None:
    engine = small_engine(actions={State.FETCH: own_fetch})
    ahead(engine)
    with refuses(ArgumentRefused, "prefetch is True, and actions replaces fetch", "copy ahead in your own action"):
        engine.fit(batches(1))


def test_a_loader_that_fails_fails_where_its_batch_was_due() -> None:
    error = ValueError("on purpose")
    engine, plain = small_engine(), small_engine()
    ahead(engine)
    with pytest.raises(ValueError, match="on purpose") as raised:
        engine.fit(Told(batches(3), [], error))
    assert raised.value is error
    run = engine.last_run
    assert (run.batches_done, run.updates, run.outcome) == (3, 3, Outcome.FAILED)
    plain.fit(batches(3))
    assert same(weights_of(engine.model), weights_of(plain.model))
    still_works(engine)


def test_one_batch_more_is_drawn_than_a_run_with_max_updates_needs_and_none_of_the_next_epoch() -> None:
    log: list[str] = []
    engine = small_engine()
    ahead(engine)
    assert engine.fit(Told(batches(5), log), epochs=3, max_updates=2).updates == 2
    assert log == ["draw 0", "draw 1", "draw 2"]


def test_a_run_that_stops_lets_go_of_the_batch_that_was_copied() -> None:
    log: list[str] = []
    engine = small_engine(hears("batch_end", lambda run: run.stop("enough")))
    ahead(engine)
    run = engine.fit(Told(batches(5), log))
    assert run.outcome is Outcome.STOPPED
    assert run.iterator is None
    assert log == ["draw 0", "draw 1"]


def test_an_epoch_without_a_batch_and_an_iterator_are_refused_as_without() -> None:
    engine = small_engine()
    ahead(engine)
    with refuses(LoaderRefused, "gave no batch"):
        engine.fit(Told([], []))
    with refuses(LoaderRefused, "gives nothing (any more)"):
        engine.fit(iter(batches(2)), epochs=2)


def test_a_data_loader_shuffles_as_without_and_evaluate_and_predict_copy_ahead_too() -> None:
    data = TensorDataset(torch.arange(24.0).view(12, 2), torch.zeros(12, 1))
    seen: list[list[list[float]]] = []
    for prefetch in (False, True):
        batch_lists: list[list[float]] = []
        engine = small_engine(hears("batch_begin", lambda run, to=batch_lists: to.append(run.inputs.tolist())))
        cuda = ahead(engine)
        engine.prefetch = prefetch
        torch.manual_seed(5)
        engine.fit(DataLoader(data, 5, shuffle=True), epochs=3)
        seen.append(batch_lists)
        assert cuda.log.count("join") == (9 if prefetch else 0)
        engine.evaluate(DataLoader(data, 6))
        assert engine.predict(DataLoader(data, 6)).shape == (12, 1)
        assert cuda.log.count("join") == (13 if prefetch else 0)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("work", ["fit", "evaluate", "predict"])
def test_it_is_refused_where_no_copy_runs_beside_the_rest(work: str) -> None:
    model = nn.Linear(2, 1)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), prefetch=True)
    with refuses(ArgumentRefused, "prefetch is True, and the model is on cpu", "for a model on cuda"):
        getattr(engine, work)(batches(1))
    assert engine.last_run is None
