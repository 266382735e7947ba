"""Who hears what, and who answers what?  Callbacks and functions, checked once, when they are registered."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from functools import partial
from typing import Any

from attrs import field, frozen
from torch.optim.lr_scheduler import LRScheduler

from engine.errors import CallbackRefused
from engine.run import Run
from engine.signatures import called, check_signature, named
from engine.vocabulary import Vocabulary
from states.errors import shown, typed
from states.names import name_of


Hear = Callable[[Run], object]
Answer = Callable[[Run], bool]

# What a callback has to be.
CALLBACK = "an object with methods on_<event>(run), or <guard>(run) -> bool"


class Callback:
    """An object that hears events and answers guards.

    A method `on_<event>(run)` hears that event; a method with the name of a guard, such as `skip_step(run) -> bool`,
    answers it.  Both are checked when the callback is registered: a name that no machine knows is an error.

    Attributes:
        order: Callbacks with a smaller order come first; equal ones in the order of registration.
        runs_after: Classes of callbacks that come before this one, whatever their order.
        uses_random: Whether it draws random numbers of torch, Python or NumPy; tests name who does so unsaid.
        in_trials: Whether it takes part in a trial, such as `engine.lr_find`, which trains and then undoes it: say so
            of what shapes a step (clipping, mixing of batches), and not of what writes files, schedules or stops.

    What must survive a restart is what its `state_dict()` gives and its `load_state_dict(state)` takes, as in torch; a
    checkpoint keeps it, and a trial puts it back.  One that writes hyperparameters of the optimizer says which, in a
    method `writes(param_groups)` that gives pairs `(number of the group, name)`: two that write the same are refused
    when a training starts.

    Example:
        >>> class GrowLR(Callback):
        ...     def on_epoch_end(self, run):
        ...         for group in run.optimizer.param_groups:
        ...             group["lr"] *= 1.1
    """

    order: int = 0
    runs_after: tuple[type, ...] = ()
    uses_random: bool = False
    in_trials: bool = False


@frozen
class Filter:
    """Which hearings of an event reach a function: every n-th, or the n-th alone.  Hearings count from 1, per run."""

    every: int = 1
    once: int | None = None

    def lets(self, hearing: int) -> bool:
        """Whether this hearing, counted from 1, gets through."""
        return hearing == self.once if self.once is not None else hearing % self.every == 0

    def around(self, hear: Hear) -> Hear:
        """A function that counts from the start and calls *hear* when its turn comes."""
        if self == Filter():
            return hear
        hearing = 0

        def filtered(run: Run) -> None:
            nonlocal hearing
            hearing += 1
            if self.lets(hearing):
                hear(run)

        return filtered

    def __str__(self) -> str:
        if self.once is not None:
            return f" (once, at {self.once})"
        return f" (every {self.every})" if self.every > 1 else ""


@frozen(eq=False)
class Listener:
    """A registered callback: what it hears and answers, found once."""

    name: str
    source: object
    hears: Mapping[Enum, Hear] = field(factory=dict)
    answers: Mapping[Enum, Answer] = field(factory=dict)
    filter: Filter = Filter()
    order: int = 0
    runs_after: tuple[type, ...] = ()

    @property
    def label(self) -> str:
        """Its name with its filter, for people."""
        return f"{self.name}{self.filter}"


def listen(callback: object, vocabulary: Vocabulary, taken: Collection[str]) -> Listener:
    """Find what a callback hears and answers; refuse what could never be called.

    Raises:
        CallbackRefused: a class, a method with an unknown name or the wrong arguments, or nothing to call.
    """
    name = type(callback).__name__
    if inspect.isclass(callback):
        raise CallbackRefused(
            f"the callback {callback.__name__} is a class",
            allowed="an instance of it",
            instead=f"write {called(callback)}",
        )
    hears, answers = {}, {}
    for attribute in dir(callback):
        if attribute.startswith("on_"):
            hears[vocabulary.heard(name, attribute)] = _method(callback, attribute)
        elif attribute in vocabulary.guards:
            answers[vocabulary.guards[attribute]] = _method(callback, attribute)
        elif not attribute.startswith("_") and _is_method(callback, attribute):
            vocabulary.refuse_misspelt(name, attribute)
    if not hears and not answers:
        raise _idle(callback)
    order, after = getattr(callback, "order", 0), getattr(callback, "runs_after", ())
    return Listener(_unique(name, taken), callback, hears, answers, Filter(), *_placed(name, order, after))


def _is_method(callback: object, attribute: str) -> bool:
    """Whether an attribute can be called; a property is not asked for its value."""
    found = inspect.getattr_static(callback, attribute)
    return callable(found) or isinstance(found, classmethod)


def _idle(callback: object) -> CallbackRefused:
    """The error for what hears nothing and answers nothing; some are met often."""
    if inspect.isroutine(callback) or isinstance(callback, partial):
        name = named(callback)
        if _makes(callback):
            return CallbackRefused(
                f"the callback {name} is a function that was not called",
                allowed=f"what it returns, if that is {CALLBACK}",
                instead=f"call it: {called(callback)}",
            )
        return CallbackRefused(
            f"the callback {name} is a function, and does not say what it hears or answers",
            allowed=CALLBACK,
            instead=f'write @engine.on("epoch_end") above it, or engine.on("epoch_end")({name}); '
            f'@engine.guard("skip_step") if it answers; {name}(...) if it makes a callback',
        )
    if isinstance(callback, (list, tuple, set, frozenset)):
        return CallbackRefused(
            f"the callback {shown(callback)} is {typed(callback)}",
            allowed=CALLBACK,
            instead="unpack it: callbacks=[*these, ...]; engine.add takes one at a time",
        )
    if isinstance(callback, LRScheduler):
        return CallbackRefused(
            f"the callback {shown(callback)} is a schedule of torch",
            allowed=CALLBACK,
            instead="wrap it: engine.callbacks.TorchSchedule(scheduler)",
        )
    return CallbackRefused(
        f"the callback {shown(callback)} hears no event and answers no guard",
        allowed=CALLBACK,
        instead="name a method after one of the events, for example on_epoch_end",
    )


def _makes(function: Callable[..., object]) -> bool:
    """Whether a function is one of our own that make a callback."""
    ours = inspect.isfunction(function) and (function.__module__ or "").startswith("engine.callbacks.")
    return ours and "." not in function.__qualname__


def hearing(function: Hear, event: Enum, which: Filter, order: int, taken: Collection[str]) -> Listener:
    """A plain function that hears one event."""
    _check_given(function, f"on({name_of(event)!r})")
    name = _unique(named(function), taken)
    return Listener(name, function, {event: function}, {}, which, *_placed(name, order, ()))


def answering(function: Answer, guard: Enum, order: int, taken: Collection[str]) -> Listener:
    """A plain function that answers one guard."""
    _check_given(function, f"guard({name_of(guard)!r})")
    name = _unique(named(function), taken)
    return Listener(name, function, {}, {guard: function}, Filter(), *_placed(name, order, ()))


def who_hears(listeners: Iterable[Listener]) -> dict[Enum, tuple[str, ...]]:
    """For each event, the callbacks that hear it, in order."""
    names: dict[Enum, tuple[str, ...]] = {}
    for listener in listeners:
        for event in listener.hears:
            names[event] = (*names.get(event, ()), listener.label)
    return names


def who_answers(listeners: Iterable[Listener]) -> dict[Enum, tuple[str, ...]]:
    """For each guard, the callbacks that answer it, in order."""
    names: dict[Enum, tuple[str, ...]] = {}
    for listener in listeners:
        for guard in listener.answers:
            names[guard] = (*names.get(guard, ()), listener.label)
    return names


def _method(callback: object, attribute: str) -> Callable[[Run], Any]:
    method = getattr(callback, attribute)
    check_signature(method, f"{type(callback).__name__}.{attribute}", f"write def {attribute}(self, run)")
    return method  # type: ignore[no-any-return]  # its signature was just checked


def _check_given(function: object, where: str) -> None:
    """Refuse a function that cannot be called as `function(run)`, and name it and where it was given."""
    name = named(function) if callable(function) else shown(function)
    check_signature(
        function, f"{name}, given to {where},", f"write def {name if name.isidentifier() else 'function'}(run)"
    )


def _placed(name: str, order: object, after: object) -> tuple[int, tuple[type, ...]]:
    if type(order) is not int:
        raise CallbackRefused(
            f"{name} has the order {shown(order)}", allowed="a whole number", instead="leave it out for 0, the default"
        )
    if not isinstance(after, tuple) or not all(inspect.isclass(other) for other in after):
        raise CallbackRefused(
            f"{name} runs after {shown(after)}", allowed="a tuple of classes", instead="write runs_after = (Other,)"
        )
    return order, after


def _unique(name: str, taken: Collection[str]) -> str:
    """The name itself, or with a number when another callback has it."""
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}#{number}"
    return unique
