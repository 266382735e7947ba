"""What should have happened?  The reference walk over the table, held against what a run has done so far.

# Theory of operation
#
# A run that stands still is compared with `states.walk`, which takes rows by what was reported and answered.  The walk
# goes on for as long as the run did: until it is in the state of the run and nothing that was heard is left to explain.
"""

from collections.abc import Iterator
from enum import Enum
from functools import partial

from attrs import define, field

from engine.testing.walked.player import Line, Log, asked, before, did, first_difference, heard, told
from states import Counter, Machine
from states.names import is_stop, name_of
from states.walk import Counters, Plan, Step, walk


class Differs(AssertionError):
    """A run does what its table does not say."""


@define(eq=False)
class Reference:
    """One run as its table has it.

    Attributes:
        machine: The machine.
        log: What the run has done.
        answered: Whether somebody answers the guards.
        state: Where the walk is.
        counters: The counters there.
        lines: What should have been done, asked and heard up to there.
    """

    machine: Machine
    log: Log
    answered: bool
    state: Enum = field(init=False)
    counters: Counters = field(init=False)
    lines: list[Line] = field(init=False, factory=list)
    _report: Enum | None = field(init=False, default=None)
    _steps: Iterator[Step] = field(init=False)
    # What was done and asked on the way that the walk is taking.
    _did: list[Line] = field(init=False, factory=list)
    _asked: list[Line] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        """Begin."""
        inside = (self.machine, *self.machine.within)
        acting = {row.source for one in inside for row in one.rows if row.trigger} - {
            s for one in inside for s in one.holds
        }
        begins = {one.initial for one in inside}  # these report one thing, and several machines may begin in one state
        plan = Plan(reports={state: partial(self._reported, state) for state in acting - begins})
        self.state, self.counters = self.machine.initial, dict.fromkeys(Counter, 0)
        self._steps = walk(self.machine, plan, self._answer)

    def follow(self, here: Enum, report: Enum | None = None) -> None:
        """Go on as far as the run did, which is in *here* now; *report* is what was reported to it, if anything was."""
        self._report, start = report, True
        while self._goes_on(here, start=start):
            self._take()
            start = False
        if self._differs(here):
            raise Differs(self._told(here))

    @property
    def acting(self) -> Enum:
        """The state that takes the next report, unless a guard or a held machine leads elsewhere."""
        state, begun = self.state, self.state
        while (self.machine.decides(state) or state in self.machine.holds) and (
            state is begun or not self._waits(state)
        ):
            state = self.machine.rows_from(state)[-1 if self.machine.decides(state) else 0].dest
        return state

    def _goes_on(self, here: Enum, *, start: bool) -> bool:
        if self.state in self.machine.finals:
            return False
        if self._report is not None and not self.machine.decides(self.state) and self.state not in self.machine.holds:
            return (self.state, self._report) in self.machine.groups
        if self._report is not None and start:
            return True
        if self.state is not here or any(kind != "asks" for kind, *_ in self._open):
            return self.machine.decides(self.state) or self.state in self.machine.holds or bool(self.log.does)
        return False

    @property
    def _open(self) -> list[Line]:
        """What the run has done and the walk has not explained yet."""
        return self.log.lines[len(self.lines) :]

    def _waits(self, state: Enum) -> bool:
        """Whether a run that is told of reports stands still in a state that decides: where stops are asked for."""
        return any(row.guard is not None and is_stop(row.guard) for row in self.machine.rows_from(state))

    def _take(self) -> None:
        """Take one row; those of a machine that the state holds come first, and nothing is reported to that one."""
        if self.state is self.machine.initial:
            self._reported(self.state, self.counters)
        report = self._report if self.state in self.machine.holds else None
        self._report = None if report else self._report
        for step in self._steps:
            self.lines += [*self._did, *map(heard, step.first), *self._asked, *map(heard, step.heard)]
            self._did, self._asked = [], []
            if step.depth == 0:
                self.state, self.counters = step.row.dest, step.counters
                self._report = report or self._report
                return

    def _reported(self, state: Enum, counters: Counters) -> Enum:
        del counters
        if self._report is not None:
            trigger, self._report = self._report, None
            return trigger
        if self.log.does and self.log.does[0][0] is state:
            at, trigger = self.log.does.popleft()
            self._did.append(did(at, trigger))
            return trigger
        raise Differs(f"nothing was done in {name_of(state)}, and the run went on")

    def _answer(self, guard: Enum, counters: Counters) -> bool:
        del counters
        if not self.answered:
            return False
        if not self.log.asks:
            raise Differs(f"{name_of(guard)} was not asked in {name_of(self.state)}, and the run went on")
        yes = self.log.asks.popleft()
        self._asked.append(asked(guard, yes))
        return yes

    def _differs(self, here: Enum) -> bool:
        rest = self._open
        explained = self.log.lines[: len(self.lines)] == self.lines
        ahead = all(kind == "asks" for kind, *_ in rest) and (not rest or self.machine.decides(self.state))
        return not (explained and ahead and self.state is here)

    def _told(self, here: Enum) -> str:
        """The first line that differs, and what was before it."""
        log, lines = self.log.lines, self.lines
        at = first_difference(log, lines)
        at = len(log) if at is None else at
        ended = "" if here is self.state else f", and it is in {name_of(here)} and not in {name_of(self.state)}"
        return (
            f"the run differs from its table{ended}\n  the run:    {told(log, at)}\n"
            f"  the table:  {told(lines, at)}\n  before it:  {before(log, at)}"
        )
