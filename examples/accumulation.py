"""Four batches for each step: `accumulate` keeps the window open, and the last one of an epoch is flushed."""

import torch
from torch import nn

from engine import Engine, Run


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Six batches: a window of four, and two that are left over."""
    chance = torch.Generator().manual_seed(1)
    return [(x, x.sum(1, keepdim=True)) for x in torch.randn(6, 16, 4, generator=chance)]


def factory() -> tuple[Engine, dict[str, object]]:
    """The engine with what it trains on."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))

    @engine.guard("accumulate")
    def four_at_a_time(run: Run) -> bool:
        return run.window < 4  # noqa: PLR2004  # batches whose gradients wait for a step

    return engine, {"train_loader": data(), "epochs": 2}


def main() -> Engine:
    """Walk it without computing, then train."""
    engine, given = factory()
    steps = [line for line in engine.dry_run(batches=6).lines if line.word.name == "STEP_BEGIN"]
    print(f"without an answer to the guard, {len(steps)} steps in an epoch")
    run = engine.fit(**given)  # type: ignore[arg-type]  # what the factory gives is what fit takes
    print(f"{run.batches_done} batches, {run.updates} steps; {run.skips[0]}")
    return engine


if __name__ == "__main__":
    main()
