"""What does `module:factory` name?  An engine with the arguments of its `fit`, or a bare machine.

Nothing here imports torch before the user's module does, or an engine is asked for.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from engine.errors import Refused, hint
from states import Machine
from states.errors import nearest, shown, typed


if TYPE_CHECKING:
    from engine.engine import Engine

FitArguments = Mapping[str, Any]

PAIR = "a pair (Engine, dict of fit's arguments)"
FACTORY = f"a function without arguments that returns an Engine, or {PAIR}; a Machine, to prove or draw it"


class TargetRefused(Refused):
    """A `module:factory` names nothing that could be used."""

    @classmethod
    def of(cls, what: str, allowed: str, instead: str) -> "TargetRefused":
        """The error with its three parts."""
        return cls(what, allowed=allowed, instead=instead)


def load_engine(target: str, app_dir: str) -> "tuple[Engine, FitArguments]":
    """As `load`, where a bare machine is not enough."""
    made, arguments = load(target, app_dir)
    if isinstance(made, Machine):
        raise TargetRefused.of(f"{target} is a Machine", FACTORY, "write one that gives Engine(..., machine=...)")
    return made, arguments


def load(target: str, app_dir: str) -> "tuple[Machine | Engine, FitArguments]":
    """What `module:factory` gives; a function is called, an Engine or a Machine is taken as it is."""
    made = _find(target, app_dir)
    return made_by(_callable(made, target)() if callable(made) else made, target)


def load_factory(target: str, app_dir: str) -> Callable[[], object]:
    """The function itself that `module:factory` names, to be called anew for each run; nothing is made yet."""
    found = _find(target, app_dir)
    if callable(found):
        return _callable(found, target)
    raise TargetRefused.of(f"{target} is {typed(found)}", FACTORY, "write a function: each run needs a new engine")


def _callable(found: Callable[..., object], target: str) -> Callable[[], object]:
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        raise TargetRefused.of(f"{target} cannot be called without arguments", FACTORY, "wrap it in one") from None
    return found


def made_by(made: object, target: str) -> "tuple[Machine | Engine, FitArguments]":
    """What a factory has made, looked at: a Machine, or an Engine with the arguments that go with it."""
    if isinstance(made, Machine):
        return made, {}
    from engine.engine import Engine  # noqa: PLC0415  # it imports torch

    match made if isinstance(made, tuple) else (made, {}):
        case (Engine() as engine, Mapping() as arguments):
            known = list(inspect.signature(Engine.fit).parameters)[1:]
            for name in arguments:
                if name not in known:
                    raise TargetRefused.of(
                        f"{target} gives fit an argument {name!r}", ", ".join(known), hint(str(name), known)
                    )
            return engine, arguments
        case _:
            pass
    raise TargetRefused.of(f"{target} gives {shown(made)}, {typed(made)}", FACTORY, "return one of these")


def _find(target: str, app_dir: str) -> object:
    """The object that is named; an ImportError inside the user's module is the user's to see."""
    module_name, _, path = target.partition(":")
    if module_name.endswith(".py") or not all(
        part.isidentifier() for part in (*module_name.split("."), *path.split("."))
    ):
        like = module_name.removesuffix(".py").strip("./").replace("/", ".") or "examples.digits"
        raise TargetRefused.of(
            f"{target!r} names no factory", "MODULE:FACTORY", f"write for example {like}:{path or 'factory'}"
        )
    sys.path.insert(0, app_dir)
    try:
        found: object = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise TargetRefused.of(
            f"no module is called {error.name!r}",
            f"a module in {app_dir}, or an installed one",
            "change to the folder that holds it, or name that folder: --app-dir FOLDER",
        ) from None
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            fitting = _fitting(found)
            instead = nearest(part, fitting) if fitting else "write such a function there"
            raise TargetRefused.of(f"{module_name} has no {path!r}", FACTORY, instead) from None
    return found


def _fitting(module: object) -> list[str]:
    """The names in a module that could be meant: machines, engines, and functions of its own without arguments."""
    here = getattr(module, "__name__", "")
    return [
        name
        for name, value in getattr(module, "__dict__", {}).items()
        if not name.startswith("_") and (_stands_ready(value) or _is_factory(value, here))
    ]


def _stands_ready(value: object) -> bool:
    """Whether a value is a machine, or an engine with or without its arguments; nothing is imported to find out."""
    if isinstance(value, Machine):
        return True
    engines = sys.modules.get("engine.engine")
    return engines is not None and isinstance(value[0] if isinstance(value, tuple) and value else value, engines.Engine)


def _is_factory(value: object, here: str) -> bool:
    """Whether a value is a function that a module defines itself, and that can be called without arguments."""
    if not callable(value) or inspect.isclass(value) or getattr(value, "__module__", None) != here:
        return False
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError):
        return False
    return True
