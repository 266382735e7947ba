"""How is a case carried out?  On a new engine, watched from the first event to the last, leaving nothing behind."""

from contextlib import suppress
from typing import Any

from engine.engine import Engine
from engine.testing.left.leaks import Leak, consumed, left_behind, watch_modes, who_left
from engine.testing.left.stock import put_back, take_stock
from engine.testing.pairs.snapshot import listeners_of, own_of
from engine.testing.runs.cases import Case
from engine.testing.runs.observed import Observed
from engine.testing.runs.observer import Observer
from engine.testing.runs.quiet import quiet
from engine.testing.runs.subject import Subject
from engine.testing.watched import watch


def carry_out(subject: Subject, case: Case) -> Observer:
    """Run a training as a case says, on a new engine.

    Args:
        subject: Who is tested.
        case: What the run is given.

    Returns:
        Who watched it, and still watches that engine.
    """
    with quiet():
        observer, arguments = prepared(subject, case)
        draws, modes = consumed(observer.engine), watch_modes(observer.engine)
        observer.join()
        before = take_stock(observer.engine)
        seen = observer.observe(arguments)
        seen.leaks = (*left_behind(before, take_stock(observer.engine)), *draws, *modes)
        put_back(before)
    return observer


def prepared(subject: Subject, case: Case) -> tuple[Observer, dict[str, Any]]:
    """An engine ready for a case, watched, and the arguments of its `fit`."""
    engine, arguments = subject.make()
    arrange(engine, case)
    observer = Observer(case, engine)
    watch(engine, observer.around)
    return observer, subject.planned(case.plan, arguments)


def whose(subject: Subject, case: Case) -> tuple[Leak, ...]:
    """What the callbacks leave behind when a case is carried out once more, with a look around each call."""
    with quiet():
        observer, arguments = prepared(subject, case)

        def go() -> None:
            observer.join()
            observer.observe(arguments)

        return who_left(observer.engine, go)


def carry_out_again(subject: Subject, observer: Observer) -> Observed:
    """A second training of the same engine, from the weights and random numbers that a new one begins with."""
    engine = observer.engine
    with quiet():
        fresh, arguments = subject.make()
        _begin_anew(engine, fresh)
        before = take_stock(engine)
        seen = observer.observe_again(subject.planned(observer.case.plan, arguments))
        put_back(before)
    return seen


def _begin_anew(engine: Engine, fresh: Engine) -> None:
    """Give an engine the weights and the optimizer of a new one, as far as callbacks have left what there was."""
    with suppress(RuntimeError):  # more parts, or others: what fits is loaded all the same
        engine.model.load_state_dict(fresh.model.state_dict())
    if engine.optimizer is None or fresh.optimizer is None:
        return
    kept = [dict(group) for group in engine.optimizer.param_groups]
    with suppress(ValueError):  # other groups
        engine.optimizer.load_state_dict(fresh.optimizer.state_dict())
    for group, old in zip(engine.optimizer.param_groups, kept, strict=True):
        group.update({name: value for name, value in old.items() if name not in group})  # a schedule's first rate, say


def arrange(engine: Engine, case: Case) -> None:
    """Register the factory's callbacks in the turns of a case; the engine's own comes first, as ever."""
    listeners, own = listeners_of(engine), own_of(engine)
    given = listeners[len(own) :]
    listeners[:] = [*own, *(given[number] for number in case.order(len(given)))]
