"""What is drawn of a machine?  Boxes, nodes, arrows and notes, read off its rows and its proof before any format.

# Theory of operation
#
# A label is as short with callbacks as without them: who is called depends on the word alone, not on the arrow, so it
# is said once, below the picture, and the word has a star on every arrow.  Rows without a guard that differ in the
# trigger only are one arrow.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import Enum, unique
from textwrap import wrap

from attrs import frozen

from states.machine import Machine
from states.names import Event, is_stop, name_of
from states.rows import Transition


# Who hears an event, or who answers a guard: names of callbacks, in the order in which they are called.
Called = Mapping[Enum, Sequence[str]]


@unique
class Does(Enum):
    """What a state is for; each has a shape of its own."""

    REPORTS = "an action runs and reports"
    DECIDES = "guards decide"
    HOLDS = "a whole machine runs inside"
    ENDS = "the run has ended"


@unique
class Way(Enum):
    """What lets an arrow be taken; each has a colour of its own."""

    PLAIN = "no guard"
    STOPS = "a stop guard"
    SKIPS = "any other guard"


@unique
class Part(Enum):
    """The lines of a label, each in a type of its own."""

    TRIGGER = "what was reported"
    GUARD = "the guard, in square brackets"
    EVENTS = "what is heard"


# Longer lines are broken: the widest label decides how wide a picture is, and the notes may not make it wider.
WIDEST, WIDEST_NOTE = 32, 64
STAR = "*"
STARRED = "called, in this order:"
SEPARATOR = " \N{MIDDLE DOT} "
ARROW = "\N{RIGHTWARDS ARROW}"


@frozen
class Node:
    """A state: its name, what it is for, and the name of the machine it holds."""

    name: str
    does: Does
    runs: str | None = None


@frozen
class Calls:
    """A guard or an event, with the callbacks that are called for it, in order."""

    word: str
    callbacks: tuple[str, ...]

    def lines(self) -> list[str]:
        """The callbacks as they are written below the picture, a line at least."""
        return _wrapped(", ".join(self.callbacks), WIDEST_NOTE) or [""]


@frozen(kw_only=True)
class Arrow:
    """A row, or several that differ in the trigger only: where from, where to, and what is written on it.

    Attributes:
        number: Its place among the arrows, from 0.
        source: Where it begins.
        dest: Where it ends.
        triggers: What was reported, any of them; none where a state decides.
        guard: The guard that said yes; empty for the last row of a group.
        events: The events that are heard on the way, in order.
        called: Those of its guard and its events for which a callback is called.
        way: What lets it be taken.
        back: Whether it leads to a state that stands no later in the table: the way back of a loop.
    """

    number: int
    source: str
    dest: str
    triggers: tuple[str, ...]
    guard: str
    events: tuple[str, ...]
    called: frozenset[str]
    way: Way
    back: bool

    def lines(self) -> Iterator[tuple[Part, str]]:
        """What is written on the arrow, line by line."""
        for number, trigger in enumerate(self.triggers, 1):
            yield Part.TRIGGER, visible(spoken(trigger)) + (" or" if number < len(self.triggers) else "")
        if self.guard:
            yield Part.GUARD, visible(f"[{_starred(self.guard, self.called)}]")
        for line in _wrapped(SEPARATOR.join(_starred(event, self.called) for event in self.events), WIDEST):
            yield Part.EVENTS, line


@frozen
class Box:
    """A scope that is open in several states: those that stand in it, and the boxes inside.

    The outermost box is the page; its path is empty.
    """

    path: tuple[str, ...]
    nodes: tuple[Node, ...]
    boxes: "tuple[Box, ...]"

    def walk(self) -> "Iterator[Box]":
        """This box and all that stand in it, outermost first."""
        yield self
        for box in self.boxes:
            yield from box.walk()

    @property
    def inside(self) -> frozenset[str]:
        """The names of all states in it, those of the boxes inside too."""
        return frozenset(node.name for box in self.walk() for node in box.nodes)


@frozen(kw_only=True)
class Picture:
    """A machine, ready to be drawn in any format.

    Attributes:
        name: The machine's name.
        initial: The name of the state in which a run begins.
        page: The outermost box.
        arrows: The rows, in the order of the table.
        note: The abnormal ends, folded: a line each.
        calls: What has a star: guards in the order of the table, then events in that of a run.
        here: The name of the state in which a run is; empty where none is shown.
        taken: The numbers of the arrows that a run took last.
    """

    name: str
    initial: str
    page: Box
    arrows: tuple[Arrow, ...]
    note: tuple[str, ...]
    calls: tuple[Calls, ...]
    here: str = ""
    taken: frozenset[int] = frozenset()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, box by box."""
        return tuple(node for box in self.page.walk() for node in box.nodes)

    @property
    def died(self) -> bool:
        """Whether a run is at an abnormal end, which has no node: it stands in the note."""
        return bool(self.here) and self.here not in {node.name for node in self.nodes}

    def is_here(self, line: str) -> bool:
        """Whether a line of the note is of the abnormal end at which a run is."""
        return self.died and line.endswith(f"{ARROW} {self.here}")

    def told(self, arrow: Arrow) -> str:
        """An arrow in words, with the callbacks that are called on it: where it leads, then a line for each word."""
        callbacks = {calls.word: ", ".join(calls.callbacks) for calls in self.calls}
        calls = (f"{word}: {callbacks[word]}" for word in (arrow.guard, *arrow.events) if word in callbacks)
        return "\n".join(map(visible, (f"{arrow.source} {ARROW} {arrow.dest}", *calls)))

    def home(self, arrow: Arrow) -> tuple[str, ...]:
        """The path of the smallest box that holds both ends of the arrow."""
        holding = (box.path for box in self.page.walk() if {arrow.source, arrow.dest} <= box.inside)
        return max(holding, key=len)


def picture(machine: Machine, hears: Called | None = None, answers: Called | None = None) -> Picture:
    """What is drawn of a machine.

    Args:
        machine: Any machine; it was proved when it was built.
        hears: For an event, the names of the callbacks that hear it.
        answers: For a guard, the names of the callbacks that answer it.

    Example:
        >>> from states import TRAINING, Event
        >>> drawn = picture(TRAINING, hears={Event.EPOCH_BEGIN: ["Progress"]})
        >>> [box.path for box in drawn.page.walk()]
        [(), ('train',), ('train', 'epoch'), ('train', 'epoch', 'batch')]
        >>> drawn.calls
        (Calls(word='epoch_begin', callbacks=('Progress',)),)
    """
    order = _order(machine)
    calls = tuple(_calls(machine, hears or {}, answers or {}))
    called = frozenset(call.word for call in calls)
    return Picture(
        name=machine.name,
        initial=name_of(machine.initial),
        page=_box((), order, machine),
        arrows=tuple(_arrow(number, rows, order, called) for number, rows in enumerate(joined(machine))),
        note=_note(machine, called),
        calls=calls,
    )


def _order(machine: Machine) -> tuple[Enum, ...]:
    """The states as the table goes through them: where rows begin, then where they only end."""
    return tuple(dict.fromkeys((machine.initial, *(row.source for row in machine.rows), *machine.states)))


def _box(path: tuple[str, ...], inside: Sequence[Enum], machine: Machine) -> Box:
    """The box of one stack of scopes.  A scope that is open in one state only has no box: its events say enough."""
    deeper: dict[str, list[Enum]] = {}
    for state in inside:
        for scope in machine.proof.scopes[state][len(path) :][:1]:
            deeper.setdefault(scope, []).append(state)
    boxed = {scope: states for scope, states in deeper.items() if len(states) > 1}
    own = [state for state in inside if not any(state in states for states in boxed.values())]
    return Box(
        path,
        tuple(_node(state, machine) for state in own),
        tuple(_box((*path, scope), states, machine) for scope, states in boxed.items()),
    )


def _node(state: Enum, machine: Machine) -> Node:
    if held := machine.holds.get(state):
        return Node(name_of(state), Does.HOLDS, held.name)
    if state in machine.finals:
        return Node(name_of(state), Does.ENDS)
    return Node(name_of(state), Does.DECIDES if machine.decides(state) else Does.REPORTS)


def _calls(machine: Machine, hears: Called, answers: Called) -> Iterator[Calls]:
    """Who is called, guard by guard and then event by event, as a run asks and tells; a user's own events come last."""
    told = list(Event)
    events = sorted(machine.events, key=lambda event: told.index(event) if isinstance(event, Event) else len(told))
    for words, callbacks in ((machine.guards, answers), (events, hears)):
        yield from (Calls(name_of(word), tuple(callbacks[word])) for word in words if callbacks.get(word))


def joined(machine: Machine) -> tuple[tuple[Transition, ...], ...]:
    """The rows, those together that differ in the trigger only; a guard is asked in a place of its own."""
    joined: dict[Hashable, tuple[Transition, ...]] = {}
    for number, row in enumerate(machine.rows):
        alike = (row.source, row.dest, row.events, number if row.guard else None)
        joined[alike] = (*joined.get(alike, ()), row)
    return tuple(joined.values())


def _arrow(number: int, rows: Sequence[Transition], order: Sequence[Enum], called: frozenset[str]) -> Arrow:
    row = rows[0]
    guard = name_of(row.guard) if row.guard else ""
    events = tuple(map(name_of, row.events))
    return Arrow(
        number=number,
        source=name_of(row.source),
        dest=name_of(row.dest),
        triggers=tuple(name_of(row.trigger) for row in rows if row.trigger),
        guard=guard,
        events=events,
        called=called & {guard, *events},
        way=Way.PLAIN if row.guard is None else Way.STOPS if is_stop(row.guard) else Way.SKIPS,
        back=order.index(row.dest) <= order.index(row.source),
    )


def _note(machine: Machine, called: frozenset[str]) -> tuple[str, ...]:
    """Deaths and departures, folded: they lead from nearly every state to the same few ends."""
    if not machine.deaths:
        return ()
    dying = {row.source for row in machine.deaths}
    spared = [name_of(state) for state in _order(machine) if state not in dying and state not in machine.finals]
    folded = (*_folded(machine.deaths, called), *_folded(machine.departures, called))
    return (f"any state but {', '.join(spared)}:", *folded)


def _folded(rows: Sequence[Transition], called: frozenset[str]) -> tuple[str, ...]:
    """Rows that lead from many states to the same ends: where they lead, then what is heard."""
    ways = dict.fromkeys(f"{spoken(name_of(row.trigger))} {ARROW} {name_of(row.dest)}" for row in rows)
    heards = dict.fromkeys(tuple(_starred(name_of(event), called) for event in row.heard) for row in rows)
    return (*ways, "heard: " + " or ".join(", ".join(heard) or "nothing" for heard in heards))


def _starred(word: str, called: frozenset[str]) -> str:
    return f"{word}{STAR}" if word in called else word


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(visible(text), width, break_long_words=False, break_on_hyphens=False)


def spoken(trigger: str) -> str:
    """A trigger as one says it.

    Example:
        >>> spoken("batch_ready")
        'batch ready'
    """
    return trigger.replace("_", " ")


def visible(name: str) -> str:
    r"""A name on one line, whatever its author put in it: what cannot be printed is shown as its escape.

    Example:
        >>> print(visible("two\nlines"))
        two\nlines
    """
    if name.isprintable():
        return name
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
