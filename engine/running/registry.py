"""Who is registered with an engine?  Callbacks and functions, each once, in an order that can be kept."""

from inspect import ismethod

from attrs import define, field

from engine.errors import ArgumentRefused
from engine.listeners import Listener, listen
from engine.running.order import arrange
from engine.vocabulary import Vocabulary
from states.errors import shown


@define(eq=False)
class Registry:
    """The listeners of an engine; a run takes them as they are when it starts."""

    vocabulary: Vocabulary
    # Everyone who was registered, in that order.
    listeners: list[Listener] = field(init=False, factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each, in the order of registration."""
        return tuple(listener.name for listener in self.listeners)

    def listening(self, callback: object) -> Listener:
        """What a callback hears and answers, under a name that nobody else has."""
        return listen(callback, self.vocabulary, self.names)

    def add(self, listener: Listener) -> None:
        """Register a listener.

        Raises:
            ArgumentRefused: it is registered already.
            CallbackRefused: there is no order in which it could be called.
        """
        for other in self.listeners:
            twice = listener.hears.keys() & other.hears or listener.answers.keys() & other.answers
            if twice and _same(listener.source, other.source):
                raise ArgumentRefused(
                    f"{other.name} is registered already",
                    allowed="each object once",
                    instead="make a second instance",
                )
        self.arranged(listener)
        self.listeners.append(listener)

    def remove(self, callback: object) -> None:
        """Forget a callback or function, with all that it hears and answers."""
        left = [listener for listener in self.listeners if not _same(listener.source, callback)]
        if len(left) == len(self.listeners):
            raise ArgumentRefused(
                f"{shown(callback)} is not registered",
                allowed=", ".join(self.names),
                instead="pass the object itself",
            )
        self.listeners = left

    def arranged(self, *more: Listener) -> tuple[Listener, ...]:
        """All, and those for one run only, in the order in which they are called."""
        return arrange([*self.listeners, *more])


def _same(one: object, other: object) -> bool:
    """Whether two things are one callback: the same object, or the same method of one."""
    return one is other or (ismethod(one) and ismethod(other) and one == other)
