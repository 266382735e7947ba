"""When is the learning rate too high to get any better?  Reduces it where a metric no longer improves."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from torch import optim
from torch.optim import lr_scheduler

from engine.check import check_count
from engine.errors import ArgumentRefused, OptimizerRefused
from engine.listeners import Callback
from engine.measuring.monitored import Mode, Monitored
from engine.run import Run
from engine.several import Optimizers
from states.errors import shown, typed


# What changes in torch's schedule while it runs.
STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


class ReduceLROnPlateau(Callback):
    """Multiply the learning rates by *factor* when a metric has not improved for *patience* epochs in a row.

    The work is done by `torch.optim.lr_scheduler.ReduceLROnPlateau` with threshold=min_delta, threshold_mode="abs"; of
    several optimizers each has one, all look at the same metric.  Patience means what it means in `EarlyStopping`, with
    patience=1 the first epoch that does not improve reduces; torch's class counts one less, and is given patience - 1.
    An epoch that was stopped in the middle, or had no validation, is passed over.

    Args:
        monitor: The metric, as it is called in `run.metrics`.
        mode: "min" or "max": which values are better.
        patience: Epochs, 1 or more.
        factor: Above 0 and below 1.
        min_lr: No learning rate gets below it; 0 or more.
        min_delta: 0 or more, in the unit of the metric.
        cooldown: After a reduction, epochs in which nothing is counted.

    Raises:
        ArgumentRefused: an argument that has no meaning; when a training starts, a metric that cannot come; at the end
            of an epoch, one that did not.
        OptimizerRefused: the engine has no optimizer.
        CallbackRefused: another callback writes a learning rate, too.

    Cost per batch: none.  A learning rate that is a tensor is read and filled once an epoch.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks.reduce_on_plateau import ReduceLROnPlateau
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.5)
        >>> reduce = ReduceLROnPlateau(monitor="train_loss", mode="max", patience=2, factor=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[reduce])
        >>> run = engine.fit([(torch.zeros(4, 2), torch.zeros(4, 1))], epochs=3)
        >>> sgd.param_groups[0]["lr"]
        0.05
    """

    order = 200

    def __init__(
        self,
        *,
        monitor: str,
        mode: Mode,
        patience: int,
        factor: float = 0.1,
        min_lr: float = 0.0,
        min_delta: float = 0.0,
        cooldown: int = 0,
    ) -> None:
        self._monitored, self.monitor = Monitored(monitor, mode, min_delta), monitor
        check_count("patience", patience, least=1)
        check_count("cooldown", cooldown)
        _check("factor", factor, "a number above 0 and below 1", fits=0 < _number(factor) < 1)
        _check("min_lr", min_lr, "a number, 0 or more", fits=_number(min_lr) >= 0)
        self.patience, self.factor, self.min_lr, self.cooldown = patience, factor, min_lr, cooldown
        # Torch's schedules while a run goes on, one for each optimizer; and what all of them count, by torch's names.
        self._schedules: list[lr_scheduler.ReduceLROnPlateau] = []
        self._state: dict[str, Any] = {}

    def writes(self, param_groups: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
        """The learning rates of all groups."""
        return [(number, "lr") for number in range(len(param_groups))]

    def on_train_begin(self, run: Run) -> None:
        """Make torch's schedules; they begin anew, unless the run goes on from an earlier one."""
        if run.optimizer is None:
            raise OptimizerRefused(
                "ReduceLROnPlateau was given an engine without an optimizer",
                allowed="an optimizer, or several by name",
                instead="pass it to Engine(model, loss_fn, optimizer)",
            )
        if run.epoch == 0:
            self._state = {}
        optimizers = run.optimizer.values() if isinstance(run.optimizer, Optimizers) else (run.optimizer,)
        self._schedules = [self._schedule(optimizer) for optimizer in optimizers]

    def on_epoch_end(self, run: Run) -> None:
        """Look at the metric, and reduce if it is time to."""
        value = self._monitored.value(run)
        if value is None:
            return
        for schedule in self._schedules:
            schedule.step(value)
            self._state = {name: getattr(schedule, name) for name in STATE}

    def on_train_end(self, run: Run) -> None:
        """Let go of the optimizer."""
        del run
        self._schedules = []

    def state_dict(self) -> dict[str, Any]:
        """What torch's schedule counts; the learning rates themselves are in the state of the optimizer."""
        return {"monitored": self._monitored.named, "schedule": dict(self._state)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, when a run begins at a later epoch."""
        self._monitored.check_state(state)
        self._state = {name: state["schedule"][name] for name in STATE} if state["schedule"] else {}

    def _schedule(self, optimizer: optim.Optimizer) -> lr_scheduler.ReduceLROnPlateau:
        schedule = lr_scheduler.ReduceLROnPlateau(
            optimizer,
            self._monitored.mode,
            self.factor,
            self.patience - 1,
            self._monitored.min_delta,
            "abs",
            self.cooldown,
            self.min_lr,
        )
        schedule.load_state_dict(self._state)
        return schedule


def _number(value: object) -> float:
    """A number as it is; what is none fits nowhere."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def _check(name: str, value: object, allowed: str, *, fits: bool) -> None:
    if not fits or not isfinite(_number(value)):
        raise ArgumentRefused(
            f"{name} is {shown(value)}, {typed(value)}", allowed=allowed, instead="leave it out for the default"
        )
