"""Who is tested here?  The smallest training that is one, with the callbacks of a test."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from engine import Engine
from tests.engine.recording import batches


Factory = Callable[[], tuple[Engine, dict[str, Any]]]


def subject(*makers: Callable[[], object], valid: bool = True, **parts: Any) -> Factory:
    """A factory of an engine with two weights, and callbacks made anew for each."""

    def factory() -> tuple[Engine, dict[str, Any]]:
        torch.manual_seed(3)
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        engine = Engine(model, nn.MSELoss(), optimizer, [make() for make in makers], **parts)
        return engine, {"train_loader": batches(3), "valid_loader": batches(2) if valid else None}

    return factory
