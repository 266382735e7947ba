"""Does the engine do what the table says?  Everything that may happen at all is walked, and done by a real engine.

The engine is bare: its actions compute nothing and report what the way says, its guards answer what the way says, and
something raises where the way says.  So each thing that `states.explore` finds is seen in a real run.
"""

from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

from engine.testing.runs.cases import Way
from engine.testing.walked.going import Going
from states import Machine
from states.explore import Broken, Explored, Monitor, explore
from states.strides import Stride
from states.walk import Plan


@frozen(eq=False)
class Unlike:
    """A way on which the engine does something else than the table: how it went, and what was otherwise."""

    way: tuple[Stride, ...]
    how: Way
    what: str

    def __str__(self) -> str:
        rows = "\n".join(f"    {stride}" for stride in self.way)
        return f"  by {self.how.value}: {self.what}, on the way\n{rows}"


@frozen(eq=False)
class Replayed:
    """What was walked, and done by a real engine.

    Attributes:
        explored: What was walked.
        runs: How many runs it took.
        unlike: Where the engine did something else.
    """

    explored: Explored
    runs: int
    unlike: tuple[Unlike, ...]

    @property
    def broken(self) -> tuple[Broken, ...]:
        """For each monitor that can be broken, a shortest way."""
        return self.explored.broken

    @property
    def counted(self) -> str:
        """What was walked and done, in a line."""
        found = f"{len(self.unlike)} otherwise" if self.unlike else "as the table says"
        walked = f"{self.explored.strides} things may happen at {self.explored.states} places"
        return f"{walked}; {self.runs} real runs: {found}"

    def __str__(self) -> str:
        return "\n".join([self.counted, *map(str, self.unlike)])


def replayed(
    machine: Machine,
    monitors: Mapping[str, Monitor] | None = None,
    *,
    plan: Plan | None = None,
    ways: Sequence[Way] = (Way.FIT, Way.ADVANCE),
) -> Replayed:
    """Walk all that may happen in a machine, and let a real engine do each of it, by a shortest way.

    Args:
        machine: The machine.
        monitors: Who watches the walk.
        plan: How long loaders and epochs are; by default what is walked does not depend on it.
        ways: In which ways the engine does it.

    Cost: a millisecond or two for each run.

    Example:
        >>> from states import EVALUATION
        >>> print(replayed(EVALUATION, ways=[Way.FIT]))
        38 things may happen at 9 places; 32 real runs: as the table says
    """
    explored = explore(machine, monitors or {}, plan=plan)
    played = list(replays(machine, explored, ways))
    return Replayed(explored, len(played), tuple(filter(None, played)))


def replays(
    machine: Machine, explored: Explored, ways: Sequence[Way] = (Way.FIT, Way.ADVANCE)
) -> Iterator[Unlike | None]:
    """Do all that was found, one run after the other: what was otherwise, or nothing."""
    players = [Going(machine, how) for how in ways]
    for way in _longest(explored):
        whole = (*way, *explored.home(way))
        for player in players if players[0].may_go(way[-1]) else ():
            what = player.go(whole)
            yield Unlike(whole, player.how, what) if what else None


def _longest(explored: Explored) -> Iterator[tuple[Stride, ...]]:
    """The ways that are no part of another one."""
    covered: set[Stride] = set()
    for way in sorted(explored.ways(), key=len, reverse=True):
        if way[-1] not in covered:
            covered.update(way)
            yield way
