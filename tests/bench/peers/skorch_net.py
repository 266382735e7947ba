"""How does skorch train it?  A `NeuralNet` without its default callbacks; its loaders are the job's.

Not equal: skorch reads the loss on the host in every batch (`.item()`), and sets the training mode anew in every batch.
In `digits` its own scoring callbacks measure the accuracy, from outputs that it has kept; in the other two it has none.
"""

from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EpochScoring
from skorch.helper import predefined_split
from torch.utils.data import Dataset

from tests.bench.workloads import Job, Trained


DISTRIBUTION = "skorch"
# Nothing is called between forward and backward, nor between the step and the batch's end.
HEARS = ("batch_begin", "backward_end", "batch_end")
NOTE = "reads the loss on the host in every batch; hears nothing between forward and backward, nor right after the step"
# By workload, how far the final loss may be from the plain loop's; exact where nothing is said.
LOSS_OFF: dict[str, float] = {}


class Counts(Callback):
    def __init__(self) -> None:
        self.count = 0

    def on_batch_begin(self, net, **kwargs) -> None:
        self.count += 1

    def on_grad_computed(self, net, **kwargs) -> None:
        self.count += 1

    def on_batch_end(self, net, **kwargs) -> None:
        self.count += 1


class Listed(Dataset):
    """Batches from a list, for skorch's checks; what is iterated is the list."""

    def __init__(self, batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class WithLoaders:
    """A net that iterates over the job's loaders and steps the job's optimizer."""

    job: Job

    def get_iterator(self, dataset, training=False):
        return self.job.train if training else self.job.valid

    def initialize_optimizer(self, *args, **kwargs):
        self.optimizer_ = self.job.optimizer
        self._register_virtual_param(["optimizer__*"], self.optimizer_)
        return self


class NetRegressor(WithLoaders, NeuralNetRegressor):
    pass


class NetClassifier(WithLoaders, NeuralNetClassifier):
    pass


def train(job: Job) -> Trained:
    callbacks = [Counts() for _ in range(job.callbacks)]
    if job.valid is None:
        silent = {"callbacks__epoch_timer": None, "callbacks__train_loss": None, "callbacks__valid_loss": None}
        named = [(f"counts{number}", callback) for number, callback in enumerate(callbacks)]
        _fit(NetRegressor, job, Listed(job.train), callbacks=named, train_split=None, **silent)
        return Trained(sum(callback.count for callback in callbacks))
    scores = [("train_acc", EpochScoring("accuracy", on_train=True, name="train_acc", lower_is_better=False))]
    split = predefined_split(job.valid.dataset)
    net = _fit(NetClassifier, job, job.train.dataset, callbacks=scores, train_split=split)
    return Trained(accuracy=net.history[-1, "valid_acc"])


def _fit(kind, job: Job, dataset: Dataset, **settings):
    net = kind(
        job.model,
        criterion=job.loss_fn,
        optimizer=type(job.optimizer),
        max_epochs=job.epochs,
        callbacks__print_log=None,
        verbose=0,
        device="cpu",
        **settings,
    )
    net.job = job
    net.fit(dataset, None)
    assert net.module_ is job.model, "skorch trained a copy"
    return net
