"""What follows a report where nothing is to be decided?  The rows up to where the user's code acts, as one function.

# Theory of operation
#
# In a loop of the user's own most reports lead one way: nobody answers the guards, and what the engine does in between
# can report one thing alone.  Those rows are written down as in the loop of `fit` (see `loop`), so that a report costs
# one call and not a look at every row; so is the drawing of a batch.  Where something is to be decided, the rows are
# followed one by one.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from attrs import define

from engine.run import Run
from engine.running.code import Code, Names
from engine.running.link import Happening, LinkedGroup, LinkedRow, LinkedState, reached
from engine.running.written import OWN, Source, call, constant, done, happen
from states import Trigger
from states.names import name_of
from states.picture import visible


FOLLOW = object()  # said by a function that has done nothing: a guard is to be asked


@define(eq=False)
class Straight:
    """What follows a report: rows that follow each other without a choice.

    Attributes:
        trigger: What is reported.
        do: Does all that they ask for, and moves `run.state`.
        dest: Where they lead.
        heard: Whether anybody listens on the way.
        next: What follows the next report, where that leads one way, too.
    """

    trigger: Enum
    do: Callable[[Run], None]
    dest: LinkedState
    heard: bool
    next: "Straight | None" = None


@define(eq=False)
class Drawing:
    """How a batch is drawn where nobody but `run.stop` is asked.

    Attributes:
        do: Draws it, up to where it is there; gives what was reported, or FOLLOW: the rows are to be followed.
        fetch: Where the loader is asked.
        ready: The row that is taken when there is a batch.
        offers: The row on which the batch is offered to the user's code, where nobody may skip it before.
    """

    do: Callable[[Run], object]
    fetch: LinkedState
    ready: LinkedRow
    offers: LinkedRow | None


def straighten(start: LinkedState) -> None:
    """Write down what follows each report of the user's code, where it leads one way; a batch is offered first."""
    states = reached(start)
    for at in states:
        for group in at.groups if at.waits and at.action is not None else ():
            group.straight = None if group.trigger is Trigger.BATCH_READY else _straight(group)
    for group in (group for at in states for group in at.groups):
        if group.straight is not None:
            group.straight.next = _following(group.straight.dest)
    for at in states:
        row = _only(at.groups[-1]) if at.action is None and not at.waits and at.groups else None
        if row is not None and not row.heard and (following := _following(row.dest)) is not None:
            row.offered = _straight(row.dest.groups[0], row)
            assert row.offered is not None, "what follows it is straight"
            row.offered.next = following.next
    for at in states:
        at.drawing = _drawing(at)


def _following(at: LinkedState) -> Straight | None:
    """What follows the one thing that the user's code may report in a state."""
    return at.groups[0].straight if at.waits and len(at.groups) == 1 else None


def _straight(group: LinkedGroup, before: LinkedRow | None = None) -> Straight | None:
    """What follows a report; *before* is a row that was decided on and is taken first."""
    assert group.trigger is not None, "a state that acts reports"
    rows = list(_forced(group))
    if not rows:
        return None
    names = Names(space={}, taken=OWN)
    lines = [*(() if before is None else _taken(names, before)), *happen(names, group.first)]
    lines.append(f"run.ways.append({names('way', tuple(row.transition for row in rows))})")
    for number, row in enumerate(rows):
        if number:
            lines += [*done(names, rows[number - 1].dest), *happen(names, rows[number - 1].dest.groups[0].first)]
        lines += [_moved(names, row), *happen(names, row.heard)]
    happenings = [*group.first, *(happening for row in rows for happening in (*row.heard, *_first(row.dest)))]
    heard = any(not happening.code for happening in happenings)
    return Straight(group.trigger, _function(names, f"after_{name_of(group.trigger)}", lines), rows[-1].dest, heard)


def _drawing(at: LinkedState) -> Drawing | None:
    """How a batch is drawn from a state, if it asks `run.stop` alone."""
    if at.action is not None or not at.waits or not at.groups:
        return None
    *guarded, last = at.groups[0].choices
    asks = [row.ask for row in guarded if row.ask is not None]
    if last.heard or len(asks) < len(guarded) or not all(ask.wish for ask in asks):
        return None
    ready = next((group for group in last.dest.groups if group.trigger is Trigger.BATCH_READY), None)
    if ready is None or last.dest.action is None or (row := _only(ready)) is None or row.dest.waits:
        return None
    names = Names(space={"FOLLOW": FOLLOW}, taken=OWN)
    wishes = dict.fromkeys(f"run.{ask.wish}.reason is not None" for ask in asks)
    lines = [f"if {' or '.join(wishes) or False}:", "    return FOLLOW", *_taken(names, last)]
    lines += [f"trigger = {call(names, last.dest)}", f"if trigger is not {constant(names, ready.trigger)}:"]
    lines += ["    return trigger", *happen(names, ready.first), *_taken(names, row), *happen(names, row.heard)]
    do = _function(names, f"draw_in_{name_of(at.state)}", [*lines, "return trigger"])
    offering = _only(row.dest.groups[0]) if row.dest.action is None else None
    offers = offering is not None and offering.dest.waits and offering.dest.action is not None
    return Drawing(do, last.dest, row, offering if offers else None)


def _taken(names: Names, row: LinkedRow) -> tuple[str, str]:
    return f"run.ways.append({names('way_to_' + name_of(row.dest.state), row.way)})", _moved(names, row)


def _moved(names: Names, row: LinkedRow) -> str:
    return f"run.state = {constant(names, row.dest.state)}  # {visible(str(row.transition))}"


def _function(names: Names, wanted: str, lines: Iterable[str]) -> Callable[[Run], Any]:
    """Lines as a function of the run."""
    name = names(wanted, lines)
    text = "\n".join((f"def {name}(run):", *Code(tuple(lines)).inside(), ""))
    return Source(name, text, names.space).compiled()


def _first(at: LinkedState) -> tuple[Happening, ...]:
    return at.groups[0].first if not at.waits and at.action is not None and at.groups else ()


def _forced(group: LinkedGroup) -> Iterator[LinkedRow]:
    """The rows that are taken whatever happens: up to a state that waits, decides, ends, or may report several."""
    seen: set[LinkedState] = set()
    while (row := _only(group)) is not None and row.dest.groups and row.dest not in seen:
        yield row
        at = row.dest
        seen.add(at)
        if at.waits or at.action is None or not at.action.sure or len(at.groups) > 1:
            return
        group = at.groups[0]


def _only(group: LinkedGroup) -> LinkedRow | None:
    """The row that is taken whatever happens."""
    row = group.choices[0]
    return row if row.ask is None else None
