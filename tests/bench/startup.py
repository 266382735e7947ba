"""What does `import engine` add to `import torch`?  Timed in fresh processes, where nothing is loaded yet."""

import subprocess
import sys
from statistics import median

from tests.bench.results import ROOT, Startup


# Names are loaded at first use: the second import is what a program pays that uses them.
PROGRAM = """
import gc
from time import perf_counter
times, passes = [perf_counter()], []
import torch
times.append(perf_counter())
gc.callbacks.append(lambda phase, info: passes.append(perf_counter()) if info["generation"] == 2 else None)
import engine
times.append(perf_counter())
from engine import Callback, Engine
times.append(perf_counter())
spent = (after - before for before, after in zip(times, times[1:]))
print(*spent, sum(passes[1::2]) - sum(passes[::2]))
"""


def startup(processes: int = 7) -> Startup:
    """Medians over several processes; the first one fills the disk's cache and is not counted."""
    times = [_one() for _ in range(processes + 1)][1:]
    torch, engine, names, collected = (median(column) for column in zip(*times, strict=True))
    return Startup(torch, engine, engine + names, collected, processes)


def _one() -> list[float]:
    """Wall seconds: of torch, of `import engine` after it, of the two names after that; of collecting in the latter."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]
