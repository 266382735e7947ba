"""What is an animal of the zoo?  Callbacks with one real trap in them, what must be said of it, and a mended twin.

The docstring of the class that is to blame says who fell into the trap, and what it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import nn, optim

from engine import Callback, Engine
from engine.testing.runs.cases import Case
from states.walk import Plan


# What a person would show a trap with: no epoch at all, one batch, one batch and a validation.
NONE, ONE, VALID = Plan(epochs=0, batches=1), Plan(epochs=1, batches=1), Plan(epochs=1, batches=1, valid_batches=1)

Kinds = Sequence[type[Callback]]
Factory = Callable[[], tuple[Engine, dict[str, Any]]]


class Insider(Callback):
    """A callback that is given the engine, too."""

    engine: Engine


@frozen
class Animal:
    """Callbacks that are broken, and what the kit must say.

    Attributes:
        broken: Their classes, in the order of registration; the last is to blame.
        mended: The same without the trap: nothing may be found.
        invariant: Which invariant finds it.
        case: The simplest case that shows it.
        says: What is said of it, in part.
    """

    broken: Kinds
    mended: Kinds
    invariant: str
    case: Case
    says: str

    def __str__(self) -> str:
        return self.broken[-1].__name__


@frozen
class Pair:
    """Two callbacks of which it matters who comes first, and by which field that shows.

    Attributes:
        broken: Their classes.
        mended: The same, with their order declared.
        field: The first field that differs.
    """

    broken: tuple[type[Callback], type[Callback]]
    mended: tuple[type[Callback], type[Callback]]
    field: str

    def __str__(self) -> str:
        return "-".join(kind.__name__ for kind in self.broken)


def housed(*kinds: type[Callback]) -> Factory:
    """A factory of a tiny training with these callbacks, and of a validation."""

    def cage() -> tuple[Engine, dict[str, Any]]:
        model = nn.Linear(1, 1)
        callbacks = [kind() for kind in kinds]
        engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), callbacks)
        for insider in callbacks:
            if isinstance(insider, Insider):
                insider.engine = engine
        batch = (torch.ones(2, 1), torch.zeros(2, 1))
        return engine, {"train_loader": [batch], "valid_loader": [batch]}

    return cage
