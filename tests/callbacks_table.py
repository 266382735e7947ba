"""Which callbacks come with the engine?  The table of docs/callbacks.md, made from the classes themselves."""

from collections.abc import Iterator

from engine import callbacks
from engine.listeners import Callback
from states import Event, Guard
from states.names import name_of


# Functions that make a callback, in the order of the page.
MAKERS = (callbacks.one_cycle, callbacks.flat_cosine, callbacks.warm_up, callbacks.sgdr)


def table() -> str:
    """A row for each class, in the order in which they are called, then one for each function."""
    classes = sorted(public(), key=lambda kind: (kind.order, kind.__name__))
    rows = [_row(kind.__name__, first_line(kind), f"{kind.order}", called(kind), kind.in_trials) for kind in classes]
    rows += [_row(f"{make.__name__}()", first_line(make), "", "makes a `Schedule`", False) for make in MAKERS]
    return "\n".join(["| | what it does | order | hears, and answers? | in trials |", "|---|---|--:|---|---|", *rows])


def public() -> Iterator[type[Callback]]:
    """The classes of callbacks that `engine.callbacks` exports."""
    for thing in vars(callbacks).values():
        if isinstance(thing, type) and issubclass(thing, Callback):
            yield thing


def called(kind: type[Callback]) -> str:
    """The events that it hears, and with a question mark the guards that it answers, in the order of a run.

    Example:
        >>> called(callbacks.Accumulate)
        '`backward_begin` `backward_end` `step_begin` `accumulate?`'
    """
    events = [name_of(event) for event in Event if hasattr(kind, f"on_{name_of(event)}")]
    guards = [f"{name_of(guard)}?" for guard in Guard if hasattr(kind, name_of(guard))]
    return " ".join(f"`{word}`" for word in (*events, *guards))


def first_line(documented: object) -> str:
    """What the first line of a docstring says, without its full stop."""
    assert documented.__doc__ is not None
    return documented.__doc__.splitlines()[0].removesuffix(".")


def _row(name: str, what: str, order: str, hears: str, in_trials: bool) -> str:
    return f"| `{name}` | {what} | {order} | {hears} | {'yes' if in_trials else ''} |"
