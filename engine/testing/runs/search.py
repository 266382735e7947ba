"""How is the simplest fault found?  Simple cases first, then random ones, each judged by all that are still open."""

from collections.abc import Callable, Collection, Iterable, Iterator

from attrs import define, evolve, field
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.database import ExampleDatabase
from hypothesis.errors import Flaky

from engine.testing.explain import Finding
from engine.testing.runs.carry_out import whose
from engine.testing.runs.cases import Case
from engine.testing.runs.drawn import random_cases, simple_cases
from engine.testing.runs.judges import Invariant, Objection
from engine.testing.runs.standard import GIVEN, Standard
from engine.testing.runs.trial import Trial, trial
from states.names import name_of


# Called after each run, with how many there were.
Progress = Callable[[int], object]
# How often random runs begin anew, with what was not found against yet, before the rest is left.
ROUNDS = 3
# So many things that one run leaves behind are told.
LEAKS = 3


@define(eq=False)
class Search:
    """Looks for the findings against each invariant.

    Attributes:
        standard: What the runs are judged by.
        invariants: Those that are looked at.
        progress: Called after each run.
        found: What was found, by the name of the invariant, the callback and the word that it was called for.
    """

    standard: Standard
    invariants: list[Invariant]
    progress: Progress
    found: dict[tuple[str, str, str], Finding] = field(init=False, factory=dict)
    _done: int = field(init=False, default=0)

    def simple(self, *, forced: bool) -> int:
        """Try all simple cases, and say how many; the first that fails an invariant is as simple as can be."""
        for case in simple_cases(self.standard, forced=forced):
            if self.open:
                self._keep(self._judged(case))
        return self._done

    @property
    def open(self) -> list[Invariant]:
        """The invariants against which more may be found."""
        found = [name for name, _, _ in self.found]
        return [one for one in self.invariants if found.count(one.name) < one.most]

    def random(self, runs: int, chance: int, *, forced: bool) -> None:
        """Try so many random cases; look again with the rest where some fail."""
        cases = random_cases(self.standard, forced=forced)
        for _ in range(ROUNDS if self.open and runs else 0):
            last: list[Finding] = []

            def fails(case: Case, last: list[Finding] = last) -> bool:
                now = self._judged(case)
                last[:] = now or last
                return bool(now)

            key = f"stateloop {self.standard.subject.name} {[one.name for one in self.open]} {sorted(self.found)}"
            case = _drawn(cases, fails, runs, chance, key)
            self._keep(self._judged(case) if case is not None else last)
            if not last or not self.open:
                return

    def _judged(self, case: Case) -> list[Finding]:
        self._done += 1
        self.progress(self._done)
        return [one for one in judged(trial(self.standard, case), self.open) if one.key not in self.found]

    def _keep(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.found.setdefault(finding.key, finding)


class _Fails(Exception):
    """A case fails."""


class _Kept(ExampleDatabase):
    """What failed under one name: Hypothesis would keep all of it under that of the one function below."""

    def __init__(self, kept: ExampleDatabase, name: str) -> None:
        super().__init__()
        self._kept, self._name = kept, name.encode()

    def save(self, key: bytes, value: bytes) -> None:
        """Keep a case."""
        self._kept.save(self._name + key, value)

    def fetch(self, key: bytes) -> Iterable[bytes]:
        """The cases that were kept."""
        return self._kept.fetch(self._name + key)

    def delete(self, key: bytes, value: bytes) -> None:
        """Forget a case."""
        self._kept.delete(self._name + key, value)


def _drawn(
    cases: st.SearchStrategy[Case], fails: Callable[[Case], bool], runs: int, chance: int, key: str
) -> Case | None:
    """The simplest random case that fails, of those that failed before and so many others; none, if it is unsteady."""
    failed: list[Case] = []

    def test(case: Case) -> None:
        if fails(case):
            failed[:] = [case]  # the last that is tried is the simplest
            raise _Fails

    kept = settings().database
    phases = (Phase.reuse, Phase.generate, Phase.shrink)
    how = settings(max_examples=runs, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
    how = settings(how, report_multiple_bugs=False, database=kept and _Kept(kept, key), print_blob=False)
    try:
        how(seed(chance)(given(cases)(test)))()  # in this order: a seed by itself would keep nothing
    except _Fails:
        return failed[0]
    except Flaky:
        return None
    return None


def simplest(standard: Standard, finding: Finding) -> Finding:
    """The finding without the callbacks that it does not need, on the shortest plan that shows it."""
    if not judged(trial(standard, finding.case), [finding.invariant]):
        what = f"{finding.objection.what}\n  (not each time: something that is kept outside the engine decides)"
        return evolve(finding, objection=evolve(finding.objection, what=what))
    for index in range(standard.subject.number):
        finding = _shown(standard, finding, finding.case.without(index)) or finding
    while shorter := next(
        filter(None, (_shown(standard, finding, case) for case in _shorter(standard, finding.case))), None
    ):
        finding = shorter
    return finding


def _shown(standard: Standard, finding: Finding, case: Case) -> Finding | None:
    """The same finding, if this case shows it; in other turns, only if the declared order is free of it."""
    judges = [finding.invariant]
    same = (one for one in judged(trial(standard, case), judges) if one.objection.what == finding.objection.what)
    simpler = next(same, None)
    alone = not case.turns or not judged(trial(standard, evolve(case, turns=())), judges)
    return simpler if alone else None


def _shorter(standard: Standard, case: Case) -> Iterator[Case]:
    """The case on plans that are one step shorter."""
    plan = case.plan
    if plan.valid_batches is not None and not standard.subject.validates:
        yield evolve(case, plan=evolve(plan, valid_batches=None))
    if plan.max_updates is not None and plan.epochs is not None:
        yield evolve(case, plan=evolve(plan, max_updates=None))
    if plan.epochs:
        yield evolve(case, plan=evolve(plan, epochs=plan.epochs - 1))
    if plan.batches > 1:
        yield evolve(case, plan=evolve(plan, batches=plan.batches - 1))


def judged(tried: Trial, judges: Collection[Invariant]) -> list[Finding]:
    """What the judges have to say who object."""
    objections = ((invariant, invariant.judge(tried)) for invariant in judges)
    return [_told(tried, invariant, objection) for invariant, objection in objections if objection is not None]


def _told(tried: Trial, invariant: Invariant, objection: Objection) -> Finding:
    if invariant.name == "leaks":
        objection = _owned(tried, objection)
    stack = tuple(one.name for one in tried.seen.declared if one.source not in tried.observer.ours)
    standard = tried.standard
    claims = tuple(claim.code for claim in standard.claims)
    given = standard.whose == GIVEN
    absent = tuple(name for name in standard.subject.names if name not in stack)
    return Finding(
        invariant,
        objection,
        tried.case,
        objection.seen or tried.seen,
        stack,
        standard.subject.name,
        claims,
        given,
        absent,
    )


def _owned(tried: Trial, objection: Objection) -> Objection:
    """What was left behind, with the callback that left it and the event at which it did, where that can be told."""
    leaks = whose(tried.standard.subject, tried.case)
    if not leaks:
        return objection
    leak, what = leaks[0], "\n".join(map(str, leaks[:LEAKS]))
    calls = (call for call in tried.seen.calls if call.who == leak.who and name_of(call.word) == leak.word)
    at = next((call.at - 1 for call in calls if call.at), None)
    return evolve(objection, what=what, who=leak.who, at=at)
