"""What is left of a machine without some of its words?  Rows are dropped, states bypassed, what is idle swept out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from attrs import define, evolve

from states.errors import ExtensionRefused, meant, shown
from states.extend import unknown_row
from states.names import Trigger, name_of
from states.rows import Transition


if TYPE_CHECKING:
    from states.machine import Machine

Rows = list[Transition]


def without(machine: "Machine", words: Sequence[Enum | Transition], name: str | None) -> "Machine":
    """The machine without some words, and without what nothing leads to any more."""
    if not words:
        raise ExtensionRefused(
            "without() names nothing",
            allowed="states, triggers, guards, events and rows of the machine",
            instead="name what is to go",
        )
    rows = list(machine.rows)
    for drop in _sorted(machine, words):
        rows = drop(rows)
    rows, states = _reached(machine, rows)
    said = {*(row.trigger for row in rows), *(event for row in rows for event in row.events)}
    gone = {*machine.triggers, *(event for row in machine.rows for event in row.events)} - said
    listed = ", ".join(name_of(word) if isinstance(word, Enum) else str(word) for word in words)
    return evolve(
        machine,
        name=name or f"{machine.name} without {listed}",
        rows=rows,
        counts=[count for count in machine.counts if count.what not in gone],
        holds={state: held for state, held in machine.holds.items() if state in states},
    )


Drop = Callable[[Rows], Rows]


def _sorted(machine: "Machine", words: Iterable[Enum | Transition]) -> list[Drop]:
    """What each word asks for; rows first, as they are named as they stand in the machine, and states last."""
    drops = [(_part(machine, word), word) for word in words]
    order = ("row", "guard", "trigger", "event", "state")
    return [_drop(machine, part, word) for part, word in sorted(drops, key=lambda drop: order.index(drop[0]))]


def _part(machine: "Machine", word: Enum | Transition) -> str:
    """Which part a word plays in a machine."""
    if isinstance(word, Transition):
        if word not in machine.rows:
            raise unknown_row(machine, word)
        return "row"
    parts: Mapping[str, tuple[Enum, ...]] = {
        "state": machine.states,
        "trigger": machine.triggers,
        "guard": machine.guards,
        "event": tuple(event for row in machine.rows for event in row.events),
    }
    part = next((part for part, known in parts.items() if word in known), None)
    if part is None:
        raise ExtensionRefused(
            f"{machine.name} has no {name_of(word) if isinstance(word, Enum) else shown(word)}",
            allowed="states, triggers, guards, events and rows of the machine",
            instead=meant(word, (known for words in parts.values() for known in words)),
        )
    return part


def _drop(machine: "Machine", part: str, word: Enum | Transition) -> Drop:
    """What is done to the rows, for one word."""
    if isinstance(word, Transition):
        return lambda rows: [row for row in rows if row != word]
    if part == "guard":
        return lambda rows: [row for row in rows if row.guard is not word]
    if part == "trigger":
        return lambda rows: [row for row in rows if row.trigger is not word]
    if part == "event":
        return lambda rows: [evolve(row, first=_less(row.first, word), heard=_less(row.heard, word)) for row in rows]
    return lambda rows: _Bypass(machine, word, rows).rows()


def _less(events: Iterable[Enum], word: Enum) -> tuple[Enum, ...]:
    return tuple(event for event in events if event is not word)


def _reached(machine: "Machine", rows: Rows) -> tuple[Rows, set[Enum]]:
    """The rows of the states that can be reached, and these states."""
    states = {machine.initial}
    while more := {row.dest for row in rows if row.source in states} - states:
        states |= more
    return [row for row in rows if row.source in states], states


@define(eq=False)
class _Bypass:
    """A state that is taken out: what led into it leads to where it led."""

    machine: "Machine"
    state: Enum
    before: Rows

    def rows(self) -> Rows:
        """The rows without the state."""
        out = self._out()
        groups = [row.group for row in self.before if row.dest is self.state]
        rows: Rows = []
        for row in self.before:
            if row.dest is self.state:
                rows.extend(self._joined(row, behind, alone=len(out) == 1) for behind in out)
            elif row.source is not self.state:
                rows.append(row)
        for group in groups:
            rows = _untwinned(rows, group)
        return rows

    def _out(self) -> Rows:
        """The rows that the state is left by; a stop inside what it holds goes with what it holds."""
        stopped = Trigger.VALIDATION_STOPPED if self.state in self.machine.holds else None
        out = [row for row in self.before if row.source is self.state]
        out = [row for row in out if stopped is None or row.trigger is not stopped]
        if self.state is self.machine.initial or not out:
            raise self._refused("begins or ends the run")
        if any(row.dest is self.state for row in out):
            raise self._refused("leads to itself")
        if len({row.group for row in out}) > 1:
            raise self._refused("reports more than one thing")
        return out

    def _joined(self, row: Transition, behind: Transition, *, alone: bool) -> Transition:
        """One row for two that were taken one after the other."""
        heard = _met(row.heard, behind.first)
        if alone:
            return evolve(row, dest=behind.dest, heard=_met(heard, behind.heard))
        if row.guard or heard:
            raise self._refused("chooses by its guards where to go on")
        return evolve(row, guard=behind.guard, dest=behind.dest, heard=behind.heard)

    def _refused(self, why: str) -> ExtensionRefused:
        return ExtensionRefused(
            f"{name_of(self.state)} cannot be taken out of {self.machine.name}: it {why}",
            allowed="to take out a state on the way, with one row",
            instead="say where the rows into it lead: machine.replace({row: row_instead, ...})",
        )


def _met(before: tuple[Enum, ...], behind: tuple[Enum, ...]) -> tuple[Enum, ...]:
    """What is heard one after the other; a begin that meets its own end is dropped with it."""
    while before and behind and _is_pair(before[-1], behind[0]):
        before, behind = before[:-1], behind[1:]
    return before + behind


def _is_pair(begin: Enum, end: Enum) -> bool:
    scope, _, side = name_of(begin).rpartition("_")
    return side == "begin" and name_of(end) == f"{scope}_end"


def _untwinned(rows: Rows, group: tuple[Enum, Enum | None]) -> Rows:
    """The rows without those of a group whose guard makes no difference: a no leads where a yes leads."""
    members = [row for row in rows if row.group == group]
    while len(members) > 1 and members[-2].guard and evolve(members[-2], guard=None) == members[-1]:
        twin = members.pop(-2)
        rows = [row for row in rows if row != twin]
    return rows
