"""How do the results read?  docs/speed.md: the tables, how they were measured, what is fair in them and what is not."""

from tests.bench.results import ROOT, Results, Table
from tests.bench.table import markdown, memory_line, startup_line


PATH = ROOT / "docs" / "speed.md"

INTRODUCTION = """# Speed

What a batch costs beyond the loop that one would have written by hand, and what it costs in other libraries: the same
model, data, seed and optimizer, and weights at the end that are those of the plain loop, bit for bit, unless the table
says otherwise.

<p align="center"><img src="speed.svg" alt="bars: microseconds beyond the plain loop, by library" width="840"></p>
"""

PARTS = """## Where each tenth of a microsecond goes

Of a batch of fake work: lines are left out of the loop that runs (`engine.source()` shows it), and the rest is timed.
The first row is what is in none of these lines: all but the last add up to what `fit, metrics=None` costs beyond the
plain loop. The last is the mean loss that `fit` keeps. Among torch's own work the same instructions find cold caches,
and cost more: see the two rows in tiny.
"""

READING = """## How to read them

- **beyond**: CPU time of a batch beyond the baseline's, in microseconds, all that a run costs once included; **ratio**:
  how many times the baseline's. Both are medians over pairs, with quartiles. **us/batch** is the whole batch.
- **The first row is the noise**: the baseline against itself, in the rounds of `fit`. What is smaller cannot be told
  from nothing. **rounds x batches**: the slower ones were timed in fewer and shorter runs, so their noise is greater.
- **once**: a run of one batch, less the same run of the baseline: what is made ready before the first batch.
- **calls**: how many calls of callbacks a batch had. The baseline makes all thirty by hand. A library that has no such
  place to hear (between forward and loss, say) makes fewer, and does less work for it.
- **weights**: against the baseline's: *equal* is bit for bit; otherwise, how far the final loss is off.
- The model is tiny so that the loop can be seen. In a training whose batch takes 50 ms, all of these are hidden; on a
  GPU, what hurts is rather that a loss is read on the host in each batch.

## How they were measured

One process, one torch thread, CPU time. Rounds are interleaved, and each run stands between two runs of its baseline:
its pair is the mean of both. So ratios hold where the speed of the machine drifts; microseconds drift with it. The
engine is timed first, while no other library is loaded. Models, data and optimizers are made outside the clock, what a
library makes for a run (a trainer, say) inside. Each run is checked: weights, number of calls, accuracy.

What other libraries have loaded is taken out of the garbage collector's sight, so that none pays for another. This
flatters transformers, which collects all garbage once in a run: that takes 200 ms of its own where this is not done.
"""

REPRODUCING = """## How to reproduce them

```console
make peers                                  # an environment of its own with the other libraries, in .venv-peers
make bench                                  # measures and prints everything, in some minutes
.venv-peers/bin/python -m tests.bench --save    # writes docs/speed.json and, made from it, this page and its picture
```

`python -m tests.bench tiny calls` measures some workloads, `--own` leaves the other libraries out,
`python -m tests.bench memory 10_000_000` counts what batches leave behind, `python -m tests.bench startup` times the
import. The adapters are in [`tests/bench/peers/`](../tests/bench/peers): each says what is not equal in it. If yours is
treated unfairly there, a change is welcome.
"""


def made(results: Results) -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION, _machine(results), *map(_workload, results.tables), _parts(results), _further(results)]
    return "\n".join([*parts, READING, _fairness(results), REPRODUCING])


def _machine(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return f"Measured on {results.date}: {results.machine}. {versions}.\n"


def _workload(table: Table) -> str:
    return f"## {table.name}\n\n{table.text[0].upper()}{table.text[1:]}.\n\n{markdown(table)}\n"


def _parts(results: Results) -> str:
    """Where the dispatch of a batch goes."""
    rows = [f"| {part.name} | {part.micros:.2f} |" for part in results.parts]
    return "\n".join([PARTS, "| what | us/batch |", "| --- | --: |", *rows, ""]) if rows else ""


def _further(results: Results) -> str:
    """Memory and startup, where they were measured."""
    lines = []
    if results.memory:
        lines.append(f"- **Memory.** {memory_line(results.memory)}.")
    if results.startup:
        lines.append(
            f"- **Startup.** {startup_line(results.startup)}; medians of {results.startup.processes} processes."
        )
    return "\n".join(["## Memory and startup\n", *lines, ""]) if lines else ""


def _fairness(results: Results) -> str:
    """What is not equal: a line for each contender that has a note, and those that were not timed."""
    notes = {one.name: one.note for table in results.tables for one in table.contenders if one.note}
    lines = ["## What is not equal\n", *(f"- **{name}**: {note}." for name, note in notes.items())]
    lines.extend(f"- **{name}** was not timed: {why}." for name, why in results.absent.items())
    return "\n".join([*lines, ""])
