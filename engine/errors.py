"""What can be wrong with what an engine was given, or got while it ran?  One exception for each answer.

Each message says what was given, where, what is allowed and what to do instead.  What can be known before the first
batch is refused there, and nothing is changed; a later fault is raised before the optimizer moves in its batch.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from states import Transition, TriggerRefused
from states.errors import StateloopError


class Refused(StateloopError):
    """Something was given that the engine does not take.

    Example:
        >>> raise Refused("epochs is -1", allowed="a whole number, 0 or more", instead="say how many epochs to train")
        Traceback (most recent call last):
            ...
        engine.errors.Refused: epochs is -1
          allowed:  a whole number, 0 or more
          instead:  say how many epochs to train
    """

    def __init__(self, what: str, *, allowed: str, instead: str) -> None:
        self.what, self.allowed, self.instead = what, allowed, instead
        super().__init__(f"{what}\n  allowed:  {allowed}\n  instead:  {instead}")


class ArgumentRefused(Refused):
    """A number, a name or an object was passed that has no meaning there."""


class CallbackRefused(Refused):
    """A callback could never be called as its author meant it."""


class GuardRefused(Refused):
    """A guard answered something that is no bool."""


class LoaderRefused(Refused):
    """A loader gave nothing, or ended before it should."""


class BatchRefused(Refused):
    """A batch is not what the actions can work on."""


class LossRefused(Refused):
    """No gradient can be computed from what the loss function returned."""


class OptimizerRefused(Refused):
    """The optimizer cannot train this model, or not in this way."""


class MetricRefused(Refused):
    """A metric returned something that is no single number."""


class NotNested(Refused):
    """The ways of a machine cannot be written as nested loops: its table is followed instead, row by row."""

    def __init__(self, machine: str, why: str) -> None:
        super().__init__(
            f"the machine {machine!r} {why}",
            allowed="a loop to look at where each cycle is entered at one state and left to the loop around it",
            instead="fit it all the same: its table is followed row by row, more slowly and with the same trace",
        )


class OutOfOrder(Refused, TriggerRefused):
    """The user's own loop reported what cannot have happened there, or goes on without a report that is due.

    Attributes:
        recent: The last transitions that were taken, newest last.
    """

    def __init__(self, what: str, *, allowed: str, instead: str, recent: Iterable[Transition]) -> None:
        self.recent = tuple(recent)
        rows = "".join(f"\n    {row}" for row in self.recent) or " none yet"
        super().__init__(what, allowed=allowed, instead=f"{instead}\n  its last transitions:{rows}")


class EngineBusy(Refused):
    """The engine is running; a second training would need a machine of its own."""


def hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Which of the known names was meant?  For a message that lists all of them already.

    The nearest one; but the end of a longer name, as other engines have them, is better than what is only alike.

    Args:
        name: What was written.
        known: The names that there are.
        prefix: What the user writes before a name.

    Example:
        >>> hint("bacth_end", ["batch_end", "validate_batch_end"])
        "did you mean 'batch_end'?"
        >>> hint("train_batch_end", ["batch_end", "validate_batch_end"], prefix="on_")
        "did you mean 'on_batch_end'?"
        >>> hint("xyzzy", ["batch_end", "validate_batch_end"])
        'take one of these'
    """
    names = sorted(known)
    ends = sorted((word for word in names if name.endswith(f"_{word}")), key=len, reverse=True)
    near = [*get_close_matches(name, names, n=1, cutoff=0.85), *ends, *get_close_matches(name, names, n=1)]
    return f"did you mean {prefix + near[0]!r}?" if near else "take one of these"
