"""Do two callbacks write the same hyperparameter?  The second would win in silence, so both are named."""

from collections.abc import Sequence
from typing import Any

from engine.errors import CallbackRefused
from engine.listeners import Listener


def check_writers(listeners: Sequence[Listener], param_groups: Sequence[dict[str, Any]]) -> None:
    """Refuse callbacks of which two write the same hyperparameter of the same group.

    Args:
        listeners: Everyone who listens; those with a method `writes(param_groups)` say what they write.
        param_groups: The groups of the optimizer, or of all of them.

    Raises:
        CallbackRefused: both are named, and what they write.

    Example:
        >>> from engine.running.registry import Registry
        >>> from engine.vocabulary import Vocabulary
        >>> from states import TRAINING
        >>> class Halve:
        ...     def on_epoch_end(self, run): ...
        ...     def writes(self, param_groups):
        ...         return [(0, "lr")]
        >>> registry = Registry(Vocabulary.of(TRAINING))
        >>> for callback in (Halve(), Halve()):
        ...     registry.add(registry.listening(callback))
        >>> check_writers(registry.listeners, [{"params": [], "lr": 0.1}])
        Traceback (most recent call last):
            ...
        engine.errors.CallbackRefused: Halve and Halve#2 both write lr of group 0
          allowed:  one callback for each hyperparameter of a group
          instead:  take one away, or make one schedule of both: combine(...)
    """
    taken: dict[tuple[int, str], str] = {}
    for listener in listeners:
        writes = getattr(listener.source, "writes", None)
        for written in writes(param_groups) if callable(writes) else ():
            if written in taken:
                group, name = written
                raise CallbackRefused(
                    f"{taken[written]} and {listener.name} both write {name} of group {group}",
                    allowed="one callback for each hyperparameter of a group",
                    instead="take one away, or make one schedule of both: combine(...)",
                )
            taken[written] = listener.name
