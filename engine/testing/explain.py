"""How is a finding told?  The plan in a line, the trace as a table with a mark, and a program that shows it again."""

from collections.abc import Iterator

from attrs import frozen

from engine.layout.columns import aligned
from engine.testing.runs.cases import Case
from engine.testing.runs.judges import Invariant, Objection
from engine.testing.runs.observed import Observed
from states.names import name_of
from states.strides import Heard


# So many events are shown before the one that is marked, and behind it; a few more are shown, rather than left out.
BEFORE, BEHIND, FEW = 12, 2, 8
# What claims are made of.
KIT = ("at_most_once", "before", "each", "never")
HEAD = (" ", "event", "state", "epoch", "batch", "update", "callbacks")


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
        claims: What was claimed, as it is written.
        given: Whether the grammar was the user's.
        absent: The callbacks that it does not need.
    """

    invariant: Invariant
    objection: Objection
    case: Case
    seen: Observed
    stack: tuple[str, ...]
    factory: str
    claims: tuple[str, ...] = ()
    given: bool = False
    absent: tuple[str, ...] = ()

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
        marked, number = self.objection.at, len(self.seen.heard)
        last = number - 1 if marked is None else marked
        first, end = max(0, last - BEFORE), last + BEHIND + 1
        first, end = 0 if first < FEW else first, number if number - end < FEW else end
        rows = [HEAD, *(self._row(at, self.seen.heard[at], marked) for at in range(first, end))]
        texts = aligned(rows, "<")
        yield texts[0]
        yield from ["..."] if first else []
        yield from texts[1:]
        yield from ["..."] if end < number else []

    def _row(self, number: int, heard: Heard, marked: int | None) -> tuple[str, ...]:
        epoch, batch, _, updates, *_ = heard.counters
        calls = [call for call in self.seen.calls if call.at == number + 1]
        called = ", ".join(
            (call.who if call.hears else f"{call.who}.{name_of(call.word)}?") + (" raises" if call.raised else "")
            for call in calls
        )
        mark = ">" if number == marked else " "
        event = "  " * heard.depth + heard.name
        return mark, event, name_of(heard.state), str(epoch), str(batch), str(updates), called

    @property
    def program(self) -> str:
        """Python that carries the case out again, and raises what was found."""
        names = {"Case", "Plan", "check_case", *(word for word in KIT if f"{word}(" in " ".join(self.claims))}
        names |= {word for word in ("Script", "Fault") if f"{word}(" in self.case.code}
        names |= {"Way"} if "Way." in self.case.code else set()
        name, found = _imported(self.factory)
        without = f"# without {', '.join(self.absent)}\n" if self.absent else ""
        more = "".join(f", {claim}" for claim in self.claims) + (", grammar=..." if self.given else "")
        return (
            f"from engine.testing import {', '.join(sorted(names))}\n"
            f"{found}\n\n"
            f"{without}check_case({name}, {self.case.code}{more})"
        )


def _imported(factory: str) -> tuple[str, str]:
    """What a factory is called in a program, and the line that finds it."""
    module, _, name = factory.partition(":")
    if "<" in name or not name:
        return "factory", f"# factory = {name or 'the factory'} of {module}, which stands inside a function"
    return name, f"from {module} import {name.partition('.')[0]}"


def _indented(text: str, by: int = 2) -> list[str]:
    return [f"{' ' * by}{line}".rstrip() for line in text.splitlines()]
