"""How does Lightning Fabric train it?  The loop is the user's; model, optimizer and loaders go through `setup`.

Not equal: in `calls` each callback is reached by `fabric.call`, from the user's loop, which is Fabric's own way.  In
`tiny` and `calls` the list of batches is no DataLoader, so `setup_dataloaders` is left out.
"""

import torch
from lightning.fabric import Fabric

from tests.bench.workloads import EVENTS, Job, Trained


DISTRIBUTION = "lightning"
HEARS = EVENTS
NOTE = "the user writes the loop, so less of it is the library's; callbacks are reached by `fabric.call`"
# By workload, how far the final loss may be from the plain loop's; exact where nothing is said.
LOSS_OFF: dict[str, float] = {}


class Counts:
    def __init__(self) -> None:
        self.count = 0

    def on_batch_begin(self) -> None:
        self.count += 1

    def on_loss_begin(self) -> None:
        self.count += 1

    def on_backward_begin(self) -> None:
        self.count += 1

    def on_backward_end(self) -> None:
        self.count += 1

    def on_step_end(self) -> None:
        self.count += 1

    def on_batch_end(self) -> None:
        self.count += 1


def train(job: Job) -> Trained:
    callbacks = [Counts() for _ in range(job.callbacks)]
    fabric = Fabric(accelerator="cpu", devices=1, callbacks=callbacks)
    if job.callbacks:
        _with_calls(fabric, job)
    elif job.valid is None:
        _plain(fabric, job)
    else:
        return Trained(accuracy=_with_validation(fabric, job))
    return Trained(sum(callback.count for callback in callbacks))


def _plain(fabric: Fabric, job: Job) -> None:
    loss_fn = job.loss_fn
    model, optimizer = fabric.setup(job.model, job.optimizer)
    model.train()
    for _ in range(job.epochs):
        for inputs, targets in job.train:
            loss = loss_fn(model(inputs), targets)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()


def _with_calls(fabric: Fabric, job: Job) -> None:
    loss_fn = job.loss_fn
    model, optimizer = fabric.setup(job.model, job.optimizer)
    model.train()
    for _ in range(job.epochs):
        for inputs, targets in job.train:
            fabric.call("on_batch_begin")
            output = model(inputs)
            fabric.call("on_loss_begin")
            loss = loss_fn(output, targets)
            fabric.call("on_backward_begin")
            fabric.backward(loss)
            fabric.call("on_backward_end")
            optimizer.step()
            fabric.call("on_step_end")
            optimizer.zero_grad()
            fabric.call("on_batch_end")


def _with_validation(fabric: Fabric, job: Job) -> float:
    loss_fn = job.loss_fn
    model, optimizer = fabric.setup(job.model, job.optimizer)
    train_loader, valid_loader = fabric.setup_dataloaders(job.train, job.valid)
    history = []
    for _ in range(job.epochs):
        model.train()
        train_loss, train_correct, seen = torch.zeros(()), torch.zeros(()), 0
        for inputs, targets in train_loader:
            output = model(inputs)
            loss = loss_fn(output, targets)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                train_loss += loss * len(targets)
                train_correct += (output.argmax(1) == targets).sum()
            seen += len(targets)
        model.eval()
        valid_loss, valid_correct, valid_seen = torch.zeros(()), torch.zeros(()), 0
        with torch.no_grad():
            for inputs, targets in valid_loader:
                output = model(inputs)
                valid_loss += loss_fn(output, targets) * len(targets)
                valid_correct += (output.argmax(1) == targets).sum()
                valid_seen += len(targets)
        means = (train_loss / seen, train_correct / seen, valid_loss / valid_seen, valid_correct / valid_seen)
        history.append([mean.item() for mean in means])
    return history[-1][3]
