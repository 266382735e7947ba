"""What is tested?  A factory of engines, with a few batches of its loaders that every run gets again."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import cycle, islice
from typing import Any

from attrs import define, field

from engine.engine import Engine
from engine.errors import ArgumentRefused
from engine.target import made_by
from engine.testing.runs.quiet import quiet
from states import Machine
from states.errors import typed
from states.walk import Plan


# An engine, or a pair of one and fit's arguments; made anew for each run.
Factory = Callable[[], Any]
# How many batches of a loader are drawn, once; a plan that asks for more gets them again.
DRAWN = 4


@define(eq=False)
class Subject:
    """A factory, and the first batches of its loaders.

    Raises:
        ArgumentRefused: the factory gives no engine, or no loader to train with.
    """

    factory: Factory
    name: str = field(init=False)
    machine: Machine = field(init=False)
    train: list[Any] = field(init=False)
    valid: list[Any] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make one engine, to see what it is and to draw its batches."""
        if not callable(self.factory):
            raise ArgumentRefused(
                f"the factory is {typed(self.factory)}",
                allowed="a function without arguments that gives (Engine, dict of fit's arguments)",
                instead="wrap the engine in a function that makes it: each run needs an engine of its own",
            )
        self.name = f"{getattr(self.factory, '__module__', '')}:{getattr(self.factory, '__qualname__', 'factory')}"
        engine, arguments = self.make()
        if arguments.get("train_loader") is None:
            raise ArgumentRefused(
                f"{self.name} gives no train_loader",
                allowed="a pair (Engine, dict of fit's arguments)",
                instead='return engine, {"train_loader": a few small batches}: callbacks look at real ones',
            )
        self.machine = engine.machine
        self.train = list(islice(arguments["train_loader"], DRAWN))
        valid = arguments.get("valid_loader")
        self.valid = None if valid is None else list(islice(valid, DRAWN))

    def make(self) -> tuple[Engine, Mapping[str, Any]]:
        """A new engine, with the arguments that go with it."""
        with quiet():
            made, arguments = made_by(self.factory(), self.name)
        if isinstance(made, Machine):
            raise ArgumentRefused(
                f"{self.name} gives a Machine",
                allowed="an Engine, with the callbacks that are to be tested",
                instead="order_of(machine, ...) proves claims about a machine",
            )
        return made, arguments

    def planned(self, plan: Plan) -> dict[str, Any]:
        """The arguments of `fit` that a plan gives."""
        train, valid = self.loaders(plan)
        return {"train_loader": train, "valid_loader": valid, "epochs": plan.epochs, "max_updates": plan.max_updates}

    def loaders(self, plan: Plan) -> tuple[list[Any], list[Any] | None]:
        """Loaders as long as a plan says: copies, so that the next run does not see what a callback does to a batch."""
        valid = None if plan.valid_batches is None or not self.valid else _so_many(self.valid, plan.valid_batches)
        return _so_many(self.train, plan.batches), valid


def _so_many(batches: list[Any], number: int) -> list[Any]:
    return [deepcopy(batch) for batch in islice(cycle(batches), number)]
