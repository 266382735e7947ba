"""How is the trace of a run recorded?  The first of all who hear writes each event, and each call is timed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import count
from os import PathLike
from time import perf_counter
from typing import Any, TextIO
from weakref import WeakKeyDictionary

from attrs import define, evolve, field

from engine.engine import Engine
from engine.listeners import Callback
from engine.run import Run
from engine.testing.watched import Call, watch
from engine.vocabulary import Vocabulary
from states import Counter, Transition
from states.names import name_of
from states.trace import TraceLine, Where, header, rows_of


# The recorder comes before all others, whatever their order.
FIRST = -(10**9)


@contextmanager
def record(engine: Engine, where: Where) -> Iterator[None]:
    """Record the runs of an engine: one line for each event, whether anybody hears it, one for each call.

    Each line is written out at once, so that a process that is killed leaves a trace, too.

    Args:
        engine: The engine.  Add its callbacks before: of those that are added later only what they do is seen, not when
            they are called, and `verify` misses their answers where others answer as well.
        where: A file's name; what was in that file is lost.  Or a file that is open for text; it stays open.

    Cost: some fifty microseconds for each line.

    Example:
        >>> from io import StringIO
        >>> import torch
        >>> from states import TRAINING
        >>> from states.trace import read
        >>> from states.verify import verify
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), metrics=None)
        >>> with record(engine, file := StringIO()):
        ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3)
        >>> position = file.seek(0)
        >>> print(verify(read(file), TRAINING))
        the trace: legal and complete (34 events, 9 calls)
    """
    if isinstance(where, str | PathLike):
        with open(where, "w", encoding="utf-8") as file, record(engine, file):  # noqa: PTH123  # a name of any kind
            yield
        return
    where.write(header(engine.machine.name, rows_of(engine.machine)))
    recorder = _Recorder(where, frozenset(Vocabulary.of(engine.machine).events.values()))
    watch(engine, recorder.around)
    ear = recorder.ear()
    engine.add(ear)
    try:
        yield
    finally:
        recorder.closed = True
        engine.remove(ear)


@define(eq=False)
class _Recorder:
    """Writes down what is heard and called, until it is closed."""

    file: TextIO
    events: frozenset[Enum]
    closed: bool = False
    # The number of each outermost run, and when its first event was heard.
    runs: WeakKeyDictionary[Run, tuple[int, float]] = field(factory=WeakKeyDictionary)
    number: Iterator[int] = field(factory=count)

    def ear(self) -> Callback:
        """A callback that hears every event, before all others."""

        def method(event: Enum) -> Callable[[object, Run], None]:
            def on(_: object, run: Run) -> None:
                if not self.closed:
                    self._write(self._line(run, event))

            return on

        methods = {f"on_{name_of(event)}": method(event) for event in self.events}
        return type("TraceRecorder", (Callback,), {**methods, "order": FIRST})()  # type: ignore[no-any-return]  # a class made here

    def around(self, who: str, word: Enum, call: Call) -> Call:
        """Write down each call of a method or of a guard when it has come back."""

        def called(run: Run) -> Any:  # noqa: ANN401  # whatever the callback gives
            if self.closed:
                return call(run)
            line, begins, answer, raised = self._line(run, word, who), perf_counter(), None, None
            try:
                answer = call(run)
            except BaseException as error:
                raised = type(error).__name__
                raise
            finally:
                said = answer if line.guard is not None and isinstance(answer, bool) else None
                self._write(evolve(line, answer=said, raised=raised, micros=_micros(begins)))
            return answer

        return called

    def _line(self, run: Run, word: Enum, who: str | None = None) -> TraceLine:
        """What a run shows while an event is heard, or a guard asked."""
        around, event = tuple(run.around), word in self.events
        outermost = around[-1] if around else run
        if outermost not in self.runs:
            self.runs[outermost] = next(self.number), perf_counter()
        number, began = self.runs[outermost]
        row = _row(run, word) if event else None
        return TraceLine(
            run=number,
            machine=run.machine.name,
            depth=len(around),
            event=name_of(word) if event else None,
            guard=None if event else name_of(word),
            state=name_of(run.state),
            row=None if row is None else str(row),
            counters={name: getattr(run, name) for name in map(name_of, Counter)},
            callback=who,
            seconds=round(perf_counter() - began, 6),
        )

    def _write(self, line: TraceLine) -> None:
        self.file.write(line.to_json())
        self.file.flush()


def _row(run: Run, event: Enum) -> Transition | None:
    """The row on the way of which an event is heard: none yet where it is heard first."""
    row = run.recent[-1] if run.recent else None
    if row is None or row.dest is run.state:
        return row if row is not None and event in row.heard else None
    ways = (death for death in run.machine.deaths if (death.source, death.dest) == (row.dest, run.state))
    return next(ways, row)


def _micros(since: float) -> float:
    return round(1e6 * (perf_counter() - since), 1)
