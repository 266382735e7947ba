"""What does each callback cost?  CPU microseconds a batch, beyond a `fit` without it; kept in docs/callbacks.json."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from attrs import asdict, frozen
from torch import Tensor, nn

from engine import Engine
from engine.callbacks import LRFinder, Progress, ShortEpochs
from tests.bench.results import ROOT
from tests.bench.timing import Pair, Seconds, beyond, interleave, ratios, seconds
from tests.callbacks.every import EVERY, Make


JSON = ROOT / "docs" / "callbacks.json"
BATCHES, EPOCHS = 500, 2
# Those that end a run or an epoch early, made so that they do not.
LASTING: Mapping[str, Make] = {
    "ShortEpochs": lambda *_: ShortEpochs(BATCHES),
    "LRFinder": lambda *_: LRFinder(start_lr=1e-9, end_lr=1e-3, num_it=BATCHES * EPOCHS, stop_at=None),
}


@frozen
class Cost:
    """What one row costs: microseconds for each batch beyond its baseline, and how many times that it takes."""

    name: str
    beyond: float
    low: float
    high: float
    times: float


@frozen
class Costs:
    """The default stack against the plain loop; each callback against a `fit` with nobody but the default."""

    plain: float  # microseconds of a batch in the plain loop
    stack: Sequence[Cost]
    callbacks: Sequence[Cost]


def batches() -> list[tuple[Tensor, Tensor]]:
    """Batches of 32 pictures of 4 x 4 in two classes: what an MLP of 16 inputs, 32 units and 2 outputs learns."""
    torch.manual_seed(1)
    return [(torch.randn(32, 1, 4, 4), torch.randint(2, (32,))) for _ in range(BATCHES)]


def parts() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    """A tiny network: nowhere else does a callback weigh as much."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2))
    return model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.01)


def plain(data: Sequence[tuple[Tensor, Tensor]]) -> Seconds:
    """The loop written by hand."""

    def train() -> None:
        model, loss_fn, optimizer = made
        model.train()
        for _ in range(EPOCHS):
            for inputs, targets in data:
                loss_fn(model(inputs), targets).backward()
                optimizer.step()
                optimizer.zero_grad()

    made = parts()
    return lambda: seconds(train)


def fit(data: Sequence[tuple[Tensor, Tensor]], makes: Sequence[Make], **more: object) -> Seconds:
    """The engine with some callbacks, made anew for each run."""

    def once() -> float:
        with tempfile.TemporaryDirectory() as folder:
            made = parts()
            callbacks = [make(Path(folder), made[-1]) for make in makes]
            engine = Engine(*made, callbacks=callbacks, **more)
            return seconds(lambda: engine.fit(data, epochs=EPOCHS))

    return once


def measured(rounds: int = 9) -> Costs:
    """Measure every row; two to three minutes."""
    torch.set_num_threads(1)
    data = batches()
    with (Path("/dev/null")).open("w") as nowhere:
        stack = {
            "fit without a recorder": fit(data, [], recorder=None),
            "fit": fit(data, []),
            "fit with Progress": fit(data, [lambda *_: Progress(stream=nowhere)]),
        }
        against_plain, bases = interleave(stack, plain(data), rounds)
    each = {name: fit(data, [make]) for name, make in {**EVERY, **LASTING}.items()}
    against_fit, _ = interleave(each, fit(data, []), rounds)
    plain_batch = 1e6 * sum(pair.mine for pair in bases) / len(bases) / (BATCHES * EPOCHS)
    return Costs(plain_batch, costs(against_plain), costs(against_fit))


def costs(found: dict[str, list[Pair]]) -> list[Cost]:
    """The rows of some contenders."""
    rows = []
    for name, pairs in found.items():
        cost, times = beyond(pairs, BATCHES * EPOCHS), ratios(pairs)
        rows.append(Cost(name, round(cost.median, 2), round(cost.low, 2), round(cost.high, 2), round(times.median, 4)))
    return rows


def save(found: Costs, path: Path = JSON) -> None:
    """Keep it for the page."""
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def read(path: Path = JSON) -> Costs:
    """The reverse of `save`."""
    kept = json.loads(path.read_text())
    return Costs(kept["plain"], [Cost(**row) for row in kept["stack"]], [Cost(**row) for row in kept["callbacks"]])


def table(found: Costs) -> str:
    """As Markdown."""
    head = ["| | a batch, beyond | quartiles | times |", "|---|--:|--:|--:|"]
    rows = [f"| {c.name} | {c.beyond:.1f} µs | {c.low:.1f} to {c.high:.1f} | {c.times:.3f} |" for c in found.stack]
    split = [f"| *the plain loop, {found.plain:.0f} µs a batch* | | | |", *rows, "| *fit, by itself* | | | |"]
    each = [f"| {c.name} | {c.beyond:.1f} µs | {c.low:.1f} to {c.high:.1f} | {c.times:.3f} |" for c in found.callbacks]
    return "\n".join([*head, *split, *each])
