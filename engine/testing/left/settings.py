"""What is set for the whole process, and could be left in another way?  How each is read, and how it is put back."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from attrs import frozen


@frozen
class Setting:
    """One setting: how it is read and written."""

    read: Callable[[], object]
    write: Callable[[Any], object]


def _of(owner: object, name: str) -> Setting:
    return Setting(partial(getattr, owner, name), partial(setattr, owner, name))


# By the expression that a person would write.  What torch has no function to write with is told, and not put back.
SETTINGS: Mapping[str, Setting] = {
    "torch.is_grad_enabled()": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "torch.is_inference_mode_enabled()": Setting(torch.is_inference_mode_enabled, bool),
    **{
        f"torch.is_autocast_enabled({kind!r})": Setting(
            partial(torch.is_autocast_enabled, kind), partial(torch.set_autocast_enabled, kind)
        )
        for kind in ("cpu", "cuda")
    },
    "torch.get_default_dtype()": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "torch.get_default_device()": Setting(
        torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)
    ),
    "torch.are_deterministic_algorithms_enabled()": Setting(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    ),
    "torch.get_num_threads()": Setting(torch.get_num_threads, torch.set_num_threads),
    "torch.is_anomaly_enabled()": Setting(torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "torch.get_float32_matmul_precision()": Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "torch.backends.cudnn.benchmark": _of(torch.backends.cudnn, "benchmark"),
    "os.getcwd()": Setting(os.getcwd, os.chdir),
    "sys.gettrace()": Setting(sys.gettrace, sys.settrace),
    "sys.getprofile()": Setting(sys.getprofile, sys.setprofile),
    **{
        f"sys.{name}": _of(sys, name)
        for name in ("stdin", "stdout", "stderr", "excepthook", "displayhook", "unraisablehook")
    },
    "threading.excepthook": _of(threading, "excepthook"),
    "warnings.showwarning": _of(warnings, "showwarning"),
    **{
        f"the handler of {name}": Setting(
            partial(signal.getsignal, getattr(signal, name)), partial(signal.signal, getattr(signal, name))
        )
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
        if hasattr(signal, name)
    },
}


def settings() -> dict[str, object]:
    """What is set now.

    Example:
        >>> settings()["torch.is_grad_enabled()"]
        True
    """
    return {name: setting.read() for name, setting in SETTINGS.items()}


def set_back(before: Mapping[str, object]) -> None:
    """Set what differs as it was, as far as that can be done: signal handlers are the main thread's."""
    for name, setting in SETTINGS.items():
        if not same(setting.read(), before[name]):
            with suppress(ValueError, TypeError):
                setting.write(before[name])


def same(one: object, other: object) -> bool:
    """Whether two things are one; numbers, texts and torch's own constants are one where they are equal."""
    return one is other or (is_plain(one) and type(one) is type(other) and one == other)


def is_plain(thing: object) -> bool:
    """Whether a thing is a number, a text or a constant of torch, and says all of itself."""
    return thing is None or isinstance(thing, bool | int | float | str | torch.dtype | torch.device)
