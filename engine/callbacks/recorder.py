"""How did a training go?  The loss of each batch, what moved in the optimizer, and a record of each epoch.

Each engine has one, unless it is refused with `Engine(..., recorder=None)`.
"""

from collections import ChainMap
from collections.abc import Mapping
from math import nan
from os import PathLike
from time import perf_counter, time
from typing import TYPE_CHECKING, Any

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.layout.figures import saved
from engine.listeners import Callback
from engine.measuring.room import Room, is_scalar
from engine.recording import plots, tables
from engine.recording.hyperparameters import Hyperparameters
from engine.recording.series import Came, Series
from engine.run import Run
from states.errors import shown


if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

# How many numbers wait on the device before they are read in the middle of an epoch.
WAITING = 2048


class Recorder(Callback):
    """Keep what happened in a training, batch by batch and epoch by epoch; show it as plots and tables.

    The loss of a batch is what the loss function returned: none but the engine's metrics hears of it before.  One that
    is no tensor of one real number has no point; nor has a batch that was skipped.  Batches and updates are counted as
    in `run`, and go on where a training is continued.

    A training forgets the epochs from its `start_epoch` on: by default all, so that it begins anew.  The batches of an
    epoch that was stopped stay; it leaves no record, as in `run.history`.  `evaluate` and `predict` change nothing.

    Args:
        points: How many batches are kept at most.  Where there are more, every second one is dropped, and from then on
            one batch in two is kept, then one in four: always evenly spread over the whole run.
        beta: Of the moving average of the losses, which goes over all batches; see `engine.recording.series.Series`.

    Raises:
        ArgumentRefused: *points* or *beta* is no number that could be meant.

    Cost per batch: a copy of one number on the device, and one comparison for each entry of the optimizer's groups; a
    hyperparameter that is a tensor is copied as well, or read where it lies on the CPU.  The copies are read on the
    host, which waits for the device, at the end of an epoch, when somebody looks here, and when 2048 of them wait.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 2, epochs=2)
        >>> engine.recorder.batches, engine.recorder.hyper("lr"), len(engine.recorder.losses)
        ([0, 1, 2, 3], [0.1, 0.1, 0.1, 0.1], 4)
        >>> [record["updates"] for record in engine.recorder.epochs]
        [2, 4]
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     engine.recorder.to_csv(f"{folder}/epochs.csv")
        ...     figure = engine.recorder.plot_loss(f"{folder}/loss.svg")
        >>> figures = [engine.recorder.plot_lr(), engine.recorder.plot_metrics()]
    """

    order = -90

    def __init__(self, *, points: int = 20_000, beta: float = 0.98) -> None:
        check_count("points", points, least=2)  # of one point, no second one could go
        if not (is_number(beta) and 0 <= beta < 1):
            raise ArgumentRefused(
                f"beta is {shown(beta)}",
                allowed="a number from 0, for the losses themselves, to below 1",
                instead="leave it out for 0.98, which looks back over some 50 batches",
            )
        self.points, self.beta = points, beta
        self._series = Series(points, beta)
        # Those of the run that goes on have its own record in them, which callbacks behind this one may add to.
        self._epochs: list[Mapping[str, Any]] = []
        # What is added to `run.batches_done` and `run.updates`; when the epoch began, by the calendar and by the clock.
        self._offset, self._updates, self._started, self._clock = 0, 0, nan, nan
        self._let_go()

    def _let_go(self) -> None:
        """Hold nothing of a run: neither what came and was not read yet, nor what the optimizer holds."""
        self._epochs = list(self.epochs)
        self._came: list[Came] = []
        self._room = Room(WAITING)
        self._hypers = Hyperparameters()

    def on_train_begin(self, run: Run) -> None:
        """Forget what is trained anew."""
        self._let_go()
        self._epochs = [record for record in self._epochs if record["epoch"] < run.epoch]
        if run.epoch:
            self._series.forget(run.epoch)
        else:
            self._series = Series(self.points, self.beta)
        self._offset = self._series.end - run.batches_done
        self._updates = self._series.updates - run.updates

    def on_epoch_begin(self, run: Run) -> None:
        """Look at the clock."""
        self._read()
        self._series.begin(run.epoch)
        self._started, self._clock = time(), perf_counter()

    def on_loss_end(self, run: Run) -> None:
        """Keep the loss, and which hyperparameters are others than before."""
        if run.optimizer is not None:
            self._came.extend(self._hypers.changed(run.optimizer))
            for name, tensor in self._hypers.tensors:
                if tensor.is_cpu:  # to copy it to the loss's device would wait for that
                    self._came.append((name, tensor.item()))
                else:
                    self._keep((name, None), tensor)
        if self._room.put(run.loss):  # the usual case of what `_keep` does
            self._came.append(self._offset + run.batches_done)
        else:
            self._keep(self._offset + run.batches_done, run.loss)

    def on_epoch_end(self, run: Run) -> None:
        """Read the losses; write the record of an epoch that was not stopped."""
        self._read()
        self._series.end, self._series.updates = self._offset + run.batches_done, self._updates + run.updates
        if not run.stopping:
            counted = {"epoch": run.epoch, "updates": self._series.updates, "batches": self._series.end}
            timed = {"started": self._started, "seconds": perf_counter() - self._clock}
            # The first that has a name says its value; the last one's names come first.
            self._epochs.append(ChainMap(timed, counted, _record(run), counted))

    def on_train_end(self, run: Run) -> None:
        """Read what is left of an epoch that died, and let go of the run."""
        self._series.updates = self._updates + run.updates
        try:
            self._read()
        finally:
            self._let_go()

    def __repr__(self) -> str:
        """One line: how much there is; nothing is read on the host."""
        return f"<Recorder: epochs {len(self._epochs)}, batches {self._series.end}>"

    def _keep(self, came: Came, value: object) -> None:
        if not self._room.put(value):
            if not is_scalar(value):
                return
            self._read()
            self._room.put(value)
        self._came.append(came)

    def _read(self) -> None:
        """Read what waits on the device."""
        if self._came:
            came, self._came = self._came, []
            self._series.take(came, iter(self._room.take().tolist()))

    @property
    def batches(self) -> list[int]:
        """The number of the batch of each point."""
        self._read()
        return list(self._series.batches)

    @property
    def losses(self) -> list[float]:
        """The loss of the batch of each point."""
        self._read()
        return list(self._series.losses)

    @property
    def smoothed(self) -> list[float]:
        """The moving average of the losses, at each point."""
        self._read()
        return list(self._series.smoothed)

    @property
    def hypers(self) -> dict[str, list[float]]:
        """Each number in the optimizer's groups, at each point, as it was when the loss was ready.

        `0.lr` is that of group 0, `0.betas.1` its second beta; of several optimizers by name, `generator.0.lr`.  nan
        before there was one.
        """
        self._read()
        return {name: self._series.values(name) for name in self._series.changes}

    def hyper(self, name: str, *, group: int = 0, optimizer: str | None = None) -> list[float]:
        """A hyperparameter of one group at each point, such as "lr", or "betas.0".

        Raises:
            ArgumentRefused: nothing of that name was recorded.
        """
        path = f"{group}.{name}" if optimizer is None else f"{optimizer}.{group}.{name}"
        self._read()
        if path not in self._series.changes:
            raise ArgumentRefused(
                f"no hyperparameter {shown(path)} was recorded",
                allowed=", ".join(self._series.changes) or "none yet: nothing was trained with an optimizer",
                instead='write recorder.hyper("lr", group=0); of several optimizers with optimizer="its name", too',
            )
        return self._series.values(path)

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """A record of each epoch, as in `run.history`, with what other callbacks have added to it there.

        With it: `batches`, how many there were up to its end; `started`, as `time.time()` says it; and `seconds`, from
        its begin to its end, validation included.
        """
        return [dict(record) for record in self._epochs]

    def state_dict(self) -> dict[str, Any]:
        """All that was recorded."""
        self._read()
        return {"series": self._series.state_dict(), "epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was recorded; `fit(..., start_epoch=n)` goes on behind epoch n - 1."""
        series = Series.of(state["series"], self.points, self.beta)
        self._let_go()
        self._series, self._epochs = series, [dict(one) for one in state["epochs"]]

    def table(self) -> str:
        """A line for each epoch; what was not measured in one is left blank there.

        Example:
            >>> print(Recorder().table())
            epoch  updates  seconds
        """
        return tables.text(self.epochs)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the records of the epochs into a file, a line each below their names; its folders are made."""
        tables.write_csv(self.epochs, path)

    def to_frame(self) -> "DataFrame":
        """The records of the epochs as a pandas `DataFrame`, by epoch.

        Raises:
            Refused: pandas is not installed.
        """
        return tables.frame(self.epochs)

    def plot_loss(self, path: str | PathLike[str] | None = None) -> "Figure":
        """Draw the loss of each batch, its moving average, and the validation's mean at the end of each epoch.

        Args:
            path: Where the picture is written as well; its ending says as what, and its folders are made.

        Raises:
            Refused: there is nothing to draw; so do all plots.
            PicturesMissing: matplotlib is not installed; so do all plots.
        """
        self._read()
        return saved(plots.loss(self._series, self.epochs), path)

    def plot_lr(self, path: str | PathLike[str] | None = None) -> "Figure":
        """Draw the learning rate of each group."""
        self._read()
        return saved(plots.rates(self._series), path)

    def plot_metrics(self, path: str | PathLike[str] | None = None) -> "Figure":
        """Draw the loss and each metric, epoch by epoch, of training and validation."""
        return saved(plots.metrics(self.epochs), path)

    def plot_schedule(self, path: str | PathLike[str] | None = None) -> "Figure":
        """Draw each hyperparameter that moved."""
        self._read()
        return saved(plots.schedule(self._series), path)


def _record(run: Run) -> dict[str, Any]:
    """The record of this epoch in the run's history; where its machine leads to none, what was measured."""
    written = bool(run.history) and run.history[-1].get("epoch") == run.epoch
    return run.history[-1] if written else dict(run.metrics)
