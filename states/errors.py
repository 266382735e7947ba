"""What can go wrong?  The root of all our exceptions, and those that a machine can raise.

StateloopError
  MachineRefused      a machine breaks a rule of `prove`
  TriggerRefused      something was reported that the table does not take there
  ExtensionRefused    a machine cannot be extended in this way
  (engine.errors)     mistakes in what an engine was given, or got while it ran
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import Enum, unique
from typing import TYPE_CHECKING

from attrs import frozen


if TYPE_CHECKING:
    from states.rows import Transition


# How much of a value is shown in a message, in characters.
SHOWN = 80


class StateloopError(Exception):
    """Something was asked of Stateloop that it refuses."""


@unique
class Rule(Enum):
    """The rules of `prove`, worded as what is wrong."""

    UNKNOWN_WORD = "a word is unknown"
    NAME_TWICE = "a name is used twice"
    UNREACHABLE = "a state cannot be reached"
    FINAL_OUT_OF_REACH = "a final state cannot be reached"
    FINAL_LEFT = "a final state is left"
    FINAL_HEARS_MORE = "more than an end is heard in a final state"
    DEAD_END = "a state is a dead end"
    INITIAL_DECIDES = "the initial state has no action"
    DECIDES_AND_REPORTS = "a state both decides and reports"
    LAST_ROW_GUARDED = "the last row of a group is guarded"
    NEVER_TAKEN = "a row can never be taken"
    GUARD_TWICE = "a guard stands twice in a group"
    FIRST_DIFFERS = "rows of one group differ in what is heard first"
    SECOND_STACK = "a state has a second stack of open scopes"
    END_WITHOUT_BEGIN = "an end is heard without its begin"
    BEGIN_NEVER_ENDED = "a begin is never ended"
    ENDED_EARLY = "the outermost scope ends before the run does"
    NO_ACTION = "a cycle runs no action"
    NO_STOP = "a cycle asks no stop guard"
    HELD_STOP = "a stop of the whole run in a held machine is not taken"
    STOP_TWICE = "a run can be stopped twice"
    REPORT_REFUSED = "an action declares a trigger that no row takes"
    NO_REPORT = "rows wait for a trigger that no action declares"


@frozen
class Offence:
    """One broken rule, with the shortest path from the initial state that shows it."""

    rule: Rule
    text: str
    path: "tuple[Transition, ...]"

    def __str__(self) -> str:
        lines = [f"{self.rule.value}: {self.text}", *(f"    {row}" for row in self.path)]
        return "\n".join(lines)


class MachineRefused(StateloopError):
    """A machine breaks rules of `prove`; all of them are listed."""

    def __init__(self, machine: str, offences: Sequence[Offence]) -> None:
        self.machine, self.offences = machine, tuple(offences)
        listed = "\n".join(f"  {number}. {offence}" for number, offence in enumerate(self.offences, 1))
        super().__init__(f"the machine {machine!r} breaks {len(self.offences)} rule(s):\n{listed}")


class TriggerRefused(StateloopError):
    """A trigger was reported in a state whose rows do not take it."""


class ExtensionRefused(StateloopError):
    """A machine cannot be extended in this way: nothing was built.

    Example:
        >>> raise ExtensionRefused("no row leads to idle", allowed="states on the way", instead="say after=State.IDLE")
        Traceback (most recent call last):
            ...
        states.errors.ExtensionRefused: no row leads to idle
          allowed:  states on the way
          instead:  say after=State.IDLE
    """

    def __init__(self, what: str, *, allowed: str, instead: str) -> None:
        self.what, self.allowed, self.instead = what, allowed, instead
        super().__init__(f"{what}\n  allowed:  {allowed}\n  instead:  {instead}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest known one, or all of them.

    Example:
        >>> nearest("bacth_end", ["batch_begin", "batch_end", "epoch_end"])
        "did you mean 'batch_end'?"
    """
    names = sorted(known)
    match = get_close_matches(name, names, n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(names)}"


def meant(word: object, known: Iterable[Enum]) -> str:
    """A hint for what is no word of a machine: the member of that name, the nearest one, or all of them.

    Example:
        >>> from states import State
        >>> meant("step", State), meant("stp", State)
        ('write State.STEP, the member itself', "did you mean 'step'?")
    """
    members = {str(member.name).lower(): member for member in known}
    name = str(word.name).lower() if isinstance(word, Enum) else str(word)
    same = members.get(name.lower())
    return f"write {same}, the member itself" if same is not None else nearest(name, members)


def shown(value: object) -> str:
    """A value for a message: its repr, cut where it gets long.

    Example:
        >>> shown(list(range(100)))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 2 ...'
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 4]} ..."


def typed(value: object) -> str:
    """The type of a value for a message, with its article.

    Example:
        >>> typed(3), typed("three")
        ('an int', 'a str')
    """
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
