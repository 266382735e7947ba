"""What do judges look at?  One run as it was seen, what it is judged by, and other runs of the same case."""

from functools import cached_property

from attrs import define, evolve

from engine.testing.runs.carry_out import carry_out, carry_out_again
from engine.testing.runs.cases import Case, Way
from engine.testing.runs.observed import Observed
from engine.testing.runs.observer import Observer
from engine.testing.runs.standard import Standard


@define(eq=False, slots=False)
class Trial:
    """One run, and what it is judged by.

    Attributes:
        standard: What it is judged by.
        observer: Who watched it.
        seen: What was seen.
    """

    standard: Standard
    observer: Observer
    seen: Observed

    @property
    def case(self) -> Case:
        """What the run was given."""
        return self.seen.case

    @cached_property
    def fitted(self) -> Observed:
        """The same case, by `engine.fit`."""
        return carry_out(self.standard.subject, evolve(self.case, way=Way.FIT)).seen

    @cached_property
    def again(self) -> Observed:
        """A second training of the same engine, without a fault, and with no guard made to say yes."""
        return carry_out_again(self.standard.subject, self.observer)


def trial(standard: Standard, case: Case) -> Trial:
    """Carry a case out."""
    observer = carry_out(standard.subject, case)
    return Trial(standard, observer, observer.seen)
