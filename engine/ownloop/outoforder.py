"""What is said when the user's own loop is out of order?  What was reported, where, what is possible, and why."""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from engine.errors import OutOfOrder, hint
from engine.ownloop.between import ahead
from engine.running.link import LinkedState, reached
from states import Transition
from states.errors import shown
from states.names import is_stop, name_of


if TYPE_CHECKING:
    from engine.running.steps import SteppedRun


def out_of_order(run: "SteppedRun", trigger: object) -> OutOfOrder:
    """The error for a report that the table does not take where the run stands."""
    return OutOfOrder(
        f"{_named(trigger)} was reported in {_standing(run)}",
        allowed=_possible(run),
        instead=_cause(run, trigger),
        recent=run.recent,
    )


def unfinished(run: "SteppedRun", what: str = "the loop went on") -> OutOfOrder:
    """The error for a loop that goes on while something of a batch was not reported."""
    due = _due(run)
    return OutOfOrder(
        f"{what}, and {due} was not reported in {_standing(run)}",
        allowed=_possible(run),
        instead=f"report {due} before the loop goes on, where run.state is {run.state}; or run.skip(...), where it can",
        recent=run.recent,
    )


def no_epoch(run: "SteppedRun") -> OutOfOrder:
    """The error for a loop over batches where no epoch waits for one."""
    return OutOfOrder(
        f"run.each_batch was begun in {_standing(run)}",
        allowed="once in each epoch, before its first batch",
        instead="iterate it inside of run.each_epoch(), once; another loader is another epoch, or run.validate(loader)",
        recent=run.recent,
    )


def went_on(run: "SteppedRun") -> OutOfOrder:
    """The error for a loop over batches that goes on behind the end of its epoch."""
    return OutOfOrder(
        f"a loop over batches went on in {_standing(run)}, and its epoch was ended inside of it",
        allowed="run.validate(...) behind the loop over the batches of an epoch, once",
        instead="write run.validate(...) where the loop over batches is over; in the middle of an epoch validate with "
        "engine.evaluate(loader), which leaves the epoch open",
        recent=run.recent,
    )


def cannot_leave(run: "SteppedRun") -> OutOfOrder:
    """The error for a loop over batches that was left, of a machine that cannot end an epoch early."""
    return OutOfOrder(
        f"the loop over batches was left in {_standing(run)}, and {run.machine.name} asks no guard that ends an epoch",
        allowed="all batches of the loader, or run.close(), which ends the whole run",
        instead="go through the loop to its end, or keep Guard.STOP_EPOCH in the machine",
        recent=run.recent,
    )


def no_validation(run: "SteppedRun") -> OutOfOrder:
    """The error for a validation where no epoch has had its batches and waits for its end."""
    return OutOfOrder(
        f"run.validate was called in {_standing(run)}",
        allowed="once in each epoch, behind its batches",
        instead="call engine.evaluate(loader) for any other: it gives a run with its metrics, and changes nothing",
        recent=run.recent,
    )


def passed_over(run: "SteppedRun", name: str) -> OutOfOrder:
    """The error for gradients of what a callback has replaced."""
    return OutOfOrder(
        f"grads_ready was reported in {_standing(run)} with gradients of the {name} that a callback has replaced",
        allowed=f"gradients that were computed from run.{name}",
        instead=f"go on with run.{name} in your loop: "
        + ("run.loss.backward()" if name == "loss" else "loss_fn(run.output, targets)"),
        recent=run.recent,
    )


def unscaled(run: "SteppedRun") -> OutOfOrder:
    """The error for gradients of the user's code that the engine would divide by a scale that it may not know of."""
    return OutOfOrder(
        f"grads_ready was reported in {_standing(run)}, and with fp16 the engine would divide them by its scale",
        allowed="backward and unscale, both in mine or both the engine's",
        instead="take loss.backward() out of your loop, and say mine=PLAIN - {State.BACKWARD}; or say "
        "mine=PLAIN | {State.UNSCALE, State.DESCALE}, and use run.scaler in your loop",
        recent=run.recent,
    )


def window_cleared(run: "SteppedRun") -> OutOfOrder:
    """The error for a window that is open and whose gradients are gone."""
    return OutOfOrder(
        f"gradients should wait for a step in {_standing(run)}, from {run.window} of the last batches, "
        f"and there are none",
        allowed="a loop that leaves dropping them to the engine: it does so behind each step",
        instead="take optimizer.zero_grad() out of your loop, and call loss.backward() before you report them",
        recent=run.recent,
    )


def skips_batch(run: "SteppedRun", given: str) -> OutOfOrder:
    """The error for a skip that brings what would be lost: nothing of the batch was reported yet."""
    return OutOfOrder(
        f"run.skip was given {given} in {_standing(run)}, where {_due(run)} was not reported",
        allowed="run.skip() alone, which passes the batch by",
        instead=f"report {_due(run)} first, and skip what comes behind it",
        recent=run.recent,
    )


def nothing_to_skip(run: "SteppedRun", name: str | None) -> OutOfOrder:
    """The error for a skip where nothing can be skipped, or not by that guard, or by more than one."""
    here = [name_of(guard) for guard in _guards(run.here) if not is_stop(guard)]
    asked = f"run.skip({name!r})" if name is not None else "run.skip()"
    elsewhere = ", ".join(
        f"{name_of(row.guard)} in {name_of(row.source)}"
        for row in run.machine.rows
        if row.guard is not None and name_of(row.guard).startswith("skip_")
    )
    return OutOfOrder(
        f"{asked} was called in {_standing(run)}",
        allowed=", ".join(here) if here else f"nothing is skipped there; {elsewhere}",
        instead=f"say which: run.skip({here[0]!r})" if here else "report what happened, and skip where the table can",
        recent=run.recent,
    )


def _standing(run: "SteppedRun") -> str:
    """Where the run is, and that it has ended if so."""
    return f"{run.where}, where the run has ended: {run.outcome.value}" if run.ended else run.where


def _named(trigger: object) -> str:
    return name_of(trigger) if isinstance(trigger, Enum) else shown(trigger)


def _start(run: "SteppedRun") -> LinkedState:
    return run.here if run.decided is None else run.decided.dest


def _reports(state: LinkedState) -> list[str]:
    return [name_of(group.trigger) for group in state.groups if group.trigger is not None]


def _guards(state: LinkedState) -> Iterator[Enum]:
    return (row.transition.guard for group in state.groups for row in group.rows if row.transition.guard is not None)


def _possible(run: "SteppedRun") -> str:
    """What may be reported where the run stands."""
    if run.ended:
        return "nothing more: start another run"
    start = _start(run)
    if start.action is not None:
        return ", ".join(_reports(start))
    leads = dict.fromkeys(name for row in start.groups[0].rows for name in _reports(row.dest) if row.dest.waits)
    return ", ".join(leads) or "run.advance(), which asks the guards of this state"


def _due(run: "SteppedRun") -> str:
    """What the state waits for."""
    return " or ".join(_reports(_start(run))) or "what comes next"


def _cause(run: "SteppedRun", trigger: object) -> str:
    """Why a report came out of order, most likely."""
    triggers = {name_of(known): known for known in run.machine.triggers}
    if not isinstance(trigger, Enum) or triggers.get(name_of(trigger)) is not trigger:
        name = trigger if isinstance(trigger, str) else _named(trigger)
        member = f"a member of an enum, such as Trigger.{name.upper()}; " if name in triggers else ""
        return f"{member}{hint(name, triggers)}"
    if run.ended:
        return "look at run.ended, or iterate run.each_epoch() and run.each_batch(), which end with the run"
    if not run.begun:
        return "begin with run.advance(), which prepares the model, or iterate run.each_epoch()"
    last = run.recent[-1] if run.recent else None
    if last is not None and last.guard is not None:
        return (
            f"the guard {name_of(last.guard)} was answered with yes and led here: look at the state that "
            f"run.report returns before you go on, as in `if run.report(...) is {_wanted(run, last)}:`"
        )
    missing = [name_of(row.trigger) for row in _way(run, trigger) if row.trigger is not None]
    if last is not None and last.trigger is trigger:
        return f"it was reported just before, or run.advance() did that work: once is enough; next is {_due(run)}"
    return f"report first: {', '.join(missing)}" if missing else f"report {_due(run)}"


def _wanted(run: "SteppedRun", last: Transition) -> Enum:
    """The state that the code had expected: where it acts again if the guard says no."""
    linked = {at.state: at for at in reached(run.linked.start)}
    at = linked[run.machine.groups[last.group][-1].dest]
    return at.state if at.waits else next((state.state for state in ahead(at)), at.state)


def _way(run: "SteppedRun", trigger: Enum) -> list[Transition]:
    """A shortest way of unguarded rows from where the run stands to a state that takes a trigger."""
    ways: list[list[Transition]] = [[]]
    seen = {_start(run).state}
    for way in ways:
        state = way[-1].dest if way else _start(run).state
        if (state, trigger) in run.machine.groups:
            return way
        for row in run.machine.rows_from(state):
            if row.guard is None and row.dest not in seen:
                seen.add(row.dest)
                ways.append([*way, row])
    return []
