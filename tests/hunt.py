"""Does the kit raise a false alarm?  `python -m tests.hunt [RUNS]`: random runs of callbacks in which nothing is wrong.

They are those that come with the engine, two as a user would write them, and those of the examples with their machines;
`--save` keeps the result for the page.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import randrange
from time import process_time
from typing import Any

import torch
from attrs import asdict, frozen
from torch import nn

from engine import Callback, Engine, Run
from engine.callbacks import Progress
from engine.testing.check import look_at
from engine.testing.pairs.commute import try_orders
from engine.testing.runs.judges import INVARIANTS
from engine.testing.runs.standard import standard_of
from engine.testing.runs.subject import Subject
from examples import accumulation, clipping, digits, distillation, gan, mid_epoch, sam, tbptt
from tests.bench.results import ROOT


JSON = ROOT / "docs" / "hunt.json"
RUNS = 10_000


@frozen
class Hunt:
    """What was hunted: how many random runs of which subjects, with what seed, and what was found."""

    runs: int
    seed: int
    subjects: tuple[str, ...]
    findings: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        found = f"{len(self.findings)} findings" if self.findings else "not one finding"
        return f"{self.runs:,} random runs of {len(self.subjects)} engines ({', '.join(self.subjects)}): {found}"


def accuracy(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """A metric."""
    return (output.round() == targets).float().mean()


class Norm(Callback):
    """Hears, in one place with others."""

    def on_step_begin(self, run: Run) -> None:
        self.norm = nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)


class EveryOther(Callback):
    """Answers."""

    def accumulate(self, run: Run) -> bool:
        return run.batch_index % 2 == 0


def small(*makers: Callable[[], object], **parts: Any) -> Callable[[], tuple[Engine, dict[str, Any]]]:
    """A factory of an engine with dropout and batch norm."""

    def factory() -> tuple[Engine, dict[str, Any]]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        batches = [(torch.rand(4, 3), torch.rand(4, 1)) for _ in range(3)]
        engine = Engine(model, nn.MSELoss(), optimizer, [make() for make in makers], **parts)
        return engine, {"train_loader": batches, "valid_loader": batches[:2]}

    return factory


SUBJECTS: Mapping[str, Callable[[], Any]] = {
    "no callback": small(),
    "Progress and metrics": small(Progress, metrics={"accuracy": accuracy}),
    "no metrics": small(Progress, metrics=None),
    "clipping and accumulation": small(Norm, EveryOther, Progress),
    "examples/accumulation": accumulation.factory,
    "examples/clipping": clipping.factory,
    "examples/digits": digits.factory,
    "examples/distillation": distillation.factory,
    "examples/gan": gan.factory,
    "examples/mid_epoch": mid_epoch.factory,
    "examples/sam": sam.factory,
    "examples/tbptt": tbptt.factory,
}


def hunt(runs: int, seed: int) -> Hunt:
    """Hunt with so many random runs in all."""
    begun, found = process_time(), []
    for number, (name, factory) in enumerate(SUBJECTS.items()):
        standard = standard_of(Subject(factory), (), None)
        each = runs // len(SUBJECTS) + (number < runs % len(SUBJECTS))
        names = [invariant for invariant in INVARIANTS if invariant != "claims"]
        seen = look_at(standard, names, runs=each, seed=seed)
        found += [f"{name}: {finding}" for finding in seen.findings]
        found += [f"{name}: {conflict}" for conflict in try_orders(factory).conflicts]
        print(f"{name}: {seen.simple} simple cases, {each} random runs, {len(seen.findings)} findings")
        print(*seen.findings, sep="\n\n", flush=True)
    return Hunt(runs, seed, tuple(SUBJECTS), tuple(found), process_time() - begun)


def read(path: Path = JSON) -> Hunt:
    """What was kept."""
    return Hunt(**json.loads(path.read_text()))


def main(arguments: list[str]) -> int:
    """Hunt; 1 if something was found."""
    torch.set_num_threads(1)
    numbers = [int(argument) for argument in arguments if argument.isdecimal()]
    result = hunt(numbers[0] if numbers else RUNS, randrange(2**32))  # noqa: S311  # no secret
    print(result, f"seed {result.seed}", sep="\n")
    if "--save" in arguments:
        JSON.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return bool(result.findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
