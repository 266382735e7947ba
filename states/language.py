"""Which order of events does a machine let anybody hear?  Read off its rows: whatever is reported and answered.

# Theory of operation
#
# A run is at a place (see `places`); between two places there are events still to be heard.  Who only listens does not
# know which of several places a run is at, so a place of the order is the set of all those that fit what was heard: the
# textbook's subset construction (Rabin and Scott, 1959).
"""

from typing import TYPE_CHECKING

from attrs import frozen

from states.names import Event, name_of
from states.order import Order
from states.paths import scopes_after
from states.places import Place, begun, moves


if TYPE_CHECKING:
    from collections.abc import Hashable

    from states.machine import Machine

EXCEPTION = name_of(Event.EXCEPTION)


@frozen
class _Point:
    """A place that a run comes to, and what is heard before it is there."""

    place: Place
    still: tuple[str, ...] = ()


# What fits what was heard: points, and the scopes that are open, outermost first.
_Known = tuple[frozenset[_Point], tuple[str, ...]]
# What is known of a run that died: what it still hears, and nothing else.
_Dying = tuple[str, ...]


def language(machine: "Machine", *, counted: bool = True) -> Order:
    """The order of events of all runs of a machine, those that die included.

    A run that is left with a batch open hears its outermost end out of turn, and is not among them.

    Args:
        machine: The machine.
        counted: Whether a window is reported open only where gradients wait, and a held run stopped only where it was;
            without it, whatever the rows take is reported.

    Cost: a few milliseconds for a machine of the size of the built-in ones.
    """
    start: _Known = (frozenset({_Point(begun(machine))}), ())
    found: dict[Hashable, dict[str, Hashable]] = {(): {}}
    ends: set[Hashable] = {()}
    queue = [start]
    for known in queue:
        if known in found:
            continue
        points = _closed(known[0], counted=counted)
        ways = _after(points, known[1])
        found[known] = {**ways}
        queue.extend(ways.values())
        if any(not point.still and point.place.over for point in points):
            ends.add(known)
        if _living(known[0], points):
            dying: _Dying = (f"{known[1][0]}_end",) if known[1] else ()
            found[known][EXCEPTION] = dying
            found |= {dying: {dying[0]: ()}} if dying else {}
    return Order(start, found, frozenset(ends))


def _closed(points: frozenset[_Point], *, counted: bool) -> list[_Point]:
    """The points, and those that rows lead to on which nothing is heard."""
    closed = dict.fromkeys(points)
    queue = list(closed)
    for point in queue:
        if point.still:
            continue
        for row, there in moves(point.place, counted=counted):
            new = _Point(there, tuple(map(name_of, row.events)))
            if new not in closed:
                closed[new] = None
                queue.append(new)
    return queue


def _after(points: list[_Point], scopes: tuple[str, ...]) -> dict[str, _Known]:
    """What may be heard next, and what is known then."""
    heard: dict[str, set[_Point]] = {}
    for point in points:
        if point.still:
            heard.setdefault(point.still[0], set()).add(_Point(point.place, point.still[1:]))
    return {event: (frozenset(heard[event]), scopes_after(scopes, event)) for event in sorted(heard)}


def _living(points: frozenset[_Point], closed: list[_Point]) -> bool:
    """Whether a run that may be there can die: it has begun, and it is not over."""
    return any(point.still for point in points) or any(
        not point.still and not point.place.over and point.place.begun for point in closed
    )
