"""What may happen where a run is?  A row is taken, or something raises on its way: each such stride, and its end.

# Theory of operation
#
# A *spot* is a place (see `places`) and, under a plan, the counters of each machine that the run is in.  Without a plan
# the counters are left out: then what is reported is free, and what is found holds for every plan.
#
# Something may raise in the action of a state, in a callback that hears, or in a guard that is asked.  Then the run
# dies in the one way that there is: `exception`, and the end of its outermost scope.
"""

from collections.abc import Collection, Iterable, Iterator
from enum import Enum

from attrs import define, field, frozen

from states.machine import Machine
from states.names import Counter, Guard, name_of
from states.places import Place, moves, reports
from states.rows import Transition, When
from states.walk import Plan, planned


# The counters of one machine, in the order of `Counter`.
Counts = tuple[int, ...]
ZERO: Counts = (0,) * len(Counter)
# A place, and the counters of each of its machines where a plan keeps them.
Spot = tuple[Place, tuple[Counts, ...]]
Asked = tuple[tuple[Enum, bool], ...]


@frozen
class Heard:
    """One event as it is heard: its name, the state that the run shows, how deep it is, the counters under a plan."""

    name: str
    state: Enum
    depth: int
    counters: Counts


@frozen(eq=False)
class Stride:
    """One thing that may happen.

    Attributes:
        row: The row that is taken, or on the way of which something raises.
        asked: The guards that are asked and answer, in order; not those that a granted stop answers.
        heard: What is heard, that of the death included.
        depth: 0 for the machine itself, 1 for one that a state holds.
        raises: What raises: a state (its action), an event (a callback that hears it) or a guard.
        death: The row of the death, where something raises.
    """

    row: Transition
    asked: Asked
    heard: tuple[Heard, ...]
    depth: int
    raises: Enum | None = None
    death: Transition | None = None

    def __str__(self) -> str:
        if self.raises is None or self.death is None or self.death.trigger is None:
            return str(self.row)
        return f"{self.row}  ({name_of(self.death.trigger)} in {name_of(self.raises)})"


@define(eq=False)
class Strides:
    """All that may happen in the runs of a machine, under a plan or none.

    Attributes:
        machine: The machine; those that its states hold are walked in it.
        plan: How long loaders and epochs are, if that is told.
        answering: The guards that may say yes; `None` is all.
        faults: Whether anything may raise.
    """

    machine: Machine
    plan: Plan | None
    answering: Collection[Enum] | None
    faults: bool
    _moves: dict[Place, list[tuple[Transition, Place]]] = field(init=False, factory=dict)
    _deaths: dict[Enum, list[Transition]] = field(init=False, factory=dict)
    # What was found at a spot; many ways come by it.
    _found: dict[Spot, tuple[tuple[Stride, Spot | None], ...]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """Sort the rows of the deaths by where a run dies."""
        for row in self.machine.deaths:
            self._deaths.setdefault(row.source, []).append(row)

    def begin(self, place: Place) -> Spot:
        """The spot of a run at a place where nothing was counted."""
        return place, (ZERO,) if self.plan else ()

    def at(self, spot: Spot) -> tuple[tuple[Stride, Spot | None], ...]:
        """Each thing that may happen at a spot, and the spot behind it: none, where the run has died."""
        if spot not in self._found:
            self._found[spot] = tuple(self._find(spot))
        return self._found[spot]

    def _find(self, spot: Spot) -> Iterator[tuple[Stride, Spot | None]]:
        place, counters = spot
        if place not in self._moves:
            self._moves[place] = list(moves(place))
        told = [trigger for trigger in reports(place) if self._reported(spot, trigger)]
        if self.faults:
            for trigger in told:
                yield from ((stride, None) for stride in self._deaths_before(spot, trigger))
        for row, there in self._moves[place]:
            if row.trigger in told and self._answered(place, row):
                heard, after = hearings(place, row, counters)
                stride = Stride(row, self._asked(place, row), heard, len(place.frames) - 1)
                yield stride, (there, _resized(after, len(there.frames)))
                if self.faults:
                    yield from ((death, None) for death in self._deaths_behind(spot, stride))

    def _reported(self, spot: Spot, trigger: Enum | None) -> bool:
        """Whether the plan lets a trigger be reported; of what it does not tell, anything may be."""
        place, counters = spot
        if self.plan is None or trigger is None or place.state in place.machine.holds:
            return True
        plan = self.plan
        for _ in place.frames[1:]:
            plan = plan.held()
        now = dict(zip(Counter, counters[-1], strict=True))
        if (chosen := plan.reports.get(place.state)) is not None:
            return trigger is chosen(now)
        if len({row.trigger for row in place.machine.rows_from(place.state)}) == 1:
            return True
        told = planned(place.machine, plan=plan, state=place.state, counters=now)
        return told is None or trigger is told

    def _answered(self, place: Place, row: Transition) -> bool:
        """Whether anybody lets a row be taken: those who answer, or a stop that was granted."""
        if row.guard is None or self.answering is None or row.guard in self.answering:
            return True
        return place.frames[-1].stopped and row.guard is Guard.STOP_TRAINING

    def _asked(self, place: Place, row: Transition) -> Asked:
        rows = place.machine.groups[row.group]
        return tuple((guard, guard is row.guard) for guard in self._guards(place, rows[: rows.index(row) + 1]))

    def _guards(self, place: Place, rows: tuple[Transition, ...]) -> list[Enum]:
        """The guards of some rows that somebody is asked for; a granted stop is not asked for again."""
        granted = Guard.STOP_TRAINING if place.frames[-1].stopped else None
        return [row.guard for row in rows if row.guard is not None and row.guard is not granted]

    def _deaths_before(self, spot: Spot, trigger: Enum | None) -> Iterator[Stride]:
        """Deaths before a row is chosen: in the action, in what is heard first, in a guard."""
        place, counters = spot
        rows, depth = place.machine.groups[place.state, trigger], len(place.frames) - 1
        heard, asked_at = _first(place, rows[0], _innermost(counters))
        if trigger is not None:
            yield from self._dying(spot, Stride(rows[0], (), (), depth, place.state), _innermost(counters))
        for number, event in enumerate(rows[0].first, 1):
            so_far = Stride(rows[0], (), heard[:number], depth, event)
            yield from self._dying(spot, so_far, heard[number - 1].counters)
        guards = self._guards(place, rows)
        for number, guard in enumerate(guards):
            if self.answering is None or guard in self.answering:
                asked = tuple((earlier, False) for earlier in guards[:number])
                yield from self._dying(spot, Stride(rows[0], asked, heard, depth, guard), asked_at)

    def _deaths_behind(self, spot: Spot, stride: Stride) -> Iterator[Stride]:
        """Deaths on the way of a row that was chosen: in what is heard in its destination."""
        row = stride.row
        for number, event in enumerate(row.heard, len(row.first) + 1):
            heard = stride.heard[:number]
            yield from self._dying(spot, Stride(row, stride.asked, heard, stride.depth, event), heard[-1].counters)

    def _dying(self, spot: Spot, so_far: Stride, now: Counts) -> Iterator[Stride]:
        """A stride that ends in a death, of an exception and of Ctrl-C; before the run has begun nothing is heard."""
        (outer, *inner), counters = spot[0].frames, spot[1]
        row, moved = so_far.row, len(so_far.heard) > len(so_far.row.first)
        state = outer.state if inner else row.dest if moved else row.source
        last = counters[0] if inner and counters else now
        for death in self._deaths.get(state, ()):
            ends = tuple(Heard(name_of(event), death.dest, 0, last) for event in death.heard)
            yield Stride(row, so_far.asked, (*so_far.heard, *ends), len(inner), so_far.raises, death)


def hearings(
    place: Place, row: Transition, counters: tuple[Counts, ...]
) -> tuple[tuple[Heard, ...], tuple[Counts, ...]]:
    """What is heard when a row is taken, and the counters behind it."""
    first, now = _first(place, row, _innermost(counters))
    heard, now = _heard(place, row.heard, row.dest, now)
    return (*first, *heard), (*counters[:-1], now) if counters else ()


def _innermost(counters: tuple[Counts, ...]) -> Counts:
    return counters[-1] if counters else ()


def _first(place: Place, row: Transition, now: Counts) -> tuple[tuple[Heard, ...], Counts]:
    """What is heard when a trigger is reported, and the counters when guards are asked."""
    return _heard(place, row.first, row.source, _counted(place.machine, now, When.BEFORE, row.trigger))


def _heard(place: Place, events: Iterable[Enum], state: Enum, now: Counts) -> tuple[tuple[Heard, ...], Counts]:
    heard: list[Heard] = []
    for event in events:
        now = _counted(place.machine, now, When.BEFORE, event)
        heard.append(Heard(name_of(event), state, len(place.frames) - 1, now))
        now = _counted(place.machine, now, When.AFTER, event)
    return tuple(heard), now


def _counted(machine: Machine, counters: Counts, when: When, what: Enum | None) -> Counts:
    for count in machine.counts if counters and what is not None else ():
        if count.when is when and count.what is what:
            at = tuple(Counter).index(count.counter)
            counters = (*counters[:at], count.moved(counters[at]), *counters[at + 1 :])
    return counters


def _resized(counters: tuple[Counts, ...], depth: int) -> tuple[Counts, ...]:
    """Counters for so many machines: a held one begins with those of its parent, and takes its own along at its end."""
    while counters and len(counters) < depth:
        counters = (*counters, counters[-1])
    return counters[:depth]
