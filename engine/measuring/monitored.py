"""Did a metric improve?  Which one is meant, what it was in the epoch that ends, and whether that is better."""

from collections.abc import Mapping
from math import inf
from numbers import Real
from typing import Any, Literal

from attrs import frozen

from engine.check import is_number
from engine.errors import ArgumentRefused, MetricRefused, hint
from engine.run import Run
from states import Guard
from states.errors import shown, typed


Mode = Literal["min", "max"]


@frozen
class Monitored:
    """A metric by the name that it has in `run.metrics`, and which of two values is the better one.

    Args:
        monitor: The name, for example "valid_loss".
        mode: "min" where less is better, "max" where more is; nothing is guessed from the name.
        min_delta: By more than this a value has to be better than the best one to be an improvement.

    Raises:
        ArgumentRefused: a name that is no text, another mode, a *min_delta* that is no number of 0 or more.

    Example:
        >>> loss = Monitored("valid_loss", "min", min_delta=0.1)
        >>> loss.improves(0.5, loss.worst), loss.improves(0.4, 0.5), loss.improves(0.3, 0.5)
        (True, False, True)
        >>> loss.improves(float("nan"), loss.worst)
        False
    """

    monitor: str
    mode: Mode
    min_delta: float = 0.0

    def __attrs_post_init__(self) -> None:
        """Refuse what names no metric, or orders no values."""
        if not isinstance(self.monitor, str) or not self.monitor:
            raise ArgumentRefused(
                f"monitor is {shown(self.monitor)}, {typed(self.monitor)}",
                allowed="the name of a metric",
                instead='write monitor="valid_loss", mode="min"',
            )
        if self.mode not in ("min", "max"):
            raise ArgumentRefused(
                f"mode is {shown(self.mode)}",
                allowed="'min', 'max'",
                instead=f"say mode='min' where less of {self.monitor} is better, and 'max' where more is",
            )
        if not is_number(self.min_delta) or self.min_delta < 0:
            raise ArgumentRefused(
                f"min_delta is {shown(self.min_delta)}, {typed(self.min_delta)}",
                allowed="a number, 0 or more, in the unit of the metric",
                instead="leave it out for 0",
            )

    @property
    def worst(self) -> float:
        """What any number is better than: where the search for the best one begins."""
        return inf if self.mode == "min" else -inf

    def improves(self, value: float, best: float) -> bool:
        """Whether a value is better than the best so far, by more than *min_delta*; nan never is."""
        return value < best - self.min_delta if self.mode == "min" else value > best + self.min_delta

    def value(self, run: Run) -> float | None:
        """What was measured in the epoch that ends; `None` if it was stopped, or its validation was left out.

        Raises:
            ArgumentRefused: nobody has measured that; those that were measured are listed.
            MetricRefused: it is no number.
        """
        if run.stopping:
            return None
        if self.monitor not in run.metrics:
            if not self.monitor.startswith("train_") and _validation_left_out(run):
                return None
            raise self._unknown(run)
        value: object = run.metrics[self.monitor]  # a callback may have put anything there
        if not isinstance(value, Real):
            raise MetricRefused(
                f"{self.monitor} is {shown(value)}, {typed(value)}, at the end of epoch {run.epoch}",
                allowed="a number",
                instead="put a number into run.metrics; of a tensor, its .item()",
            )
        return float(value)

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of one who looked at another metric: its best value means nothing here."""
        if list(state["monitored"]) != self.named:
            was, mode = state["monitored"]
            raise ArgumentRefused(
                f"the state is of monitor={was!r}, mode={mode!r}",
                allowed=f"one of monitor={self.monitor!r}, mode={self.mode!r}",
                instead="monitor what was monitored when it was saved",
            )

    @property
    def named(self) -> list[str]:
        """Metric and mode, for a state: under the key "monitored"."""
        return [self.monitor, self.mode]

    def _unknown(self, run: Run) -> ArgumentRefused:
        known = ", ".join(run.metrics) or "nothing: the engine was made with metrics=None"
        instead = hint(self.monitor, run.metrics) if run.metrics else "leave it out: the mean loss is measured then"
        if self.monitor.startswith("valid_") and run.valid_loader is None:
            instead = "pass valid_loader to fit, or monitor what the training measures"
        return ArgumentRefused(
            f"monitor is {self.monitor!r}, and nobody had measured that at the end of epoch {run.epoch}",
            allowed=known,
            instead=instead,
        )


def _validation_left_out(run: Run) -> bool:
    """Whether this epoch had no validation, though there is a loader for one.

    A guard said so; or, whatever led round it, the training has its loss and no validation has one.
    """
    if any(tally.guard is Guard.SKIP_VALIDATE and tally.last_epoch == run.epoch for tally in run.skips):
        return True
    validated = any(name.startswith("valid_") for name in run.metrics)
    return run.valid_loader is not None and "train_loss" in run.metrics and not validated
