"""Who else draws the numbers of a training?  Sinks for TensorBoard, Weights & Biases and MLflow, where installed."""

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from engine.errors import ArgumentRefused
from states.errors import shown, typed


class TensorBoard:
    """Scalars in an event file for TensorBoard, drawn over the number of batches.

    A training that begins anew in the same folder hides what an earlier one wrote there; one that goes on, what was
    written behind its begin.

    Args:
        folder: Where the event files are; it is made.

    Raises:
        ArgumentRefused: *folder* is no path, tensorboard is not installed, or another `Log` writes there.

    Example:
        >>> import tempfile, torch
        >>> from engine import Engine
        >>> from engine.callbacks import Log, TensorBoard
        >>> from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Log(TensorBoard(folder))])
        ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
        ...     [event.step for event in EventAccumulator(folder).Reload().Scalars("train_loss")]
        [3, 6]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        if not isinstance(folder, str | os.PathLike):
            raise ArgumentRefused(
                f"the folder of TensorBoard is {shown(folder)}, {typed(folder)}",
                allowed="the path of a folder; it is made",
                instead='write TensorBoard("runs/first")',
            )
        _need("tensorboard", "TensorBoard", "stateloop[tensorboard]")
        self.folder = folder
        self._writer: Any = None

    def open(self, epoch: int, step: int) -> None:
        """Make an event file."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # it takes a second to import

        if self._writer is not None:
            raise ArgumentRefused(
                f"{self.folder} is written to already", allowed="one Log for each sink", instead="make a second sink"
            )
        unknown = epoch > 0 and step == 0  # it goes on, and nobody knows where
        self._writer = SummaryWriter(os.fspath(self.folder), purge_step=None if unknown else step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add a scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Write what waits in the queue."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file and end the thread that writes it."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class WandB:
    """The numbers in the run of Weights & Biases that is active when a training begins: `wandb.init(...)` made it.

    It is not finished here, but where it was begun.  Each row has a number `step`, how many batches were trained, over
    which the others are drawn.  The library's own steps only count rows: it drops what goes back in those, as a second
    training would.

    Raises:
        ArgumentRefused: wandb is not installed; when a training begins, no run is active.

    Example:
        >>> import torch, wandb
        >>> from engine import Engine
        >>> from engine.callbacks import Log, WandB
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Log(WandB())])
        >>> with wandb.init(project="first", mode="offline"):
        ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
    """

    def __init__(self) -> None:
        _need("wandb", "WandB", "wandb")
        self._run: Any = None
        self._drawn: set[str] = set()  # the names that are drawn over `step`

    def open(self, epoch: int, step: int) -> None:
        """Find the active run."""
        del epoch, step
        self._run = import_module("wandb").run
        if self._run is None:
            raise _no_run("Weights & Biases", "with wandb.init(project=...): engine.fit(...)")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row."""
        for name in values.keys() - self._drawn:
            self._run.define_metric(name, step_metric="step")
        self._drawn |= values.keys()
        self._run.log({"step": step, **values})

    def flush(self) -> None:
        """It sends what it has by itself."""

    def close(self) -> None:
        """Let go of the run."""
        self._run, self._drawn = None, set()


class MLflow:
    """The numbers in the run of MLflow that is active when a training begins: `mlflow.start_run()` made it.

    It is not ended here, but where it was begun.

    Raises:
        ArgumentRefused: mlflow is not installed; when a training begins, no run is active.

    Example:
        >>> import mlflow, torch
        >>> from engine import Engine
        >>> from engine.callbacks import Log, MLflow
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Log(MLflow())])
        >>> with mlflow.start_run():
        ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
    """

    def __init__(self) -> None:
        _need("mlflow", "MLflow", "mlflow")
        self._mlflow: Any = None
        self._id = ""

    def open(self, epoch: int, step: int) -> None:
        """Find the active run."""
        del epoch, step
        self._mlflow = import_module("mlflow")
        run = self._mlflow.active_run()
        if run is None:
            raise _no_run("MLflow", "with mlflow.start_run(): engine.fit(...)")
        self._id = run.info.run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the metrics."""
        self._mlflow.log_metrics(dict(values), step=step, run_id=self._id)

    def flush(self) -> None:
        """Each row was sent when it was written."""

    def close(self) -> None:
        """Let go of the run."""
        self._mlflow, self._id = None, ""


def _need(module: str, sink: str, install: str) -> None:
    """Refuse a sink whose library is not installed; it is imported when a training begins."""
    if find_spec(module) is None:
        raise ArgumentRefused(
            f"{sink} needs the package {module}, which cannot be imported",
            allowed="a machine where it is installed",
            instead=f"pip install '{install}'; or take CSVFile or JSONLines, which need nothing",
        )


def _no_run(name: str, instead: str) -> ArgumentRefused:
    return ArgumentRefused(f"no run of {name} is active", allowed="a run that was begun before", instead=instead)
