"""Is a trace legal?  An order of events is a set of places, with what may be heard at each; a trace is walked in it."""

from collections.abc import Hashable, Mapping, Sequence
from enum import Enum

from attrs import field, frozen

from states.names import name_of


@frozen
class Judgement:
    """What an order says of a trace; true when the trace is a whole legal run.

    Attributes:
        trace: The names that were judged.
        legal: Whether the trace is legal and complete.
        at: The index of the first event that is not legal; `None` when there is none.
        expected: The names that would have been legal there, or that may come next.
    """

    trace: tuple[str, ...] = field(repr=False)
    legal: bool
    at: int | None
    expected: tuple[str, ...]

    @property
    def prefix(self) -> bool:
        """Whether the trace is legal so far: complete, or to be continued."""
        return self.at is None

    def __bool__(self) -> bool:
        return self.legal

    def __str__(self) -> str:
        upto = len(self.trace) if self.at is None else self.at
        where = f"after {', '.join(self.trace[max(0, upto - 3) : upto])}" if upto else "at the beginning"
        expected = ", ".join(self.expected) or "nothing"
        if self.legal:
            return f"legal and complete ({upto} events)"
        if self.at is None:
            return f"legal so far ({upto} events); legal {where}: {expected}"
        return f"event {self.at}, {self.trace[self.at]!r}, is not legal {where}; legal there: {expected}"


@frozen
class Order:
    """A legal order of events: a deterministic finite automaton.

    Attributes:
        start: The place at which nothing has been heard.
        moves: For every place, where each event leads that may be heard there.
        ends: The places at which a run may be over.
    """

    start: Hashable = field(repr=False)
    moves: Mapping[Hashable, Mapping[str, Hashable]] = field(repr=False)
    ends: frozenset[Hashable] = field(repr=False)

    def judge(self, trace: Sequence[Enum | str]) -> Judgement:
        """Say whether a trace is legal, whether it is so far, and if it is not, where it goes wrong.

        Args:
            trace: Events, members or their names.
        """
        names = tuple(name_of(event) if isinstance(event, Enum) else event for event in trace)
        place, wrong = self.start, None
        for index, name in enumerate(names):
            if name not in self.moves[place]:
                wrong = index
                break
            place = self.moves[place][name]
        return Judgement(names, wrong is None and place in self.ends, wrong, tuple(sorted(self.moves[place])))
