"""Is the order right?  Every rule that a machine must keep, walked exhaustively, offences with their shortest path.

The claim, worded honestly: what is proved here is the *structure* of a machine, for every answer of every guard and
every report of every action.  States and open scopes have a finite product, because a state that is reached with a
second stack of open scopes is refused at once.  That a machine is the one its author meant is for tests to show.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING

from attrs import field, frozen

from states.errors import MachineRefused, Offence, Rule, nearest
from states.names import Counter, Event, Guard, State, Trigger, is_stop, name_of
from states.rows import Transition


if TYPE_CHECKING:
    from states.machine import Machine

Path = tuple[Transition, ...]
Reports = Mapping[Enum, Collection[Enum]]


@frozen
class Proof:
    """What holds for a machine, whatever its guards answer.

    Example:
        >>> from states import TRAINING, State, prove
        >>> proof = prove(TRAINING)
        >>> proof.scopes[State.STEP]
        ('train', 'epoch', 'batch', 'step')
    """

    machine: str
    states: tuple[Enum, ...]
    rows: tuple[Transition, ...] = field(repr=False)
    # The one stack of open scopes of each state, outermost first.
    scopes: Mapping[Enum, tuple[str, ...]] = field(repr=False, hash=False)
    # The shortest way from the initial state that ends with this row.
    paths: Mapping[Transition, Path] = field(repr=False, hash=False)

    def __str__(self) -> str:
        widest = max(len(name_of(state)) for state in self.states)
        lines = [
            f"{self.machine}: proved for every answer of every guard",
            f"  {len(self.states)} states, {len(self.rows)} rows, "
            "each row can be taken; a final state is always in reach",
            "  begins and ends nest; no cycle is without an action, none without a stop guard",
            "  scopes open in each state:",
            *(
                f"    {name_of(state):<{widest}}  {' > '.join(self.scopes[state]) or '-'}  "
                f"({len(self._way(state))} transitions away)"
                for state in self.states
            ),
        ]
        return "\n".join(lines)

    def _way(self, state: Enum) -> Path:
        ways = (path for path in self.paths.values() if path[-1].dest is state)
        return min(ways, key=len, default=())


def examine(machine: "Machine", reports: Reports | None = None) -> Proof:
    """Prove a machine, or raise `MachineRefused` with all its offences."""
    walk = _Walk(machine)
    offences = [
        *_words(machine),
        *walk.offences,
        *_states(machine, walk),
        *_finals(machine, walk),
        *_groups(machine, walk),
        *_cycles(machine, walk),
        *_counts_and_holds(machine),
        *(_reports(machine, walk, reports) if reports is not None else ()),
    ]
    if offences:
        raise MachineRefused(machine.name, offences)
    return Proof(machine.name, tuple(walk.stacks), machine.rows, walk.stacks, walk.paths)


def prove(machine: "Machine", reports: Reports | None = None) -> Proof:
    """Walk the whole product of states and open scopes; return what holds, or say which path breaks which rule.

    Args:
        machine: Any machine; the machines that its states hold are proved when they are built.
        reports: For each state with an action, the triggers that the action declares.  Without it, what actions
            declare is not compared with the rows.

    Raises:
        MachineRefused: with every offence and the shortest path to it, not only the first.

    Cost: a few milliseconds for a machine of twenty states; nothing is kept.

    Example:
        >>> from states import EVALUATION, prove
        >>> print(prove(EVALUATION))  # doctest: +ELLIPSIS
        evaluation: proved for every answer of every guard
          8 states, 10 rows, each row can be taken; a final state is always in reach
          begins and ends nest; no cycle is without an action, none without a stop guard
          scopes open in each state:
            idle      -  (0 transitions away)
            evaluate  validate  (1 transitions away)
        ...
    """
    return examine(machine, reports)


class _Walk:
    """The breadth-first walk: the first stack of scopes of each state, the shortest path to each row."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.stacks: dict[Enum, tuple[str, ...]] = {machine.initial: ()}
        self.ways: dict[Enum, Path] = {machine.initial: ()}
        self.paths: dict[Transition, Path] = {}
        self.offences: list[Offence] = []
        queue = deque([machine.initial])
        while queue:
            queue.extend(self._visit(queue.popleft()))

    def _visit(self, state: Enum) -> Iterator[Enum]:
        for row in self.machine.rows:
            if row.source is not state:
                continue
            path = (*self.ways[state], row)
            self.paths.setdefault(row, path)
            stack = self._heard(row, self.stacks[state], path)
            if row.dest not in self.stacks:
                self.stacks[row.dest], self.ways[row.dest] = stack, path
                yield row.dest
            elif self.stacks[row.dest] != stack:
                before = _stack(self.stacks[row.dest])
                text = f"{name_of(row.dest)} is reached with {_stack(stack)} open, and with {before}"
                self.offences.append(Offence(Rule.SECOND_STACK, text, path))

    def _heard(self, row: Transition, stack: tuple[str, ...], path: Path) -> tuple[str, ...]:
        """The stack after a row's events; begins push, ends pop."""
        for event in row.events:
            scope, _, side = name_of(event).rpartition("_")
            if side == "begin":
                stack = (*stack, scope)
            elif side == "end" and stack[-1:] == (scope,):
                stack = stack[:-1]
            elif side == "end":
                text = f"{name_of(event)} is heard while {_stack(stack)} is open"
                self.offences.append(Offence(Rule.END_WITHOUT_BEGIN, text, path))
        return stack


def _states(machine: "Machine", walk: _Walk) -> Iterator[Offence]:
    """Rules about where the rows lead."""
    home = {final for final in machine.finals if final in walk.ways}
    while more := {row.source for row in machine.rows if row.dest in home} - home:
        home |= more
    for state in dict.fromkeys((*machine.states, *machine.finals)):
        way, name, rows = walk.ways.get(state), name_of(state), machine.rows_from(state)
        if way is None:
            rule = Rule.FINAL_OUT_OF_REACH if state in machine.finals else Rule.UNREACHABLE
            yield Offence(rule, f"no row leads to {name}", ())
        elif not rows and state not in machine.finals:
            yield Offence(Rule.DEAD_END, f"{name} is not final and has no rows", way)
        elif state not in home and state not in machine.finals:
            yield Offence(Rule.DEAD_END, f"no final state can be reached from {name}", way)
        if len({row.trigger is None for row in rows}) > 1:
            yield Offence(Rule.DECIDES_AND_REPORTS, f"{name} has rows with and without a trigger", way or ())


def _finals(machine: "Machine", walk: _Walk) -> Iterator[Offence]:
    """Rules about where a run ends."""
    for state in machine.finals:
        way, name, stack = walk.ways.get(state, ()), name_of(state), walk.stacks.get(state, ())
        if machine.rows_from(state):
            yield Offence(Rule.FINAL_LEFT, f"{name} is final and has rows", way)
        if stack:
            yield Offence(Rule.BEGIN_NEVER_ENDED, f"{name} is reached with {_stack(stack)} open", way)
    for row in machine.rows:
        if row.dest in machine.finals and len(row.heard) > 1:
            text = f"{row}: only the outermost end may be heard in a final state"
            yield Offence(Rule.FINAL_HEARS_MORE, text, walk.paths.get(row, (row,)))


def _groups(machine: "Machine", walk: _Walk) -> Iterator[Offence]:
    """Rules about the rows that compete for one report."""
    for (source, trigger), rows in machine.groups.items():
        where = f"{name_of(source)} / {name_of(trigger) if trigger else 'decides'}"
        guards = [row.guard for row in rows]
        if guards[-1] is not None:
            text = f"{where}: the last row is guarded by {name_of(guards[-1])}"
            yield Offence(Rule.LAST_ROW_GUARDED, text, walk.paths.get(rows[-1], ()))
        for index, row in enumerate(rows):
            path = walk.paths.get(row, (row,))
            if None in guards[:index]:
                yield Offence(Rule.NEVER_TAKEN, f"{row}: an earlier row of {where} has no guard", path)
            elif row.guard is not None and row.guard in guards[:index]:
                yield Offence(Rule.GUARD_TWICE, f"{where}: {name_of(row.guard)} is asked twice", path)
            if row.first != rows[0].first:
                text = f"{where}: {_events(row.first)} and {_events(rows[0].first)} cannot both be heard first"
                yield Offence(Rule.FIRST_DIFFERS, text, path)
        if trigger is None and rows[0].first:
            text = f"{where}: {_events(rows[0].first)} cannot be heard first where nothing is reported"
            yield Offence(Rule.FIRST_DIFFERS, text, walk.paths.get(rows[0], ()))


def _cycles(machine: "Machine", walk: _Walk) -> Iterator[Offence]:
    """Rules about going round for ever."""
    deciding = [row for row in machine.rows if row.trigger is None]
    if ring := _ring(deciding):
        yield Offence(Rule.NO_ACTION, f"no action runs in {_round(ring)}", (*walk.ways.get(ring[0].source, ()), *ring))
    unasked = [row for row in machine.rows if not _asks_stop(machine, row)]
    if ring := _ring(unasked):
        text = f"no stop guard is asked in {_round(ring)}"
        yield Offence(Rule.NO_STOP, text, (*walk.ways.get(ring[0].source, ()), *ring))


def _asks_stop(machine: "Machine", row: Transition) -> bool:
    """Whether a stop guard has been asked by the time this row is taken."""
    rows = machine.groups[row.group]
    return any(r.guard is not None and is_stop(r.guard) for r in rows[: rows.index(row) + 1])


def _ring(rows: Collection[Transition]) -> Path:
    """A shortest cycle among these rows, or nothing."""
    best: Path = ()
    for start in dict.fromkeys(row.source for row in rows):
        ways: dict[Enum, Path] = {start: ()}
        queue = deque([start])
        while queue:
            here = queue.popleft()
            for row in rows:
                if row.source is here and row.dest is start and (not best or len(ways[here]) + 1 < len(best)):
                    best = (*ways[here], row)
                elif row.source is here and row.dest not in ways:
                    ways[row.dest] = (*ways[here], row)
                    queue.append(row.dest)
    return best


def _words(machine: "Machine") -> Iterator[Offence]:
    """Rules about the words: each is a member of an enum, plays one part, and has a name of its own."""
    parts: dict[object, str] = {}
    names: dict[str, object] = {}
    for part, word in _spoken(machine):
        kind = _KINDS[part]
        if not isinstance(word, Enum):
            text = f"{word!r} is no {part}: use a member of an enum ({nearest(str(word), map(name_of, kind))})"
            yield Offence(Rule.UNKNOWN_WORD, text, ())
        elif isinstance(word, tuple(_KINDS.values())) and not isinstance(word, kind):
            text = f"{word} stands where {part}s stand ({nearest(name_of(word), map(name_of, kind))})"
            yield Offence(Rule.UNKNOWN_WORD, text, ())
        elif parts.setdefault(word, part) != part:
            yield Offence(Rule.NAME_TWICE, f"{word} is used as {parts[word]} and as {part}", ())
        elif names.setdefault(name_of(word), word) is not word:
            yield Offence(Rule.NAME_TWICE, f"{word} and {names[name_of(word)]} have one name", ())


_KINDS: Mapping[str, type[Enum]] = {
    "state": State,
    "trigger": Trigger,
    "guard": Guard,
    "event": Event,
    "counter": Counter,
}


def _spoken(machine: "Machine") -> Iterator[tuple[str, object]]:
    """Every word of a machine and of those it holds, once for each part it plays."""
    words: dict[tuple[str, object], None] = {("state", machine.initial): None}
    words.update({("state", final): None for final in machine.finals})
    for row in machine.rows:
        columns = [("state", row.source), ("trigger", row.trigger), ("guard", row.guard), ("state", row.dest)]
        words.update({(part, word): None for part, word in columns if word is not None})
        words.update({("event", event): None for event in row.events})
    for held in machine.holds.values():
        words.update(dict.fromkeys(_spoken(held)))
    yield from words


def _counts_and_holds(machine: "Machine") -> Iterator[Offence]:
    """Rules about what the rows are decorated with."""
    known = {*machine.events, *machine.triggers}
    for count in machine.counts:
        if count.what not in known:
            hint = nearest(name_of(count.what), map(name_of, known))
            yield Offence(Rule.UNKNOWN_WORD, f"{count}: no row has it ({hint})", ())
    for state in machine.holds:
        if not any(row.trigger for row in machine.rows_from(state)):
            yield Offence(Rule.UNKNOWN_WORD, f"{name_of(state)} holds a machine and reports nothing", ())


def _reports(machine: "Machine", walk: _Walk, reports: Reports) -> Iterator[Offence]:
    """What actions declare, against what the rows take."""
    for state in machine.states:
        taken = {row.trigger for row in machine.rows_from(state) if row.trigger}
        declared = set(reports.get(state, ()))
        way, name = walk.ways[state], name_of(state)
        if taken and state not in reports:
            yield Offence(Rule.NO_REPORT, f"{name} has no action, and its rows wait for {_events(taken)}", way)
        elif missing := declared - taken:
            yield Offence(
                Rule.REPORT_REFUSED, f"the action of {name} may report {_events(missing)}; no row takes it", way
            )
        elif idle := taken - declared:
            yield Offence(Rule.NO_REPORT, f"no action of {name} reports {_events(idle)}", way)


def _events(events: Iterable[object]) -> str:
    return ", ".join(sorted(map(name_of, events))) or "nothing"


def _stack(stack: tuple[str, ...]) -> str:
    return " > ".join(stack) or "nothing"


def _round(ring: Path) -> str:
    return " -> ".join([*(name_of(row.source) for row in ring), name_of(ring[0].source)])
