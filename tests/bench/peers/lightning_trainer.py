"""How does Lightning's Trainer train it?  A LightningModule under automatic optimization, with `barebones=True`.

Not equal: Lightning clears gradients before the backward pass and not after the step, which is the same work.
`barebones` switches `self.log` off, so in `digits` the module sums loss and accuracy itself, as the plain loop does.
"""

import logging
import warnings

import lightning.pytorch as lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tests.bench.workloads import Job, Trained


DISTRIBUTION = "lightning"
# The loss is computed inside of the user's training_step; nothing is called between the step and the batch's end.
HEARS = ("batch_begin", "backward_begin", "backward_end", "batch_end")
NOTE = "`barebones=True`; hears nothing between forward and loss, nor right after the step"
# By workload, how far the final loss may be from the plain loop's; exact where nothing is said.
LOSS_OFF: dict[str, float] = {}


class Counts(Callback):
    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.count += 1

    def on_before_backward(self, trainer, pl_module, loss) -> None:
        self.count += 1

    def on_after_backward(self, trainer, pl_module) -> None:
        self.count += 1

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.count += 1


class Listed:
    """Batches from a list: a list itself would be taken for several loaders."""

    def __init__(self, batches) -> None:
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Module(lightning.LightningModule):
    """What the user writes for `tiny` and `calls`."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model, self.loss_fn, self.job_optimizer = job.model, job.loss_fn, job.optimizer

    def training_step(self, batch, batch_idx) -> Tensor:
        inputs, targets = batch
        return self.loss_fn(self.model(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.job_optimizer


class Measured(Module):
    """What the user writes for `digits`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.history: list[tuple[str, float, float]] = []

    def on_train_epoch_start(self) -> None:
        self.train_sums = self._begin()

    def training_step(self, batch, batch_idx) -> Tensor:
        return self._measure(batch, self.train_sums)

    def on_train_epoch_end(self) -> None:
        self._end("train", self.train_sums)

    def on_validation_epoch_start(self) -> None:
        self.valid_sums = self._begin()

    def validation_step(self, batch, batch_idx) -> None:
        self._measure(batch, self.valid_sums)

    def on_validation_epoch_end(self) -> None:
        self._end("valid", self.valid_sums)

    def _begin(self) -> list:
        return [torch.zeros(()), torch.zeros(()), 0]

    def _measure(self, batch: tuple[Tensor, Tensor], sums: list) -> Tensor:
        inputs, targets = batch
        output = self.model(inputs)
        loss = self.loss_fn(output, targets)
        with torch.no_grad():
            sums[0] += loss * len(targets)
            sums[1] += (output.argmax(1) == targets).sum()
        sums[2] += len(targets)
        return loss

    def _end(self, name: str, sums: list) -> None:
        loss, correct, seen = sums
        self.history.append((name, (loss / seen).item(), (correct / seen).item()))


def train(job: Job) -> Trained:
    callbacks = [Counts() for _ in range(job.callbacks)]
    module = Module(job) if job.valid is None else Measured(job)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises workers for the loader
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=job.epochs, barebones=True, callbacks=callbacks
        )
        trainer.fit(module, Listed(job.train) if job.valid is None else job.train, job.valid)
    accuracies = [record[2] for record in module.history if record[0] == "valid"] if job.valid else [None]
    return Trained(sum(callback.count for callback in callbacks), accuracies[-1])
