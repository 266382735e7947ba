"""Does the next line of a recorded run fit, and if it does not, what is wrong with it, and what was legal there?"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType

from attrs import define, field, frozen

from states.names import name_of
from states.order import Order
from states.trace import TraceLine
from states.ways import Way, Ways


# How many of the events before a line are named.
NAMED = 3
# What the callbacks that are called last may see, where another one has failed at the end of a run that was left.
_LEFT, _FAILED = "left", ("failed", "interrupted")

# An expected line, and the way that is gone if it comes.
_Pair = tuple[TraceLine, Way | None]


@frozen
class Wrong:
    """What is wrong with a line, what it tells, and what would have been legal there."""

    what: str
    told: str
    expected: tuple[str, ...]


@define(eq=False)
class Listener:
    """Hears the events of one run, and knows an order of them; calls are not looked at."""

    order: Order
    names: list[str] = field(init=False, factory=list)
    _place: Hashable = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Stand at the beginning."""
        self._place = self.order.start

    @property
    def over(self) -> bool:
        """Whether the run may have ended."""
        return self._place in self.order.ends

    @property
    def next(self) -> tuple[str, ...]:
        """What may be heard next."""
        return tuple(sorted(self.order.moves[self._place]))

    def take(self, line: TraceLine) -> Wrong | None:
        """Take in a line; nothing of it is kept if it is wrong."""
        if line.callback is not None:
            return None
        moves = self.order.moves[self._place]
        if line.word not in moves:
            return _not_legal(line, self.next)
        self._place = moves[line.word]
        self.names.append(line.word)
        return None


@define(eq=False)
class Follower:
    """Follows one run through its machine, and looks at all that a line tells but the time."""

    ways: Ways
    names: list[str] = field(init=False, factory=list)
    # The event that is heard now, and who was called for it.
    _event: TraceLine | None = field(init=False, default=None)
    _called: set[str] = field(init=False, factory=set)

    @property
    def over(self) -> bool:
        """Whether the run may have ended."""
        return self.ways.over

    @property
    def next(self) -> tuple[str, ...]:
        """Who may be asked next, and what may be heard, with the states that it may be heard in; deaths come last."""
        states: dict[str, dict[str, None]] = {}
        for way in sorted(self.ways.now, key=lambda way: way.ending):
            if (heard := way.heard) is not None:
                states.setdefault(heard.name, {})[name_of(heard.state)] = None
        asked = dict.fromkeys(_asked(line) for way in self.ways.now for line in way.asked())
        return (*asked, *(f"{event} in {' or '.join(names)}" for event, names in states.items()))

    def take(self, line: TraceLine) -> Wrong | None:
        """Take in a line; nothing of it is kept if it is wrong."""
        if line.callback is None:
            return self._take_event(line)
        return self._take_call(line) if line.event is not None else self._take_answer(line)

    def _take_event(self, line: TraceLine) -> Wrong | None:
        pairs = [(way.event(heard), way) for way in self.ways.now if (heard := way.heard) and heard.name == line.event]
        if not pairs:
            return _not_legal(line, self.next)
        kept = _kept(line, pairs)
        if isinstance(kept, Wrong):
            return kept
        self.ways.go(way.hear() for way in kept)
        self._event, self._called = line, set()
        self.names.append(line.word)
        return None

    def _take_answer(self, line: TraceLine) -> Wrong | None:
        asked = [(expected, way) for way in self.ways.now for expected in way.asked()]
        turn = line.guard, line.callback
        pairs = [(expected, way) for expected, way in asked if (expected.guard, expected.callback) == turn]
        if not pairs:
            return Wrong(f"{line.callback} is not asked {line.guard} there", _asked(line), self.next)
        kept = _kept(line, pairs)
        if isinstance(kept, Wrong):
            return kept
        self.ways.go(way.answer(line.answer) for way in kept)
        self._event = None
        return None

    def _take_call(self, line: TraceLine) -> Wrong | None:
        event, who = self._event, line.callback or ""
        told = f"a call of {who} for {line.event}"
        if event is None or event.event != line.event:
            expected = () if event is None else (f"calls for {event.event}",)
            return Wrong(f"{who} is called, and {line.event} is not heard", told, (*expected, *self.next))
        if who in self._called:
            return Wrong(f"{who} is called again", told, (f"calls of others for {line.event}", *self.next))
        if not (event.state == _LEFT and line.state in _FAILED):
            kept = _kept(line, [(event, None)])
            if isinstance(kept, Wrong):
                return kept
        self._called.add(who)
        return None


def after(names: Sequence[str]) -> str:
    """Where a trace is, by what was heard last."""
    return f"after {', '.join(names[-NAMED:])}" if names else "at the beginning"


def _asked(line: TraceLine) -> str:
    return f"{line.guard} of {line.callback} in {line.state}"


def _not_legal(line: TraceLine, expected: tuple[str, ...]) -> Wrong:
    return Wrong(f"{line.word} is not legal there", f"{line.word} in {line.state}", expected)


def _kept(line: TraceLine, pairs: Sequence[_Pair]) -> list[Way] | Wrong:
    """The ways on which a line with this word tells the truth, or the first thing in which it does on none."""
    for told, tell in _TELLS.items():
        kept = [(expected, way) for expected, way in pairs if getattr(line, told) == getattr(expected, told)]
        if not kept:
            legal = tuple(dict.fromkeys(tell(expected, line) for expected, _ in pairs))
            return Wrong(f"wrong {told} at {line.word}", tell(line, pairs[0][0]), legal)
        pairs = kept
    return [way for _, way in pairs if way is not None]


def _row(line: TraceLine, other: TraceLine) -> str:
    del other
    return f"{line.word} on {line.row}" if line.row else f"{line.word} before a row is chosen"


def _counters(line: TraceLine, other: TraceLine) -> str:
    names = {**line.counters, **other.counters}
    differing = [name for name in names if line.counters.get(name) != other.counters.get(name)]
    return f"{line.word} with {', '.join(f'{name} {line.counters.get(name)}' for name in differing)}"


# What a line tells beside its word, in the order in which it is looked at, and how to say it.
_TELLS: Mapping[str, Callable[[TraceLine, TraceLine], str]] = MappingProxyType(
    {
        "machine": lambda line, _: f"{line.word} in a run of {line.machine}",
        "depth": lambda line, _: f"{line.word} at depth {line.depth}",
        "state": lambda line, _: f"{line.word} in {line.state}",
        "row": _row,
        "counters": _counters,
        "answer": lambda line, _: f"{line.word} answered with {line.answer}",
    }
)
