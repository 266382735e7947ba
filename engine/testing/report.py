"""What does a check say?  What was walked and proved, a verdict for each invariant, and each finding with its case."""

from collections.abc import Iterator, Sequence

from attrs import frozen

from engine.testing.explain import Finding
from engine.testing.ordered import Verdict, told
from engine.testing.pairs.commute import Conflict, Orders
from engine.testing.runs.judges import INVARIANTS
from engine.testing.walked.replay import Replayed
from states import StateloopError


class OrderBroken(StateloopError, AssertionError):
    """Something does not hold; the message is what was found.

    Attributes:
        findings: What was found in runs.
        conflicts: Pairs of callbacks for which it matters who comes first.
    """

    def __init__(self, findings: Sequence[Finding], conflicts: Sequence[Conflict] = (), machine: str = "") -> None:
        self.findings, self.conflicts = tuple(findings), tuple(conflicts)
        super().__init__("\n\n".join(filter(None, [machine, *map(str, (*findings, *conflicts))])))


@frozen(eq=False)
class Runs:
    """What was seen of runs.

    Attributes:
        simple: How many simple cases there were.
        random: How many random runs, those of shrinking left out.
        seed: The seed that gives the same runs again.
        names: The names of the invariants that were judged in all of them.
        findings: For each invariant one, or a few that are about different callbacks.
    """

    simple: int
    random: int
    seed: int
    names: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


@frozen(eq=False)
class Report:
    """What was looked at, and what was found.

    Attributes:
        subject: Who was tested, as `module:factory`.
        machine: The name of its machine.
        whose: Whose order the traces were judged by.
        walked: All that may happen in the machine, done by a real engine.
        proofs: The user's claims, walked over the machine.
        orders: The pairs of callbacks that were tried in both orders.
        runs: The runs that were judged.
    """

    subject: str
    machine: str
    whose: str
    walked: Replayed
    proofs: tuple[Verdict, ...]
    orders: Orders
    runs: Runs

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not (self.runs.findings or self.orders.conflicts or self.machine_broken)

    @property
    def machine_broken(self) -> str:
        """What is wrong with the machine itself, in words; nothing, if nothing is."""
        walked = self.walked
        illegal = [
            f"{self.machine} lets be heard what is not legal, by {self.whose}\n  {told(one)}" for one in walked.broken
        ]
        return "\n".join([*illegal, *([str(walked)] if walked.unlike else [])])

    def refuse(self) -> None:
        """Raise what was found, if anything was."""
        __tracebackhide__ = True
        if not self.holds:
            raise OrderBroken(self.runs.findings, self.orders.conflicts, self.machine_broken)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        numbers: dict[str, list[str]] = {}
        for number, finding in enumerate(self.runs.findings, 1):
            numbers.setdefault(finding.invariant.name, []).append(str(number))
        yield f"{self.subject}, a {self.machine}; the order is judged by {self.whose}"
        yield _verdict("machine", f"{self.walked.counted}", self.machine_broken and "FAILS")
        for proof in self.proofs:
            yield _verdict("claim", str(proof), "" if proof.counter is None else "not proved")
        for name in self.runs.names:
            yield _verdict(
                name, INVARIANTS[name].sentence, f"FAILS ({', '.join(numbers[name])})" if name in numbers else ""
            )
        number = len(self.orders.pairs)
        pairs = f"{number} pair{'' if number == 1 else 's'} tried"
        tried = f"two callbacks in one place do not mind which comes first ({pairs})"
        fails = "FAILS" if self.orders.conflicts else "not tried" if self.orders.raises else ""
        yield _verdict("commute", tried, fails)
        yield f"{self.runs.simple} simple cases, {self.runs.random} random runs, seed {self.runs.seed}"
        for number, finding in enumerate(self.runs.findings, 1):
            yield f"\n{number}. {finding}"
        yield from (f"\n{text}" for text in (self.machine_broken, *map(str, self.orders.conflicts)) if text)


def _verdict(name: str, sentence: str, fails: str = "") -> str:
    return f"  {fails or 'holds':<15} {name:<10} {sentence}"
