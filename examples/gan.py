"""A generative adversarial network: two models and two optimizers by name, alternating in each batch."""

from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from engine import Action, Engine, Run, State, Trigger, loss_from, output_from
from states import TRAINING


class Gan(Enum):
    """The generator's half of a batch: four states with their triggers."""

    GENERATE = "generate"
    GENERATED = "generated"
    FOOL = "fool"
    FOOLED = "fooled"
    LEARN = "learn"
    LEARNT = "learnt"
    IMPROVE = "improve"
    IMPROVED = "improved"


# The discriminator's half is the usual way, up to `zero_grad`; the generator's comes behind it.
MACHINE = (
    TRAINING.insert(Gan.GENERATE, Gan.GENERATED, after=State.ZERO_GRAD)
    .insert(Gan.FOOL, Gan.FOOLED, after=Gan.GENERATE)
    .insert(Gan.LEARN, Gan.LEARNT, after=Gan.FOOL)
    .insert(Gan.IMPROVE, Gan.IMPROVED, after=Gan.LEARN, name="adversarial")
)


def judge(run: Run) -> tuple[Tensor, Tensor]:
    """What the discriminator says of real samples, and of generated ones."""
    made = run.model["generator"](torch.randn(len(run.inputs), 2)).detach()
    return run.model["discriminator"](run.inputs), run.model["discriminator"](made)


def judged(run: Run) -> Tensor:
    """How far from the truth that is."""
    real, made = run.output
    right = binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return right + binary_cross_entropy_with_logits(made, torch.zeros_like(made))


def step(run: Run) -> Enum:
    """The discriminator alone."""
    run.optimizer["discriminator"].step()
    return Trigger.WEIGHTS_MOVED


def generate(run: Run) -> Enum:
    """What the discriminator says of other generated samples."""
    run.output = run.model["discriminator"](run.model["generator"](torch.randn(len(run.inputs), 2)))
    return Gan.GENERATED


def fool(run: Run) -> Enum:
    """How far that is from fooling it."""
    run.loss = binary_cross_entropy_with_logits(run.output, torch.ones_like(run.output))
    return Gan.FOOLED


def learn(run: Run) -> Enum:
    """The generator's gradients, through the discriminator."""
    run.loss.backward()
    return Gan.LEARNT


def improve(run: Run) -> Enum:
    """The generator alone; what was left in the discriminator is dropped, too."""
    run.optimizer["generator"].step()
    run.model.zero_grad()
    return Gan.IMPROVED


def data() -> list[Tensor]:
    """Six batches of points around (2, -1)."""
    chance = torch.Generator().manual_seed(1)
    return list(torch.randn(6, 16, 2, generator=chance) * 0.1 + torch.tensor([2.0, -1.0]))


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on."""
    torch.manual_seed(0)
    models = {
        "generator": nn.Linear(2, 2),
        "discriminator": nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)),
    }
    optimizers = {name: torch.optim.Adam(model.parameters(), lr=0.02) for name, model in models.items()}
    actions = {
        State.FORWARD: output_from(judge),
        State.LOSS: loss_from(judged),
        State.STEP: Action(step, reports=(Trigger.WEIGHTS_MOVED,)),
        Gan.GENERATE: Action(generate, reports=(Gan.GENERATED,)),
        Gan.FOOL: Action(fool, reports=(Gan.FOOLED,)),
        Gan.LEARN: Action(learn, reports=(Gan.LEARNT,)),
        Gan.IMPROVE: Action(improve, reports=(Gan.IMPROVED,)),
    }
    engine = Engine(models, optimizer=optimizers, machine=MACHINE, actions=actions)
    return engine, {"train_loader": data(), "epochs": 40}


def main() -> Engine:
    """Train, and say where the generated points are."""
    engine, given = factory()
    engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    with torch.no_grad():
        x, y = engine.model["generator"](torch.randn(1000, 2)).mean(0).tolist()
    print(f"the generated points are around ({x:.1f}, {y:.1f}); the real ones around (2, -1)")
    return engine


if __name__ == "__main__":
    main()
