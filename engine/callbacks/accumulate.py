"""How many batches make one step?  So many, or as many as it takes to see so many samples."""

from functools import partial

from torch import Tensor

from engine.check import check_count
from engine.errors import ArgumentRefused, LossRefused
from engine.listeners import Callback
from engine.measuring.meter import batch_size
from engine.run import Run, gradients


class Accumulate(Callback):
    """Keep the gradients of several batches, and step with their mean; the part-filled last window of an epoch is one.

    With *batches*, each batch of a window weighs the same, as the engine has it.  With *samples*, a window closes as
    soon as it holds that many, and each batch weighs by its number of samples: the gradient is that of the mean over
    all samples of the window.  The loss has to be a mean over its batch in both.  `run.loss` stays as it is: the weight
    is put on the gradient that flows back from it.

    Args:
        batches: Batches for each step.
        samples: Samples for each step, at least; see `engine.measuring.meter.batch_size` for what is counted.

    Raises:
        ArgumentRefused: not exactly one of them, or one that is no whole number from 1 on.
        LossRefused: with *samples*, when the gradients of a batch that has a weight did not come through `run.loss`, as
            in a loop of one's own that reports the loss behind its backward.  The optimizer has not moved.

    Cost per batch: a comparison and three calls that do nothing.  With *samples* a look at the shape of the batch; one
    multiplication for each batch, and one for each parameter and step, where the batches of a window differ in size.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Accumulate(batches=4)])
        >>> engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 10).updates
        3
    """

    order = 20
    in_trials = True

    def __init__(self, *, batches: int | None = None, samples: int | None = None) -> None:
        if (batches is None) is (samples is None):
            raise ArgumentRefused(
                f"batches is {batches!r} and samples is {samples!r}",
                allowed="one of them",
                instead="write Accumulate(batches=4), or Accumulate(samples=128)",
            )
        check_count("batches", batches, least=1, may_be_none=True)
        check_count("samples", samples, least=1, may_be_none=True)
        self.batches, self.samples = batches, samples
        # Of the open window: how many samples it holds, and its first batch, whose weight is 1.
        self._held, self._first = 0, 1
        # Whether the batch in hand has a weight that its gradients did not get yet.
        self._due = False

    def on_backward_begin(self, run: Run) -> None:
        """Count the samples; let the batch weigh as many times the window's first one as it is larger."""
        if self.samples is None:
            return
        size = batch_size(run.inputs, run.targets)
        if not run.window:
            self._held, self._first = 0, size or 1
        self._held += size
        self._due = False
        # A loss that nothing leads back from is refused by the action that comes next.
        if size != self._first and isinstance(run.loss, Tensor) and run.loss.requires_grad:
            self._due = True
            run.loss.register_hook(partial(self._weighed, size / self._first))  # type: ignore[no-untyped-call]  # torch's

    def on_backward_end(self, run: Run) -> None:
        """See that the batch got its weight."""
        if self._due:
            raise LossRefused(
                f"no gradient came through run.loss in {run.where}, so Accumulate could not weigh the batch",
                allowed="a backward from run.loss, between the report of the loss and that of the gradients",
                instead="in a loop of your own, call run.report(Trigger.LOSS_READY, loss=loss) before loss.backward()",
            )

    def _weighed(self, weight: float, gradient: Tensor) -> Tensor:
        self._due = False
        return gradient * weight

    def accumulate(self, run: Run) -> bool:
        """Whether the window stays open."""
        return run.window < self.batches if self.batches is not None else self._held < (self.samples or 0)

    def on_step_begin(self, run: Run) -> None:
        """Make the mean over batches one over samples: nothing to do where all of them were equally large."""
        if self.samples is None:
            return
        as_if_equal = run.window * self._first
        if as_if_equal != self._held and self._held:
            for gradient in dict.fromkeys(gradients(run)):  # once, where two optimizers hold it
                gradient.mul_(as_if_equal / self._held)
