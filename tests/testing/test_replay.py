"""Is everything that may happen done by the engine, and would a broken one be found out?"""

import os
from itertools import chain

import pytest
from hypothesis import given, reject, settings

from engine.testing.mutation.bare import difference, right_runs
from engine.testing.mutation.mutants import Mutant, mutants_of
from engine.testing.mutation.mutate import mutated
from engine.testing.runs.cases import Way
from engine.testing.walked.extensions import machines
from engine.testing.walked.replay import Unlike, replayed, replays
from states import EVALUATION, PREDICTION, TRAINING, Machine, MachineRefused
from states.explore import explore
from states.walk import Plan


BOUNDED = Plan(epochs=2, batches=1, valid_batches=1)
# More transitions than any of the walks below takes.
MANY = 10**7


@pytest.mark.parametrize("machine", [TRAINING, EVALUATION, PREDICTION], ids=lambda machine: machine.name)
def test_all_that_may_happen_in_a_built_in_machine_is_done_as_it_was_walked(machine: Machine) -> None:
    done = replayed(machine)
    assert done.unlike == ()
    assert done.explored.rows >= {*machine.rows}
    assert done.runs > len(machine.rows)


def test_pytransitions_does_the_same() -> None:
    assert replayed(TRAINING, ways=[Way.CHECKED]).unlike == ()


@pytest.mark.slow
def test_the_same_under_a_plan_where_counters_are_walked_as_well() -> None:
    """Two epochs of a batch and a validation: every answer, every fault, each by a shortest way."""
    done = replayed(TRAINING, plan=BOUNDED, ways=[Way.ADVANCE])
    assert done.unlike == ()
    assert done.explored.strides > 1000


@settings(max_examples=6)
@given(machines(max_changes=2))
def test_the_same_of_any_machine_that_is_proved(machine: Machine) -> None:
    try:
        done = replayed(machine, ways=[Way.ADVANCE])
    except MachineRefused:  # proved, but the engine's own actions report what it does not take: no engine runs it
        reject()
    assert done.unlike == ()


# Nobody can tell these from the engine as it is, and why.
ALIKE = {
    "a guard is asked again after its yes: stop_training": "a yes to it is latched: nobody is asked again",
}
FEW = 32
MOST = int(os.environ.get("MUTANTS", FEW))  # `make hunt` takes more
MUTANTS = mutants_of(TRAINING, most=MOST)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_broken_table_or_walk_is_found_out_by_the_exhaustive_walk(mutant: Mutant) -> None:
    found = found_out(mutant)
    assert found is not None or not difference(mutant, TRAINING, right_runs(TRAINING))
    if MOST == FEW:  # of these, each that cannot be told is explained
        assert (found is None) == (str(mutant) in ALIKE)


@pytest.mark.parametrize(
    "named", ["a yes is ignored: stop_validate", "a guard is asked again after its yes: stop_validate"]
)
def test_a_row_that_ends_as_a_longer_way_ends_is_told_from_it(named: str) -> None:
    """A validation that is stopped, and one whose loader is dry, are heard alike: who acts and is asked is not."""
    (mutant,) = [one for one in mutants_of(TRAINING, most=300) if str(one) == named]
    assert found_out(mutant) is not None


def found_out(mutant: Mutant) -> Unlike | None:
    """The first thing that a broken engine does otherwise; walked with counters where it is needed."""
    with mutated(mutant, most=MANY):
        walks = (replays(TRAINING, explore(TRAINING, {}, plan=plan), [Way.ADVANCE]) for plan in (None, BOUNDED))
        return next(filter(None, chain.from_iterable(walks)), None)
