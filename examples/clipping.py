"""Clipping as a state of its own, between the mean of the gradients and the step, with a guard that skips it."""

from enum import Enum

import torch
from torch import nn

from engine import Action, Callback, Engine, Run, State
from states import TRAINING


class Clip(Enum):
    """The words of this machine that others do not have."""

    CLIP = "clip"  # a state
    CLIPPED = "clipped"  # its trigger
    CLIP_BEGIN = "clip_begin"  # two events
    CLIP_END = "clip_end"
    SKIP_CLIP = "skip_clip"  # a guard


MACHINE = TRAINING.insert(
    Clip.CLIP, Clip.CLIPPED, before=State.STEP, events=(Clip.CLIP_BEGIN, Clip.CLIP_END), skip=Clip.SKIP_CLIP
)


def clip(run: Run) -> Enum:
    """The action of the new state."""
    nn.utils.clip_grad_norm_(run.model.parameters(), 0.5)
    return Clip.CLIPPED


class LateClipping(Callback):
    """Clips from the third step on, and counts."""

    def __init__(self) -> None:
        self.clipped = 0

    def skip_clip(self, run: Run) -> bool:
        """Not in the first two steps."""
        return run.updates < 2  # noqa: PLR2004  # two of them

    def on_clip_end(self, run: Run) -> None:  # noqa: ARG002  # it is called with the run
        """An event of the new state, heard like any other."""
        self.clipped += 1


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Eight batches."""
    chance = torch.Generator().manual_seed(1)
    return [(x, x.sum(1, keepdim=True)) for x in torch.randn(8, 16, 4, generator=chance)]


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on: `stateloop diagram examples.clipping:factory`."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    actions = {Clip.CLIP: Action(clip, reports=(Clip.CLIPPED,))}
    engine = Engine(model, nn.MSELoss(), optimizer, [LateClipping()], machine=MACHINE, actions=actions)
    return engine, {"train_loader": data(), "epochs": 2}


def main() -> Engine:
    """Train, and say what was skipped."""
    engine, given = factory()
    run = engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    print(f"{run.updates} steps; {run.skips[0]}")
    print(f"loss {run.metrics['train_loss']:.4f}")
    return engine


if __name__ == "__main__":
    main()
