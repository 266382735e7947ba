"""Where does the time of a run go?  Each action and each call of a callback, timed by the clock of the host.

# Theory of operation
#
# What is timed is replaced when a run is prepared: each action, and each method of a callback, by a function that looks
# at the clock before and after.  So a run that was prepared at another time pays nothing.  What is timed inside of
# another is not counted twice: VALIDATE has what is left without the actions and callbacks of the validation.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from time import perf_counter_ns
from typing import TypeVar

import torch
from attrs import define, evolve, field

from engine.actions import Action
from engine.check import is_number
from engine.errors import ArgumentRefused
from engine.layout.columns import aligned
from engine.listeners import Listener
from engine.run import Run
from states import Machine
from states.errors import shown, typed
from states.names import name_of


Result = TypeVar("Result")
# Who, and what: a machine and its state, or a callback and what it hears or answers.
Key = tuple[str, str]
# What share of all has to be reached, for a row of its own in the text.
SHOWN = 0.001


@define(eq=False)
class Spent:
    """How often something was called, and how long that took, without what was timed inside of it."""

    calls: int = 0
    nanoseconds: int = 0

    @property
    def seconds(self) -> float:
        """All calls together."""
        return self.nanoseconds / 1e9

    @property
    def microseconds(self) -> float:
        """One call, on the average; nan without any."""
        return self.nanoseconds / self.calls / 1e3 if self.calls else float("nan")


@define(eq=False, repr=False)
class Timings:
    """Where the time went while `engine.timed()` was open; its text is a table, the largest share first.

    What took less than a thousandth of the time has no row of its own: `table(least=0)` shows all.

    Times are those of the host: work that waits for a device is counted where it is waited for, not where it was asked
    for, unless *synchronize* says to wait behind each call.  In a loop of your own, what your code does is `elsewhere`.

    Attributes:
        synchronize: Whether each call waits for the device of the run.
    """

    synchronize: bool = False
    _states: dict[Key, Spent] = field(init=False, factory=dict)
    _callbacks: dict[Key, Spent] = field(init=False, factory=dict)
    _began: int = field(init=False, factory=perf_counter_ns)
    _ended: int | None = field(init=False, default=None)
    # Nanoseconds that were timed inside of the call that goes on.
    _inside: int = field(init=False, default=0)

    @property
    def states(self) -> dict[Key, Spent]:
        """What the actions took, by machine and state: `timings.states["training", "forward"].seconds`."""
        return _called(self._states)

    @property
    def callbacks(self) -> dict[Key, Spent]:
        """What callbacks took, by name and event or guard: `timings.callbacks["Metrics", "loss_end"].calls`."""
        return _called(self._callbacks)

    @property
    def seconds(self) -> float:
        """How long `engine.timed()` was open, or is open by now."""
        return ((perf_counter_ns() if self._ended is None else self._ended) - self._began) / 1e9

    @property
    def elsewhere(self) -> float:
        """The seconds of neither: the loop itself, what is prepared before it, and what else was done meanwhile."""
        return self.seconds - sum(spent.seconds for spent in (*self._states.values(), *self._callbacks.values()))

    def close(self) -> None:
        """Stop the clock."""
        self._ended = perf_counter_ns()

    def actions(self, machine: Machine, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
        """What is done instead of the actions of a machine."""
        return {
            state: evolve(action, do=self._timed(action.do, self._states, (machine.name, name_of(state))))
            for state, action in actions.items()
        }

    def listeners(self, listeners: Iterable[Listener]) -> tuple[Listener, ...]:
        """Who hears and answers instead of these."""
        return tuple(
            evolve(
                one,
                hears={e: self._timed(hear, self._callbacks, (one.name, name_of(e))) for e, hear in one.hears.items()},
                answers={
                    g: self._timed(say, self._callbacks, (one.name, name_of(g))) for g, say in one.answers.items()
                },
            )
            for one in listeners
        )

    def _timed(self, call: Callable[[Run], Result], into: dict[Key, Spent], key: Key) -> Callable[[Run], Result]:
        """A call that looks at the clock before and after, whatever it raises."""
        spent, call = into.setdefault(key, Spent()), _waiting(call) if self.synchronize else call

        def timed(run: Run) -> Result:
            around, self._inside = self._inside, 0
            began = perf_counter_ns()
            try:
                return call(run)
            finally:
                took = perf_counter_ns() - began
                spent.calls += 1
                spent.nanoseconds += took - self._inside
                self._inside = around + took

        return timed

    def __str__(self) -> str:
        return self.table()

    def table(self, *, least: float = SHOWN) -> str:
        """A text with a row for each action and each call of a callback that matters.

        Args:
            least: The least share of all the time that has a row, 0 to 1; 0 shows all.  The others are one row.

        Raises:
            ArgumentRefused: *least* is no share.
        """
        if not is_number(least) or not 0 <= least <= 1:
            raise ArgumentRefused(
                f"least is {shown(least)}, {typed(least)}",
                allowed="a number from 0 to 1",
                instead="leave it out for a thousandth",
            )
        rows = [("machine", "state", "calls", "seconds", "µs a call", "share"), *self._rows(self.states, least)]
        if self.callbacks:
            rows += [("",) * len(rows[0]), ("callback", "event or guard", "calls", "seconds", "µs a call", "share")]
            rows += self._rows(self.callbacks, least)
        for name, seconds in (("elsewhere", self.elsewhere), ("all", self.seconds)):
            rows.append((name, "", "", f"{seconds:.4f}", "", self._share(seconds)))
        return "\n".join(aligned(rows, "<<>"))

    def _rows(self, part: Mapping[Key, Spent], least: float) -> list[tuple[str, ...]]:
        """A row for each, the largest first, and one for all that are too small together."""
        shown = {key: one for key, one in part.items() if one.seconds >= least * self.seconds}
        small = [one for key, one in part.items() if key not in shown]
        rows = sorted(shown.items(), key=lambda item: -item[1].nanoseconds)
        if small:
            rows.append(((f"{len(small)} more", ""), _together(small)))
        return [
            (*key, f"{one.calls:,}", f"{one.seconds:.4f}", f"{one.microseconds:,.1f}", self._share(one.seconds))
            for key, one in rows
        ]

    def _share(self, seconds: float) -> str:
        return f"{seconds / self.seconds:.1%}"


def _called(part: Mapping[Key, Spent]) -> dict[Key, Spent]:
    return {key: spent for key, spent in part.items() if spent.calls}


def _together(several: Collection[Spent]) -> Spent:
    return Spent(sum(one.calls for one in several), sum(one.nanoseconds for one in several))


def _waiting(call: Callable[[Run], Result]) -> Callable[[Run], Result]:
    """A call that waits for the device of the run; on a CPU there is nothing to wait for."""

    def waited(run: Run) -> Result:
        result = call(run)
        if run.device.type != "cpu":
            torch.accelerator.synchronize(run.device)
        return result

    return waited
