"""Will anybody measure what a callback monitors?  Looked at before the first batch: a misspelt name costs no epoch.

Anybody who gets the run may put a number into `run.metrics`.  So this is known only where nobody listens but callbacks
of the engine: all that they put there is in their `measures`.
"""

from collections.abc import Iterable, Mapping, Sequence

from engine.errors import ArgumentRefused, hint
from engine.listeners import Listener
from engine.measuring.meter import MetricFunction, MetricObject


def check_monitored(
    listeners: Sequence[Listener], metrics: Mapping[str, MetricFunction | MetricObject] | None, *, validates: bool
) -> None:
    """Refuse a metric that cannot come; where somebody else listens, it is told at the end of the first epoch.

    Args:
        listeners: Everyone who listens; `monitor` is the metric that one looks at, `measures` what one gives.
        metrics: Those of the engine; `None` if it measures nothing, not even the loss.
        validates: Whether there is a loader for validations.

    Raises:
        ArgumentRefused: nobody measures that.
    """
    if not all(type(listener.source).__module__.startswith("engine.") for listener in listeners):
        return
    passes = ("train", "valid") if validates else ("train",)
    own = [] if metrics is None else [f"{one}_{name}" for one in passes for name in ("loss", *metrics)]
    known = [*own, *_given(listeners)]
    # A metric object may give several numbers, each with a name behind its own: `valid_scores_f1`.
    several = [name for name, metric in (metrics or {}).items() if isinstance(metric, MetricObject)]
    begins = tuple(f"{one}_{name}_" for one in passes for name in several)
    for listener in listeners:
        name = getattr(listener.source, "monitor", None)
        if name is not None and name not in known and not name.startswith(begins):
            raise _unmeasured(listener.name, name, known, validates=validates)


def _given(listeners: Sequence[Listener]) -> Iterable[str]:
    return (name for listener in listeners for name in getattr(listener.source, "measures", ()))


def _unmeasured(who: str, name: str, known: Sequence[str], *, validates: bool) -> ArgumentRefused:
    instead = hint(name, known) if known else "leave metrics out: the mean loss is measured then"
    if name.startswith("valid_") and not validates:
        instead = "pass valid_loader to fit, or monitor what the training measures"
    return ArgumentRefused(
        f"{who} monitors {name!r}, and nobody measures that", allowed=", ".join(known) or "nothing", instead=instead
    )
