"""What is one run of a test given?  A case: plan, answers, fault, the turns of the callbacks, and how it is written."""

from collections.abc import Iterable
from enum import Enum, unique

from attrs import evolve, field, frozen

from engine.errors import ArgumentRefused, hint
from engine.testing.runs.described import Fault, Script
from states import Machine
from states.names import name_of
from states.walk import Plan


@unique
class Way(Enum):
    """How a training is written; the values are how people say it."""

    FIT = "engine.fit"
    ADVANCE = "engine.start, one transition at a time"
    CHECKED = "engine.fit, with checked=True"


def _numbers(numbers: Iterable[int]) -> frozenset[int]:
    return frozenset(numbers)


@frozen
class Case:
    """What one run is given; the simplest one is a training of no epoch.

    Attributes:
        plan: How many epochs, and how many batches each loader holds.
        script: Which guards say yes, and when, whatever callbacks answer; where it says no, they are asked.
        fault: What is raised, if anything.
        turns: In which order the callbacks are registered: their numbers in the order of the factory, or none for it.
        left_out: The numbers of the callbacks that are not registered.
        way: How the training is written.

    Example:
        >>> print(Case(Plan(epochs=1, batches=1), Script({"skip_batch": [0]})))
        plan     1 epoch of 1 batch
        answers  skip_batch: yes at the 1st asking
    """

    plan: Plan
    script: Script = field(factory=lambda: Script({}))
    fault: Fault | None = None
    turns: tuple[int, ...] = ()
    left_out: frozenset[int] = field(default=frozenset(), converter=_numbers)
    way: Way = Way.FIT

    def order(self, number: int) -> list[int]:
        """The numbers of the callbacks, of so many, in the order in which they are registered."""
        turns = [turn for turn in self.turns if turn < number]
        return [turn for turn in (*turns, *(set(range(number)) - {*turns})) if turn not in self.left_out]

    def __str__(self) -> str:
        parts = [("plan", worded(self.plan)), ("answers", str(self.script) if self.script.yes else "")]
        parts += [("fault", str(self.fault or "")), ("way", "" if self.way is Way.FIT else self.way.value)]
        return "\n".join(f"{name:<8} {text}" for name, text in parts if text)

    @property
    def code(self) -> str:
        """The case as Python."""
        parts = [_plan(self.plan)]
        parts += [f"Script({dict(self.script.yes)!r})"] if self.script.yes else []
        if self.fault is not None:
            parts.append(f"fault=Fault({self.fault.error.__name__}, {self.fault.at}, {self.fault.where!r})")
        parts += [f"turns={self.turns!r}"] if self.turns else []
        parts += [f"left_out={set(self.left_out)!r}"] if self.left_out else []
        parts += [f"way={self.way}"] if self.way is not Way.FIT else []
        return f"Case({', '.join(parts)})"

    def check(self, machine: Machine, number: int) -> None:
        """Refuse a guard that the machine does not have, and a callback that is not among so many.

        Raises:
            ArgumentRefused: says which.
        """
        guards = {name_of(guard) for one in (machine, *machine.within) for guard in one.guards}
        for guard in self.script.yes:
            if guard not in guards:
                raise ArgumentRefused(
                    f"the script answers {guard!r}, and {machine.name} asks no such guard",
                    allowed=", ".join(sorted(guards)),
                    instead=hint(guard, guards),
                )
        for turn in {*self.turns, *self.left_out}:
            if turn not in range(number):
                raise ArgumentRefused(
                    f"the case names the callback {turn!r} of {number}",
                    allowed=f"numbers from 0, below {number}, in the order of the factory",
                    instead="leave it out",
                )

    def without(self, number: int) -> "Case":
        """The same without one callback."""
        return evolve(self, left_out=self.left_out | {number})


def worded(plan: Plan) -> str:
    """A plan in one line.

    Example:
        >>> worded(Plan(epochs=2, batches=3, valid_batches=1, max_updates=4))
        '2 epochs of 3 batches, each validated on 1 batch; complete after 4 updates'
    """
    epochs = "epochs without end" if plan.epochs is None else _many(plan.epochs, "epoch")
    valid = "" if plan.valid_batches is None else f", each validated on {_many(plan.valid_batches, 'batch')}"
    limit = "" if plan.max_updates is None else f"; complete after {_many(plan.max_updates, 'update')}"
    return f"{epochs} of {_many(plan.batches, 'batch')}{valid}{limit}"


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}{'es' if what == 'batch' else 's'}"


def _plan(plan: Plan) -> str:
    given = {"valid_batches": plan.valid_batches, "max_updates": plan.max_updates}
    more = "".join(f", {name}={value}" for name, value in given.items() if value is not None)
    return f"Plan(epochs={plan.epochs}, batches={plan.batches}{more})"
