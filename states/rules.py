"""What must hold for every machine?  The rules of `prove`, a function for each kind of mistake."""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from typing import TYPE_CHECKING

from states.errors import Offence, Rule, nearest
from states.names import Counter, Event, Guard, State, Trigger, is_stop, name_of
from states.paths import Path, Paths, scopes_after, stacked
from states.rows import Transition


if TYPE_CHECKING:
    from states.machine import Machine

Reports = Mapping[Enum, Collection[Enum]]


def offences(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """Every broken rule, in the order of the rules."""
    yield from _words(machine)
    yield from paths.offences
    yield from _states(machine, paths)
    yield from _finals(machine, paths)
    yield from _outermost(machine, paths)
    yield from _groups(machine, paths)
    yield from _cycles(machine, paths)
    yield from _counts(machine)
    yield from _holds(machine, paths)
    yield from _stops(machine, paths)


def _states(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """Rules about where the rows lead."""
    home = {final for final in machine.finals if final in paths.ways}
    while more := {row.source for row in machine.rows if row.dest in home} - home:
        home |= more
    if machine.decides(machine.initial):
        text = f"{name_of(machine.initial)} is the initial state and decides: nothing would prepare the model"
        yield Offence(Rule.INITIAL_DECIDES, text, ())
    for state in dict.fromkeys((*machine.states, *machine.finals)):
        way, name, rows = paths.ways.get(state), name_of(state), machine.rows_from(state)
        if way is None:
            rule = Rule.FINAL_OUT_OF_REACH if state in machine.finals else Rule.UNREACHABLE
            yield Offence(rule, f"no row leads to {name}", ())
        elif not rows and state not in machine.finals:
            yield Offence(Rule.DEAD_END, f"{name} is not final and has no rows", way)
        elif state not in home and state not in machine.finals:
            yield Offence(Rule.DEAD_END, f"no final state can be reached from {name}", way)
        if len({row.trigger is None for row in rows}) > 1:
            yield Offence(Rule.DECIDES_AND_REPORTS, f"{name} has rows with and without a trigger", way or ())


def _finals(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """Rules about where a run ends."""
    for state in machine.finals:
        way, name, stack = paths.ways.get(state, ()), name_of(state), paths.stacks.get(state, ())
        if machine.rows_from(state):
            yield Offence(Rule.FINAL_LEFT, f"{name} is final and has rows", way)
        if stack:
            yield Offence(Rule.BEGIN_NEVER_ENDED, f"{name} is reached with {stacked(stack)} open", way)
    for row in machine.rows:
        if row.dest in machine.finals and len(row.heard) > 1:
            text = f"{row}: only the outermost end may be heard in a final state"
            yield Offence(Rule.FINAL_HEARS_MORE, text, paths.paths.get(row, (row,)))


def _outermost(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """The end of what is open for the whole run is the last that is heard, whatever happens."""
    opens = any(scopes_after((), name_of(event)) for row in machine.rows_from(machine.initial) for event in row.events)
    ends = any(paths.stacks.get(row.source) for row in machine.rows if row.dest in machine.finals)
    if not opens and not ends:  # nothing is open for the whole run
        return
    for row in machine.rows:
        stack = paths.stacks.get(row.source, ())
        for number, event in enumerate(row.events):
            before, stack = stack, scopes_after(stack, name_of(event))
            last = row.dest in machine.finals and number >= len(row.first)
            if before and not stack and not last:
                text = f"{row}: {name_of(event)} is heard, and the run goes on"
                yield Offence(Rule.ENDED_EARLY, text, paths.paths.get(row, (row,)))


def _groups(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """Rules about the rows that compete for one report."""
    for (source, trigger), rows in machine.groups.items():
        where = f"{name_of(source)} / {name_of(trigger) if trigger else 'decides'}"
        guards = [row.guard for row in rows]
        if guards[-1] is not None:
            text = f"{where}: the last row is guarded by {name_of(guards[-1])}"
            yield Offence(Rule.LAST_ROW_GUARDED, text, paths.paths.get(rows[-1], ()))
        for index, row in enumerate(rows):
            path = paths.paths.get(row, (row,))
            if None in guards[:index]:
                yield Offence(Rule.NEVER_TAKEN, f"{row}: an earlier row of {where} has no guard", path)
            elif row.guard is not None and row.guard in guards[:index]:
                yield Offence(Rule.GUARD_TWICE, f"{where}: {name_of(row.guard)} is asked twice", path)
            if row.first != rows[0].first:
                text = f"{where}: {_listed(row.first)} and {_listed(rows[0].first)} cannot both be heard first"
                yield Offence(Rule.FIRST_DIFFERS, text, path)
        if trigger is None and rows[0].first:
            text = f"{where}: {_listed(rows[0].first)} cannot be heard first where nothing is reported"
            yield Offence(Rule.FIRST_DIFFERS, text, paths.paths.get(rows[0], ()))


def _cycles(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """Rules about going round for ever."""
    deciding = [row for row in machine.rows if row.trigger is None]
    if ring := _ring(deciding):
        yield Offence(Rule.NO_ACTION, f"no action runs in {_round(ring)}", (*paths.ways.get(ring[0].source, ()), *ring))
    unasked = [row for row in machine.rows if not _asks_stop(machine, row)]
    if ring := _ring(unasked):
        text = f"no stop guard is asked in {_round(ring)}"
        yield Offence(Rule.NO_STOP, text, (*paths.ways.get(ring[0].source, ()), *ring))


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


# The words of the rows that are made for every machine: of deaths, and of leaving a run.
_DYING: tuple[tuple[str, Enum], ...] = (
    ("state", State.FAILED),
    ("state", State.INTERRUPTED),
    ("state", State.LEFT),
    ("trigger", Trigger.ERROR_RAISED),
    ("trigger", Trigger.INTERRUPT),
    ("trigger", Trigger.RUN_LEFT),
    ("event", Event.EXCEPTION),
)


def _spoken(machine: "Machine") -> Iterator[tuple[str, object]]:
    """Every word of a machine and of those it holds, once for each part it plays."""
    words: dict[tuple[str, object], None] = {("state", machine.initial): None, **dict.fromkeys(_DYING)}
    words.update({("state", final): None for final in machine.finals})
    for row in machine.rows:
        columns = [("state", row.source), ("trigger", row.trigger), ("guard", row.guard), ("state", row.dest)]
        words.update({(part, word): None for part, word in columns if word is not None})
        words.update({("event", event): None for event in row.events})
    for held in machine.holds.values():
        words.update(dict.fromkeys(_spoken(held)))
    yield from words


def _counts(machine: "Machine") -> Iterator[Offence]:
    """Rules about the counters that move along."""
    known = {*machine.events, *machine.triggers}
    for count in machine.counts:
        if count.what not in known:
            hint = nearest(name_of(count.what), map(name_of, known))
            yield Offence(Rule.UNKNOWN_WORD, f"{count}: no row has it ({hint})", ())
        counter, by = _unchecked(count.counter), _unchecked(count.by)
        if not isinstance(counter, Counter):
            hint = nearest(name_of(counter), map(name_of, Counter))
            yield Offence(Rule.UNKNOWN_WORD, f"{count}: a run has no such counter ({hint})", ())
        if by is not None and type(by) is not int:
            yield Offence(Rule.UNKNOWN_WORD, f"{count}: a counter moves by a whole number, or by None to 0", ())


def _holds(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """Rules about the machines that states hold."""
    for state, held in machine.holds.items():
        name, way = name_of(state), paths.ways.get(state, ())
        if not any(row.trigger for row in machine.rows_from(state)):
            yield Offence(Rule.UNKNOWN_WORD, f"{name} holds a machine and reports nothing", way)
        elif _can_stop(held) and (state, Trigger.VALIDATION_STOPPED) not in machine.groups:
            text = f"{name} holds {held.name}, which can stop the whole run, and no row takes validation_stopped there"
            yield Offence(Rule.HELD_STOP, text, way)
        for inner in (held, *held.within):
            for row in inner.rows:
                if Event.STOP in row.events and row.guard is not Guard.STOP_TRAINING:
                    text = f"{name} holds {inner.name}, and {row} is no stop of the whole run: let it not hear stop"
                    yield Offence(Rule.HELD_STOP, text, way)


def _can_stop(machine: "Machine") -> bool:
    """Whether a stop of the whole run can be granted in a machine or in one that it holds."""
    return any(Guard.STOP_TRAINING in inner.guards for inner in (machine, *machine.within))


def _stops(machine: "Machine", paths: Paths) -> Iterator[Offence]:
    """A stop of the whole run is heard once, and no machine is entered behind it that would be stopped at once."""
    for row in machine.rows:
        if again := next(_again(machine, row), ""):
            yield Offence(Rule.STOP_TWICE, f"{row}: {again}", paths.paths.get(row, (row,)))


def _again(machine: "Machine", row: Transition) -> Iterator[str]:
    """What is told a second time at a row or behind it."""
    inside = machine.holds.get(row.source) if row.trigger is Trigger.VALIDATION_STOPPED else None
    tells = [inner for inner in (inside, *inside.within) if Event.STOP in inner.events] if inside else []
    here = row.events.count(Event.STOP)
    if tells and here:
        yield f"stop is heard here, and was in {tells[0].name}"
    elif here > 1:
        yield "stop is heard more than once"
    latched = inside is not None or row.guard is Guard.STOP_TRAINING
    for later in _rows_after(machine, row, latched=latched):
        held = machine.holds.get(later.source)
        if (tells or here) and Event.STOP in later.events:
            yield f"stop was heard by then, and is again at {later}"
        elif latched and held is not None and _can_stop(held):
            yield f"behind it {name_of(later.source)} holds {held.name}, whose stop_training would be answered at once"


def _rows_after(machine: "Machine", row: Transition, *, latched: bool) -> Iterator[Transition]:
    """The rows that may be taken behind one, nearest first; none below a `stop_training` that is answered already."""
    seen, queue = {row.dest}, deque([row.dest])
    while queue:
        state = queue.popleft()
        for rows in (rows for (source, _), rows in machine.groups.items() if source is state):
            guards = [row.guard for row in rows]
            answered = latched and Guard.STOP_TRAINING in guards
            for following in rows[: guards.index(Guard.STOP_TRAINING) + 1] if answered else rows:
                yield following
                if following.dest not in seen:
                    seen.add(following.dest)
                    queue.append(following.dest)


def _unchecked(value: object) -> object:
    """A value as one that may be anything, whatever its field says."""
    return value


def misreports(machine: "Machine", reports: Reports) -> Iterator[Offence]:
    """What actions declare, against what the rows take, for a machine that is proved."""
    for state in machine.states:
        taken = {row.trigger for row in machine.rows_from(state) if row.trigger}
        declared = set(reports.get(state, ()))
        way, name = machine.proof.way(state), name_of(state)
        if taken and state not in reports:
            yield Offence(
                Rule.NO_REPORT, f"{name} has no action, and its rows wait for {_listed(taken)}{_remedy(state)}", way
            )
        elif missing := declared - taken:
            yield Offence(
                Rule.REPORT_REFUSED, f"the action of {name} may report {_listed(missing)}; no row takes it", way
            )
        elif idle := taken - declared:
            yield Offence(Rule.NO_REPORT, f"no action of {name} reports {_listed(idle)}", way)


def _remedy(state: Enum) -> str:
    """How a state of the user's own gets an action, and one that unscales; the built-in ones have theirs."""
    if state in (State.UNSCALE, State.DESCALE):
        return "; Engine(precision='fp16') gives it one"
    return "" if isinstance(state, State) else f"; Engine(actions={{{state}: ...}}) gives it one"


def _listed(words: Iterable[object]) -> str:
    return ", ".join(sorted(map(name_of, words))) or "nothing"


def _round(ring: Path) -> str:
    return " -> ".join([*(name_of(row.source) for row in ring), name_of(ring[0].source)])
