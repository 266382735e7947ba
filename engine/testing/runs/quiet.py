"""How does a test run leave nothing behind?  It prints nothing, and takes no random numbers from those around it."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch


# Nobody else would set this one: whoever sets a seed is seen to have changed where the generators stand.
SEED = 1_618_033_989


@contextmanager
def quiet() -> Iterator[None]:
    """Let a run print nothing, begin with the same random numbers as any other, and take none from those around it."""
    kept = random.getstate(), torch.get_rng_state(), _numpy_state()
    random.seed(SEED)
    torch.manual_seed(SEED)
    _numpy_seed(SEED)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        random.setstate(kept[0])
        torch.set_rng_state(kept[1])
        if kept[2] is not None:
            sys.modules["numpy"].random.set_state(kept[2])


def _numpy_state() -> Any:  # noqa: ANN401  # numpy may not be there
    return sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None


def _numpy_seed(seed: int) -> None:
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
