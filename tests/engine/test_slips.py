"""Which slips of a loop of one's own are noticed?  What would train something else in silence is refused, or said."""

import warnings
from collections.abc import Callable

import pytest
import torch

from engine import Callback, Engine, OpenRun, Outcome, Run, State, Trigger
from engine.errors import ArgumentRefused, EngineBusy, OutOfOrder
from states import TRAINING
from tests.engine.ownloop import batch, trained
from tests.engine.tools import answers, batches, nothing_changes, small_engine, weights_of


def test_a_validation_behind_the_end_of_a_run_is_refused_and_points_to_evaluate() -> None:
    engine = small_engine()
    with engine.start(epochs=1) as run:
        for _ in run.each_epoch():
            trained(engine, run)
            run.validate(batches(1))
        loss = run.metrics["valid_loss"]
        with pytest.raises(OutOfOrder, match=r"engine\.evaluate\(loader\)"):
            run.validate(batches(2))
    assert run.metrics["valid_loss"] == loss


def test_a_validation_in_an_epoch_that_was_stopped_has_nothing_to_do() -> None:
    engine = small_engine(answers("stop_training", lambda run: run.batches_done == 2))
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            trained(engine, run)
            assert run.validate(batches(1)) is State.DONE
    assert "valid_loss" not in run.metrics


@pytest.mark.parametrize("times", [1, 2])
def test_a_validation_before_the_batches_or_a_second_one_is_refused(times: int) -> None:
    engine = small_engine()
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            if times == 2:
                trained(engine, run)
                run.validate(batches(1))
            with nothing_changes(engine.model, engine.optimizer), pytest.raises(OutOfOrder, match="once in each epoch"):
                run.validate(batches(1))
            break


@pytest.mark.parametrize("reported", [True, False])
def test_a_loop_over_batches_that_goes_on_behind_a_validation_inside_of_it_is_refused(reported: bool) -> None:
    engine = small_engine()

    def train(run: OpenRun) -> None:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                if reported:
                    batch(engine, run, inputs, targets)
                run.validate(batches(1))

    with engine.start(epochs=2) as run:
        with pytest.raises(OutOfOrder, match="behind the loop over the batches"):
            train(run)
        assert run.batches_done == 1


def test_a_validation_with_a_batch_open_says_that_it_was_the_validation() -> None:
    engine = small_engine()
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, _targets in run.each_batch(batches(3)):
                run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                with pytest.raises(OutOfOrder, match=r"run\.validate was called, and loss_ready was not reported"):
                    run.validate(batches(1))
                break
            break


def test_a_break_and_then_a_validation_and_another_epoch_are_in_order() -> None:
    engine = small_engine()
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                batch(engine, run, inputs, targets)
                break
            run.validate(batches(1))
    assert (run.batches_done, run.epoch, run.outcome) == (2, 2, Outcome.COMPLETED)


class Replaces(Callback):
    """Puts another tensor in place of the output or the loss."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_forward_end(self, run: Run) -> None:
        if self.name == "output":
            run.output = run.output * 2

    def on_loss_end(self, run: Run) -> None:
        if self.name == "loss":
            run.loss = run.loss * 2


def replaced(name: str, mine: Callable[[Run, torch.Tensor, str], torch.Tensor]) -> Engine:
    """A training whose callback replaces something; the loop goes on with what *mine* picks."""
    engine = small_engine(Replaces(name))
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                output = engine.model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = engine.loss_fn(mine(run, output, "output"), targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                mine(run, loss, "loss").backward()
                run.report(Trigger.GRADS_READY)
                engine.optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)
    return engine


@pytest.mark.parametrize("name", ["output", "loss"])
def test_what_a_callback_replaces_must_be_what_the_loop_goes_on_with(name: str) -> None:
    before = weights_of(small_engine().model)
    with pytest.raises(OutOfOrder, match=rf"gradients of the {name} that a callback has replaced") as raised:
        replaced(name, lambda run, own, which: own)
    assert f"run.{name}" in str(raised.value)
    engine = replaced(name, lambda run, own, which: getattr(run, which))
    fit = small_engine(Replaces(name))
    fit.fit(batches(3))
    for mine, other, old in zip(weights_of(engine.model), weights_of(fit.model), before, strict=True):
        assert torch.equal(mine, other)
        assert not torch.equal(mine, old)


def test_gradients_that_were_never_computed_are_said_once() -> None:
    engine, warned = small_engine(), [True]
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(2)):
                run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                loss = engine.loss_fn(run.output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    run.report(Trigger.GRADS_READY)
                assert ["no parameter of the optimizer has a gradient" in str(one.message) for one in said] == warned
                assert all(warning.filename == __file__ for warning in said)
                warned = []
                engine.optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)
    assert run.updates == 2


def test_a_window_whose_gradients_the_loop_drops_is_refused() -> None:
    engine = small_engine(answers("accumulate", lambda run: run.window < 2))

    def train(run: OpenRun) -> None:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(2)):
                engine.optimizer.zero_grad()
                batch(engine, run, inputs, targets)

    with engine.start() as run:
        with pytest.raises(OutOfOrder, match=r"take optimizer\.zero_grad\(\) out of your loop"):
            train(run)
        assert (run.batches_done, run.updates) == (1, 0)


def test_dropping_gradients_in_the_loop_changes_nothing_where_nobody_accumulates() -> None:
    engine, fit = small_engine(), small_engine()
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                engine.optimizer.zero_grad()
                batch(engine, run, inputs, targets)
    fit.fit(batches(3))
    assert all(map(torch.equal, weights_of(engine.model), weights_of(fit.model)))


@pytest.mark.parametrize("some", [True, False])
def test_an_epoch_of_which_nothing_was_reported_is_said(some: bool) -> None:
    engine = small_engine()
    with warnings.catch_warnings(record=True) as said, engine.start() as run:
        warnings.simplefilter("always")
        for _ in run.each_epoch():
            for number, (inputs, targets) in enumerate(run.each_batch(batches(3))):
                if some and number == 1:
                    batch(engine, run, inputs, targets)
    assert run.batches_done == 3
    assert [str(warning.message)[:45] for warning in said] == (
        [] if some else ["nothing was reported of any of the 3 batches "]
    )
    assert all(warning.filename == __file__ for warning in said)


def test_a_second_run_is_refused_with_what_closes_the_first_one() -> None:
    engine = small_engine()
    first, second = engine.start(batches(1)), engine.start(batches(1))
    first.advance()
    with pytest.raises(EngineBusy, match=r"engine\.last_run\.close\(\)"):
        second.advance()
    first.close()
    assert second.advance() is not None
    second.close()


def test_a_loader_to_validate_on_that_nothing_reads_is_refused() -> None:
    engine = small_engine(machine=TRAINING.without(State.VALIDATE))
    with (
        nothing_changes(engine.model, engine.optimizer),
        pytest.raises(ArgumentRefused, match="no state of the machine"),
    ):
        engine.fit(batches(1), batches(1))
    assert engine.fit(batches(1)).outcome is Outcome.COMPLETED


def test_a_step_that_a_guard_had_otherwise_is_refused_with_the_line_that_was_left_out() -> None:
    engine = small_engine(answers("accumulate", lambda run: True))
    with engine.start() as run:
        next(run.each_epoch())
        inputs, targets = next(run.each_batch(batches(1)))
        run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
        run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets))
        run.loss.backward()
        run.report(Trigger.GRADS_READY)
        with pytest.raises(OutOfOrder, match=r"as in `if run\.report\(\.\.\.\) is State\.STEP:`"):
            run.report(Trigger.WEIGHTS_MOVED)
