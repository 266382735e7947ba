"""What would be faster?  What the engine could be given, in words, and why it does not take it by itself."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, optim

from engine.several import Optimizers


# What has a fused step, and for what, as torch documents it.
_FUSED = (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad)
_DEVICES = ("cpu", "cuda")
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def suggestions(optimizer: optim.Optimizer | Optimizers | None) -> tuple[str, ...]:
    """What would be faster, a sentence each: a fused step, where torch has one for the optimizer's parameters.

    Nothing is said where the user has chosen (`fused`, `foreach` or `differentiable` is given), nor of SGD without
    momentum on a CPU: there, fusing was measured to gain less than a tenth.  With several, each sentence has a name.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(1))
        >>> suggestions(optim.Adam([weight], fused=True))
        ()
        >>> print(*suggestions(optim.Adam([weight])))
        Adam has a fused step on cpu: Adam(..., fused=True) is faster. ...
    """
    if isinstance(optimizer, Optimizers):
        named = optimizer.items()
        return tuple(f"{name}: {sentence}" for name, one in named for sentence in suggestions(one))
    if optimizer is None or type(optimizer) not in _FUSED:
        return ()
    groups = optimizer.param_groups
    devices = {device for group in groups for device in _fusing(group)}
    if len(devices) != 1 or None in devices:
        return ()
    name, (device,) = type(optimizer).__name__, devices
    return (
        f"{name} has a fused step on {device}: {name}(..., fused=True) is faster. It is not switched on for you: the "
        "optimizer is yours, its weights may differ in the last bits, and it takes no sparse gradients.",
    )


def _fusing(group: Mapping[str, Any]) -> set[str | None]:
    """The devices on which a group of parameters would gain from a fused step; `None` for what would not."""
    chosen = group["fused"] is not None or group["foreach"] is not None or group["differentiable"]
    plain = not group.get("momentum", True)  # SGD's: one operation for each parameter already
    return {None if chosen or (plain and p.device.type == "cpu") else _could_fuse(p) for p in group["params"]}


def _could_fuse(parameter: Tensor) -> str | None:
    device = parameter.device.type
    return device if device in _DEVICES and parameter.dtype in _DTYPES else None
