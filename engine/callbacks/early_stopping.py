"""When does it no longer get better?  Stops the run after so many epochs in a row without improvement."""

from collections.abc import Mapping
from typing import Any

from engine.check import check_count
from engine.listeners import Callback
from engine.measuring.monitored import Mode, Monitored
from engine.run import Run


class EarlyStopping(Callback):
    """Stop when a metric has not improved for *patience* epochs in a row.

    Said exactly: an epoch improves if its value is better than the best so far by more than *min_delta*; nan and the
    first inf never do.  After *patience* epochs in a row that do not improve, the run is stopped: with patience=1 after
    the first of them.  An epoch that was stopped in the middle, or had no validation, is passed over.  `run.stops`
    shows metric, best value and its epoch.  If that was the last epoch anyway, the stop comes too late: COMPLETED.  A
    run that goes on from there (`start_epoch`) is stopped before its first epoch, as one run would have been.

    The weights stay those of the last epoch; `Checkpoint` with the same monitor keeps the best ones.

    Args:
        monitor: The metric, as it is called in `run.metrics`.
        mode: "min" or "max": which values are better.
        patience: Epochs, 1 or more.
        min_delta: 0 or more, in the unit of the metric.

    Attributes:
        best: The best value so far; the worst there is before the first.
        best_epoch: Its epoch, counted from 0; -1 before the first.
        waited: Epochs in a row without improvement.

    Raises:
        ArgumentRefused: an argument that has no meaning; when a training starts, a metric that cannot come; at the end
            of an epoch, one that did not.

    Cost per batch: none.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks.early_stopping import EarlyStopping
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.0)
        >>> stopping = EarlyStopping(monitor="train_loss", mode="min", patience=3)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[stopping])
        >>> engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))], epochs=100).epoch
        4
    """

    order = 210

    def __init__(self, *, monitor: str, mode: Mode, patience: int, min_delta: float = 0.0) -> None:
        self._monitored, self.monitor = Monitored(monitor, mode, min_delta), monitor
        check_count("patience", patience, least=1)
        self.patience = patience
        self.best, self.best_epoch, self.waited = self._monitored.worst, -1, 0

    def on_train_begin(self, run: Run) -> None:
        """Begin anew, unless the run goes on from an earlier one; it does not go on where that was to be stopped."""
        if run.epoch == 0:
            self.best, self.best_epoch, self.waited = self._monitored.worst, -1, 0
        elif self.waited >= self.patience:
            run.stop(self._reason())

    def on_epoch_end(self, run: Run) -> None:
        """Look at the metric."""
        value = self._monitored.value(run)
        if value is None:
            return
        if self._monitored.improves(value, self.best):
            self.best, self.best_epoch, self.waited = value, run.epoch, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            run.stop(self._reason())

    def state_dict(self) -> dict[str, Any]:
        """The best value, its epoch, and the epochs since."""
        state = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return {"monitored": self._monitored.named, **state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._monitored.check_state(state)
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]

    def __repr__(self) -> str:
        """One line: the metric, how long it may not improve, and how that is going."""
        had = self._had if self.best_epoch >= 0 else "it has no best yet"
        return f"<EarlyStopping: {self._monitored.monitor}, waited {self.waited} of {self.patience}; {had}>"

    @property
    def _had(self) -> str:
        return f"its best is {self.best:.6g}, of epoch {self.best_epoch}"

    def _reason(self) -> str:
        had = self._had if self.best_epoch >= 0 else "it never had a best"
        epochs = f"{self.waited} epoch{'' if self.waited == 1 else 's'}"
        name = self._monitored.monitor
        return f"EarlyStopping: {name} has not improved for {epochs} (patience {self.patience}); {had}"
