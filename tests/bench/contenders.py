"""Who is timed?  The plain loop, the plain loop with the calls written by hand, the engine, and the engine checked.

Each contender makes its own model from one seed, trains it on the same batches, and returns its last loss, which must
be the same bits for all.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn, optim

from engine import Callback, Engine
from engine.run import Run


Batches = Sequence[tuple[Tensor, Tensor]]
Contender = Callable[[Batches], float]


def make() -> tuple[nn.Module, nn.Module, optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    return model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.01)


def data(number: int) -> Batches:
    torch.manual_seed(1)
    return [(torch.randn(32, 16), torch.randn(32, 1)) for _ in range(number)]


class Counts(Callback):
    """Hears six events of a batch, and only counts."""

    def __init__(self) -> None:
        self.count = 0

    def on_batch_begin(self, run: Run) -> None:
        self.count += 1

    def on_loss_begin(self, run: Run) -> None:
        self.count += 1

    def on_backward_begin(self, run: Run) -> None:
        self.count += 1

    def on_backward_end(self, run: Run) -> None:
        self.count += 1

    def on_step_end(self, run: Run) -> None:
        self.count += 1

    def on_batch_end(self, run: Run) -> None:
        self.count += 1


def plain(batches: Batches) -> float:
    model, loss_fn, optimizer = make()
    for inputs, targets in batches:
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def plain_with_calls(batches: Batches) -> float:
    """Five counting callbacks, called by hand at the same six points: thirty calls a batch."""
    model, loss_fn, optimizer = make()
    callbacks, run = [Counts() for _ in range(5)], None
    for inputs, targets in batches:
        for callback in callbacks:
            callback.on_batch_begin(run)
        output = model(inputs)
        for callback in callbacks:
            callback.on_loss_begin(run)
        loss = loss_fn(output, targets)
        for callback in callbacks:
            callback.on_backward_begin(run)
        loss.backward()
        for callback in callbacks:
            callback.on_backward_end(run)
        optimizer.step()
        for callback in callbacks:
            callback.on_step_end(run)
        optimizer.zero_grad()
        for callback in callbacks:
            callback.on_batch_end(run)
    return loss.item()


def engine(callbacks: int, *, checked: bool = False) -> Contender:
    def fit(batches: Batches) -> float:
        model, loss_fn, optimizer = make()
        heard = [Counts() for _ in range(callbacks)]
        run = Engine(model, loss_fn, optimizer, heard, checked=checked).fit(batches)
        assert [callback.count for callback in heard] == [6 * len(batches)] * callbacks
        return run.loss.item()

    return fit


CONTENDERS: Mapping[str, tuple[Contender, str]] = {
    "plain loop": (plain, "plain loop"),
    "fit": (engine(0), "plain loop"),
    "fit, checked by pytransitions": (engine(0, checked=True), "plain loop"),
    "plain loop, 30 calls by hand": (plain_with_calls, "plain loop, 30 calls by hand"),
    "fit, 5 callbacks, 30 calls": (engine(5), "plain loop, 30 calls by hand"),
    "fit, 5 callbacks, checked": (engine(5, checked=True), "plain loop, 30 calls by hand"),
}
