"""Which callbacks would run, and when?  A walk over the table with the names of the real callbacks and no tensor."""

from collections.abc import Iterator, Sequence
from enum import Enum

from attrs import define, field, frozen

from engine.layout.columns import aligned
from engine.listeners import Listener
from states import Counter, Machine
from states.names import name_of
from states.walk import Answers, Counters, Hearing, Plan, Step, walk


@frozen
class Line:
    """One thing that would happen: an event that is heard, or a guard that is asked.

    Attributes:
        depth: 0 for the machine itself, 1 for one that a state holds.
        when: Epoch and batch, as the callback would see them in `run.epoch` and `run.batch_index`.
        state: The state that `run.state` would show.
        word: The event or the guard.
        callbacks: Who hears it or is asked, in order; nobody, for a guard that only the plan answers.
        transition: The row that is taken.
        verdict: What the guard answers; `None` for an event.
    """

    depth: int
    when: tuple[int, int]
    state: str
    word: Enum
    callbacks: tuple[str, ...]
    transition: str
    verdict: bool | None = None


@frozen
class DryRun:
    """A listing of a run that touched no tensor: `lines` is its data, `str()` its text.

    `suggestions` says what would be faster.
    """

    machine: str
    plan: Plan
    lines: tuple[Line, ...] = field(repr=False)
    suggestions: tuple[str, ...] = field(default=(), repr=False)

    def calls(self) -> tuple[tuple[str, str], ...]:
        """Just the calls of callbacks that hear, in order: (event, callback)."""
        return tuple((name_of(line.word), who) for line in self.lines if line.verdict is None for who in line.callbacks)

    def __str__(self) -> str:
        head = f"dry run of {self.machine}: {_worded(self.plan)}; nothing is computed"
        rows = [("epoch", "batch", "state", "event or guard", "callbacks"), *map(_cells, self.lines)]
        texts = aligned(rows, "<")
        faster = ["", *(f"faster: {sentence}" for sentence in self.suggestions)] if self.suggestions else []
        return "\n".join([head, "", texts[0], "-" * max(map(len, texts)), *texts[1:], *faster])


def rehearse(machine: Machine, plan: Plan, listeners: Sequence[Listener], answers: Answers) -> DryRun:
    """List what the callbacks of an engine would hear and be asked under a plan."""
    rehearsal = _Rehearsal(listeners)
    lines = (line for step in walk(machine, plan, answers) for line in rehearsal.lines(step))
    return DryRun(machine.name, plan, tuple(lines))


@define(eq=False)
class _Rehearsal:
    """Names who hears and who is asked; counts hearings as the real run would."""

    listeners: Sequence[Listener]
    _hearings: dict[tuple[str, Enum], int] = field(factory=dict)

    def lines(self, step: Step) -> Iterator[Line]:
        for hearing in step.first:
            yield self._event(step, hearing)
        counters = step.first[-1].counters if step.first else step.before
        for guard, verdict in step.asked:
            who = tuple(listener.label for listener in self.listeners if guard in listener.answers)
            if who or verdict:
                yield Line(step.depth, _when(counters), name_of(step.row.source), guard, who, str(step.row), verdict)
        for hearing in step.heard:
            yield self._event(step, hearing)

    def _event(self, step: Step, hearing: Hearing) -> Line:
        who = tuple(listener.label for listener in self.listeners if self._lets(listener, hearing.event))
        return Line(step.depth, _when(hearing.counters), name_of(hearing.state), hearing.event, who, str(step.row))

    def _lets(self, listener: Listener, event: Enum) -> bool:
        if event not in listener.hears:
            return False
        count = self._hearings[listener.name, event] = self._hearings.get((listener.name, event), 0) + 1
        return listener.filter.lets(count)


def _when(counters: Counters) -> tuple[int, int]:
    return counters[Counter.EPOCH], counters[Counter.BATCH_INDEX]


def _cells(line: Line) -> tuple[str, ...]:
    indent, name, who = "  " * line.depth, name_of(line.word), ", ".join(line.callbacks)
    if line.verdict is not None:
        name, who = f"{name}? {'yes' if line.verdict else 'no'}", who or "(the plan)"
    return str(line.when[0]), str(line.when[1]), f"{indent}{line.state}", f"{indent}{name}", who


def _worded(plan: Plan) -> str:
    parts = [("epochs", plan.epochs), ("batches", plan.batches), ("valid_batches", plan.valid_batches)]
    return ", ".join(
        f"{name}={value}" for name, value in [*parts, ("max_updates", plan.max_updates)] if value is not None
    )
