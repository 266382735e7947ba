"""What is a table with one change?  Rows and counts that an engine may run, right or wrong."""

from collections.abc import Mapping
from enum import Enum

from attrs import frozen

from states import Count, Machine, Transition, When
from states.names import is_stop


Rows = tuple[Transition, ...]


class Unproved(Machine):
    """A machine that nobody has proved; it says of itself what was proved of the one that it was made from."""

    def __attrs_post_init__(self) -> None:
        """Prove nothing."""


@frozen
class Change:
    """A table with one change.

    Attributes:
        family: What kind of change it is.
        change: Which one, in words.
        original: The machine as it was.
        rows: Its rows with the change.
        counts: Its counts with the change.
    """

    family: str
    change: str
    original: Machine
    rows: Rows
    counts: tuple[Count, ...]

    def build(self) -> Machine:
        """The machine that this makes.

        Raises:
            MachineRefused: as for most changes.
        """
        return self._made(Machine, self.rows)

    def unproved(self) -> Machine:
        """The machine that this makes, whatever rules it breaks."""
        machine = self._made(Unproved, self.looked_at)
        object.__setattr__(machine, "proof", self.original.proof)
        return machine

    def _made(self, make: type[Machine], rows: Rows) -> Machine:
        return make(
            name=self.original.name,
            initial=self.original.initial,
            finals=self.original.finals,
            rows=rows,
            counts=self.counts,
            holds=self.original.holds if set(self.original.holds) <= {row.source for row in rows} else {},
            gradients=self.original.gradients,
        )

    @property
    def runs(self) -> bool:
        """Whether an engine could run it, be it right or wrong: whatever is reported, one row is taken.

        Rows that wait for other reports, disagree on what is heard first, or go round without a choice do not run.
        """
        groups = grouped(self.looked_at)
        return (
            groups.keys() == self.original.groups.keys()
            and all(rows[-1].guard is None and len({row.first for row in rows}) == 1 for rows in groups.values())
            and not goes_round(self.looked_at)
            and all(count.when is When.BEFORE or count.what not in self.original.triggers for count in self.counts)
        )

    @property
    def looked_at(self) -> Rows:
        """Its rows without those that stand below one without a guard: nobody ever comes to them."""
        last: set[tuple[Enum, Enum | None]] = set()
        kept: list[Transition] = []
        for row in self.rows:
            if row.group not in last:
                kept.append(row)
            if row.guard is None:
                last.add(row.group)
        return tuple(kept)

    def __str__(self) -> str:
        return f"{self.family}: {self.change}"


def grouped(rows: Rows) -> Mapping[tuple[Enum, Enum | None], Rows]:
    """The rows that compete, by (source, trigger), in row order."""
    groups: dict[tuple[Enum, Enum | None], Rows] = {}
    for row in rows:
        groups[row.group] = (*groups.get(row.group, ()), row)
    return groups


def goes_round(rows: Rows, unasked: Enum | None = None) -> bool:
    """Whether a cycle has no choice in it, where nobody answers a guard and one of the stops is *unasked*."""
    choices: dict[Enum, list[Transition]] = {}
    for row in rows:
        if row.guard is None or (is_stop(row.guard) and row.guard is not unasked):
            choices.setdefault(row.source, []).append(row)
    leads = {state: there[0].dest for state, there in choices.items() if len(there) == 1}
    return any(_returns(state, leads) for state in leads)


def _returns(start: Enum, leads: Mapping[Enum, Enum]) -> bool:
    state = leads.get(start)
    for _ in leads:
        if state is None or state is start:
            break
        state = leads.get(state)
    return state is start
