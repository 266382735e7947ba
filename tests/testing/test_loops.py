"""Does `check_loop` let a loop pass that does what `fit` does, and show what is wrong with one that does not?"""

from collections.abc import Callable

import pytest

from engine import Callback, Engine, OpenRun, Run, State, Trigger
from engine.errors import ArgumentRefused
from engine.testing.walked.loops import check_loop
from engine.testing.walked.reference import Differs
from states.walk import Plan
from tests.engine.ownloop import batch, reported
from tests.engine.tools import batches, small_engine


class Decides(Callback):
    """Has a mind of its own, as a user's callback does."""

    def accumulate(self, run: Run) -> bool:
        return run.batch_index % 2 == 0

    def on_epoch_end(self, run: Run) -> None:
        if run.epoch == 1 and run.metrics["train_loss"] >= 0:
            run.stop("enough")


def factory() -> tuple[Engine, dict]:
    return small_engine(Decides()), {"train_loader": batches(3), "valid_loader": batches(2, seed=2)}


Batch = Callable[[Engine, OpenRun, object, object], None]


def looping(do: Batch, *, validates: bool = True) -> Callable:
    """A training that does this with each batch."""

    def loop(engine: Engine, train: list, valid: list | None, epochs: int) -> None:
        with engine.start(None, None, epochs) as run:
            for _ in run.each_epoch():
                for inputs, targets in run.each_batch(train):
                    do(engine, run, inputs, targets)
                if validates and valid is not None:
                    run.validate(valid)

    return loop


def forgets_the_loss(engine: Engine, run: OpenRun, inputs: object, targets: object) -> None:
    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
    engine.loss_fn(run.output, targets).backward()
    if run.report(Trigger.GRADS_READY) is State.STEP:
        engine.optimizer.step()
        run.report(Trigger.WEIGHTS_MOVED)


def doubles_the_output(engine: Engine, run: OpenRun, inputs: object, targets: object) -> None:
    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
    run.report(Trigger.OUTPUT_READY, output=run.output)


def does_not_step(engine: Engine, run: OpenRun, inputs: object, targets: object) -> None:
    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
    run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets))
    if run.state is State.BACKWARD:
        run.loss.backward()
        if run.report(Trigger.GRADS_READY) is State.STEP:
            run.report(Trigger.WEIGHTS_MOVED)


def steps_without_asking(engine: Engine, run: OpenRun, inputs: object, targets: object) -> None:
    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
    run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets))
    run.loss.backward()
    run.report(Trigger.GRADS_READY)
    engine.optimizer.step()
    run.report(Trigger.WEIGHTS_MOVED)


def passes_by(engine: Engine, run: OpenRun, inputs: object, targets: object) -> None:
    if run.batch_index == 1:
        return  # nothing of it is reported
    batch(engine, run, inputs, targets)


def found(loop: Callable, **more: object) -> str:
    with pytest.raises(Differs) as raised:
        check_loop(factory, loop, max_examples=200, **more)
    return str(raised.value)


def test_a_loop_that_reports_what_it_does_passes() -> None:
    check_loop(factory, looping(batch), max_examples=30)


def test_one_that_goes_step_by_step_and_one_that_only_reports_pass() -> None:
    def stepping(engine: Engine, train: list, valid: list | None, epochs: int) -> None:
        for _ in engine.start(train, valid, epochs):
            pass

    check_loop(factory, stepping, max_examples=20)


@pytest.mark.parametrize(
    ("loop", "plan", "phrases"),
    [
        (looping(forgets_the_loss), "1 epoch of 1 batch", ["grads_ready was reported in loss", "raised OutOfOrder"]),
        (looping(doubles_the_output), "1 epoch of 1 batch", ["output_ready was reported in loss"]),
        (looping(batch, validates=False), "validated on 1 batch", ["validate_begin is heard", "no guard says yes"]),
        (looping(steps_without_asking), "1 epoch of 1 batch", ["weights_moved was reported"]),
        (looping(does_not_step), "1 epoch of 2 batches", ["weight[0, 0] is "]),
        (looping(passes_by), "1 epoch of 2 batches", ["forward_begin is heard", "batch_end is heard"]),
        (lambda engine, train, valid, epochs: None, "0 epochs of 1 batch", ["train_begin is heard", "nothing more"]),
    ],
)
def test_what_a_loop_does_wrong_is_shown_by_the_smallest_training(loop: Callable, plan: str, phrases: list) -> None:
    text = found(loop)
    assert plan in text
    for phrase in phrases:
        assert phrase in text, text


def test_a_loop_that_computes_otherwise_may_leave_other_weights() -> None:
    check_loop(factory, looping(does_not_step), weights=False, max_examples=20)


@pytest.mark.parametrize(
    ("loop", "more", "phrase"), [("loop", {}, "the loop is 'loop'"), (looping(batch), {"max_examples": 0}, "is 0")]
)
def test_what_cannot_be_compared_is_refused(loop: Callable, more: dict, phrase: str) -> None:
    with pytest.raises(ArgumentRefused, match=phrase):
        check_loop(factory, loop, **more)


def test_a_plan_has_an_end_in_each_loop() -> None:
    """So that the loops above, which know nothing of max_updates, do for all plans."""
    assert reported(small_engine(), Plan(epochs=0, batches=1)).ended


def test_the_short_way_of_a_report_that_nobody_hears_is_compared_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    straight = OpenRun._go_straight

    def miscounts(self: OpenRun, *given: object) -> object:
        self.batches_done += 7
        return straight(self, *given)

    monkeypatch.setattr(OpenRun, "_go_straight", miscounts)
    with pytest.raises(Differs, match="batches_done"):
        check_loop(lambda: (small_engine(), factory()[1]), looping(batch), max_examples=1)
