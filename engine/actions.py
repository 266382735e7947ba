"""What does the engine do in each state?  One function for each, which does one thing and reports what happened."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import torch
from attrs import evolve, field, frozen
from torch import Tensor, nn, optim

from engine.batches import fetch
from engine.errors import ArgumentRefused, CallbackRefused, LossRefused
from engine.run import Do, Run, gradients, release
from engine.several import Optimizers
from engine.signatures import check_signature
from states import Counter, Machine, State, Trigger
from states.errors import shown, typed


# Reported in every batch, so bound once: a member reached through its class costs a call in Python 3.11.
_OUTPUT_READY = Trigger.OUTPUT_READY
_LOSS_READY = Trigger.LOSS_READY
_GRADS_READY = Trigger.GRADS_READY
_GRADS_AVERAGED = Trigger.GRADS_AVERAGED
_WEIGHTS_MOVED = Trigger.WEIGHTS_MOVED
_GRADS_CLEARED = Trigger.GRADS_CLEARED

# Torch's own way to drop gradients; an optimizer that has another one means something by it.  If the method was patched
# before this was loaded, nobody is known to have torch's own.
_TORCHS_ZERO_GRAD = (
    optim.Optimizer.zero_grad if optim.Optimizer.zero_grad.__code__.co_filename.startswith(torch.__path__[0]) else None
)

# What is said where the loss function fails on targets that are None.
NO_PAIR = (
    "the batch was no pair, so the loss function was given None for targets: say what the loss is, with "
    "actions={State.LOSS: loss_from(lambda run: ...)}"
)


@frozen
class Action:
    """What is done in a state, and the triggers that it may report.

    Attributes:
        do: A function of the run that does it and returns the trigger that happened.
        reports: All that it may return.
        sure: Whether it is known to return nothing else, so that the loop need not look.
        note: What it comes to, in a line of Python, for those who read the loop.
        several: A counter; where it is one there is nothing to do, and an action of the engine's own is not called.
    """

    do: Do
    reports: tuple[Enum, ...]
    sure: bool = field(default=False, kw_only=True)
    note: str = field(default="", kw_only=True)
    several: Counter | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what could not be written into a loop."""
        if isinstance(self.reports, Enum) or not isinstance(self.reports, Iterable):
            raise ArgumentRefused(
                f"reports is {shown(self.reports)}",
                allowed="a tuple of all the triggers that the action may return",
                instead=f"write reports=({self.reports},), with its comma",
            )
        if not isinstance(self.note, str):
            raise ArgumentRefused(f"note is {shown(self.note)}", allowed="a line of text", instead="leave it out")
        if self.several is not None and not isinstance(self.several, Counter):
            raise ArgumentRefused(
                f"several is {shown(self.several)}", allowed="a member of states.Counter", instead="leave it out"
            )


def output_from(compute: Callable[[Run], Any]) -> Action:
    """A forward of one's own in one line: what *compute* returns becomes `run.output`.

    Example:
        >>> from engine import Engine, State, output_from
        >>> action = output_from(lambda run: run.model(run.inputs["pixels"]))  # batches that are dicts
        >>> action.reports, action.sure
        ((<Trigger.OUTPUT_READY: 'output_ready'>,), True)
    """
    _check_compute(compute, "output_from")

    def forward_with(run: Run) -> Enum:
        run.output = compute(run)
        return _OUTPUT_READY

    return Action(forward_with, (Trigger.OUTPUT_READY,), sure=True)


def loss_from(compute: Callable[[Run], Tensor]) -> Action:
    """A loss of one's own in one line: what *compute* returns becomes `run.loss`; a scalar tensor of shape `()`.

    Example:
        >>> import torch
        >>> from engine import loss_from
        >>> action = loss_from(lambda run: torch.nn.functional.mse_loss(run.output, run.inputs["target"]))
    """
    _check_compute(compute, "loss_from")

    def loss_with(run: Run) -> Enum:
        run.loss = compute(run)
        return _LOSS_READY

    return Action(loss_with, (Trigger.LOSS_READY,), sure=True)


def _check_compute(compute: object, where: str) -> None:
    """Refuse what cannot be called as `compute(run)`."""
    try:
        check_signature(compute, where)
    except CallbackRefused as refused:
        raise ArgumentRefused(
            refused.what,
            allowed="a function that takes one argument, the run, and returns the tensor",
            instead=f"write {where}(lambda run: ...), with what it needs from run.inputs, run.targets and run.output",
        ) from None


def begin_training(run: Run) -> None:
    """Training mode, unless the model is in it already (a frozen batch norm stays frozen); clear gradients."""
    if not _trains(run.model):
        run.model.train()
    run.model.zero_grad()
    if run.optimizer is not None:  # which may hold more
        run.optimizer.zero_grad()


def _trains(model: nn.Module) -> bool:
    """Whether a model is in training mode; of several by name, whether one is: their holder's mode says nothing."""
    return any(part.training for part in model.children()) if isinstance(model, nn.ModuleDict) else model.training


def begin_evaluation(run: Run) -> None:
    """Evaluation mode for the whole model."""
    run.model.eval()


def train(run: Run) -> Enum:
    """Is another epoch due?  It begins its loader anew."""
    run.iterator = None
    if run.max_updates is not None and run.updates >= run.max_updates:
        return Trigger.EPOCHS_SPENT
    due = run.epochs is None or run.epoch < run.epochs
    return Trigger.EPOCH_DUE if due else Trigger.EPOCHS_SPENT


def forward(run: Run) -> Enum:
    """`run.output` from `run.inputs`."""
    run.output = run.model(run.inputs)
    return _OUTPUT_READY


def loss(run: Run) -> Enum:
    """`run.loss` from `run.output` and `run.targets`."""
    try:
        run.loss = run.loss_fn(run.output, run.targets)
    except (TypeError, AttributeError) as error:
        if run.targets is None:
            error.add_note(NO_PAIR)
        raise
    return _LOSS_READY


def backward(run: Run) -> Enum:
    """Add the gradients of this batch to those of the window."""
    try:
        run.loss.backward()
    except (RuntimeError, AttributeError) as error:
        if problem := no_gradient(run.loss):
            raise loss_refused(run, problem) from error
        raise
    return _GRADS_READY


def average(run: Run) -> Enum:
    """Turn the window's summed gradients into their mean over its batches.

    Cost: nothing for a window of one batch; one division per parameter otherwise.
    """
    if run.window > 1:
        for gradient in gradients(run):
            gradient.div_(run.window)
    return _GRADS_AVERAGED


def step(run: Run) -> Enum:
    """Move the weights."""
    run.optimizer.step()  # type: ignore[union-attr]  # checked when the run was prepared
    return _WEIGHTS_MOVED


def zero_grad(run: Run) -> Enum:
    """Drop the gradients: `run.optimizer.zero_grad()`, without its record for the profiler if that is torch's method.

    Cost: a write per parameter.  That record costs as much as twenty parameters, whether anybody profiles or not.
    """
    optimizer = run.optimizer
    assert optimizer is not None, "checked when the run was prepared"
    if not clears_as_torch_does(optimizer):
        optimizer.zero_grad()
        return _GRADS_CLEARED
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    return _GRADS_CLEARED


def clears_as_torch_does(optimizer: optim.Optimizer | Optimizers) -> bool:
    """Whether an optimizer's `zero_grad` is torch's own, so that it is known what it does: gradients become `None`."""
    return type(optimizer).zero_grad is _TORCHS_ZERO_GRAD and "zero_grad" not in vars(optimizer)


def window(run: Run) -> Enum:
    """Leave the loader: do gradients wait for a step?"""
    return Trigger.WINDOW_OPEN if run.window else Trigger.WINDOW_EMPTY


def close(run: Run) -> Enum:
    """Let go of the last batch; is there something to validate on?"""
    release(run)
    return Trigger.NO_VALIDATION if run.valid_loader is None else Trigger.VALIDATION_DUE


_T = Trigger
_ACTIONS: Mapping[State, Action] = {
    State.TRAIN: Action(train, (_T.EPOCH_DUE, _T.EPOCHS_SPENT), sure=True),
    State.FETCH: Action(fetch, (_T.BATCH_READY, _T.LOADER_DRY), sure=True),
    State.FORWARD: Action(forward, (_T.OUTPUT_READY,), sure=True, note="run.output = run.model(run.inputs)"),
    State.LOSS: Action(loss, (_T.LOSS_READY,), sure=True, note="run.loss = run.loss_fn(run.output, run.targets)"),
    State.BACKWARD: Action(backward, (_T.GRADS_READY,), sure=True, note="run.loss.backward()"),
    State.AVERAGE: Action(
        average, (_T.GRADS_AVERAGED,), sure=True, note="gradient.div_(run.window)", several=Counter.WINDOW
    ),
    State.STEP: Action(step, (_T.WEIGHTS_MOVED,), sure=True, note="run.optimizer.step()"),
    State.ZERO_GRAD: Action(zero_grad, (_T.GRADS_CLEARED,), sure=True, note="run.optimizer.zero_grad()"),
    State.WINDOW: Action(window, (_T.WINDOW_OPEN, _T.WINDOW_EMPTY), sure=True),
    State.CLOSE: Action(close, (_T.VALIDATION_DUE, _T.NO_VALIDATION), sure=True),
}
# What is done for the batches of a window is done for the part-filled last one.
_LIKE: Mapping[State, State] = {State.SETTLE: State.AVERAGE, State.FLUSH: State.STEP, State.CLEAR: State.ZERO_GRAD}

# The counters that the engine's own actions look at: without them, an epoch would never be known to be over.
LOOKS_AT: Mapping[State, Counter] = {
    State.TRAIN: Counter.EPOCH,
    State.FETCH: Counter.BATCH_INDEX,
    State.AVERAGE: Counter.WINDOW,
    State.WINDOW: Counter.WINDOW,
    State.SETTLE: Counter.WINDOW,
}


def built_in(machine: Machine) -> dict[Enum, Action]:
    """The engine's own actions for the states of a machine that it knows; those that hold machines come with them."""
    actions = _idle(machine)
    for state, action in (*_ACTIONS.items(), *((state, _ACTIONS[like]) for state, like in _LIKE.items())):
        if machine.rows_from(state):
            actions[state] = _reporting(machine, state, action)
    return actions


def _reporting(machine: Machine, state: State, action: Action) -> Action:
    """An action of ours in a machine; only one that says what then follows can be run for `max_updates`."""
    limited = (state, Trigger.UPDATES_SPENT) in machine.groups
    reports = (*action.reports, Trigger.UPDATES_SPENT) if limited else action.reports
    return evolve(action, reports=reports)


def _idle(machine: Machine) -> dict[Enum, Action]:
    """The first action prepares the model, and reports the one trigger that starts the machine."""
    prepare = begin_training if machine.gradients else begin_evaluation
    triggers = tuple(trigger for source, trigger in machine.groups if source is machine.initial and trigger)

    def idle(run: Run) -> Enum:
        prepare(run)
        return triggers[0]

    return {machine.initial: Action(idle, triggers, sure=True)}


# What is said of a loss that nothing leads back from.
_NO_GRAPH = "a tensor without a graph"


def no_gradient(value: object) -> str:
    """Why no gradient can be computed from a loss; empty if one can."""
    if not isinstance(value, Tensor):
        return typed(value)
    if value.numel() != 1:
        return f"a tensor of shape {tuple(value.shape)}"
    return "" if value.requires_grad else _NO_GRAPH


def loss_refused(run: Run, problem: str) -> LossRefused:
    """The error for a loss that cannot be trained on."""
    instead = "return a mean or a sum from the loss function, do not detach it, and compute it with torch"
    if problem == _NO_GRAPH and not torch.is_grad_enabled():
        instead = "call fit outside of torch.no_grad() and torch.inference_mode(): gradients are switched off"
    elif not any(parameter.requires_grad for parameter in run.model.parameters()):
        instead = "let a parameter of the model require a gradient: none does; look for Freeze, requires_grad_(False)"
    allowed = "a tensor of one element that depends on the weights"
    return LossRefused(f"the loss is {problem} in {run.where}", allowed=allowed, instead=instead)
