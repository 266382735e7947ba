"""What loop would one have written?  Plain Python made from linked rows: nested loops, an `if` for each answered guard.

# Theory of operation
#
# `states.shape` finds the loops of a machine and the states in which its ways meet.  Here every state is written where
# the one before it leads to it: its action, what is heard, and for each row an `if` with what comes then.  To go to a
# state is to write nothing where that state comes next anyway, `continue` or `break` where the loop around leads there,
# and the state itself otherwise; so the few states in which a run stops are written at each place that stops.
#
# Nothing is decided here: a row that is not in the table cannot be written.  Names are made from those of states,
# guards and callbacks, by letters, digits and underscores alone, and no two things have one name.
"""

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import pairwise

from attrs import define, evolve, field, frozen

from engine.errors import NotNested
from engine.running.code import Code, Names, choice
from engine.running.drive import unexpected
from engine.running.link import Linked, LinkedGroup, LinkedRow, LinkedState, reached
from engine.running.written import OWN, Source, call, constant, done, happen
from states import Transition
from states.names import name_of
from states.picture import visible
from states.shape import Loop, Shape, shape


# A loop in which rows are written again and again, more often than this on the average, is not one to read.
COPIES = 8
# Nor one with more states than this, or one deeper than Python lets code be.
STATES, LOOPS, INDENTS = 60, 18, 90


@frozen
class Place:
    """Where a piece of code stands: the state that comes after it, the loop around it, the states on the way to it."""

    next: Enum | None = None
    loop: Loop | None = None
    way: tuple[Enum, ...] = ()


def source(linked: Linked) -> Source:
    """The loop that a machine comes to, with those who listen and answer.

    Raises:
        NotNested: the ways of the machine cannot be written as nested loops.
    """
    return _Writer(linked).source()


@define(eq=False)
class _Writer:
    linked: Linked
    names: Names = field(factory=lambda: Names(space={"unexpected": unexpected}, taken=OWN))
    states: dict[Enum, LinkedState] = field(init=False)
    shape: Shape = field(init=False)
    ways: Mapping[Transition, tuple[Transition, ...]] = field(init=False)
    # How many rows may still be written.
    room: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Look at the graph."""
        self.states = {at.state: at for at in reached(self.linked.start)}
        self.ways = _ways(self.linked.start, self.states.values())
        self.room = COPIES * len(self.linked.machine.rows)
        if len(self.states) > STATES:
            raise self._refused(f"has {len(self.states)} states, more than anybody would read")
        leads = {s: [row.dest.state for group in at.groups for row in group.rows] for s, at in self.states.items()}
        self.shape = shape(self.linked.start.state, leads)
        if self.shape.crossing is not None:
            source, header = map(name_of, self.shape.crossing)
            raise self._refused(f"goes from {source} back to {header}, round a cycle that is entered elsewhere, too")

    def source(self) -> Source:
        name = self.names(self.linked.machine.name, self.linked)
        code = self._state(self.linked.start.state, Place())
        fields = "remember, wish, epoch_wish = run.ways.append, run.wish, run.epoch_wish"
        body = "\n".join(Code((fields, *code.lines)).inside())
        if " " * 4 * INDENTS in body:
            raise self._refused("nests deeper than Python allows")
        return Source(name, f"def {name}(run):\n{body}\n", self.names.space)

    def _refused(self, why: str) -> NotNested:
        return NotNested(self.linked.machine.name, why)

    def _go(self, state: Enum, here: Place) -> Code:
        """To a state: nothing if it comes next anyway, a jump if the loop around leads there, or the state itself."""
        if state is here.next:
            return Code()
        if here.loop is not None and state is here.loop.header:
            return Code(("continue",), falls=False)
        if here.loop is not None and state is here.loop.exit:
            return Code(("break",), falls=False)
        if state in here.way:
            raise self._refused(f"goes back to {name_of(state)} from inside another loop")
        return self._state(state, here)

    def _state(self, state: Enum, here: Place) -> Code:
        """A state and all that comes after it; in a loop, if it is the header of one."""
        here = evolve(here, way=(*here.way, state))
        if not self.states[state].groups:
            return Code(("return",), falls=False)
        loop = self.shape.loops.get(state)
        if loop is None:
            return self._once(state, here)
        if sum(around in self.shape.loops for around in here.way) > LOOPS:
            raise self._refused("has more loops in each other than Python allows")
        inside = self._once(state, evolve(here, next=state, loop=loop))
        after = Code(falls=False) if loop.exit is None else self._go(loop.exit, here)
        return Code(("while True:", *inside.inside(), *after.lines), after.falls)

    def _once(self, state: Enum, here: Place) -> Code:
        """A state, then those that it dominates and in which several ways meet, one after the other."""
        joins = [*(join for join in self.shape.joins.get(state, ()) if join is not here.next), here.next]
        code = self._groups(self.states[state], evolve(here, next=joins[0]))
        for join, following in pairwise(joins):
            if code.falls and join is not None:
                then = self._state(join, evolve(here, next=following))
                code = Code((*code.lines, *then.lines), then.falls)
        return code

    def _groups(self, at: LinkedState, here: Place) -> Code:
        """What is done in a state, and what follows from each report."""
        codes = {group.trigger: self._group(group, here) for group in at.groups}
        if at.action is None:
            return codes[None]
        if len(codes) == 1 and at.action.sure:
            (code,) = codes.values()
            return Code((*done(self.names, at), *code.lines), code.falls)
        code = self._reported(codes, sure=at.action.sure)
        return Code((f"trigger = {call(self.names, at)}", *code.lines), code.falls)

    def _reported(self, codes: Mapping[Enum | None, Code], *, sure: bool) -> Code:
        """What follows from each report, those that lead elsewhere first; what nothing follows from is refused."""
        *others, (trigger, last) = sorted(
            ((constant(self.names, trigger), code) for trigger, code in codes.items()), key=lambda pair: pair[1].falls
        )
        choices = [(f"trigger is {other}:", code) for other, code in others]
        if sure:
            return choice(choices, last)
        every = ", ".join(constant(self.names, trigger) for trigger in codes)
        wrong = Code((f"raise unexpected(run, trigger, {every})",), falls=False)
        if any(code.falls for _, code in others):
            return choice([*choices, (f"trigger is {trigger}:", last)], wrong)
        return choice([*choices, (f"trigger is not {trigger}:", wrong)], last)

    def _group(self, group: LinkedGroup, here: Place) -> Code:
        """What is heard first, and the rows to choose from."""
        guarded, (last,) = group.rows[:-1], group.rows[-1:]
        assert last.ask is None, "the last row of a group has no guard"
        code = choice([(self._asks(row), self._row(row, here)) for row in guarded], self._row(last, here))
        return Code((*happen(self.names, group.first), *code.lines), code.falls)

    def _row(self, row: LinkedRow, here: Place) -> Code:
        """A row that is taken: its way is remembered, the state moves, what is heard, and where it leads."""
        self.room -= 1
        if self.room < 0:
            raise self._refused("has no nested form that is as short as its table")
        way, there = self.ways.get(row.transition), self._go(row.transition.dest, here)
        number = self.linked.machine.rows.index(row.transition)
        remembered = () if way is None else (f"remember({self.names(f'way_{number}', way)})",)
        moved = f"run.state = {constant(self.names, row.transition.dest)}  # {visible(str(row.transition))}"
        return Code((*remembered, moved, *happen(self.names, row.heard), *there.lines), there.falls)

    def _asks(self, row: LinkedRow) -> str:
        """The condition on which a row is taken; a stop that only `run.stop` can ask for costs a look at its wish."""
        assert row.ask is not None, "only guarded rows are asked"
        alone = [other.guard for other in self.linked.machine.rows].count(row.transition.guard) == 1
        name = row.ask.name if alone else f"{row.ask.name}_in_{name_of(row.transition.source)}"
        call = f"{self.names(name, row.ask.do)}(run)"
        if row.ask.wish:
            return f"{row.ask.wish}.reason is not None and {call}:"
        return f"{call}:  # asks {visible(', '.join(row.ask.who))}"


def _ways(start: LinkedState, states: Iterable[LinkedState]) -> dict[Transition, tuple[Transition, ...]]:
    """For each row that is a choice, or the first: that row and those that then follow without one."""
    forced = {at.state: at.groups[0].rows[0] for at in states if [len(group.rows) for group in at.groups] == [1]}
    chosen = [row for at in states if at.state not in forced for group in at.groups for row in group.rows]
    if start.state in forced:
        chosen.append(forced.pop(start.state))
    ways = {}
    for row in chosen:
        way = [row]
        while (following := forced.get(way[-1].dest.state)) is not None:
            way.append(following)
        ways[row.transition] = tuple(step.transition for step in way)
    return ways
