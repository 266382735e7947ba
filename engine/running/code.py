"""How is Python written down?  Lines that are left at their end or by a jump, choices among them, and names."""

import keyword
import re
from collections.abc import Sequence

from attrs import define, field, frozen


@frozen
class Code:
    """Lines of Python, and whether they are left at their end (rather than by a jump)."""

    lines: tuple[str, ...] = ()
    falls: bool = True
    # Whether the lines are one `if` with nothing behind it, so that it can be an `elif`.
    chooses: bool = False

    def inside(self) -> tuple[str, ...]:
        """These lines as the body of a statement."""
        return tuple(f"    {line}" for line in self.lines or ("pass",))


def choice(yes: Sequence[tuple[str, Code]], otherwise: Code) -> Code:
    r"""The first of these codes whose condition holds, or the last one; a condition ends with its colon.

    Example:
        >>> jump, work = Code(("return",), falls=False), Code(("work()",))
        >>> print("\n".join(choice([("done:", jump)], work).lines))
        if done:
            return
        work()
        >>> print("\n".join(choice([("a:", work), ("b:", work)], jump).lines))
        if a:
            work()
        elif b:
            work()
        else:
            return
    """
    if not yes:
        return otherwise
    (condition, code), *others = yes
    rest = choice(others, otherwise)
    lines = (f"if {condition}", *code.inside())
    if not code.falls:
        return Code((*lines, *rest.lines), rest.falls)
    if rest.chooses:
        return Code((*lines, f"el{rest.lines[0]}", *rest.lines[1:]), chooses=True)
    return Code((*lines, *(("else:", *rest.inside()) if rest.lines else ())), chooses=True)


@define(eq=False)
class Names:
    """What the names in a piece of code stand for: one name for each thing, one thing for each name.

    Example:
        >>> names = Names(taken=frozenset({"run"}))
        >>> names("run", 1), names("class", 2), names("two lines!", 3), names("two lines", 4)
        ('run_2', '_class', 'two_lines_', 'two_lines')
    """

    space: dict[str, object] = field(factory=dict)
    # Names that nothing may be given: the code uses them itself.
    taken: frozenset[str] = frozenset()

    def __call__(self, wanted: str, thing: object) -> str:
        """The name of a thing: the one that was wanted, as far as Python allows it."""
        plain = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        plain = f"_{plain}" if keyword.iskeyword(plain) or plain[:1].isdigit() or not plain else plain
        name, number = plain, 1
        while name in self.taken or self.space.setdefault(name, thing) is not thing:
            number += 1
            name = f"{plain}_{number}"
        return name
