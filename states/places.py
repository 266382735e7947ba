"""Where can a run be, when nothing but the table is known?  Every report, every answer, and no plan.

Of the counters, a place keeps the one fact that no plan is free to choose: whether a window waits for its step.  The
counter only grows by one and goes back to nothing, and is only asked whether it is nothing: so one bit of it is exact.
The other counters are only compared with numbers of the plan, and a plan may choose those as it likes.
"""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from states.names import Counter, Guard, Trigger
from states.rows import Transition, When


if TYPE_CHECKING:
    from states.machine import Machine


STOP = Guard.STOP_TRAINING


@frozen(cache_hash=True)
class Frame:
    """One machine of those that a run is in: its state, and what a table alone does not tell."""

    machine: "Machine"
    state: Enum
    # Gradients wait for a step.
    waits: bool = False
    # A stop of the whole run was granted here, or in what was held.
    stopped: bool = False
    # How the machine that the state holds has ended; nothing before it has run.
    held: Trigger | None = None

    def reports(self, *, counted: bool) -> list[Enum | None]:
        """What may be reported here; not *counted*: even what the window or the held run speaks against.

        The one thing that a state can report is reported in any case.
        """
        triggers = dict.fromkeys(row.trigger for row in self.machine.rows_from(self.state))
        counted = counted and len(triggers) > 1
        never = {Trigger.WINDOW_EMPTY if self.waits else Trigger.WINDOW_OPEN}
        never |= {Trigger.VALIDATED, Trigger.VALIDATION_STOPPED} - {self.held}
        return [trigger for trigger in triggers if not counted or trigger not in never]

    def choices(self, trigger: Enum | None, *, counted: bool) -> tuple[Transition, ...]:
        """The rows that may follow: a stop that was granted is answered again, so that nothing below it is taken."""
        rows = self.machine.groups[self.state, trigger]
        asked = [row.guard for row in rows]
        return rows[: asked.index(STOP) + 1] if counted and self.stopped and STOP in asked else rows

    def after(self, row: Transition) -> "Frame":
        """The same machine behind a row."""
        stopped = self.stopped or row.guard is STOP or row.trigger is Trigger.VALIDATION_STOPPED
        return Frame(self.machine, row.dest, self._waits(row), stopped)

    def _waits(self, row: Transition) -> bool:
        waits = self.waits
        for what in (row.trigger, *row.events):
            for when in When:
                for count in self.machine.counts:
                    if count.counter is Counter.WINDOW and count.what is what and count.when is when:
                        waits = count.by is not None
        return waits


@frozen(cache_hash=True)
class Place:
    """Where a run is: the machines that it is in, outermost first."""

    frames: tuple[Frame, ...]

    @property
    def machine(self) -> "Machine":
        """The innermost machine."""
        return self.frames[-1].machine

    @property
    def state(self) -> Enum:
        """The state of the innermost machine."""
        return self.frames[-1].state

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return len(self.frames) == 1 and self.state in self.machine.finals

    @property
    def begun(self) -> bool:
        """Whether anything has happened yet."""
        return len(self.frames) > 1 or self.state is not self.machine.initial

    @property
    def scopes(self) -> tuple[str, ...]:
        """What is open here, by what was proved of each machine."""
        return tuple(scope for frame in self.frames for scope in frame.machine.proof.scopes[frame.state])


def begun(machine: "Machine") -> Place:
    """A run that has not done anything."""
    return Place((Frame(machine, machine.initial),))


def reports(place: Place, *, counted: bool = True) -> list[Enum | None]:
    """What may be reported here; `counted=False`: even what the window or the held run speaks against."""
    return place.frames[-1].reports(counted=counted)


def taken(place: Place, row: Transition) -> Place:
    """Where a row leads."""
    return _settled((*place.frames[:-1], place.frames[-1].after(row)))


def moves(place: Place, *, counted: bool = True) -> Iterator[tuple[Transition, Place]]:
    """Every row that may be taken here, and where it leads."""
    for trigger in reports(place, counted=counted):
        for row in place.frames[-1].choices(trigger, counted=counted):
            yield row, taken(place, row)


def _settled(frames: tuple[Frame, ...]) -> Place:
    """Go into a held machine that has not run, and out of one that is over: no row is taken for that."""
    here = frames[-1]
    if len(frames) > 1 and here.state in here.machine.finals:
        outer = frames[-2]
        held = Trigger.VALIDATION_STOPPED if here.stopped and not outer.stopped else Trigger.VALIDATED
        return Place((*frames[:-2], evolve(outer, held=held)))
    if here.held is None and (inner := here.machine.holds.get(here.state)):
        return _settled((*frames, Frame(inner, inner.initial, here.waits, here.stopped)))
    return Place(frames)
