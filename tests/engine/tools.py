"""What do the tests of the engine share?  A tiny training, someone who writes down what is heard, and refusals."""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from enum import Enum
from typing import Any

import pytest
import torch
from attrs import evolve, frozen
from torch import Tensor, nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Callback, Engine, Outcome, Refused, Run
from states import TRAINING, Event, Machine, Trigger
from states.names import name_of


Batch = tuple[Tensor, Tensor]


def small_model() -> nn.Linear:
    """Three weights, always the same."""
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5, -0.25]]))
        model.bias.fill_(0.1)
    return model


def batches(number: int, size: int = 3, seed: int = 1) -> list[Batch]:
    """Random batches of inputs (size, 2) and targets (size, 1); torch's own generator is left alone."""
    chance = torch.Generator().manual_seed(seed)
    return [(torch.rand(size, 2, generator=chance), torch.rand(size, 1, generator=chance)) for _ in range(number)]


def small_engine(*callbacks: object, model: nn.Module | None = None, **more: Any) -> Engine:
    """An engine that trains the small model (or another) by SGD with momentum."""
    model = small_model() if model is None else model
    more.setdefault("loss_fn", nn.MSELoss())
    more.setdefault("optimizer", optim.SGD(model.parameters(), lr=0.1, momentum=0.5))
    return Engine(model, callbacks=list(callbacks), **more)


@frozen
class Note:
    """One event as it was heard."""

    event: str
    state: str
    epoch: int
    batch_index: int
    updates: int


class Recorder(Callback):
    """Hears every event and writes it down, with what the run says at that moment."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    @property
    def events(self) -> list[str]:
        return [note.event for note in self.notes]


def _write_down(event: Event) -> Callable[[Recorder, Run], None]:
    name = name_of(event)

    def on_event(self: Recorder, run: Run) -> None:
        self.notes.append(Note(name, name_of(run.state), run.epoch, run.batch_index, run.updates))

    return on_event


for _event in Event:
    setattr(Recorder, f"on_{name_of(_event)}", _write_down(_event))


def hears(event: str, do: Callable[[Run], object], **more: object) -> Callback:
    """A callback that does one thing when it hears one event."""
    return type("Hears", (Callback,), {f"on_{event}": lambda self, run: do(run), **more})()


def answers(guard: str, say: Callable[[Run], object], **more: object) -> Callback:
    """A callback that answers one guard."""
    return type("Answers", (Callback,), {guard: lambda self, run: say(run), **more})()


def weights_of(model: nn.Module) -> list[Tensor]:
    """Copies of all parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: Iterable[Tensor], other: Iterable[Tensor]) -> bool:
    """Whether tensors are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@contextmanager
def nothing_changes(model: nn.Module, optimizer: optim.Optimizer | None) -> Iterator[None]:
    """Fail if weights, gradients, buffers, modes, the optimizer's state or a random generator differ afterwards."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    grads = [parameter.grad if parameter.grad is None else parameter.grad.clone() for parameter in model.parameters()]
    kept = deepcopy(optimizer.state_dict()) if optimizer is not None else None
    dice = torch.get_rng_state(), random.getstate()
    yield
    assert list(model.state_dict()) == list(tensors)
    assert same(model.state_dict().values(), tensors.values())
    assert [module.training for module in model.modules()] == modes
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or torch.equal(parameter.grad, grad)
    if optimizer is not None:
        now = optimizer.state_dict()
        assert now["param_groups"] == kept["param_groups"]
        assert _flat(now["state"]) == _flat(kept["state"])
    assert torch.equal(torch.get_rng_state(), dice[0])
    assert random.getstate() == dice[1]


def _flat(state: dict[int, dict[str, Any]]) -> dict[tuple[int, str], object]:
    return {
        (index, key): value.tolist() if isinstance(value, Tensor) else value
        for index, entries in state.items()
        for key, value in entries.items()
    }


@contextmanager
def refuses(kind: type[Refused], *phrases: str) -> Iterator[pytest.ExceptionInfo[Refused]]:
    """Fail unless exactly this kind is raised, with a message in three parts that has all these phrases."""
    with pytest.raises(kind) as raised:
        yield raised
    error, text = raised.value, str(raised.value)
    assert type(error) is kind
    assert text == f"{error.what}\n  allowed:  {error.allowed}\n  instead:  {error.instead}"
    assert error.what
    assert error.allowed
    assert error.instead
    for phrase in phrases:
        assert phrase in text


def still_works(engine: Engine) -> None:
    """Train and evaluate in earnest: the engine is as good as new."""
    before = weights_of(engine.model)
    run = engine.fit(batches(2), batches(1), epochs=2)
    assert run.outcome is Outcome.COMPLETED
    assert (run.epoch, run.updates, len(run.history)) == (2, 4, 2)
    assert not same(before, weights_of(engine.model))
    assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED


class Count(TorchDispatchMode):
    """Counts torch's operations by name, as `aten::add`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        name = func.name().partition(".")[0]
        self.seen[name] = self.seen.get(name, 0) + 1
        return func(*args, **(kwargs or {}))

    @property
    def host_reads(self) -> int:
        """How often the host waited for a number."""
        return self.seen.get("aten::_local_scalar_dense", 0) + self.seen.get("aten::item", 0)

    @property
    def total(self) -> int:
        """All operations."""
        return sum(self.seen.values())


def changed(**parts: Any) -> Machine:
    """TRAINING with other parts."""
    return evolve(TRAINING, **{"name": "changed", **parts})


def own_fetch(run: Run) -> Enum:
    """Draws by itself, and knows nothing of max_updates."""
    run.iterator = iter(run.loader) if run.iterator is None else run.iterator
    batch = next(run.iterator, None)
    if batch is None:
        return Trigger.LOADER_DRY
    run.inputs, run.targets = batch
    return Trigger.BATCH_READY
