"""Where can a run be, when nothing but the table is known?  Every report, every answer, and no plan.

Of the counters, a place keeps the one fact that no plan is free to choose: whether a window waits for its step.  The
counter only grows by one and goes back to nothing, and is only asked whether it is nothing: so one bit of it is exact.
The other counters are only compared with numbers of the plan, and a plan may choose those as it likes.
"""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from states.names import Counter, Event, Trigger
from states.rows import Transition, When


if TYPE_CHECKING:
    from states.machine import Machine


@frozen
class Place:
    """Where a run is: the machines that it is in, outermost first, each with its state."""

    machines: "tuple[Machine, ...]"
    states: tuple[Enum, ...]
    # For each of them, whether gradients wait for a step.
    waits: tuple[bool, ...]
    # How the machine that the innermost state holds has ended; nothing before it has run.
    held: Trigger | None = None

    @property
    def machine(self) -> "Machine":
        """The innermost machine."""
        return self.machines[-1]

    @property
    def state(self) -> Enum:
        """The state of the innermost machine."""
        return self.states[-1]

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return len(self.states) == 1 and self.state in self.machine.finals

    @property
    def scopes(self) -> tuple[str, ...]:
        """What is open here, by what was proved of each machine."""
        pairs = zip(self.machines, self.states, strict=True)
        return tuple(scope for machine, state in pairs for scope in machine.proof.scopes[state])


def begun(machine: "Machine") -> Place:
    """A run that has not done anything."""
    return Place((machine,), (machine.initial,), (False,))


def settled(place: Place) -> Place:
    """Go into a held machine that has not run, and out of one that is over: no row is taken for that."""
    if len(place.states) > 1 and place.state in place.machine.finals:
        return evolve(place, machines=place.machines[:-1], states=place.states[:-1], waits=place.waits[:-1])
    if place.held is None and (inner := place.machine.holds.get(place.state)):
        states, waits = (*place.states, inner.initial), (*place.waits, place.waits[-1])
        return Place((*place.machines, inner), states, waits, Trigger.VALIDATED)
    return place


def reports(place: Place, *, counted: bool = True) -> list[Enum | None]:
    """What may be reported here; `counted=False`: even what the window or the held run speaks against."""
    triggers = dict.fromkeys(row.trigger for row in place.machine.rows_from(place.state))
    never = {Trigger.WINDOW_EMPTY if place.waits[-1] else Trigger.WINDOW_OPEN}
    never |= {Trigger.VALIDATED, Trigger.VALIDATION_STOPPED} - {place.held}
    return [trigger for trigger in triggers if not counted or trigger not in never]


def taken(place: Place, row: Transition) -> Place:
    """Where a row leads."""
    held = place.held if len(place.states) > 1 else None
    if held and Event.STOP in row.heard:
        held = Trigger.VALIDATION_STOPPED
    return settled(Place(place.machines, (*place.states[:-1], row.dest), (*place.waits[:-1], _waits(place, row)), held))


def _waits(place: Place, row: Transition) -> bool:
    waits = place.waits[-1]
    for what in (row.trigger, *row.events):
        for when in When:
            for count in place.machine.counts:
                if count.counter is Counter.WINDOW and count.what is what and count.when is when:
                    waits = count.by is not None
    return waits


def moves(place: Place, *, counted: bool = True) -> Iterator[tuple[Transition, Place]]:
    """Every row that may be taken here, and where it leads."""
    for trigger in reports(place, counted=counted):
        for row in place.machine.groups[place.state, trigger]:
            yield row, taken(place, row)
