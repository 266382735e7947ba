"""How is it timed?  Each run stands between two runs of its baseline, and is compared with their mean.

Rounds are interleaved, so that all contenders share the machine's good and bad minutes: ratios hold where the speed
of the machine drifts.  Time is CPU time of this process; torch runs on one thread.
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import quantiles

from attrs import frozen


Seconds = Callable[[], float]  # one run; it gives the seconds that the run took


@frozen
class Pair:
    """Seconds of one run, and of its baseline beside it."""

    mine: float
    base: float


@frozen
class Spread:
    """The quartiles of some values."""

    low: float
    median: float
    high: float


def seconds(work: Callable[[], object], clock: Seconds = time.process_time) -> float:
    """What some work takes; what others have left behind is collected before."""
    gc.collect()
    begun = clock()
    work()
    return clock() - begun


def interleave(
    runs: Mapping[str, Seconds],
    baseline: Seconds,
    rounds: int,
    budget: float = float("inf"),
    wall: Seconds = time.perf_counter,
) -> tuple[dict[str, list[Pair]], list[Pair]]:
    """Time every run in every round, with the baseline before and after it.

    Returns:
        The pairs of each run; and those of the baseline with its own neighbours, which are the noise.

    After the first round no other begins that would end beyond *budget* seconds of wall time.
    """
    pairs: dict[str, list[Pair]] = {name: [] for name in runs}
    bases, begun = [baseline()], wall()
    for number in range(1, rounds + 1):
        for name, run in runs.items():
            mine = run()
            bases.append(baseline())
            pairs[name].append(Pair(mine, (bases[-2] + bases[-1]) / 2))
        if (wall() - begun) * (number + 1) / number > budget:
            break
    return pairs, noise(bases)


def noise(bases: Sequence[float]) -> list[Pair]:
    """The baseline as if it were a contender: each run against the mean of those before and after it."""
    return [Pair(mine, (a + b) / 2) for a, mine, b in zip(bases, bases[1:], bases[2:], strict=False)]


def spread(values: Sequence[float]) -> Spread:
    """The quartiles; of one value, that value three times."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    return Spread(*quantiles(values, n=4, method="inclusive"))


def ratios(pairs: Sequence[Pair]) -> Spread:
    """How many times the baseline's time."""
    return spread([pair.mine / pair.base for pair in pairs])


def beyond(pairs: Sequence[Pair], batches: int) -> Spread:
    """Microseconds for each batch beyond the baseline's."""
    return spread([(pair.mine - pair.base) / batches * 1e6 for pair in pairs])
