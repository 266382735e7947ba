"""Where is a run, in the picture of its machine?  Its state, and the rows that it took last."""

from collections.abc import Iterable
from enum import Enum

from attrs import evolve

from states.errors import StateloopError, nearest, shown
from states.machine import Machine
from states.names import name_of
from states.picture import Picture, joined
from states.rows import Transition


class PlaceUnknown(StateloopError):
    """A picture was to show a run in a state, or on a row, that its machine does not have."""


def marked(
    drawn: Picture, machine: Machine, here: Enum | None = None, taken: Transition | Iterable[Transition] = ()
) -> Picture:
    """The picture with the place of a run in it.

    Args:
        drawn: The picture of the machine.
        machine: The machine itself.
        here: The state in which the run is, or `None`; an abnormal end, too.
        taken: The row that was taken last, or several.  A death or departure has no arrow: the note stands for it.

    Raises:
        PlaceUnknown: the machine has no such state or row.

    Example:
        >>> from states import TRAINING, State
        >>> from states.picture import picture
        >>> place = marked(picture(TRAINING), TRAINING, State.STEP, TRAINING.rows_from(State.AVERAGE))
        >>> place.here, [place.arrows[number].source for number in place.taken]
        ('step', ['average'])
    """
    rows = (taken,) if isinstance(taken, Transition) else tuple(taken)
    name = "" if here is None else _name(here, machine)
    return evolve(drawn, here=name, taken=frozenset(number for row in rows for number in _numbers(row, machine)))


def _name(here: object, machine: Machine) -> str:
    states = {
        name_of(state): state
        for state in (*machine.states, *(row.dest for row in (*machine.deaths, *machine.departures)))
    }
    given = here if isinstance(here, str) else name_of(here)
    if isinstance(here, Enum) and states.get(given) is here:
        return given
    raise PlaceUnknown(
        f"here is {shown(here)}, which is no state of {machine.name}\n"
        f"  allowed:  {', '.join(states)}\n"
        f"  instead:  {f'write {states[given]}, the state itself' if given in states else nearest(given, states)}"
    )


def _numbers(row: object, machine: Machine) -> tuple[int, ...]:
    """The number of the arrow on which a row stands; none for a death or a departure."""
    if row in machine.deaths or row in machine.departures:
        return ()
    for number, rows in enumerate(joined(machine)):
        if row in rows:
            return (number,)
    raise PlaceUnknown(
        f"taken has {_told(row)}, which is no row of {machine.name}\n"
        f"  allowed:  rows of {machine.name}, as run.recent has them\n"
        f"  instead:  {_instead(row, machine)}"
    )


def _told(row: object) -> str:
    return f"'{row}'" if isinstance(row, Transition) else shown(row)


def _instead(row: object, machine: Machine) -> str:
    """The nearest row, for one that was changed or misread."""
    if not isinstance(row, Transition):
        return "pass Transitions"
    return nearest(str(row), map(str, machine.rows)) if machine.rows_from(row.source) else "draw the machine it is from"
