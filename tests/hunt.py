"""Does the kit raise a false alarm?  `python -m tests.hunt [RUNS]`: random runs of callbacks in which nothing is wrong.

They are two as a user would write them, those of the examples with their machines, and each that comes with the engine,
by itself and in random stacks; `--save` keeps the result for the page.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from random import Random, randrange
from tempfile import TemporaryDirectory
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
from tests.callbacks.every import EVERY, Make, engine_of, go_together, pictures


JSON = ROOT / "docs" / "hunt.json"
RUNS = 10_000
# How many random stacks of two to six of the callbacks that come with the engine.
STACKS = 40
# Of these it matters which comes first, and the kit would say so: no two of them are in one stack.
RIVALS = (
    {"ClipGradients by norm", "ClipGradients by value"},
    {"Accumulate batches", "Accumulate samples"},
    {"MixUp", "CutMix"},
)


@frozen
class Hunt:
    """What was hunted: how many random runs of which engines, with what seed, and what was found."""

    runs: int
    seed: int
    # The names of the subjects; the callbacks that were looked at alone; how many stacks of them.
    subjects: tuple[str, ...]
    alone: tuple[str, ...]
    stacks: int
    findings: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        found = f"{len(self.findings)} findings" if self.findings else "not one finding"
        return (
            f"{self.runs:,} random runs of {len(self.subjects)} engines ({', '.join(self.subjects)}), of one for each"
            f" of {len(self.alone)} callbacks, and of {self.stacks} random stacks of these: {found}"
        )


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


def stack_of(makes: Sequence[Make], folder: Path) -> Callable[[], tuple[Engine, dict[str, Any]]]:
    """A factory of an engine with callbacks that come with it; each engine has a folder of its own."""
    numbers = count()

    def factory() -> tuple[Engine, dict[str, Any]]:
        made = engine_of(makes, folder / str(next(numbers)))
        return made, {"train_loader": pictures(3), "valid_loader": pictures(2, seed=2)}

    return factory


def random_stacks(number: int, seed: int) -> list[list[str]]:
    """The names of so many random stacks, none with two rivals, or two that write one hyperparameter."""
    chance, found = Random(seed), list[list[str]]()  # noqa: S311  # no secret
    while len(found) < number:
        stack = chance.sample(list(EVERY), chance.randint(2, 6))
        rivals = any(len(some.intersection(stack)) > 1 for some in RIVALS)
        found += [stack] if not rivals and go_together([EVERY[name] for name in stack]) else []
    return found


def stacked(seed: int, folder: Path) -> dict[str, Callable[[], Any]]:
    """A factory for each callback that comes with the engine, alone, and for each random stack of them; by name."""
    stacks = [[name] for name in EVERY] + random_stacks(STACKS, seed)
    return {
        ", ".join(names): stack_of([EVERY[name] for name in names], folder / str(number))
        for number, names in enumerate(stacks)
    }


def hunt(factories: Mapping[str, Callable[[], Any]], runs: int, seed: int) -> Iterator[str]:
    """Hunt with so many random runs in all, and tell what is found."""
    for number, (name, factory) in enumerate(factories.items()):
        standard = standard_of(Subject(factory), (), None)
        each = runs // len(factories) + (number < runs % len(factories))
        names = [invariant for invariant in INVARIANTS if invariant != "claims"]
        seen = look_at(standard, names, runs=each, seed=seed)
        findings = [*seen.findings, *try_orders(factory).conflicts]
        print(f"{name}: {seen.simple} simple cases, {each} random runs, {len(findings)} findings")
        print(*findings, sep="\n\n", flush=True)
        yield from (f"{name}: {finding}" for finding in findings)


def read(path: Path = JSON) -> Hunt:
    """What was kept."""
    return Hunt(**json.loads(path.read_text()))


def main(arguments: list[str]) -> int:
    """Hunt; 1 if something was found."""
    torch.set_num_threads(1)
    numbers = [int(argument) for argument in arguments if argument.isdecimal()]
    runs, seed, begun = numbers[0] if numbers else RUNS, randrange(2**32), process_time()  # noqa: S311  # no secret
    with TemporaryDirectory() as folder:
        findings = tuple(hunt({**SUBJECTS, **stacked(seed, Path(folder))}, runs, seed))
    result = Hunt(runs, seed, tuple(SUBJECTS), tuple(EVERY), STACKS, findings, process_time() - begun)
    print(result, f"seed {result.seed}", sep="\n")
    if "--save" in arguments:
        JSON.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return bool(result.findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
