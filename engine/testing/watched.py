"""How does a test see every call of every callback?  Each is replaced by one that goes through the test."""

from collections.abc import Callable
from enum import Enum
from typing import Any

from attrs import evolve

from engine.engine import Engine
from engine.listeners import Listener
from engine.run import Run


# A callback's method, or a guard's: what it returns is what the original returned.
Call = Callable[[Run], Any]
# Given who is called, the event or guard, and the original: what is called in its place.
Around = Callable[[str, Enum, Call], Call]


def watch(engine: Engine, around: Around) -> None:
    """Let every call of every callback of an engine go through a test, from its next run on.

    Args:
        engine: The engine; its own listener, which computes means and metrics, is watched as well.
        around: Gets the callback's name, the event that it hears or the guard that it answers, and the call; what it
            gives is called in its place, where the original would be: filters (`every`, `once`) count as before.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from states.names import name_of
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), metrics=None)
        >>> heard = []
        >>> @engine.on("epoch_end")
        ... def report(run): ...
        >>> def around(who, word, call):
        ...     return lambda run: (heard.append((who, name_of(word))), call(run))[1]
        >>> watch(engine, around)
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))])
        >>> [one for one in heard if one[0] == "report"]
        [('report', 'epoch_end')]
    """
    listeners = engine._registry.listeners  # noqa: SLF001  # the one place where the kit reaches into an engine
    listeners[:] = [_watched(listener, around) for listener in listeners]


def _watched(listener: Listener, around: Around) -> Listener:
    return evolve(
        listener,
        hears={event: around(listener.name, event, hear) for event, hear in listener.hears.items()},
        answers={guard: around(listener.name, guard, answer) for guard, answer in listener.answers.items()},
    )
