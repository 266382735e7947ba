"""What does the engine do in each state?  One function for each, which does one thing and reports what happened."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, optim
from torch.utils.data import DataLoader, IterableDataset

from engine.check import length
from engine.errors import BatchRefused, LoaderRefused, LossRefused, OptimizerRefused
from engine.run import Run, release
from states import Machine, State, Trigger


Do = Callable[[Run], Enum]


@frozen
class Action:
    """What is done in a state, and the triggers that it may report."""

    do: Do
    reports: tuple[Enum, ...]


def output_from(compute: Callable[[Run], Any]) -> Action:
    """A forward of one's own in one line: what *compute* returns becomes `run.output`.

    Example:
        >>> from engine import Engine, State, output_from
        >>> action = output_from(lambda run: run.model(run.inputs["pixels"]))  # batches that are dicts
        >>> action.reports
        (<Trigger.OUTPUT_READY: 'output_ready'>,)
    """

    def forward_with(run: Run) -> Enum:
        run.output = compute(run)
        return Trigger.OUTPUT_READY

    return Action(forward_with, (Trigger.OUTPUT_READY,))


def loss_from(compute: Callable[[Run], Tensor]) -> Action:
    """A loss of one's own in one line: what *compute* returns becomes `run.loss`; a scalar tensor of shape `()`.

    Example:
        >>> import torch
        >>> from engine import loss_from
        >>> action = loss_from(lambda run: torch.nn.functional.mse_loss(run.output, run.inputs["target"]))
    """

    def loss_with(run: Run) -> Enum:
        run.loss = compute(run)
        return Trigger.LOSS_READY

    return Action(loss_with, (Trigger.LOSS_READY,))


def begin_training(run: Run) -> None:
    """Training mode, unless the model is in it already (a frozen batch norm stays frozen); clear gradients."""
    run.modes = [(module, module.training) for module in run.model.modules()]
    if not run.model.training:
        run.model.train()
    if run.optimizer is not None:
        run.optimizer.zero_grad()


def begin_evaluation(run: Run) -> None:
    """Evaluation mode for the whole model."""
    run.modes = [(module, module.training) for module in run.model.modules()]
    run.model.eval()


def train(run: Run) -> Enum:
    """Is another epoch due?  A stop that was asked for the one before, after its loader was left, is done with."""
    run.epoch_wish.reason = None
    if run.max_updates is not None and run.updates >= run.max_updates:
        return Trigger.EPOCHS_SPENT
    due = run.epochs is None or run.epoch < run.epochs
    return Trigger.EPOCH_DUE if due else Trigger.EPOCHS_SPENT


_DRY = object()
_PAIR = (tuple, list)


def fetch(run: Run) -> Enum:
    """Draw a batch, move it to the device, unpack it; unless enough optimizer steps were taken."""
    if run.max_updates is not None and run.updates >= run.max_updates:
        return Trigger.UPDATES_SPENT
    iterator = run.iterator
    if iterator is None:
        iterator = run.iterator = _open(run)
    batch: Any = next(iterator, _DRY)
    if batch is _DRY:
        _check_end(run)
        run.iterator = None
        return Trigger.LOADER_DRY
    paired = isinstance(batch, _PAIR) and len(batch) == 2  # noqa: PLR2004  # a pair
    inputs, targets = batch if paired else _lone(run, batch)
    run.inputs = to_device(inputs, run.device)
    run.targets = to_device(targets, run.device)
    return Trigger.BATCH_READY


def forward(run: Run) -> Enum:
    """`run.output` from `run.inputs`."""
    run.output = run.model(run.inputs)
    return Trigger.OUTPUT_READY


def loss(run: Run) -> Enum:
    """`run.loss` from `run.output` and `run.targets`."""
    run.loss = run.loss_fn(run.output, run.targets)
    return Trigger.LOSS_READY


def backward(run: Run) -> Enum:
    """Add the gradients of this batch to those of the window."""
    try:
        run.loss.backward()
    except (RuntimeError, AttributeError) as error:
        if problem := _no_gradient(run.loss):
            raise loss_refused(run, problem) from error
        raise
    return Trigger.GRADS_READY


def average(run: Run) -> Enum:
    """Turn the window's summed gradients into their mean over its batches.

    Cost: nothing for a window of one batch; one division per parameter otherwise.
    """
    if run.window > 1:
        for gradient in _gradients(run.optimizer):
            gradient.div_(run.window)
    return Trigger.GRADS_AVERAGED


def step(run: Run) -> Enum:
    """Move the weights."""
    run.optimizer.step()  # type: ignore[union-attr]  # checked when the run was prepared
    return Trigger.WEIGHTS_MOVED


def zero_grad(run: Run) -> Enum:
    """Drop the gradients."""
    run.optimizer.zero_grad()  # type: ignore[union-attr]  # checked when the run was prepared
    return Trigger.GRADS_CLEARED


def window(run: Run) -> Enum:
    """Leave the loader: let go of the batch; do gradients wait for a step?"""
    if run.window and needs_closure(run.optimizer):
        raise _no_closure_for_windows(run)
    release(run)
    return Trigger.WINDOW_OPEN if run.window else Trigger.WINDOW_EMPTY


def close(run: Run) -> Enum:
    """Is there something to validate on?"""
    return Trigger.NO_VALIDATION if run.valid_loader is None else Trigger.VALIDATION_DUE


def step_with_closure(forward: Do, loss: Do, backward: Do) -> Do:
    """A step for optimizers that evaluate the loss several times, such as LBFGS.

    The closure's first call returns the loss that is there already; later calls compute it anew, unheard.
    """

    def step_closing(run: Run) -> Enum:
        if run.window > 1:
            raise _no_closure_for_windows(run)
        first, output = run.loss, run.output
        fresh = True

        def closure() -> Tensor:
            nonlocal fresh
            if not fresh:
                zero_grad(run)
                forward(run)
                loss(run)
                backward(run)
            fresh = False
            return run.loss  # type: ignore[no-any-return]  # the loss function's result

        run.optimizer.step(closure)  # type: ignore[union-attr, arg-type]  # a closure returns a tensor
        run.loss, run.output = first, output
        return Trigger.WEIGHTS_MOVED

    return step_closing


def needs_closure(optimizer: optim.Optimizer | None) -> bool:
    """Whether the optimizer's `step` cannot be called without a closure."""
    if optimizer is None:
        return False
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


_DOING: Mapping[State, Do] = {
    State.TRAIN: train,
    State.FETCH: fetch,
    State.FORWARD: forward,
    State.LOSS: loss,
    State.BACKWARD: backward,
    State.AVERAGE: average,
    State.STEP: step,
    State.ZERO_GRAD: zero_grad,
    State.WINDOW: window,
    State.SETTLE: average,
    State.FLUSH: step,
    State.CLEAR: zero_grad,
    State.CLOSE: close,
}

_REPORTS: Mapping[State, tuple[Enum, ...]] = {
    State.TRAIN: (Trigger.EPOCH_DUE, Trigger.EPOCHS_SPENT),
    State.FETCH: (Trigger.BATCH_READY, Trigger.LOADER_DRY),
    State.FORWARD: (Trigger.OUTPUT_READY,),
    State.LOSS: (Trigger.LOSS_READY,),
    State.BACKWARD: (Trigger.GRADS_READY,),
    State.AVERAGE: (Trigger.GRADS_AVERAGED,),
    State.STEP: (Trigger.WEIGHTS_MOVED,),
    State.ZERO_GRAD: (Trigger.GRADS_CLEARED,),
    State.WINDOW: (Trigger.WINDOW_OPEN, Trigger.WINDOW_EMPTY),
    State.SETTLE: (Trigger.GRADS_AVERAGED,),
    State.FLUSH: (Trigger.WEIGHTS_MOVED,),
    State.CLEAR: (Trigger.GRADS_CLEARED,),
    State.CLOSE: (Trigger.VALIDATION_DUE, Trigger.NO_VALIDATION),
}


def built_in(machine: Machine) -> dict[Enum, Action]:
    """The engine's own actions for the states of a machine that it knows; those that hold machines come with them."""
    actions = _idle(machine)
    for state, do in _DOING.items():
        if machine.rows_from(state):
            actions[state] = Action(do, _reports(machine, state))
    return actions


def _reports(machine: Machine, state: State) -> tuple[Enum, ...]:
    """What an action of ours may report; only a machine that says what then follows can be run for `max_updates`."""
    limited = (state, Trigger.UPDATES_SPENT) in machine.groups
    return (*_REPORTS[state], Trigger.UPDATES_SPENT) if limited else _REPORTS[state]


def _idle(machine: Machine) -> dict[Enum, Action]:
    """The first action prepares the model, and reports the one trigger that starts the machine."""
    prepare = begin_training if machine.gradients else begin_evaluation
    triggers = tuple(trigger for source, trigger in machine.groups if source is machine.initial and trigger)

    def idle(run: Run) -> Enum:
        prepare(run)
        return triggers[0]

    return {machine.initial: Action(idle, triggers)}


def to_device(value: Any, device: torch.device) -> Any:  # noqa: ANN401  # a batch may be anything
    """A batch with all its tensors on the device; other things stay as they are.

    Cost: nothing for tensors that are there already; the copy of pinned memory does not wait.
    """
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(to_device(item, device) for item in value)
    if (move := getattr(value, "to", None)) is not None:  # packed sequences, graph batches and the like
        return move(device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(to_device(item, device) for item in value))
    return value


def _gradients(optimizer: optim.Optimizer | None) -> Iterable[Tensor]:
    groups = optimizer.param_groups if optimizer is not None else ()
    return (p.grad for group in groups for p in group["params"] if p.grad is not None)


def _open(run: Run) -> Any:  # noqa: ANN401  # an iterator over anything
    """Begin the loader; samplers that shuffle by epoch are told which one it is."""
    sampler, batches = getattr(run.loader, "sampler", None), getattr(run.loader, "batch_sampler", None)
    parts = {id(part): part for part in (sampler, batches, getattr(batches, "sampler", None))}
    for part in parts.values():
        tell = getattr(part, "set_epoch", None)
        if tell is not None:
            tell(run.epoch)
    return iter(run.loader)


def _lone(run: Run, batch: Any) -> tuple[Any, None]:  # noqa: ANN401  # a batch may be anything
    """A batch that is no pair is all inputs, where it may be so."""
    if run.pairs_only:
        size = f" of {len(batch)}" if isinstance(batch, tuple | list | dict) else ""
        raise BatchRefused(
            f"the loader gave a {type(batch).__name__}{size} in {run.where}",
            allowed="a pair (inputs, targets)",
            instead="let the loader give pairs, or say what to do with it: Engine(..., actions={State.FORWARD: "
            "output_from(lambda run: run.model(run.inputs[...])), State.LOSS: loss_from(lambda run: ...)})",
        )
    return (batch[0] if isinstance(batch, _PAIR) and len(batch) == 1 else batch), None


def _check_end(run: Run) -> None:
    """Refuse an epoch without a batch, and a loader that ended before its length."""
    loader, drawn = run.loader, run.batch_index
    if drawn == 0 and run.epoch and iter(loader) is loader:
        raise LoaderRefused(
            f"the loader is an iterator that is already spent in {run.where}",
            allowed="an iterable that can be begun once per epoch",
            instead="pass the list, Dataset or DataLoader that it came from, not iter(...) or a generator",
        )
    if drawn == 0:
        raise LoaderRefused(
            f"the loader gave no batch in {run.where}",
            allowed="at least one batch per epoch",
            instead="check the data set and drop_last; to train without it, pass no such loader",
        )
    mapped = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    if mapped and (whole := length(loader)) is not None and drawn < whole:
        raise LoaderRefused(
            f"the DataLoader ended after {drawn} of its {whole} batches in {run.where}",
            allowed=f"{whole} batches",
            instead="look for a StopIteration in the data set's __getitem__ or in collate_fn: it ends the loader",
        )


def _no_gradient(value: object) -> str:
    """Why no gradient can be computed from a loss; empty if one can."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.numel() != 1:
        return f"a tensor of shape {tuple(value.shape)}"
    return "" if value.requires_grad else "a tensor without a graph"


def loss_refused(run: Run, problem: str) -> LossRefused:
    """The error for a loss that cannot be trained on."""
    return LossRefused(
        f"the loss is {problem} in {run.where}",
        allowed="a tensor of one element that depends on the weights",
        instead="return a mean or a sum from the loss function, do not detach it, and compute it with torch",
    )


def _no_closure_for_windows(run: Run) -> OptimizerRefused:
    return OptimizerRefused(
        f"{type(run.optimizer).__name__} evaluates the loss anew, and {run.window} batches were accumulated",
        allowed="windows of one batch for optimizers that need a closure",
        instead="take the guard `accumulate` away, or use an optimizer without a closure",
    )
