"""Can a claim about the order be proved?  It is walked with the machine: it holds, or a shortest way breaks it.

Where a counter-example needs a guard that none of the callbacks answers, it is none for them.
"""

from collections.abc import Collection
from enum import Enum

from attrs import frozen

from engine.engine import Engine
from states import Machine, StateloopError
from states.claims import Claim
from states.explore import Broken, Listening, explore, heard_in, stops
from states.names import name_of


@frozen(eq=False)
class Verdict:
    """How a claim holds.

    Attributes:
        claim: The claim.
        states: Over how many states it was walked: of the machine, together with the claim.
        among: The guards that may say yes there; all, where nothing is said.
        counter: A shortest way to break it, which no run has gone; `None` where it is proved.
        runs: In how many runs it held, where it is not proved.
    """

    claim: Claim
    states: int
    among: tuple[str, ...] | None
    counter: Broken | None = None
    runs: int = 0

    def __str__(self) -> str:
        guards = "every guard" if self.among is None else ", ".join(self.among) or "no guard"
        if self.counter is None:
            return f"{self.claim.code}: proved over {self.states} states, for any fault and any answer of {guards}"
        return f"{self.claim.code}: held in {self.runs} runs, not proved: {told(self.counter)}"


class ClaimBroken(StateloopError, AssertionError):
    """A claim does not hold; the message is a shortest way to break it.

    Attributes:
        claim: The claim.
        counter: The way.
    """

    def __init__(self, verdict: Verdict) -> None:
        assert verdict.counter is not None, "it does not hold"
        self.claim, self.counter = verdict.claim, verdict.counter
        super().__init__(f"{self.claim.code} does not hold: {self.claim.sentence}\n  {told(self.counter)}")


def walked(machine: Machine, claim: Claim, among: Collection[Enum] | None) -> Verdict:
    """What the product of a machine and a claim says."""
    monitor = Listening(claim.order(heard_in(machine)))
    explored = explore(machine, {claim.code: monitor}, answering=among)
    names = None if among is None else tuple(sorted(map(name_of, among)))
    return Verdict(claim, explored.states, names, next(iter(explored.broken), None))


def answering(engine: Engine) -> frozenset[Enum]:
    """The guards that may say yes in the runs of an engine: those that somebody answers, and those of `run.stop`."""
    listeners = engine._registry.arranged()  # noqa: SLF001  # as in `watched`
    return stops(engine.machine) | {guard for one in listeners for guard in one.answers}


def told(broken: Broken) -> str:
    """A shortest way to break a claim, a line for each row."""
    *way, last = broken.way
    end = "" if broken.at < len(broken.trace) else "\n      and then the run is over"
    rows = "".join(f"\n      {stride}" for stride in way)
    return f"shortest way to break it:{rows}\n    > {last}{end}"
