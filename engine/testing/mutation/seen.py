"""What was seen of a bare run, and how does another one differ?  The first line that is not the same, in words."""

from enum import Enum
from itertools import zip_longest

from attrs import frozen

from states import Counter
from states.names import name_of
from states.walk import Plan


# A line of what is seen is a sentence, then these.
FIELDS = ("state", *(name_of(counter) for counter in Counter), "stopping", "model.training")
Line = tuple[object, ...]


@frozen
class Course:
    """What a bare run is given.

    Attributes:
        plan: Its length.
        choices: At each asking of a guard, and at each report of a state that the engine does not know, which answer.
        moment: At which call somebody does something; never if negative.
        fault: Whether it is raised then; else a stop of the run is asked for.
    """

    plan: Plan
    choices: tuple[int, ...] = ()
    moment: int = -1
    fault: bool = False

    @property
    def odd(self) -> int:
        """How much in it is out of the ordinary."""
        return sum(map(bool, self.choices)) + (self.moment >= 0)


@frozen
class Seen:
    """All that was seen of a run, and what was out of the ordinary in it, in words."""

    course: Course
    lines: tuple[Line, ...]
    choices: tuple[tuple[int, int], ...]
    words: tuple[str, ...]

    def differs(self, right: "Seen") -> str:
        """The first difference to what should be seen, in one line; nothing if there is none."""
        for broken, whole in zip_longest(self.lines, right.lines, fillvalue=("nothing",)):
            if broken != whole:
                return f"with {', '.join((_words(self.course.plan), *right.words))}: {_apart(broken, whole)}"
        return ""


def _words(plan: Plan) -> str:
    given = {"epochs": plan.epochs, "batches": plan.batches, "valid_batches": plan.valid_batches}
    return " ".join(f"{name}={value}" for name, value in {**given, "max_updates": plan.max_updates}.items() if value)


def _apart(broken: Line, whole: Line) -> str:
    """What is seen, and what should be; of one that comes with other numbers, these alone."""
    if broken[0] != whole[0]:
        return f"{broken[0]}, instead of: {whole[0]}"
    three = zip(FIELDS, map(_word, broken[1:]), map(_word, whole[1:]), strict=True)
    other = [f"{name} {seen} instead of {right}" for name, seen, right in three if seen != right]
    return f"{whole[0]} with {', '.join(other)}"


def _word(value: object) -> str:
    return name_of(value) if isinstance(value, Enum) else str(value)
