"""Is the order right?  Every rule that a machine must keep, walked exhaustively, offences with their shortest path.

The claim, worded honestly: what is proved here is the *structure* of a machine, for every answer of every guard and
every report of every action.  States and open scopes have a finite product, because a state that is reached with a
second stack of open scopes is refused at once.  That a machine is the one its author meant is for tests to show.
"""

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

from attrs import field, frozen

from states.errors import MachineRefused, StateloopError, typed
from states.names import name_of
from states.paths import Path, Paths
from states.rows import Transition
from states.rules import Reports, misreports, offences


if TYPE_CHECKING:
    from states.machine import Machine


@frozen
class Proof:
    """What holds for a machine, whatever its guards answer.

    Example:
        >>> from states import TRAINING, State, prove
        >>> proof = prove(TRAINING)
        >>> proof.scopes[State.STEP]
        ('train', 'epoch', 'batch', 'step')
    """

    machine: str
    states: tuple[Enum, ...]
    rows: tuple[Transition, ...] = field(repr=False)
    # The one stack of open scopes of each state, outermost first.
    scopes: Mapping[Enum, tuple[str, ...]] = field(repr=False, hash=False)
    # The shortest way from the initial state that ends with this row.
    paths: Mapping[Transition, Path] = field(repr=False, hash=False)

    def __str__(self) -> str:
        widest = max(len(name_of(state)) for state in self.states)
        lines = [
            f"{self.machine}: proved for every answer of every guard",
            f"  {len(self.states)} states, {len(self.rows)} rows, "
            "each row can be taken; a final state is always in reach",
            "  begins and ends nest; no cycle is without an action, none without a stop guard",
            "  scopes open in each state:",
            *(
                f"    {name_of(state):<{widest}}  {' > '.join(self.scopes[state]) or '-'}  "
                f"({len(self.way(state))} transitions away)"
                for state in self.states
            ),
        ]
        return "\n".join(lines)

    def way(self, state: Enum) -> Path:
        """A shortest way to a state."""
        ways = (path for path in self.paths.values() if path[-1].dest is state)
        return min(ways, key=len, default=())


def examine(machine: "Machine") -> Proof:
    """Walk the whole product of states and open scopes; what holds, or `MachineRefused` with all the offences."""
    paths = Paths(machine)
    if broken := tuple(offences(machine, paths)):
        raise MachineRefused(machine.name, broken)
    return Proof(machine.name, tuple(paths.stacks), machine.rows, paths.stacks, paths.paths)


def prove(machine: "Machine", reports: Reports | None = None) -> Proof:
    """What holds for a machine, whatever its guards answer; or which path breaks which rule.

    The whole product of states and open scopes was walked when the machine was built, and a machine never changes; so
    this gives that proof, and compares what the actions declare.

    Args:
        machine: Any machine; the machines that its states hold are proved when they are built.
        reports: For each state with an action, the triggers that the action declares.  Without it, what actions
            declare is not compared with the rows.

    Raises:
        MachineRefused: with every offence and the shortest path to it, not only the first.

    Cost: a few milliseconds for a machine of twenty states, when it is built.

    Example:
        >>> from states import EVALUATION, prove
        >>> print(prove(EVALUATION))  # doctest: +ELLIPSIS
        evaluation: proved for every answer of every guard
          8 states, 10 rows, each row can be taken; a final state is always in reach
          begins and ends nest; no cycle is without an action, none without a stop guard
          scopes open in each state:
            idle      -  (0 transitions away)
            evaluate  validate  (1 transitions away)
        ...
    """
    if not hasattr(machine, "proof"):
        msg = f"prove takes a Machine, not {typed(machine)}; an Engine proves its own: engine.prove()"
        raise StateloopError(msg)
    if reports is not None and (broken := tuple(misreports(machine, reports))):
        raise MachineRefused(machine.name, broken)
    return machine.proof
