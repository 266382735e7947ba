"""Is a run one that the table allows?  Its trace is followed through all that may happen, state and counters too."""

from collections.abc import Sequence

from attrs import frozen

from states.places import begun
from states.strides import ZERO, Heard, Spot, Strides


# Where a run may be: a spot (none, where it has died), and what is still to be heard before it is there.
_Maybe = tuple[Spot | None, tuple[Heard, ...]]


@frozen
class Followed:
    """How far a trace could be followed.

    Attributes:
        at: The index of the first event that no run of the table hears there; `None` where there is none.
        allowed: What might have been heard there, or may be heard next.
        over: Whether the run may have ended behind it.
    """

    at: int | None
    allowed: tuple[Heard, ...]
    over: bool


def follow(strides: Strides, trace: Sequence[Heard], *, counted: bool = False) -> Followed:
    """Follow a trace as far as it goes.

    Args:
        strides: All that may happen.
        trace: What was heard.
        counted: Whether to look at the counters where no plan is given.

    Cost: some ten microseconds an event.

    Example:
        >>> from states import TRAINING, State
        >>> from states.walk import Plan
        >>> strides = Strides(TRAINING, Plan(epochs=1, batches=1), None, faults=True)
        >>> heard = [Heard(name, State.TRAIN, 0, (0, 0, 0, 0, 0, 0)) for name in ("train_begin", "epoch_begin")]
        >>> followed = follow(strides, heard)
        >>> followed.at, [(heard.name, heard.state.name) for heard in followed.allowed]
        (1, [('epoch_begin', 'EPOCH'), ('exception', 'FAILED'), ('exception', 'INTERRUPTED'), ('stop', 'STOPPING')])
    """
    place = begun(strides.machine)
    maybe = _closed(strides, {((place, (ZERO,)) if counted else strides.begin(place), ())})
    for number, heard in enumerate(trace):
        going = {(spot, still[1:]) for spot, still in maybe if still and still[0] == heard}
        if not going:
            return Followed(number, _allowed(maybe), over=False)
        maybe = _closed(strides, going)
    over = any(not still and (spot is None or spot[0].over) for spot, still in maybe)
    return Followed(None, _allowed(maybe), over)


def _closed(strides: Strides, maybe: set[_Maybe]) -> set[_Maybe]:
    """The same, with each stride that may come next begun; on some nothing is heard."""
    closed, queue = set(maybe), list(maybe)
    for spot, still in queue:
        for stride, there in strides.at(spot) if spot is not None and not still else ():
            new = (there, stride.heard)
            if new not in closed:
                closed.add(new)
                queue.append(new)
    return closed


def _allowed(maybe: set[_Maybe]) -> tuple[Heard, ...]:
    heard = {still[0] for _, still in maybe if still}
    return tuple(sorted(heard, key=lambda one: (one.name, one.state.name, one.counters)))
