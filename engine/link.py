"""How does a table become something that runs?  Rows linked to the actions, the listeners and the guards of one run.

# Theory of operation
#
# A run is prepared once.  Each state becomes a `Node` that holds its action and, for each trigger that it may report,
# a `Group`: what is heard first, and the `Arrow`s to choose from.  All that happens on an arrow - counters that move,
# callbacks that hear - is one flat tuple of functions of the run, in order.  A guard that nobody answers leaves no
# arrow behind.  So a batch pays for its torch calls, for those who really listen, and for a handful of comparisons.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from attrs import define, evolve, field

from engine.errors import GuardRefused
from engine.listeners import Answer, Hear, Listener
from engine.outcome import Outcome, Tally, Verdict
from engine.run import OF_THE_EPOCH, OF_THE_RUN, Run, Wish
from states import Count, Counter, Event, Guard, Machine, State, Transition, When
from states.checked import Checked
from states.names import is_stop, name_of


Ears = Mapping[Enum, tuple[Hear, ...]]
Doing = Mapping[Enum, Callable[[Run], Enum]]


@define(eq=False)
class Arrow:
    """One row, linked: whom to ask (`None`: nobody), what happens on the way, and the node that it leads to."""

    row: Transition
    state: Enum
    ask: Answer | None
    heard: tuple[Hear, ...]
    node: "Node"


@define(eq=False)
class Group:
    """The rows of one (state, trigger), linked."""

    trigger: Enum | None
    first: tuple[Hear, ...]
    arrows: tuple[Arrow, ...] = ()


@define(eq=False)
class Node:
    """One state, linked.  A final state has no groups; a state that decides has no action."""

    state: Enum
    action: Callable[[Run], Enum] | None = None
    groups: tuple[Group, ...] = ()


@define(eq=False)
class Linked:
    """A machine made ready for one run."""

    machine: Machine
    start: Node
    # For each state that can die: those who hear `exception`, then those who hear the outermost end.
    deaths: Mapping[Enum, tuple[Hear, ...]] = field(factory=dict)


def ears_of(listeners: Iterable[Listener]) -> Ears:
    """The functions that hear each event.  Made once for a run and those it holds: hearings are counted in them."""
    ears: dict[Enum, tuple[Hear, ...]] = {}
    for listener in listeners:
        for event, hear in listener.hears.items():
            ears[event] = (*ears.get(event, ()), listener.filter.around(hear))
    return ears


def link(
    machine: Machine, actions: Doing, ears: Ears, listeners: Sequence[Listener], run: Run, *, checked: bool = False
) -> Linked:
    """Link the rows of a machine for one run; if *checked*, pytransitions chooses among the arrows of each group.

    Cost: well under a millisecond, once per run; some more where pytransitions is asked.
    """
    judge = Checked(machine) if checked else None
    nodes = {state: Node(state, None if machine.decides(state) else actions.get(state)) for state in machine.states}
    for (source, trigger), rows in machine.groups.items():
        first = (*_moves(machine, When.BEFORE, trigger), *_all(machine, ears, rows[0].first))
        arrows: list[Arrow] = []
        for row in rows:
            ask = _ask(row, listeners, run) if row.guard is not None else None
            if row.guard is None or ask is not None:
                heard = (*_entering(machine, row), *_all(machine, ears, row.heard))
                arrows.append(Arrow(row, row.dest, ask, heard, nodes[row.dest]))
        chosen = tuple(arrows) if judge is None else _chosen_by(judge, arrows)
        nodes[source].groups = (*nodes[source].groups, Group(trigger, first, chosen))
    deaths = {row.source: tuple(h for event in row.heard for h in ears.get(event, ())) for row in machine.deaths}
    return Linked(machine, nodes[machine.initial], deaths)


def _chosen_by(judge: Checked, arrows: Sequence[Arrow]) -> tuple[Arrow, ...]:
    """The same arrows: the first that is asked lets pytransitions choose, and each says whether it was chosen."""
    asks = {arrow.row.guard: arrow.ask for arrow in arrows}
    (source, trigger), chosen = arrows[0].row.group, arrows[0].row

    def choose(run: Run) -> Transition:
        def answer(guard: Enum) -> bool:
            ask = asks.get(guard)
            return ask is not None and ask(run)

        row = judge.choose(source, trigger, answer)
        assert any(arrow.row == row for arrow in arrows), f"pytransitions took {row}, which was not linked"
        return row

    def asking(arrow: Arrow) -> Answer:
        def ask(run: Run) -> bool:
            nonlocal chosen
            if arrow is arrows[0]:
                chosen = choose(run)
            return arrow.row == chosen

        return ask

    return tuple(evolve(arrow, ask=asking(arrow)) for arrow in arrows)


def _all(machine: Machine, ears: Ears, events: Sequence[Enum]) -> tuple[Hear, ...]:
    """All that happens when these events are heard: counters before, callbacks, counters after."""
    return tuple(
        happening
        for event in events
        for part in (_moves(machine, When.BEFORE, event), ears.get(event, ()), _moves(machine, When.AFTER, event))
        for happening in part
    )


def _moves(machine: Machine, when: When, what: Enum | None) -> tuple[Hear, ...]:
    """The counters that move on this side of an event or of a report."""
    return tuple(_move(count) for count in machine.counts if count.when is when and count.what is what)


def _move(count: Count) -> Hear:
    """A counter's move as one function.  Counters that move in every batch have an addition written out."""
    if count.by == 1 and count.counter in _ADDITIONS:
        return _ADDITIONS[count.counter]
    name, by = name_of(count.counter), count.by or 0

    def clear(run: Run) -> None:
        setattr(run, name, 0)

    def add(run: Run) -> None:
        setattr(run, name, getattr(run, name) + by)

    return clear if count.by is None else add


def _one_more_batch(run: Run) -> None:
    run.batch_index += 1


def _one_more_batch_done(run: Run) -> None:
    run.batches_done += 1


def _one_more_update(run: Run) -> None:
    run.updates += 1


def _one_more_in_the_window(run: Run) -> None:
    run.window += 1


_ADDITIONS: Mapping[Counter, Hear] = {
    Counter.BATCH_INDEX: _one_more_batch,
    Counter.BATCHES_DONE: _one_more_batch_done,
    Counter.UPDATES: _one_more_update,
    Counter.WINDOW: _one_more_in_the_window,
}


def _entering(machine: Machine, row: Transition) -> tuple[Hear, ...]:
    """What the run itself notes when a row is taken: that it is stopping, how it ended."""
    notes: list[Hear] = []
    if row.dest is State.STOPPING or Event.STOP in row.heard:
        notes.append(_note_stopping)
    if row.dest in machine.finals:
        notes.append(_note_outcome)
    return tuple(notes)


def _note_stopping(run: Run) -> None:
    run.stopping = True


def _note_outcome(run: Run) -> None:
    run.outcome = Outcome.STOPPED if run.stopping else Outcome.COMPLETED


def _ask(row: Transition, listeners: Iterable[Listener], run: Run) -> Answer | None:
    """One function that asks all who answer the guard of a row, until the first yes; `None` if nobody does."""
    guard = row.guard
    assert guard is not None, "only guarded rows are asked"
    answers = [(listener.label, listener.answers[guard]) for listener in listeners if guard in listener.answers]
    if guard is Guard.STOP_TRAINING and not run.trains:
        answers = []  # where nothing trains, only `run.stop` can ask: what stopped a training must not stop its test
    if is_stop(guard):
        wish = run.epoch_wish if guard in OF_THE_EPOCH else run.wish
        return _ask_stop(row, guard, wish, answers)
    if not answers:
        return None
    tallied = [(answer, Tally(guard, who, row)) for who, answer in answers]
    run.tallies.extend(tally for _, tally in tallied)

    def ask(run: Run) -> bool:
        for answer, tally in tallied:
            verdict = answer(run)
            if verdict is True:
                tally.count += 1
                tally.last_epoch, tally.last_batch_index, tally.last_updates = run.epoch, run.batch_index, run.updates
                return True
            if verdict is not False:
                raise _no_bool(tally.who, guard, verdict)
        return False

    return ask


def _ask_stop(row: Transition, guard: Enum, wish: Wish, answers: Sequence[tuple[str, Answer]]) -> Answer:
    """As `_ask`; `run.stop` is the first to answer, and a yes is recorded in full."""

    def ask(run: Run) -> bool:
        if wish.reason is not None:
            return _granted(run, row, guard, "run.stop", wish.reason)
        for who, answer in answers:
            verdict = answer(run)
            if verdict is True:
                return _granted(run, row, guard, who, f"{who} answered {name_of(guard)}")
            if verdict is not False:
                raise _no_bool(who, guard, verdict)
        return False

    return ask


def _granted(run: Run, row: Transition, guard: Enum, who: str, reason: str) -> bool:
    """Record a stop.  One of the whole run is latched; one of an epoch, or of a user's own kind, is done with."""
    run.stops.append(Verdict(guard, who, row, reason, run.epoch, run.batch_index, run.updates))
    if guard in OF_THE_EPOCH:
        run.epoch_wish.reason = None
    if guard in OF_THE_RUN:
        run.wish.reason = reason
    return True


def _no_bool(who: str, guard: Enum, verdict: object) -> GuardRefused:
    return GuardRefused(
        f"{who} answered the guard {name_of(guard)} with {verdict!r}, a {type(verdict).__name__}",
        allowed="True, False",
        instead="return a comparison of numbers; bool(tensor) would wait for the device",
    )
