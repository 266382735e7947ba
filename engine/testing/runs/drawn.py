"""Which cases is a subject tried with?  All simple ones, the simplest first; then random ones, which combine them."""

from collections.abc import Iterator
from itertools import combinations, permutations

from hypothesis import strategies as st

from engine.testing.runs.cases import Case, Way
from engine.testing.runs.described import Fault, Script
from engine.testing.runs.standard import Standard
from engine.testing.strategies import faults, plans, scripts
from states.names import name_of
from states.walk import Plan


# Of so many callbacks, all orders are tried; of more, each two of them swapped.
FEW = 3


def simple_cases(standard: Standard, *, forced: bool = True) -> Iterator[Case]:
    """One thing at a time: each plan, each guard that says yes, each event that a run dies of, each order, each way.

    Where guards are not *forced*, only the callbacks answer them.
    """
    subject = standard.subject
    valid = None if subject.valid is None else 1
    one, more = Plan(epochs=1, batches=1, valid_batches=valid), Plan(epochs=2, batches=2, valid_batches=valid)
    plain = [Plan(epochs=0, batches=1), Plan(epochs=1, batches=1), one, Plan(epochs=1, batches=2), more]
    plain += [Plan(epochs=2, batches=2, valid_batches=valid, max_updates=1)]
    yield from map(Case, dict.fromkeys(map(subject.suited, plain)))
    guards = {
        name_of(guard): guard for machine in (subject.machine, *subject.machine.within) for guard in machine.guards
    }
    for plan, asking in ((one, 0), (more, 0), (more, 1)) if forced else ():
        yield from (Case(plan, Script({guard: [asking]})) for guard in guards)
    for error in (ValueError, KeyboardInterrupt):
        yield from (Case(one, fault=Fault(error, at, "event")) for at in range(len(standard.plain(Case(one)).heard)))
    for turns in _turns(standard.subject.number):
        yield Case(more, turns=turns)
    for way in (Way.ADVANCE, Way.CHECKED):
        yield from (Case(plan, way=way) for plan in (one, more))


def random_cases(standard: Standard, *, forced: bool = True) -> st.SearchStrategy[Case]:
    """Plans, answers, faults, orders and ways at once; shrinks to the simplest."""
    subject, number = standard.subject, standard.subject.number
    plain = tuple(range(number))
    turns = st.permutations(plain).map(tuple) if number > 1 else st.just(())
    return st.builds(
        Case,
        plans(max_epochs=2, max_batches=3, max_valid_batches=None if subject.valid is None else 2, max_updates=4).map(
            subject.suited
        ),
        scripts(subject.machine, max_askings=4, max_yes=2, max_guards=3) if forced else st.just(Script({})),
        fault=st.none() | faults(where=("event", "callback", "guard"), max_at=60),
        turns=turns.map(lambda drawn: () if drawn == plain else drawn),
        way=st.sampled_from(Way),
    )


def _turns(number: int) -> Iterator[tuple[int, ...]]:
    """Other orders of so many callbacks than the one in which they are registered."""
    plain = tuple(range(number))
    if number <= FEW:
        yield from (turns for turns in permutations(plain) if turns != plain)
        return
    for one, other in combinations(plain, 2):
        swapped = {one: other, other: one}
        yield tuple(swapped.get(turn, turn) for turn in plain)
