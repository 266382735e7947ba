"""What must hold of every run?  One judge for each invariant; each gives its objection, or nothing.

The judges know a run by what was seen of it, and by nothing that the engine says of its own order.
"""

from collections.abc import Callable, Mapping
from itertools import zip_longest

from attrs import field, frozen

from engine.errors import LoaderRefused, OptimizerRefused
from engine.listeners import Listener
from engine.outcome import ASKED, Outcome
from engine.testing.pairs.values import raw_bytes
from engine.testing.runs.cases import Way
from engine.testing.runs.observed import Called, Observed
from engine.testing.runs.trial import Trial
from states import TRAINING, Counter, Guard
from states.following import follow
from states.names import name_of
from states.strides import Heard


@frozen
class Objection:
    """What a judge has against a run.

    Attributes:
        what: What is wrong, in a sentence.
        at: The index of the event at which it shows, if there is one.
        allowed: What was legal there.
        who: The callback that it is about, if there is one.
        word: The event or guard that it was called for.
        seen: The run that it is about, if that is a second one.
    """

    what: str
    at: int | None = None
    allowed: tuple[str, ...] = ()
    who: str = ""
    word: str = ""
    seen: Observed | None = None


Judge = Callable[[Trial], Objection | None]


def _legal(trial: Trial) -> Objection | None:
    judged = trial.standard.order.judge(trial.seen.trace)
    if judged.at is not None:
        what = f"{judged.trace[judged.at]} is not legal here, by {trial.standard.whose}"
        return Objection(what, judged.at, judged.expected)
    if not judged.legal and trial.seen.trace:
        return Objection(f"the run ends, and is not over, by {trial.standard.whose}", None, judged.expected)
    return None


def _tabled(trial: Trial) -> Objection | None:
    followed = follow(trial.standard.strides(trial.case.plan), trial.seen.heard)
    if followed.at is None:
        ended = followed.over or not trial.seen.heard
        return None if ended else Objection("the run ends where the table goes on", None, _named(followed.allowed))
    heard = trial.seen.heard[followed.at]
    same = [one for one in followed.allowed if one.name == heard.name]
    return Objection(_differs(heard, same), followed.at, _named(followed.allowed))


def _differs(heard: Heard, same: list[Heard]) -> str:
    """In what an event differs from the nearest of those that the table has there."""
    if not same:
        return f"{heard.name} is heard, and the table has none here"
    best = min(same, key=lambda one: sum(a != b for a, b in zip(one.counters, heard.counters, strict=True)))
    wrong = [
        f"run.{name_of(counter)} is {is_}, and the table says {should}"
        for counter, is_, should in zip(Counter, heard.counters, best.counters, strict=True)
        if is_ != should
    ]
    if best.state is not heard.state:
        wrong.append(f"run.state is {name_of(heard.state)}, and the table says {name_of(best.state)}")
    return f"at {heard.name}, {'; '.join(wrong)}"


def _named(heard: tuple[Heard, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.name for one in heard))


def _in_turn(trial: Trial) -> Objection | None:
    expected = _Expected(trial.seen.declared, trial.observer.ours)
    calls: dict[int, list[Called]] = {}
    for call in trial.seen.calls:
        if call.hears:
            calls.setdefault(call.at - 1, []).append(call)
    for number, heard in enumerate(trial.seen.heard):
        due = expected.at(heard.name)
        were = [call.who for call in calls.get(number, [])]
        if were != due and not _cut(trial.seen, number, were, due):
            return Objection(f"at {heard.name} {_listed(were)} heard, and the declared order is {_listed(due)}", number)
    return None


def _cut(seen: Observed, number: int, were: list[str], due: list[str]) -> bool:
    """Whether the others did not hear an event because something was raised while it was heard."""
    if seen.raised is None or were != due[: len(were)]:
        return False
    return number + 1 == len(seen.heard) or seen.heard[number + 1].name == "exception"


@frozen(eq=False)
class _Expected:
    """Who is due at each hearing: those who listen, in order, as far as their filters let them."""

    declared: tuple[Listener, ...]
    # Those of the test.
    ours: list[object]
    _count: dict[tuple[str, str], int] = field(init=False, factory=dict)

    def at(self, event: str) -> list[str]:
        listeners = (one for one in self.declared if one.source not in self.ours)
        return [listener.name for listener in listeners if self._due(listener, event)]

    def _due(self, listener: Listener, event: str) -> bool:
        if event not in {name_of(one) for one in listener.hears}:
            return False
        number = self._count[listener.name, event] = self._count.get((listener.name, event), 0) + 1
        return listener.filter.lets(number)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "nobody"


def _stopped(trial: Trial) -> Objection | None:
    seen, run = trial.seen, trial.seen.run
    if run is None or seen.raised is not None:
        return None
    if "stop" in seen.trace:
        at = seen.trace.index("stop")
        late = next((n for n, name in enumerate(seen.trace[at:], at) if name.endswith("_begin")), None)
        if late is not None:
            return Objection(f"{seen.trace[late]} begins something behind a stop", late)
    stops = (stop.guard is Guard.STOP_TRAINING or stop.transition in run.machine.stops for stop in run.stops)
    wanted = Outcome.STOPPED if any(stops) else Outcome.COMPLETED
    if run.outcome is not wanted:
        said = f"the run says {run.outcome.name}, and its record of stops says {wanted.name}"
        return Objection(said, len(seen.trace) - 1)
    return None


def _skipped(trial: Trial) -> Objection | None:
    """Weights move in the engine's own step alone; what callbacks do to them while an event is heard is theirs."""
    engine, seen = trial.observer.engine, trial.seen
    if engine.actions or engine.machine != TRAINING:
        return None  # actions of the user's own may move them anywhere
    for number, (then, now) in enumerate(zip(seen.moved_then, seen.moved[1:], strict=False), 1):
        if then not in (None, now) and seen.heard[number].name != "step_end":
            asked = [call.who for call in seen.calls if call.at == number and not call.hears]
            guards = f"; asked between the two: {', '.join(asked)}" if asked else ""
            before, behind = seen.heard[number - 1].name, seen.heard[number].name
            return Objection(f"weights move between {before} and {behind}, where no step is taken{guards}", number)
    return None


def _unfailing(trial: Trial) -> Objection | None:
    call = trial.seen.failed
    if call is None:
        return None
    dying = ", while the run was dying" if "exception" in trial.seen.trace[: call.at] else ""
    at = call.at - 1 if call.at else None
    word = name_of(call.word)
    return Objection(f"{call.who} raises {_raised(call.raised)} in {word}{dying}", at, who=call.who, word=word)


def _raised(error: BaseException | None) -> str:
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _dead(trial: Trial) -> Objection | None:
    seen = trial.seen
    if seen.raised is None:
        lost = seen.fault is not None
        return Objection(f"{_raised(seen.fault)} was raised, and the run went on") if lost else None
    if seen.failed is not None or isinstance(seen.raised, LoaderRefused | OptimizerRefused):
        return None  # that is another judge's; or the plan has no loader, or the optimizer cannot do what a guard says
    if seen.fault is None:
        return Objection(f"the run raises {_raised(seen.raised)}", len(seen.trace) - 1 if seen.trace else None)
    if seen.raised is not seen.fault:
        return Objection(f"{_raised(seen.raised)} is raised in the place of {_raised(seen.fault)}", len(seen.trace) - 1)
    outcomes = (Outcome.INTERRUPTED,) if isinstance(seen.fault, KeyboardInterrupt) else (Outcome.FAILED,)
    if seen.run is not None and seen.run.outcome not in outcomes:
        return Objection(f"the run died, and says {seen.run.outcome.name}", len(seen.trace) - 1)
    return None


def _usable(trial: Trial) -> Objection | None:
    if trial.seen.failed is not None:
        return None  # that is another judge's, and a second training would fail as well
    plain = trial.standard.plain(trial.case)
    if plain.raised is not None:
        return None
    again = trial.again
    last = len(again.heard) - 1
    if (call := again.failed) is not None:
        what = f"in a second training {call.who} raises {_raised(call.raised)} in {name_of(call.word)}"
        return Objection(what, call.at - 1 if call.at else None, who=call.who, seen=again)
    if again.raised is not None:
        return Objection(f"a second training raises {_raised(again.raised)}", last, seen=again)
    for number, (one, other) in enumerate(zip_longest(again.trace, plain.trace)):
        if one != other:
            heard = f"a second training hears {one or 'nothing more'}, and that of a new engine {other or 'nothing'}"
            what = f"{heard}: a callback has kept something from the first"
            return Objection(what, min(number, last), (other,) if other else (), seen=again)
    return None


def _one_trace(trial: Trial) -> Objection | None:
    if trial.case.way is Way.FIT:
        return None
    fitted = trial.fitted
    for number, (one, other) in enumerate(zip_longest(trial.seen.heard, fitted.heard)):
        if one != other:
            here, there = one.name if one else "nothing", other.name if other else "nothing"
            return Objection(f"{here} is heard by {trial.case.way.value}, and {there} by {Way.FIT.value}", number)
    weights = trial.seen.weights
    if any(raw_bytes(weights[name]) != raw_bytes(other) for name, other in fitted.weights.items()):
        return Objection(f"the weights differ between {trial.case.way.value} and {Way.FIT.value}")
    return None


def _rehearsed(trial: Trial) -> Objection | None:
    """The dry run lists the calls of the run; where only the script answers, for it does not call the callbacks."""
    seen, engine, ours = trial.seen, trial.observer.engine, trial.observer.ours
    own = [listener for listener in seen.declared if listener.source not in ours]
    if seen.run is None or seen.raised is not None or engine.machine != TRAINING or engine.actions:
        return None
    if any(listener.answers for listener in own) or any(stop.who == ASKED for stop in seen.run.stops):
        return None
    if [*map(id, engine.callbacks)] != [id(listener.source) for listener in seen.declared]:
        return None  # somebody came or went meanwhile, for the next run
    plan, names = trial.case.plan, {listener.label: listener.name for listener in own}
    lengths = (plan.epochs, plan.batches, plan.valid_batches)
    listed = engine.dry_run(*lengths, max_updates=plan.max_updates, answers=trial.case.script.yes).calls()
    calls = [(event, names[who]) for event, who in listed if who in names]
    made = [call for call in seen.calls if call.hears]
    for call, told in zip_longest(made, calls):
        was = (name_of(call.word), call.who) if call else None
        if was != told:
            here, there = (" hears ".join(reversed(pair)) if pair else "nobody is called" for pair in (was, told))
            return Objection(f"{here}, and the dry run says that {there}", call.at - 1 if call else None)
    return None


def _tidy(trial: Trial) -> Objection | None:
    leaks = trial.seen.leaks
    return Objection(str(leaks[0]), who=leaks[0].who) if leaks else None


def _claimed(trial: Trial) -> Objection | None:
    for claim, order in trial.standard.claims.items():
        judged = order.judge(trial.seen.trace)
        if judged.at is not None or (not judged.legal and trial.seen.trace):
            return Objection(f"{claim.code} does not hold: {claim.sentence}", judged.at, judged.expected)
    return None


@frozen
class Invariant:
    """Something that holds of every run, with the judge who looks at it.

    Attributes:
        name: What it is called.
        sentence: What holds.
        judge: Who looks at it.
        most: How many findings against it are told: of callbacks that fail, one for each place where one does.
    """

    name: str
    sentence: str
    judge: Judge = field(repr=False)
    most: int = 1


INVARIANTS: Mapping[str, Invariant] = {
    one.name: one
    for one in (
        Invariant("callbacks", "no callback fails by itself, whatever guards answer and whatever dies", _unfailing, 3),
        Invariant("order", "every trace is legal, and so is each prefix", _legal),
        Invariant("table", "state and counters at each event are those of the table", _tabled),
        Invariant("turns", "all hear an event in the declared order, once, before any hears the next", _in_turn),
        Invariant("stops", "behind a stop nothing begins, and the outcome says so", _stopped),
        Invariant("skips", "what is skipped is not done: no weight moves but in a step, or by a callback", _skipped),
        Invariant("deaths", "an exception reaches the caller, and the run dies in the one way", _dead),
        Invariant("leaks", "a run leaves nothing behind, and draws no random numbers unasked", _tidy),
        Invariant("again", "a second training with the same engine is like the first", _usable),
        Invariant(
            "ways", "fit, one transition at a time and pytransitions leave one trace and the same weights", _one_trace
        ),
        Invariant("dry_run", "the dry run lists the calls of the run, where no callback decides", _rehearsed),
        Invariant("claims", "what the user claims of the order holds", _claimed),
    )
}
