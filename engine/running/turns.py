"""Whose turn is it?  The runs of one engine that go on now: in one thread, and one training at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from attrs import define, field

from engine.errors import EngineBusy
from engine.run import Run


if TYPE_CHECKING:
    from engine.running.steps import SteppedRun

logger = logging.getLogger("stateloop")
logger.addHandler(logging.NullHandler())


@define(eq=False)
class Turns:
    """The runs that go on, innermost last: a model cannot be in two modes at once.

    One that the user's own code takes forward is among them from its first transition to its end.
    """

    runs: list[Run] = field(factory=list)
    # The outermost run that began last, also if it failed.
    last: Run | None = None
    # Those that were started to be taken forward from outside, as long as somebody holds them.
    started: "WeakSet[SteppedRun]" = field(factory=WeakSet)
    _thread: int = 0
    _lock: Any = field(factory=Lock)  # threading's Lock is no type

    @property
    def active(self) -> Run | None:
        """The run that goes on now, the innermost one."""
        return self.runs[-1] if self.runs else None

    def refuse_second(self, asked: str) -> None:
        """Refuse a training while a run goes on."""
        if self.active is not None:
            raise EngineBusy(
                f"{asked} while the engine is in {self.active.where}",
                allowed="one training at a time for each engine",
                instead="close the run that was started, engine.last_run.close(); or, where this is a callback, return "
                "first; or make a second Engine for the other model",
            )

    @contextmanager
    def taken(self, run: Run) -> Iterator[None]:
        """A run goes on; others of this thread may go on in it."""
        with self._lock:
            self._refuse_other_thread(run)
            self._thread = get_ident()
            if not self.runs:
                self.last = run
            self.runs.append(run)
        try:
            yield
        finally:
            self.runs.remove(run)
            logger.info("%s: %s", run.machine.name, run.outcome.value)

    def _refuse_other_thread(self, run: Run) -> None:
        if self.runs and self._thread != get_ident():
            raise EngineBusy(
                f"a run of {run.machine.name} was asked for while another thread runs this engine",
                allowed="one thread at a time for each engine",
                instead="wait for the other thread, or make a second Engine with a copy of the model",
            )
