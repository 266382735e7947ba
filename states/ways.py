"""Which ways of a machine fit a trace so far?  All of them are followed at once, line by line, counters and all.

# Theory of operation
#
# Who only reads a trace does not know which rows were taken without a sound.  So all ways that fit are kept: each is a
# stride (see `strides`), a way in which its guards are asked (see `askings`), and how much of both has come.  A line
# keeps the ways that show what it says.
#
# Beside the strides of the table, a run may end where it stands between two of them: it dies of the code around it, or
# is left.  And a state that holds a machine may report without it, where the user's own code does its work.
"""

from collections.abc import Iterable, Iterator

from attrs import define, evolve, field, frozen

from states.askings import Answering, Asking, askings, offered
from states.machine import Machine
from states.names import Counter, Trigger, name_of
from states.places import Place, begun
from states.rows import Transition
from states.strides import Heard, Spot, Stride, Strides, hearings
from states.trace import TraceLine, counters


# How a state that holds a machine may report, whether that machine has run or not.
_TOLD = (Trigger.VALIDATED, Trigger.VALIDATION_STOPPED)


@frozen(eq=False)
class Way:
    """One thing that may be going on.

    Attributes:
        spot: Where the run was before.
        stride: What may be going on.
        there: Where the run is behind it; nowhere, where it has ended.
        asking: Who is asked before its row is chosen.
        done: How many of its events were heard.
        turn: How many of the turns of the asking are over.
    """

    spot: Spot
    stride: Stride
    there: Spot | None
    asking: Asking
    done: int = 0
    turn: int = 0

    @property
    def heard(self) -> Heard | None:
        """The event that is heard next, if one is to come before anybody is asked."""
        return self.stride.heard[self.done] if self.done < len(self.stride.heard) and not self.waits else None

    @property
    def asks(self) -> bool:
        """Whether this is the moment in which guards are asked."""
        return self.done == len(self.stride.row.first)

    @property
    def waits(self) -> bool:
        """Whether somebody has to be asked before anything else."""
        return self.asks and self.turn < self.asking.needed

    @property
    def past(self) -> bool:
        """Whether all of it was heard, and everyone asked."""
        return self.done == len(self.stride.heard) and not self.waits

    @property
    def over(self) -> bool:
        """Whether the run may have ended behind this."""
        return self.past and (self.there is None or self.there[0].over)

    @property
    def ending(self) -> bool:
        """Whether the next event is one of a run that dies, or is left."""
        death = self.stride.death
        return death is not None and self.done >= len(self.stride.heard) - len(death.heard)

    @property
    def row(self) -> Transition | None:
        """The row on the way of which the next event is heard; none where it is heard first."""
        if self.ending:
            return self.stride.death
        return self.stride.row if self.done >= len(self.stride.row.first) else None

    def hear(self) -> "Way":
        """The same, when the next event was heard."""
        return evolve(self, done=self.done + 1)

    def answer(self, answer: bool | None) -> "Way":
        """The same, when the next turn was taken: behind a yes, and what is raised, nobody is asked."""
        return evolve(self, turn=self.turn + 1 if answer is False else len(self.asking.turns))

    def event(self, heard: Heard) -> TraceLine:
        """The line of the event that is heard next."""
        return TraceLine(
            machine=self.spot[0].frames[heard.depth].machine.name,
            depth=heard.depth,
            event=heard.name,
            state=name_of(heard.state),
            row=str(self.row) if self.row else None,
            counters=counters(heard.counters),
        )

    def asked(self) -> Iterator[TraceLine]:
        """The lines in which the next turn may be taken, if anybody may be asked now: one for each answer."""
        if not self.asks or self.turn >= len(self.asking.turns):
            return
        place = self.spot[0]
        _, now = hearings(place, evolve(self.stride.row, heard=()), self.spot[1])
        guard, callback, answers = self.asking.turns[self.turn]
        for answer in answers:
            yield TraceLine(
                machine=place.machine.name,
                depth=len(place.frames) - 1,
                guard=name_of(guard),
                callback=callback,
                state=name_of(place.state),
                counters=counters(now[-1]),
                answer=answer,
            )


@define(eq=False)
class Ways:
    """All ways of one run that fit its lines so far.

    Attributes:
        machine: The machine.
        epoch: Where the run's epochs start.
        most: No counter of the trace is larger; beyond it, numbers need not be told apart.
        who: Who answers which guard.
    """

    machine: Machine
    epoch: int
    most: int
    who: Answering
    _strides: Strides = field(init=False)
    _now: list[Way] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Stand where nothing has happened."""
        self._strides = Strides(self.machine, None, None, faults=True)
        start = (self.epoch, *[0] * (len(Counter) - 1))
        self._now = self._closed([], [(begun(self.machine), (start,))])

    @property
    def now(self) -> list[Way]:
        """Whatever may be going on."""
        return self._now

    @property
    def over(self) -> bool:
        """Whether the run may have ended."""
        return any(way.over for way in self._now)

    def go(self, ways: Iterable[Way]) -> None:
        """Keep some of the ways, and what may come behind them."""
        kept = list(ways)
        self._now = self._closed(kept, [spot for way in kept for spot in self._behind(way)])

    def _closed(self, ways: list[Way], spots: list[Spot]) -> list[Way]:
        """These, and all that may begin at these spots, and behind what is silent there."""
        closed, seen = list(ways), set(spots)
        for spot in spots:
            begun_here = [*self._begun(spot)]
            closed += [*begun_here, *self._ends(spot)]
            new = [there for way in begun_here for there in self._behind(way) if there not in seen]
            spots.extend(new)
            seen.update(new)
        return closed

    def _behind(self, way: Way) -> list[Spot]:
        """Where the run is behind a way of which all was heard; in two more ways, if that is in a held machine."""
        if way.there is None or not way.past:
            return []
        (place, counts), outer = way.there, len(way.spot[0].frames)
        spots = [(place, tuple(tuple(min(number, self.most) for number in each) for each in counts))]
        if len(place.frames) > outer:
            *around, holding = place.frames[:outer]
            spots += [(Place((*around, evolve(holding, held=told))), counts[:outer]) for told in _TOLD]
        return spots

    def _begun(self, spot: Spot) -> Iterator[Way]:
        """All that the table lets begin at a spot."""
        for stride, there in self._strides.at(spot):
            for asking in askings(spot[0], stride, self.who):
                yield Way(spot, stride, there, asking)

    def _ends(self, spot: Spot) -> Iterator[Way]:
        """How a run ends where it stands: a death of the code around it, or left by that code."""
        (outer, *inner), counts = spot[0].frames, spot[1]
        for row in (*outer.machine.deaths, *(() if inner else outer.machine.departures)):
            if row.source is outer.state:
                heard = tuple(Heard(name_of(event), row.dest, 0, counts[0]) for event in row.heard)
                for asking in (Asking((), 0), *offered(spot[0], self.who)):
                    yield Way(spot, Stride(row, (), heard, 0, death=row), None, asking)
