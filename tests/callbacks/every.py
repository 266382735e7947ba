"""Which callbacks come with the engine?  Each of them by name, made for one small training of pictures."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from engine import Engine
from engine.callbacks import (
    Accumulate,
    ActivationStats,
    AveragedWeights,
    BatchTransform,
    Checkpoint,
    ClipGradients,
    Cosine,
    CSVFile,
    CutMix,
    EarlyStopping,
    Freeze,
    FreezeBatchNorm,
    GradientStats,
    JSONLines,
    Linear,
    Log,
    LRFinder,
    Memory,
    MixUp,
    Progress,
    ReduceLROnPlateau,
    Schedule,
    ShortEpochs,
    StopAfter,
    TensorBoard,
    TerminateOnNaN,
    TorchSchedule,
    WeightDecay,
    one_cycle,
)


# What makes a callback; it is given the folder in which it may write, and the optimizer that it may schedule.
Make = Callable[[Path, torch.optim.Optimizer], object]

EVERY: Mapping[str, Make] = {
    "Progress": lambda *_: Progress(stream=io.StringIO()),
    "Schedule by batch": lambda *_: Schedule({"lr": Cosine(0.1, 0.0)}),
    "Schedule by epoch": lambda *_: Schedule({"momentum": Linear(0.9, 0.5)}, by="epoch"),
    "one_cycle": lambda *_: one_cycle(0.1),
    "TorchSchedule": lambda _, sgd: TorchSchedule(torch.optim.lr_scheduler.ExponentialLR(sgd, 0.9)),
    "LRFinder": lambda *_: LRFinder(num_it=20),
    "Accumulate batches": lambda *_: Accumulate(batches=3),
    "Accumulate samples": lambda *_: Accumulate(samples=8),
    "ClipGradients by norm": lambda *_: ClipGradients(norm=1.0),
    "ClipGradients by value": lambda *_: ClipGradients(value=0.1),
    "WeightDecay": lambda *_: WeightDecay(0.01),
    "GradientStats": lambda *_: GradientStats(every=2),
    "AveragedWeights": lambda *_: AveragedWeights(decay=0.9),
    "Freeze": lambda *_: Freeze("0", until=3),
    "FreezeBatchNorm": lambda *_: FreezeBatchNorm(),
    "MixUp": lambda *_: MixUp(),
    "CutMix": lambda *_: CutMix(),
    "BatchTransform": lambda *_: BatchTransform(lambda inputs: inputs / 2),
    "ShortEpochs": lambda *_: ShortEpochs(3),
    "ActivationStats": lambda *_: ActivationStats(),
    "Memory": lambda *_: Memory(),
    "Log to CSV": lambda folder, _: Log(CSVFile(folder / "log.csv")),
    "Log to JSON": lambda folder, _: Log(JSONLines(folder / "log.jsonl"), every=2),
    "Log to TensorBoard": lambda folder, _: Log(TensorBoard(folder)),
    "EarlyStopping": lambda *_: EarlyStopping(monitor="train_loss", mode="min", patience=50),
    "ReduceLROnPlateau": lambda *_: ReduceLROnPlateau(monitor="train_loss", mode="min", patience=1, factor=0.5),
    "Checkpoint": lambda folder, _: Checkpoint(folder, monitor="train_loss", mode="min"),
    "StopAfter": lambda *_: StopAfter(epochs=50),
    "TerminateOnNaN": lambda *_: TerminateOnNaN(every=2),
    "TerminateOnNaN of gradients": lambda *_: TerminateOnNaN(every=2, gradients=True),
}


def pictures(number: int, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Batches of five pictures of shape (1, 4, 4), each of one of three classes; no shared generator is used."""
    chance = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(5, 1, 4, 4, generator=chance), torch.randint(3, (5,), generator=chance)) for _ in range(number)
    ]


def network() -> nn.Sequential:
    """Convolution, batch norm, dropout and a linear layer; always the same."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.1), nn.Linear(32, 3)),
    )


def engine_of(makes: Sequence[Make], folder: Path, **parts: Any) -> Engine:
    """An engine that trains the network with momentum, and callbacks, each with a folder of its own."""
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    engine = Engine(model, nn.functional.cross_entropy, sgd, **parts)
    for number, make in enumerate(makes):
        (folder / str(number)).mkdir(parents=True)
        engine.add(make(folder / str(number), sgd))
    return engine


def written(made: Engine) -> list[tuple[int, str]]:
    """The hyperparameters that its callbacks write."""
    groups = made.optimizer.param_groups
    return [pair for callback in made.callbacks for pair in getattr(callback, "writes", lambda _: ())(groups)]


def go_together(stack: Sequence[Make]) -> bool:
    """Whether no two of them write one hyperparameter, which is refused when the run starts."""
    with TemporaryDirectory() as folder:
        hypers = written(engine_of(stack, Path(folder)))
    return len({*hypers}) == len(hypers)
