"""How is a mutant put in force?  Every run that begins meanwhile has its fault, and none goes on for ever."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from attrs import define, field

from engine.errors import ArgumentRefused, Refused
from engine.run import Run
from engine.running import prepare
from engine.running.asking import Asker
from engine.running.link import Doing, Ears, Happening, Linked, link, reached
from engine.testing.mutation.linking import Linking
from engine.testing.mutation.mutants import Mutant
from states import Machine


# No test takes more transitions than this, if nobody says.
MANY = 100_000


class Endless(Refused):
    """A mutant takes far more transitions than the machine that it was made from."""


@define(eq=False)
class Watch:
    """What runs while a mutant is in force.

    Attributes:
        most: How many transitions may be taken, all runs together.
        taken: How many were taken.
        given: What the rows of each run were linked from.
    """

    most: int
    taken: int = 0
    given: list[Linking] = field(factory=list)

    @property
    def endless(self) -> bool:
        """Whether more were asked for than may be."""
        return self.taken > self.most

    def over(self, linked: Linked) -> Linked:
        """Count the rows that are taken; the last one of a run need not be, for none comes behind it."""
        count = Happening(self._count, "watch")
        for row in (row for at in reached(linked.start) for group in at.groups for row in group.rows):
            if row.dest.groups:
                row.heard = (count, *row.heard)
        return linked

    def _count(self, run: Run) -> None:
        self.taken += 1
        if self.endless:
            raise Endless(
                f"a broken {run.machine.name} has taken {self.taken} transitions, and is in {run.where}",
                allowed=f"{self.most}",
                instead="let more of them pass, if the machine is to take so many: mutated(mutant, most=...)",
            )


@contextmanager
def mutated(mutant: Mutant, *, most: int = MANY) -> Iterator[Watch]:
    """Let every run that is begun in here have a fault, of `fit`, `start`, `evaluate` and `predict` alike.

    What is begun before goes on without it.  It is put back whatever happens.  The fault is in all threads.

    Args:
        mutant: The fault; only runs of its machine have it.
        most: How many transitions may be taken in here before an exception says that they have no end.

    Raises:
        ArgumentRefused: another mutant is in force.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.testing.mutation.mutants import machine_mutants
        >>> from states import TRAINING
        >>> (mutant,) = [one for one in machine_mutants(TRAINING) if one.change == "drop: updates + 1 before step_end"]
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> with mutated(mutant):
        ...     engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3).updates
        0
        >>> engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3).updates
        3
    """
    if vars(prepare)["link"] is not link:
        raise ArgumentRefused(
            f"the mutant {mutant} was to be put in force while another one is",
            allowed="one mutant at a time",
            instead="leave the other `with mutated(...)` first",
        )
    watch = Watch(most)

    def linked_with_fault(
        machine: Machine, actions: Doing, ears: Ears, asker: Asker, *, checked: bool = False, every: bool = False
    ) -> Linked:
        given = Linking(machine, actions, ears, asker, checked, every)
        watch.given.append(given)
        return watch.over(mutant.put(given) if machine == mutant.machine else given.link())

    with patch.object(prepare, "link", linked_with_fault):
        yield watch
