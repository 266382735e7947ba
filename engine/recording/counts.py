"""How many were there up to the end of each epoch?  A count over all parts of a training, that can be taken back."""

from collections.abc import Mapping

from attrs import define, field


@define(eq=False)
class Counts:
    """A count that goes on where a training goes on, and forgets the epochs that are trained again.

    It is kept for each epoch what had come by its end, so a training that begins with epoch n counts from where epoch
    n - 1 ended, whether a later one died, was stopped, or came to its end.  Of epochs that were never counted nothing
    is known: the count goes on from the last one before them, from 0 if there is none.

    Attributes:
        total: The count.
        ends: By epoch, in order, what it had come to when the epoch ended, or has come to in the one that is open.

    Example:
        >>> batches = Counts()
        >>> for epoch in (0, 0, 0, 1, 1, 1, 2):
        ...     batches.note(epoch, batches.total + 1)
        >>> batches.begin(2)  # epoch 2 died, and is trained again
        >>> batches.total
        6
    """

    total: int = 0
    ends: dict[int, int] = field(factory=dict)

    def note(self, epoch: int, total: int) -> None:
        """It has come to *total* in this epoch."""
        self.ends[epoch] = self.total = total

    def begin(self, epoch: int) -> None:
        """A training begins with this epoch: forget what was counted in it and in later ones."""
        self.ends = {number: total for number, total in self.ends.items() if number < epoch}
        self.total = max(self.ends.values(), default=0)

    def state_dict(self) -> dict[int, int]:
        """The count by epoch."""
        return dict(self.ends)

    def load_state_dict(self, state: Mapping[int, int]) -> None:
        """Go on from there."""
        self.ends, self.total = dict(state), max(state.values(), default=0)
