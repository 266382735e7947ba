"""How is each state reached?  The breadth-first walk over states and open scopes that every rule looks at."""

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from states.errors import Offence, Rule
from states.names import name_of
from states.rows import Transition


if TYPE_CHECKING:
    from states.machine import Machine

Path = tuple[Transition, ...]


class Paths:
    """The breadth-first walk: the first stack of scopes of each state, the shortest path to each row."""

    def __init__(self, machine: "Machine") -> None:
        self.machine = machine
        self.stacks: dict[Enum, tuple[str, ...]] = {machine.initial: ()}
        self.ways: dict[Enum, Path] = {machine.initial: ()}
        self.paths: dict[Transition, Path] = {}
        self.offences: list[Offence] = []
        queue = deque([machine.initial])
        while queue:
            queue.extend(self._visit(queue.popleft()))

    def _visit(self, state: Enum) -> Iterator[Enum]:
        for row in self.machine.rows:
            if row.source is not state:
                continue
            path = (*self.ways[state], row)
            self.paths.setdefault(row, path)
            stack = self._heard(row, self.stacks[state], path)
            if row.dest not in self.stacks:
                self.stacks[row.dest], self.ways[row.dest] = stack, path
                yield row.dest
            elif self.stacks[row.dest] != stack:
                before = stacked(self.stacks[row.dest])
                text = f"{name_of(row.dest)} is reached with {stacked(stack)} open, and with {before}"
                self.offences.append(Offence(Rule.SECOND_STACK, text, path))

    def _heard(self, row: Transition, stack: tuple[str, ...], path: Path) -> tuple[str, ...]:
        """The stack after a row's events; begins push, ends pop."""
        for event in row.events:
            before, stack = stack, scopes_after(stack, name_of(event))
            if stack == before and name_of(event).endswith("_end"):
                text = f"{name_of(event)} is heard while {stacked(stack)} is open"
                self.offences.append(Offence(Rule.END_WITHOUT_BEGIN, text, path))
        return stack


def scopes_after(stack: tuple[str, ...], event: str) -> tuple[str, ...]:
    """The scopes that are open when an event was heard: a begin opens one, its end closes it if it is the innermost."""
    scope, _, side = event.rpartition("_")
    if side == "begin":
        return (*stack, scope)
    return stack[:-1] if side == "end" and stack[-1:] == (scope,) else stack


def stacked(stack: tuple[str, ...]) -> str:
    """A stack of scopes in words, outermost first."""
    return " > ".join(stack) or "nothing"
