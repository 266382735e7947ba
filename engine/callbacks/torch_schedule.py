"""When does one of torch's own schedules step?  After the batches, epochs or optimizer steps that it counts."""

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from engine.check import check_count
from engine.errors import ArgumentRefused, OptimizerRefused
from engine.listeners import Callback
from engine.measuring.monitored import Monitored
from engine.run import Run
from engine.schedules.foreseen import foreseen, parts
from engine.schedules.picture import by_name, draw
from engine.several import Optimizers
from states.errors import shown, typed


if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = ("epoch", "batch", "update")


class TorchSchedule(Callback):
    """Step a schedule of `torch.optim.lr_scheduler`, once for each epoch, batch or optimizer step.

    - By "epoch": when an epoch has ended, validation included; not for one that was stopped.
    - By "batch": for each batch that has ended, skipped ones and those of an open window too.  The step comes before
      the next batch, or at the end of the epoch: behind the optimizer's, where the last window is part-filled too.
    - By "update": for each step of the optimizer, so once for each window of batches under accumulation.

    The schedule is yours and keeps its place: a second `fit` goes on where the first has ended, as in a loop of your
    own.  torch's warning that it was stepped before the optimizer is not raised where the first steps were skipped.

    Args:
        scheduler: One that was made for the optimizer of the engine, or for one of several.
        by: What it counts.  `OneCycleLR(total_steps=epochs * len(loader))` counts batches.
        monitor: For `ReduceLROnPlateau`: the name in `run.metrics` of the number that it looks at, at the end of each
            epoch.  An epoch whose validation was skipped is not looked at, if it has no such number.  Such a one is
            called behind those who measure: its order is 200, as that of our own `ReduceLROnPlateau`.

    Raises:
        ArgumentRefused: what is no such schedule; another unit; a *monitor* without `ReduceLROnPlateau`, or the
            reverse; when a training starts, a metric that cannot come; at the end of an epoch, one that did not.
        MetricRefused: at the end of an epoch: it is no number.
        OptimizerRefused: when a training starts: the schedule was made for another optimizer.
        CallbackRefused: when a training starts: another callback writes the same hyperparameter of a group.

    Cost per batch: by "batch", the step of the schedule; else two comparisons.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.8)
        >>> halve = TorchSchedule(torch.optim.lr_scheduler.ExponentialLR(sgd, gamma=0.5))
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[halve])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 8, epochs=3)
        >>> sgd.param_groups[0]["lr"]
        0.1
        >>> halve.values(epochs=2, batches=1)  # what comes next; preview() draws it
        {'lr': [0.1, 0.05]}
    """

    order = -50

    def __init__(
        self, scheduler: LRScheduler, *, by: Literal["epoch", "batch", "update"] = "epoch", monitor: str | None = None
    ) -> None:
        _check(scheduler, by, monitor)
        self.scheduler, self.by, self.monitor = scheduler, by, monitor
        self._monitored: Monitored | None = None
        if monitor is not None and isinstance(scheduler, ReduceLROnPlateau):
            self._monitored, self.order = Monitored(monitor, scheduler.mode), 200  # behind those who measure
        # Whether a batch has ended for which the schedule has not stepped; the optimizer steps for which it has.
        self._due, self._updates = False, 0

    def writes(self, param_groups: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
        """What is written of which group: two callbacks that write the same are refused."""
        own = [id(group) for group in self.scheduler.optimizer.param_groups]
        numbers = [number for number, group in enumerate(param_groups) if id(group) in own]
        names = sorted({"lr", *(name for part in parts(self.scheduler) for name in _cycled(part))})
        return [(number, name) for number in numbers for name in names]

    def on_train_begin(self, run: Run) -> None:
        """Refuse the schedule of another optimizer."""
        optimizers = list(run.optimizer.values()) if isinstance(run.optimizer, Optimizers) else [run.optimizer]
        if not any(self.scheduler.optimizer is optimizer for optimizer in optimizers):
            raise OptimizerRefused(
                f"{type(self.scheduler).__name__} was made for another {type(self.scheduler.optimizer).__name__} than "
                "the engine steps",
                allowed="a schedule of the engine's own optimizer",
                instead="write optimizer = ...; scheduler = ...LR(optimizer, ...); "
                "Engine(model, loss_fn, optimizer, [TorchSchedule(scheduler)])",
            )
        if run.epoch == 0:
            self._due = False

    def on_epoch_begin(self, run: Run) -> None:
        """No update yet."""
        self._updates = run.updates

    def on_batch_begin(self, run: Run) -> None:
        """Step for the batch before: its window has been stepped."""
        if self._due:
            self._step(run)

    def on_batch_end(self, run: Run) -> None:
        """A step is due for this batch, or for the optimizer's."""
        self._due = self.by == "batch"
        if run.updates != self._updates and self.by == "update":
            self._step(run)

    def on_epoch_end(self, run: Run) -> None:
        """Step for the epoch, or for what was left open."""
        if self._monitored is not None:
            value = self._monitored.value(run)
            if value is not None:
                self.scheduler.step(value)  # type: ignore[arg-type]  # what it looks at: ReduceLROnPlateau
        elif self.by == "epoch":
            if not run.stopping:
                self._step(run)
        elif self._due or (self.by == "update" and run.updates != self._updates):
            self._step(run)

    def state_dict(self) -> dict[str, Any]:
        """The state of the schedule, and whether a batch has ended for which it has not stepped."""
        return {"scheduler": self.scheduler.state_dict(), "due": self._due}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.scheduler.load_state_dict(dict(state["scheduler"]))  # torch takes things out of it
        self._due = state["due"]

    def values(self, epochs: int, batches: int) -> dict[str, list[float]]:
        """What it would write from where it stands, at each batch of so many epochs that draw so many batches.

        A copy is stepped; by "update" once for each batch.  Where there are several groups, one list is called "lr of
        group 0", another "lr of group 1".

        Raises:
            ArgumentRefused: *epochs* or *batches* is no whole number above 0; the schedule ends before; what
                `ReduceLROnPlateau` writes follows from numbers that are not there yet.
        """
        return by_name(self._courses(epochs, batches))

    def preview(self, epochs: int, batches: int, path: str | PathLike[str] | None = None) -> "Figure":
        """A picture of those values, a `matplotlib.figure.Figure`; written to *path* too, if there is one.

        Raises:
            ArgumentRefused: as `values`.
            PicturesMissing: matplotlib is not installed.
        """
        return draw(self._courses(epochs, batches), epochs, batches, path)

    def _courses(self, epochs: int, batches: int) -> dict[str, dict[str, list[float]]]:
        check_count("epochs", epochs, least=1)
        check_count("batches", batches, least=1)
        if self._monitored is not None:
            raise ArgumentRefused(
                f"{type(self.scheduler).__name__} was asked what it will write",
                allowed="any schedule that looks at no number",
                instead="engine.recorder.plot_lr() shows what it wrote",
            )
        names = list(dict.fromkeys(name for _, name in self.writes(self.scheduler.optimizer.param_groups)))
        return foreseen(self.scheduler, names, epochs, batches, by_epoch=self.by == "epoch")

    def _step(self, run: Run) -> None:
        """Step.  Before the optimizer has, because its first steps were skipped, torch would think it an oversight."""
        self._due, self._updates = False, run.updates
        if run.updates:
            self.scheduler.step()
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step\\(\\)` before", UserWarning)
            self.scheduler.step()


def _check(scheduler: object, by: str, monitor: object) -> None:
    if not isinstance(scheduler, LRScheduler):
        raise ArgumentRefused(
            f"TorchSchedule was given {shown(scheduler)}, {typed(scheduler)}",
            allowed="a schedule of torch.optim.lr_scheduler",
            instead="write TorchSchedule(torch.optim.lr_scheduler.StepLR(optimizer, 10)); curves are for Schedule",
        )
    if by not in UNITS:
        raise ArgumentRefused(
            f"by is {shown(by)}", allowed=", ".join(map(repr, UNITS)), instead="leave it out for 'epoch'"
        )
    name, plateau = type(scheduler).__name__, isinstance(scheduler, ReduceLROnPlateau)
    if plateau and (not isinstance(monitor, str) or by != "epoch"):
        raise ArgumentRefused(
            f"{name} was given with monitor={shown(monitor)} and by={by!r}",
            allowed="the name of the number that it looks at, at the end of each epoch",
            instead=f"write TorchSchedule({name}(...), monitor='valid_loss')",
        )
    if monitor is not None and not plateau:
        raise ArgumentRefused(
            f"{name} was given with monitor={shown(monitor)}, and looks at no number",
            allowed="None for all schedules but ReduceLROnPlateau",
            instead="leave it out",
        )


def _cycled(scheduler: LRScheduler) -> tuple[str, ...]:
    """What `OneCycleLR` and `CyclicLR` write beside lr."""
    if not getattr(scheduler, "cycle_momentum", False):
        return ()
    return ("beta1",) if getattr(scheduler, "use_beta1", False) else ("momentum",)
