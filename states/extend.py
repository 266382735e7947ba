"""How does a machine of one's own come out of another?  Rows are found, put between others, and replaced.

Nothing here looks at what a machine is for.  A new table is put together and handed to `Machine`, which proves it.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from states.errors import ExtensionRefused, meant, shown
from states.held import opened, stop_row
from states.names import Trigger, is_stop, name_of
from states.rows import Count, Transition


if TYPE_CHECKING:
    from states.machine import Machine

Rows = tuple[Transition, ...]


@frozen(kw_only=True)
class Insertion:
    """A new acting state: what it reports, what is heard around it, who may skip it, what it holds."""

    state: Enum
    trigger: Enum
    begin: tuple[Enum, ...] = ()
    end: tuple[Enum, ...] = ()
    skip: Enum | None = None
    holds: "Machine | None" = None

    def leave(self, dest: Enum, heard: tuple[Enum, ...], guard: Enum | None = None) -> Transition:
        """A row out of the new state."""
        return Transition(self.state, self.trigger, guard, dest, heard, self.end)

    def stopped(self, machine: "Machine", scopes: tuple[str, ...]) -> Rows:
        """The row of a stop inside the held machine, if it can stop the whole run."""
        if self.holds is None:
            return ()
        row = stop_row(machine, self.state, self.holds, scopes)
        return (evolve(row, first=self.end),) if row else ()

    def built(self, machine: "Machine", rows: Iterable[Transition], name: str | None) -> "Machine":
        """The machine with these rows, proved."""
        holds = {**machine.holds, self.state: self.holds} if self.holds else machine.holds
        return evolve(machine, name=name or f"{machine.name} with {name_of(self.state)}", rows=rows, holds=holds)


def found(machine: "Machine", source: Enum, trigger: Enum | None, guard: Enum | None) -> Transition:
    """The one row of a source, a trigger and a guard."""
    rows = rows_from(machine, source)
    for row in rows:
        if (row.trigger, row.guard) == (trigger, guard):
            return row
    words = [name_of(source), *([name_of(trigger)] if trigger else []), *([f"[{name_of(guard)}]"] if guard else [])]
    raise ExtensionRefused(
        f"{machine.name} has no row {' '.join(words)!r}",
        allowed=_listed(rows) if rows else f"rows; {name_of(source)} is left by none",
        instead="name the trigger and the guard of one of these rows, as they stand there",
    )


def rows_from(machine: "Machine", state: Enum) -> Rows:
    """The rows of a state that the machine must have."""
    if state not in machine.states:
        raise ExtensionRefused(
            f"{machine.name} has no state {name_of(state)}",
            allowed=", ".join(map(name_of, machine.states)),
            instead=meant(state, machine.states),
        )
    return machine.rows_from(state)


def insertion(
    machine: "Machine",
    state: Enum,
    trigger: Enum | None,
    *,
    events: Sequence[Enum],
    skip: Enum | None,
    holds: "Machine | None",
) -> Insertion:
    """What is to be inserted, once it is clear that it can be."""
    _check_given(machine, skip, holds)
    if holds is not None and trigger not in {None, Trigger.VALIDATED}:
        raise ExtensionRefused(
            f"{name_of(state)} is to hold {holds.name} and to report {shown(trigger)}",
            allowed="validated, which a state that holds a machine reports",
            instead="leave the trigger out",
        )
    if holds is not None:
        trigger = Trigger.VALIDATED
    if trigger is None:
        raise ExtensionRefused(
            f"{name_of(state)} is to be inserted and reports nothing",
            allowed="states that act: each has a trigger that its action reports",
            instead="name the trigger, or the machine that the state holds; `replace` puts in a state that decides",
        )
    if state in machine.states:
        raise ExtensionRefused(
            f"{machine.name} has the state {name_of(state)} already",
            allowed="a new state: a member of an enum of your own",
            instead="use a word of your own, or `replace` to change the rows of a state that there is",
        )
    pair = tuple(events) if isinstance(events, Sequence) else ()
    if not isinstance(events, Sequence) or len(pair) not in {0, 2}:
        raise ExtensionRefused(
            f"events is {shown(events)}",
            allowed="none, or a pair: what is heard when the state is entered, and when it has reported",
            instead="add events with `replace`, row by row",
        )
    return Insertion(state=state, trigger=trigger, begin=pair[:1], end=pair[1:], skip=skip, holds=holds)


def _check_given(machine: "Machine", skip: Enum | None, holds: object) -> None:
    """Refuse a guard that stops, where a state is passed over, and what is no machine."""
    if skip is not None and (not isinstance(skip, Enum) or is_stop(skip)):
        raise ExtensionRefused(
            f"skip is {shown(skip)}",
            allowed="a guard of your own; one whose name begins with stop_ ends something, and passes nothing over",
            instead="call it skip_...",
        )
    if holds is not None and not isinstance(holds, type(machine)):
        raise ExtensionRefused(
            f"holds is {shown(holds)}", allowed="a machine", instead="say holds=EVALUATION, or a machine of your own"
        )


def inserted_before(machine: "Machine", new: Insertion, dest: Enum, name: str | None) -> "Machine":
    """The machine with a state before another: every row that led to that one leads to the new one."""
    rows_from(machine, dest)
    into = [row for row in machine.rows if row.dest is dest]
    moves = _moved(machine, into, new, dest)
    stays = {row: row.heard[: len(row.heard) - len(moves)] for row in into}
    scopes = opened(machine.proof.scopes[into[-1].source], (*into[-1].first, *stays[into[-1]]))
    behind = (new.leave(dest, moves), *new.stopped(machine, scopes))
    rows: list[Transition] = []
    for row in machine.rows:
        if row.dest is dest and new.skip:
            rows.append(evolve(row, guard=new.skip))
        rows.append(evolve(row, dest=new.state, heard=(*stays[row], *new.begin)) if row.dest is dest else row)
    return new.built(machine, put_behind(rows, new.state, behind), name)


def _moved(machine: "Machine", into: Sequence[Transition], new: Insertion, dest: Enum) -> tuple[Enum, ...]:
    """What all the rows into a state hear on entering it, behind all that ends something."""
    if not into:
        raise ExtensionRefused(
            f"no row of {machine.name} leads to {name_of(dest)}",
            allowed="before: a state that rows lead to",
            instead=f"say after={dest}",
        )
    if new.skip and (guarded := next((row for row in into if row.guard), None)):
        raise ExtensionRefused(
            f"skip={new.skip} cannot be asked at the row '{guarded}': it is taken because of a guard already",
            allowed="skip where every row into the state is unguarded",
            instead="redirect the rows with `replace`, and say which of them ask",
        )
    moves = {row: entering(row) for row in into}
    first = into[0]
    if other := next((row for row in into if moves[row] != moves[first]), None):
        raise ExtensionRefused(
            f"rows into {name_of(dest)} differ in what is heard on entering it: '{first}' and '{other}'",
            allowed="before: a state that is entered in one way, whatever leads to it",
            instead="redirect the rows with `replace`, and say what each of them hears",
        )
    return moves[first]


def entering(row: Transition) -> tuple[Enum, ...]:
    """What a row hears behind all that ends something: the ends and `stop` belong to where it comes from."""
    closing = [at for at, event in enumerate(row.heard) if name_of(event) == "stop" or name_of(event).endswith("_end")]
    return row.heard[closing[-1] + 1 :] if closing else row.heard


def inserted_after(machine: "Machine", new: Insertion, source: Enum, name: str | None) -> "Machine":
    """The machine with a state after another: what that one reports leads to the new one, which goes on as it did."""
    old = rows_from(machine, source)
    triggers = {row.trigger for row in old}
    if len(triggers) != 1 or None in triggers:
        listed = ", ".join(sorted(name_of(trigger) for trigger in triggers if trigger))
        raise ExtensionRefused(
            f"{name_of(source)} {f'reports {listed}' if len(triggers) > 1 else 'has no action that reports'}",
            allowed="after: a state that reports one thing",
            instead="say before=... of the state that it is to come before, or redirect rows with `replace`",
        )
    if new.skip and len(old) > 1:
        raise ExtensionRefused(
            f"skip={new.skip} cannot be asked after {name_of(source)}: it asks guards of its own",
            allowed="skip after a state with one row",
            instead="say before=... of the state that it is to come before, or redirect rows with `replace`",
        )
    row = old[0]
    scopes = opened(machine.proof.scopes[source], row.first)
    skipping = (evolve(row, guard=new.skip),) if new.skip else ()
    entry = (*skipping, evolve(row, guard=None, dest=new.state, heard=new.begin))
    leaving = tuple(new.leave(row.dest, row.heard, row.guard) for row in old)
    rows = [entry_row for row in machine.rows for entry_row in _instead(row, old, entry)]
    return new.built(machine, put_behind(rows, new.state, (*leaving, *new.stopped(machine, scopes))), name)


def _instead(row: Transition, old: Rows, entry: Rows) -> Rows:
    """A row, or at the place of the first of the old ones those that enter the new state."""
    if row not in old:
        return (row,)
    return entry if row == old[0] else ()


def put_behind(rows: Sequence[Transition], state: Enum, new: Rows) -> Rows:
    """The rows with new ones behind the last that leads to a state, and behind all others of the state it leaves."""
    last = max(at for at, row in enumerate(rows) if row.dest is state)
    source = rows[last].source
    while last + 1 < len(rows) and rows[last + 1].source is source:
        last += 1
    return (*rows[: last + 1], *new, *rows[last + 1 :])


def replaced(
    machine: "Machine",
    rows: Mapping[Transition, Transition | Iterable[Transition]],
    counts: Iterable[Count],
    holds: "Mapping[Enum, Machine]",
    name: str | None,
) -> "Machine":
    """The machine with other rows at the places of some."""
    if not isinstance(rows, Mapping):
        raise _no_rows(rows)
    for row in rows:
        if row not in machine.rows:
            raise unknown_row(machine, row)
    new = {row: (to,) if isinstance(to, Transition) else _as_rows(to) for row, to in rows.items()}
    return evolve(
        machine,
        name=name or f"{machine.name} with other rows",
        rows=[to for row in machine.rows for to in new.get(row, (row,))],
        counts=(*machine.counts, *counts),
        holds={**machine.holds, **holds},
    )


def _as_rows(rows: object) -> Rows:
    """Rows that come instead of one."""
    given = tuple(rows) if isinstance(rows, Iterable) else (rows,)
    if wrong := [row for row in given if not isinstance(row, Transition)]:
        raise _no_rows(wrong[0])
    return given


def _no_rows(given: object) -> ExtensionRefused:
    return ExtensionRefused(
        f"{shown(given)} stands where rows stand",
        allowed="a mapping of rows to the row, or the rows, that come instead; () drops one",
        instead="write replace({machine.row(...): Transition(...)}), or evolve(row, ...)",
    )


def unknown_row(machine: "Machine", row: object) -> ExtensionRefused:
    """The refusal of what is no row of a machine, with the rows that it may have been meant for."""
    near = machine.rows_from(row.source) if isinstance(row, Transition) else ()
    return ExtensionRefused(
        f"{machine.name} has no row {str(row) if isinstance(row, Transition) else shown(row)!r}",
        allowed=_listed(near or machine.rows),
        instead="take the row from the machine itself: machine.row(source, trigger, guard)",
    )


def _listed(rows: Iterable[Transition]) -> str:
    return "; ".join(map(str, rows))
