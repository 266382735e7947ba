"""What is in a checkpoint?  What a training needs to go on; it is loaded as a whole or not at all."""

import os
from collections import OrderedDict
from collections.abc import Iterator, KeysView, Mapping
from copy import deepcopy
from os import PathLike
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor, nn, optim
from torch.amp import GradScaler

from engine.errors import ArgumentRefused, CallbackRefused
from engine.keeping.files import FORMAT, read
from engine.keeping.generators import generators_state, set_generators
from engine.run import Run
from engine.several import Optimizers
from states.errors import shown, typed


# What `torch.load(weights_only=True)` takes besides tensors and containers.
_PLAIN = (type(None), bool, int, float, complex, str, torch.Size, torch.dtype, torch.device)

Optimizer = optim.Optimizer | Optimizers | None


def with_state(callbacks: Mapping[str, object]) -> dict[str, Any]:
    """The callbacks that have a state to keep, by name.

    Raises:
        CallbackRefused: one has `state_dict` or `load_state_dict`, and not both: it could not go on.
    """
    found = {}
    for name, callback in callbacks.items():
        gives, takes = (callable(getattr(callback, part, None)) for part in ("state_dict", "load_state_dict"))
        if gives != takes:
            raise CallbackRefused(
                f"{name} has {'state_dict and no load_state_dict' if gives else 'load_state_dict and no state_dict'}",
                allowed="both, or none",
                instead="write both: state_dict() gives plain data, load_state_dict(state) takes it",
            )
        if gives:
            found[name] = callback
    return found


@frozen(eq=False)
class Parts:
    """What has a state in a training: model, optimizer, the scaler of the loss if there is one, callbacks by name."""

    model: nn.Module
    optimizer: Optimizer
    callbacks: Mapping[str, Any] = field(converter=with_state)
    scaler: GradScaler | None = None

    def states(self) -> dict[str, Any]:
        """Their states, and where the random generators stand.  The tensors are the very ones, not copies."""
        return {
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "optimizer_type": _type(self.optimizer),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "callbacks": {name: callback.state_dict() for name, callback in self.callbacks.items()},
            "random": generators_state(),
        }

    def load(self, states: Mapping[str, Any]) -> None:
        """Take them over, one after the other."""
        self.model.load_state_dict(states["model"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(states["optimizer"])
        if self.scaler is not None:
            self.scaler.load_state_dict(states["scaler"])
        for name, callback in self.callbacks.items():
            callback.load_state_dict(states["callbacks"][name])
        set_generators(states["random"])


def checkpoint_of(run: Run, epoch: int) -> dict[str, Any]:
    """All that a training needs to go on, as plain data that `torch.load(weights_only=True)` takes.

    Args:
        run: The run.
        epoch: How many epochs have ended: where another run starts.

    Returns:
        By name: "format", "torch" (its version), "epoch"; "updates", "batches_done" and "history" of this run alone;
        the states of "model", "optimizer" and "scaler", of "callbacks" by name, and of the "random" generators of
        Python, NumPy and torch; "optimizer_type", the names of classes.

    Raises:
        CallbackRefused: a callback has only one of `state_dict` and `load_state_dict`.
        ArgumentRefused: something in there is no plain data, and could not be loaded again.

    The tensors are those of the run, not copies: write them before the next step.
    """
    content = {
        "format": FORMAT,
        "torch": str(torch.__version__),
        "epoch": epoch,
        "updates": run.updates,
        "batches_done": run.batches_done,
        "history": run.history,
        **Parts(run.model, run.optimizer, run.callbacks, run.scaler).states(),
    }
    for where, value in _foreign("", content):
        raise ArgumentRefused(
            f"{where} is {shown(value)}, {typed(value)}, in epoch {run.epoch}",
            allowed="tensors, numbers, texts, and lists, tuples, dicts and sets of these: what a checkpoint can hold, "
            "and torch.load(weights_only=True) takes",
            instead="turn it into one of these: float(...) for a number of NumPy's, .tolist() for an array",
        )
    return content


def restore(path: str | PathLike[str], parts: Parts) -> int:
    """Load a checkpoint into all parts of a training, or into none; return its epoch.  See `Engine.load`."""
    content = read(path)
    _check_types(path, content, parts)
    _check_names(path, content["callbacks"].keys(), parts.callbacks.keys())
    before = deepcopy(parts.states())
    try:
        parts.load(content)
    except BaseException as error:
        parts.load(before)
        error.add_note(f"while {os.fspath(path)} was loaded; all is as it was before")
        raise
    return int(content["epoch"])


def _type(optimizer: Optimizer) -> str | dict[str, str] | None:
    """The name of an optimizer's class; of several, each by name."""
    if isinstance(optimizer, Optimizers):
        return {name: type(one).__name__ for name, one in optimizer.items()}
    return None if optimizer is None else type(optimizer).__name__


def _check_types(path: str | PathLike[str], content: Mapping[str, Any], parts: Parts) -> None:
    """Refuse the state of another optimizer, which torch would take, to fail or train wrongly later."""
    saved, present = content["optimizer_type"], _type(parts.optimizer)
    if saved != present:
        raise _other(path, f"the state of the optimizer {saved}, and the engine has {present}", "the same optimizer")
    if (content["scaler"] is None) != (parts.scaler is None):
        has, lacks = ("no state", "a") if content["scaler"] is None else ("the state", "no")
        raise _other(path, f"{has} of a scaler of the loss, and the engine has {lacks} scaler", "the same precision")


def _check_names(path: str | PathLike[str], saved: KeysView[str], present: KeysView[str]) -> None:
    """Refuse callbacks without a state in the file, and states without a callback."""
    said = [f"no state of {', '.join(sorted(present - saved))}"] if present - saved else []
    if saved - present:
        said.append(f"the state of {', '.join(sorted(saved - present))}, and the engine has no such callback")
    if said:
        raise _other(
            path, "; and ".join(said), f"the callbacks that have a state: {', '.join(sorted(saved)) or 'none'}"
        )


def _other(path: str | PathLike[str], has: str, allowed: str) -> ArgumentRefused:
    return ArgumentRefused(
        f"{os.fspath(path)} has {has}",
        allowed=f"an engine made as it was when that was saved, with {allowed}",
        instead='for the weights alone: model.load_state_dict(torch.load(path, map_location="cpu")["model"])',
    )


def _foreign(where: str, value: object) -> Iterator[tuple[str, object]]:
    """What `torch.load(weights_only=True)` would not take, and where; of subclasses, only those of tensors are."""
    if isinstance(value, Tensor) or type(value) in _PLAIN:
        return
    if type(value) in (dict, OrderedDict):
        for key, item in value.items():  # type: ignore[attr-defined]  # a dict
            yield from _foreign(f"a key of {where}", key)
            yield from _foreign(f"{where}[{key!r}]" if where else str(key), item)
    elif type(value) in (list, tuple, set):
        for number, item in enumerate(value):  # type: ignore[arg-type]  # one of these
            yield from _foreign(f"{where}[{number}]", item)
    else:
        yield where, value
