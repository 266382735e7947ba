"""In which precision is computed?  Forward and loss under `torch.autocast`; with fp16 the loss is scaled, too.

# Theory of operation
#
# Autocast is entered and left within an action, so nothing is left open whatever is raised.  `run.loss` is never the
# scaled one.
#
# With fp16 the machine has states that unscale (see `states.scaled`).  All that the scaler does between two backwards
# happens in them: the gradients are divided, the scale is moved, and whether it was lowered tells whether there was an
# overflow.  So a step is the optimizer's own, of the engine or the user, and a run that dies leaves nothing half done.
# The scale counts for the next batch alone: it does not matter that torch's documentation moves it behind the step.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum

import torch
from attrs import evolve, frozen
from torch import optim
from torch.amp import GradScaler

from engine.actions import Action, loss_refused, no_gradient
from engine.closure import needs_closure
from engine.errors import ArgumentRefused, OptimizerRefused
from engine.listeners import Listener
from engine.run import Do, Run, gradients, held
from engine.several import Optimizers
from states import Guard, Machine, State, Trigger
from states.errors import shown
from states.names import name_of
from states.scaled import UNSCALING


# Said in nearly every batch, so bound once.
_GRADS_READY = Trigger.GRADS_READY
_GRADS_UNSCALED = Trigger.GRADS_UNSCALED
_OVERFLOWED = Trigger.OVERFLOWED

_TYPES: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@frozen(eq=False)
class Precision:
    """What an engine computes in: the type that autocast casts to, and what scales the loss, if anything does."""

    name: str
    scaler: GradScaler | None = None

    def own(self, machine: Machine) -> dict[Enum, Action]:
        """The engine's own actions of a machine that unscales, before the user's replace some."""
        scaling = _SCALING if self._scales(machine) else {}
        return {state: action for state, action in scaling.items() if machine.rows_from(state)}

    def around(self, machine: Machine, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
        """What is done instead of these actions, the user's among them: forward and loss are cast."""
        does: dict[Enum, Action] = {
            state: self._cast(actions[state]) for state in (State.FORWARD, State.LOSS) if state in actions
        }
        if self._scales(machine):
            first = actions[machine.initial]
            does[machine.initial] = evolve(first, do=_beginning(first.do))
        return does

    def _scales(self, machine: Machine) -> bool:
        return self.scaler is not None and not UNSCALING.isdisjoint(machine.states)

    def _cast(self, action: Action) -> Action:
        do, dtype = action.do, _TYPES[self.name]

        def cast(run: Run) -> Enum:
            with torch.autocast(run.device.type, dtype):
                return do(run)

        return evolve(action, do=cast, note=", ".join(filter(None, (action.note, f"in {self.name}"))))


def precision_of(given: object, device: torch.device) -> Precision | None:
    """What an engine computes in, as it was asked for.

    Raises:
        ArgumentRefused: nobody could compute in it, or not on this device.
    """
    if given is None:
        return None
    named = isinstance(given, str) and given in _TYPES
    if not named and not isinstance(given, GradScaler):
        raise ArgumentRefused(
            f"precision is {shown(given)}",
            allowed="None, 'bf16' or 'fp16'; a torch.amp.GradScaler is fp16 with that one",
            instead=f"say precision={'bf16' if 'b' in str(given) else 'fp16'!r}",
        )
    if not torch.amp.is_autocast_available(device.type):
        raise ArgumentRefused(
            f"precision is {shown(given)}, and torch has no autocast on {device.type}",
            allowed="None on this device",
            instead="leave precision out",
        )
    if not isinstance(given, GradScaler):
        return Precision(str(given), GradScaler(device.type) if given == "fp16" else None)
    if not given.is_enabled():
        raise ArgumentRefused(
            "precision is a GradScaler that is switched off, so small gradients would become 0",
            allowed="one with enabled=True, for a device that there is",
            instead=f"write torch.amp.GradScaler({device.type!r}), or say precision='bf16', which needs none",
        )
    return Precision("fp16", given)


def _beginning(do: Do) -> Do:
    """The first action, behind which the scaler knows nothing of gradients of a run that died in between."""

    def begin(run: Run) -> Enum:
        trigger, scaler = do(run), _scaler(run)
        scaler.scale(torch.zeros((), device=run.device))  # its scale is made by the first that is scaled
        scaler.update(scaler.get_scale())
        return trigger

    return begin


def _scaler(run: Run) -> GradScaler:
    assert run.scaler is not None, "a run whose machine unscales has it"
    return run.scaler


def backward(run: Run) -> Enum:
    """Add the gradients of this batch, of the loss times the scale, to those of the window."""
    try:
        _scaler(run).scale(run.loss).backward()
    except (RuntimeError, AttributeError, ValueError) as error:
        if problem := no_gradient(run.loss):
            raise loss_refused(run, problem) from error
        raise
    return _GRADS_READY


def unscale(run: Run) -> Enum:
    """Divide the gradients of the window by the scale, move the scale, and say whether all of them are finite.

    Of several optimizers all are stepped or none; the loop in torch's documentation steps those whose own gradients are
    finite.  At a scale of 0 all overflow: gradients divided by it are no numbers, though torch finds nothing in them.

    Cost: the host waits for one number, as it does in `scaler.step`, and the device computes three more.
    """
    if next(gradients(run), None) is None:
        return _GRADS_UNSCALED  # the scaler would have nothing to look at
    scaler, one = _scaler(run), torch.ones((), device=run.device)
    before = scaler.scale(one)
    for optimizer in _each(run.optimizer):
        scaler.unscale_(optimizer)
    scaler.update()
    lowered = not float(scaler.scale(one) / before) >= 1.0  # 0 / 0 is no number
    return _OVERFLOWED if lowered else _GRADS_UNSCALED


def _each(optimizer: optim.Optimizer | Optimizers | None) -> Sequence[optim.Optimizer]:
    assert optimizer is not None, "checked when the run was prepared"
    return [*optimizer.values()] if isinstance(optimizer, Optimizers) else [optimizer]


_UNSCALE = Action(
    unscale,
    (Trigger.GRADS_UNSCALED, Trigger.OVERFLOWED),
    sure=True,
    note="run.scaler.unscale_(run.optimizer); run.scaler.update()",
)
_SCALING: Mapping[Enum, Action] = {
    State.BACKWARD: Action(backward, (_GRADS_READY,), sure=True, note="run.scaler.scale(run.loss).backward()"),
    State.UNSCALE: _UNSCALE,
    State.DESCALE: _UNSCALE,
}


def check_backward(machine: Machine, given: Collection[object]) -> None:
    """Refuse a backward of the user's own whose gradients the engine would unscale: whether they are scaled is unknown.

    Raises:
        ArgumentRefused: with what to do instead.
    """
    left = [state for state in machine.states if state in UNSCALING and state not in given]
    if State.BACKWARD in given and left:
        raise ArgumentRefused(
            f"precision is fp16, and actions replaces backward, not {name_of(left[0])}, which divides its gradients",
            allowed="backward and what unscales, both yours or both the engine's",
            instead="put what you add to the loss into State.LOSS; or replace State.UNSCALE and State.DESCALE as well, "
            "and use run.scaler in all of them; or say precision='bf16'",
        )


def check_capturing(precision: Precision | None) -> None:
    """Refuse to capture what is cast: nobody has looked whether a replay does as much.

    Raises:
        ArgumentRefused: with what to do instead.
    """
    if precision is not None:
        raise ArgumentRefused(
            f"capture is True, and precision is {precision.name}",
            allowed="one of the two",
            instead="leave capture out, or precision",
        )


def check_scaled(optimizer: optim.Optimizer | Optimizers | None, listeners: Sequence[Listener], *, steps: bool) -> None:
    """Refuse a training whose gradients cannot be scaled and unscaled.

    Args:
        optimizer: What steps.
        listeners: Everyone who hears or answers.
        steps: Whether the engine's own actions step it.

    Raises:
        ArgumentRefused: somebody answers a guard that is not asked.
        OptimizerRefused: the optimizer evaluates the loss itself, or torch could not unscale what it holds.
    """
    for listener in listeners:
        if Guard.SKIP_ZERO_GRAD in listener.answers:
            raise ArgumentRefused(
                f"precision is fp16, and {listener.label} answers skip_zero_grad, which is not asked there",
                allowed="other guards: gradients that stay behind a step are not scaled, those of the next batch are",
                instead="answer accumulate, which keeps gradients before a step; or say precision='bf16'",
            )
    if optimizer is None:
        return
    if steps and needs_closure(optimizer):
        raise OptimizerRefused(
            f"precision is fp16, and {type(optimizer).__name__} evaluates the loss anew: it would never see the scale",
            allowed="an optimizer whose step needs no closure",
            instead="say precision='bf16', which scales nothing",
        )
    parameters = held(optimizer)
    if len({*map(id, parameters)}) < len(parameters):
        raise OptimizerRefused(
            "precision is fp16, and two optimizers hold one parameter, whose gradient would be divided twice",
            allowed="optimizers that hold different parameters",
            instead="leave each parameter to one of them, or say precision='bf16'",
        )
    if any(parameter.dtype is torch.float16 for parameter in parameters):
        raise OptimizerRefused(
            "precision is fp16, and the weights are float16 themselves, whose gradients torch does not unscale",
            allowed="weights in float32: autocast casts them where that is good",
            instead="write model.float(), without .half(), and make the optimizer anew",
        )
