"""What is a run linked from?  Machine, actions, those who hear and the one who asks: each can be another one."""

from collections.abc import Callable
from enum import Enum

from attrs import frozen

from engine.running.asking import Asker
from engine.running.link import Doing, Ears, Linked, link
from states import Machine, Transition


@frozen(eq=False)
class Linking:
    """All that the rows of a machine are linked from."""

    machine: Machine
    actions: Doing
    ears: Ears
    asker: Asker
    checked: bool
    every: bool

    def link(self) -> Linked:
        """Link them, as the engine does."""
        return link(self.machine, self.actions, self.ears, self.asker, checked=self.checked, every=self.every)


Put = Callable[[Linking], Linked]
# Its family, the change in words, how it is put in force, and what it is about.
Broken = tuple[str, str, Put, Enum | Transition | None]
