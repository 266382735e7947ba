"""Is a recorded trace one that a machine allows?  Each line is: its event, state, row and counters, its calls."""

from collections.abc import Callable, Sequence

from attrs import field, frozen

from states.askings import answering
from states.follower import Follower, Listener, after
from states.grammar import Grammar
from states.machine import Machine
from states.order import Order
from states.tables import EVALUATION, PREDICTION
from states.trace import Trace, TraceLine, TraceRefused, rows_of, unlike
from states.ways import Ways


# What follows one run of a trace, and what makes it at the run's first line; without one, for a run that never began.
_Follows = Follower | Listener
_Begins = Callable[[TraceLine | None], _Follows]


@frozen
class Finding:
    """What was found in a trace; true when each run in it is legal and complete.

    Attributes:
        trace: The trace.
        legal: Whether it is legal and complete.
        at: The index of the first line that is not legal; `None` when there is none.
        what: What is wrong with that line, or how the trace ends.
        heard: What that line tells, and what was heard before it.
        expected: What would have been legal there, or may come next.
    """

    trace: Trace = field(repr=False)
    legal: bool
    at: int | None
    what: str
    heard: str = ""
    expected: tuple[str, ...] = ()

    @property
    def prefix(self) -> bool:
        """Whether the trace is legal so far: complete, or to be continued."""
        return self.at is None

    def __bool__(self) -> bool:
        return self.legal

    def __str__(self) -> str:
        """The verdict: what line, what was heard, what was legal there."""
        where = self.trace.name if self.at is None else f"{self.trace.name}, line {self.at + 2}"  # behind the header
        if self.legal:
            return f"{where}: {self.what}"
        return f"{where}: {self.what}\n  heard:  {self.heard}\n  legal:  {', '.join(self.expected) or 'nothing'}"


def verify(trace: Trace, by: Machine | Grammar | Order) -> Finding:
    """Say whether a trace is legal, and if it is not, which line is the first that is not, and what was legal there.

    Args:
        trace: What was recorded.
        by: The machine that it was recorded from: each line must be one that its rows and counts allow.  Or an order of
            events alone: a grammar, or the order of any machine.

    Raises:
        TraceRefused: the trace was recorded from another machine.

    Cost: under a millisecond for each line.

    Example:
        >>> from states import TRAINING
        >>> begins = TraceLine(
        ...     machine="training",
        ...     event="train_begin",
        ...     state="train",
        ...     row="idle fit_asked -> train: train_begin",
        ...     counters=dict.fromkeys(("epoch", "batch_index", "batches_done", "updates", "window", "overflows"), 0),
        ... )
        >>> print(verify(Trace("training", rows_of(TRAINING), (begins, begins)), TRAINING))
        the trace, line 3: train_begin is not legal there
          heard:  train_begin in train, after train_begin
          legal:  stop in stopping, epoch_begin in epoch, train_end in done or left, exception in failed or interrupted
    """
    runs: dict[int, _Follows] = {}
    begins = _follower(trace, by) if isinstance(by, Machine) else _listener(by)
    for at, line in enumerate(trace.lines):
        run = runs[line.run] if line.run in runs else runs.setdefault(line.run, begins(line))
        if (wrong := run.take(line)) is not None:
            told = f"{wrong.told}, {after(run.names)}"
            return Finding(trace, legal=False, at=at, what=wrong.what, heard=told, expected=wrong.expected)
    return _no_line_wrong(trace, [*runs.values()] or [begins(None)])


def _no_line_wrong(trace: Trace, runs: Sequence[_Follows]) -> Finding:
    """What is said of a trace of which each line is legal: whether each run has ended."""
    events, calls = len(trace.events), len(trace.lines) - len(trace.events)
    counted = f"{events} events, {calls} calls" + (f", {len(runs)} runs" if len(runs) > 1 else "")
    for run in runs:
        if not run.over:
            what = f"legal so far ({counted}), and the run has not ended"
            return Finding(
                trace, legal=False, at=None, what=what, heard=f"nothing more, {after(run.names)}", expected=run.next
            )
    return Finding(trace, legal=True, at=None, what=f"legal and complete ({counted})")


def _listener(order: Grammar | Order) -> _Begins:
    known = order if isinstance(order, Order) else order.order
    return lambda _: Listener(known)


def _follower(trace: Trace, machine: Machine) -> _Begins:
    """What follows a run of the engine's machine; of one within it, or of a built-in one, if its first line says so."""
    _check_same(trace, machine)
    machines = {each.name: each for each in (PREDICTION, EVALUATION, *reversed(machine.within), machine)}
    most = 1 + max((value for line in trace.lines for value in line.counters.values()), default=0)
    who = answering(trace.lines)

    def begins(line: TraceLine | None) -> Follower:
        if line is None:
            return Follower(Ways(machine, 0, most, {}))
        known = machines.get(line.machine, machine)
        return Follower(Ways(known, line.counters.get("epoch", 0), most, who.get(line.run, {})))

    return begins


def _check_same(trace: Trace, machine: Machine) -> None:
    """Refuse a trace of another machine, with the first row that differs."""
    known = rows_of(machine)
    if (trace.machine, dict(trace.rows)) == (machine.name, dict(known)):
        return
    called = "another one" if trace.machine == machine.name else f"the machine {trace.machine!r}"
    raise TraceRefused(
        f"{trace.name} was recorded from {called}, not from {machine.name!r}: it {unlike(trace.rows, known)}",
        allowed="the machine that it was recorded from",
        instead="name that machine; or judge the order of events alone: verify(trace, machine.order)",
    )
