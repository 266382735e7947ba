"""Where do the shared random generators stand?  Of Python, NumPy and torch, as plain data that a file can hold."""

import random
import sys
from collections.abc import Mapping
from typing import Any

import torch


def generators_state() -> dict[str, Any]:
    """Where they stand now: numbers, texts, lists and tensors only.  Draws nothing, and starts no device.

    NumPy's where it is imported; those of CUDA devices where CUDA is in use.

    Example:
        >>> before = generators_state()
        >>> drawn = torch.rand(3), random.random()
        >>> set_generators(before)
        >>> torch.equal(torch.rand(3), drawn[0]), random.random() == drawn[1]
        (True, True)
    """
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {"python": [version, list(words), gauss], "torch": torch.get_rng_state()}
    if (numpy := sys.modules.get("numpy")) is not None:
        kind, keys, *rest = numpy.random.get_state(legacy=True)
        state["numpy"] = [str(kind), keys.tolist(), *rest]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_generators(state: Mapping[str, Any]) -> None:
    """Let them stand there again: those in the state, as far as their library and device are here."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    torch.set_rng_state(state["torch"])
    if "numpy" in state and (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.set_state(tuple(state["numpy"]))
    if torch.cuda.is_available():
        for number, one in enumerate(state.get("cuda", ())[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, number)
