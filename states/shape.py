"""Which loops does a machine go round, and where do its ways meet?  What one must know to write it as nested loops.

# Theory of operation
#
# A state *dominates* another if every way from the start to that one leads through it.  An arrow back to a state that
# is on the way already closes a cycle; that state is the *header* of a loop, and the loop's *body* is all that comes
# back to it.  Where the header dominates its body, the cycle is entered at one state and can be written as `while
# True:`; its *exit* is the state that comes next in the loop around it, which is where `break` leads.  A state in which
# several ways meet is written once, after the state that dominates it immediately: it is a *join* of that one.
# (Ramsey, "Beyond Relooper", Proc. ACM Program. Lang. 6, ICFP, 2022, does the same with labelled blocks.)
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum

from attrs import define, field, frozen


Leads = Mapping[Enum, Sequence[Enum]]


@frozen
class Loop:
    """One cycle of states: entered at its header; where `break` leads, if it goes on from there."""

    header: Enum
    body: frozenset[Enum]
    exit: Enum | None


@frozen
class Shape:
    """The loops of a machine by their headers, and for each state those that follow it where several ways meet.

    Attributes:
        loops: By header.
        joins: By immediate dominator, in an order in which they can be written one after the other.
        crossing: An arrow back that closes a cycle which is entered elsewhere, too; `None` where all cycles nest.
    """

    loops: Mapping[Enum, Loop] = field(hash=False)
    joins: Mapping[Enum, tuple[Enum, ...]] = field(hash=False)
    crossing: tuple[Enum, Enum] | None


def shape(start: Enum, leads: Leads) -> Shape:
    """The shape of a graph of states.

    Args:
        start: The initial state.
        leads: For each state, where its arrows lead, one entry for each arrow; nowhere for a final state.

    Example:
        >>> from states import EVALUATION, State
        >>> leads = {state: [row.dest for row in EVALUATION.rows_from(state)] for state in EVALUATION.states}
        >>> found = shape(State.IDLE, leads)
        >>> list(found.loops), found.crossing
        ([<State.EVALUATE: 'evaluate'>], None)
    """
    return _Shaper(start, leads).shape()


@define(eq=False)
class _Shaper:
    start: Enum
    leads: Leads
    # The states, each before those that it leads to, but for the arrows back, which close cycles.
    order: list[Enum] = field(factory=list)
    back: set[tuple[Enum, Enum]] = field(factory=set)

    def shape(self) -> Shape:
        self._visit(self.start, [])
        self.order.reverse()
        dominators = self._dominators()
        bodies = {header: self._body(header) for header in self.order if any(h is header for _, h in self.back)}
        loops = {header: Loop(header, body, self._exit(header, bodies)) for header, body in bodies.items()}
        crossing = [(source, header) for source, header in self.back if header not in dominators[source]]
        first = min(crossing, key=lambda arrow: tuple(map(self.order.index, arrow)), default=None)
        return Shape(loops, self._joins(dominators, bodies), first)

    def _visit(self, state: Enum, way: list[Enum], seen: set[Enum] | None = None) -> None:
        """Go depth first; a state is listed when all that it leads to are."""
        seen = set() if seen is None else seen
        seen.add(state)
        way.append(state)
        for dest in self.leads[state]:
            if dest in way:
                self.back.add((state, dest))
            elif dest not in seen:
                self._visit(dest, way, seen)
        way.pop()
        self.order.append(state)

    def _forward(self) -> Iterator[tuple[Enum, Enum]]:
        return ((s, dest) for s in self.order for dest in self.leads[s] if (s, dest) not in self.back)

    def _dominators(self) -> dict[Enum, list[Enum]]:
        """The dominators of each state, itself included, outermost first: the common part of those of all before it.

        One pass in order is enough where cycles are entered at their headers; where they are not, there is a crossing.
        """
        before: dict[Enum, list[Enum]] = {}
        for source, dest in self._forward():
            before.setdefault(dest, []).append(source)
        dominators: dict[Enum, list[Enum]] = {}
        for state in self.order:
            ways = [dominators[source] for source in before.get(state, ())]
            common = [d for d in ways[0] if all(d in way for way in ways)] if ways else []
            dominators[state] = [*common, state]
        return dominators

    def _body(self, header: Enum) -> frozenset[Enum]:
        """All that comes back to a header without passing it."""
        body, queue = {header}, [source for source, dest in self.back if dest is header]
        while queue:
            state = queue.pop()
            if state not in body:
                body.add(state)
                queue += [source for source in self.order if state in self.leads[source]]
        return frozenset(body)

    def _exit(self, header: Enum, bodies: Mapping[Enum, Collection[Enum]]) -> Enum | None:
        """Where most arrows out of a loop lead that stay in the loop around it."""
        body = bodies[header]
        around = {state for other in bodies.values() if header in other and len(other) > len(body) for state in other}
        out = [dest for state in body for dest in self.leads[state] if dest in around and dest not in body]
        return max(dict.fromkeys(sorted(out, key=self.order.index)), key=out.count, default=None)

    def _joins(
        self, dominators: Mapping[Enum, list[Enum]], bodies: Mapping[Enum, Collection[Enum]]
    ) -> dict[Enum, tuple[Enum, ...]]:
        arrows = [dest for _, dest in self._forward()]
        joins: dict[Enum, tuple[Enum, ...]] = {}
        for state in self.order:
            if arrows.count(state) > 1 and self.leads[state]:  # where nothing follows, there is nothing to write once
                above = dominators[state][-2]
                around = [body for body in bodies.values() if above in body]
                if all(state in body for body in around):
                    joins[above] = (*joins.get(above, ()), state)
        return joins
