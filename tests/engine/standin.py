"""What stands in for torch.cuda in the tests?  Streams that write down what is asked of them, graphs that run again."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import torch
from attrs import define, field
from torch import Tensor, nn, optim
from torch.utils._pytree import tree_leaves

from engine import Engine
from engine.faster.cuda import Cuda
from states import Event, Guard
from tests.engine.tools import small_model


# What may not be heard or asked inside of a captured step.
NO_EVENT = (
    Event.FORWARD_END,
    Event.LOSS_BEGIN,
    Event.LOSS_END,
    Event.BACKWARD_BEGIN,
    Event.BACKWARD_END,
    Event.STEP_BEGIN,
    Event.STEP_END,
)
NO_GUARD = (Guard.SKIP_BACKWARD, Guard.ACCUMULATE, Guard.SKIP_STEP, Guard.SKIP_ZERO_GRAD)


@define(eq=False)
class Standin(Cuda):
    """A `Cuda` on the CPU.

    As on a GPU, to record computes nothing: weights, buffers, the optimizer's state and the random numbers are as they
    were.  A replay runs what was recorded again and writes what that makes into the tensors of the recording.
    """

    device_type = "cpu"

    model: nn.Module
    optimizer: optim.Optimizer
    # What was asked for, in order.
    log: list[str] = field(factory=list)

    def stream(self, device: torch.device, asked: str) -> str:
        return "side"

    def beside(self, stream: Any, do: Callable[[], Any]) -> Any:
        assert stream == "side"
        self.log.append("beside")
        return do()

    def join(self, stream: Any) -> None:
        self.log.append("join")

    def recorded(self, stream: Any, do: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        assert stream == "side"
        self.log.append("record")
        before, chance = list(map(torch.clone, self._tensors())), (torch.get_rng_state(), random.getstate())
        made = do()
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), before, strict=True):
                tensor.copy_(value)
        torch.set_rng_state(chance[0])
        random.setstate(chance[1])

        def replay() -> None:
            self.log.append("replay")
            for static, value in zip(tree_leaves(made), tree_leaves(do()), strict=True):
                static.copy_(value)

        return made, replay

    def _tensors(self) -> Iterable[Tensor]:
        """All that a step writes."""
        yield from self.model.state_dict().values()
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


def sgd(model: nn.Module, **more: Any) -> optim.SGD:
    """An optimizer whose step could be captured."""
    return optim.SGD(model.parameters(), **{"lr": torch.tensor(0.1), "momentum": 0.5, "fused": True, **more})


def engine_of(*callbacks: object, capture: bool = True, model: nn.Module | None = None, **more: Any) -> Engine:
    """An engine that captures on the CPU, or its twin that does not."""
    model = small_model() if model is None else model
    optimizer = more.pop("optimizer", None) or sgd(model)
    engine = Engine(model, nn.MSELoss(), optimizer, list(callbacks), capture=capture, **more)
    engine._cuda = Standin(model, optimizer)
    return engine


def noisy_model() -> nn.Module:
    """Buffers that move and dropout, which draws: what a recording did too often would show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
