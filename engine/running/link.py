"""How does a table become something that runs?  Rows linked to the actions, the listeners and the guards of one run.

# Theory of operation
#
# A run is prepared once.  Each state becomes a `LinkedState` that holds its action and, for each trigger that it may
# report, a `LinkedGroup`: what is heard first, and the `LinkedRow`s to choose from.  All that happens when a row is
# taken - counters that move, callbacks that hear - is one flat tuple of `Happening`s, in order.  A row whose guard
# nobody answers is left out, unless the user's own code may come to answer it.
#
# Three read what is linked here: `loop` writes it down as the loop that one would have written, `drive` follows it, and
# `steps` takes one row at a time.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen

from engine.actions import Action
from engine.listeners import Hear, Listener
from engine.outcome import Outcome
from engine.run import Run
from engine.running.asking import Ask, Asker
from states import Count, Event, Machine, Transition, When
from states.checked import Checked
from states.names import name_of


if TYPE_CHECKING:
    from engine.running.straight import Drawing, Straight


@frozen(eq=False)
class Happening:
    """One thing that happens on the way: a callback hears, a counter moves, or the run ends.

    Attributes:
        do: A function of the run that lets it happen.
        name: What to call that function, for people.
        code: A statement that does the same, where there is one: counters that move in every batch are written out.
        note: What else there is to say: the filter of a listener.
    """

    do: Hear
    name: str
    code: str = ""
    note: str = ""


Ears = Mapping[Enum, tuple[Happening, ...]]
Doing = Mapping[Enum, Action]


@define(eq=False)
class LinkedRow:
    """One row, linked: whom to ask (`None`: nobody), what happens on the way, and the state that it leads to."""

    transition: Transition
    ask: Ask | None
    heard: tuple[Happening, ...]
    dest: "LinkedState"
    # The row as a way of its own, for `run.ways`.
    way: tuple[Transition] = field(init=False)
    # For a run of the user's own loop: what follows the report behind it, the row itself included.
    offered: "Straight | None" = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Make the way once: it is remembered each time that the row is taken."""
        self.way = (self.transition,)


@define(eq=False)
class LinkedGroup:
    """The rows of one (state, trigger), linked."""

    trigger: Enum | None
    first: tuple[Happening, ...]
    rows: tuple[LinkedRow, ...] = ()
    # Those of them that may be taken: without those whose guard nobody answers.
    choices: tuple[LinkedRow, ...] = field(init=False)
    # For a run of the user's own loop: what follows the report, where nothing is to be decided.
    straight: "Straight | None" = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Leave out once what need not be looked at in every batch."""
        self.choices = tuple(row for row in self.rows if row.ask is not None or row.transition.guard is None)


@define(eq=False)
class LinkedState:
    """One state, linked.  A final state has no groups; a state that decides has no action."""

    state: Enum
    action: Action | None = None
    groups: tuple[LinkedGroup, ...] = ()
    # For a run of the user's own loop: whether it stands still here, until the user's code goes on or for good.
    waits: bool = False
    # How a batch is drawn from here, where nobody but `run.stop` is asked.
    drawing: "Drawing | None" = None


@define(eq=False)
class Linked:
    """A machine made ready for one outermost run: a validation is linked once for all epochs."""

    machine: Machine
    start: LinkedState
    # Who hears `exception`, and for each state that can die who hears the outermost end.
    exception: tuple[Happening, ...] = ()
    deaths: Mapping[Enum, tuple[Happening, ...]] = field(factory=dict)
    # For each row into a final state, who hears its end.
    ends: Mapping[Transition, tuple[Happening, ...]] = field(factory=dict)


def ears_of(listeners: Iterable[Listener]) -> Ears:
    """Those who hear each event.  Made once for a run and those it holds: hearings are counted in them."""
    ears: dict[Enum, tuple[Happening, ...]] = {}
    for listener in listeners:
        for event, hear in listener.hears.items():
            name = f"{listener.name}_on_{name_of(event)}"
            happening = Happening(listener.filter.around(hear), name, note=str(listener.filter).strip(" ()"))
            ears[event] = (*ears.get(event, ()), happening)
    return ears


def link(
    machine: Machine, actions: Doing, ears: Ears, asker: Asker, *, checked: bool = False, every: bool = False
) -> Linked:
    """Link the rows of a machine; if *checked*, pytransitions chooses among the rows of each group.

    Args:
        machine: The machine.
        actions: What is done in each state.
        ears: Who hears each event.
        asker: Who asks the guards.
        checked: Whether pytransitions chooses.
        every: Whether rows are kept whose guard nobody answers.

    Cost: well under a millisecond, once per run; some more where pytransitions is asked.
    """
    judge = Checked(machine) if checked else None
    states = {s: LinkedState(s, None if machine.decides(s) else actions.get(s)) for s in machine.states}
    ends = {row: _all(machine, ears, row.heard) for row in machine.rows if row.dest in machine.finals}
    for (source, trigger), rows in machine.groups.items():
        first = (*_moves(machine, When.BEFORE, trigger), *_all(machine, ears, rows[0].first))
        asked = [(row, asker.ask(row)) for row in rows]
        linked = tuple(
            LinkedRow(row, ask, (_end(ends[row]),) if row in ends else _all(machine, ears, row.heard), states[row.dest])
            for row, ask in asked
            if every or row.guard is None or ask is not None
        )
        group = LinkedGroup(trigger, first, linked if judge is None else _chosen_by(judge, linked))
        states[source].groups = (*states[source].groups, group)
    deaths = {row.source: ears.get(row.heard[-1], ()) if len(row.heard) > 1 else () for row in machine.deaths}
    return Linked(machine, states[machine.initial], ears.get(Event.EXCEPTION, ()), deaths, ends)


def reached(start: LinkedState) -> tuple[LinkedState, ...]:
    """The states that rows lead to; those behind a guard that nobody answers are not among them."""
    found, queue = {start.state: start}, [start]
    while queue:
        for row in (row for group in queue.pop().groups for row in group.rows):
            if row.dest.state not in found:
                found[row.dest.state] = row.dest
                queue.append(row.dest)
    return tuple(found.values())


def _chosen_by(judge: Checked, rows: Sequence[LinkedRow]) -> tuple[LinkedRow, ...]:
    """The same rows: the first that is asked lets pytransitions choose, and each says whether it was chosen."""
    asks = {row.transition.guard: row.ask for row in rows}
    chosen = rows[0].transition
    source, trigger = chosen.group

    def choose(run: Run) -> Transition:
        def answer(guard: Enum) -> bool:
            ask = asks.get(guard)
            return ask is not None and ask.do(run)

        taken = judge.choose(source, trigger, answer)
        assert any(row.transition == taken for row in rows), f"pytransitions took {taken}, which was not linked"
        return taken

    def asking(row: LinkedRow) -> Ask:
        def ask(run: Run) -> bool:
            nonlocal chosen
            if row is rows[0]:
                chosen = choose(run)
            return row.transition == chosen

        return Ask(ask, "chosen_by_pytransitions")

    return tuple(evolve(row, ask=asking(row)) for row in rows)


def _all(machine: Machine, ears: Ears, events: Sequence[Enum]) -> tuple[Happening, ...]:
    """All that happens when these events are heard: counters before, callbacks, counters after."""
    return tuple(
        happening
        for event in events
        for part in (_moves(machine, When.BEFORE, event), ears.get(event, ()), _moves(machine, When.AFTER, event))
        for happening in part
    )


def _moves(machine: Machine, when: When, what: Enum | None) -> tuple[Happening, ...]:
    """The counters that move on this side of an event or of a report."""
    return tuple(_move(count) for count in machine.counts if count.when is when and count.what is what)


def _move(count: Count) -> Happening:
    """A counter's move, as a function and as a statement."""
    name = name_of(count.counter)
    if count.by is None:
        return _written(f"clear_{name}", f"run.{name} = 0")
    return _written(f"move_{name}", f"run.{name} += {count.by}")


@cache
def _written(name: str, statement: str) -> Happening:
    """What a statement does, also as a function: half a microsecond less in each batch than `getattr` and `setattr`."""
    space: dict[str, Hear] = {}
    exec(f"def {name}(run):\n    {statement}", space)  # noqa: S102  # our own text: a counter and a number
    return Happening(space[name], name, statement)


def _end(hearing: tuple[Happening, ...]) -> Happening:
    """The last that happens: the run notes how it ended, and those who hear the outermost end hear it, once each."""
    hears = tuple(happening.do for happening in hearing)

    def end(run: Run) -> None:
        run.left = iter(hears)
        run.outcome = Outcome.STOPPED if run.stopping else Outcome.COMPLETED
        for hear in run.left:
            hear(run)

    return Happening(end, "end", note=", ".join(happening.name for happening in hearing))
