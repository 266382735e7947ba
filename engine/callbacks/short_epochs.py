"""How is a training tried out quickly?  Each epoch draws a few batches, and all else goes on as ever."""

from math import ceil, inf, isfinite

from engine.check import check_count, length
from engine.errors import ArgumentRefused, LoaderRefused
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


class ShortEpochs(Callback):
    """Draw at most so many batches in each epoch, and in each validation of the training.

    The guards `stop_epoch` and `stop_validate` say so: an open window is flushed, validation and the next epoch go on,
    each epoch leaves its record, and the metrics are those of the batches that came.  `engine.evaluate` by itself draws
    all.

    A schedule goes by `len(train_loader)`, so it is to be told how many batches an epoch draws now: with
    `ShortEpochs(3)`, write `Schedule(..., steps_per_epoch=3)`, or `one_cycle(..., steps_per_epoch=3)`.

    Args:
        batches: How many, at most; or
        share: Which part of the loader, above 0 and up to 1, rounded up; the loader needs a length.
        valid: Whether validations are cut short as well.

    Raises:
        ArgumentRefused: not just one of *batches* and *share*, or one that has no meaning.
        LoaderRefused: *share* of a loader without a length.

    Cost per batch: two comparisons.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks import ShortEpochs
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[ShortEpochs(3)])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 100, epochs=2)
        >>> run.batches_done, run.epoch, run.outcome.name
        (6, 2, 'COMPLETED')
    """

    def __init__(self, batches: int | None = None, *, share: float | None = None, valid: bool = True) -> None:
        if (batches is None) == (share is None):
            raise ArgumentRefused(
                f"batches is {shown(batches)} and share is {shown(share)}",
                allowed="one of them",
                instead="write ShortEpochs(10), or ShortEpochs(share=0.1)",
            )
        check_count("batches", batches, least=1, may_be_none=True)
        if share is not None and (type(share) not in (int, float) or not isfinite(share) or not 0 < share <= 1):
            raise ArgumentRefused(
                f"share is {shown(share)}",
                allowed="a number above 0 and up to 1",
                instead="write ShortEpochs(share=0.1), or ShortEpochs(10) for ten batches",
            )
        self.batches, self.share, self.valid = batches, share, valid
        # How many batches the pass that is open may draw; known when its first batch is there.
        self._most = self._most_valid = inf

    def on_epoch_begin(self, run: Run) -> None:
        """Let the first batch come."""
        del run
        self._most = inf

    def on_batch_begin(self, run: Run) -> None:
        """Find out how many there may be."""
        if run.batch_index == 0:
            self._most = self._of(run)

    def stop_epoch(self, run: Run) -> bool:
        """Whether that was the last batch of this epoch."""
        return run.batch_index >= self._most

    def on_validate_begin(self, run: Run) -> None:
        """Let the first batch come."""
        del run
        self._most_valid = inf

    def on_validate_batch_begin(self, run: Run) -> None:
        """Find out how many there may be, in a training."""
        if run.batch_index == 0 and self.valid and run.parent is not None:
            self._most_valid = self._of(run)

    def stop_validate(self, run: Run) -> bool:
        """Whether that was the last batch of this validation."""
        return run.batch_index >= self._most_valid

    def _of(self, run: Run) -> int:
        """How many batches of a loader may be drawn."""
        if self.batches is not None:
            return self.batches
        batches = length(run.loader)
        if batches is None:
            raise LoaderRefused(
                f"share is {self.share}, and the loader, {typed(run.loader)}, has no length, in {run.where}",
                allowed="a loader with a length",
                instead="say how many batches: ShortEpochs(10)",
            )
        assert self.share is not None, "one of them was given"
        return ceil(self.share * batches)
