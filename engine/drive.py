"""How does a run go from state to state?  The walk over linked rows, and how a run dies.

There is one loop.  With `Engine(checked=True)` the arrows were linked so that they ask pytransitions.
An exception, wherever it comes from, ends a run in the one way that `die` describes.
"""

from collections.abc import Iterable, Iterator
from enum import Enum

from engine.link import Group, Linked, Node
from engine.listeners import Hear
from engine.outcome import Outcome
from engine.run import Run, release
from states import State, Transition, TriggerRefused
from states.names import name_of


def walk(run: Run, linked: Linked) -> None:  # noqa: C901  # one flat loop: a call taken out of it is paid per row
    """Take one row after the other; whatever is raised ends the run and is raised again.  Nothing is looked up."""
    node, remember = linked.start, run.recent.append
    pending: Iterator[Hear] = iter(())
    try:
        while groups := node.groups:
            group = groups[0]
            if (action := node.action) is not None:
                trigger = action(run)
                if group.trigger is not trigger:
                    group = _reported(run, node, trigger)
                if group.first:
                    for hear in (pending := iter(group.first)):
                        hear(run)
            for arrow in group.arrows:  # the one that breaks the loop is taken
                if arrow.ask is None or arrow.ask(run):
                    break
            if arrow.heard:
                pending = iter(arrow.heard)  # before the state moves: an interrupt in between loses no end
            run.state = arrow.state
            remember(arrow.row)
            if arrow.heard:
                for hear in pending:
                    hear(run)
            node = arrow.node
    except BaseException as error:
        die(run, linked, error, pending)
        raise
    finally:
        finish(run)


def _reported(run: Run, node: Node, trigger: object) -> Group:
    """The group of a reported trigger, or an error that says what the action may report."""
    for group in node.groups:
        if group.trigger is trigger:
            return group
    given = name_of(trigger) if isinstance(trigger, Enum) else repr(trigger)
    allowed = ", ".join(name_of(group.trigger) for group in node.groups)
    raise TriggerRefused(
        f"the action of {name_of(node.state)} reported {given} in {run.where}\n"
        f"  allowed:  {allowed}\n"
        f"  instead:  return one of these triggers from the action"
    )


def die(run: Run, linked: Linked, error: BaseException, pending: Iterator[Hear]) -> None:
    """End a run by an exception.

    Those open hear `exception`, then the machine's outermost end, once, last; a run that another holds is silent, for
    its parent dies of the same exception.  When the last end was being heard already, the others still hear it.
    Whatever a callback raises meanwhile is kept in `run.errors` and robs nobody.
    """
    interrupted = isinstance(error, KeyboardInterrupt)
    state, recent = run.state, list(run.recent)
    run.errors.append(error)
    run.outcome = Outcome.INTERRUPTED if interrupted else Outcome.FAILED
    left: Iterable[Hear] = pending if state in linked.machine.finals else linked.deaths.get(state, ())
    if state is not linked.machine.initial and state not in linked.machine.finals:
        run.state = State.INTERRUPTED if interrupted else State.FAILED
    if run.parent is None:
        _hear_all(run, left)
    error.add_note(_note(run, state, recent))


def _hear_all(run: Run, left: Iterable[Hear]) -> None:
    for hear in left:
        try:
            hear(run)
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
