"""Who hears what, who answers what, and in which order?  Callbacks and functions, checked once, when registered."""

import heapq
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

from attrs import define, field, frozen

from engine.errors import ArgumentRefused, CallbackRefused
from engine.run import Run
from states import EVALUATION, PREDICTION, TRAINING, Machine
from states.errors import nearest
from states.names import name_of


Hear = Callable[[Run], object]
Answer = Callable[[Run], bool]


class Callback:
    """An object that hears events and answers guards.

    A method `on_<event>(run)` hears that event; a method with the name of a guard, such as `skip_step(run) -> bool`,
    answers it.  Both are checked when the callback is registered: a name that no machine knows is an error.

    Attributes:
        order: Callbacks with a smaller order come first; equal ones in the order of registration.
        runs_after: Classes of callbacks that come before this one, whatever their order.

    Example:
        >>> class GrowLR(Callback):
        ...     def on_epoch_end(self, run):
        ...         for group in run.optimizer.param_groups:
        ...             group["lr"] *= 1.1
    """

    order: int = 0
    runs_after: tuple[type, ...] = ()


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


@define(eq=False)
class Vocabulary:
    """The events and guards that a callback may name: those of the engine's machine and of the built-in ones."""

    events: Mapping[str, Enum]
    guards: Mapping[str, Enum]

    @classmethod
    def of(cls, machine: Machine) -> "Vocabulary":
        """The words of a machine, of those that it holds, and of the built-in ones; the machine's own come first."""
        machines = [machine, *machine.holds.values(), TRAINING, EVALUATION, PREDICTION]
        events: dict[str, Enum] = {}
        guards: dict[str, Enum] = {}
        for m in machines:
            for event in m.events:
                events.setdefault(name_of(event), event)
            for guard in m.guards:
                guards.setdefault(name_of(guard), guard)
        return cls(events, guards)

    def event(self, name: str) -> Enum:
        """The event with this name, or an error with the nearest one."""
        return _known("event", name, self.events)

    def guard(self, name: str) -> Enum:
        """The guard with this name, or an error with the nearest one."""
        return _known("guard", name, self.guards)


def _known(kind: str, name: str, words: Mapping[str, Enum]) -> Enum:
    if not isinstance(name, str) or name not in words:
        hint = nearest(name if isinstance(name, str) else name_of(name), words)
        raise ArgumentRefused(f"no {kind} is called {name!r}", allowed=", ".join(words), instead=hint)
    return words[name]


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
            instead=f"write {callback.__name__}() with its arguments",
        )
    hears, answers = {}, {}
    for attribute in dir(callback):
        if attribute.startswith("on_"):
            event = _event_of(name, attribute, vocabulary)
            hears[event] = _method(callback, attribute)
        elif attribute in vocabulary.guards:
            answers[vocabulary.guards[attribute]] = _method(callback, attribute)
        elif not attribute.startswith("_") and callable(inspect.getattr_static(callback, attribute)):
            _refuse_misspelt(name, attribute, vocabulary)
    if not hears and not answers:
        raise CallbackRefused(
            f"the callback {callback!r} hears no event and answers no guard",
            allowed="an object with methods on_<event>(run), or <guard>(run) -> bool",
            instead="name a method after one of the events, for example on_epoch_end",
        )
    order, after = getattr(callback, "order", 0), getattr(callback, "runs_after", ())
    return Listener(_unique(name, taken), callback, hears, answers, Filter(), *_placed(name, order, after))


def hearing(function: Hear, event: Enum, which: Filter, order: int, taken: Collection[str]) -> Listener:
    """A plain function that hears one event."""
    check_signature(function, f"on({name_of(event)!r})")
    name = _unique(_name(function), taken)
    return Listener(name, function, {event: function}, {}, which, *_placed(name, order, ()))


def answering(function: Answer, guard: Enum, order: int, taken: Collection[str]) -> Listener:
    """A plain function that answers one guard."""
    check_signature(function, f"guard({name_of(guard)!r})")
    name = _unique(_name(function), taken)
    return Listener(name, function, {}, {guard: function}, Filter(), *_placed(name, order, ()))


def arrange(listeners: Sequence[Listener]) -> tuple[Listener, ...]:
    """Put listeners in order: `runs_after` first of all, then `order`, then registration.

    Raises:
        CallbackRefused: a ring in `runs_after`; the ring is named.
    """
    before = {
        index: {
            other
            for other, candidate in enumerate(listeners)
            if type(candidate.source) is not type(listener.source) and isinstance(candidate.source, listener.runs_after)
        }
        for index, listener in enumerate(listeners)
    }
    ready = [(listeners[index].order, index) for index, others in before.items() if not others]
    heapq.heapify(ready)
    arranged: list[int] = []
    while ready:
        _, done = heapq.heappop(ready)
        arranged.append(done)
        for index, others in before.items():
            if done in others:
                others.discard(done)
                if not others:
                    heapq.heappush(ready, (listeners[index].order, index))
    if len(arranged) < len(listeners):
        _refuse_ring(listeners, {index: others for index, others in before.items() if others})
    return tuple(listeners[index] for index in arranged)


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


def _event_of(name: str, attribute: str, vocabulary: Vocabulary) -> Enum:
    event = attribute.removeprefix("on_")
    if event not in vocabulary.events:
        methods = [f"on_{known}" for known in vocabulary.events]
        raise CallbackRefused(
            f"{name} has a method {attribute!r}, and no machine has the event {event!r}",
            allowed=", ".join(methods),
            instead=nearest(attribute, methods),
        )
    return vocabulary.events[event]


def _refuse_misspelt(name: str, attribute: str, vocabulary: Vocabulary) -> None:
    """A public method that looks like a guard or an event and is none would be silent for ever."""
    if attribute in vocabulary.events:
        raise CallbackRefused(
            f"{name} has a method {attribute!r}, which is the name of an event",
            allowed=f"on_{attribute}, to hear it",
            instead=f"did you mean 'on_{attribute}'? the name of a helper begins with an underscore",
        )
    close = get_close_matches(attribute, vocabulary.guards, n=1, cutoff=0.85)
    if attribute.startswith(("skip_", "stop_")) or close:
        raise CallbackRefused(
            f"{name} has a method {attribute!r}, and no machine has such a guard",
            allowed=", ".join(vocabulary.guards),
            instead=f"{nearest(attribute, vocabulary.guards)}; the name of a helper begins with an underscore",
        )


def _method(callback: object, attribute: str) -> Callable[[Run], Any]:
    method = getattr(callback, attribute)
    check_signature(method, f"{type(callback).__name__}.{attribute}")
    return method  # type: ignore[no-any-return]  # its signature was just checked


def check_signature(function: object, where: str) -> None:
    """Refuse what cannot be called as `function(run)`."""
    given = repr(function)
    if callable(function):
        try:
            signature = inspect.signature(function)
        except ValueError:  # some functions written in C do not tell theirs
            return
        given = f"{where}{signature}"
        try:
            signature.bind(None)
        except TypeError:
            pass
        else:
            kind = _waits(function) or _waits(getattr(function, "__call__", None))  # noqa: B004  # an async __call__
            if not kind:
                return
            given = f"{kind} {given}"
    raise CallbackRefused(
        f"{where} cannot be called with a run alone: {given}",
        allowed="a plain function or method that takes one argument, the run",
        instead=f"write def {where.rpartition('.')[2]}(self, run)" if "." in where else "write def function(run)",
    )


def _waits(function: object) -> str:
    """What a call would give instead of doing the work: nothing would run, and nobody would notice."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "async"
    return "generator" if inspect.isgeneratorfunction(function) else ""


def _placed(name: str, order: object, after: object) -> tuple[int, tuple[type, ...]]:
    if type(order) is not int:
        raise CallbackRefused(
            f"{name} has the order {order!r}", allowed="a whole number", instead="leave it out for 0, the default"
        )
    if not isinstance(after, tuple) or not all(inspect.isclass(other) for other in after):
        raise CallbackRefused(
            f"{name} runs after {after!r}", allowed="a tuple of classes", instead="write runs_after = (Other,)"
        )
    return order, after


def _refuse_ring(listeners: Sequence[Listener], waiting: Mapping[int, Collection[int]]) -> None:
    ring = [next(iter(waiting))]
    while (following := min(waiting[ring[-1]] & waiting.keys())) not in ring:
        ring.append(following)
    names = [listeners[index].name for index in [*ring[ring.index(following) :], following]]
    raise CallbackRefused(
        f"runs_after goes in a ring: {' after '.join(names)}",
        allowed="an order that has a first callback",
        instead="take one of these away",
    )


def _name(function: object) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _unique(name: str, taken: Collection[str]) -> str:
    """The name itself, or with a number when another callback has it."""
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}#{number}"
    return unique
