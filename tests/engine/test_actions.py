"""Does each state do its one thing, and nothing else?  Modes, gradients, streams, stops, memory, predictions."""

import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

from engine import Callback, Engine, Outcome, Run, State
from engine.errors import ArgumentRefused
from states import Trigger
from states.names import name_of
from tests.engine.tools import (
    Batch,
    Recorder,
    answers,
    batches,
    hears,
    refuses,
    same,
    small_engine,
    small_model,
    still_works,
    weights_of,
)


# --- Batches of any shape ---------------------------------------------------------------------------------------------


def test_an_action_that_is_a_plain_function_reports_what_the_engines_own_would() -> None:
    def clipped(run: Run) -> Trigger:
        nn.utils.clip_grad_norm_(run.model.parameters(), 1e-3)
        run.optimizer.step()
        return Trigger.WEIGHTS_MOVED

    model = small_model()
    engine = small_engine(model=model, optimizer=optim.SGD(model.parameters(), lr=1.0), actions={State.STEP: clipped})
    assert engine.fit(batches(1)).updates == 1
    moved = torch.cat([(a - b).flatten() for a, b in zip(weights_of(model), weights_of(small_model()), strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_callbacks_may_change_what_is_in_hand_between_the_states() -> None:
    engine, plain = small_engine(), small_engine()
    engine.on("forward_begin")(lambda run: setattr(run, "inputs", run.inputs * 2))
    engine.on("backward_begin")(lambda run: setattr(run, "loss", run.loss * 3))
    engine.fit(batches(2))
    plain.loss_fn = lambda output, targets: 3 * mse_loss(output, targets)
    plain.fit([(inputs * 2, targets) for inputs, targets in batches(2)])
    assert same(weights_of(engine.model), weights_of(plain.model))


# --- Modes ------------------------------------------------------------------------------------------------------------


def normed() -> nn.Sequential:
    """A model with a batch norm that is frozen, and one that is not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    model[1].eval()
    return model


def modes_of(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_a_frozen_batch_norm_stays_frozen_through_training_and_validation() -> None:
    model = normed()
    before, statistics = modes_of(model), model[1].running_mean.clone()
    seen: list[tuple[str, list[bool]]] = []
    engine = small_engine(model=model)
    for event in ("train_begin", "batch_begin", "batch_end", "epoch_end", "train_end"):
        engine.on(event)(lambda run: seen.append(("train", modes_of(run.model))))
    for event in ("validate_begin", "validate_batch_end", "validate_end"):
        engine.on(event)(lambda run: seen.append(("eval", modes_of(run.model))))
    engine.fit(batches(2), batches(2), epochs=2)
    wanted = {"train": before, "eval": [False] * len(before)}
    assert seen
    assert all(modes == wanted[kind] for kind, modes in seen)
    assert modes_of(model) == before
    assert torch.equal(model[1].running_mean, statistics)
    assert model[3].num_batches_tracked.item() == 4  # training batches alone


@pytest.mark.parametrize("training", [False, True])
def test_a_model_in_evaluation_mode_is_trained_in_training_mode_and_put_back(training: bool) -> None:
    model = normed().train(training)
    seen: list[bool] = []
    engine = small_engine(hears("batch_begin", lambda run: seen.append(all(modes_of(run.model)))), model=model)
    engine.fit(batches(1))
    assert seen == [True]
    assert modes_of(model) == [training] * len(modes_of(model))


CALLS: dict[str, Callable[[Engine], object]] = {
    "fit": lambda engine: engine.fit(batches(2), batches(2)),
    "evaluate": lambda engine: engine.evaluate(batches(2)),
    "predict": lambda engine: engine.predict(batches(2)),
}
ENDS = ["train_begin", "step_end", "validate_begin", "validate_forward_end", "epoch_end", "train_end"]
FAILS = [*(("fit", event) for event in ENDS), ("evaluate", "validate_batch_end"), ("predict", "predict_batch_end")]


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
@pytest.mark.parametrize(("call", "event"), FAILS)
def test_the_modes_after_a_run_are_those_before_also_when_it_fails(call: str, event: str, checked: bool) -> None:
    def fail(run: Run) -> None:
        msg = "on purpose"
        raise KeyboardInterrupt(msg)

    model = normed()
    before = modes_of(model)
    failing = hears(event, fail)
    engine = small_engine(failing, model=model, checked=checked)
    with pytest.raises(KeyboardInterrupt):
        CALLS[call](engine)
    run = engine.last_run
    assert modes_of(model) == before
    assert (run.modes, run.iterator, run.outcome) == ([], None, Outcome.INTERRUPTED)
    assert torch.is_grad_enabled()
    engine.remove(failing)
    CALLS[call](engine)
    assert modes_of(model) == before


@pytest.mark.parametrize("call", CALLS)
def test_the_modes_after_a_run_are_those_before(call: str) -> None:
    model = normed()
    before = modes_of(model)
    CALLS[call](small_engine(model=model))
    assert modes_of(model) == before


# --- Gradients --------------------------------------------------------------------------------------------------------


def test_gradients_left_over_from_before_are_cleared() -> None:
    engine, plain = small_engine(), small_engine()
    mse_loss(engine.model(torch.ones(2, 2)), torch.full((2, 1), 9.0)).backward()
    engine.fit(batches(2))
    plain.fit(batches(2))
    assert same(weights_of(engine.model), weights_of(plain.model))


def test_an_open_window_of_a_run_that_failed_does_not_leak_into_the_next() -> None:
    def fail(run: Run) -> None:
        msg = "on purpose"
        raise ValueError(msg)

    failing = hears("batch_end", fail, accumulate=lambda self, run: True)
    engine, plain = small_engine(failing), small_engine()
    with pytest.raises(ValueError, match="on purpose"):
        engine.fit(batches(2))
    assert engine.model.weight.grad is not None
    engine.remove(failing)
    engine.fit(batches(2))
    plain.fit(batches(2))
    assert same(weights_of(engine.model), weights_of(plain.model))


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_no_gradient_is_recorded_in_evaluation_and_prediction(call: str) -> None:
    outputs: list[Tensor] = []
    engine = small_engine()
    engine.on("validate_forward_end")(lambda run: outputs.append(run.output))
    engine.on("predict_forward_end")(lambda run: outputs.append(run.output))
    CALLS[call](engine)
    assert len(outputs) == 2
    assert not any(output.requires_grad for output in outputs)
    assert engine.model.weight.grad is None


def test_validation_between_two_epochs_leaves_gradients_on_for_training() -> None:
    seen: list[bool] = []
    engine = small_engine(hears("forward_end", lambda run: seen.append(run.output.requires_grad)))
    engine.on("validate_loss_end")(lambda run: seen.append(not run.loss.requires_grad))
    engine.fit(batches(2), batches(2), epochs=2)
    assert seen == [True] * 8


# --- How long ---------------------------------------------------------------------------------------------------------


class Endless:
    """A stream that counts how many batches were drawn from it."""

    def __init__(self) -> None:
        self.drawn = 0

    def __iter__(self) -> Iterator[Batch]:
        for number in count():
            self.drawn += 1
            yield batches(1, seed=number)[0]


@given(st.integers(1, 12), st.integers(1, 4))
def test_a_stream_without_an_end_is_trained_on_until_the_updates_are_spent(max_updates: int, window: int) -> None:
    stream = Endless()
    engine = small_engine(answers("accumulate", lambda run: run.window < window))
    run = engine.fit(stream, epochs=None, max_updates=max_updates)
    assert run.outcome is Outcome.COMPLETED
    assert (run.updates, run.batches_done, run.epoch) == (max_updates, max_updates * window, 1)
    assert stream.drawn == run.batches_done
    assert len(run.history) == 1


@given(st.integers(0, 9), st.integers(1, 4), st.integers(0, 3))
def test_updates_and_epochs_are_both_upper_bounds(max_updates: int, length: int, epochs: int) -> None:
    run = small_engine().fit(batches(length), batches(1), epochs=epochs, max_updates=max_updates)
    assert run.updates == min(max_updates, length * epochs)
    assert run.epoch == min(epochs, -(-max_updates // length))
    assert len(run.history) == run.epoch


def test_no_updates_means_no_epoch() -> None:
    recorder = Recorder()
    run = small_engine(recorder).fit(Endless(), epochs=None, max_updates=0)
    assert recorder.events == ["train_begin", "train_end"]
    assert run.outcome is Outcome.COMPLETED


@given(st.integers(0, 5), st.integers(0, 5))
def test_start_epoch_is_where_the_count_begins(start: int, more: int) -> None:
    epochs = start + more
    seen: list[int] = []
    run = small_engine(hears("epoch_begin", lambda run: seen.append(run.epoch))).fit(
        batches(1), epochs=epochs, start_epoch=start
    )
    assert seen == list(range(start, epochs))
    assert (run.epoch, run.updates) == (epochs, more)


# --- Stops of one epoch -----------------------------------------------------------------------------------------------


@given(st.integers(0, 3), st.integers(1, 3), st.booleans())
def test_a_stop_of_the_epoch_ends_the_pass_flushes_validates_and_goes_on(at: int, window: int, valid: bool) -> None:
    recorder = Recorder()
    stop = hears("batch_end", lambda run: run.batch_index == at and run.stop("no more", scope="epoch"))
    engine = small_engine(recorder, stop, answers("accumulate", lambda run: run.window < window))
    run = engine.fit(batches(4), batches(1) if valid else None, epochs=2)
    done = at + 1
    assert run.outcome is Outcome.COMPLETED
    assert not run.stopping
    assert (run.batches_done, run.updates) == (2 * done, 2 * -(-done // window))
    assert (recorder.events.count("validate_end"), recorder.events.count("epoch_end")) == (2 if valid else 0, 2)
    assert "stop" not in recorder.events
    assert [(verdict.who, verdict.reason, verdict.batch_index) for verdict in run.stops] == [
        ("run.stop", "no more", done)
    ] * 2
    assert len(run.history) == 2


def test_a_stop_of_the_epoch_before_its_first_batch_draws_none() -> None:
    stream = Endless()
    engine = small_engine(hears("epoch_begin", lambda run: run.stop("not today", scope="epoch")))
    run = engine.fit(stream, epochs=3)
    assert (stream.drawn, run.batches_done, run.epoch, len(run.stops)) == (0, 0, 3, 3)


@pytest.mark.parametrize("event", ["step_end", "validate_end"])
def test_a_stop_of_an_epoch_that_comes_when_its_loader_was_left_does_not_stop_the_next(event: str) -> None:
    asked: list[str] = []

    def ask(run: Run) -> None:
        if event != "step_end" or run.state is State.FLUSH:
            asked.append(name_of(run.state))
            (run.parent or run).stop("too late", scope="epoch")

    engine = small_engine(hears(event, ask), answers("accumulate", lambda run: True))
    run = engine.fit(batches(2), batches(1), epochs=3)
    assert asked
    assert (run.batches_done, run.stops) == (6, [])


@pytest.mark.parametrize("event", ["train_begin", "epoch_end", "train_end"])
def test_a_stop_of_an_epoch_is_refused_where_none_is_open(event: str) -> None:
    """It would be forgotten in silence; what nobody can grant is not taken."""
    engine = small_engine(hears(event, lambda run: run.stop("which one?", scope="epoch")))
    with refuses(ArgumentRefused, "the scope 'epoch' in", "where no epoch is open"):
        engine.fit(batches(2), epochs=2)
    engine = small_engine(hears("predict_begin", lambda run: run.stop("none at all", scope="epoch")))
    with refuses(ArgumentRefused, "in a prediction, which has no row for it"):
        engine.predict(batches(1))


def test_a_stop_of_the_epoch_inside_a_validation_ends_that_validation_alone() -> None:
    seen: list[int] = []
    engine = small_engine()
    engine.on("validate_batch_end")(lambda run: seen.append(run.batch_index))
    engine.on("validate_batch_end")(lambda run: run.batch_index == 1 and run.stop("seen enough", scope="epoch"))
    run = engine.fit(batches(2), batches(5), epochs=2)
    assert seen == [0, 1, 0, 1]
    assert (run.outcome, run.batches_done, len(run.history)) == (Outcome.COMPLETED, 4, 2)
    assert [name_of(verdict.guard) for verdict in run.stops] == ["stop_validate"] * 2


def test_a_loader_is_begun_anew_in_each_epoch_whatever_is_done_when_it_is_left() -> None:
    def forget_the_window(run: Run) -> Trigger:
        return Trigger.WINDOW_EMPTY

    engine = small_engine(actions={State.WINDOW: forget_the_window})
    assert engine.fit(batches(2), epochs=3).batches_done == 6


# --- After a run ------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_reached_by_last_run_with_the_batch_that_it_failed_on() -> None:
    def fail(run: Run) -> None:
        if run.batches_done == 3:
            msg = "on purpose"
            raise ValueError(msg)

    engine = small_engine(hears("loss_end", fail))
    assert engine.last_run is None
    train = batches(2)
    with pytest.raises(ValueError, match="on purpose") as raised:
        engine.fit(train, epochs=3)
    run = engine.last_run
    assert run.errors == [raised.value]
    assert (run.epoch, run.batch_index, run.updates, len(run.history)) == (1, 1, 3, 1)
    assert (run.state, run.outcome) == (State.FAILED, Outcome.FAILED)
    assert torch.equal(run.inputs, train[1][0])
    assert run.loss.requires_grad
    assert repr(run) == "<Run of training: failed (epoch 1, batch 1, update 3); an exception ended the run>"
    assert "while training was in loss (epoch 1, batch 1, update 3)" in raised.value.__notes__[0]


def test_last_run_is_the_outermost_one_that_began_last() -> None:
    engine = small_engine(hears("epoch_end", lambda run: engine.predict(batches(1))))
    run = engine.fit(batches(1), batches(1))
    assert engine.last_run is run
    assert engine.evaluate(batches(1)) is engine.last_run
    engine.predict(batches(1))
    assert engine.last_run.machine.name == "prediction"


LEAVES: dict[str, list[object]] = {
    "in order": [],
    "with an open window": [answers("accumulate", lambda run: True)],
    "early": [answers("stop_epoch", lambda run: run.batch_index == 2)],
    "stopped": [answers("stop_training", lambda run: run.batch_index == 2)],
}


@pytest.mark.parametrize("callbacks", LEAVES.values(), ids=LEAVES.keys())
def test_outputs_and_graphs_are_let_go_at_the_end_of_an_epoch(callbacks: list[object]) -> None:
    alive: list[weakref.ref[Any]] = []
    at_end: list[int] = []

    def watch(run: Run) -> None:
        alive.extend([weakref.ref(run.output), weakref.ref(run.inputs)])

    def fresh() -> Iterator[Batch]:
        yield from batches(3)

    class Fresh:
        def __iter__(self) -> Iterator[Batch]:
            return fresh()

    engine = small_engine(*callbacks)
    engine.on("forward_end")(watch)
    engine.on("validate_forward_end")(watch)
    engine.on("epoch_end")(lambda run: at_end.append(sum(ref() is not None for ref in alive)))
    run = engine.fit(Fresh(), Fresh(), epochs=2)
    assert alive
    if not run.stopping:  # a checkpoint may want the batch in hand
        assert at_end == [0, 0]
    assert [ref() for ref in alive if ref() is not None] == []
    assert run.inputs is run.targets is run.output is None
    assert not run.loss.requires_grad
    assert run.loss.shape == ()


def test_only_one_batch_is_alive_at_a_time() -> None:
    alive: list[weakref.ref[Any]] = []
    most: list[int] = []

    def watch(run: Run) -> None:
        alive.append(weakref.ref(run.output))
        most.append(sum(ref() is not None for ref in alive))

    engine = small_engine(hears("forward_end", watch))
    engine.fit(batches(20))
    assert max(most) <= 1


# --- Prediction -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.booleans())
def test_predictions_are_those_of_the_model_on_all_inputs_in_order(sizes: list[int], pairs: bool) -> None:
    model = small_model()
    inputs = [batches(1, size=size, seed=number)[0][0] for number, size in enumerate(sizes)]
    loader = [(x, None) for x in inputs] if pairs else inputs
    with torch.no_grad():
        wanted = torch.cat([model(x) for x in inputs])
    assert torch.equal(Engine(model).predict(loader), wanted)


class Gives(nn.Module):
    """Gives what it is told to make of its input."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        return self.make(x)


def test_predictions_keep_the_form_of_the_models_output() -> None:
    loader = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
    whole = torch.tensor([1.0, 2.0, 3.0])

    def predicted(make: Callable[[Tensor], Any]) -> Any:
        return Engine(Gives(make)).predict(loader)

    pair = predicted(lambda x: (x, x + 1))
    assert isinstance(pair, tuple)
    assert same(pair, (whole, whole + 1))
    (single,) = predicted(lambda x: [x])
    assert torch.equal(single, whole)
    nested = predicted(lambda x: {"a": x, "b": {"c": (x * 2,)}})
    assert torch.equal(nested["a"], whole)
    assert torch.equal(nested["b"]["c"][0], whole * 2)
    assert torch.equal(predicted(lambda x: x.sum()), torch.tensor([3.0, 3.0]))
    assert predicted(lambda x: f"{len(x)} samples") == ["2 samples", "1 samples"]


def test_predictions_that_do_not_fit_together_come_as_a_list() -> None:
    outputs = Engine(nn.Identity()).predict([torch.ones(2, 3), torch.ones(2, 4)])
    assert [output.shape for output in outputs] == [(2, 3), (2, 4)]


def test_a_prediction_needs_neither_loss_nor_optimizer_and_an_evaluation_no_optimizer() -> None:
    model = small_model()
    assert Engine(model).predict(batches(2)).shape == (6, 1)
    assert Engine(model, mse_loss).evaluate(batches(2)).metrics["valid_loss"] > 0


def test_a_prediction_that_is_stopped_gives_what_there_is() -> None:
    engine = small_engine(answers("stop_predict", lambda run: run.batch_index == 2))
    assert engine.predict(batches(5)).shape == (6, 1)
    assert engine.last_run.outcome is Outcome.STOPPED
    engine = small_engine(hears("predict_begin", lambda run: run.stop("not at all")))
    assert engine.predict(batches(5)) == []


def test_what_callbacks_make_of_an_output_is_what_is_predicted() -> None:
    engine = small_engine()
    engine.on("predict_batch_end", order=5)(lambda run: setattr(run, "output", run.output * 0 + 1))
    assert torch.equal(engine.predict(batches(1)), torch.ones(3, 1))
    still_works(engine)


def test_what_stopped_a_training_does_not_stop_the_evaluation_after_it() -> None:
    class Enough(Callback):
        def stop_training(self, run: Run) -> bool:
            return True

    model = nn.Linear(1, 1)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [Enough()])
    loader = [(torch.ones(2, 1), torch.ones(2, 1))] * 3
    assert engine.fit(loader, loader).outcome is Outcome.STOPPED
    evaluated = engine.evaluate(loader)
    assert evaluated.outcome is Outcome.COMPLETED
    assert evaluated.batch_index == 3


# --- What is cleared and put back -------------------------------------------------------------------------------------


def test_gradients_that_the_optimizer_does_not_hold_are_cleared_at_the_beginning_too() -> None:
    model = small_model()
    model.weight.grad = torch.full((1, 2), 1e6)
    seen: list[object] = []
    engine = small_engine(model=model, optimizer=optim.SGD([model.bias], lr=0.1))
    engine.on("train_begin")(lambda run: seen.append(run.model.weight.grad))
    engine.fit(batches(1))
    assert seen == [None]


def test_the_batch_is_at_hand_in_the_events_of_a_flush() -> None:
    sizes: list[int] = []
    engine = small_engine(answers("accumulate", lambda run: True))
    engine.on("step_begin")(lambda run: sizes.append(len(run.inputs)))
    run = engine.fit(batches(3))
    assert sizes == [3]
    assert run.inputs is None


# --- Stops ------------------------------------------------------------------------------------------------------------


def test_an_evaluation_that_was_cut_short_does_not_say_that_all_was_done() -> None:
    for stopping in (answers("stop_validate", lambda run: run.batch_index == 1), hears("validate_begin", _enough)):
        run = small_engine(stopping).evaluate(batches(5))
        assert (run.outcome, run.stopping, run.batch_index < 5) == (Outcome.STOPPED, True, True)
    outer = small_engine(answers("stop_validate", lambda run: True)).fit(batches(2), batches(2), epochs=2)
    assert (outer.outcome, outer.stopping, len(outer.history)) == (Outcome.COMPLETED, False, 2)


def _enough(run: Run) -> None:
    run.stop("enough", scope="epoch")


def test_a_stop_inside_a_validation_is_one_of_the_training_from_that_moment_on() -> None:
    seen: list[tuple[str, bool, bool]] = []
    engine = small_engine(answers("stop_training", lambda run: run.parent is not None and run.batch_index == 1))
    for event in ("validate_begin", "validate_batch_end", "stop", "validate_end"):
        engine.on(event)(lambda run, event=event: seen.append((event, run.stopping, run.parent.stopping)))
    run = engine.fit(batches(1), batches(3))
    assert seen == [
        ("validate_begin", False, False),
        ("validate_batch_end", False, False),
        ("stop", True, True),
        ("validate_end", True, True),
    ]
    assert (run.outcome, run.history) == (Outcome.STOPPED, [])


def test_a_guard_inside_a_validation_sees_the_history_of_the_training() -> None:
    lengths: list[int] = []

    def look(run: Run) -> bool:
        if run.parent is not None:
            lengths.append(len(run.history))
        return False

    small_engine(answers("stop_training", look)).fit(batches(1), batches(1), epochs=3)
    assert lengths == [0, 0, 1, 1, 2, 2]


def test_a_stop_asked_for_when_nothing_is_left_to_stop_comes_too_late() -> None:
    for event in ("epoch_end", "train_end"):
        run = small_engine(hears(event, lambda run: run.stop("late"))).fit(batches(1))
        assert (run.outcome, run.stops) == (Outcome.COMPLETED, [])


class NoNote(Exception):  # an exception of the user's own
    """An exception that nobody may write on."""

    def add_note(self, note: str) -> None:
        raise AttributeError(note)


def test_an_exception_that_takes_no_note_reaches_the_caller_all_the_same() -> None:
    error = NoNote("as it was")

    def fail(run: Run) -> None:
        raise error

    engine = small_engine(hears("batch_begin", fail))
    with pytest.raises(NoNote) as raised:
        engine.fit(batches(1))
    assert raised.value is error
    assert [type(kept) for kept in engine.last_run.errors] == [NoNote, AttributeError]
