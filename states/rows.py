"""What is a row?  One transition of a table, and one line of its counters."""

from collections.abc import Iterable
from enum import Enum, unique

from attrs import field, frozen

from states.errors import StateloopError
from states.names import Counter, name_of


def _tuple(words: Iterable[Enum]) -> tuple[Enum, ...]:
    if isinstance(words, Enum):
        msg = f"{words} stands where several events may stand: write ({words},), with its comma"
        raise StateloopError(msg)
    return tuple(words)


@frozen(cache_hash=True)
class Transition:
    """One row: *in* `source`, when `trigger` is reported and `guard` says yes, go to `dest`.

    `first` is heard when the trigger is reported: in the source, before any guard is asked.  It belongs to the pair
    (source, trigger): the rows of one group agree on it.  `heard` is heard on the way, in the destination.
    A row without a trigger belongs to a state that decides; a row without a guard is the last of its group.

    Example:
        >>> from states import Event, Guard, State, Transition, Trigger
        >>> print(Transition(State.BATCH, None, Guard.SKIP_BATCH, State.EPOCH, heard=(Event.BATCH_END,)))
        batch [skip_batch] -> epoch: batch_end
    """

    source: Enum
    trigger: Enum | None
    guard: Enum | None
    dest: Enum
    heard: tuple[Enum, ...] = field(default=(), converter=_tuple)
    first: tuple[Enum, ...] = field(default=(), converter=_tuple)

    @property
    def group(self) -> tuple[Enum, Enum | None]:
        """The pair (source, trigger): the rows that compete for one report."""
        return self.source, self.trigger

    @property
    def events(self) -> tuple[Enum, ...]:
        """All that is heard when this row is taken, in order."""
        return self.first + self.heard

    def __str__(self) -> str:
        trigger = f" {name_of(self.trigger)}" if self.trigger else ""
        guard = f" [{name_of(self.guard)}]" if self.guard else ""
        heard = f": {_names(self.events)}" if self.events else ""
        return f"{name_of(self.source)}{trigger}{guard} -> {name_of(self.dest)}{heard}"


@unique
class When(Enum):
    """On which side of an event, or of a reported trigger, a counter moves."""

    BEFORE = "before"  # callbacks of the event see the new value
    AFTER = "after"  # callbacks of the event still see the old value


@frozen
class Count:
    """One line of the counters: `counter` moves by `by` (`None`: back to 0) `when` `what` happens.

    `what` is an event, or a trigger: then the counter moves as soon as it is reported.

    Example:
        >>> from states import Count, Counter, Event, When
        >>> print(Count(Counter.UPDATES, 1, When.BEFORE, Event.STEP_END))
        updates + 1 before step_end
    """

    counter: Counter
    by: int | None
    when: When
    what: Enum

    def moved(self, value: int) -> int:
        """The counter's value after this move."""
        return 0 if self.by is None else value + self.by

    def __str__(self) -> str:
        move = "= 0" if self.by is None else f"+ {self.by}"
        return f"{name_of(self.counter)} {move} {self.when.value} {name_of(self.what)}"


def _names(words: Iterable[Enum]) -> str:
    return ", ".join(map(name_of, words))
