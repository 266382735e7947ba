"""What may happen at all?  Every answer of every guard and every fault, walked together with those who watch it.

# Theory of operation
#
# Where a run is (see `strides`) and where each monitor is are walked together.  The product is finite: without a plan
# the counters are left out, and what is found holds for every plan; under a plan they are kept, and no plan goes on for
# ever.  It is walked breadth first, so the first way that breaks a monitor is a shortest one.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping
from enum import Enum
from functools import cached_property
from typing import Protocol

from attrs import define, field, frozen

from states.errors import StateloopError
from states.machine import Machine
from states.names import is_stop
from states.order import Order
from states.places import begun
from states.rows import Transition
from states.strides import Heard, Spot, Stride, Strides
from states.walk import Plan


# More spots than this are not walked: a machine that counts for ever is no finite product.
MOST = 1_000_000


class TooMany(StateloopError):
    """There are more spots than can be walked."""


class Monitor(Protocol):
    """Somebody who watches a run: a deterministic automaton that reads what is heard."""

    @property
    def start(self) -> Hashable:
        """Where it is when nothing was heard."""

    def after(self, place: Hashable, heard: Heard) -> Hashable | None:
        """Where an event leads from a place; `None` where it is wrong."""

    def over(self, place: Hashable) -> bool:
        """Whether a run may end at this place."""


@frozen
class Listening:
    """A monitor that an order of events is: a grammar's, a machine's or a claim's."""

    order: Order

    @property
    def start(self) -> Hashable:
        """Where the order starts."""
        return self.order.start

    def after(self, place: Hashable, heard: Heard) -> Hashable | None:
        """Where the event leads."""
        return self.order.moves[place].get(heard.name)

    def over(self, place: Hashable) -> bool:
        """Whether the order may end here."""
        return place in self.order.ends


@frozen(eq=False)
class Broken:
    """A shortest way to break a monitor.

    Attributes:
        monitor: Its name.
        way: The strides, from the start.
        at: The index of the event that is wrong; the number of events, where the run ends and something is still due.
    """

    monitor: str
    way: tuple[Stride, ...]
    at: int

    @property
    def trace(self) -> tuple[str, ...]:
        """All that is heard on the way."""
        return tuple(heard.name for stride in self.way for heard in stride.heard)


@define(eq=False)
class _Node:
    """A spot with the places of the monitors, and how it was reached first."""

    spot: Spot
    monitors: tuple[Hashable, ...]
    before: "_Node | None"
    by: Stride | None

    def way(self) -> tuple[Stride, ...]:
        way: list[Stride] = []
        node: _Node | None = self
        while node is not None and node.by is not None:
            way.append(node.by)
            node = node.before
        return tuple(reversed(way))


@frozen(eq=False)
class Explored:
    """What was found.

    Attributes:
        plan: The plan that bounds it; `None` for every plan.
        states: How many spots, each with the places of all monitors.
        strides: How many things that may happen there.
        broken: For each monitor that can be broken, a shortest way.
    """

    plan: Plan | None
    states: int
    strides: int
    broken: tuple[Broken, ...]
    _edges: tuple[tuple[_Node, Stride, Spot | None], ...] = field(repr=False)

    @cached_property
    def rows(self) -> frozenset[Transition]:
        """The rows that are taken."""
        return frozenset(stride.row for _, stride, _ in self._edges if stride.death is None)

    def ways(self) -> Iterator[tuple[Stride, ...]]:
        """A shortest way to each thing that may happen."""
        for node, stride, _ in self._edges:
            yield (*node.way(), stride)

    def home(self, way: tuple[Stride, ...]) -> tuple[Stride, ...]:
        """A shortest way on, from behind one of the ways to the end of the run; nothing where it has ended."""
        home: list[Stride] = []
        spot = self._behind[way[-1]]
        while spot is not None and not spot[0].over:
            stride, spot = self._onward[spot]
            home.append(stride)
        return tuple(home)

    @cached_property
    def _behind(self) -> Mapping[Stride, Spot | None]:
        return {stride: there for _, stride, there in self._edges}

    @cached_property
    def _onward(self) -> Mapping[Spot, tuple[Stride, Spot]]:
        """For each spot, the first stride of a shortest way to an end, and the spot behind it."""
        before: dict[Spot, list[tuple[Stride, Spot]]] = {}
        for node, stride, there in self._edges:
            if there is not None:
                before.setdefault(there, []).append((stride, node.spot))
        onward: dict[Spot, tuple[Stride, Spot]] = {}
        queue = [spot for spot in before if spot[0].over]
        for there in queue:
            for stride, spot in before.get(there, ()):
                if spot not in onward:
                    onward[spot] = stride, there
                    queue.append(spot)
        return onward


def explore(
    machine: Machine,
    monitors: Mapping[str, Monitor],
    *,
    plan: Plan | None = None,
    answering: Collection[Enum] | None = None,
    faults: bool = True,
) -> Explored:
    """Walk everything that may happen, and watch it.

    Args:
        machine: The machine; those that its states hold are walked in it.
        monitors: Who watches, by name.
        plan: How long loaders and epochs are; by default, what is found holds for all of them.
        answering: The guards that may say yes; by default all.
        faults: Whether anything may raise, and Ctrl-C may come, at any time.

    Raises:
        TooMany: the machine counts without end under the plan.

    Cost: some ten thousand strides a second.

    Example:
        >>> from states import TRAINING
        >>> from states.claims import before
        >>> found = explore(TRAINING, {"claim": Listening(before("step_end", "batch_end").order(TRAINING.events))})
        >>> print(*found.broken[0].trace)
        train_begin epoch_begin batch_begin batch_end
    """
    return _Explorer(monitors, Strides(machine, plan, answering, faults)).explored()


@define(eq=False)
class _Explorer:
    monitors: Mapping[str, Monitor]
    strides: Strides
    broken: dict[str, Broken] = field(factory=dict)

    def explored(self) -> Explored:
        strides = self.strides
        starts = tuple(monitor.start for monitor in self.monitors.values())
        first = _Node(strides.begin(begun(strides.machine)), starts, None, None)
        found = {(first.spot, first.monitors)}
        edges: list[tuple[_Node, Stride, Spot | None]] = []
        queue = [first]
        for node in queue:
            for stride, there in strides.at(node.spot):
                edges.append((node, stride, there))
                places = self._watched(node, stride, over=there is None or there[0].over)
                if there is not None and (there, places) not in found:
                    found.add((there, places))
                    queue.append(_Node(there, places, node, stride))
            if len(queue) > MOST:
                raise TooMany(
                    f"{strides.machine.name} has more than {MOST} spots under {strides.plan}: make it smaller"
                )
        return Explored(strides.plan, len(queue), len(edges), tuple(self.broken.values()), tuple(edges))

    def _watched(self, node: _Node, stride: Stride, *, over: bool) -> tuple[Hashable, ...]:
        """Where the monitors are behind a stride; one that is broken listens no more."""
        places: list[Hashable] = []
        for (name, monitor), place in zip(self.monitors.items(), node.monitors, strict=True):
            now, number = (None, 0) if name in self.broken else _listened(monitor, place, stride)
            if name not in self.broken and (now is None or (over and not monitor.over(now))):
                way = node.way()
                self.broken[name] = Broken(name, (*way, stride), sum(len(one.heard) for one in way) + number)
                now = None
            places.append(now)
        return tuple(places)


def _listened(monitor: Monitor, place: Hashable, stride: Stride) -> tuple[Hashable | None, int]:
    """Where a monitor is behind a stride, or nothing, and how many events of it were right."""
    now: Hashable | None = place
    for number, heard in enumerate(stride.heard):
        if (now := monitor.after(now, heard)) is None:
            return None, number
    return now, len(stride.heard)


def stops(machine: Machine) -> frozenset[Enum]:
    """The stop guards of a machine and of those within it: `run.stop` may say yes to them though nobody answers."""
    return frozenset(guard for one in (machine, *machine.within) for guard in one.guards if is_stop(guard))


def heard_in(machine: Machine) -> tuple[Enum, ...]:
    """All events that may be heard in a run of a machine: its own, and those of the machines within it."""
    return tuple(dict.fromkeys(event for one in (machine, *machine.within) for event in one.events))
