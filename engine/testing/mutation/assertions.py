"""What do a user's own callbacks and claims notice?  A few trainings in which nobody else listens or answers.

A test for `survivors`: the judges of the kit have no say in it, for what they notice says nothing about the user's.
"""

from collections.abc import Callable, Iterator
from typing import Any

from attrs import define

from engine.testing.report import OrderBroken
from engine.testing.runs.carry_out import prepared
from engine.testing.runs.cases import Case
from engine.testing.runs.observer import FIRST, Observer
from engine.testing.runs.quiet import quiet
from engine.testing.runs.subject import Factory, Subject
from states.claims import Claim
from states.explore import heard_in
from states.names import name_of
from states.walk import Plan


# Behind so many transitions a stop is asked for: in the first batch.
SOON = 6
Training = Callable[[Observer, dict[str, Any]], object]


class _Fault(Exception):
    """What a loader raises on purpose."""


@define(eq=False)
class OwnAssertions:
    """A test that fails where a callback raises or a claim is broken: in order, stopped and dying.

    Args:
        factory: Gives an engine and the arguments of its `fit`, anew for each training.
        claims: What is claimed of each trace.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from states.claims import never
        >>> def factory():
        ...     model = torch.nn.Linear(1, 1)
        ...     engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        ...     return engine, {"train_loader": [(torch.ones(2, 1), torch.zeros(2, 1))]}
        >>> OwnAssertions.of(factory)()
        >>> OwnAssertions.of(factory, never("step_end"))()
        Traceback (most recent call last):
            ...
        engine.testing.report.OrderBroken: never('step_end') does not hold: step_end is never heard
    """

    subject: Subject
    claims: tuple[Claim, ...]

    @classmethod
    def of(cls, factory: Factory, *claims: Claim) -> "OwnAssertions":
        """The test of what a factory gives."""
        return cls(Subject(factory), claims)

    def __call__(self) -> None:
        """Train a few times, and raise what is wrong with the first that is not right."""
        valid = None if self.subject.valid is None else 1
        one, more = Plan(epochs=1, batches=1, valid_batches=valid), Plan(epochs=2, batches=3, valid_batches=valid)
        for plan, training in (
            (one, _fitted),
            (more, _fitted),
            (Plan(epochs=2, batches=3, valid_batches=valid, max_updates=2), _fitted),
            (more, _stopped),
            (more, _failed),
        ):
            with quiet():
                self._judge(self._trained(plan, training))

    def _trained(self, plan: Plan, training: Training) -> tuple[str, ...]:
        """Train once, and give the trace; nobody hears it where nothing is claimed."""
        observer, arguments = prepared(self.subject, Case(plan))
        if self.claims:
            events = {name_of(event): event for event in heard_in(self.subject.machine)}
            observer.engine.add(observer.listening(FIRST, events))
        training(observer, arguments)
        return observer.seen.trace

    def _judge(self, trace: tuple[str, ...]) -> None:
        for claim in self.claims:
            if not claim.order(heard_in(self.subject.machine)).judge(trace).legal:
                raise OrderBroken([], (), f"{claim.code} does not hold: {claim.sentence}")


def _fitted(observer: Observer, arguments: dict[str, Any]) -> None:
    observer.engine.fit(**arguments)


def _stopped(observer: Observer, arguments: dict[str, Any]) -> None:
    """Somebody asks for a stop in the first batch."""
    run = observer.engine.start(**arguments)
    for number, _ in enumerate(iter(run.advance, None)):
        if number == SOON:
            run.stop("the test asks for it")


def _failed(observer: Observer, arguments: dict[str, Any]) -> None:
    """The loader raises in the second batch."""
    first, *_ = arguments["train_loader"]

    def loader() -> Iterator[Any]:
        yield first
        raise _Fault

    try:
        observer.engine.fit(**{**arguments, "train_loader": loader()})
    except _Fault:
        return
    raise OrderBroken([], (), "a loader raised, and the run went on")
