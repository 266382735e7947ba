"""How does a run go from state to state, and how does it die?

A run is driven by its loop: the one that its machine comes to (`loop`), or `walk`, which reads the linked rows.  An
exception, wherever it comes from, ends a run in the one way that `die` describes.
"""

from collections.abc import Callable, Iterable
from enum import Enum

from engine.link import Group, Happening, Linked, Node
from engine.outcome import Outcome
from engine.run import Run, release
from states import State, Transition, TriggerRefused
from states.names import name_of


def drive(run: Run, linked: Linked, loop: Callable[[Run], None]) -> None:
    """Let a loop run to its end; whatever is raised ends the run and is raised again."""
    try:
        loop(run)
    except BaseException as error:
        die(run, linked, error)
        raise
    finally:
        finish(run)


def walk(run: Run, linked: Linked) -> None:
    """Take one row after the other, as they are linked, to a final state.

    `Engine(checked=True)` runs this, with arrows that ask pytransitions; so does a machine whose loops do not nest.
    """
    node = linked.start
    while node.groups:
        group = node.groups[0]
        if node.action is not None:
            group = _reported(run, node, node.action(run))
            for happening in group.first:
                happening.do(run)
        for arrow in group.arrows:  # the one that breaks the loop is taken
            if arrow.ask is None or arrow.ask.do(run):
                break
        run.recent.append(arrow.row)
        run.state = arrow.row.dest
        for happening in arrow.heard:
            happening.do(run)
        node = arrow.node


def _reported(run: Run, node: Node, trigger: object) -> Group:
    for group in node.groups:
        if group.trigger is trigger:
            return group
    raise unexpected(run, trigger, *(group.trigger for group in node.groups if group.trigger))


def unexpected(run: Run, trigger: object, *allowed: Enum) -> TriggerRefused:
    """The error for an action that reported what no row of its state takes."""
    given = name_of(trigger) if isinstance(trigger, Enum) else repr(trigger)
    return TriggerRefused(
        f"the action of {name_of(run.state)} reported {given} in {run.where}\n"
        f"  allowed:  {', '.join(map(name_of, allowed))}\n"
        f"  instead:  return one of these triggers from the action"
    )


def die(run: Run, linked: Linked, error: BaseException) -> None:
    """End a run by an exception.

    Those open hear `exception`, then the machine's outermost end, once, last; a run that another holds is silent, for
    its parent dies of the same exception.  When the last end was being heard already, the others still hear it.
    Whatever a callback raises meanwhile is kept in `run.errors` and robs nobody.
    """
    interrupted = isinstance(error, KeyboardInterrupt)
    state, recent, left = run.state, list(run.recent), _left(run, linked)
    run.errors.append(error)
    run.outcome = Outcome.INTERRUPTED if interrupted else Outcome.FAILED
    if state is not linked.machine.initial and state not in linked.machine.finals:
        run.state = State.INTERRUPTED if interrupted else State.FAILED
    if run.parent is None:
        _hear_all(run, left)
    error.add_note(_note(run, state, recent))


def _left(run: Run, linked: Linked) -> Iterable[Happening]:
    """What is still to be heard when a run dies where it is."""
    if run.left is not None:
        return run.left
    if run.state in linked.machine.finals:  # interrupted before the first could hear
        return linked.ends[run.recent[-1]]
    return (*linked.exception, *linked.deaths[run.state]) if run.state in linked.deaths else ()


def _hear_all(run: Run, left: Iterable[Happening]) -> None:
    for happening in left:
        try:
            happening.do(run)
        except BaseException as later:  # noqa: BLE001  # the first exception is what the caller gets; this one is kept
            run.errors.append(later)


def _note(run: Run, state: Enum, recent: Iterable[Transition]) -> str:
    where = f"{name_of(state)} (epoch {run.epoch}, batch {run.batch_index}, update {run.updates})"
    rows = "".join(f"\n    {row}" for row in recent)
    return f"while {run.machine.name} was in {where}; its last transitions:{rows}"


def finish(run: Run) -> None:
    """Let go of what a run held and put back each module's mode; after a failure the batch stays, to be looked at."""
    run.iterator = None
    if run.outcome in (Outcome.COMPLETED, Outcome.STOPPED):
        release(run)
    for module, mode in run.modes:
        module.training = mode
    run.modes = []
