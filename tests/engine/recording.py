"""What do the ordering properties need?  A tiny real training, one who hears everything, one who answers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

import torch
from attrs import define, field, frozen
from torch import nn

from engine import Callback, Engine
from engine.run import Run
from states import TRAINING, Counter, Event, Guard, Machine
from states.names import name_of
from states.walk import Answers, Hearing, Plan, Step, walk


@frozen
class Heard:
    """One event as somebody heard it."""

    who: str
    event: Enum
    state: Enum
    counters: Mapping[Counter, int] = field(hash=False)


def counters_of(run: Run) -> dict[Counter, int]:
    return {counter: getattr(run, name_of(counter)) for counter in Counter}


def hears_everything(
    name: str, log: list[Heard], *, order: int = 0, after: tuple[type, ...] = (), events: Iterable[Enum] = Event
) -> type[Callback]:
    """A class whose instances hear every event and write it into the log."""

    def method(event: Enum) -> Callable[[object, Run], None]:
        def on(self: object, run: Run) -> None:
            del self
            log.append(Heard(name, event, run.state, counters_of(run)))

        return on

    methods = {f"on_{name_of(event)}": method(event) for event in events}
    return type(name, (Callback,), {**methods, "order": order, "runs_after": after})


def answers_by(answers: Answers, guards: Iterable[Enum] = Guard) -> Callback:
    """A callback that answers every guard from a script."""

    def method(guard: Enum) -> Callable[[object, Run], bool]:
        def answer(self: object, run: Run) -> bool:
            del self
            return answers(guard, counters_of(run))

        return answer

    return type("Script", (Callback,), {name_of(guard): method(guard) for guard in guards})()


@define(eq=False)
class Tiny:
    """Two weights, a few samples, and a plan: the smallest training that is one."""

    plan: Plan
    callbacks: Sequence[object] = ()
    checked: bool = False
    actions: Mapping[Enum, Callable[[Run], Enum]] = field(factory=dict)
    machine: Machine = TRAINING
    engine: Engine = field(init=False)

    def __attrs_post_init__(self) -> None:
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.engine = Engine(
            model,
            nn.MSELoss(),
            optimizer,
            self.callbacks,
            machine=self.machine,
            actions=self.actions,
            checked=self.checked,
            recorder=None,  # what is heard is what a test gives
        )

    def fit(self) -> Run:
        plan = self.plan
        train, valid = batches(plan.batches), None if plan.valid_batches is None else batches(plan.valid_batches)
        return self.engine.fit(train, valid, plan.epochs, max_updates=plan.max_updates)

    @property
    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.engine.model.parameters()]


def batches(number: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(2, 1, generator=generator), torch.rand(2, 1, generator=generator)) for _ in range(number)]


def expected(plan: Plan, answers: Answers, machine: Machine = TRAINING) -> list[Step]:
    """What the reference walk over the table does under the same plan and answers."""
    return list(walk(machine, plan, answers))


def hearings(steps: Sequence[Step]) -> list[Hearing]:
    return [hearing for step in steps for hearing in (*step.first, *step.heard)]
