"""Where does a loop of one's own stand in odd places?  Left, resumed, mixed with `advance`, on loaders of all kinds."""

import warnings
from collections.abc import Callable, Iterator
from enum import Enum

import pytest
import torch
from attrs import evolve
from torch.utils.data import DataLoader, IterableDataset

from engine import PLAIN, Action, Engine, OpenRun, Outcome, Refused, Run, State, Trigger
from engine.errors import ArgumentRefused, LoaderRefused, LossRefused, OutOfOrder
from states import EVALUATION, TRAINING, Event, Guard, TriggerRefused
from tests.engine.ownloop import batch, trained
from tests.engine.tools import Recorder, answers, batches, nothing_changes, small_engine, weights_of


class Stream(IterableDataset):
    """Samples without a length, as they stream in."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for inputs, targets in batches(3):
            yield from zip(inputs, targets, strict=True)


def test_a_loader_without_a_length_is_drawn_from() -> None:
    engine, fit = small_engine(), small_engine()
    loader = DataLoader(Stream(), batch_size=4)
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(loader):
                batch(engine, run, inputs, targets)
    fit.fit(loader)
    assert run.batches_done == fit.last_run.batches_done > 0
    assert all(map(torch.equal, weights_of(engine.model), weights_of(fit.model)))


def test_each_epoch_draws_from_what_start_was_given_unless_another_is_named() -> None:
    engine = small_engine()
    with engine.start(batches(2), epochs=3) as run:
        for epoch in run.each_epoch():
            for inputs, targets in run.each_batch(batches(5) if epoch == 1 else None):
                batch(engine, run, inputs, targets)
    assert run.batches_done == 2 + 5 + 2


def test_a_validation_behind_a_stop_that_is_granted_on_leaving_has_nothing_to_do() -> None:
    engine = small_engine()
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                batch(engine, run, inputs, targets)
                run.stop("enough")
                break
            assert run.validate(batches(1)) is State.DONE
    assert (run.batches_done, run.stops[0].reason) == (1, "enough")


@pytest.mark.parametrize("leaves", [True, False])
def test_a_machine_that_cannot_end_an_epoch_early_is_left_all_the_same(leaves: bool) -> None:
    engine = small_engine(machine=TRAINING.without(Guard.STOP_EPOCH))
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                batch(engine, run, inputs, targets)
                break
            if leaves:
                break
            with pytest.raises(OutOfOrder, match="asks no guard that ends an epoch"):
                run.validate(batches(1))
            break
    assert run.outcome is Outcome.STOPPED
    assert engine.fit(batches(1)).outcome is Outcome.COMPLETED


@pytest.mark.parametrize("mine", [PLAIN - {State.TRAIN}, {State.FORWARD, State.LOSS, State.BACKWARD, State.STEP}])
def test_a_loop_over_epochs_that_the_engine_begins_is_refused(mine: set[State]) -> None:
    run = small_engine().start(epochs=2, mine=mine)
    with pytest.raises(ArgumentRefused, match=r"mine leaves State\.TRAIN out"):
        next(run.each_epoch())
    assert not run.begun


def test_a_run_that_was_closed_before_it_began_has_no_epochs() -> None:
    run = small_engine().start(batches(1))
    run.close()
    assert list(run.each_epoch()) == []
    assert run.outcome is Outcome.STOPPED


def after_the_loss(engine: Engine, run: OpenRun) -> None:
    """An epoch up to where the loss is due."""
    next(run.each_epoch())
    inputs, _ = next(run.each_batch(batches(1)))
    run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))


def up_to_close(engine: Engine, run: OpenRun) -> None:
    for _ in run.each_epoch():
        trained(engine, run)
        break


@pytest.mark.parametrize(
    ("upto", "report", "error", "phrase"),
    [
        (after_the_loss, lambda run: run.report(Trigger.LOSS_READY, loss=torch.ones(3)), LossRefused, "shape (3,)"),
        (up_to_close, lambda run: run.report(Trigger.VALIDATION_DUE), LoaderRefused, "no validation loader"),
    ],
)
def test_a_report_that_the_run_could_not_survive_is_refused_and_changes_nothing(
    upto: Callable[[Engine, OpenRun], None],
    report: Callable[[OpenRun], object],
    error: type[Exception],
    phrase: str,
) -> None:
    recorder = Recorder()
    engine = small_engine(recorder)
    with engine.start() as run:
        upto(engine, run)
        heard, state = len(recorder.notes), run.state
        with nothing_changes(engine.model, engine.optimizer), pytest.raises(error) as raised:
            report(run)
        assert phrase in str(raised.value)
        assert (len(recorder.notes), run.state, run.outcome) == (heard, state, Outcome.RUNNING)


def closes(run: Run) -> Trigger:
    return Trigger.NO_VALIDATION


def test_a_validation_on_a_machine_that_has_none_is_refused_before_anything_happens() -> None:
    machine = TRAINING.without(State.VALIDATE, Trigger.VALIDATION_DUE)
    actions = {State.CLOSE: Action(closes, (Trigger.NO_VALIDATION,))}
    engine = small_engine(machine=machine, actions=actions)
    with engine.start() as run:
        up_to_close(engine, run)
        with pytest.raises(ArgumentRefused, match="no validation is ever due"):
            run.validate(batches(1))
        assert run.outcome is Outcome.RUNNING


def test_a_validation_of_several_models_without_a_forward_is_refused_before_anything_happens() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = Engine({"only": model}, torch.nn.MSELoss(), {"only": optimizer})
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch([(torch.ones(2, 2), torch.ones(2, 1))]):
                output = model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = engine.loss_fn(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                run.report(Trigger.GRADS_READY)
                optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)
            with pytest.raises(Refused):
                run.validate(batches(1))
            assert (run.outcome, run.state) == (Outcome.RUNNING, State.CLOSE)


def test_a_skip_that_brings_a_loss_before_the_output_is_refused() -> None:
    engine = small_engine()
    with engine.start() as run:
        next(run.each_epoch())
        next(run.each_batch(batches(1)))
        with pytest.raises(OutOfOrder, match="where output_ready was not reported"):
            run.skip(loss=torch.ones(()))
        assert (run.loss, run.state) == (None, State.BATCH)


def test_a_skip_behind_a_step_wants_the_name_of_its_guard() -> None:
    engine = small_engine()
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(1)):
                run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets))
                run.loss.backward()
                run.report(Trigger.GRADS_READY)
                with pytest.raises(OutOfOrder, match=r"run\.skip\('skip_zero_grad'\)"):
                    run.skip()
                engine.optimizer.step()
                run.skip("skip_zero_grad")
    assert (run.updates, str(run.skips[0])[:14]) == (1, "skip_zero_grad")


def test_epochs_that_advance_begins_have_batches_too() -> None:
    engine, fit = small_engine(), small_engine()
    with engine.start(epochs=3) as run:
        while run.advance(to=State.EPOCH):
            trained(engine, run)
    fit.fit(batches(3), epochs=3)
    assert run.batches_done == 9
    assert all(map(torch.equal, weights_of(engine.model), weights_of(fit.model)))


def test_a_transition_between_two_batches_does_not_end_the_loop() -> None:
    engine = small_engine()
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                batch(engine, run, inputs, targets)
                assert run.advance().dest is State.FETCH
    assert run.batches_done == 3


def test_a_callback_that_comes_when_a_run_was_started_is_said_to_come_too_late() -> None:
    engine = small_engine()
    run = engine.start(batches(1))
    with pytest.warns(UserWarning, match="it takes effect at the next run"):
        engine.on("epoch_end")(lambda run: None)
    run.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.on("epoch_end")(lambda run: None)


def test_the_batch_is_let_go_before_an_epoch_is_validated_as_in_fit() -> None:
    kept: list[object] = []
    engine = small_engine()
    engine.on("validate_begin")(
        lambda run: kept.append((run.parent.inputs, run.parent.output, run.parent.loss.grad_fn))
    )
    with engine.start() as run:
        for _ in run.each_epoch():
            trained(engine, run)
            run.validate(batches(1))
    assert kept == [(None, None, None)]


def test_a_loop_over_the_batches_of_an_epoch_that_is_over_does_not_draw_from_the_next() -> None:
    engine = small_engine()
    with engine.start(epochs=2) as run:
        epochs = run.each_epoch()
        next(epochs)
        old = run.each_batch(batches(3))
        batch(engine, run, *next(old))
        next(epochs)
        next(run.each_batch(batches(3)))
        run.skip()
        with pytest.raises(OutOfOrder, match="a loop over batches went on"):
            next(old)


def test_a_generator_that_is_closed_around_a_run_leaves_it() -> None:
    engine = small_engine()

    def losses() -> Iterator[torch.Tensor]:
        with engine.start(epochs=2) as run:
            for _ in run.each_epoch():
                for inputs, targets in run.each_batch(batches(3)):
                    batch(engine, run, inputs, targets)
                    yield run.loss

    steps = losses()
    next(steps)
    steps.close()
    assert engine.last_run.outcome is Outcome.STOPPED
    assert not engine.last_run.errors


def test_a_loop_that_steps_by_itself_flushes_by_itself_where_mine_says_so() -> None:
    """As one does with a gradient scaler: the engine's own flush would step what is still scaled."""
    engine, fit = (small_engine(answers("accumulate", lambda run: run.window < 2)) for _ in range(2))
    drawn = 0
    with engine.start(epochs=2, mine=PLAIN | {State.FLUSH}) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                drawn += 1
                batch(engine, run, inputs, targets)
            assert run.state is State.FLUSH
            engine.optimizer.step()
            run.report(Trigger.WEIGHTS_MOVED)
    fit.fit(batches(3), epochs=2)
    assert (drawn, run.updates) == (6, fit.last_run.updates)
    assert all(map(torch.equal, weights_of(engine.model), weights_of(fit.model)))


Early = Enum("Early", "EARLY DONE_EARLY EARLY_BEGIN EARLY_END")


@pytest.mark.parametrize("events", [(), (Early.EARLY_BEGIN, Early.EARLY_END)])
@pytest.mark.parametrize("at", [State.FETCH, State.BATCH, State.WINDOW, State.CLOSE])
def test_a_state_of_the_loops_own_beside_the_batches_is_no_batch(at: State, events: tuple[Enum, ...]) -> None:
    machine = TRAINING.insert(Early.EARLY, Early.DONE_EARLY, before=at, events=events)
    action = Action(lambda run: Early.DONE_EARLY, (Early.DONE_EARLY,))
    engine = small_engine(machine=machine, actions={Early.EARLY: action})
    drawn = 0

    def train(run: OpenRun) -> None:
        nonlocal drawn
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(3)):
                drawn += 1
                if run.state is Early.EARLY:
                    run.report(Early.DONE_EARLY)
                batch(engine, run, inputs, targets)
            if run.state is Early.EARLY:
                run.report(Early.DONE_EARLY)

    with engine.start(epochs=2, mine=PLAIN | {Early.EARLY}) as run:
        if at is State.FETCH:  # the loop cannot report what comes before it draws
            with pytest.raises(OutOfOrder, match="done_early was not reported"):
                train(run)
            assert drawn == 0
        else:
            train(run)
            assert (drawn, run.batches_done, run.outcome) == (6, 6, Outcome.COMPLETED)


def test_batches_that_open_no_scope_are_drawn_all_the_same() -> None:
    silent = TRAINING.without(Event.BATCH_BEGIN, Event.BATCH_END)
    moved = [evolve(count, what=Event.BACKWARD_END) for count in TRAINING.counts if count.what is Event.BATCH_END]
    machine = silent.replace({}, counts=moved)
    engine, fit = small_engine(machine=machine), small_engine(machine=machine)
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            trained(engine, run)
    fit.fit(batches(3), epochs=2)
    assert run.batches_done == fit.last_run.batches_done == 6
    assert all(map(torch.equal, weights_of(engine.model), weights_of(fit.model)))


def test_what_was_replaced_in_a_batch_that_was_skipped_is_no_matter_of_the_next() -> None:
    engine = small_engine(answers("skip_backward", lambda run: run.batch_index == 1))

    @engine.on("forward_end")
    def replace(run: Run) -> None:
        if run.batch_index == 1:
            run.output = run.output * 1

    with engine.start() as run:
        for _ in run.each_epoch():
            trained(engine, run)
    assert (run.batches_done, run.updates) == (3, 2)


def test_a_report_that_is_refused_stays_refused() -> None:
    engine = small_engine()
    engine.on("loss_end")(lambda run: setattr(run, "loss", run.loss * 2))
    with engine.start() as run:
        after_the_loss(engine, run)
        loss = engine.loss_fn(run.output, run.targets)
        run.report(Trigger.LOSS_READY, loss=loss)
        loss.backward()
        for _ in range(2):
            with pytest.raises(OutOfOrder, match="a callback has replaced"):
                run.report(Trigger.GRADS_READY)


class Tagged(torch.Tensor):
    """A tensor of another type."""


def test_a_loss_of_another_type_is_reported_once_too() -> None:
    engine = small_engine()
    with engine.start() as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(2)):
                run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                loss = engine.loss_fn(run.output, targets)
                run.report(Trigger.LOSS_READY, loss=loss.as_subclass(Tagged))
                with pytest.raises(OutOfOrder, match="it was reported just before"):
                    run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                run.report(Trigger.GRADS_READY)
                engine.optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)


def test_a_loader_that_reports_nothing_is_refused_as_in_fit() -> None:
    reports = (Trigger.BATCH_READY, Trigger.LOADER_DRY, Trigger.UPDATES_SPENT)
    engine = small_engine(actions={State.FETCH: Action(lambda run: None, reports)})
    run = engine.start(batches(1))
    next(run.each_epoch())
    with pytest.raises(TriggerRefused, match="the action of fetch reported"):
        next(run.each_batch())


@pytest.mark.parametrize("who", ["loop", "action", "guard"])
def test_who_validates_by_himself_needs_no_loader(who: str) -> None:
    reports = (Trigger.VALIDATED, Trigger.VALIDATION_STOPPED)
    more = {"actions": {State.VALIDATE: Action(lambda run: Trigger.VALIDATED, reports)}}
    engine = small_engine(*([answers("skip_validate", lambda run: True)] if who == "guard" else []))
    if who == "action":
        engine = small_engine(machine=TRAINING.replace({}, holds={}), **more)
    with engine.start(mine=PLAIN | {State.VALIDATE} if who == "loop" else PLAIN) as run:
        up_to_close(engine, run)
        run.report(Trigger.VALIDATION_DUE)
        if who == "loop":
            run.report(Trigger.VALIDATED)
        assert run.state is State.TRAIN


@pytest.mark.parametrize("mine", [PLAIN - {State.STEP}, PLAIN - {State.STEP, State.BACKWARD}])
def test_a_step_that_would_evaluate_another_loss_is_refused(mine: set[State]) -> None:
    model = torch.nn.Linear(3, 1)
    engine = small_engine(model=model, optimizer=torch.optim.LBFGS(model.parameters()))
    with pytest.raises(ArgumentRefused, match="takes a closure: the step is the engine's, and mine has"):
        engine.start(mine=mine)
    engine.start(mine=PLAIN - {State.STEP, State.BACKWARD, State.LOSS, State.FORWARD})


def test_a_stop_in_a_validation_before_a_batch_is_drawn_ends_the_loop() -> None:
    peek = Enum("Peek", "PEEK")
    engine = small_engine(machine=TRAINING.insert(peek.PEEK, before=State.FETCH, holds=EVALUATION))
    engine.on("validate_begin")(lambda run: run.stop("seen enough") if run.parent.batches_done == 2 else None)
    with engine.start(None, batches(1), epochs=2) as run:
        for _ in run.each_epoch():
            trained(engine, run)
    assert (run.batches_done, run.outcome) == (2, Outcome.STOPPED)
