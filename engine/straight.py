"""What follows a report where nothing is to be decided?  The rows up to where the user's code acts, as one function.

# Theory of operation
#
# In a loop of the user's own most reports lead one way: nobody answers the guards, and what the engine does in between
# can report one thing alone.  Those rows are written down as in the loop of `fit` (see `loop`), so that a report costs
# one call and not a look at every row.  Where something is to be decided, the rows are followed.
"""

from collections.abc import Callable, Iterator

from attrs import frozen

from engine.code import Code, Names
from engine.link import LinkedGroup, LinkedRow, LinkedState, reached
from engine.run import Run
from engine.written import OWN, Source, constant, done, happen
from states import Trigger
from states.names import name_of
from states.picture import visible


@frozen(eq=False)
class Straight:
    """Rows that follow each other without a choice.

    Attributes:
        do: Does all that they ask for, and moves `run.state`.
        dest: Where they lead.
    """

    do: Callable[[Run], None]
    dest: LinkedState


def straighten(start: LinkedState) -> None:
    """Write down what follows each report of the user's code, where it leads one way; a batch is offered first."""
    for at in reached(start):
        for group in at.groups if at.waits and at.action is not None else ():
            group.straight = None if group.trigger is Trigger.BATCH_READY else _straight(group)


def _straight(group: LinkedGroup) -> Straight | None:
    assert group.trigger is not None, "a state that acts reports"
    rows = list(_forced(group))
    if not rows:
        return None
    names = Names(space={}, taken=OWN)
    name = names(f"after_{name_of(group.trigger)}", group)
    way = tuple(row.transition for row in rows)
    lines = [*happen(names, group.first), f"run.ways.append({names('way', way)})"]
    for number, row in enumerate(rows):
        if number:
            lines += [*done(names, rows[number - 1].dest), *happen(names, rows[number - 1].dest.groups[0].first)]
        lines.append(f"run.state = {constant(names, row.dest.state)}  # {visible(str(row.transition))}")
        lines += happen(names, row.heard)
    text = "\n".join((f"def {name}(run):", *Code(tuple(lines)).inside(), ""))
    do = Source(name, text, names.space).compiled()
    return Straight(do, rows[-1].dest)


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
