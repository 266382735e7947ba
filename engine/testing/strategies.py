"""Which cases does a test draw?  Plans, scripts, stacks and faults, as strategies that shrink to the simplest one.

The simplest case: no epoch, one batch, no validation, no guard that says yes, no callback.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import Phase
from hypothesis import strategies as st

from engine.errors import ArgumentRefused, hint
from engine.testing.runs.described import ERRORS, PLACES, Fault, Script, Where
from states import TRAINING, Machine
from states.errors import shown, typed
from states.names import name_of
from states.walk import Plan


Made = TypeVar("Made")

# Without the phase that looks for the lines of code that a failure runs through: here they are all ours.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)


def plans(
    *,
    max_epochs: int = 4,
    min_batches: int = 1,
    max_batches: int = 6,
    max_valid_batches: int | None = 3,
    max_updates: int | None = 6,
    endless: bool = False,
) -> st.SearchStrategy[Plan]:
    """How long a run is.

    Args:
        max_epochs: At most how many epochs.
        min_batches: At least how many batches each loader holds; a real engine takes no loader of length 0.
        max_batches: At most how many the training loader holds.
        max_valid_batches: At most how many the validation loader holds; `None`: there is never one.
        max_updates: At most how many updates complete a run; `None`: there is never such a limit.
        endless: Whether some plans go on until their updates are spent.

    Raises:
        ArgumentRefused: a bound that no plan could keep.

    Example:
        >>> from hypothesis import find
        >>> find(plans(), lambda plan: plan.batches > 1)
        Plan(epochs=0, batches=2, valid_batches=None, max_updates=None)
    """
    check_bound("max_epochs", max_epochs, 0)
    check_bound("min_batches", min_batches, 0)
    check_bound("max_batches", max_batches, min_batches)
    if max_valid_batches is not None:
        check_bound("max_valid_batches", max_valid_batches, min_batches)
    if max_updates is not None or endless:
        check_bound("max_updates", max_updates, 1)
    valid = st.none() if max_valid_batches is None else st.none() | st.integers(min_batches, max_valid_batches)
    updates = st.none() if max_updates is None else st.none() | st.integers(1, max_updates)
    ending = st.builds(
        Plan,
        epochs=st.integers(0, max_epochs),
        batches=st.integers(min_batches, max_batches),
        valid_batches=valid,
        max_updates=updates,
    )
    if not endless:
        return ending
    full = st.integers(max(min_batches, 1), max(max_batches, 1))
    limit = st.integers(1, max_updates or 1)
    return ending | st.builds(Plan, epochs=st.none(), batches=full, valid_batches=valid, max_updates=limit)


def scripts(
    machine: Machine = TRAINING, *, max_askings: int = 12, max_yes: int = 4, max_guards: int = 5
) -> st.SearchStrategy[Script]:
    """What the guards of a machine, and of those within it, answer; each says yes finitely often, so that a run ends.

    Args:
        machine: The machine.
        max_askings: Among how many first askings of a guard those with a yes are.
        max_yes: At most how many of them a guard says yes to.
        max_guards: At most how many guards say yes.

    Raises:
        ArgumentRefused: a bound that no script could keep, or what is no machine.

    Example:
        >>> from hypothesis import find
        >>> print(find(scripts(), lambda script: "skip_step" in script.yes))
        skip_step: yes at the 1st asking
    """
    check_machine(machine, "scripts")
    check_bound("max_askings", max_askings, 1)
    check_bound("max_yes", max_yes, 1)
    check_bound("max_guards", max_guards, 0)
    guards = list(dict.fromkeys(name_of(guard) for one in (machine, *machine.within) for guard in one.guards))
    if not guards:
        return st.builds(Script, st.just({}))
    # A script drops what comes twice, or not at all: lists that may not have such are harder to shrink.
    askings = st.lists(st.integers(0, max_askings - 1), max_size=max_yes)
    yes = st.dictionaries(st.sampled_from(guards), askings, max_size=min(max_guards, len(guards)))
    return st.builds(Script, yes)


def stacks(
    *makers: Callable[[], Made], min_size: int = 0, max_size: int | None = None, duplicates: bool = True
) -> st.SearchStrategy[list[Callable[[], Made]]]:
    """The callbacks of a case, in the order of registration: subsets of one's own classes, permuted, some twice.

    What is drawn are the classes themselves, so that each run gets callbacks of its own: `[make() for make in stack]`.

    Args:
        makers: Classes of callbacks, or functions without arguments that make one.
        min_size: At least how many are drawn.
        max_size: At most how many; by default as many as there are makers, with duplicates twice as many.
        duplicates: Whether one may be drawn more than once.

    Raises:
        ArgumentRefused: what cannot be called without arguments, or a bound that no stack could keep.

    Example:
        >>> from hypothesis import find
        >>> class Log: ...
        >>> class Save: ...
        >>> [make.__name__ for make in find(stacks(Log, Save), lambda stack: len(stack) > 1 and Save in stack)]
        ['Log', 'Save']
    """
    for make in makers:
        _check_maker(make)
    most = len(makers) * (2 if duplicates else 1)
    largest = most if max_size is None else max_size
    check_bound("min_size", min_size, 0, None if duplicates and makers else most)
    check_bound("max_size", largest, min_size, None if duplicates and makers else most)
    if not makers:
        return st.builds(list)
    numbers = st.lists(st.sampled_from(range(len(makers))), min_size=min_size, max_size=largest, unique=not duplicates)
    return numbers.map(lambda drawn: [makers[number] for number in drawn])


def faults(
    *, where: Sequence[Where] = PLACES, errors: Sequence[type[BaseException]] = ERRORS, max_at: int = 100
) -> st.SearchStrategy[Fault]:
    """What is raised in a run, and when: an exception or Ctrl-C.  Add `st.none()` for runs without a fault.

    Args:
        where: In what it may be raised, the simplest first.
        errors: What may be raised, the simplest first.
        max_at: The last moment, from 0; one that a run does not come to is no fault.

    Raises:
        ArgumentRefused: an unknown place, what cannot be raised, or a bound that no fault could keep.

    Example:
        >>> from hypothesis import find
        >>> print(find(faults(), lambda fault: fault.where == "guard"))
        ValueError in the 1st asking of a guard
    """
    check_bound("max_at", max_at, 0)
    _check_listed("where", where, "one or more of " + ", ".join(map(repr, PLACES)))
    _check_listed("errors", errors, "one or more classes of exceptions")
    if wrong := [place for place in where if place not in PLACES]:
        instead = hint(wrong[0], PLACES) if isinstance(wrong[0], str) else "leave it out for all of them"
        raise ArgumentRefused(f"where has {shown(wrong[0])}", allowed=", ".join(PLACES), instead=instead)
    if odd := [error for error in errors if not (inspect.isclass(error) and issubclass(error, BaseException))]:
        raise ArgumentRefused(
            f"errors has {shown(odd[0])}",
            allowed="classes of exceptions",
            instead="pass the class, as in errors=[ValueError]: each run raises one of its own",
        )
    return st.builds(Fault, st.sampled_from(list(errors)), st.integers(0, max_at), st.sampled_from(list(where)))


def check_machine(machine: object, who: str) -> None:
    """Refuse what is no machine."""
    if not isinstance(machine, Machine):
        raise ArgumentRefused(
            f"{who} was given {shown(machine)}, {typed(machine)}",
            allowed="a states.Machine",
            instead="pass engine.machine, or TRAINING",
        )


def check_bound(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuse a bound that is no whole number, or out of its own bounds."""
    if type(value) is int and value >= least and (most is None or value <= most):
        return
    raise ArgumentRefused(
        f"{name} is {shown(value)}",
        allowed=f"a whole number, {least} or more" if most is None else f"a whole number from {least} to {most}",
        instead=f"write {name}={least}, or leave it out",
    )


def _check_listed(name: str, value: object, allowed: str) -> None:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ArgumentRefused(f"{name} is {shown(value)}", allowed=allowed, instead="pass a list, or leave it out")


def _check_maker(make: object) -> None:
    """Refuse what cannot make a callback anew for each run."""
    if isinstance(make, Sequence):
        raise ArgumentRefused(
            f"stacks was given {shown(make)}",
            allowed="classes of callbacks, one after the other",
            instead="unpack it: stacks(*these)",
        )
    try:
        inspect.signature(make).bind()  # type: ignore[arg-type]  # refused here if it cannot be called
    except ValueError:  # written in C, and says nothing of its arguments
        return
    except TypeError:
        named = make.__name__ if inspect.isclass(make) else "callback"
        call = f"lambda: {named}(...)" if inspect.isclass(make) else f"lambda: {type(make).__name__}(...)"
        raise ArgumentRefused(
            f"stacks was given {shown(make)}, which cannot be called without arguments",
            allowed="classes of callbacks, or functions without arguments that make one",
            instead=f"write {call}: each run gets a callback of its own",
        ) from None
