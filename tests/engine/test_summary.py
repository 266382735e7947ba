"""Does the summary say what an engine is made of, count each number once, and change nothing?"""

from typing import Any

import pytest
import torch
from attrs.exceptions import FrozenInstanceError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine import Callback, Engine
from engine.summary import NAME, WIDTH
from examples.digits import build
from states import Event, Guard
from states.names import name_of
from tests.engine.tools import Recorder, batches, nothing_changes, small_engine


class Tied(nn.Module):
    """A tied weight, a shared module, and parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.embed, self.out = nn.Embedding(10, 4), nn.Linear(4, 10)
        self.out.weight = self.embed.weight
        self.again = self.out

    def forward(self, inputs: Any) -> Any:
        raise AssertionError("nothing is computed")


class Halve(Callback):
    """Writes the rate of each group; takes part in trials; keeps a state."""

    order = 7
    in_trials = True

    def on_epoch_end(self, run: Any) -> None:
        raise AssertionError("nobody is called")

    def skip_step(self, run: Any) -> bool:
        raise AssertionError("nobody is asked")

    def writes(self, param_groups: Any) -> list[tuple[int, str]]:
        return [(number, "lr") for number in range(len(param_groups))]

    def state_dict(self) -> dict[str, Any]:
        return {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_the_totals_are_those_of_torch_and_the_layers_add_up_to_them(parts: list[tuple[int, bool, bool]]) -> None:
    layers: list[nn.Module] = []
    for width, frozen, norm in parts:
        layer = nn.BatchNorm1d(width) if norm else nn.Linear(width, 2, dtype=torch.float64)
        layers += [layer.requires_grad_(not frozen), *layers[:1]]  # the first one again and again
    model = nn.Sequential(*layers)
    summary = Engine(model).summary()

    held, buffers = list(model.parameters()), list(model.buffers())
    assert summary.parameters == nn.utils.parameters_to_vector(held).numel()
    assert summary.trainable == sum(p.numel() for p in held if p.requires_grad)
    assert summary.buffers == sum(b.numel() for b in buffers)
    assert summary.bytes == sum(tensor.nbytes for tensor in (*held, *buffers))
    assert sum(layer.parameters for layer in summary.layers) == summary.parameters
    assert sum(layer.trainable for layer in summary.layers) == summary.trainable


def test_a_shared_parameter_is_counted_once_and_said_to_be_shared() -> None:
    summary = Engine(Tied()).summary()

    found = {layer.name: (layer.kind, layer.parameters, layer.shared) for layer in summary.layers}
    assert found == {"": ("Tied", 3, 0), "embed": ("Embedding", 40, 0), "out": ("Linear", 10, 40)}
    assert summary.parameters == 53
    assert "40 shared with a layer above" in str(summary)
    assert "(the model)" in str(summary)


def test_a_lazy_layer_is_said_to_be_lazy_and_nothing_is_made_of_it() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d(), nn.Linear(4, 1))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    summary = Engine(model, optimizer=sgd).summary()

    assert [layer.lazy for layer in summary.layers] == [True, True, False]
    assert summary.parameters == summary.optimizers[0].groups[0].parameters == 5
    assert str(summary).count("lazy: not known before the first batch") == 2
    assert isinstance(model[0], nn.LazyLinear)
    model(torch.ones(3, 2))
    assert not any(layer.lazy for layer in Engine(model).summary().layers)


def test_optimizers_are_told_with_their_groups_and_settings_as_they_are_now() -> None:
    one, other = nn.Linear(2, 3), nn.Linear(3, 1)
    groups = [{"params": [one.weight], "lr": torch.tensor(0.5)}, {"params": [one.bias], "weight_decay": 0.25}]
    optimizers = {"one": torch.optim.SGD(groups, lr=0.1, momentum=0.9), "other": torch.optim.Adam(other.parameters())}
    engine = Engine({"one": one, "other": other}, optimizer=optimizers)
    summary = engine.summary()
    engine.optimizer.param_groups[1]["lr"] = 7.0

    first, second = summary.optimizers
    assert (first.name, first.kind, second.name, second.kind) == ("one", "SGD", "other", "Adam")
    assert [group.parameters for group in first.groups] == [6, 3]
    assert [group.settings["lr"] for group in first.groups] == [0.5, 0.1]
    assert first.groups[1].settings["weight_decay"] == 0.25
    assert "params" not in first.groups[0].settings
    (line,) = (line for line in str(summary).splitlines() if line.startswith("one, SGD, group 1: 3 parameters; "))
    assert set(line.split("; ")[1].split(", ")) == {"lr 0.1", "momentum 0.9", "dampening 0", "weight_decay 0.25"}
    assert [layer.name for layer in summary.layers] == ["one", "other"]
    assert engine.summary().optimizers[0].groups[1].settings["lr"] == 7.0


def test_callbacks_come_in_order_with_all_that_is_known_of_them() -> None:
    engine = small_engine(Halve(), Recorder(), recorder=None)
    engine.on("batch_end", every=3, order=9)(print)
    engine.on("epoch_end", once=2, order=9)(repr)
    engine.guard("stop_epoch", order=-1000)(bool)
    summary = engine.summary()

    assert [heard.name for heard in summary.callbacks] == ["bool", "Metrics", "Recorder", "Halve", "print", "repr"]
    found = {heard.name: heard for heard in summary.callbacks}
    assert found["Recorder"].events == tuple(map(name_of, Event))
    assert (found["bool"].guards, found["bool"].order) == ((name_of(Guard.STOP_EPOCH),), -1000)
    assert (found["print"].filter, found["repr"].filter) == ("every 3", "once, at 2")
    halve = found["Halve"]
    assert (halve.writes, halve.in_trials, halve.stateful) == (((0, "lr"),), True, True)
    assert str(halve) == (
        "hears epoch_end; answers skip_step; writes lr of group 0; takes part in trials; keeps a state"
    )
    assert "print         9  hears batch_end (every 3)" in str(summary)


def test_switches_device_machine_and_types_are_told() -> None:
    summary = small_engine(checked=True, compile=True).summary()

    assert (summary.switches, summary.machine, summary.device.type) == (("checked", "compile"), "training", "cpu")
    assert summary.dtypes == ("float32",)
    assert str(summary).splitlines()[:2] == [
        "Linear: 3 parameters, all trainable; 0 numbers in buffers; 12 bytes, float32",
        "training on cpu; checked, compile",
    ]


def test_nothing_changes_and_nobody_is_called() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1))
    engine = small_engine(Halve(), model=model)
    model(torch.ones(3, 2)).sum().backward()
    with nothing_changes(model, engine.optimizer):
        first = engine.summary()
        assert str(first) == str(engine.summary())
    with pytest.raises(FrozenInstanceError):
        first.parameters = 0  # that is what is refused
    with pytest.raises(TypeError):
        first.optimizers[0].groups[0].settings["lr"] = 1  # so is this


def test_an_engine_that_only_predicts_has_no_optimizer_and_a_model_may_have_no_parameter() -> None:
    summary = Engine(nn.Identity()).summary()

    assert (summary.optimizers, summary.parameters, summary.dtypes) == ((), 0, ())
    assert "Identity: 0 parameters" in str(summary)
    assert "\n\n\n" not in str(summary)


def test_it_is_no_wider_than_a_page_whatever_layers_and_callbacks_there_are() -> None:
    deep: nn.Module = nn.Linear(2, 1)
    for _ in range(8):
        deep = nn.ModuleDict({"a_rather_long_name": deep})
    engine = small_engine(Recorder(), model=nn.Sequential(deep, nn.MultiheadAttention(4, 2)), optimizer=None)
    for text in (str(engine.summary()), str(build().summary())):
        assert max(map(len, text.splitlines())) <= WIDTH
    assert f"...{('.a_rather_long_name' * 8)[3 - NAME :]}" in str(engine.summary())


def test_it_can_be_asked_for_while_a_run_goes_on() -> None:
    engine = small_engine()
    seen: list[int] = []
    engine.on("batch_end")(lambda run: seen.append(engine.summary().parameters))
    engine.fit(batches(2))

    assert seen == [3, 3]
