"""Can a function be called with a run alone, and would it do its work then?  If not, how is it called?"""

import inspect
from collections.abc import Callable

from engine.errors import CallbackRefused
from states.errors import typed


# What the usual method of a callback takes.
SELF_AND_RUN = 2
# What a call may leave out: *args and **kwargs.
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_signature(function: object, where: str, instead: str = "write def function(run)") -> None:
    """Refuse what cannot be called as `function(run)`, or would do nothing then."""
    if wrong := _wrong(function):
        raise CallbackRefused(
            f"{where} {wrong}",
            allowed="a plain function or method that takes one argument, the run",
            instead=instead,
        )


def _wrong(function: object) -> str:
    """Why a call with a run alone would not do the work of a function; nothing, if it would."""
    if inspect.ismethod(function) and _takes_self_and_run(function.__func__):
        return ""
    if not callable(function):
        return f"cannot be called with a run alone: it is {typed(function)}"
    if told := _other_arguments(function):
        return f"cannot be called with a run alone: it takes {told}"
    return _waits(function) or _waits(getattr(function, "__call__", None))  # noqa: B004  # an async __call__


def _other_arguments(function: Callable[..., object]) -> str:
    """What it takes, if it cannot be called with a run alone; nothing, if it can."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C do not tell theirs
        return ""
    try:
        signature.bind(None)
    except TypeError:
        return str(signature)
    return ""


def _takes_self_and_run(function: object) -> bool:
    """Whether this is the usual case, told by its code: making a signature costs twenty times as much."""
    code = function.__code__ if inspect.isfunction(function) else None
    waits = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    return code is not None and code.co_argcount == SELF_AND_RUN and not code.co_kwonlyargcount | code.co_flags & waits


def _waits(function: object) -> str:
    """What a call would give instead of doing the work: nothing would run, and nobody would notice."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "is async, and nobody would wait for it"
    return "is a generator, and nobody would go through it" if inspect.isgeneratorfunction(function) else ""


def called(callback: Callable[..., object]) -> str:
    """How something is called, with the arguments that it needs.

    Example:
        >>> called(check_signature)
        'check_signature(function, where)'
    """
    try:
        parameters = inspect.signature(callback).parameters.values()
    except ValueError:  # some that are written in C do not tell
        return f"{named(callback)}(...)"
    needed = [one for one in parameters if one.default is one.empty and one.kind not in VARIADIC]
    told = (f"{one.name}=..." if one.kind is one.KEYWORD_ONLY else one.name for one in needed)
    return f"{named(callback)}({', '.join(told)})"


def named(function: object) -> str:
    """The name of a function; of what has none, that of its class."""
    return getattr(function, "__name__", type(function).__name__)
