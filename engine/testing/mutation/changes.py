"""How can a table be changed?  Every small change of its rows and counts, made one at a time."""

from collections.abc import Iterable, Iterator
from enum import Enum

from attrs import evolve

from engine.testing.mutation.change import Change, Rows
from states import Count, Counter, Machine, Transition, When
from states.names import name_of


def changes(machine: Machine) -> Iterator[Change]:
    """All of them, those that nothing could run included.

    Example:
        >>> from states import PREDICTION
        >>> every = list(changes(PREDICTION))
        >>> print(every[0])
        drop a row: idle prediction_asked -> predict: predict_begin
    """
    for family, made in _FAMILIES.items():
        for change, rows in made(machine):
            if rows != machine.rows:
                yield Change(family, change, machine, rows, machine.counts)
    for change, counts in _counts(machine):
        yield Change("change a count", change, machine, machine.rows, counts)


Changes = Iterable[tuple[str, Rows]]


def _instead(machine: Machine, number: int, *rows: Transition) -> Rows:
    return (*machine.rows[:number], *rows, *machine.rows[number + 1 :])


def _grouped(machine: Machine, row: Transition, first: tuple[Enum, ...]) -> Rows:
    """With something else heard first, in all the rows of a group: one row alone would be refused."""
    return tuple(evolve(r, first=first) if r.group == row.group else r for r in machine.rows)


def _dropped_rows(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        yield str(row), _instead(machine, number)


def _redirected(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for dest in machine.states:
            yield f"{row} => {name_of(dest)}", _instead(machine, number, evolve(row, dest=dest))


def _moved_sources(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for source in machine.states:
            yield f"{row} <= {name_of(source)}", _instead(machine, number, evolve(row, source=source))


def _dropped_events(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for at, event in enumerate(row.heard):
            heard = (*row.heard[:at], *row.heard[at + 1 :])
            yield f"{row} - {name_of(event)}", _instead(machine, number, evolve(row, heard=heard))
        for event in row.first:
            yield f"{row} - {name_of(event)}", _instead(machine, number, evolve(row, first=()))
            yield f"group of {row} - {name_of(event)}", _grouped(machine, row, ())


def _doubled_events(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for at, event in enumerate(row.heard):
            heard = (*row.heard[: at + 1], *row.heard[at:])
            yield f"{row} + {name_of(event)}", _instead(machine, number, evolve(row, heard=heard))
        if row.first:
            yield f"{row} + first", _instead(machine, number, evolve(row, first=row.first * 2))
            yield f"group of {row} + first", _grouped(machine, row, row.first * 2)


def _reordered_events(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        yield f"{row} reversed", _instead(machine, number, evolve(row, heard=row.heard[::-1]))
        late = tuple(
            evolve(r, first=(), heard=(*r.first, *r.heard)) if r.group == row.group else r for r in machine.rows
        )
        yield f"group of {row}: heard after the guards", late
        early = evolve(row, first=row.events, heard=())
        yield f"{row}: heard before the guards", _instead(machine, number, early)


def _unguarded(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        yield f"{row}", _instead(machine, number, evolve(row, guard=None))


def _other_guards(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for guard in machine.guards if row.guard else ():
            yield f"{row} => [{name_of(guard)}]", _instead(machine, number, evolve(row, guard=guard))


def _new_guards(machine: Machine) -> Changes:
    """A guard where there was none, with a row behind it that does as before: an asking too many."""
    for number, row in enumerate(machine.rows):
        for guard in machine.guards if row.guard is None else ():
            yield f"{row} + [{name_of(guard)}]", _instead(machine, number, evolve(row, guard=guard), row)


def _neighbours(machine: Machine) -> Iterator[tuple[int, Transition, Transition]]:
    for number, (row, below) in enumerate(zip(machine.rows, machine.rows[1:], strict=False)):
        if row.group == below.group:
            yield number, row, below


def _swapped_places(machine: Machine) -> Changes:
    for number, row, below in _neighbours(machine):
        yield f"{row} and the one below", (*machine.rows[:number], below, row, *machine.rows[number + 2 :])


def _swapped_guards(machine: Machine) -> Changes:
    for number, row, below in _neighbours(machine):
        swapped = (evolve(row, guard=below.guard), evolve(below, guard=row.guard))
        yield f"{row} and the one below", (*machine.rows[:number], *swapped, *machine.rows[number + 2 :])


def _swapped_dests(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for other_number, other in enumerate(machine.rows[number + 1 :], number + 1):
            rows = list(machine.rows)
            rows[number], rows[other_number] = evolve(row, dest=other.dest), evolve(other, dest=row.dest)
            yield f"{row} <=> {other}", tuple(rows)


def _swapped_heard(machine: Machine) -> Changes:
    for number, row, below in _neighbours(machine):
        swapped = (evolve(row, heard=below.heard), evolve(below, heard=row.heard))
        yield f"{row} and the one below", (*machine.rows[:number], *swapped, *machine.rows[number + 2 :])


def _other_triggers(machine: Machine) -> Changes:
    for number, row in enumerate(machine.rows):
        for trigger in machine.triggers:
            other = evolve(row, trigger=trigger)
            yield f"{row} => {name_of(trigger)}", _instead(machine, number, other)


_FAMILIES = {
    "drop a row": _dropped_rows,
    "redirect a row": _redirected,
    "move a row": _moved_sources,
    "drop an event": _dropped_events,
    "double an event": _doubled_events,
    "reorder events": _reordered_events,
    "take a guard off": _unguarded,
    "change a guard": _other_guards,
    "add a guard": _new_guards,
    "change a trigger": _other_triggers,
    "swap two places": _swapped_places,
    "swap two guards": _swapped_guards,
    "swap two destinations": _swapped_dests,
    "swap what is heard": _swapped_heard,
}


def _counts(machine: Machine) -> Iterator[tuple[str, tuple[Count, ...]]]:
    for number, count in enumerate(machine.counts):
        before, behind = machine.counts[:number], machine.counts[number + 1 :]
        yield f"drop: {count}", (*before, *behind)
        yield f"again: {count}", (*before, count, count, *behind)
        others = [evolve(count, when=when) for when in When]
        others += [evolve(count, by=by) for by in (None, 1, -1, 2)]
        others += [evolve(count, counter=counter) for counter in Counter]
        others += [evolve(count, what=what) for what in (*machine.events, *machine.triggers)]
        yield from ((f"{count} => {other}", (*before, other, *behind)) for other in others if other != count)
