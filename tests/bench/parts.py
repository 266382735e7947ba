"""Where does each tenth of a microsecond go?  The loop that runs, timed without one kind of its lines after another.

The loop is the engine's own text for batches of fake work; what it takes less without some lines is what they cost.
"""

import re
from collections.abc import Iterator
from functools import partial

from attrs import evolve

from engine import Engine
from engine.run import Run
from engine.running.drive import drive
from engine.running.link import Linked
from engine.running.loop import source
from engine.running.prepare import Preparation
from engine.running.written import Source
from tests.bench.contenders import FIT, UNMEASURED
from tests.bench.fake import BATCH, engine
from tests.bench.results import Part, Table
from tests.bench.table import cost
from tests.bench.timing import beyond, interleave, seconds


# By what lines do: which they are, and what stands in their place.
LINES = {
    "writing `run.state`": (r" *run\.state = \w+ .*\n", ""),
    "moving counters": (r" *run\.(window|updates|batches_done) \+?= \d\n", ""),
    "looking for a stop": (r"if (epoch_)?wish\.reason is not None and", "if False and"),
    "remembering the way": (r" *remember\(.*\n", ""),
    "looking at the window": (r" *if run\.window > 1:\n.*\n", ""),
}


def parts(dispatch: Table, rounds: int, number: int = 50_000) -> list[Part]:
    """What each kind of line costs a batch, in microseconds; what is left is above all `fetch`."""
    trained = engine()
    ready = Preparation(trained._kit, trained._registry.arranged(), [], trains=True)
    linked = ready.linked(trained.machine)
    whole, *less = (partial(seconds, partial(run, trained, linked, text, number)) for _, text in texts(source(linked)))
    pairs, _ = interleave(dict(zip(LINES, less, strict=True)), whole, rounds)
    found = [Part(name, -beyond(pairs[name], number).median) for name in LINES]
    costs = {one.name: cost(one).median for one in dispatch.contenders}
    rest = costs[UNMEASURED.name] - sum(part.micros for part in found)
    mean = costs[FIT.name] - costs[UNMEASURED.name]
    return [
        Part("the rest: above all `fetch`, where a `for` would do", rest),
        *sorted(found, key=lambda part: -part.micros),
        Part("the mean loss: `detach` and a copy of one number", mean),
    ]


def texts(whole: Source) -> Iterator[tuple[str, Source]]:
    """The loop with all of its lines, then without those of each kind in its batches."""
    yield "", whole
    before, batch, after = re.split(r"(?<=\n        while True:\n)|(?=\n        trigger = window)", whole.text)
    for name, (lines, instead) in LINES.items():
        less, number = re.subn(lines, instead, batch)
        assert number, f"{name}: the loop has no such lines"
        yield name, evolve(whole, text=before + less + after)


def run(trained: Engine, linked: Linked, text: Source, number: int) -> None:
    """Fit by this text."""
    run = trained._run(Run, trained.machine, [BATCH] * number)
    drive(run, linked, text.compiled())
    assert run.batch_index == number, "not every batch was drawn"
