"""What is drawn of a machine?  Boxes, nodes, arrows and one note, read off its rows and its proof before any format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, unique
from textwrap import wrap

from attrs import frozen

from states.machine import Machine
from states.names import is_stop, name_of
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


# A line of a label longer than this is broken: the widest label decides how wide a picture is.
WIDEST = 32
SEPARATOR = " \N{MIDDLE DOT} "
ARROW = "\N{RIGHTWARDS ARROW}"


@frozen
class Node:
    """A state: its name, what it is for, and the name of the machine it holds."""

    name: str
    does: Does
    runs: str | None = None


@frozen
class Heard:
    """Events that one line of a label names: one event with the callbacks that hear it, or several that none hears."""

    events: tuple[str, ...]
    callbacks: tuple[str, ...] = ()


@frozen(kw_only=True)
class Arrow:
    """A row: where from, where to, and what is written on it.

    Attributes:
        number: The row's place in the table, from 0.
        source: Where it begins.
        dest: Where it ends.
        trigger: What was reported; empty where a state decides.
        guard: The guard that said yes; empty for the last row of a group.
        answers: The callbacks that answer the guard.
        heard: The events on the way, in order, a line each.
        way: What lets it be taken.
        back: Whether it leads to a state that stands no later in the table: the way back of a loop.
    """

    number: int
    source: str
    dest: str
    trigger: str
    guard: str
    answers: tuple[str, ...]
    heard: tuple[Heard, ...]
    way: Way
    back: bool

    def lines(self) -> Iterator[tuple[Part, str]]:
        """What is written on the arrow, line by line."""
        if self.trigger:
            yield Part.TRIGGER, visible(spoken(self.trigger))
        if self.guard:
            yield from _broken(Part.GUARD, f"[{_with(self.guard, self.answers)}]")
        for heard in self.heard:
            yield from _broken(Part.EVENTS, _with(SEPARATOR.join(heard.events), heard.callbacks))


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


@frozen(kw_only=True)
class Picture:
    """A machine, ready to be drawn in any format.

    Attributes:
        name: The machine's name.
        initial: The name of the state in which a run begins.
        page: The outermost box.
        arrows: The rows, in the order of the table.
        note: The abnormal ends, folded: a line each.
    """

    name: str
    initial: str
    page: Box
    arrows: tuple[Arrow, ...]
    note: tuple[str, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, box by box."""
        return tuple(node for box in self.page.walk() for node in box.nodes)


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
        >>> drawn.arrows[2].heard
        (Heard(events=('epoch_begin',), callbacks=('Progress',)),)
    """
    hears, answers = hears or {}, answers or {}
    order = _order(machine)
    return Picture(
        name=machine.name,
        initial=name_of(machine.initial),
        page=_box((), order, machine),
        arrows=tuple(_arrow(number, row, order, hears, answers) for number, row in enumerate(machine.rows)),
        note=_note(machine, hears),
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


def _arrow(number: int, row: Transition, order: Sequence[Enum], hears: Called, answers: Called) -> Arrow:
    way = Way.PLAIN if row.guard is None else Way.STOPS if is_stop(row.guard) else Way.SKIPS
    return Arrow(
        number=number,
        source=name_of(row.source),
        dest=name_of(row.dest),
        trigger=name_of(row.trigger) if row.trigger else "",
        guard=name_of(row.guard) if row.guard else "",
        answers=tuple(answers.get(row.guard, ())) if row.guard else (),
        heard=tuple(_heard(row.events, hears)),
        way=way,
        back=order.index(row.dest) <= order.index(row.source),
    )


def _heard(events: Iterable[Enum], hears: Called) -> Iterator[Heard]:
    """The lines that name the events: a line for each that somebody hears, one for each stretch that nobody hears."""
    unheard: tuple[str, ...] = ()
    for event in events:
        if not hears.get(event):
            unheard = (*unheard, name_of(event))
            continue
        if unheard:
            yield Heard(unheard)
        yield Heard((name_of(event),), tuple(hears[event]))
        unheard = ()
    if unheard:
        yield Heard(unheard)


def _note(machine: Machine, hears: Called) -> tuple[str, ...]:
    """The deaths, folded: they lead from nearly every state to the same few ends."""
    deaths = machine.deaths
    if not deaths:
        return ()
    dying = {row.source for row in deaths}
    spared = [name_of(state) for state in _order(machine) if state not in dying and state not in machine.finals]
    ways = dict.fromkeys(f"{spoken(name_of(row.trigger))} {ARROW} {name_of(row.dest)}" for row in deaths)
    heards = dict.fromkeys(row.heard for row in deaths)
    lines = [f"any state but {', '.join(spared)}:", *ways]
    lines += ["heard: " + " or ".join(", ".join(map(name_of, heard)) for heard in heards)]
    words = dict.fromkeys(event for heard in heards for event in heard)
    return (*lines, *(_with(name_of(event), hears[event]) for event in words if hears.get(event)))


def _with(name: str, callbacks: Sequence[str]) -> str:
    return f"{name}: {', '.join(callbacks)}" if callbacks else name


def _broken(part: Part, text: str) -> Iterator[tuple[Part, str]]:
    for line in wrap(visible(text), WIDEST, break_long_words=False, break_on_hyphens=False):
        yield part, line


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
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
