"""What will one of torch's own schedules write?  A copy of it is stepped, and nothing is trained."""

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch.optim.lr_scheduler import LRScheduler


# What torch says of a schedule that is stepped without its optimizer.
UNSTEPPED = "Detected call of `lr_scheduler.step|Seems like `optimizer.step"


def foreseen(
    scheduler: LRScheduler, names: Sequence[str], epochs: int, batches: int, *, by_epoch: bool
) -> dict[str, dict[str, list[float]]]:
    """From where the schedule stands, a value for each batch, by hyperparameter and by group where there are several.

    Args:
        scheduler: It stays as it is.
        names: The hyperparameters; "beta1" is the first of `betas`.
        epochs: How many epochs are looked at.
        batches: How many batches each of them has.
        by_epoch: Whether it is stepped once for each epoch; else once for each batch.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> halve = torch.optim.lr_scheduler.ExponentialLR(sgd, gamma=0.5)
        >>> foreseen(halve, ["lr"], epochs=2, batches=2, by_epoch=True), sgd.param_groups[0]["lr"]
        ({'lr': {'': [1.0, 1.0, 0.5, 0.5]}}, 1.0)
    """
    copied = _copied(scheduler)
    groups = copied.optimizer.param_groups
    labelled = {f"group {number}" if len(groups) > 1 else "": group for number, group in enumerate(groups)}
    values: dict[str, dict[str, list[float]]] = {name: {label: [] for label in labelled} for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", UNSTEPPED, UserWarning)
        for batch in range(epochs * batches):
            for name, lines in values.items():
                for label, line in lines.items():
                    line.append(_number(labelled[label], name))
            if not by_epoch or (batch + 1) % batches == 0:
                copied.step()
    return values


def _copied(scheduler: LRScheduler) -> LRScheduler:
    """A copy that has an optimizer of its own; the parameters are shared, and what is kept for them is left out."""
    optimizer = scheduler.optimizer
    kept: dict[int, Any] = {
        id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]
    }
    kept[id(optimizer.state)] = defaultdict(dict)
    return deepcopy(scheduler, kept)


def _number(group: Mapping[str, Any], name: str) -> float:
    return float(group["betas"][0] if name == "beta1" else group[name])
