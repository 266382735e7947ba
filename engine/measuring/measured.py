"""Will anybody measure what a callback monitors?  Looked at before the first batch: a misspelt name costs no epoch."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

from engine.errors import ArgumentRefused
from engine.listeners import Listener
from engine.measuring.meter import MetricFunction, MetricObject


# What stands before the name of a metric in `run.metrics`.
TRAIN, VALID = "train_", "valid_"
# How much alike two names are of which one seems to be the other, misspelt.
ALIKE = 0.8


def check_monitored(
    listeners: Sequence[Listener],
    metrics: Mapping[str, MetricFunction | MetricObject] | None,
    *,
    validates: bool,
    alone: bool,
) -> None:
    """Refuse a metric that cannot come; warn of one that looks misspelt, where code of the user's own might give it.

    Args:
        listeners: Everyone who listens; `monitor` is the metric that one looks at, `measures` what one gives.
        metrics: Those of the engine; `None` if it measures nothing: then no more is known.
        validates: Whether there may be a validation.
        alone: Whether no action and no loop of the user's own has the run in hand.

    Raises:
        ArgumentRefused: nobody listens but callbacks of the engine, and none of them measures that.
    """
    if metrics is None:
        return
    known = _known(metrics, listeners, validates=validates)
    alone = alone and all(type(listener.source).__module__.split(".")[0] == "engine" for listener in listeners)
    for listener in listeners:
        name = getattr(listener.source, "monitor", None)
        if not isinstance(name, str) or name in known or _in_a_collection(name, metrics):
            continue
        near = _near(name, known)
        what, instead = f"{listener.name} monitors {name!r}, and nobody measures that", _instead(name, near, validates)
        if alone:
            raise ArgumentRefused(what, allowed=", ".join(known), instead=instead)
        if near:
            text = f"{what}: {instead}; if no callback puts it into run.metrics, the first epoch ends with an error"
            warnings.warn(text, stacklevel=3)


def _known(metrics: Collection[str], listeners: Sequence[Listener], *, validates: bool) -> list[str]:
    """The names that will be in `run.metrics` when an epoch ends, as far as anybody said."""
    prefixes = (TRAIN, VALID) if validates else (TRAIN,)
    own = [f"{prefix}{name}" for prefix in prefixes for name in ("loss", *metrics)]
    told = (getattr(listener.source, "measures", None) for listener in listeners)
    return [*own, *(name for names in told if isinstance(names, tuple) for name in names)]  # others mean something else


def _in_a_collection(name: str, metrics: Mapping[str, object]) -> bool:
    """Whether it may be one of the numbers of a `torchmetrics` metric that gives several: `valid_scores_f1`."""
    several = [metric for metric, given in metrics.items() if isinstance(given, MetricObject)]
    return name.startswith(tuple(f"{prefix}{metric}_" for prefix in (TRAIN, VALID) for metric in several))


def _near(name: str, known: Collection[str]) -> list[str]:
    """The known names that may be meant: the same without its pass, or nearly; those of its own pass if there are.

    Example:
        >>> _near("acuracy", ["train_loss", "train_accuracy", "valid_loss", "valid_accuracy"])
        ['train_accuracy', 'valid_accuracy']
        >>> _near("val_loss", ["train_loss", "valid_loss"]), _near("valid_score", ["train_loss", "valid_loss"])
        (['valid_loss'], [])
    """
    bare = {one: _bare(one) for one in known}
    meant = get_close_matches(_bare(name), bare.values(), n=1, cutoff=ALIKE)
    near = [one for one in known if bare[one] in meant]
    return [one for one in near if one[:3] == name[:3]] or near


def _bare(name: str) -> str:
    """A name without what other libraries and we write before it."""
    for prefix in (TRAIN, VALID, "val_"):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _instead(name: str, near: Sequence[str], validates: bool) -> str:
    if name.startswith(VALID) and not validates:
        return "pass valid_loader to fit, or monitor what the training measures"
    return f"did you mean {' or '.join(map(repr, near))}?" if near else "take one of these"
