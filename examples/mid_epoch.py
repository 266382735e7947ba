"""A validation in the middle of an epoch, every n batches: a second state that holds EVALUATION."""

from enum import Enum

import torch
from torch import nn

from engine import Callback, Engine, Run, State
from states import EVALUATION, TRAINING


class Peek(Enum):
    """The words of this machine that others do not have."""

    PEEK = "peek"  # a state, which holds a machine
    SKIP_PEEK = "skip_peek"  # a guard


MACHINE = TRAINING.insert(Peek.PEEK, before=State.FETCH, holds=EVALUATION, skip=Peek.SKIP_PEEK)


class EveryThird(Callback):
    """Peeks before every third batch, but not before the first of an epoch; keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def skip_peek(self, run: Run) -> bool:
        """Whether this batch comes without a look at the validation loader."""
        return run.batch_index == 0 or run.batch_index % 3 != 0

    def on_validate_end(self, run: Run) -> None:
        """Heard in each validation; its own run has the training's as its parent."""
        if run.parent is not None and run.parent.state is Peek.PEEK:
            self.seen.append((run.parent.batches_done, run.metrics["valid_loss"]))


def data(number: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Some batches."""
    chance = torch.Generator().manual_seed(seed)
    return [(x, x.sum(1, keepdim=True)) for x in torch.randn(number, 16, 4, generator=chance)]


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))  # which is off while it validates
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = Engine(model, nn.MSELoss(), optimizer, [EveryThird()], machine=MACHINE)
    return engine, {"train_loader": data(8, 1), "valid_loader": data(2, 2), "epochs": 2}


def main() -> Engine:
    """Train, and show what was seen on the way."""
    engine, given = factory()
    engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    (every_third,) = [callback for callback in engine.callbacks if isinstance(callback, EveryThird)]
    for batches, loss in every_third.seen:
        print(f"after {batches} batches: validation loss {loss:.4f}")
    return engine


if __name__ == "__main__":
    main()
