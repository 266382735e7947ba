"""Do machine, actions and what a run is given go together?  What could never work is refused before the first batch."""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any

from torch import nn, optim

from engine.actions import LOOKS_AT, Action
from engine.closure import needs_closure
from engine.errors import ArgumentRefused, CallbackRefused, hint
from engine.run import Do
from engine.several import Optimizers
from engine.signatures import check_signature
from states import Guard, Machine, State, Trigger
from states.errors import shown, typed
from states.names import name_of
from states.scaled import UNSCALING


Given = Mapping[State, Action | Do] | Mapping[Enum, Action | Do]


def check_actions(given: Given, machines: Sequence[Machine]) -> None:
    """Refuse actions that could never run, and machines that do not count what the engine's own actions look at.

    Args:
        given: The user's actions, by state.
        machines: All that the engine may run, the one that `fit` runs first: its initial action can be replaced, too.

    Raises:
        ArgumentRefused: with the state that is meant.
    """
    if not isinstance(given, Mapping):
        raise ArgumentRefused(
            f"actions is {typed(given)}",
            allowed="a dict of states and actions",
            instead="write actions={State.FORWARD: output_from(lambda run: ...)}",
        )
    acting = {s: s for machine in machines for s in machine.states if not machine.decides(s)}
    taken = {state for machine in machines for state in (machine.initial, *machine.finals)} - {machines[0].initial}
    for state, action in given.items():
        if state not in acting or state in taken:
            raise _no_such_action(state, [s for s in acting if s not in taken])
        _check_action(state, action.do if isinstance(action, Action) else action)
    for machine in machines:
        _check_counters(given, machine)


def _check_counters(given: Mapping[Any, object], machine: Machine) -> None:
    counted = {count.counter for count in machine.counts}
    for state, counter in LOOKS_AT.items():
        if state in machine.states and state not in given and counter not in counted:
            raise ArgumentRefused(
                f"the engine's action for {name_of(state)} looks at run.{name_of(counter)}, and the machine "
                f"{machine.name!r} never moves that counter",
                allowed=f"a machine with a Count of Counter.{counter.name} in its counts, or an action of your own",
                instead="take over the counts that it needs: Machine(..., counts=TRAINING.counts)",
            )


def _check_action(state: Enum, do: object) -> None:
    """Refuse what cannot be called with a run alone."""
    try:
        check_signature(do, f"actions[{state}]")
    except CallbackRefused as refused:
        raise ArgumentRefused(
            refused.what,
            allowed="a function that takes one argument, the run, and returns a trigger; or an Action",
            instead="write def action(run): ...; return Trigger.X, or make one with output_from or loss_from",
        ) from None


def _no_such_action(state: object, known: Sequence[Enum]) -> ArgumentRefused:
    names = {name_of(s): s for s in known}
    right = names.get(state.lower()) if isinstance(state, str) else None
    return ArgumentRefused(
        f"actions has {shown(state)}, and no action of that state can be replaced",
        allowed=", ".join(names),
        instead=f"write {right}, the member itself" if right else hint(name_of(state), names),
    )


def check_max_updates(machine: Machine, given: Mapping[Any, object], max_updates: int | None) -> None:
    """Refuse `max_updates` where nothing would report that they are spent."""
    if max_updates is None:
        return
    own = State.FETCH in machine.states and State.FETCH not in given
    if Trigger.UPDATES_SPENT not in machine.triggers or (
        own and (State.FETCH, Trigger.UPDATES_SPENT) not in machine.groups
    ):
        raise ArgumentRefused(
            f"max_updates is {max_updates}, and the machine {machine.name!r} has no row for updates_spent in fetch",
            allowed="None for this machine",
            instead="add Transition(State.FETCH, Trigger.UPDATES_SPENT, None, ...) to its rows, or say epochs",
        )
    if State.FETCH in given and not isinstance(given[State.FETCH], Action):
        raise ArgumentRefused(
            f"max_updates is {max_updates}, and the action of fetch is a function of your own",
            allowed="None, or an Action that says that it reports Trigger.UPDATES_SPENT itself",
            instead="write actions={State.FETCH: Action(function, reports=(Trigger.BATCH_READY, "
            "Trigger.LOADER_DRY, Trigger.UPDATES_SPENT))}",
        )


# The engine's own actions that choose among triggers without a look at the validation loader.
_BLIND = (State.TRAIN, State.FETCH, State.WINDOW, *UNSCALING)


def check_validation(
    machine: Machine, given: Mapping[Any, object], answered: Collection[Enum], valid_loader: object
) -> None:
    """Refuse a run without a validation loader of a machine that validates in any case, or with one that nobody reads.

    What cannot be known is left to the run: what an action of the user's own reports, what a guard answers.

    Args:
        machine: The machine.
        given: The user's actions, by state.
        answered: The guards that somebody answers.
        valid_loader: What was given.
    """
    if valid_loader is not None:
        _check_read(machine, given)
        return
    reached, queue = {machine.initial}, [machine.initial]
    while queue:
        for dest in _leads(machine, queue.pop(), given, answered) - reached:
            reached.add(dest)
            queue.append(dest)
    if held := [state for state in machine.holds if state in reached and state not in given]:
        raise ArgumentRefused(
            f"valid_loader is None, and the machine {machine.name!r} comes to {name_of(held[0])} in any case",
            allowed="a loader to validate on",
            instead="pass valid_loader=..., or lead there from an action that reports whether there is one",
        )


def _check_read(machine: Machine, given: Mapping[Any, object]) -> None:
    """Refuse a validation loader where no state holds a machine, and no action is the user's own."""
    if not machine.holds and not given:
        raise ArgumentRefused(
            f"valid_loader was given, and no state of the machine {machine.name!r} validates",
            allowed="None for this machine",
            instead="leave it out and call engine.evaluate(loader), or keep State.VALIDATE in the machine",
        )


def _leads_round(guard: Enum | None) -> bool:
    """Whether a guard may be there to lead round a validation: the engine's own ones decide other things, but one."""
    return guard is Guard.SKIP_VALIDATE or not isinstance(guard, Guard)


def _leads(machine: Machine, state: Enum, given: Mapping[Any, object], answered: Collection[Enum]) -> set[Enum]:
    """Where one comes to from a state, unless an action or a guard that may look at the loader decides that."""
    groups = [rows for (source, _), rows in machine.groups.items() if source is state]
    if len(groups) > 1 and (state in given or state not in _BLIND):
        return set()
    decided = [rows for rows in groups if any(row.guard in answered and _leads_round(row.guard) for row in rows)]
    return {rows[-1].dest for rows in groups if rows not in decided and rows[-1].trigger is not Trigger.UPDATES_SPENT}


def check_loss(machines: Sequence[Machine], loss_fn: object, given: Mapping[Any, object]) -> None:
    """Refuse a run without anything that computes the loss of its machines."""
    if loss_fn is None and State.LOSS not in given and any(State.LOSS in machine.states for machine in machines):
        raise ArgumentRefused(
            "the engine has no loss function",
            allowed="a function (output, targets) -> scalar tensor, or an action for State.LOSS",
            instead="write Engine(model, loss_fn, optimizer)",
        )


def check_forward(machines: Sequence[Machine], model: nn.Module, given: Mapping[Any, object]) -> None:
    """Refuse several models by name where the engine's own action would have to know which of them to call."""
    if not isinstance(model, nn.ModuleDict) or type(model).forward is not nn.Module.forward:
        return
    if State.FORWARD not in given and any(State.FORWARD in machine.states for machine in machines):
        names = list(model) or ["model"]
        raise ArgumentRefused(
            f"the model is several by name ({', '.join(names)}), and nothing says which of them forward calls",
            allowed="an action for State.FORWARD",
            instead=f"write actions={{State.FORWARD: output_from(lambda run: run.model[{names[0]!r}](run.inputs))}}",
        )


def steps(machines: Sequence[Machine], given: Mapping[Any, object]) -> bool:
    """Whether the engine's own actions step the optimizer in one of these machines."""
    return any(state in machine.states for machine in machines for state in {State.STEP, State.FLUSH} - set(given))


def uses_optimizer(machines: Sequence[Machine], given: Mapping[Any, object]) -> bool:
    """Whether the engine's own actions use the optimizer in one of these machines."""
    using = {State.STEP, State.FLUSH, State.ZERO_GRAD, State.CLEAR, *UNSCALING} - set(given)
    return any(state in using for machine in machines for state in machine.states)


def check_mine_closure(optimizer: optim.Optimizer | Optimizers | None, mine: Collection[Enum]) -> None:
    """Refuse a step of the engine's that would evaluate another forward and loss than those of the user's code."""
    own = [state for state in (State.FORWARD, State.LOSS, State.BACKWARD) if state in mine]
    if own and State.STEP not in mine and needs_closure(optimizer):
        raise ArgumentRefused(
            f"{type(optimizer).__name__} takes a closure: the step is the engine's, and mine has {name_of(own[0])}",
            allowed="a forward, loss, backward and step that are all yours, or all the engine's",
            instead="put State.STEP into mine, and call optimizer.step(closure) there; or call run.advance()",
        )


def check_mine(machine: Machine, mine: object) -> None:
    """Refuse what is no state in which the user's own code could do something and report it.

    States of other machines may be among them: one list does for several machines.
    """
    known = [*State, *machine.states]
    wrong = [s for s in mine if s not in known or machine.decides(s)] if isinstance(mine, Collection) else [mine]
    if isinstance(mine, str) or wrong:
        acting = [name_of(state) for state in machine.states if machine.rows_from(state) and not machine.decides(state)]
        raise ArgumentRefused(
            f"mine has {shown(wrong[0] if wrong else mine)}",
            allowed=f"a set of states with actions: {', '.join(acting)}",
            instead="say mine=PLAIN | {...} or PLAIN - {...}; `from engine import PLAIN`: those of a plain script",
        )
