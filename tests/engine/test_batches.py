"""Do batches of any shape come to the device as they are, and are samplers told the epoch?"""

from collections import Counter, OrderedDict, UserDict
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, TensorDataset

from engine import Engine, Run, State, loss_from, output_from
from engine.batches import to_device
from engine.errors import BatchRefused
from tests.engine.tools import (
    batches,
    hears,
    refuses,
    same,
    small_engine,
    small_model,
    weights_of,
)


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


@pytest.mark.parametrize("accelerator", [True, False])
def test_batches_are_looked_at_where_they_could_be_elsewhere(
    accelerator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving from META fails in words of its own: that it is tried shows that the batch was looked at."""
    monkeypatch.setattr("torch.accelerator.is_available", lambda: accelerator)
    there = [(torch.ones(2, 2, device=META), torch.ones(2, 1, device=META))]
    engine = small_engine()
    if accelerator:
        with pytest.raises(NotImplementedError, match="out of meta tensor"):
            engine.evaluate(there)
    else:
        with pytest.raises(RuntimeError, match="meta"):
            engine.evaluate(there)
        assert engine.last_run.inputs.device == META


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
