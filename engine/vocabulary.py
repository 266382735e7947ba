"""Which words may a callback name?  The events and guards of all machines that it can meet."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import Enum

from attrs import define

from engine.errors import ArgumentRefused, CallbackRefused, hint
from states import EVALUATION, PREDICTION, TRAINING, Event, Machine
from states.errors import shown
from states.names import name_of


# What is said to those whose method is refused for its name alone.
HELPER = "the name of a helper begins with an underscore"


@define(eq=False)
class Vocabulary:
    """The events and guards that a callback may name: those of the engine's machine and of the built-in ones."""

    events: Mapping[str, Enum]
    guards: Mapping[str, Enum]

    @classmethod
    def of(cls, machine: Machine) -> "Vocabulary":
        """The words of a machine, of those within it, and of the built-in ones; the machine's own come first."""
        machines = [machine, *machine.within, TRAINING, EVALUATION, PREDICTION]
        events: dict[str, Enum] = {}
        guards: dict[str, Enum] = {}
        for m in machines:
            for event in m.events:
                events.setdefault(name_of(event), event)
            for guard in m.guards:
                guards.setdefault(name_of(guard), guard)
        events.setdefault(name_of(Event.OVERFLOW), Event.OVERFLOW)  # heard with fp16 alone; a callback need not know
        return cls(events, guards)

    def event(self, name: str) -> Enum:
        """The event with this name, or an error with the nearest one."""
        if isinstance(name, str) and name in self.guards and name not in self.events:
            raise _unknown("event", name, self.events, f'it is a guard; answer it: @engine.guard("{name}")')
        return _known("event", name, self.events)

    def guard(self, name: str) -> Enum:
        """The guard with this name, or an error with the nearest one."""
        if isinstance(name, str) and name in self.events and name not in self.guards:
            raise _unknown("guard", name, self.guards, f'it is an event; hear it: @engine.on("{name}")')
        return _known("guard", name, self.guards)

    def heard(self, name: str, attribute: str) -> Enum:
        """The event that a callback's method `on_<event>` hears, or an error with the nearest one."""
        event = attribute.removeprefix("on_")
        if event in self.events:
            return self.events[event]
        if event in self.guards:
            raise CallbackRefused(
                f"{name} has a method {attribute!r}, and {event} is a guard: it is answered, not heard",
                allowed=f"a method {event}(run) -> bool",
                instead=f"write def {event}(self, run), without on_",
            )
        raise CallbackRefused(
            f"{name} has a method {attribute!r}, and no machine has the event {event!r}",
            allowed=", ".join(f"on_{known}" for known in self.events),
            instead=hint(event, self.events, "on_"),
        )

    def refuse_misspelt(self, name: str, attribute: str) -> None:
        """A public method that looks like a guard or an event and is none would be silent for ever."""
        if event := self._like_event(attribute):
            what = "is" if event == attribute else "is nearly"
            raise CallbackRefused(
                f"{name} has a method {attribute!r}, which {what} the name of an event, and nothing would call it",
                allowed=f"on_{event}, to hear it",
                instead=f"did you mean 'on_{event}'? {HELPER}",
            )
        close = get_close_matches(attribute, self.guards, n=1, cutoff=0.85)
        if attribute.startswith(("skip_", "stop_")) or close:
            raise CallbackRefused(
                f"{name} has a method {attribute!r}, and no machine has such a guard",
                allowed=", ".join(self.guards),
                instead=f"{hint(attribute, self.guards)}; {HELPER}",
            )

    def _like_event(self, attribute: str) -> str:
        """The event that a method seems to mean, with or without `on_`, and whatever letters are large; else nothing.

        A word alone is too common: a helper may be called `exceptions`.
        """
        if attribute in self.events:
            return attribute
        meant = {f"on_{event}": event for event in self.events}
        meant.update((event, event) for event in self.events if "_" in event)
        near = get_close_matches(attribute.lower(), meant, n=1, cutoff=0.9)
        return meant[near[0]] if near else ""


def _known(kind: str, name: str, words: Mapping[str, Enum]) -> Enum:
    if not isinstance(name, str) or name not in words:
        raise _unknown(kind, name, words, hint(name if isinstance(name, str) else name_of(name), words))
    return words[name]


def _unknown(kind: str, name: object, words: Iterable[str], instead: str) -> ArgumentRefused:
    return ArgumentRefused(f"no {kind} is called {shown(name)}", allowed=", ".join(words), instead=instead)
