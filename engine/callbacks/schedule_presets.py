"""What do people schedule most often?  Schedules that are known by a name, each in one call."""

from collections.abc import Callable, Sequence
from typing import Literal

from attrs import frozen

from engine.callbacks.schedule import Curves, Schedule
from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.schedules.curves import Constant, Cosine, Curve, Linear
from engine.schedules.phases import combine, in_phases, lead_in, repeat
from states.errors import shown, typed


# A learning rate for all groups of parameters, or one for each.
Rate = float | Sequence[float]


def one_cycle(
    max_lr: Rate,
    *,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    momentum: tuple[float, float] | None = (0.85, 0.95),
    anneal: Literal["cos", "linear"] = "cos",
    three_phase: bool = False,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Up to a large learning rate and down to almost none (Smith and Topin 2017), as torch's `OneCycleLR` does it.

    Args:
        max_lr: The peak, or one for each group of parameters.
        pct_start: The share of the run in which lr rises, above 0 and below 1; at most a half with *three_phase*.
        div_factor: lr begins at `max_lr / div_factor`.
        final_div_factor: lr ends at `max_lr / div_factor / final_div_factor`.
        momentum: Its least and its greatest value: it falls while lr rises, and rises while lr falls.  For Adam and its
            kin that is beta1.  `None` leaves it alone.
        anneal: "cos" or "linear".
        three_phase: Fall back to the begin as steeply as it rose, and then to the end.
        steps: As in `Schedule`.
        steps_per_epoch: As in `Schedule`.

    Raises:
        ArgumentRefused: a number out of its range.

    Example:
        >>> [round(lr, 3) for lr in one_cycle(1.0, pct_start=0.4).values(epochs=2, batches=5)["lr"]]
        [0.04, 0.28, 0.76, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067, 0.0]
    """
    _check_share("pct_start", pct_start, 0.5 if three_phase else 1)
    _check_factor("div_factor", div_factor)
    _check_factor("final_div_factor", final_div_factor)
    if anneal not in ("cos", "linear"):
        raise ArgumentRefused(f"anneal is {shown(anneal)}", allowed="'cos', 'linear'", instead="leave it out for 'cos'")
    shape = Cosine if anneal == "cos" else Linear

    def through(begin: float, peak: float, end: float) -> Curve:
        if three_phase:
            return _ThreePhases(pct_start, (shape(begin, peak), shape(peak, begin), shape(begin, end)))
        return combine((pct_start, 1 - pct_start), (shape(begin, peak), shape(peak, end)))

    lr = _each(max_lr, lambda peak: through(peak / div_factor, peak, peak / div_factor / final_div_factor))
    if momentum is None:
        return Schedule({"lr": lr}, steps=steps, steps_per_epoch=steps_per_epoch)
    low, high = _momenta(momentum)
    return Schedule({"lr": lr, "momentum": through(high, low, high)}, steps=steps, steps_per_epoch=steps_per_epoch)


@frozen
class _ThreePhases:
    """The phases of torch's `OneCycleLR(three_phase=True)`: the second ends a step before twice the first's share."""

    share: float
    curves: tuple[Curve, ...]

    def at(self, step: float, steps: float) -> float:
        rise = self.share * steps
        return in_phases(step, (rise - 1, 2 * rise - 2, steps - 1), self.curves)


def flat_cosine(
    lr: Rate,
    *,
    start: float = 0.75,
    end: float = 0.0,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """The same learning rate for a long time, and then down a cosine (as fastai's `fit_flat_cos`).

    Args:
        lr: The rate, or one for each group of parameters.
        start: The share of the run in which it stays, above 0 and below 1.
        end: What it comes to.
        steps: As in `Schedule`.
        steps_per_epoch: As in `Schedule`.

    Raises:
        ArgumentRefused: a number out of its range.

    Example:
        >>> [round(lr, 3) for lr in flat_cosine(0.1, start=0.5).values(epochs=2, batches=5)["lr"]]
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.09, 0.065, 0.035, 0.01, 0.0]
    """
    _check_share("start", start, 1)
    curves = _each(lr, lambda rate: combine((start, 1 - start), (Constant(rate), Cosine(rate, end))))
    return Schedule({"lr": curves}, steps=steps, steps_per_epoch=steps_per_epoch)


def warm_up(
    lr: Rate,
    *,
    share: float | None = None,
    batches: int | None = None,
    end: float | None = None,
    div_factor: float = 25.0,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Up to the learning rate in a straight line (Goyal et al. 2017); then it stays, or goes down a cosine.

    Args:
        lr: The rate that is reached, or one for each group of parameters.
        share: How long that takes, as a share of the run, above 0 and below 1.
        batches: Or how long in batches: one of the two.
        end: What the rate then comes to, down a cosine; by default it stays as it is.
        div_factor: The rate begins at `lr / div_factor`: not at 0, or the first batch would be in vain.
        steps: As in `Schedule`.
        steps_per_epoch: As in `Schedule`.

    Raises:
        ArgumentRefused: both of *share* and *batches* or none, or a number out of its range.

    Example:
        >>> [round(lr, 3) for lr in warm_up(1.0, batches=3, end=0.0).values(epochs=2, batches=5)["lr"]]
        [0.04, 0.36, 0.68, 1.0, 0.933, 0.75, 0.5, 0.25, 0.067, 0.0]
    """
    if (share is None) == (batches is None):
        raise ArgumentRefused(
            f"warm_up was given share {shown(share)} and batches {shown(batches)}",
            allowed="one of the two",
            instead="write warm_up(0.1, share=0.05), or warm_up(0.1, batches=500)",
        )
    _check_factor("div_factor", div_factor)
    check_count("batches", batches, least=1, may_be_none=True)
    if share is not None:
        _check_share("share", share, 1)

    def curve(rate: float) -> Curve:
        rise, then = Linear(rate / div_factor, rate), Constant(rate) if end is None else Cosine(rate, end)
        return combine((share, 1 - share), (rise, then)) if share is not None else lead_in(batches or 0, rise, then)

    return Schedule({"lr": _each(lr, curve)}, steps=steps, steps_per_epoch=steps_per_epoch)


def sgdr(
    lr: Rate,
    cycles: int,
    *,
    grow: float = 1,
    end: float = 0.0,
    steps: int | None = None,
    steps_per_epoch: int | None = None,
) -> Schedule:
    """Down a cosine, again and again (Loshchilov and Hutter 2016), as torch's `CosineAnnealingWarmRestarts`.

    Args:
        lr: The rate at the begin of each cycle, or one for each group of parameters.
        cycles: How many there are in the run.
        grow: How many times as long as the one before each cycle is.
        end: What the rate comes near to, at the end of each cycle.
        steps: As in `Schedule`.
        steps_per_epoch: As in `Schedule`.

    Raises:
        ArgumentRefused: a number out of its range.

    Example:
        >>> [round(lr, 3) for lr in sgdr(0.1, 2, grow=2).values(epochs=1, batches=9)["lr"]]
        [0.1, 0.075, 0.025, 0.1, 0.093, 0.075, 0.05, 0.025, 0.007]
    """
    curves = _each(lr, lambda rate: repeat(Cosine(rate, end), cycles, grow=grow))
    return Schedule({"lr": curves}, steps=steps, steps_per_epoch=steps_per_epoch)


def _each(rate: object, curve: Callable[[float], Curve]) -> Curves:
    """The curve of a rate, or of one for each group."""
    rates = rate if isinstance(rate, list | tuple) and rate else (rate,)
    for number in rates:
        if not is_number(number) or number < 0:
            raise ArgumentRefused(
                f"the learning rate is {shown(rate)}, {typed(rate)}",
                allowed="a number, 0 or more, or a list with one for each group of parameters",
                instead="say 0.1",
            )
    return [curve(number) for number in rates] if rates is rate else curve(rates[0])


def _momenta(momentum: object) -> tuple[float, float]:
    if not isinstance(momentum, list | tuple) or len(momentum) != 2 or not all(map(is_number, momentum)):  # noqa: PLR2004  # a pair
        raise ArgumentRefused(
            f"momentum is {shown(momentum)}",
            allowed="its least and its greatest value; None to leave it alone",
            instead="leave it out for (0.85, 0.95)",
        )
    low, high = momentum
    return low, high


def _check_share(name: str, share: float, most: float) -> None:
    """Refuse what is no number above 0 and below 1, or no more than *most*."""
    if not is_number(share) or not 0 < share <= most or share == 1:
        raise ArgumentRefused(
            f"{name} is {shown(share)}, {typed(share)}",
            allowed="a number above 0 and below 1" if most == 1 else f"a number above 0, {most} at most",
            instead=f"say {name}=0.3",
        )


def _check_factor(name: str, factor: float) -> None:
    if not is_number(factor) or factor <= 0:
        raise ArgumentRefused(
            f"{name} is {shown(factor)}, {typed(factor)}", allowed="a number above 0", instead=f"say {name}=25"
        )
