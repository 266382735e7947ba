"""How does transformers' Trainer train it?  With `compute_loss` overridden and everything optional switched off.

Not equal: it computes the norm of all gradients in every step, also where clipping is off; it steps a constant learning
rate scheduler; batches go through accelerate.  What it costs once is above all one full garbage collection.
"""

import tempfile

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.optimization import get_constant_schedule
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from tests.bench.workloads import Job, Trained


DISTRIBUTION = "transformers"
# The loss is computed inside of compute_loss, and the backward pass follows at once.
HEARS = ("batch_begin", "backward_end", "step_end", "batch_end")
NOTE = (
    "takes the norm of the gradients in every step, also without clipping; hears nothing between forward and backward"
)
# By workload, how far the final loss may be from the plain loop's; exact where nothing is said.
LOSS_OFF: dict[str, float] = {}


class Counts(TrainerCallback):
    def __init__(self) -> None:
        self.count = 0

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self.count += 1

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.count += 1

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        self.count += 1

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.count += 1


class OfJob(Trainer):
    """A Trainer on the job's loaders."""

    job: Job

    def get_train_dataloader(self):
        return self.job.train

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        return self.job.valid

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        features, targets = inputs
        output = model(features)
        loss = self.job.loss_fn(output, targets)
        if self.job.valid is not None and model.training:
            with torch.no_grad():
                self.correct += (output.argmax(1) == targets).sum()
        return (loss, output) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad():
            loss, output = self.compute_loss(model, inputs, return_outputs=True)
        return loss, output, inputs[1]


def _measure(prediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


class Reads(TrainerCallback):
    """Reads the training accuracy at the end of each epoch."""

    def __init__(self) -> None:
        self.history: list[float] = []
        self.trainer: OfJob | None = None

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        self.trainer.correct = torch.zeros(())

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self.history.append(self.trainer.correct.item() / len(self.trainer.job.train.dataset))


def train(job: Job) -> Trained:
    logging.set_verbosity_error()
    callbacks = [Counts() for _ in range(job.callbacks)]
    reads = [] if job.valid is None else [Reads()]
    with tempfile.TemporaryDirectory() as folder:
        trainer = OfJob(
            model=job.model,
            args=_arguments(job, folder),
            train_dataset=job.train if job.valid is None else job.train.dataset,
            eval_dataset=None if job.valid is None else job.valid.dataset,
            optimizers=(job.optimizer, get_constant_schedule(job.optimizer)),
            compute_metrics=None if job.valid is None else _measure,
            callbacks=[*callbacks, *reads],
        )
        trainer.job = job
        trainer.remove_callback(PrinterCallback)
        for callback in reads:
            callback.trainer = trainer
        trainer.train()
    accuracies = [record["eval_accuracy"] for record in trainer.state.log_history if "eval_accuracy" in record]
    return Trained(sum(callback.count for callback in callbacks), accuracies[-1] if accuracies else None)


def _arguments(job: Job, folder: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=job.epochs,
        max_grad_norm=0.0,
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no" if job.valid is None else "epoch",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
