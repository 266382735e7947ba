"""What does a run do, as seen from outside?  Lines that a walk over a table and a hand-written loop both leave.

A line is ("does", what), ("asks", guard, answer) or ("hears", event, state, counters); the last one says how it went.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from itertools import islice

from attrs import define, field

from states import Counter, Machine, State, StateloopError
from states.names import name_of
from states.walk import Counters, Hearing, Plan, Step, walk


Line = tuple[object, ...]
Observed = tuple[Line, ...]

# What the action of a state does to a model or its loader; the other actions only report.
DOES: Mapping[Enum, str] = {
    State.FETCH: "fetch",
    State.FORWARD: "forward",
    State.LOSS: "loss",
    State.BACKWARD: "backward",
    State.UNSCALE: "unscale",
    State.DESCALE: "unscale",
    State.AVERAGE: "average",
    State.SETTLE: "average",
    State.STEP: "step",
    State.FLUSH: "step",
    State.ZERO_GRAD: "zero_grad",
    State.CLEAR: "zero_grad",
}

# No run of the plans that are walked here is longer; a broken machine may go round for ever.
MANY_ROWS = 400


@define(eq=False)
class Replies:
    """Answers by how many guards were asked before; no, once they are used up.  Remembers what was asked."""

    script: tuple[bool, ...]
    asked: list[bool] = field(factory=list)

    def __call__(self, guard: Enum, counters: Counters) -> bool:
        del guard, counters
        number = len(self.asked)
        self.asked.append(self.script[number] if number < len(self.script) else False)
        return self.asked[-1]


def observe(machine: Machine, plan: Plan, replies: Replies) -> Observed:
    """Walk a machine, and note what it does, asks and hears."""
    lines: list[Line] = []
    try:
        steps = walk(machine, plan, replies)
        for step in islice(steps, MANY_ROWS):
            lines.extend(_lines(step))
        ended = next(steps, None) is None
    except (StateloopError, KeyError):
        return (*lines, ("crash",))
    return (*lines, ("ends",) if ended else ("endless",))


def _lines(step: Step) -> Iterator[Line]:
    if step.row.trigger is not None and step.row.source in DOES:
        yield "does", DOES[step.row.source]
    yield from map(_hears, step.first)
    for guard, answer in step.asked:
        yield "asks", name_of(guard), answer
    yield from map(_hears, step.heard)


def _hears(hearing: Hearing) -> Line:
    return "hears", name_of(hearing.event), name_of(hearing.state), count(hearing.counters)


def count(counters: Counters) -> tuple[int, ...]:
    """The counters as a tuple, in the order of `Counter`."""
    return tuple(counters[counter] for counter in Counter)


def every_run(run: Callable[[Replies], Observed]) -> Iterator[tuple[tuple[bool, ...], Observed]]:
    """All the runs that there are, whatever every guard answers at every asking: the leaves of the decision tree."""
    pending: list[tuple[bool, ...]] = [()]
    while pending:
        script = pending.pop()
        replies = Replies(script)
        seen = run(replies)
        yield tuple(replies.asked), seen
        no = replies.asked
        pending.extend((*no[:number], True) for number in range(len(script), len(no)))
