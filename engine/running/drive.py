"""How does a run go from state to state, and how does it die?

A run is driven by the loop that its machine comes to (see `loop`), or by `follow`, which reads the linked rows.  An
exception, wherever it comes from, ends a run in the one way that `die` describes.
"""

import linecache
from collections.abc import Callable, Iterable
from enum import Enum
from traceback import walk_tb

from engine.listeners import Hear
from engine.outcome import Outcome
from engine.run import Run, release
from engine.running.link import Linked, LinkedGroup, LinkedState
from states import State, Transition, TriggerRefused
from states.errors import typed
from states.names import name_of


def drive(run: Run, linked: Linked, loop: Callable[[Run], None]) -> None:
    """Let a loop run to its end; whatever is raised ends the run and is raised again."""
    run.modes = [(module, module.training) for module in run.model.modules()]  # each module's own; put back at the end
    try:
        loop(run)
    except BaseException as error:
        die(run, linked, error, loop)
        raise
    finally:
        finish(run)


def follow(run: Run, linked: Linked) -> None:
    """Take one row after the other, as they are linked, to a final state.

    `Engine(checked=True)` runs this, with rows that ask pytransitions; so does a machine whose loops do not nest.
    """
    here = linked.start
    while here.groups:
        group = here.groups[0]
        if here.action is not None:
            group = reported(run, here, here.action.do(run))
            for happening in group.first:
                happening.do(run)
        for row in group.choices:  # the one that breaks the loop is taken
            if row.ask is None or row.ask.do(run):
                break
        run.ways.append(row.way)
        run.state = row.transition.dest
        for happening in row.heard:
            happening.do(run)
        here = row.dest


def reported(run: Run, here: LinkedState, trigger: object) -> LinkedGroup:
    """The rows that compete for what the action of a state reported."""
    for group in here.groups:
        if group.trigger is trigger:
            return group
    raise unexpected(run, trigger, *(group.trigger for group in here.groups if group.trigger))


def unexpected(run: Run, trigger: object, *allowed: Enum) -> TriggerRefused:
    """The error for an action that reported what no row of its state takes."""
    given = name_of(trigger) if isinstance(trigger, Enum) else typed(trigger)
    return TriggerRefused(
        f"the action of {name_of(run.state)} reported {given} in {run.where}\n"
        f"  allowed:  {', '.join(map(name_of, allowed))}\n"
        f"  instead:  return one of these members themselves, or make the action with output_from or loss_from"
    )


def die(run: Run, linked: Linked, error: BaseException, loop: Callable[[Run], None] | None = None) -> None:
    """End a run by an exception.

    Those open hear `exception`, then the machine's outermost end, once, last; a run that another holds is silent, for
    its parent dies of the same exception.  When the last end was being heard already, the others still hear it.
    Whatever a callback raises meanwhile is kept in `run.errors` and robs nobody.
    """
    interrupted = isinstance(error, KeyboardInterrupt)
    state, recent, left = run.state, run.recent, _left(run, linked)
    run.errors.append(error)
    run.outcome = Outcome.INTERRUPTED if interrupted else Outcome.FAILED
    if state is not linked.machine.initial and state not in linked.machine.finals:
        run.ways.clear()
        run.ways.append(recent)
        run.state = State.INTERRUPTED if interrupted else State.FAILED
    if run.parent is None:
        _hear_all(run, left)
    try:
        error.add_note(_note(run, state, recent, _line(error, loop)))
    except Exception as refused:  # noqa: BLE001  # a frozen exception takes no note; the caller gets it all the same
        run.errors.append(refused)


def _left(run: Run, linked: Linked) -> Iterable[Hear]:
    """Who is still to hear what when a run dies where it is."""
    if run.left is not None:
        return run.left
    if run.state in linked.machine.finals:  # interrupted before the first could hear
        return (happening.do for happening in linked.ends[run.recent[-1]])
    deaths = linked.deaths.get(run.state)
    return () if deaths is None else (happening.do for happening in (*linked.exception, *deaths))


def _hear_all(run: Run, left: Iterable[Hear]) -> None:
    for hear in left:
        try:
            hear(run)
        except BaseException as later:  # noqa: BLE001  # the first exception is what the caller gets; this one is kept
            run.errors.append(later)


def _line(error: BaseException, loop: Callable[[Run], None] | None) -> str:
    """The line of a loop that raised: until Python 3.13, a traceback that ends a program does not show it."""
    code = getattr(loop, "__code__", None)  # where the table is followed there is none
    lines = (
        linecache.getline(code.co_filename, number)
        for frame, number in walk_tb(error.__traceback__)
        if frame.f_code is code
    )
    return next(lines, "").partition("#")[0].strip()


def _note(run: Run, state: Enum, recent: Iterable[Transition], line: str) -> str:
    at = f", at {line}" if line else ""
    where = f"{name_of(state)} (epoch {run.epoch}, batch {run.batch_index}, update {run.updates})"
    rows = "".join(f"\n    {row}" for row in recent) or " none yet"
    return f"while {run.machine.name} was in {where}{at}; its last transitions:{rows}"


def finish(run: Run) -> None:
    """Put back each module's mode and let go of what the run held; after a failure the batch stays, to be looked at."""
    for module, mode in run.modes:
        module.training = mode
    run.modes = []
    run.iterator = None
    if run.outcome in (Outcome.COMPLETED, Outcome.STOPPED):
        release(run)
