"""What is made ready before a run begins?  What is done in each state, the linked rows, and the loop that drives it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from functools import partial

import torch
from attrs import define, evolve, field, frozen
from torch import optim

from engine.actions import Action, built_in
from engine.closure import Closing, flush_refused, needs_closure
from engine.each import each
from engine.errors import ArgumentRefused, NotNested
from engine.faster.capture import capturing
from engine.faster.compiled import Compiled
from engine.faster.cuda import Cuda
from engine.faster.prefetch import Prefetch
from engine.listeners import Listener
from engine.outcome import Tally
from engine.precision import Precision
from engine.run import Do, Run, held_by
from engine.running.asking import Asker
from engine.running.drive import drive, follow
from engine.running.fitting import Given
from engine.running.link import Ears, Linked, ears_of, link, reached
from engine.running.loop import source
from engine.running.straight import straighten
from engine.several import Optimizers
from engine.timings import Timings
from states import EVALUATION, PREDICTION, Guard, Machine, State, Trigger
from states.names import is_stop, name_of


@frozen(eq=False)
class Kit:
    """What an engine brings to each of its runs, whichever machine runs."""

    # The machine that `fit` runs; the first action of another one is not the user's to replace.
    machine: Machine
    given: Given
    optimizer: optim.Optimizer | Optimizers | None
    checked: bool
    # What replaces the engine's own actions before the user's do, and what captures the step that all come to.
    faster: Sequence[Compiled | Prefetch] = ()
    capture: Cuda | None = None
    # In what forward and loss are computed, the user's own as well.
    precision: Precision | None = None
    # What times each action and each call of a callback, if that was asked for.
    timings: Timings | None = None

    def actions(self, machine: Machine, holding: Mapping[Enum, Do]) -> dict[Enum, Action]:
        """What is done in each state of a machine: the engine's own actions, the held machines, the user's.

        Args:
            machine: The machine.
            holding: For each state that holds a machine, what runs that machine.
        """
        actions = self._own(machine, holding)
        for state, given in self.given.items():
            if state in machine.states and (state is not machine.initial or machine is self.machine):
                actions[state] = self._given(given, state, machine, actions)
        if self.precision is not None:
            actions.update(self.precision.around(machine, actions))
        if needs_closure(self.optimizer):
            actions.update(self._closing(machine, actions))
        if self.capture is not None and machine is self.machine:
            actions.update(capturing(actions, self.capture))
        if not machine.gradients:
            actions = _without_gradients(machine, actions)
        return actions if self.timings is None else self.timings.actions(machine, actions)

    def _own(self, machine: Machine, holding: Mapping[Enum, Do]) -> dict[Enum, Action]:
        """The engine's own actions, and the held machines."""
        actions = built_in(machine)
        if isinstance(self.optimizer, Optimizers):
            actions.update(each(actions))
        for faster in self.faster:
            actions.update(faster.actions(actions))
        if self.precision is not None:
            actions.update(self.precision.own(machine))
        for state, do in holding.items():
            actions[state] = Action(do, _reports_of_held(machine, state), sure=True)
        return actions

    def _given(self, given: Action | Do, state: Enum, machine: Machine, actions: Mapping[Enum, Action]) -> Action:
        """A user's action, as one of this machine: what only another one takes is not reported here."""
        if not isinstance(given, Action):
            return Action(given, _declared(state, actions))
        others = (self.machine, *self.machine.within, EVALUATION, PREDICTION)
        elsewhere = {trigger for other in others for source, trigger in other.groups if source is state}
        here = {trigger for source, trigger in machine.groups if source is state}
        reports = tuple(trigger for trigger in given.reports if trigger not in elsewhere - here)
        return evolve(given, reports=reports, sure=given.sure and reports == given.reports, several=None)

    def _closing(self, machine: Machine, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
        """The actions around a step that needs a closure, where the step is the engine's own."""
        does: dict[Enum, Do] = {}
        if State.FLUSH in actions and State.FLUSH not in self.given:
            does[State.FLUSH] = flush_refused
        if State.STEP in actions and State.STEP not in self.given:
            closing = Closing(*_evaluated(machine, actions))
            backward = closing.backward if State.BACKWARD in self.given else closing.fresh_backward
            does.update({State.FORWARD: closing.forward, State.LOSS: closing.loss, State.BACKWARD: backward})
            does[State.STEP] = closing.step
        return {state: evolve(actions[state], do=do) for state, do in does.items()}

    def reports(self, machine: Machine) -> dict[Enum, tuple[Enum, ...]]:
        """What the actions of a machine declare that they may report."""
        idle = dict.fromkeys(machine.holds, lambda run: run.state)
        return {state: action.reports for state, action in self.actions(machine, idle).items()}


@define(eq=False)
class Preparation:
    """One outermost run with all that it holds: hearings and skips are counted over the whole of it."""

    kit: Kit
    listeners: Sequence[Listener]
    # Where skips are counted.
    tallies: list[Tally]
    # Whether this is a training; where nothing trains, callbacks are not asked `stop_training`.
    trains: bool = field(kw_only=True)
    ears: Ears = field(init=False)
    asker: Asker = field(init=False)
    # The machines that are ready.
    ready: dict[Machine, tuple[Linked, Callable[[Run], None]]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """Give each listener its own count of hearings and of skips."""
        if self.kit.timings is not None:
            self.listeners = self.kit.timings.listeners(self.listeners)
        self.ears = ears_of(self.listeners)
        self.asker = Asker(self.listeners, self.tallies, self.trains)

    def drive(self, run: Run) -> None:
        """Run a machine from its initial state to the end."""
        drive(run, *self.prepared(run.machine))

    def prepared(self, machine: Machine) -> tuple[Linked, Callable[[Run], None]]:
        """The linked rows of a machine and the loop that they come to, made once."""
        if machine not in self.ready:
            self.ready[machine] = self._prepare(machine)
        return self.ready[machine]

    def linked(self, machine: Machine) -> Linked:
        """The rows of a machine, linked to those who act, listen and answer."""
        actions = self.kit.actions(machine, {state: self._hold(machine, state) for state in machine.holds})
        return link(machine, actions, self.ears, self.asker, checked=self.kit.checked)

    def opened(self, machine: Machine, mine: Collection[Enum]) -> Linked:
        """The rows of a machine, linked for a run that is taken forward from outside.

        Args:
            machine: The machine.
            mine: The states whose work the user's code does and reports.
        """
        actions = self.kit.actions(machine, {state: self._hold(machine, state) for state in machine.holds})
        linked = link(machine, actions, self.ears, self.asker, checked=self.kit.checked, every=True)
        for at in reached(linked.start):
            guards = (row.transition.guard for group in at.groups for row in group.rows)
            asks = any(guard is not None and is_stop(guard) for guard in guards)
            at.waits = not at.groups or (asks if at.action is None else at.state in mine)
        straighten(linked.start)
        return linked

    def _prepare(self, machine: Machine) -> tuple[Linked, Callable[[Run], None]]:
        linked = self.linked(machine)
        if self.kit.checked:
            return linked, partial(follow, linked=linked)
        try:
            return linked, source(linked).compiled()
        except NotNested:
            return linked, partial(follow, linked=linked)

    def _hold(self, machine: Machine, state: Enum) -> Do:
        """The action of a state that holds a machine: run it, with a run of its own, on the validation loader."""
        held, stops = machine.holds[state], (state, Trigger.VALIDATION_STOPPED) in machine.groups

        def hold(run: Run) -> Enum:
            granted = len(run.stops)
            self.drive(held_by(run, held))
            stopped = stops and any(verdict.guard is Guard.STOP_TRAINING for verdict in run.stops[granted:])
            return Trigger.VALIDATION_STOPPED if stopped else Trigger.VALIDATED

        return hold


def _evaluated(machine: Machine, actions: Mapping[Enum, Action]) -> tuple[Do, Do, Do]:
    """What a closure does: forward, loss and backward."""
    states = (State.FORWARD, State.LOSS, State.BACKWARD)
    if missing := [name_of(state) for state in states if state not in actions]:
        raise ArgumentRefused(
            f"the optimizer evaluates the loss anew, and the machine {machine.name!r} has no {', '.join(missing)}",
            allowed="a machine with forward, loss and backward, or an optimizer whose step needs no closure",
            instead="give the machine these states, or replace the action of State.STEP",
        )
    forward, loss, backward = (actions[state].do for state in states)
    return forward, loss, backward


def _reports_of_held(machine: Machine, state: Enum) -> tuple[Enum, ...]:
    stops = (state, Trigger.VALIDATION_STOPPED) in machine.groups
    return (Trigger.VALIDATED, Trigger.VALIDATION_STOPPED) if stops else (Trigger.VALIDATED,)


def _declared(state: Enum, actions: Mapping[Enum, Action]) -> tuple[Enum, ...]:
    if state not in actions:
        raise ArgumentRefused(
            f"the action of {name_of(state)} does not say what it may report",
            allowed="an Action for a state that the engine does not know",
            instead="write Action(function, reports=(...,))",
        )
    return actions[state].reports


def _without_gradients(machine: Machine, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
    """Every action but the first under `torch.no_grad`."""
    return {
        state: action if state is machine.initial else evolve(action, do=torch.no_grad()(action.do))
        for state, action in actions.items()
    }
