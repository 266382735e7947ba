"""What will one of torch's own schedules write?  A copy of it is stepped, and nothing is trained."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from engine.errors import ArgumentRefused


# What torch says of a schedule that is stepped without its optimizer.
UNSTEPPED = "Detected call of `lr_scheduler.step|Seems like `optimizer.step"


def foreseen(
    scheduler: LRScheduler, names: Sequence[str], epochs: int, batches: int, *, by_epoch: bool
) -> dict[str, dict[str, list[float]]]:
    """From where the schedule stands, a value for each batch, by hyperparameter and by group where there are several.

    Args:
        scheduler: It stays as it is; a function that it was given is called.
        names: The hyperparameters; "beta1" is the first of `betas`.
        epochs: How many epochs are looked at.
        batches: How many batches each of them has.
        by_epoch: Whether it is stepped once for each epoch; else once for each batch.

    Raises:
        ArgumentRefused: the schedule ends before.

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
            if batch and (not by_epoch or batch % batches == 0):
                _step(copied)
            for name, lines in values.items():
                for label, line in lines.items():
                    line.append(_number(labelled[label], name))
    return values


def parts(scheduler: LRScheduler) -> Iterator[LRScheduler]:
    """A schedule, and those that it is put together from, as `SequentialLR` and `ChainedScheduler` are."""
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from parts(part)


def _copied(scheduler: LRScheduler) -> LRScheduler:
    """A copy with an optimizer of its own; parameters and the user's functions are shared, states are left out."""
    groups, state = scheduler.optimizer.param_groups, scheduler.optimizer.state
    shared: list[Any] = [parameter for group in groups for parameter in group["params"]]
    for part in parts(scheduler):
        functions = [*getattr(part, "lr_lambdas", ()), getattr(part, "_scale_fn_custom", None)]
        shared += [*functions, *(getattr(function, "__self__", None) for function in functions)]
    stepped = {id(scheduler.optimizer), *map(id, parts(scheduler))}  # a function may be a method of one of these
    kept: dict[int, Any] = {id(one): one for one in shared if id(one) not in stepped}
    return deepcopy(scheduler, {**kept, id(state): defaultdict(dict)})


def _step(scheduler: LRScheduler) -> None:
    try:
        scheduler.step()
    except ValueError as error:
        raise ArgumentRefused(
            f"{type(scheduler).__name__} cannot be stepped so often: {error}",
            allowed="as many steps as it was made for, less those that it has taken",
            instead="ask for fewer epochs or batches",
        ) from error


def _number(group: Mapping[str, Any], name: str) -> float:
    return float(group["betas"][0] if name == "beta1" else group[name])
