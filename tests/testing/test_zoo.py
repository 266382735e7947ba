"""Is each animal of the zoo found, in the case that a person would have chosen, and none of its mended twins?"""

import re
from collections.abc import Iterator
from typing import ClassVar

import pytest

from engine import Callback, Engine, Run
from engine.testing.check import check_case, order_of
from engine.testing.explain import Finding
from engine.testing.ordered import ClaimBroken
from engine.testing.pairs.commute import try_orders
from engine.testing.report import OrderBroken
from engine.testing.runs.cases import Case
from engine.testing.runs.drawn import simple_cases
from engine.testing.runs.judges import INVARIANTS
from engine.testing.runs.search import judged, simplest
from engine.testing.runs.standard import standard_of
from engine.testing.runs.subject import Subject
from engine.testing.runs.trial import trial
from states import TRAINING, Machine, MachineRefused
from states.claims import Claim
from states.explore import Broken, Listening, explore
from states.grammar import TRAINING_ORDER
from tests.testing import zoo_altering, zoo_early, zoo_lasting, zoo_leaving, zoo_meddling
from tests.testing.zoo import ONE, VALID, Animal, Pair, housed
from tests.testing.zoo_early import Computes, EarlyLog, FreshLoss, LogsAfter, StaleLoss
from tests.testing.zoo_machines import ACCEPTED, REFUSED, Accepted, Refused, validation_behind_the_epoch


CAGES = (zoo_early.ANIMALS, zoo_altering.ANIMALS, zoo_leaving.ANIMALS, zoo_meddling.ANIMALS, zoo_lasting.ANIMALS)
ANIMALS = [animal for cage in CAGES for animal in cage]
# So many mended twins train together: each alone would take as long.
MANY = 11
HERDS = [[kind for one in ANIMALS[at : at + MANY] for kind in one.mended] for at in range(0, len(ANIMALS), MANY)]


# An engine warns of a callback that comes or goes in the middle of a run.
pytestmark = pytest.mark.filterwarnings("ignore:a callback was (added|removed) while a run goes on")


def findings(*kinds: type[Callback], turned: bool = True) -> Iterator[Finding]:
    """All that is found in the simple cases, the simplest first; if not *turned*, as they are registered."""
    standard = standard_of(Subject(housed(*kinds)), (), None)
    for case in (case for case in simple_cases(standard) if turned or not case.turns):
        yield from (simplest(standard, one) for one in judged(trial(standard, case), INVARIANTS.values()))


@pytest.mark.parametrize("animal", ANIMALS, ids=str)
def test_each_animal_is_found_first_in_the_case_that_a_person_would_choose_and_blamed(animal: Animal) -> None:
    finding = next(findings(*animal.broken))
    assert (finding.invariant.name, finding.case) == (animal.invariant, animal.case)
    assert animal.says in finding.objection.what
    assert finding.objection.who in {"", str(animal)}
    assert {*finding.stack} == {"Metrics", "Recorder", *(kind.__name__ for kind in animal.broken)}


@pytest.mark.parametrize("herd", HERDS, ids=lambda herd: herd[0].__name__)
def test_nothing_is_found_in_their_mended_twins(herd: list[type[Callback]]) -> None:
    assert [str(finding) for finding in findings(*herd, turned=False)] == []


def test_nothing_is_found_in_two_of_whom_one_says_that_it_comes_later_whatever_order_they_are_registered_in() -> None:
    assert [str(finding) for finding in findings(Computes, LogsAfter)] == []


@pytest.mark.parametrize("pair", zoo_meddling.PAIRS, ids=str)
def test_whose_order_matters_is_found_by_what_differs_first_and_not_where_it_is_declared(pair: Pair) -> None:
    (conflict,) = try_orders(housed(*pair.broken)).conflicts
    assert {conflict.one, conflict.other} == {kind.__name__ for kind in pair.broken}
    assert (conflict.field, conflict.word, conflict.epoch) == (pair.field, "epoch_end", 0)
    assert not try_orders(housed(*pair.mended)).conflicts


def test_the_innocent_are_left_out_of_what_is_shown() -> None:
    finding = next(findings(EarlyLog, StaleLoss, FreshLoss))
    assert finding.stack == ("Metrics", "Recorder", "StaleLoss")
    assert (finding.case.left_out, finding.case.plan) == ({0, 2}, ONE)


def test_what_is_not_shown_each_time_is_said_to_be_so() -> None:
    class EveryThird(Callback):
        seen: ClassVar[list[int]] = []

        def on_batch_end(self, run: Run) -> None:
            self.seen.append(run.batch_index)
            if len(self.seen) % 3 == 0:
                run.stop("three batches are enough")

    finding = next(findings(EveryThird))
    assert finding.case == Case(ONE)
    assert "(not each time: something that is kept outside the engine decides)" in finding.objection.what


def test_who_leaves_in_the_middle_of_an_epoch_was_there_in_the_declared_order() -> None:
    class HeardOnce(zoo_altering.Insider):
        def on_epoch_end(self, run: Run) -> None:
            if self in self.engine.callbacks:
                self.engine.remove(self)

    assert [str(finding) for finding in findings(HeardOnce)] == []


@pytest.mark.parametrize("machine", REFUSED, ids=lambda machine: machine.trap.partition(":")[0])
def test_each_broken_machine_is_refused_by_the_rule_with_the_shortest_path(machine: Refused) -> None:
    with pytest.raises(MachineRefused) as refused:
        machine.build()
    (first, *_) = (offence for offence in refused.value.offences if offence.rule is machine.rule)
    assert tuple(map(str, first.path)) == machine.path


@pytest.mark.parametrize("machine", ACCEPTED, ids=lambda machine: machine.trap.partition(":")[0])
def test_each_machine_that_is_only_not_the_one_that_was_meant_is_found_by_a_shortest_way(machine: Accepted) -> None:
    built = machine.build()
    assert built.proof
    broken = counter_example(machine, built)
    assert broken is not None
    assert " ".join(broken.trace[: broken.at + 1]) == machine.trace
    assert counter_example(machine, TRAINING) is None


def counter_example(machine: Accepted, built: Machine) -> Broken | None:
    """A shortest way to break what is to find the fault, in this machine."""
    by = machine.found_by
    if isinstance(by, Claim):
        try:
            order_of(built, by)
        except ClaimBroken as error:
            return error.counter
        return None
    plan = None if by is None else VALID
    found = explore(built, {"it": by or Listening(TRAINING_ORDER.order)}, plan=plan, faults=False)
    return next(iter(found.broken), None)


def test_a_machine_of_ones_own_is_judged_by_a_grammar_of_ones_own() -> None:
    def factory() -> tuple[Engine, dict[str, object]]:
        engine, arguments = housed()()
        return Engine(engine.model, engine.loss_fn, engine.optimizer, machine=validation_behind_the_epoch()), arguments

    check_case(factory, Case(VALID))
    with pytest.raises(OrderBroken, match="validate_begin is not legal here, by the grammar that was given"):
        check_case(factory, Case(VALID), grammar=TRAINING_ORDER)


def test_each_trap_is_a_real_one_and_stands_here_once() -> None:
    blamed = [animal.broken[-1] for animal in ANIMALS] + [pair.broken[-1] for pair in zoo_meddling.PAIRS]
    traps = [str(kind.__doc__) for kind in blamed] + [machine.trap for machine in (*REFUSED, *ACCEPTED)]
    assert all(re.match(r"[A-Za-z]+[\w #.,]*: \w", trap) for trap in traps), traps
    assert len({*blamed}) == len(blamed) >= 40
    assert len(REFUSED) + len(ACCEPTED) >= 17
