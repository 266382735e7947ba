"""How does Keras train it, on its torch backend?  Its own layers and optimizer, from the same first weights.

Not equal: Keras averages the loss over an epoch also where nobody asks.  Its Adam adds epsilon before the bias
correction and torch's after it, so the final loss of `digits` differs.  The list of batches is handed over as a
DataLoader that iterates over the list itself.  One batch is looked at before training, to build the metrics.
"""

import os


os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.bench.workloads import Job, Trained


DISTRIBUTION = "keras"
# train_step is one piece.
HEARS = ("batch_begin", "batch_end")
NOTE = (
    "on its torch backend, with its own layers and optimizers; averages the loss in every batch; hears "
    "nothing within a step; its Adam adds epsilon elsewhere, so the loss of digits differs"
)
# By workload, how far the final loss may be from the plain loop's; exact where nothing is said.
LOSS_OFF = {"digits": 5e-4}


class Counts(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_train_batch_begin(self, batch, logs=None) -> None:
        self.count += 1

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.count += 1


class Synchronous(keras.callbacks.Callback):
    """Hears batches and does nothing: without such a callback Keras calls batch ends through a pool of threads."""

    def on_train_batch_end(self, batch, logs=None) -> None:
        pass


class Drawn(DataLoader):
    """The job's loader.  Keras begins two iterators in each epoch: the unused one must draw no random number."""

    def __iter__(self):
        yield from super().__iter__()


class Listed(DataLoader):
    """Batches from a list, as they are."""

    def __iter__(self):
        return iter(self.dataset)


def train(job: Job) -> Trained:
    model = _model(job)
    callbacks = [Counts() for _ in range(job.callbacks)]
    history = model.fit(
        _loader(job),
        validation_data=job.valid,
        epochs=job.epochs,
        shuffle=False,  # the loader does
        verbose=0,
        callbacks=callbacks or [Synchronous()],
    )
    for layer, kept in zip(_linear(job), model.layers, strict=True):
        with torch.no_grad():
            layer.weight.copy_(kept.kernel.value.T)
            layer.bias.copy_(kept.bias.value)
    accuracy = None if job.valid is None else history.history["val_accuracy"][-1]
    return Trained(sum(callback.count for callback in callbacks), accuracy)


def _loader(job: Job) -> DataLoader:
    if job.valid is None:
        return Listed(job.train, batch_size=None)
    given = job.train
    return Drawn(given.dataset, batch_size=given.batch_size, shuffle=True, generator=given.generator)


def _linear(job: Job) -> list[nn.Linear]:
    return [layer for layer in job.model if isinstance(layer, nn.Linear)]


def _model(job: Job) -> keras.Model:
    *hidden, last = _linear(job)
    layers = [keras.layers.Dense(layer.out_features, activation="relu") for layer in hidden]
    first = hidden[0].in_features
    model = keras.Sequential([keras.Input((first,)), *layers, keras.layers.Dense(last.out_features)])
    for layer, dense in zip((*hidden, last), model.layers, strict=True):
        dense.set_weights([layer.weight.detach().T.numpy(), layer.bias.detach().numpy()])
    if job.valid is None:
        model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8), loss=loss, metrics=["accuracy"])
        model.test_on_batch(*next(iter(job.valid)))  # builds the metrics without drawing from the shuffled loader
    return model
