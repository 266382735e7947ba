"""How much memory did an epoch need?  The peaks that the system and the device keep anyway, read once an epoch."""

import sys

import torch

from engine.errors import ArgumentRefused
from engine.listeners import Callback
from engine.run import Run


MIB = 2**20
# What `ru_maxrss` counts in: bytes on macOS, 1024 of them elsewhere.
UNIT = 1 if sys.platform == "darwin" else 1024


class Memory(Callback):
    """Write the peak of the memory into the record of each epoch: `host_peak_mib`, and on CUDA `device_peak_mib`.

    `host_peak_mib` is the largest resident set of this process since it began, in MiB, as `getrusage` tells it: the
    system keeps no peak of an epoch, so the number only grows.  `device_peak_mib` is the largest amount that torch had
    allocated on the run's device in this epoch, its validation included: `torch.cuda.max_memory_allocated`, which is
    reset at the beginning of each epoch, for others who watch it too.

    It comes before the engine's own Metrics, which writes the record.

    Raises:
        ArgumentRefused: the system has no `getrusage` (Windows).

    Cost per batch: nothing.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks import Memory
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Memory()])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))], epochs=2)
        >>> all(record["host_peak_mib"] > 1 for record in run.history)
        True
    """

    order = -110
    measures = ("host_peak_mib", *(["device_peak_mib"] if torch.cuda.is_available() else []))

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise ArgumentRefused(
                "Memory reads getrusage, which this system does not have",
                allowed="Linux and macOS",
                instead="leave it out, and look at torch.cuda.max_memory_allocated() where the model is on CUDA",
            )

    def on_epoch_begin(self, run: Run) -> None:
        """Let the device count anew."""
        if run.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(run.device)

    def on_epoch_end(self, run: Run) -> None:
        """Write the numbers."""
        run.metrics["host_peak_mib"] = _host_peak() / MIB
        if run.device.type == "cuda":
            run.metrics["device_peak_mib"] = torch.cuda.max_memory_allocated(run.device) / MIB


def _host_peak() -> int:
    """The largest resident set of this process so far, in bytes."""
    from resource import RUSAGE_SELF, getrusage  # noqa: PLC0415  # not on every system

    return getrusage(RUSAGE_SELF).ru_maxrss * UNIT
