"""Sharpness-aware minimization: climb to where the loss is worst nearby, take the gradients there, come back, step.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-Aware Minimization", ICLR 2021, arXiv:2010.01412, with its rho.
"""

from enum import Enum

import torch
from torch import Tensor, nn

from engine import Action, Engine, Run, State
from states import TRAINING


RHO = 0.05


class Sam(Enum):
    """The words of this machine that others do not have: five states with their triggers."""

    CLIMB = "climb"
    CLIMBED = "climbed"
    FORWARD_THERE = "forward_there"
    OUTPUT_THERE = "output_there"
    LOSS_THERE = "loss_there"
    LOSS_THERE_READY = "loss_there_ready"
    BACKWARD_THERE = "backward_there"
    GRADS_THERE = "grads_there"
    DESCEND = "descend"
    DESCENDED = "descended"


# Each comes before the step, so they come in this order.
MACHINE = (
    TRAINING.insert(Sam.CLIMB, Sam.CLIMBED, before=State.STEP)
    .insert(Sam.FORWARD_THERE, Sam.OUTPUT_THERE, before=State.STEP)
    .insert(Sam.LOSS_THERE, Sam.LOSS_THERE_READY, before=State.STEP)
    .insert(Sam.BACKWARD_THERE, Sam.GRADS_THERE, before=State.STEP)
    .insert(Sam.DESCEND, Sam.DESCENDED, before=State.STEP, name="sharpness-aware")
)


class Sharpness:
    """The actions of the five states, and the weights to come back to."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def climb(self, run: Run) -> Enum:
        """Go uphill by rho; the gradients that led there are dropped."""
        parameters = list(run.model.parameters())
        self.weights = [parameter.detach().clone() for parameter in parameters]
        scale = RHO / nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(parameter.grad * scale)  # type: ignore[operator]  # it was just computed
                parameter.grad = None
        return Sam.CLIMBED

    def forward_there(self, run: Run) -> Enum:
        """The output of the weights up there."""
        run.output = run.model(run.inputs)
        return Sam.OUTPUT_THERE

    def loss_there(self, run: Run) -> Enum:
        """Their loss."""
        run.loss = run.loss_fn(run.output, run.targets)
        return Sam.LOSS_THERE_READY

    def backward_there(self, run: Run) -> Enum:
        """The gradients that the step is to take."""
        run.loss.backward()
        return Sam.GRADS_THERE

    def descend(self, run: Run) -> Enum:
        """Back to the weights from which the step is taken."""
        with torch.no_grad():
            for parameter, weight in zip(run.model.parameters(), self.weights, strict=True):
                parameter.copy_(weight)
        return Sam.DESCENDED


def data() -> list[tuple[Tensor, Tensor]]:
    """Six batches."""
    chance = torch.Generator().manual_seed(1)
    return [(x, x.sum(1, keepdim=True)) for x in torch.randn(6, 16, 4, generator=chance)]


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on."""
    torch.manual_seed(0)
    model, sharpness = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), Sharpness()
    actions = {
        Sam.CLIMB: Action(sharpness.climb, reports=(Sam.CLIMBED,)),
        Sam.FORWARD_THERE: Action(sharpness.forward_there, reports=(Sam.OUTPUT_THERE,)),
        Sam.LOSS_THERE: Action(sharpness.loss_there, reports=(Sam.LOSS_THERE_READY,)),
        Sam.BACKWARD_THERE: Action(sharpness.backward_there, reports=(Sam.GRADS_THERE,)),
        Sam.DESCEND: Action(sharpness.descend, reports=(Sam.DESCENDED,)),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Engine(model, nn.MSELoss(), optimizer, machine=MACHINE, actions=actions), {
        "train_loader": data(),
        "epochs": 3,
    }


def main() -> Engine:
    """Train."""
    engine, given = factory()
    run = engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    losses = [f"{record['train_loss']:.4f}" for record in run.history]
    print(f"loss by epoch: {', '.join(losses)}")
    return engine


if __name__ == "__main__":
    main()
