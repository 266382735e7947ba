"""What becomes of a stop inside a held machine?  The row that takes it out to where the whole run stops."""

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

from states.errors import ExtensionRefused
from states.names import Event, Guard, Trigger, name_of
from states.paths import scopes_after
from states.rows import Transition


if TYPE_CHECKING:
    from states.machine import Machine


def stop_row(machine: "Machine", state: Enum, held: "Machine", scopes: tuple[str, ...]) -> Transition | None:
    """The row that a stop inside `held` takes; none is needed where it cannot stop the whole run.

    It leads to where the other stops of the whole run lead, and hears the ends of the scopes in between.
    """
    inside = (held, *held.within)
    if not any(Guard.STOP_TRAINING in inner.guards for inner in inside):
        return None
    stops = [row for row in machine.rows if row in machine.stops and row.guard is Guard.STOP_TRAINING]
    if not stops:
        raise ExtensionRefused(
            f"{held.name} can stop the whole run, and {machine.name} has no row of stop_training that ends it",
            allowed="to hold a machine that asks stop_training, in one that asks it as well",
            instead=f"hold {held.name} without it: holds=machine.without(Guard.STOP_TRAINING)",
        )
    dest = next((row.dest for row in stops if _outer(machine, row.dest, scopes)), stops[0].dest)
    ends = _ends(machine, scopes[len(machine.proof.scopes[dest]) :])
    told = any(Event.STOP in inner.events for inner in inside)
    tells = any(Event.STOP in row.heard for row in stops) and not told
    return Transition(state, Trigger.VALIDATION_STOPPED, None, dest, (Event.STOP, *ends) if tells else ends)


def _outer(machine: "Machine", dest: Enum, scopes: tuple[str, ...]) -> bool:
    """Whether all that is open in a state is open here, too."""
    there = machine.proof.scopes[dest]
    return scopes[: len(there)] == there


def _ends(machine: "Machine", scopes: tuple[str, ...]) -> tuple[Enum, ...]:
    """The events that end some scopes, innermost first."""
    by_name = {name_of(event): event for event in machine.events}
    return tuple(by_name[f"{scope}_end"] for scope in reversed(scopes) if f"{scope}_end" in by_name)


def opened(scopes: tuple[str, ...], events: Iterable[Enum]) -> tuple[str, ...]:
    """The scopes that are open after some events, in a machine that is proved."""
    for event in events:
        scopes = scopes_after(scopes, name_of(event))
    return scopes
