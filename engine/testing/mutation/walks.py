"""How can the engine's walk be broken?  Who hears, who is asked, what is done: one thing at a time, in the linked rows.

# Theory of operation
#
# A run is linked once from a machine, its actions, those who hear and the one who asks.  Each way to break the walk
# changes one of these before it is linked, or the linked rows afterwards; so every run that reads them is broken alike:
# that of `fit`, one that is taken forward from outside, one that pytransitions checks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum

from attrs import evolve

from engine.actions import Action
from engine.outcome import Outcome
from engine.run import Run
from engine.running.link import Happening, Linked, LinkedRow, reached
from engine.testing.mutation.askings import broken_askings
from engine.testing.mutation.linking import Broken, Linking, Put
from states import Machine, State, Transition
from states.names import name_of


def broken_walks(machine: Machine) -> Iterator[Broken]:
    """All of them for a machine.

    Example:
        >>> from states import PREDICTION
        >>> family, change, *_ = next(broken_walks(PREDICTION))
        >>> print(f"{family}: {change}")
        callbacks hear in reverse order: predict_begin
    """
    for event in machine.events:
        yield from ((family, name_of(event), _heard_by(event, bend), event) for family, bend in _HEARING.items())
    for guard in machine.guards:
        yield from broken_askings(machine, guard)
    for row in machine.rows:
        if row.heard:
            yield "heard before the state moves", str(row), _in_source(row), row
    for state in machine.states:
        yield from _actions(machine, state)
    yield from (("how a run dies", change, put, None) for change, put in _DEATHS.items())
    yield from (("how a run ends", f"{a.name} becomes {b.name}", _ends_as(a, b), None) for a, b in _ENDS.items())


Hearing = tuple[Happening, ...]
_HEARING: Mapping[str, Callable[[Hearing], Hearing]] = {
    "callbacks hear in reverse order": lambda hearing: hearing[::-1],
    "the last callback does not hear": lambda hearing: hearing[:-1],
    "the last callback hears twice": lambda hearing: (*hearing, *hearing[-1:]),
}


def _heard_by(event: Enum, bend: Callable[[Hearing], Hearing]) -> Put:
    return lambda given: evolve(given, ears={**given.ears, event: bend(given.ears.get(event, ()))}).link()


def _rows(linked: Linked) -> Iterator[LinkedRow]:
    return (row for at in reached(linked.start) for group in at.groups for row in group.rows)


def _in_source(changed: Transition) -> Put:
    """What is heard on the way is heard where the row comes from."""

    def put(given: Linking) -> Linked:
        linked = given.link()
        for row in _rows(linked):
            if row.transition == changed and not all(happening.code for happening in row.heard):
                row.heard = (Happening(_hearing_in(changed.source, row.heard), "heard_before"),)
        return linked

    return put


def _hearing_in(state: Enum, heard: Iterable[Happening]) -> Callable[[Run], None]:
    def hear(run: Run) -> None:
        there, run.state = run.state, state
        for happening in heard:
            happening.do(run)
        run.state = there

    return hear


def _actions(machine: Machine, state: Enum) -> Iterator[Broken]:
    """What is done in a state where one thing alone is reported; a machine that is held reports that it has ended."""
    triggers = [trigger for source, trigger in machine.groups if source is state and trigger is not None]
    if not triggers or (len(triggers) > 1 and state not in machine.holds):
        return
    yield "nothing is done", name_of(state), _done(state, _idle, triggers[0]), state
    if state not in (machine.initial, *_ONCE_IS_ENOUGH):
        yield "done twice", name_of(state), _done(state, _doubled, triggers[0]), state


# Gradients that are dropped twice are dropped.
_ONCE_IS_ENOUGH = (State.ZERO_GRAD, State.CLEAR)


def _done(state: Enum, bend: Callable[[Action, Enum], Action], trigger: Enum) -> Put:
    def put(given: Linking) -> Linked:
        return evolve(given, actions={**given.actions, state: bend(given.actions[state], trigger)}).link()

    return put


def _idle(action: Action, trigger: Enum) -> Action:
    return evolve(action, do=lambda _: trigger)


def _doubled(action: Action, trigger: Enum) -> Action:
    del trigger
    return evolve(action, do=lambda run: (action.do(run), action.do(run))[-1])


def _dies(bend: Callable[[Hearing, Hearing], tuple[Hearing, Hearing]]) -> Put:
    """Who hears *exception*, and who the outermost end, when a run dies."""

    def put(given: Linking) -> Linked:
        linked = given.link()
        said = {state: bend(linked.exception, end) for state, end in linked.deaths.items()}
        return evolve(linked, exception=(), deaths={state: (*first, *end) for state, (first, end) in said.items()})

    return put


_DEATHS: Mapping[str, Put] = {
    "exception is not heard": _dies(lambda _, end: ((), end)),
    "the outermost end is not heard": _dies(lambda exception, _: (exception, ())),
    "the outermost end is heard before exception": _dies(lambda exception, end: (end, exception)),
    "the outermost end is heard twice": _dies(lambda exception, end: (exception, (*end, *end))),
}
_ENDS: Mapping[Outcome, Outcome] = {Outcome.STOPPED: Outcome.COMPLETED, Outcome.COMPLETED: Outcome.STOPPED}


def _ends_as(outcome: Outcome, other: Outcome) -> Put:
    """The run says that it ended in another way."""

    def say(run: Run) -> None:
        run.outcome = other if run.outcome is outcome else run.outcome

    def put(given: Linking) -> Linked:
        linked = given.link()
        for row in _rows(linked):
            if not row.dest.groups:
                row.heard = (*row.heard, Happening(say, "say"))
        return linked

    return put
