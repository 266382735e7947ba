"""What is tested?  A factory of engines, with a few batches of its loaders that every run gets again."""

from collections.abc import Callable, Mapping
from inspect import isroutine
from itertools import islice
from typing import Any

from attrs import define, evolve, field

from engine.commands.target import made_by
from engine.engine import Engine
from engine.errors import ArgumentRefused
from engine.testing.pairs.snapshot import own_of
from engine.testing.runs.few import Few
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
    # The callbacks of its engines, and how many of them the factory registers: the engine's own are not among those.
    names: tuple[str, ...] = field(init=False)
    number: int = field(init=False)
    train: list[Any] = field(init=False)
    valid: list[Any] | None = field(init=False)
    # Whether a callback looks at a number of the validation, so that there has to be one.
    validates: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Make one engine, to see what it is and to draw its batches."""
        if not callable(self.factory):
            raise ArgumentRefused(
                f"the factory is {typed(self.factory)}",
                allowed="a function without arguments that gives (Engine, dict of fit's arguments)",
                instead="wrap the engine in a function that makes it: each run needs an engine of its own",
            )
        self.name = f"{getattr(self.factory, '__module__', '')}:{getattr(self.factory, '__qualname__', '')}"
        engine, arguments = self.make()
        if arguments.get("train_loader") is None:
            raise ArgumentRefused(
                f"{self.name} gives no train_loader",
                allowed="a pair (Engine, dict of fit's arguments)",
                instead='return engine, {"train_loader": a few small batches}: callbacks look at real ones',
            )
        self._refuse_sharing(engine, self.make()[0])
        self.machine, self.names = engine.machine, engine._registry.names  # noqa: SLF001  # as in `watched`
        self.number = len(self.names) - len(own_of(engine))
        with quiet():
            self.train = list(islice(arguments["train_loader"], DRAWN))
            valid = arguments.get("valid_loader")
            self.valid = None if valid is None else list(islice(valid, DRAWN))
        monitors = [getattr(callback, "monitor", None) for callback in engine.callbacks]
        self.validates = valid is not None and any(str(name).startswith("valid_") for name in monitors)

    def _refuse_sharing(self, one: Engine, other: Engine) -> None:
        """Refuse a factory whose engines are not apart: what a run does to one would be seen by all others."""
        pairs = [("engine", one, other), ("model", one.model, other.model)]
        pairs += [("optimizer", one.optimizer, other.optimizer)] if one.optimizer is not None else []
        pairs += [
            ("callback", mine, yours) for mine in one.callbacks for yours in other.callbacks if not isroutine(mine)
        ]
        shared = [name for name, mine, yours in pairs if mine is yours]
        if shared:
            raise ArgumentRefused(
                f"{self.name} gives the same {shared[0]} each time that it is called",
                allowed="a factory whose engines have nothing in common",
                instead=f"make the {shared[0]} inside the function: each run needs one of its own",
            )

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

    def suited(self, plan: Plan) -> Plan:
        """A plan, with a validation where there has to be one."""
        return evolve(plan, valid_batches=1) if self.validates and plan.valid_batches is None else plan

    def planned(self, plan: Plan, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `fit` that a plan gives, in the place of those of the factory."""
        valid = self.valid if plan.valid_batches else None
        return {
            "train_loader": Few(self.train, plan.batches, arguments["train_loader"]),
            "valid_loader": None if valid is None else Few(valid, plan.valid_batches or 0, arguments["valid_loader"]),
            "epochs": plan.epochs,
            "max_updates": plan.max_updates,
        }
