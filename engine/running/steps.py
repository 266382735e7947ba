"""How is a run taken forward one transition at a time?  By whoever holds it: nothing happens between two calls.

# Theory of operation
#
# A `SteppedRun` stands somewhere in the linked rows of its machine.  `advance` does what the state asks for - the
# engine's own action, or the guards where a state decides - and takes one row.  Whatever is raised meanwhile ends the
# run as it ends any other (see `drive`).  To leave it early is a stop where a stop can be asked for; elsewhere what is
# open is abandoned, on the row that `Machine.departures` has for that state.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from enum import Enum
from types import TracebackType
from typing import Self, TypeVar

from attrs import define, field

from engine.errors import ArgumentRefused, EngineBusy, hint
from engine.outcome import ASKED, Outcome, Verdict
from engine.run import Run
from engine.running.drive import die, finish, reported
from engine.running.link import Linked, LinkedGroup, LinkedRow, LinkedState
from engine.running.straight import Straight
from engine.running.turns import Turns
from states import Guard, Transition
from states.errors import shown
from states.names import OF_THE_EPOCH, is_stop, name_of


Done = TypeVar("Done")


@define(eq=False, kw_only=True, repr=False)
class SteppedRun(Run):
    """A run that stands still until it is told to go on; `engine.start` gives one."""

    # The linked rows, and the state that the run is in.
    linked: Linked = field(repr=False)
    here: LinkedState = field(repr=False)
    # Who else runs, and what is open as long as this run goes on.
    turns: Turns
    opening: Callable[[Run], AbstractContextManager[object]]
    open: ExitStack = field(factory=ExitStack)
    begun: bool = False
    # Whether a transition is being taken: nobody may take another one meanwhile.
    moving: bool = False
    # The row that a state has decided on, where it was asked before the run goes on.
    decided: LinkedRow | None = None
    # What follows the next report, where nothing is to be decided and nothing to be looked at (see `reports`).
    quick: Straight | None = None

    @property
    def ended(self) -> bool:
        """Whether no transition is left."""
        return not self.here.groups

    def advance(self, to: Enum | str | None = None) -> Transition | None:
        """Take one transition; or as many as it needs, until the run is in a state, or an event was heard.

        Args:
            to: A state, an event, or the name of one.  An event is heard on the way from one state to the next: the run
                then stands in that next state.  At least one transition is taken.

        Returns:
            The transition that was taken last; `None` where the run has ended, or ended before it came to *to*.

        Raises:
            ArgumentRefused: the machine has no such state or event.
            EngineBusy: a transition of this run is being taken already, or another run of the engine goes on.
            Exception: whatever an action, a callback, a guard or the loader raises; the run has died of it.

        Cost: about a microsecond, and what is done and heard.

        Example:
            >>> import torch
            >>> from engine import Engine, State
            >>> model = torch.nn.Linear(2, 1)
            >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
            >>> with engine.start([(torch.ones(4, 2), torch.zeros(4, 1))] * 3) as run:
            ...     print(run.advance())
            ...     print(run.advance(to=State.STEP))
            ...     print(run.advance(to="batch_end"), run.updates)
            idle fit_asked -> train: train_begin
            average grads_averaged -> step: step_begin
            zero_grad grads_cleared -> epoch: batch_end 1
        """
        if to is None:
            return self._move(self._act).transition if self.here.groups else None
        word = self._word(to)
        while not self.ended:
            taken = self._move(self._act).transition
            if word is taken.dest or word in taken.events:
                return taken
        return None

    def __iter__(self) -> Iterator[Transition]:
        """Take one transition after the other, to the end.

        Example: `for transition in run: print(transition, run.loss)`.
        """
        while (taken := self.advance()) is not None:
            yield taken

    def __enter__(self) -> Self:
        """The run itself; nothing has happened yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End in order what has not ended; an exception of the code around it is a death like any other.

        A generator that is closed around it is left, and nothing has failed.
        """
        if error is None or isinstance(error, GeneratorExit):
            self.close()
        elif not self.ended:
            self._die(error)

    def close(self) -> None:
        """End the run here.  Where a stop can be asked for, it is one: open scopes end in order.

        Elsewhere (a batch is open) what is open is abandoned, and callbacks hear the outermost end alone.  The outcome
        is STOPPED, unless all was done already.

        Raises:
            EngineBusy: a transition of this run is being taken.
        """
        if self.ended:
            return
        if not self.begun:
            self.outcome, self.here = Outcome.STOPPED, LinkedState(self.state)
            return
        if asks_stop(self.here):
            self._stop_here()
        else:
            self._move(self._abandon)

    def _stop_here(self) -> None:
        self.stop("the run was left before its end")
        while not self.ended:
            self._move(self._act)

    def _abandon(self) -> None:
        """Leave all that is open; only the outermost end is heard."""
        row = next(row for row in self.machine.departures if row.source is self.state)
        self.ways.append((row,))
        reason = f"the run was left in {self.where}"
        self.stops.append(Verdict(Guard.STOP_TRAINING, ASKED, row, reason, self.epoch, self.batch_index, self.updates))
        self.left = iter([happening.do for happening in self.linked.deaths[self.state]])
        self.state, self.stopping, self.outcome = row.dest, True, Outcome.STOPPED
        for hear in self.left:
            hear(self)
        self._end(LinkedState(row.dest))

    def _move(self, do: Callable[[], Done]) -> Done:
        """Let transitions be taken, and nobody else take one meanwhile; whatever is raised ends the run."""
        self._check_free()
        if not self.begun:
            self._begin()
        self.moving = True
        try:
            return do()
        except BaseException as error:
            self._die(error)
            raise
        finally:
            self.moving = False

    def _check_free(self) -> None:
        if self.moving or (self.begun and not self.ended and self.turns.runs[-1] is not self):
            raise self._busy()

    def _begin(self) -> None:
        self.turns.refuse_second("a second run was to begin")
        self.open.enter_context(self.opening(self))
        self.begun = True
        self.modes = [(module, module.training) for module in self.model.modules()]

    def _act(self) -> LinkedRow:
        """Do what the state asks for, and take the row that follows."""
        here = self.here
        if self.decided is not None:
            return self._take(self.decided)
        if here.action is None:
            return self._choose(here.groups[0])
        return self._choose(reported(self, here, here.action.do(self)))

    def _choose(self, group: LinkedGroup) -> LinkedRow:
        """A trigger has happened: let it be heard, ask the guards, take the row of the first yes, or the last."""
        for happening in group.first:
            happening.do(self)
        for row in group.choices:  # the one that breaks the loop is taken
            if row.ask is None or row.ask.do(self):
                break
        return self._take(row)

    def _take(self, row: LinkedRow) -> LinkedRow:
        here = row.dest
        self.decided = self.quick = None
        self.ways.append(row.way)
        self.state = here.state
        for happening in row.heard:
            happening.do(self)
        self.here = here
        if not here.groups:
            self._end(here)
        return row

    def _die(self, error: BaseException) -> None:
        die(self, self.linked, error)
        self._end(LinkedState(self.state))

    def _end(self, here: LinkedState) -> None:
        self.here, self.decided, self.quick = here, None, None
        if self.begun:
            finish(self)
        self.open.close()

    def _busy(self) -> EngineBusy:
        if self.moving:
            return EngineBusy(
                f"the run was told to go on while it is in {self.where}, and has not come out of that",
                allowed="one transition at a time",
                instead="return from the callback, guard or action first: the run goes on behind it; or run.stop(...)",
            )
        other = self.turns.runs[-1]
        return EngineBusy(
            f"the run was told to go on in {self.where} while {other.machine.name} is in {other.where}",
            allowed="one run at a time for each engine, the innermost first",
            instead="end the other run first, or make a second Engine for it",
        )

    def _word(self, to: object) -> Enum:
        words = {name_of(word): word for word in (*self.machine.states, *self.machine.events)}
        found = words.get(name_of(to) if isinstance(to, Enum) else to) if isinstance(to, Enum | str) else None
        if found is None or (isinstance(to, Enum) and found is not to):
            name = to if isinstance(to, str) else name_of(to)
            raise ArgumentRefused(
                f"run.advance was given to={shown(to)}, which is no state and no event of {self.machine.name}",
                allowed=", ".join(words),
                instead=hint(name, words),
            )
        return found


def asks_stop(here: LinkedState) -> bool:
    """Whether a stop of the run can be asked for where it is."""
    guards = {row.transition.guard for group in here.groups for row in group.rows}
    return any(guard is not None and is_stop(guard) for guard in guards - {*OF_THE_EPOCH})
