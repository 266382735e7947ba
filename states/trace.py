"""What is a recorded trace?  JSON lines: the machine first, then each event, each call of a callback, each answer.

The first line names the machine and its rows.  Each other line is one `TraceLine`; what it does not tell is left out.
A process that was killed leaves a torn last line: what comes before it is a trace all the same.
"""

import json
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any, TextIO

from attrs import asdict, field, fields_dict, frozen
from attrs.validators import deep_mapping, instance_of, optional

from states.errors import StateloopError, shown
from states.machine import Machine
from states.names import Counter, name_of


# The version of the format; the key that holds it tells a trace from any other file of JSON lines.
VERSION = 1
VERSION_KEY = "stateloop_trace"

# A file by its name, or one that is open for text.
Where = str | PathLike[str] | TextIO
Rows = Mapping[str, tuple[str, ...]]


class TraceRefused(StateloopError):
    """A file holds no trace, or one of another machine.

    Example:
        >>> raise TraceRefused("notes.txt, line 1: no trace begins like this", allowed="a header", instead="record one")
        Traceback (most recent call last):
            ...
        states.trace.TraceRefused: notes.txt, line 1: no trace begins like this
          allowed:  a header
          instead:  record one
    """

    def __init__(self, what: str, *, allowed: str, instead: str) -> None:
        self.what, self.allowed, self.instead = what, allowed, instead
        super().__init__(f"{what}\n  allowed:  {allowed}\n  instead:  {instead}")


_TEXT, _WHOLE, _NUMBER = instance_of(str), instance_of(int), instance_of((int, float))


@frozen(kw_only=True)
class TraceLine:
    """One line: an event that is heard, or, with a callback's name, a call of its method or of its guard.

    Lines are equal when they tell the same, however long it took.

    Attributes:
        run: Which of the recorded runs, counted from 0: a callback may begin another one.
        machine: The machine that the run is in.
        depth: 0 for the machine itself, 1 for one that a state holds.
        event: The event that is heard.
        guard: The guard that is asked, in a line without an event.
        callback: Who is called; nobody in the line of the event itself.
        answer: What the callback answers to the guard.
        raised: The exception that the call ends with.
        state: The state that the run shows.
        counters: The counters that it shows, by name.
        row: The row on the way of which the event is heard; none where it is heard first: no row is chosen yet.
        seconds: When, since the run's first event.
        micros: How long the call takes, in microseconds.
    """

    run: int = field(default=0, validator=_WHOLE)
    machine: str = field(validator=_TEXT)
    depth: int = field(default=0, validator=_WHOLE)
    event: str | None = field(default=None, validator=optional(_TEXT))
    guard: str | None = field(default=None, validator=optional(_TEXT))
    callback: str | None = field(default=None, validator=optional(_TEXT))
    answer: bool | None = field(default=None, validator=optional(instance_of(bool)))
    raised: str | None = field(default=None, validator=optional(_TEXT))
    state: str = field(validator=_TEXT)
    counters: Mapping[str, int] = field(validator=deep_mapping(_TEXT, _WHOLE), hash=False)
    row: str | None = field(default=None, validator=optional(_TEXT))
    seconds: float = field(default=0.0, validator=_NUMBER, eq=False)
    micros: float | None = field(default=None, validator=optional(_NUMBER), eq=False)

    def __attrs_post_init__(self) -> None:
        """Refuse a line that tells of nothing, or of two things at once."""
        if (self.event is None) == (self.guard is None) or (self.guard is not None and self.callback is None):
            raise ValueError("an event, or a guard and who is asked")

    @property
    def word(self) -> str:
        """The event or the guard."""
        return self.event or self.guard or ""

    @property
    def where(self) -> str:
        """Where the run is, as its own messages say it: `forward (epoch 3, batch 17, update 1204)`."""
        epoch, batch, update = (self.counters.get(name, 0) for name in ("epoch", "batch_index", "updates"))
        return f"{self.state} (epoch {epoch}, batch {batch}, update {update})"

    def to_json(self) -> str:
        """The line as it stands in a file, with its line break."""
        told = asdict(self, recurse=False, filter=lambda attribute, value: value != attribute.default)
        return json.dumps(told) + "\n"


@frozen
class Trace:
    """What was recorded.

    Attributes:
        machine: The name of the engine's machine.
        rows: The rows of that machine and of those within it, by name, as text.
        lines: What was heard and called, in order.
        name: What the trace is called in messages: the name of its file.
        torn: Whether the last line was torn, and left out.
    """

    machine: str
    rows: Rows = field(repr=False, hash=False)
    lines: tuple[TraceLine, ...] = field(repr=False)
    name: str = field(default="the trace", eq=False)
    torn: bool = field(default=False, eq=False)

    @property
    def events(self) -> tuple[str, ...]:
        """The events, in order, calls left out."""
        return tuple(line.word for line in self.lines if line.callback is None)


def rows_of(machine: Machine) -> Rows:
    """The rows of a machine and of those within it, as a trace keeps them."""
    return {each.name: tuple(map(str, each.rows)) for each in (*reversed(machine.within), machine)}


def unlike(rows: Rows, others: Rows) -> str:
    """How the rows of a machine are not those of another: the first row that it has or lacks."""
    ours, theirs = ([f"{name}: {row}" for name, texts in each.items() for row in texts] for each in (rows, others))
    more, less = [row for row in ours if row not in theirs], [row for row in theirs if row not in ours]
    if more or less:
        return f"has the row {more[0]}" if more else f"lacks the row {less[0]}"
    return "has the same rows" if dict(rows) == dict(others) else "has its rows in another order"


def header(machine: str, rows: Rows) -> str:
    """The first line of a trace, with its line break."""
    return json.dumps({VERSION_KEY: VERSION, "machine": machine, "rows": rows}) + "\n"


def write(trace: Trace, where: Where) -> None:
    """Write a trace down.

    Args:
        trace: What was recorded.
        where: A file's name, or a file that is open for text; it stays open.
    """
    if isinstance(where, str | PathLike):
        with open(where, "w", encoding="utf-8") as file:  # noqa: PTH123  # a name of any kind
            write(trace, file)
        return
    where.write(header(trace.machine, trace.rows))
    where.writelines(line.to_json() for line in trace.lines)


def read(where: Where) -> Trace:
    """Read what was recorded; a torn last line is left out, and `Trace.torn` says so.

    Args:
        where: A file's name, or a file that is open for text.

    Raises:
        TraceRefused: it holds no trace; names the file and the line.

    Example:
        >>> from io import StringIO
        >>> from states import TRAINING
        >>> head = header(TRAINING.name, rows_of(TRAINING))
        >>> line = TraceLine(machine="training", event="train_begin", state="train", counters={"epoch": 0})
        >>> trace = read(StringIO(head + line.to_json() + '{"machine": "trai'))
        >>> trace.events, trace.torn
        (('train_begin',), True)
    """
    if isinstance(where, str | PathLike):
        with open(where, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # a name of any kind
            return _read(file, fspath(where))
    return _read(where, str(getattr(where, "name", "the trace")))


def _read(file: Iterable[str], name: str) -> Trace:
    texts = list(file)
    machine, rows = _header(texts[0] if texts else "", name)
    torn = len(texts) > 1 and not texts[-1].endswith("\n") and _parsed(texts[-1]) is None
    lines = texts[1:-1] if torn else texts[1:]
    return Trace(machine, rows, tuple(_line(text, name, at) for at, text in enumerate(lines, 2)), name, torn)


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _header(text: str, name: str) -> tuple[str, Rows]:
    match _parsed(text):
        case {"stateloop_trace": int(version)} if version != VERSION:
            what, instead = f"a trace in format {version}", "read it with the Stateloop that has written it"
        case {"stateloop_trace": _, "machine": str(machine), "rows": dict(rows)} if all(map(_is_table, rows.values())):
            return machine, {each: tuple(texts) for each, texts in rows.items()}
        case _:
            what, instead = (
                f"no trace begins with {shown(text.strip())}",
                "record one: `with record(engine, path): ...`",
            )
    raise TraceRefused(f"{name}, line 1: {what}", allowed=f"the header of a trace, format {VERSION}", instead=instead)


def _is_table(rows: object) -> bool:
    return isinstance(rows, list) and all(isinstance(row, str) for row in rows)


def _line(text: str, name: str, at: int) -> TraceLine:
    data = _parsed(text)
    unknown = sorted(data.keys() - fields_dict(TraceLine)) if data is not None else []
    why = f"it has {', '.join(unknown)}" if unknown else "it is no JSON object" if data is None else ""
    try:
        if data is not None and not unknown:
            return TraceLine(**data)
    except (TypeError, ValueError) as error:
        why = str(error.args[0])
    raise TraceRefused(
        f"{name}, line {at}: {shown(text.strip())} is no line of a trace: {why}",
        allowed=f"a JSON object with some of {', '.join(fields_dict(TraceLine))}",
        instead="record it again; a run that was killed tears its last line alone",
    )


def counters(values: Iterable[int]) -> dict[str, int]:
    """The counters as a line shows them, from their values in the order of `Counter`."""
    return dict(zip(map(name_of, Counter), values, strict=True))
