"""What is a run given in a test?  The answers of its guards and a fault, in plain words, made anew for each run."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from attrs import field, frozen

from states.walk import Answers, script


Where = Literal["event", "guard", "action", "callback"]

PLACES: tuple[Where, ...] = get_args(Where)
ERRORS: tuple[type[BaseException], ...] = (
    ValueError,
    KeyboardInterrupt,
    StopIteration,
    SystemExit,
    MemoryError,
    GeneratorExit,
)
_CALLED: Mapping[Where, str] = {
    "event": "hearing of an event",
    "guard": "asking of a guard",
    "action": "action",
    "callback": "call of a callback",
}


def _said(yes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    return {guard: tuple(sorted({*askings})) for guard, askings in yes.items() if askings}


@frozen
class Script:
    """To which askings of each guard, from 0, the answer is yes; to all others it is no.

    Example:
        >>> print(Script({"skip_batch": [0, 2], "stop_epoch": [1]}))
        skip_batch: yes at the 1st and 3rd asking; stop_epoch: yes at the 2nd asking
        >>> print(Script({}))
        no guard says yes
    """

    yes: Mapping[str, tuple[int, ...]] = field(converter=_said, hash=False)

    def answers(self) -> Answers:
        """The answers for one run: they count how often each guard was asked, so each run needs its own."""
        return script(self.yes)

    def __str__(self) -> str:
        lines = (f"{guard}: yes at the {_nths(askings)} asking" for guard, askings in self.yes.items())
        return "; ".join(lines) or "no guard says yes"


@frozen
class Fault:
    """Something that is raised in a run, at one moment.

    Attributes:
        error: What is raised; `KeyboardInterrupt` is Ctrl-C.
        at: At which moment, from 0.
        where: What counts as a moment: each hearing of an event, asking of a guard, action, or call of any of the
            user's callbacks.  It is raised in the place of that call; behind it where the run ends, and one cleans up.

    Example:
        >>> print(Fault(ValueError, 2, "action"))
        ValueError in the 3rd action
    """

    error: type[BaseException]
    at: int
    where: Where

    def __str__(self) -> str:
        return f"{self.error.__name__} in the {_nth(self.at)} {_CALLED[self.where]}"


def _nth(number: int) -> str:
    """An index from 0 as people count."""
    count = number + 1
    ending = {1: "st", 2: "nd", 3: "rd"}.get(count % 10 if count % 100 not in {11, 12, 13} else 0, "th")
    return f"{count}{ending}"


def _nths(numbers: Sequence[int]) -> str:
    *first, last = map(_nth, numbers)
    return f"{', '.join(first)} and {last}" if first else last
