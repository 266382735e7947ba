"""Does each state do its one thing, and nothing else?  Closures, batches, devices, modes, streams, stops, memory."""

import weakref
from collections import Counter, OrderedDict, UserDict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple, Self

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, TensorDataset

from engine import Callback, Engine, Outcome, Run, State, loss_from, output_from
from engine.batches import to_device
from engine.errors import ArgumentRefused, BatchRefused, OptimizerRefused
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


# --- Optimizers with a closure ----------------------------------------------------------------------------------------


def noisy_model() -> nn.Module:
    """Dropout draws random numbers in each forward: one too many or too few would show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def closure_loop(model: nn.Module, optimizer: optim.Optimizer, loader: list[Batch], epochs: int) -> list[float]:
    """The loop that torch's documentation shows; gives the loss of the first evaluation in each batch."""
    losses = []
    for _ in range(epochs):
        for inputs, targets in loader:

            def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                optimizer.zero_grad()
                loss = mse_loss(model(inputs), targets)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    return losses


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("make", [small_model, noisy_model])
def test_lbfgs_is_bit_identical_to_the_plain_closure_loop(
    make: Callable[[], nn.Module], search: str | None, checked: bool
) -> None:
    def lbfgs(model: nn.Module) -> optim.Optimizer:
        return optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, history_size=5, line_search_fn=search)

    plain, model = make(), make()
    torch.manual_seed(3)
    losses = closure_loop(plain, lbfgs(plain), batches(3), epochs=3)
    recorder, seen = Recorder(), list[float]()
    batch_end = hears("batch_end", lambda run: seen.append(run.loss.item()))
    engine = small_engine(recorder, batch_end, model=model, optimizer=lbfgs(model), checked=checked)
    torch.manual_seed(3)
    run = engine.fit(batches(3), epochs=3)
    assert same(weights_of(plain), weights_of(model))
    assert seen == losses
    assert run.updates == 9
    for event in ("forward_begin", "loss_end", "backward_begin", "backward_end", "step_begin", "step_end"):
        assert recorder.events.count(event) == 9


def test_after_a_step_with_a_closure_loss_and_output_are_those_that_were_heard() -> None:
    heard: list[tuple[Tensor, Tensor]] = []
    model = small_model()
    engine = small_engine(model=model, optimizer=optim.LBFGS(model.parameters()))
    engine.on("loss_end")(lambda run: heard.append((run.output, run.loss)))
    engine.on("step_end")(lambda run: heard.append((run.output, run.loss)))
    engine.fit(batches(1))
    assert all(one is other for one, other in zip(*heard, strict=True))


def test_a_replaced_forward_is_what_the_closure_evaluates() -> None:
    calls: list[int] = []

    def twice(run: Run) -> Tensor:
        calls.append(run.updates)
        return 2 * run.model(run.inputs)

    model = small_model()
    optimizer = optim.LBFGS(model.parameters(), max_iter=3)
    small_engine(model=model, optimizer=optimizer, actions={State.FORWARD: output_from(twice)}).fit(batches(1))
    assert len(calls) > 1


# --- Batches of any shape ---------------------------------------------------------------------------------------------

SHAPES: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Run], Any], Callable[[Run], Any]]] = {
    "a dict": (
        lambda x, y: {"x": x, "y": y, "name": "a batch"},
        lambda run: run.model(run.inputs["x"]),
        lambda run: mse_loss(run.output, run.inputs["y"]),
    ),
    "a single tensor": (
        lambda x, y: torch.cat([x, y], dim=1),
        lambda run: run.model(run.inputs[:, :2]),
        lambda run: mse_loss(run.output, run.inputs[:, 2:]),
    ),
    "a triple": (
        lambda x, y: (x[:, :1], x[:, 1:], y),
        lambda run: run.model(torch.cat(run.inputs[:2], dim=1)),
        lambda run: mse_loss(run.output, run.inputs[2]),
    ),
    "nested": (
        lambda x, y: ({"parts": [x[:, :1], (x[:, 1:],)]}, {"y": y}),
        lambda run: run.model(torch.cat([run.inputs["parts"][0], run.inputs["parts"][1][0]], dim=1)),
        lambda run: mse_loss(run.output, run.targets["y"]),
    ),
    "a list of one": (
        lambda x, y: [torch.cat([x, y], dim=1)],
        lambda run: run.model(run.inputs[:, :2]),
        lambda run: mse_loss(run.output, run.inputs[:, 2:]),
    ),
}


@pytest.mark.parametrize(("pack", "forward", "loss"), SHAPES.values(), ids=SHAPES.keys())
def test_batches_of_any_shape_work_with_two_actions_in_a_line_each(pack: Any, forward: Any, loss: Any) -> None:
    actions = {State.FORWARD: output_from(forward), State.LOSS: loss_from(loss)}
    engine, plain = small_engine(loss_fn=None, actions=actions), small_engine()
    train, valid = batches(3), batches(2, seed=7)
    run = engine.fit([pack(*pair) for pair in train], [pack(*pair) for pair in valid], epochs=2)
    alone = plain.fit(train, valid, epochs=2)
    assert same(weights_of(engine.model), weights_of(plain.model))
    assert run.history == alone.history
    assert engine.evaluate([pack(*pair) for pair in valid]).metrics == plain.evaluate(valid).metrics
    assert torch.equal(engine.predict([pack(*pair) for pair in valid]), plain.predict(valid))


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


# --- Devices ----------------------------------------------------------------------------------------------------------

META = torch.device("meta")


class Point(NamedTuple):
    """A container with names."""

    x: Any
    y: Any


class Moves:
    """Something with a `to` of its own."""

    def to(self, device: torch.device) -> torch.device:
        return device


_LEAVES = st.sampled_from(["tensor", "text", 3, None, 1.5])
_NESTED = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.tuples(inner, inner).map(lambda pair: Point(*pair))
    ),
)


def _filled(shape: Any, tensor: Tensor) -> Any:
    """The same nesting, a tensor in the place of the word."""
    if isinstance(shape, dict):
        return {key: _filled(item, tensor) for key, item in shape.items()}
    if isinstance(shape, Point):
        return Point(*(_filled(item, tensor) for item in shape))
    if isinstance(shape, (list, tuple)):
        return type(shape)(_filled(item, tensor) for item in shape)
    return tensor if shape == "tensor" else shape


def _described(value: Any) -> Any:
    """A nesting with the device of each tensor in its place, and its types."""
    if isinstance(value, dict):
        return dict, {key: _described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [_described(item) for item in value]
    return str(value.device) if isinstance(value, Tensor) else value


@given(_NESTED)
def test_all_tensors_of_any_nesting_move_and_all_else_stays(shape: Any) -> None:
    here, there = torch.ones(2), torch.ones(2, device=META)
    assert _described(to_device(_filled(shape, here), META)) == _described(_filled(shape, there))


def test_a_tensor_that_is_there_already_is_not_copied() -> None:
    tensor = torch.ones(2)
    assert to_device({"a": [tensor]}, torch.device("cpu"))["a"][0] is tensor


def test_what_can_move_by_itself_does_and_a_tuple_of_another_kind_stays() -> None:
    assert to_device([Moves()], META) == [META]
    assert to_device(pack_sequence([torch.ones(2)]), META).data.device == META
    size = torch.ones(2, 3).size()
    assert to_device([size], META) == [size]
    assert to_device(OrderedDict(a=torch.ones(1)), META)["a"].device == META


def test_batches_are_on_the_device_before_batch_begin_is_heard() -> None:
    seen: list[torch.device] = []
    engine = small_engine(optimizer=None, device="meta")
    engine.on("predict_batch_begin")(lambda run: seen.extend([run.inputs.device, run.targets.device]))
    outputs = engine.predict(batches(2))
    assert {parameter.device for parameter in engine.model.parameters()} == {META}
    assert seen == [META] * 4
    assert (outputs.device, outputs.shape) == (META, (6, 1))


def test_without_a_device_batches_go_where_the_model_is() -> None:
    engine = small_engine(model=small_model().to(META), optimizer=None)
    assert engine.predict([torch.ones(3, 2)]).device == META
    assert Engine(nn.Identity()).predict([torch.ones(2)]).device == torch.device("cpu")


# --- Samplers ---------------------------------------------------------------------------------------------------------


class Told(DistributedSampler[Any]):
    """Writes down which epochs it is told."""

    def __init__(self, dataset: TensorDataset) -> None:
        super().__init__(dataset, num_replicas=1, rank=0, shuffle=True)
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)
        super().set_epoch(epoch)


def data_set() -> TensorDataset:
    return TensorDataset(torch.arange(16.0).reshape(8, 2), torch.arange(8.0).reshape(8, 1))


@pytest.mark.parametrize("how", ["sampler", "batch_sampler", "sampler of a batch_sampler"])
def test_samplers_are_told_the_epoch_and_shuffle_by_it(how: str) -> None:
    sampler = Told(data_set())
    batch_sampler = BatchSampler(sampler, 4, drop_last=False)
    if how == "batch_sampler":
        batch_sampler.set_epoch = sampler.set_epoch
        batch_sampler.sampler = DistributedSampler(data_set(), num_replicas=1, rank=0)
        sampler_of = batch_sampler.sampler
    else:
        sampler_of = sampler
    as_sampler = how == "sampler"
    loader = (
        DataLoader(data_set(), batch_size=4, sampler=sampler)
        if as_sampler
        else DataLoader(data_set(), batch_sampler=batch_sampler)
    )
    orders: dict[int, list[float]] = {}
    engine = small_engine(loss_fn=lambda output, targets: output.mean() * 0)
    engine.on("batch_end")(lambda run: orders.setdefault(run.epoch, []).extend(run.targets.flatten().tolist()))
    engine.fit(loader, epochs=5, start_epoch=2)
    assert sampler.told == [2, 3, 4]
    for epoch, order in orders.items():
        sampler_of.set_epoch(epoch)
        assert order == [float(index) for index in sampler_of]
    assert orders[2] != orders[3]


def test_the_sampler_of_the_validation_is_told_too_and_evaluate_begins_at_0() -> None:
    sampler = Told(data_set())
    loader = DataLoader(data_set(), batch_size=4, sampler=sampler)
    engine = small_engine()
    engine.fit(batches(1), loader, epochs=2)
    engine.evaluate(loader)
    assert sampler.told == [0, 1, 0]


def test_a_shuffling_data_loader_draws_the_same_random_numbers_as_in_the_plain_loop() -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(data_set(), batch_size=2, sampler=RandomSampler(data_set()))

    torch.manual_seed(4)
    plain = [targets.tolist() for _ in range(2) for _, targets in loader()]
    seen: list[Any] = []
    engine = small_engine(hears("batch_begin", lambda run: seen.append(run.targets.tolist())))
    torch.manual_seed(4)
    engine.fit(loader(), epochs=2)
    assert seen == plain


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


# --- What a callback puts in place of output or loss, and what is evaluated anew -------------------------------------


def with_lbfgs(*callbacks: object, **more: object) -> Engine:
    model = small_model()
    return small_engine(*callbacks, model=model, optimizer=optim.LBFGS(model.parameters(), max_iter=4), **more)


@pytest.mark.parametrize(
    ("event", "what"),
    [("loss_end", "loss"), ("backward_begin", "loss"), ("forward_end", "output"), ("loss_begin", "output")],
)
def test_an_optimizer_with_a_closure_refuses_a_loss_that_it_could_not_evaluate_anew(event: str, what: str) -> None:
    """The closure's later calls know the actions alone: half of the objective would be another."""

    def put(run: Run) -> None:
        setattr(run, what, getattr(run, what) * 2)

    engine = with_lbfgs(hears(event, put))
    before = weights_of(engine.model)
    with refuses(
        OptimizerRefused, f"run.{what} changed behind the action", "LBFGS evaluates the loss anew", f"{what}_from"
    ):
        engine.fit(batches(2))
    assert same(before, weights_of(engine.model))


def _in_place(run: Run) -> None:
    run.loss /= 4


def _clip(run: Run) -> None:
    nn.utils.clip_grad_norm_(run.model.parameters(), 1e-3)


def _swap(run: Run) -> None:
    run.model.weight.grad = torch.ones(1, 2)


@pytest.mark.parametrize(
    ("event", "change", "what"),
    [
        ("loss_end", _in_place, "run.loss"),
        ("forward_end", lambda run: run.output.mul_(2), "run.output"),
        ("forward_end", lambda run: setattr(run, "inputs", run.inputs * 2), "run.inputs"),
        ("loss_end", lambda run: setattr(run, "targets", run.targets * 2), "run.targets"),
        ("loss_end", lambda run: run.targets.mul_(2), "run.targets"),
        ("step_begin", lambda run: run.model.weight.grad.data.clamp_(-1e-3, 1e-3), "gradients"),
        ("step_begin", _clip, "gradients"),
        ("backward_end", _swap, "gradients"),
        ("step_begin", lambda run: run.optimizer.zero_grad(), "gradients"),
    ],
)
def test_an_optimizer_with_a_closure_refuses_what_was_changed_in_place_too(
    event: str, change: Callable[[Run], object], what: str
) -> None:
    engine = with_lbfgs(hears(event, change))
    before = weights_of(engine.model)
    with refuses(OptimizerRefused, f"{what} changed behind the action", "LBFGS evaluates the loss anew without that"):
        engine.fit(batches(2))
    assert same(before, weights_of(engine.model))


def test_an_optimizer_with_a_closure_allows_what_changes_nothing_and_what_an_action_does() -> None:
    """The norm of the gradients is often read by a clip that clips nothing; a penalty may be added by BACKWARD."""
    engine = with_lbfgs()
    engine.on("step_begin")(lambda run: nn.utils.clip_grad_norm_(run.model.parameters(), float("inf")))
    assert engine.fit(batches(3)).updates == 3

    def penalised(run: Run) -> Trigger:
        run.loss = run.loss + run.model.weight.pow(2).sum()
        run.loss.backward()
        return Trigger.GRADS_READY

    own = with_lbfgs(actions={State.BACKWARD: penalised})
    by_loss = with_lbfgs(
        actions={State.LOSS: loss_from(lambda run: mse_loss(run.output, run.targets) + run.model.weight.pow(2).sum())}
    )
    assert own.fit(batches(3)).updates == by_loss.fit(batches(3)).updates == 3
    assert same(weights_of(own.model), weights_of(by_loss.model))


@pytest.mark.parametrize("to_none", [False, True])
def test_an_optimizer_with_a_closure_takes_sparse_gradients(to_none: bool) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(10, 2, sparse=True), nn.Flatten(), nn.Linear(4, 1))

    def clear(run: Run) -> Trigger:
        run.optimizer.zero_grad(set_to_none=to_none)
        return Trigger.GRADS_CLEARED

    loader = [(torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 1)), (torch.tensor([[1, 5], [6, 4]]), torch.zeros(2, 1))]
    plain, mine = model(), model()
    closure_loop(plain, optim.LBFGS(plain.parameters(), max_iter=4), loader, epochs=2)
    optimizer = optim.LBFGS(mine.parameters(), max_iter=4)
    small_engine(model=mine, optimizer=optimizer, actions={State.ZERO_GRAD: clear}).fit(loader, epochs=2)
    assert same(weights_of(plain), weights_of(mine))


class LookAhead(optim.Optimizer):
    """Moves the weights before it evaluates the loss."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        parameters = self.param_groups[0]["params"]
        for parameter in parameters:
            parameter.mul_(0.5)
        with torch.enable_grad():
            loss = closure()
        for parameter in parameters:
            parameter.sub_(parameter.grad)
        return loss


def test_an_optimizer_that_moves_before_it_calls_its_closure_is_given_the_loss_of_where_it_is() -> None:
    plain, model = small_model(), small_model()
    closure_loop(plain, LookAhead(plain.parameters()), batches(3), epochs=1)
    small_engine(model=model, optimizer=LookAhead(model.parameters())).fit(batches(3))
    assert same(weights_of(plain), weights_of(model))


def test_a_hook_of_a_parameter_changes_the_gradients_of_every_evaluation() -> None:
    engine = with_lbfgs()
    engine.model.weight.register_hook(lambda gradient: gradient * 0.5)
    engine.fit(batches(2))
    model = small_model()
    model.weight.register_hook(lambda gradient: gradient * 0.5)
    closure_loop(model, optim.LBFGS(model.parameters(), max_iter=4), batches(2), epochs=1)
    assert same(weights_of(model), weights_of(engine.model))


def test_gradients_that_somebody_has_dropped_were_not_kept() -> None:
    """By a callback, or by a backward pass of the user's own that begins anew."""
    engine = with_lbfgs(answers("skip_zero_grad", lambda run: True))
    engine.on("batch_end")(lambda run: run.optimizer.zero_grad())
    assert engine.fit(batches(3)).updates == 3

    def anew(run: Run) -> Trigger:
        run.optimizer.zero_grad()
        run.loss.backward()
        return Trigger.GRADS_READY

    other = with_lbfgs(answers("skip_zero_grad", lambda run: True), actions={State.BACKWARD: anew})
    assert other.fit(batches(3)).updates == 3


@pytest.mark.parametrize("own", [State.STEP, State.AVERAGE])
def test_a_window_left_open_is_refused_by_an_optimizer_with_a_closure_unless_its_flush_is_the_users(own: State) -> None:
    def step(run: Run) -> Trigger:
        run.optimizer.step(lambda: run.loss)
        return Trigger.WEIGHTS_MOVED

    actions = {State.STEP: step} if own is State.STEP else {}
    engine = with_lbfgs(answers("accumulate", lambda run: run.window < 2), actions=actions)
    with refuses(OptimizerRefused, "a batch was accumulated when the loader was left", "replace the actions that step"):
        engine.fit(batches(1))


def test_a_penalty_in_the_loss_action_is_evaluated_anew_as_in_a_plain_closure() -> None:
    def penalised(run: Run) -> Tensor:
        return nn.functional.mse_loss(run.output, run.targets) + 10 * run.model.weight.pow(2).sum()

    engine = with_lbfgs(actions={State.LOSS: loss_from(penalised)})
    engine.fit(batches(3))
    model = small_model()
    optimizer = optim.LBFGS(model.parameters(), max_iter=4)
    for inputs, targets in batches(3):

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets) + 10 * model.weight.pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert same(weights_of(model), weights_of(engine.model))


# --- Containers keep their types --------------------------------------------------------------------------------------


class Record(dict):
    """A batch whose entries can be reached as attributes."""

    def __getattr__(self, name: str) -> object:
        return self[name]


class Edge(NamedTuple):
    """A named tuple with a field that is called as a method of others."""

    source: Tensor
    to: Tensor


def test_a_batch_keeps_the_types_of_its_containers() -> None:
    record = Record(x=torch.ones(2), names=["a", "b"])
    moved = to_device(record, torch.device("meta"))
    assert (type(moved), moved.x.device.type, moved.names) == (Record, "meta", ["a", "b"])
    assert record.x.device.type == "cpu"
    edge = to_device(Edge(torch.ones(1), torch.ones(1)), torch.device("meta"))
    assert (type(edge), edge.to.device.type) == (Edge, "meta")
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 1), torch.ones(2, 1)])
    assert type(to_device(packed, torch.device("cpu"))) is type(packed)


class Sentences(list):
    """A list that is not made as lists are."""

    def __init__(self, *, language: str) -> None:
        super().__init__()
        self.language = language


def test_lists_with_a_making_of_their_own_and_dicts_that_are_none_are_moved_too() -> None:
    sentences = Sentences(language="la")
    sentences.append(torch.ones(2))
    moved = to_device(sentences, torch.device("meta"))
    assert (type(moved), moved.language, moved[0].device.type) == (Sentences, "la", "meta")
    assert sentences[0].device.type == "cpu"
    record = UserDict(x=[torch.ones(2)])
    other = to_device(record, torch.device("meta"))
    assert (type(other), other["x"][0].device.type, record["x"][0].device.type) == (UserDict, "meta", "cpu")


class Two(tuple):
    """A tuple that is made of two things."""

    __slots__ = ()

    def __new__(cls, one: object, other: object) -> Self:
        return super().__new__(cls, (one, other))


def test_a_counter_is_not_counted_again_and_a_tuple_that_cannot_be_made_again_says_so() -> None:
    counted = to_device({"n": Counter(a=3)}, torch.device("meta"))
    assert counted == {"n": Counter(a=3)}
    two = Two(torch.ones(1), "x")
    assert to_device(two, torch.device("cpu")) is two
    with refuses(BatchRefused, "Two", "and one cannot be made of its items", "a method to(device)"):
        to_device(two, torch.device("meta"))


def test_what_a_callback_puts_into_a_batch_is_not_in_the_loaders_own() -> None:
    record = {"x": torch.ones(3, 2)}

    def put(run: Run) -> None:
        run.inputs["x"] = torch.zeros(3, 2)

    engine = small_engine(
        hears("batch_begin", put),
        actions={
            State.FORWARD: output_from(lambda run: run.model(run.inputs["x"])),
            State.LOSS: loss_from(lambda run: run.output.mean()),
        },
    )
    engine.fit([record])
    assert torch.equal(record["x"], torch.ones(3, 2))


def test_predictions_that_do_not_fit_together_come_as_a_list() -> None:
    outputs = Engine(nn.Identity()).predict([torch.ones(2, 3), torch.ones(2, 4)])
    assert [output.shape for output in outputs] == [(2, 3), (2, 4)]


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
