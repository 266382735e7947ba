"""What is seen of one run?  All that was heard, who was called at each hearing, how it ended."""

from enum import Enum

from attrs import define, field, frozen
from torch import Tensor

from engine.listeners import Listener
from engine.run import Run
from engine.testing.left.leaks import Leak
from engine.testing.runs.cases import Case
from states.strides import Heard


@frozen
class Called:
    """One call of one callback.

    Attributes:
        who: The callback's name.
        word: The event or guard.
        at: How many events were heard by then, this one included.
        hears: Whether an event was heard, rather than a guard answered.
        raised: What it raised, if anything.
    """

    who: str
    word: Enum
    at: int
    hears: bool
    raised: BaseException | None = None


@define(eq=False)
class Observed:
    """One run, as it was seen.

    Attributes:
        case: What it was given.
        declared: Who is registered as it begins, in the declared order.
        heard: What the first of all callbacks heard.
        moved: How often weights were written to by the time that the first heard each event.
        moved_then: The same by the time that the last heard it; `None` where it was cut short, and nobody was the last.
        calls: Each call of the factory's callbacks and of the engine's own.
        raised: What the run raised.
        fault: What was raised on purpose, if its moment came.
        run: The run; `None` where it was refused before it began.
        weights: A copy of the weights and buffers at its end, by name.
        leaks: What was left behind.
    """

    case: Case
    declared: tuple[Listener, ...] = ()
    heard: list[Heard] = field(factory=list)
    moved: list[int] = field(factory=list)
    moved_then: list[int | None] = field(factory=list)
    calls: list[Called] = field(factory=list)
    raised: BaseException | None = None
    fault: BaseException | None = None
    run: Run | None = None
    weights: dict[str, Tensor] = field(factory=dict)
    leaks: tuple[Leak, ...] = ()

    @property
    def trace(self) -> tuple[str, ...]:
        """The names of the events that were heard."""
        return tuple(heard.name for heard in self.heard)

    @property
    def failed(self) -> Called | None:
        """The first call of a callback that raised by itself."""
        return next((call for call in self.calls if call.raised is not None and call.raised is not self.fault), None)
