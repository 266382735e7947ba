"""Where can a run be, when nothing but the table is known?  Every report, every answer, and no plan.

Of the counters, `play` keeps the one fact that no plan is free to choose: whether a window waits for its step.  The
counter only grows by one and goes back to nothing, and is only asked whether it is nothing: so one bit of it is exact.
The other counters are only compared with numbers of the plan, and a plan may choose those as it likes.
"""

from collections.abc import Iterator
from enum import Enum

from attrs import evolve, frozen

from states import Counter, Event, Machine, Transition, Trigger, When
from states.names import name_of


@frozen
class Place:
    """Where a run is: the machines that it is in, outermost first, each with its state."""

    machines: tuple[Machine, ...]
    states: tuple[Enum, ...]
    # Gradients wait for a step.
    waits: bool = False
    # How the machine that the innermost state holds has ended; nothing before it has run.
    held: Trigger | None = None

    @property
    def machine(self) -> Machine:
        return self.machines[-1]

    @property
    def state(self) -> Enum:
        return self.states[-1]

    @property
    def over(self) -> bool:
        return len(self.states) == 1 and self.state in self.machine.finals

    @property
    def scopes(self) -> tuple[str, ...]:
        """What is open here, by what was proved of each machine."""
        pairs = zip(self.machines, self.states, strict=True)
        return tuple(scope for machine, state in pairs for scope in machine.proof.scopes[state])


def begun(machine: Machine) -> Place:
    """A run that has not done anything."""
    return Place((machine,), (machine.initial,))


def settled(place: Place) -> Place:
    """Go into a held machine that has not run, and out of one that is over: no row is taken for that."""
    if len(place.states) > 1 and place.state in place.machine.finals:
        return evolve(place, machines=place.machines[:-1], states=place.states[:-1])
    if place.held is None and (inner := place.machine.holds.get(place.state)):
        return Place((*place.machines, inner), (*place.states, inner.initial), place.waits, Trigger.VALIDATED)
    return place


def reports(place: Place, *, counted: bool = True) -> list[Trigger | None]:
    """What may be reported here; `counted=False`: even what the window or the held run speaks against."""
    triggers = dict.fromkeys(row.trigger for row in place.machine.rows_from(place.state))
    never = {Trigger.WINDOW_EMPTY if place.waits else Trigger.WINDOW_OPEN}
    never |= {Trigger.VALIDATED, Trigger.VALIDATION_STOPPED} - {place.held}
    return [trigger for trigger in triggers if not counted or trigger not in never]


def taken(place: Place, row: Transition) -> Place:
    """Where a row leads."""
    held = place.held if len(place.states) > 1 else None
    if held and Event.STOP in row.heard:
        held = Trigger.VALIDATION_STOPPED
    return settled(Place(place.machines, (*place.states[:-1], row.dest), _waits(place, row), held))


def _waits(place: Place, row: Transition) -> bool:
    waits = place.waits
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


@frozen
class Hearing:
    """Between two events: these are still to be heard before the run is at its next place."""

    place: Place
    still: tuple[str, ...] = ()


def hearings(machine: Machine, *, counted: bool = True) -> "Listener":
    """What a listener knows before anything is heard."""
    return Listener(frozenset({Hearing(begun(machine))}), counted)


@frozen
class Listener:
    """All the points at which a run may be, after what was heard: a state of the automaton of subsets."""

    points: frozenset[Hearing]
    counted: bool = True

    def closed(self) -> frozenset[Hearing]:
        """The points, and those that rows lead to on which nothing is heard."""
        points = list(self.points)
        for point in points:
            if not point.still:
                ways = moves(point.place, counted=self.counted)
                more = (Hearing(there, tuple(map(name_of, row.events))) for row, there in ways)
                points.extend(new for new in dict.fromkeys(more) if new not in points)
        return frozenset(points)

    def may_end(self) -> bool:
        """Whether the run may be over."""
        return any(not point.still and point.place.over for point in self.closed())

    def after(self) -> dict[str, "Listener"]:
        """What may be heard next, and what is known then."""
        heard: dict[str, set[Hearing]] = {}
        for point in self.closed():
            if point.still:
                heard.setdefault(point.still[0], set()).add(Hearing(point.place, point.still[1:]))
        return {event: Listener(frozenset(points), self.counted) for event, points in heard.items()}
