"""How do the numbers of a training get to where they are kept?  A record for each epoch, and each n-th batch."""

from collections.abc import Mapping
from numbers import Real

from torch import Tensor

from engine.check import check_count
from engine.errors import ArgumentRefused
from engine.keeping.sinks import Sink
from engine.listeners import Callback
from engine.recording.counts import Counts
from engine.run import Run
from states.errors import shown, typed


class Log(Callback):
    """Write the record of each epoch, and if asked the loss of each n-th batch, into a file or whatever else is a sink.

    A row of an epoch is its record in `run.history`: `epoch`, `updates`, `train_loss`, ..., and what callbacks before
    this one have put there.  A row of a batch has `epoch`, `batch_loss`, and `lr`, or `lr_0`, `lr_1`, ... for several
    groups.  What is no number is left out.  The step of a row is how many training batches have ended; it and `updates`
    are counted over all parts of a training.

    An epoch that was stopped leaves no row.  `engine.evaluate` and `engine.predict` write nothing.  A second training
    begins the file anew, unless the sink appends; one that goes on (`start_epoch`) goes on in it, without what a run
    that was cut off wrote about the epochs that are trained again; its steps and updates go on from where the epoch
    before `start_epoch` ended, if that is known: from the state of the last one, or on the same engine.

    The sink is opened when the training begins, flushed after each epoch, and closed when the training ends, in
    whatever way.

    Args:
        sink: `CSVFile`, `JSONLines`, `TensorBoard`, `WandB`, `MLflow`, or a `Sink` of your own.
        every: Write the loss of each n-th batch as well; each waits for the device, as the loss is read on the host.

    Raises:
        ArgumentRefused: *sink* is none, or *every* is no whole number above 0.

    Cost per batch: three calls, which count, and a comparison; for each n-th, a read on the host and what the sink
    needs for a row.

    Example:
        >>> import tempfile, torch
        >>> from engine import Engine
        >>> from engine.callbacks import CSVFile, Log
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = CSVFile(f"{folder}/history.csv")
        ...     engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Log(file)])
        ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
        ...     print(file.path.read_text())
        step,epoch,updates,train_loss
        3,0,3,...
        6,1,6,...
    """

    order = 300

    def __init__(self, sink: Sink, *, every: int | None = None) -> None:
        if not isinstance(sink, Sink) or isinstance(sink, type):
            raise ArgumentRefused(
                f"the sink is {shown(sink)}, {typed(sink)}",
                allowed="an object with open, write, flush and close; see engine.keeping.sinks.Sink",
                instead='write Log(CSVFile("runs/history.csv"))',
            )
        check_count("every", every, least=1, may_be_none=True)
        self.sink, self.every = sink, every
        # How many training batches have ended, how many updates were taken, and how many of those before this run.
        self._steps, self._updates, self._before = Counts(), Counts(), 0
        self._due = False  # whether the loss of the batch in hand is written

    def on_train_begin(self, run: Run) -> None:
        """Open the sink."""
        self._steps.begin(run.epoch)
        self._updates.begin(run.epoch)
        self._before, self._due = self._updates.total - run.updates, False
        self.sink.open(run.epoch, self._steps.total)

    def on_forward_begin(self, run: Run) -> None:
        """Is this batch one of those whose loss is written?  One that is skipped has none."""
        del run
        self._due = self.every is not None and (self._steps.total + 1) % self.every == 0

    def on_step_end(self, run: Run) -> None:
        """Count the update: here, as the last of an epoch may come behind its batches."""
        self._updates.note(run.epoch, self._before + run.updates)

    def on_batch_end(self, run: Run) -> None:
        """Write the loss, if it is due."""
        self._steps.note(run.epoch, self._steps.total + 1)
        if self._due:
            self._due = False
            self.sink.write(self._steps.total, _numbers(_batch(run)))

    def on_epoch_end(self, run: Run) -> None:
        """Write the record."""
        if not run.stopping:
            record = {**run.history[-1], "updates": self._before + run.updates}
            self.sink.write(self._steps.total, _numbers(record))
            self.sink.flush()

    def on_train_end(self, run: Run) -> None:
        """Close the sink."""
        del run
        self.sink.close()

    def state_dict(self) -> dict[str, dict[int, int]]:
        """How many training batches have ended and how many updates were taken, by epoch."""
        return {"steps": self._steps.state_dict(), "updates": self._updates.state_dict()}

    def load_state_dict(self, state: Mapping[str, Mapping[int, int]]) -> None:
        """Let a training that goes on count from there."""
        self._steps.load_state_dict(state["steps"])
        self._updates.load_state_dict(state["updates"])


def _batch(run: Run) -> dict[str, object]:
    """What there is to say of the batch that ends."""
    groups = [] if run.optimizer is None else run.optimizer.param_groups
    names = ["lr"] if len(groups) == 1 else [f"lr_{number}" for number in range(len(groups))]
    rates = {name: group["lr"] for name, group in zip(names, groups, strict=True) if "lr" in group}
    return {"epoch": run.epoch, "batch_loss": run.loss, **rates}


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Those values that are numbers, as Python has them; a tensor of one element is read."""
    numbers: dict[str, float] = {}
    for name, given in values.items():
        value = given.item() if isinstance(given, Tensor) and given.numel() == 1 else given
        if isinstance(value, int):
            numbers[name] = value
        elif isinstance(value, Real):
            numbers[name] = float(value)
    return numbers
