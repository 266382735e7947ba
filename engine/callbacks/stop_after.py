"""When is it enough?  Stops the run after so many batches, epochs or seconds."""

from math import inf
from time import monotonic

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


class StopAfter(Callback):
    """Stop after *batches*, *epochs* or *seconds* of this run; say one of them.

    A run that goes on with `start_epoch` counts from its own start.  A stop in the middle of an epoch ends that epoch
    without a validation, as every stop does; so does one after the last batch of an epoch.  If nothing was left to do
    after *epochs* anyway, the stop comes too late, and the run is COMPLETED.

    Args:
        batches: Training batches, exactly; skipped ones count, too.  1 or more.
        epochs: Epochs that ended.  1 or more.
        seconds: By a clock that nobody sets, from `train_begin`; the run stops at the first batch that ends after them.

    Raises:
        ArgumentRefused: none of them or several, or what is no such number.

    Cost per batch: two comparisons; with *seconds*, a look at the clock.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks.stop_after import StopAfter
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[StopAfter(batches=5)])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=100)
        >>> run.batches_done, run.stops
        (5, [<stop_training by run.stop (epoch 1, batch 2, update 5): StopAfter: 5 batches were trained>])
    """

    order = 220

    def __init__(self, *, batches: int | None = None, epochs: int | None = None, seconds: float | None = None) -> None:
        given = {"batches": batches, "epochs": epochs, "seconds": seconds}
        said = [f"{name}={shown(value)}" for name, value in given.items() if value is not None]
        if len(said) != 1:
            raise ArgumentRefused(
                f"StopAfter was given {' and '.join(said) or 'nothing'}",
                allowed="one of batches, epochs, seconds",
                instead="write StopAfter(epochs=10); two instances stop at what comes first",
            )
        check_count("batches", batches, least=1, may_be_none=True)
        check_count("epochs", epochs, least=1, may_be_none=True)
        if seconds is not None and not (is_number(seconds) and seconds > 0):
            raise ArgumentRefused(
                f"seconds is {shown(seconds)}, {typed(seconds)}",
                allowed="a number of seconds above 0",
                instead="write StopAfter(seconds=3600) for an hour",
            )
        self.batches, self.epochs, self.seconds = batches, epochs, seconds
        self._batches = inf if batches is None else batches
        # When the time is up, and the epoch with which this run began.
        self._until, self._first = inf, 0

    def on_train_begin(self, run: Run) -> None:
        """Count from here."""
        self._first = run.epoch
        if self.seconds is not None:
            self._until = monotonic() + self.seconds

    def on_batch_end(self, run: Run) -> None:
        """Stop when the batches were trained, or the time is up."""
        if run.batches_done + 1 >= self._batches:  # this one is counted after it was heard
            run.stop(f"StopAfter: {self.batches} batch{' was' if self.batches == 1 else 'es were'} trained")
        elif self._until < inf and monotonic() >= self._until:
            run.stop(f"StopAfter: {self.seconds} seconds have passed")

    def on_epoch_end(self, run: Run) -> None:
        """Stop when the epochs have ended."""
        if self.epochs is not None and run.epoch + 1 - self._first >= self.epochs:
            run.stop(f"StopAfter: {self.epochs} epoch{'' if self.epochs == 1 else 's'} ended")
