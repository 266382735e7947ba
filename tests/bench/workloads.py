"""What is trained?  Three workloads; each makes a job anew for each run, from one seed, outside the clock."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset


# The six places of a batch at which each callback of the workload `calls` counts.
EVENTS = ("batch_begin", "loss_begin", "backward_begin", "backward_end", "step_end", "batch_end")

Loader = Iterable[Any]


@frozen
class Job:
    """One training: what a contender is given."""

    model: nn.Module
    loss_fn: nn.Module
    optimizer: optim.Optimizer
    train: Loader
    epochs: int
    # What the final loss is computed on, outside the clock.
    probe: tuple[Tensor, Tensor]
    # What to validate on after each epoch; then loss and accuracy of both passes are kept.
    valid: Loader | None = None
    # How many counting callbacks listen.
    callbacks: int = 0

    def final_loss(self) -> float:
        """The loss of the weights as they are: it depends on every one of them."""
        inputs, targets = self.probe
        self.model.eval()
        with torch.no_grad():
            return self.loss_fn(self.model(inputs), targets).item()


@frozen
class Trained:
    """What a contender says of its run; its weights are in the job's model."""

    calls: int = 0
    # Of the last validation, as the contender's own means measured it.
    accuracy: float | None = None


@frozen
class Workload:
    """What every contender trains.  `job(batches, epochs)` makes it, cut to as many batches for each pass if asked."""

    name: str
    text: str
    job: Callable[[int | None, int], Job]
    # Of a run of the engine; of a run of the slow ones, so that they come to several rounds.
    epochs: int
    slow_epochs: int
    # Training batches of an epoch.
    batches: int
    # Seconds of wall time after which no new round begins: for the engine; for the engine checked and the peers.
    own_budget: float
    slow_budget: float


def accuracy(output: Tensor, targets: Tensor) -> Tensor:
    """The share of a batch that is recognised, as a tensor of shape ()."""
    return (output.argmax(1) == targets).float().mean()


@cache
def _batches(number: int) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(32, 16), torch.randn(32, 1)) for _ in range(number)]


def _regression(callbacks: int) -> Callable[[int | None, int], Job]:
    def job(batches: int | None, epochs: int) -> Job:
        data = _batches(2000)[:batches]
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        return Job(model, nn.MSELoss(), optimizer, data, epochs, probe=data[0], callbacks=callbacks)

    return job


@cache
def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits  # noqa: PLC0415  # only this workload waits for it

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


def _classification(batches: int | None, epochs: int) -> Job:
    images, labels = _digits()
    # The last batch is never full: torch's sampler draws once more when it is asked for one more batch than there are,
    # which some libraries do and some do not, and from then on the orders would differ.
    cut = len(images) if batches is None else batches * 64 - 1
    train = TensorDataset(images[:1437][:cut], labels[:1437][:cut])
    valid = TensorDataset(images[1437:][:cut], labels[1437:][:cut])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    return Job(
        model,
        nn.CrossEntropyLoss(),
        optim.Adam(model.parameters(), lr=1e-3),
        DataLoader(train, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(2)),
        epochs,
        valid=DataLoader(valid, batch_size=64),
        probe=(images[:1437], labels[:1437]),
    )


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "tiny",
            "an MLP 16-32-1, batches of 32 from a list, SGD; nobody listens",
            _regression(0),
            epochs=2,
            slow_epochs=1,
            batches=2000,
            own_budget=62,
            slow_budget=38,
        ),
        Workload(
            "calls",
            "the same; five callbacks count six events of a batch each: thirty calls",
            _regression(5),
            epochs=3,
            slow_epochs=1,
            batches=2000,
            own_budget=42,
            slow_budget=38,
        ),
        Workload(
            "digits",
            "an MLP 64-256-256-10, a DataLoader of 64 that shuffles, Adam, accuracy, validation in each epoch",
            _classification,
            epochs=20,
            slow_epochs=8,
            batches=23,
            own_budget=25,
            slow_budget=30,
        ),
    )
}
