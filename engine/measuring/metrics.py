"""How well did it go?  Mean loss and metrics of each pass over a loader, read from the device once per pass.

The engine's own callback is the first to hear, and uses nothing that a user's callback could not use.
"""

from collections.abc import Mapping
from copy import deepcopy
from inspect import isclass

from engine.errors import ArgumentRefused
from engine.listeners import Callback
from engine.measuring.meter import Meter, MetricFunction, MetricObject
from engine.run import Run
from states.errors import shown, typed


class Records(Callback):
    """Write a record of each epoch into `run.history`; before all others.  An epoch that was stopped leaves none."""

    order = -100

    def __init__(self) -> None:
        # The numbers of this epoch's validation, those that callbacks behind this one put there too.
        self._validated: Mapping[str, float] = {}

    def on_epoch_begin(self, run: Run) -> None:
        """Forget the last epoch's numbers."""
        run.metrics, self._validated = {}, {}

    def on_validate_end(self, run: Run) -> None:
        """Hold the numbers of the validation: its training gets those that are still to come when the epoch ends."""
        if run.parent is not None:
            self._validated = run.metrics

    def on_epoch_end(self, run: Run) -> None:
        """Keep what is in `run.metrics`."""
        for name, value in self._validated.items():
            run.metrics.setdefault(name, value)
        if not run.stopping:
            run.history.append({"epoch": run.epoch, "updates": run.updates, **run.metrics})


class Metrics(Records):
    """Fill `run.metrics` with the mean loss and the metrics of each pass over a loader, and `run.history`."""

    def __init__(self, metrics: Mapping[str, MetricFunction | MetricObject]) -> None:
        if not isinstance(metrics, Mapping):
            raise ArgumentRefused(
                f"metrics is {typed(metrics)}",
                allowed="a dict of names and metrics; None to measure nothing, not even the mean loss",
                instead='write metrics={"accuracy": ...}',
            )
        for name, metric in metrics.items():
            if name == "loss":
                raise ArgumentRefused(
                    f"the metric {shown(metric)} is called 'loss'",
                    allowed="any other name",
                    instead="call it what it measures; train_loss and valid_loss are there already",
                )
            if isclass(metric) or (not isinstance(metric, MetricObject) and not callable(metric)):
                raise ArgumentRefused(
                    f"the metric {name!r} is {shown(metric)}",
                    allowed="a function (output, target) -> tensor, or a torchmetrics metric",
                    instead="pass the function itself, or an instance of the metric",
                )
            if isinstance(metric, MetricObject):
                _copied(name, metric)
        super().__init__()
        self.objects = {name: metric for name, metric in metrics.items() if isinstance(metric, MetricObject)}
        self.functions: dict[str, MetricFunction] = {
            name: metric for name, metric in metrics.items() if not isinstance(metric, MetricObject)
        }

    def on_epoch_begin(self, run: Run) -> None:
        """Start the training's sums."""
        super().on_epoch_begin(run)
        run.meter = self._meter("train", run)

    def on_loss_end(self, run: Run) -> None:
        """Take in a training batch."""
        if run.meter is None:  # a machine without epochs
            run.meter = self._meter("train", run)
        run.meter.add(run)

    def on_epoch_end(self, run: Run) -> None:
        """Read the training's values, of a stopped epoch too; write the record of one that was not stopped."""
        if run.meter is None:
            return
        run.metrics = {**run.meter.read(), **run.metrics}
        super().on_epoch_end(run)

    def on_validate_begin(self, run: Run) -> None:
        """Start the validation's sums."""
        run.meter = self._meter("valid", run)

    def on_validate_loss_end(self, run: Run) -> None:
        """Take in a validation batch."""
        if run.meter is None:  # a machine with a begin of its own
            run.meter = self._meter("valid", run)
        run.meter.add(run)

    def on_validate_end(self, run: Run) -> None:
        """Read the validation's values, for those around it too."""
        if run.meter is not None:
            run.metrics = run.meter.read()
            for outer in run.around:
                outer.metrics.update(run.metrics)
        super().on_validate_end(run)

    def _meter(self, prefix: str, run: Run) -> Meter:
        return Meter(prefix, self.functions, {name: _fresh(name, metric, run) for name, metric in self.objects.items()})


def _fresh(name: str, metric: MetricObject, run: Run) -> MetricObject:
    """A copy with its own sums, on the run's device."""
    fresh = _copied(name, metric)
    fresh.reset()
    move = getattr(fresh, "to", None)
    return fresh if move is None else move(run.device)


def _copied(name: str, metric: MetricObject) -> MetricObject:
    """A copy: each pass over a loader has its own sums.  What cannot be copied is refused before any run."""
    try:
        return deepcopy(metric)
    except Exception as error:
        raise ArgumentRefused(
            f"the metric {name!r} is {typed(metric)} that cannot be copied: {error}",
            allowed="a metric that copy.deepcopy can copy: each pass over a loader has sums of its own",
            instead="keep locks, files and handles out of it, or compute it in a callback",
        ) from error
