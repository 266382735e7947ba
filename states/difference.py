"""Where do two traces part?  In their machines, or at the first line that does not tell the same, whatever its time."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from attrs import asdict, field, frozen

from states.trace import Trace, TraceLine, unlike


# What stands in front of a line that both have, and of the lines of one and of the other.
_BOTH, _ONE, _OTHER = "  ", "- ", "+ "
_MARK = "> "
# The columns that are text, and those that are shown where they say the same in each line.
_WORDS = ("machine", "event", "callback", "raised", "state", "row")
_SHOWN = ("line", "event", "callback", "raised", "state", "row")


@frozen
class Difference:
    """Where two traces part.

    Attributes:
        one: A trace.
        other: Another one.
        at: The index of the first line that differs; `None` where the traces are of two machines, and tell the same.
        context: How many lines are shown around it.
    """

    one: Trace = field(repr=False)
    other: Trace = field(repr=False)
    at: int | None
    context: int

    @property
    def machines(self) -> str:
        """How the machine of one trace is not that of the other; nothing, where it is the same."""
        if _same_machine(self.one, self.other):
            return ""
        names = dict.fromkeys(repr(trace.machine) for trace in (self.one, self.other))
        return f"another machine: {' and '.join(names)}; the first {unlike(self.one.rows, self.other.rows)}"

    @property
    def told(self) -> tuple[str, ...]:
        """What the two lines tell differently; nothing, where one trace has ended there."""
        if self.at is None:
            return ()
        pair = [_told(trace.lines[self.at]) for trace in (self.one, self.other) if self.at < len(trace.lines)]
        names = dict.fromkeys(name for told in pair for name in told)
        return tuple(name for name in names if pair[0].get(name) != pair[-1].get(name))

    def __str__(self) -> str:
        """A sentence, and the lines around: those before, then what comes in the one, then what comes in the other.

        Before it stands how their machines differ, if they do.
        """
        pair = f"{self.one.name} (-) and {self.other.name} (+)"
        machines = [f"{pair} are of {self.machines}"] if self.machines else []
        lines = [f"{pair} part at {self._where(self.at)}", *self._table(self.at)] if self.at is not None else []
        return "\n".join([*machines, *lines])

    def _where(self, parting: int) -> str:
        going = max(self.one, self.other, key=lambda trace: len(trace.lines))
        ended = [trace.name for trace in (self.one, self.other) if len(trace.lines) == parting]
        how = f"{ended[0]} ends there" if ended else f"in {', '.join(self.told)}"
        return f"line {parting + 2}, in {going.lines[parting].where}: {how}"

    def _table(self, parting: int) -> list[str]:
        begin, end = max(0, parting - self.context), parting + 1 + self.context
        shown = [(_BOTH, at, self.one.lines[at]) for at in range(begin, parting)]
        for sign, trace in ((_ONE, self.one), (_OTHER, self.other)):
            shown += [(sign, at, line) for at, line in enumerate(trace.lines[parting:end], parting)]
        cells = [{"line": str(at + 2), **_columns(line)} for _, at, line in shown]
        signs = [f"{_MARK if at == parting else '  '}{sign}" for sign, at, _ in shown]
        return [f"{sign}{row}".rstrip() for sign, row in zip(["    ", *signs], _aligned(cells), strict=True)]


def difference(one: Trace, other: Trace, context: int = 3) -> Difference | None:
    """Find where two traces part; nowhere, if they tell the same of one machine.  When something happened is not asked.

    Args:
        one: A trace.
        other: Another one.
        context: How many lines are shown before and behind the first that differs.

    Example:
        >>> from attrs import evolve
        >>> line = TraceLine(machine="training", event="train_begin", state="train", counters={"epoch": 0})
        >>> one = Trace("training", {}, (line, evolve(line, event="epoch_begin", state="epoch")), "one.jsonl")
        >>> print(difference(one, evolve(one, lines=(line, evolve(line, event="train_end")), name="other.jsonl")))
        one.jsonl (-) and other.jsonl (+) part at line 3, in epoch (epoch 0, batch 0, update 0): in event, state
            line  event        state
               2  train_begin  train
        > -    3  epoch_begin  epoch
        > +    3  train_end    train
        >>> difference(one, one)
    """
    for at, (ours, theirs) in enumerate(zip_longest(one.lines, other.lines)):
        if ours != theirs:
            return Difference(one, other, at, context)
    return None if _same_machine(one, other) else Difference(one, other, None, context)


def _same_machine(one: Trace, other: Trace) -> bool:
    return (one.machine, dict(one.rows)) == (other.machine, dict(other.rows))


def _told(line: TraceLine) -> Mapping[str, object]:
    """What a line tells, but when and how long; each counter by itself."""
    told = asdict(line, recurse=False, filter=lambda attribute, _: attribute.eq is not False)
    del told["counters"]
    return {**told, **line.counters}


def _columns(line: TraceLine) -> Mapping[str, str]:
    """What a line tells, by column of the table; a counter's column is a number."""
    answer = {True: ": yes", False: ": no", None: ""}[line.answer]
    return {
        "run": str(line.run),
        "machine": line.machine,
        "depth": str(line.depth),
        "event": line.event or f"{line.guard}{answer}",
        "callback": line.callback or "",
        "raised": line.raised or "",
        "state": line.state,
        **{name: str(value) for name, value in line.counters.items()},
        "row": line.row or "",
    }


def _aligned(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A table with its head; an empty column is left out, and a number that never moves."""
    texts = {name: [row.get(name, "") for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    shown = {name: texts for name, texts in texts.items() if any(texts) and (name in _SHOWN or len({*texts}) > 1)}
    columns = []
    for name, column in shown.items():
        width = max(map(len, (name, *column)))
        columns.append([text.ljust(width) if name in _WORDS else text.rjust(width) for text in (name, *column)])
    return ["  ".join(cells) for cells in zip(*columns, strict=True)]
