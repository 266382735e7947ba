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

    It is not finished here, but where it was begun: `with wandb.init(...): engine.fit(...)`.

    Raises:
        ArgumentRefused: wandb is not installed; when a training begins, no run is active.
    """

    def __init__(self) -> None:
        _need("wandb", "WandB", "wandb")
        self._run: Any = None

    def open(self, epoch: int, step: int) -> None:
        """Find the active run."""
        del epoch, step
        self._run = import_module("wandb").run
        if self._run is None:
            raise _no_run("Weights & Biases", "with wandb.init(project=...): engine.fit(...)")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row."""
        self._run.log(dict(values), step=step)

    def flush(self) -> None:
        """It sends what it has by itself."""

    def close(self) -> None:
        """Let go of the run."""
        self._run = None


class MLflow:
    """The numbers in the run of MLflow that is active when a training begins: `mlflow.start_run()` made it.

    It is not ended here, but where it was begun: `with mlflow.start_run(): engine.fit(...)`.

    Raises:
        ArgumentRefused: mlflow is not installed; when a training begins, no run is active.
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
