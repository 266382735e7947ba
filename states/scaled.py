"""How does a training go whose loss is scaled?  A machine with states that unscale the gradients before each step.

# Theory of operation
#
# In half precision small gradients become 0.  So the loss is multiplied by a large number, the scale, and the gradients
# are divided by it once in each window, where its step is due: in UNSCALE, or in DESCALE for the part-filled last one.
# Where the scale was too large some gradients are not finite: an overflow.  It leads where a yes to `skip_step` leads.
#
# Gradients behind UNSCALE are not scaled, and what a batch adds is: so they are dropped before the next batch adds to
# them.  The rows of `skip_zero_grad` go, and what else would keep them is refused.
"""

from collections.abc import Iterable
from enum import Enum

from attrs import evolve

from states.errors import ExtensionRefused
from states.extend import Rows, entering, put_behind
from states.machine import Machine
from states.names import Counter, Event, Guard, State, Trigger, name_of
from states.rows import Count, Transition, When


UNSCALING = frozenset({State.UNSCALE, State.DESCALE})
_STEPPING = (State.STEP, State.FLUSH)
_CLEARING = {State.ZERO_GRAD, State.CLEAR}
# Where gradients are computed, or divided: neither may happen to those that were divided already.
_WORKING = (State.BACKWARD, State.UNSCALE, State.DESCALE)

OVERFLOWS = Count(Counter.OVERFLOWS, 1, When.BEFORE, Event.OVERFLOW)


def scaled(machine: Machine, name: str | None = None) -> Machine:
    """A training whose gradients come from a scaled loss: unscaled before each step, dropped where they overflow.

    Args:
        machine: One that goes from backward to step, such as `TRAINING`, or your own that came out of it.  One that
            has these states already is looked at, and given back.
        name: What the new machine is called.

    Raises:
        ExtensionRefused: some way leads to a step with gradients that are scaled, or would add scaled to unscaled ones.

    Example:
        >>> from states import TRAINING, State
        >>> for row in scaled(TRAINING).rows_from(State.UNSCALE):
        ...     print(row)
        unscale grads_unscaled -> average
        unscale overflowed -> zero_grad: overflow
    """
    new = machine
    if UNSCALING.isdisjoint(machine.states):
        new = _with_states(machine, name or f"{machine.name} in fp16")
    _check(new, machine.name)
    return new


def _with_states(machine: Machine, name: str) -> Machine:
    """The machine with these states, which nobody has looked at."""
    if Guard.SKIP_ZERO_GRAD in machine.guards:
        machine = machine.without(Guard.SKIP_ZERO_GRAD, name=machine.name)
    rows = _put(machine, machine.rows, _step_is_due(machine), State.UNSCALE, State.ZERO_GRAD)
    if flushed := machine.groups.get((State.WINDOW, Trigger.WINDOW_OPEN)):
        rows = _put(machine, rows, flushed, State.DESCALE, State.CLEAR)
    return evolve(machine, name=name, rows=rows, counts=(*machine.counts, OVERFLOWS))


def _step_is_due(machine: Machine) -> Rows:
    """The rows of which the last is taken where a window is full: behind the guard that keeps it open, if one does."""
    asking = [rows for rows in machine.groups.values() if any(row.guard is Guard.ACCUMULATE for row in rows)]
    found = asking[0] if asking else machine.groups.get((State.BACKWARD, Trigger.GRADS_READY))
    if found is None:
        raise _refused(f"{machine.name} has no row for grads_ready in backward")
    return found


def _put(machine: Machine, rows: Rows, group: Rows, state: State, clearing: State) -> Rows:
    """The rows with a state on the way of the last of a group; an overflow leads from there where `skip_step` would."""
    due, skipped = group[-1], [row for row in group if row.guard is Guard.SKIP_STEP]
    if not skipped and clearing not in machine.states:
        raise _refused(f"{machine.name} has no state {name_of(clearing)}, in which gradients that overflow are dropped")
    moved = entering(due)
    stays = due.heard[: len(due.heard) - len(moved)]
    dest, heard = (skipped[0].dest, skipped[0].heard[len(stays) :]) if skipped else (clearing, ())
    into = evolve(due, dest=state, heard=stays)
    new = (
        Transition(state, Trigger.GRADS_UNSCALED, None, due.dest, moved),
        Transition(state, Trigger.OVERFLOWED, None, dest, heard, first=(Event.OVERFLOW,)),
    )
    return put_behind([into if row == due else row for row in rows], state, new)


def _check(machine: Machine, name: str) -> None:
    """Refuse a step with scaled gradients, and gradients of which some are scaled and some are not."""
    if training := next((held for held in machine.within if State.BACKWARD in held.states), None):
        raise _refused(f"{name} holds {training.name}, which computes gradients, too")
    scaled_yet = _reached(machine, [machine.initial], UNSCALING)
    for row in machine.rows:
        if row.dest in _STEPPING and row.source in scaled_yet:
            raise _refused(f"{name} comes to {name_of(row.dest)} with gradients that are scaled, by '{row}'")
    kept = _reached(machine, UNSCALING & {*machine.states}, _CLEARING)
    for row in machine.rows:
        if row.dest in _WORKING and row.source in kept:
            raise _refused(f"{name} comes back to {name_of(row.dest)} with gradients that are unscaled already")


def _reached(machine: Machine, starts: Iterable[Enum], around: Iterable[Enum]) -> set[Enum]:
    """The states that one comes to from some without entering others."""
    found, ways = {*starts}, [*starts]
    while ways:
        here = ways.pop()
        more = {row.dest for row in machine.rows_from(here)} - found - {*around}
        found |= more
        ways += more
    return found


def _refused(what: str) -> ExtensionRefused:
    return ExtensionRefused(
        f"{what}, so its loss cannot be scaled",
        allowed="backward -> step -> zero_grad, as in TRAINING; what you insert may stand between them",
        instead="put unscale into it yourself, behind the guard accumulate and before step; or train in bf16",
    )
