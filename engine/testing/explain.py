"""How is a finding told?  The plan in a line, the trace as a table with a mark, and a program that shows it again."""

from collections.abc import Iterator

from attrs import frozen

from engine.testing.runs.cases import Case
from engine.testing.runs.judges import Invariant, Objection
from engine.testing.runs.observed import Observed
from states.names import name_of
from states.strides import Heard


# So many events are shown before the one that is marked, and behind it.
BEFORE, BEHIND = 12, 2
HEAD = ("", "event", "state", "epoch", "batch", "update", "callbacks")


@frozen(eq=False)
class Finding:
    """What was found against an invariant: the simplest case that shows it.

    Attributes:
        invariant: The invariant that does not hold.
        objection: What its judge says.
        case: What the run is given.
        seen: The run.
        stack: Its callbacks, in the order in which they are called.
        factory: Who is tested, as `module:factory`.
    """

    invariant: Invariant
    objection: Objection
    case: Case
    seen: Observed
    stack: tuple[str, ...]
    factory: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about: the invariant, the callback, and the word that it was called for."""
        return self.invariant.name, self.objection.who, self.objection.word

    def __str__(self) -> str:
        stack = f"stack    {', '.join(self.stack) or 'no callbacks'}"
        legal = self.objection.allowed
        lines = [self.objection.what, *_indented(f"{self.case}\n{stack}"), "", *_indented("\n".join(self._table()))]
        lines += ["", f"  legal there: {', '.join(legal)}"] if legal else []
        return "\n".join([*lines, "", "  to see it again:", *_indented(self.program, 4)])

    def _table(self) -> Iterator[str]:
        marked = self.objection.at
        last = len(self.seen.heard) - 1 if marked is None else marked
        first = max(0, last - BEFORE)
        shown = list(enumerate(self.seen.heard))[first : last + BEHIND + 1]
        rows = [HEAD, *(self._row(number, heard, marked) for number, heard in shown)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        yield texts[0]
        yield from ["..."] if first else []
        yield from texts[1:]
        yield from ["..."] if last + BEHIND + 1 < len(self.seen.heard) else []

    def _row(self, number: int, heard: Heard, marked: int | None) -> tuple[str, ...]:
        epoch, batch, _, updates, _ = heard.counters
        calls = [call for call in self.seen.calls if call.at == number + 1]
        called = ", ".join(
            (call.who if call.hears else f"{call.who}.{name_of(call.word)}?") + (" raises" if call.raised else "")
            for call in calls
        )
        mark = ">" if number == marked else ""
        event = "  " * heard.depth + heard.name
        return mark, event, name_of(heard.state), str(epoch), str(batch), str(updates), called

    @property
    def program(self) -> str:
        """Python that carries the case out again, and raises what was found."""
        module, _, name = self.factory.partition(":")
        names = ["Case", "Plan", *(["Script"] if self.case.script.yes else []), *(["Fault"] if self.case.fault else [])]
        names += ["Way"] if "Way." in self.case.code else []
        return (
            f"from engine.testing import {', '.join(sorted({*names, 'check_case'}))}\n"
            f"from {module} import {name}\n\n"
            f"check_case({name}, {self.case.code})"
        )


def _indented(text: str, by: int = 2) -> list[str]:
    return [f"{' ' * by}{line}".rstrip() for line in text.splitlines()]
