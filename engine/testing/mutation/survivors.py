"""Which broken machines does a test not notice?  It is run with one fault after the other; what passes says nothing."""

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice

from attrs import field, frozen

from engine.errors import ArgumentRefused
from engine.testing.mutation.bare import difference, right_runs
from engine.testing.mutation.mutants import MOST, Mutant, in_turn, unchanged
from engine.testing.mutation.mutate import MANY, Watch, mutated
from states import Machine
from states.errors import shown


# How many times more transitions than without a fault are taken for a run without an end.
TIMES, MORE = 10, 1000
# So many that were not noticed are told in full.
LISTED = 10

Test = Callable[[], object]


@frozen
class Unnoticed:
    """A mutant that a test passes with, and what a test could look for: how it shows in a run of a bare engine."""

    mutant: Mutant
    shows: str

    def __str__(self) -> str:
        return f"{self.mutant}\n      {self.shows}"


@frozen
class MutationReport:
    """What became of some mutants.

    Attributes:
        noticed: Those that made the test fail, or go round for ever.
        unnoticed: Those with which it passed, though others could see them.
        alike: Those that nobody could tell from the machine itself, in any run of a bare engine that was tried.
        runs: How many such runs that were; none where all mutants were noticed.
    """

    noticed: tuple[Mutant, ...] = field(repr=False)
    unnoticed: tuple[Unnoticed, ...] = field(repr=False)
    alike: tuple[Mutant, ...] = field(repr=False)
    runs: int

    def __str__(self) -> str:
        number, every = len(self.noticed), len(self.noticed) + len(self.unnoticed)
        lines = [f"{number} of {every} broken machines were noticed"]
        lines += ["not noticed:", *(f"  - {one}" for one in self.unnoticed[:LISTED])] if self.unnoticed else []
        if rest := self.unnoticed[LISTED:]:
            families = Counter(one.mutant.family for one in rest)
            more = ", ".join(f"{family} ({count})" for family, count in families.items())
            lines.append(f"  and {len(rest)} more: {more}")
        if self.unnoticed:
            lines.append(
                "most are noticed by a test that holds the whole trace against the machine: see `trace`, `order_of`"
            )
        if self.alike:
            lines.append(f"nothing that anybody could see in {self.runs} runs:")
            lines += [f"  - {one}" for one in self.alike]
        return "\n".join(lines)


def survivors(
    machine: Machine,
    test: Test,
    mutants: Iterable[Mutant] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> MutationReport:
    """Run a test with one broken machine after the other, and tell which it does not notice.

    Args:
        machine: The machine that the test trains with.
        test: Called without arguments; raises if something is wrong.  It is called once for each mutant, so it makes
            model, engine and callbacks anew.
        mutants: Which to try; by default a selection of those that come into its runs: no callback is looked for that
            the test does not have.
        progress: Called behind each mutant with the number of those done and of all.

    Raises:
        ArgumentRefused: the test fails without a mutant, or runs no such machine.

    Cost: some sixty times the test; half a second more where something was not noticed.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.testing.mutation.mutants import walk_mutants
        >>> from states import TRAINING
        >>> def test():
        ...     model = torch.nn.Linear(2, 1)
        ...     engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        ...     assert engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))]).outcome.name == "COMPLETED"
        >>> print(survivors(TRAINING, test, walk_mutants(TRAINING)[-2:]))
        1 of 2 broken machines were noticed
        not noticed:
          - how a run ends: STOPPED becomes COMPLETED
              ...
    """
    watch = _unbroken(machine, test)
    tried = tuple(islice(_met(machine, watch), MOST)) if mutants is None else tuple(mutants)
    most = TIMES * watch.taken + MORE
    noticed: list[Mutant] = []
    silent: list[Mutant] = []
    for number, mutant in enumerate(tried, 1):
        (noticed if notices(test, mutant, most) else silent).append(mutant)
        if progress is not None:
            progress(number, len(tried))
    right = right_runs(machine) if silent else []
    shows = {mutant: difference(mutant, machine, right) for mutant in silent}
    unnoticed = tuple(Unnoticed(mutant, how) for mutant, how in shows.items() if how)
    return MutationReport(tuple(noticed), unnoticed, tuple(one for one, how in shows.items() if not how), len(right))


def notices(test: Test, mutant: Mutant, most: int = MANY) -> bool:
    """Whether a test raises while a mutant is in force, or would never come to its end."""
    with mutated(mutant, most=most) as watch:
        try:
            test()
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  # however it fails: pytest's own failures are no Exception
            return True
    return watch.endless


def _unbroken(machine: Machine, test: Test) -> Watch:
    """Run a test as it is."""
    with mutated(unchanged(machine)) as watch:
        try:
            test()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ArgumentRefused(
                f"the test fails without any mutant: {shown(error)}",
                allowed="a test that passes",
                instead="repair it first; what fails always notices nothing",
            ) from error
    if all(given.machine != machine for given in watch.given):
        ran = ", ".join(dict.fromkeys(given.machine.name for given in watch.given)) or "none"
        raise ArgumentRefused(
            f"the test runs no machine that is the {machine.name} it was to be tried on",
            allowed=f"the machines that it runs: {ran}",
            instead="pass the machine of its engine, engine.machine",
        )
    return watch


def _met(machine: Machine, watch: Watch) -> Iterable[Mutant]:
    """The mutants whose fault comes into the rows of some run of the test."""
    ran = {(given.machine, *(listener.label for listener in given.asker.listeners)): given for given in watch.given}
    return (mutant for mutant in in_turn(machine) if any(map(mutant.met, ran.values())))
