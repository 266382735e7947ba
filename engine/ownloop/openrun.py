"""How does a loop of the user's own go over epochs and batches?  `for` loops that report what they stand for.

# Theory of operation
#
# `each_epoch` and `each_batch` are generators that report between two of their steps; nothing is done when one is
# closed.  A `break` is noticed when the code goes on: at the next epoch, at `validate`, or when the run is closed.
"""

import warnings
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from attrs import define, field

from engine.batches import NoLoader
from engine.check import check_loader
from engine.errors import ArgumentRefused
from engine.ownloop.between import ahead, inside_of, stops_epoch
from engine.ownloop.outoforder import cannot_leave, no_epoch, no_validation, unfinished, went_on
from engine.ownloop.reports import ReportedRun
from engine.running.drive import reported
from engine.running.fitting import check_forward, check_loss
from engine.running.link import LinkedState, reached
from engine.running.straight import FOLLOW, Drawing
from states import State, Trigger


# Looked at in every batch, so bound once.
_FETCH, _BATCH_READY = State.FETCH, Trigger.BATCH_READY


@define(eq=False, kw_only=True, repr=False)
class OpenRun(ReportedRun):
    """A run that the user's own loop takes forward; `engine.start` gives one.

    The user's code computes and reports; the engine hears it, asks the guards and calls the callbacks, as in `fit`.

    Example:
        >>> import torch
        >>> from engine import Engine, State, Trigger
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, optimizer=optimizer)
        >>> batches = [(torch.ones(4, 2), torch.zeros(4, 1))] * 3
        >>> with engine.start(epochs=2) as run:
        ...     for epoch in run.each_epoch():
        ...         for inputs, targets in run.each_batch(batches):
        ...             output = model(inputs)
        ...             due = run.report(Trigger.OUTPUT_READY, output=output)
        ...             loss = torch.nn.functional.mse_loss(output, targets)
        ...             due = run.report(Trigger.LOSS_READY, loss=loss)
        ...             loss.backward()
        ...             if run.report(Trigger.GRADS_READY) is State.STEP:
        ...                 optimizer.step()
        ...                 due = run.report(Trigger.WEIGHTS_MOVED)
        >>> run.updates, run.outcome.name
        (6, 'COMPLETED')
    """

    # Where the loop over the batches of this epoch stands between two of them; `None` before it has begun.
    between: LinkedState | None = None
    # The epoch whose batches were drawn last, and the loader that is drawn from where no other is named.
    drawn: int = -1
    start_loader: Iterable[Any] = field(init=False)
    # Where a batch is open: what a batch leads to, and a dry loader does not.
    inside: frozenset[LinkedState] = frozenset()
    # How many loops over batches were begun, the number of the last one that was left before its end, and how many
    # batches of this epoch were passed by without a report.
    loops: int = 0
    left_loop: int = 0
    passed: int = 0

    def __attrs_post_init__(self) -> None:
        """Keep the loader that `start` was given: each epoch may name another."""
        self.start_loader = self.loader

    def each_epoch(self) -> Iterator[int]:
        """Begin one epoch after the other, while one is due and no stop is granted; gives `run.epoch`.

        Going on ends the epoch before: the engine flushes an open window and validates, if `start` was given a
        validation loader and `validate` was not called.  Where the loop over its batches was left by a `break`, it is
        stopped (`stop_epoch`).

        Raises:
            OutOfOrder: a batch is open, and something of it was not reported.
            ArgumentRefused: the machine has no epochs.
        """
        while self._next_epoch():
            yield self.epoch

    def each_batch(self, loader: Iterable[Any] | None = None) -> Iterator[tuple[Any, Any]]:
        """Draw the batches of this epoch: `(run.inputs, run.targets)`, on the device.

        A batch that is no pair is all inputs; its targets are None.
        Batches that `skip_batch` skips do not come.  `continue` skips a batch of which nothing was reported yet.

        Args:
            loader: Any iterable of batches; by default the one that `start` was given.

        Raises:
            OutOfOrder: no epoch is open, its batches were drawn already, or something of a batch was not reported.
            LoaderRefused: as in `fit`.
        """
        number = self._open(loader)
        while self._next_batch(number):
            yield self.inputs, self.targets

    def validate(self, loader: Iterable[Any] | None = None) -> Enum:
        """Report *validation due*: the guards are asked, and the machine that VALIDATE holds runs; the epoch ends.

        Where the run was stopped in this epoch already, nothing is left to validate, and nothing happens.

        Args:
            loader: What to validate on, this time; by default what `start` was given.

        Returns:
            The state that the run is in then; the numbers are in `run.metrics`.

        Raises:
            OutOfOrder: the run is not between the last batch of an epoch and its end, or it has ended.
            LoaderRefused: there is nothing to validate on.
        """
        if self.ended and self.between is not None:
            return self.state
        if self.ended or self.state is State.TRAIN or self._before_batches:
            raise no_validation(self)
        self._check_validates()
        given, kept = self.valid_loader if loader is None else loader, self.valid_loader
        self._check_free()
        check_loader("loader", given)
        check_forward(self.machine.within, self.model, self.given)
        check_loss(self.machine.within, self.loss_fn, self.given)
        self._leave_batches("run.validate was called")
        self.valid_loader = given
        try:
            return self._validated()
        finally:
            self.valid_loader = kept

    def _validated(self) -> Enum:
        """Report that validation is due, unless a stop was granted when the batches were left."""
        return self.state if self.ended else self.report(Trigger.VALIDATION_DUE)

    def _next_epoch(self) -> bool:
        """End the epoch that is open, and begin another one; whether there was one to begin."""
        if not self.begun and not self.ended:
            self._check_epochs()
            self._move(self._pass_on)
        self._leave_batches()
        while not self.ended and self.state is not State.TRAIN:
            if self.state is not State.CLOSE:
                raise unfinished(self)
            self._move(self._pass_on)
        if not self.ended:
            self._move(self._pass_on)
        self.between, self.drawn = None, -1
        return not self.ended

    def _pass_on(self) -> None:
        """Let the engine do what the state asks for, up to where the user's code is to act again."""
        self._settle(self._act())

    def _open(self, loader: Iterable[Any] | None) -> int:
        """Begin the loop over the batches of an epoch; gives its number."""
        self._check_free()
        begun = self.between is not None and self.drawn == self.epoch
        if begun or self.ended or self.here.action is not None or not self.here.waits:
            raise no_epoch(self)
        if loader is not None:
            check_loader("loader", loader)
        elif isinstance(self.start_loader, NoLoader):
            raise self.start_loader.refused()
        self.loader, self.iterator, self.between = self.start_loader if loader is None else loader, None, self.here
        self.drawn, self.inside = self.epoch, self.inside or inside_of(self.here)
        self.loops, self.passed = self.loops + 1, 0
        return self.loops

    def _next_batch(self, number: int) -> bool:
        """Draw a batch; whether there is one."""
        if number != self.loops or number == self.left_loop:
            raise went_on(self)
        if self.here is not self.between:
            self._leave_batch()
        while self.here is self.between or self.state is _FETCH:
            if not self._move(self._draw):
                raise unfinished(self)
        if self._in_batch:
            return True
        self._look_back()
        return False

    def _look_back(self) -> None:
        """The loop over the batches of an epoch is over: say so if it reported nothing at all."""
        if self.passed and self.passed == self.batch_index:
            text = f"nothing was reported of any of the {self.passed} batches that were drawn: each counts as skipped"
            warnings.warn(f"{text}; report what your code does, from Trigger.OUTPUT_READY on", stacklevel=4)

    def _draw(self) -> bool:
        """Ask whether to stop; if not, go on to the loader, and draw a batch; `False` if something is due before."""
        if (drawing := self.here.drawing) is not None and (trigger := drawing.do(self)) is not FOLLOW:
            self._drew(drawing, trigger)
            return True
        if self.state is not _FETCH:
            self._act()
        while self.state is not _FETCH and not self.here.waits:
            self._act()
        if self.state is not _FETCH:
            self._settle()
            return self.here.action is None or all(at.state is not _FETCH for at in ahead(self.here))
        self._settle(self._act())
        return True

    def _drew(self, drawing: Drawing, trigger: object) -> None:
        """Go on behind the loader, which was asked without a look at the rows."""
        if trigger is not _BATCH_READY:
            self.here = drawing.fetch
            self._settle(self._choose(reported(self, drawing.fetch, trigger)))
            return
        self.here = drawing.ready.dest
        if drawing.offers is None:
            self._settle(drawing.ready)
        else:
            self._decided_on(drawing.offers)

    @property
    def _in_batch(self) -> bool:
        """Whether a batch is open."""
        return self.here in self.inside

    @property
    def _before_batches(self) -> bool:
        """Whether an epoch is open, and nothing of it was drawn."""
        return self.between is None and self.batch_index == 0 and self.here.waits and self.here.action is None

    def _leave_batch(self, what: str = "the loop went on") -> None:
        """The loop goes on: a batch of which nothing was reported is skipped; one that is open is refused."""
        self._check_free()
        if self.decided is not None:
            self.passed += 1
            self.skip()
        elif self._in_batch:
            raise unfinished(self, what)

    def _leave_batches(self, what: str = "the loop went on") -> None:
        """The code goes on behind the loop over the batches: if batches may be left, the epoch is stopped."""
        self._leave_batch(what)
        if not self.ended and self.here.action is None and self.here.waits:
            if not stops_epoch(self.here):
                raise cannot_leave(self)
            self.left_loop = self.loops
            self.stop("the loop over its batches was left", scope="epoch")
            self._move(self._pass_on)

    def _stop_here(self) -> None:
        """A `break` is noticed first: it stops the epoch, and then the run is left."""
        if self.here is self.between and stops_epoch(self.here):
            self._leave_batches()
        super()._stop_here()

    def _check_epochs(self) -> None:
        if State.TRAIN not in self.machine.states:
            raise ArgumentRefused(
                f"run.each_epoch was called on a run of {self.machine.name}, which has no state train",
                allowed="a machine that begins epochs there",
                instead="call run.advance() until the run stands between two batches, then iterate run.each_batch()",
            )
        if not next(at.waits for at in reached(self.linked.start) if at.state is State.TRAIN):
            raise ArgumentRefused(
                "run.each_epoch was called on a run whose epochs are begun by the engine: mine leaves State.TRAIN out",
                allowed="mine with State.TRAIN, for which the loop stands",
                instead="say mine=PLAIN - {...}, with `from engine import PLAIN`; or call run.advance()",
            )

    def _check_validates(self) -> None:
        if Trigger.VALIDATION_DUE not in self.machine.triggers:
            raise ArgumentRefused(
                f"run.validate was called on a run of {self.machine.name}, where no validation is ever due",
                allowed="a machine with State.VALIDATE",
                instead="call engine.evaluate(loader): it gives a run with its metrics",
            )
