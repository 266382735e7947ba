"""What are the runs of a subject judged by?  An order of events, the user's claims, and its own undisturbed runs."""

from collections.abc import Collection, Mapping

from attrs import field, frozen

from engine.testing.runs.carry_out import carry_out
from engine.testing.runs.cases import Case, Way
from engine.testing.runs.observed import Observed
from engine.testing.runs.subject import Subject
from states import TRAINING, Grammar
from states.claims import Claim
from states.explore import heard_in
from states.grammar import TRAINING_ORDER
from states.order import Order
from states.strides import Strides
from states.walk import Plan


GIVEN = "the grammar that was given"


@frozen(eq=False)
class Standard:
    """What the runs of a subject are judged by.

    Attributes:
        subject: Who is tested.
        order: Which order of events is legal.
        whose: Whose order it is, in words.
        independent: Whether it knows nothing of the table.
        claims: What the user claims of it, with the order that each is.
    """

    subject: Subject
    order: Order
    whose: str
    independent: bool
    claims: Mapping[Claim, Order] = field(factory=dict)

    # All that may happen under a plan.
    _strides: dict[Plan, Strides] = field(init=False, factory=dict)
    # Runs of the plan alone, for comparison.
    _plain: dict[Case, Observed] = field(init=False, factory=dict)

    def strides(self, plan: Plan) -> Strides:
        """All that may happen under a plan."""
        return self._strides.setdefault(plan, Strides(self.subject.machine, plan, None, faults=True))

    def plain(self, case: Case) -> Observed:
        """A run of the same plan, callbacks and turns, where no guard is made to say yes and nothing is raised."""
        bare = Case(case.plan, turns=case.turns, left_out=case.left_out, way=Way.ADVANCE)
        if bare not in self._plain:
            self._plain[bare] = carry_out(self.subject, bare).seen
        return self._plain[bare]


def standard_of(subject: Subject, claims: Collection[Claim], grammar: Grammar | None) -> Standard:
    """What a subject is judged by."""
    machine = subject.machine
    if grammar is not None:
        judge = (grammar.order, GIVEN, True)
    elif machine == TRAINING:
        judge = (TRAINING_ORDER.order, "the grammar written by hand", True)
    else:
        judge = (machine.order, "the order read off the machine's own rows, which is no independent judge", False)
    events = heard_in(machine)
    standard = Standard(subject, *judge, {claim: claim.order(events) for claim in claims})
    for way in Way:  # what is loaded or set up once, is so before the first run that is judged
        carry_out(subject, Case(subject.suited(Plan(epochs=1, batches=1)), way=way))
    return standard
