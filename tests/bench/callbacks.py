"""What does each callback cost?  CPU microseconds a batch, beyond a `fit` without it; kept in docs/callbacks.json."""

import gc
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import quantiles
from time import process_time

import torch
from attrs import asdict, frozen
from torch import Tensor, nn

from engine import Engine
from engine.callbacks import Linear, LRFinder, Progress, Schedule, ShortEpochs, one_cycle
from tests.bench.results import ROOT
from tests.bench.timing import Seconds
from tests.callbacks.every import EVERY, Make


JSON = ROOT / "docs" / "callbacks.json"
BATCHES, EPOCHS = 200, 2
PLAIN, AGAIN = "the plain loop", "the same fit, once more"
# Those that end a run or an epoch early, or have the optimizer do more (a momentum), made so that they do not.
ALIKE: Mapping[str, Make] = {
    "Schedule by epoch": lambda *_: Schedule({"lr": Linear(0.1, 0.01)}, by="epoch"),
    "one_cycle": lambda *_: one_cycle(0.1, momentum=None),
    "ShortEpochs": lambda *_: ShortEpochs(BATCHES),
    "LRFinder": lambda *_: LRFinder(start_lr=1e-9, end_lr=1e-3, num_it=BATCHES * EPOCHS, stop_at=None),
}


@frozen
class Cost:
    """What one row costs: microseconds for each batch beyond its baseline, and how many times that it takes.

    *halves* is the former of the first rounds alone, and of the last: how much it may be off.
    """

    name: str
    beyond: float
    halves: Sequence[float]
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


class Clocked:
    """A loader that looks at the clock when an epoch's first batch is drawn, and when no more are."""

    def __init__(self, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.batches, self.spent = batches, 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        begun = process_time()
        try:
            yield from self.batches
        finally:  # some stop before the end
            self.spent += process_time() - begun


def plain(data: Sequence[tuple[Tensor, Tensor]]) -> Seconds:
    """The loop written by hand; it gives what its batches took."""

    def once() -> float:
        loader, (model, loss_fn, optimizer) = Clocked(data), parts()
        gc.collect()
        model.train()
        for _ in range(EPOCHS):
            for inputs, targets in loader:
                loss_fn(model(inputs), targets).backward()
                optimizer.step()
                optimizer.zero_grad()
        return loader.spent

    return once


def fit(data: Sequence[tuple[Tensor, Tensor]], makes: Sequence[Make], **more: object) -> Seconds:
    """The engine with some callbacks, made anew for each run; what a run or an epoch costs once is not in it."""

    def once() -> float:
        with tempfile.TemporaryDirectory() as folder:
            loader, made = Clocked(data), parts()
            callbacks = [make(Path(folder), made[-1]) for make in makes]
            engine = Engine(*made, callbacks=callbacks, **more)
            gc.collect()
            engine.fit(loader, epochs=EPOCHS)
            return loader.spent

    return once


def measured(rounds: int = 40) -> Costs:
    """Measure every row, in rounds of all of them; four minutes."""
    torch.set_num_threads(1)
    gc.freeze()  # to look at all that was imported, before each run, would take most of the time
    data = batches()
    with (Path("/dev/null")).open("w") as nowhere:
        stack = {
            PLAIN: plain(data),
            "fit without a recorder": fit(data, [], recorder=None),
            "fit": fit(data, []),
            "fit with Progress": fit(data, [lambda *_: Progress(stream=nowhere)]),
            AGAIN: fit(data, []),
        }
        each = {name: fit(data, [make]) for name, make in {**EVERY, **ALIKE}.items()}
        spent = in_rounds(stack | each, rounds)
    against_plain = [cost(name, spent[name], spent[PLAIN]) for name in stack if name not in (PLAIN, AGAIN)]
    against_fit = [cost(name, spent[name], spent["fit"]) for name in (AGAIN, *each)]
    return Costs(round(fastest(spent[PLAIN]), 2), against_plain, against_fit)


def in_rounds(runs: Mapping[str, Seconds], rounds: int) -> dict[str, list[float]]:
    """Microseconds of a batch of each, in each round; the first round, in which much is made, is not among them."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            spent[name].append(1e6 * run() / (BATCHES * EPOCHS))
    return {name: values[1:] for name, values in spent.items()}


def fastest(values: Sequence[float]) -> float:
    """The tenth of the runs that nothing has disturbed: what else a machine does makes runs slower, and none faster."""
    return quantiles(values, n=10, method="inclusive")[0]


def cost(name: str, mine: Sequence[float], base: Sequence[float]) -> Cost:
    """The row of one contender."""
    half = len(mine) // 2
    halves = [fastest(mine[part]) - fastest(base[part]) for part in (slice(half), slice(half, None))]
    beyond = fastest(mine) - fastest(base)
    return Cost(name, round(beyond, 2), [round(one, 2) for one in halves], round(fastest(mine) / fastest(base), 4))


def save(found: Costs, path: Path = JSON) -> None:
    """Keep it for the page."""
    path.write_text(json.dumps(asdict(found), indent=1) + "\n")


def read(path: Path = JSON) -> Costs:
    """The reverse of `save`."""
    kept = json.loads(path.read_text())
    return Costs(kept["plain"], [Cost(**row) for row in kept["stack"]], [Cost(**row) for row in kept["callbacks"]])


def table(found: Costs) -> str:
    """As Markdown."""
    head = ["| | a batch, beyond | in each half | times |", "|---|--:|--:|--:|"]
    split = [f"| *the plain loop, {found.plain:.0f} µs a batch* | | | |", *map(_row, found.stack)]
    return "\n".join([*head, *split, "| *fit, by itself* | | | |", *map(_row, found.callbacks)])


def _row(one: Cost) -> str:
    halves = " and ".join(f"{half:.1f}" for half in one.halves)
    return f"| {one.name} | {one.beyond:.1f} µs | {halves} | {one.times:.3f} |"
