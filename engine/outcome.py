"""How did a run end, and who had a say in it?  Outcomes, verdicts of guards, tallies of skips."""

from enum import Enum, unique

from attrs import define, frozen

from states import State, Transition
from states.names import name_of


@unique
class Outcome(Enum):
    """How a run ended; the values are the sentences that people read."""

    RUNNING = "the run has not ended yet"
    COMPLETED = "everything that was asked for was done"
    STOPPED = "a stop was asked for and the run ended in order"
    INTERRUPTED = "the run was interrupted from the keyboard"
    FAILED = "an exception ended the run"


# Who is said to have stopped a run when it was asked for by `run.stop`.
ASKED = "run.stop"
# Who is said to have skipped what was skipped by `run.skip`.
SKIPPED = "run.skip"


@frozen(repr=False)
class Verdict:
    """One yes of one guard: who gave it, on which transition, why, and when.

    Attributes:
        guard: The guard that was answered.
        who: The callback that said yes, or `run.stop`.
        transition: The row that was taken because of it.
        reason: What was given to `run.stop`, or that the callback answered.
        epoch: Epochs ended by then.
        batch_index: Batches ended in that epoch by then; between two epochs, in the one before.
        updates: Optimizer steps taken by then.
    """

    guard: Enum
    who: str
    transition: Transition
    reason: str
    epoch: int
    batch_index: int
    updates: int

    def __str__(self) -> str:
        between = self.transition.source is State.TRAIN
        where = f"before epoch {self.epoch}" if between else f"epoch {self.epoch}, batch {self.batch_index}"
        when = f"{where}, update {self.updates}"
        said = f": {self.reason}" if self.who == ASKED else ""  # a guard's yes says no more than that
        return f"{name_of(self.guard)} by {self.who} ({when}){said}"

    def __repr__(self) -> str:
        return f"<{self}>"


@define(eq=False, repr=False)
class Tally:
    """How often one callback skipped by one guard in this run, and the last time that it did."""

    guard: Enum
    who: str
    transition: Transition
    # Times that it said yes.
    count: int = 0
    # The counters at its last yes; -1 before the first.
    last_epoch: int = -1
    last_batch_index: int = -1
    last_updates: int = -1

    def note(self, transition: Transition, epoch: int, batch_index: int, updates: int) -> None:
        """Count one more yes, on this row and at these counters."""
        self.count += 1
        self.transition = transition
        self.last_epoch, self.last_batch_index, self.last_updates = epoch, batch_index, updates

    def __str__(self) -> str:
        last = f"epoch {self.last_epoch}, batch {self.last_batch_index}, update {self.last_updates}"
        return f"{name_of(self.guard)} by {self.who}: {self.count} time{'' if self.count == 1 else 's'}, last at {last}"

    def __repr__(self) -> str:
        return f"<{self}>"
