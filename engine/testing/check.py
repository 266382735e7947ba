"""Does the order of a user's callbacks hold?  The machine is walked, then many runs are judged by every invariant."""

from collections.abc import Collection, Mapping
from random import randrange

from attrs import evolve

from engine.commands.target import made_by
from engine.engine import Engine
from engine.errors import ArgumentRefused
from engine.testing.ordered import ClaimBroken, Verdict, answering, walked
from engine.testing.pairs.commute import try_orders
from engine.testing.report import OrderBroken, Report, Runs
from engine.testing.runs.cases import Case, Way
from engine.testing.runs.interrupts import stoppable
from engine.testing.runs.judges import INVARIANTS
from engine.testing.runs.search import Progress, Search, judged, simplest
from engine.testing.runs.standard import Standard, standard_of
from engine.testing.runs.subject import Factory, Subject
from engine.testing.runs.trial import trial
from engine.testing.walked.replay import replayed
from states import Grammar, Machine
from states.claims import Claim
from states.explore import Listening, Monitor


SEEDS = 2**32


def check_order(
    factory: Factory, *claims: Claim, runs: int = 100, seed: int | None = None, grammar: Grammar | None = None
) -> Report:
    """Train in many random ways, judge each run by every invariant, and raise with the simplest that fails.

    Args:
        factory: Gives an engine and the arguments of its `fit`, anew for each run; small ones are fast.
        claims: What else is to hold of the order.
        runs: How many runs are drawn, behind some eighty simple ones.
        seed: What they are drawn with; by default another one each time.
        grammar: The order of events that is legal; by default the one written by hand for the built-in machine, and for
            a machine of one's own that which is read off its rows, which is no independent judge.

    Raises:
        OrderBroken: an invariant does not hold.
        ArgumentRefused: the factory gives no engine, or no loader to train with.

    Example:
        >>> import torch
        >>> from engine import Callback, Engine
        >>> class Last(Callback):
        ...     def on_batch_end(self, run):
        ...         self.last = run.loss.item()
        >>> def factory():
        ...     model = torch.nn.Linear(1, 1)
        ...     engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [Last()])
        ...     return engine, {"train_loader": [(torch.ones(2, 1), torch.zeros(2, 1))]}
        >>> check_order(factory, runs=10, seed=1)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        engine.testing.report.OrderBroken: Last raises AttributeError: 'NoneType' object has no attribute 'item' ...
          plan     1 epoch of 1 batch
          answers  skip_batch: yes at the 1st asking
          stack    Metrics, Recorder, Last
        ...
    """
    __tracebackhide__ = True  # pytest shows what was found, and not where the kit raised it
    report = report_of(factory, *claims, runs=runs, seed=seed, grammar=grammar)
    report.refuse()
    return report


def check_case(factory: Factory, case: Case, *claims: Claim, grammar: Grammar | None = None) -> None:
    """Carry one case out, and raise what is wrong with it.

    Raises:
        OrderBroken: an invariant does not hold.
    """
    __tracebackhide__ = True
    standard = standard_of(Subject(factory), claims, grammar)
    case.check(standard.subject.machine, standard.subject.number)
    if findings := judged(trial(standard, case), INVARIANTS.values()):
        raise OrderBroken(findings)


def report_of(
    factory: Factory,
    *claims: Claim,
    runs: int = 100,
    seed: int | None = None,
    grammar: Grammar | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """As `check_order`; what is found is in the report.

    *progress* is called after each run with how many there were.
    """
    with stoppable(progress) as told:
        return _report(standard_of(Subject(factory), claims, grammar), claims, runs, seed, told)


def _report(standard: Standard, claims: Collection[Claim], runs: int, seed: int | None, progress: Progress) -> Report:
    machine, factory = standard.subject.machine, standard.subject.factory
    monitors: Mapping[str, Monitor] = {standard.whose: Listening(standard.order)} if standard.independent else {}
    among = answering(standard.subject.make()[0])
    proofs = tuple(walked(machine, claim, among) for claim in claims)
    seen = look_at(standard, [name for name in INVARIANTS if name != "claims"], runs=runs, seed=seed, progress=progress)
    return Report(
        standard.subject.name,
        machine.name,
        standard.whose,
        replayed(machine, monitors, ways=[Way.FIT]),
        proofs,
        try_orders(factory),
        _with_claims(seen, factory, [proof.claim for proof in proofs if proof.counter is not None], progress),
    )


def _with_claims(seen: Runs, factory: Factory, unproved: Collection[Claim], progress: Progress) -> Runs:
    """The same, and runs in which only the callbacks answer guards, judged by the claims that could not be proved."""
    if not unproved:
        return seen
    standard = standard_of(Subject(factory), unproved, None)
    claimed = look_at(standard, ["claims"], runs=seen.random, seed=seen.seed, forced=False, progress=progress)
    return evolve(seen, names=(*seen.names, *claimed.names), findings=(*seen.findings, *claimed.findings))


def look_at(
    standard: Standard,
    names: Collection[str],
    *,
    runs: int,
    seed: int | None,
    forced: bool = True,
    progress: Progress = lambda _: None,
) -> Runs:
    """Look for the simplest case that fails each of some invariants.

    Args:
        standard: What the runs are judged by.
        names: The invariants.
        runs: How many random runs, behind the simple ones.
        seed: What they are drawn with.
        forced: Whether guards are made to say yes; else only the callbacks answer them.
        progress: Called after each run with how many there were.
    """
    seed = randrange(SEEDS) if seed is None else seed  # noqa: S311  # no secret
    search = Search(standard, [INVARIANTS[name] for name in names], progress)
    simple = search.simple(forced=forced)
    search.random(runs, seed, forced=forced)
    findings = tuple(simplest(standard, one) for one in search.found.values())
    return Runs(simple, runs, seed, tuple(names), findings)


def order_of(
    target: Machine | Engine | Factory, *claims: Claim, runs: int = 100, seed: int | None = None
) -> tuple[Verdict, ...]:
    """Prove claims about the order of events, or raise with a shortest way that breaks one.

    Args:
        target: A machine: then any guard may say yes.  An engine or a factory: then those that its callbacks answer,
            and the stops, which `run.stop` asks for; where the callbacks' code is to decide, a factory is needed.
        claims: What is claimed.
        runs: Of a factory: how many runs are looked at, where a claim cannot be proved.
        seed: What they are drawn with.

    Raises:
        ClaimBroken: a claim about a machine or an engine is false.
        OrderBroken: a run of a factory's engine breaks a claim.
        ClaimRefused: a claim names an event that is never heard here.

    Cost: some ten milliseconds for each claim that can be proved.

    Example:
        >>> from states import TRAINING
        >>> from states.claims import before, each
        >>> claim = each("backward_end").followed_by("step_begin", "batch_end")
        >>> print(*order_of(TRAINING, claim))  # doctest: +ELLIPSIS
        each('backward_end').followed_by('step_begin', 'batch_end'): proved over 39 states, for any fault ...
        >>> order_of(TRAINING, before("step_end", "batch_end"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        engine.testing.ordered.ClaimBroken: before('step_end', 'batch_end') does not hold: each batch_end has a ...
          shortest way to break it:
              idle fit_asked -> train: train_begin
              train epoch_due -> epoch: epoch_begin
              epoch -> fetch
              fetch batch_ready -> batch: batch_begin
            > batch [skip_batch] -> epoch: batch_end
    """
    __tracebackhide__ = True
    if not claims:
        raise ArgumentRefused("order_of was given no claim", allowed="claims", instead='write before("a", "b"), say')
    made = target if isinstance(target, Machine | Engine) else made_by(target(), "the factory")[0]
    machine, among = (made, None) if isinstance(made, Machine) else (made.machine, answering(made))
    verdicts = [walked(machine, claim, among) for claim in claims]
    unproved = [verdict for verdict in verdicts if verdict.counter is not None]
    if not unproved:
        return tuple(verdicts)
    if isinstance(target, Machine | Engine) or isinstance(made, Machine):
        raise ClaimBroken(unproved[0])
    standard = standard_of(Subject(target), [one.claim for one in unproved], None)
    with stoppable() as progress:
        seen = look_at(standard, ["claims"], runs=runs, seed=seed, forced=False, progress=progress)
    if seen.findings:
        raise OrderBroken(seen.findings)
    return tuple(evolve(one, runs=seen.simple + seen.random if one.counter else 0) for one in verdicts)
