"""Which value at which step?  Curves from a start to an end: plain arithmetic."""

from math import cos, pi
from typing import Any, Protocol, runtime_checkable

from attrs import Attribute, field, frozen

from engine.check import is_number
from engine.errors import ArgumentRefused
from states.errors import shown, typed


@runtime_checkable
class Curve(Protocol):
    """The course of one number, whatever its length: anything that has this method is a curve."""

    def at(self, step: float, steps: float) -> float:
        """The value at a step, counted from 0, of as many steps: from the start at 0 to the end at *steps* - 1.

        Both may be fractions: a phase of a longer curve may begin and end between two steps.  The only step of one is
        its start.  Before the first step the value is the start, behind the last step the end.
        """


def _number(owner: object, attribute: "Attribute[Any]", value: object) -> None:
    """Refuse what is no finite number."""
    if not is_number(value):
        raise _refused(owner, f"the {attribute.name} {shown(value)}, {typed(value)}", "a finite number")


def _positive(owner: object, attribute: "Attribute[Any]", value: Any) -> None:  # noqa: ANN401  # it may be anything
    """Refuse what is no number above 0."""
    _number(owner, attribute, value)
    if value <= 0:
        raise _refused(owner, f"the {attribute.name} {shown(value)}", "a number above 0")


def _refused(owner: object, what: str, allowed: str, instead: str = "say a number, such as 0.1") -> ArgumentRefused:
    return ArgumentRefused(f"{type(owner).__name__} was given {what}", allowed=allowed, instead=instead)


def _share(step: float, steps: float) -> float:
    """Which part of the way is gone: 0 at the first step, 1 at the last."""
    return min(max(step / (steps - 1), 0.0), 1.0) if steps > 1 else 0.0


def _between(start: float, end: float, share: float) -> float:
    """A part of the way from a number to another; exactly one of them where it is 0 or 1, and where both are equal."""
    return start + (end - start) * share if share < 0.5 else end - (end - start) * (1 - share)  # noqa: PLR2004  # half


@frozen
class Constant:
    """The same value at each step.

    Example:
        >>> Constant(0.1).at(3, 10)
        0.1
    """

    value: float = field(validator=_number)

    def at(self, step: float, steps: float) -> float:
        """The value."""
        del step, steps
        return float(self.value)


@frozen
class Linear:
    """A straight line; with a start of a few per cent of the end it is a warm-up (Goyal et al. 2017).

    Example:
        >>> [Linear(0.0, 1.0).at(step, 5) for step in range(5)]
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    start: float = field(validator=_number)
    end: float = field(validator=_number)

    def at(self, step: float, steps: float) -> float:
        """`start + (end - start) * share`, with share = step / (steps - 1)."""
        return _between(self.start, self.end, _share(step, steps))


@frozen
class Cosine:
    """Half a cosine: flat at both ends (Loshchilov and Hutter 2016; `torch.optim.lr_scheduler.CosineAnnealingLR`).

    Example:
        >>> [round(Cosine(1.0, 0.0).at(step, 5), 4) for step in range(5)]
        [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """

    start: float = field(validator=_number)
    end: float = field(validator=_number)

    def at(self, step: float, steps: float) -> float:
        """`start + (end - start) * (1 - cos(pi * share)) / 2`."""
        return _between(self.start, self.end, (1 - cos(pi * _share(step, steps))) / 2)


@frozen
class Exponential:
    """The same factor at each step (`torch.optim.lr_scheduler.ExponentialLR`); both numbers are above 0.

    Example:
        >>> [round(Exponential(1.0, 0.01).at(step, 5), 4) for step in range(5)]
        [1.0, 0.3162, 0.1, 0.0316, 0.01]
    """

    start: float = field(validator=_positive)
    end: float = field(validator=_positive)

    def at(self, step: float, steps: float) -> float:
        """`start * (end / start) ** share`."""
        share = _share(step, steps)
        return self.start * (self.end / self.start) ** share if share < 1 else float(self.end)


@frozen
class Polynomial:
    """A power of the way that is left (`torch.optim.lr_scheduler.PolynomialLR`): steep first where it is above 1.

    Example:
        >>> [Polynomial(1.0, 0.0, power=2).at(step, 5) for step in range(5)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """

    start: float = field(validator=_number)
    end: float = field(validator=_number)
    power: float = field(validator=_positive)

    def at(self, step: float, steps: float) -> float:
        """`end + (start - end) * (1 - share) ** power`."""
        return _between(self.end, self.start, (1 - _share(step, steps)) ** self.power)


def check_curve(where: str, curve: object) -> None:
    """Refuse what has no `at(step, steps)`."""
    if not isinstance(curve, Curve) or isinstance(curve, type):
        raise ArgumentRefused(
            f"{where} was given {shown(curve)}, {typed(curve)}",
            allowed="a curve: Linear, Cosine, Exponential, Polynomial, Constant, or an object with at(step, steps)",
            instead=f"write Constant({curve})" if is_number(curve) else "write Cosine(0.1, 0), for example",
        )
