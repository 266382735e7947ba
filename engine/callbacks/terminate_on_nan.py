"""Has the training broken down?  Ends the run when the loss, or a gradient, is nan or inf."""

from operator import length_hint

from attrs import define
from torch import Tensor
from torch.nn.utils import get_total_norm

from engine.check import check_count
from engine.errors import ArgumentRefused, LossRefused
from engine.listeners import Callback
from engine.run import Run, gradients
from states.errors import shown, typed


class TerminateOnNaN(Callback):
    """End a run whose loss has become nan or inf, and say in which batches.

    Nothing is read on the host in a batch: 0 times each loss is added up on the device, which gives nan once there was
    a nan or inf, and 0 before.  That sum is read after every *every* batches, and after the last of a loader that knows
    its length: then the run is stopped, before it is validated or saved.  Where the fault is found later, when the
    epoch has ended (a loader without a length, an epoch that `stop_epoch` cut short, a part-filled window that is
    stepped behind the last batch), it is an error: a stop would come too late, and the epoch would look like a good
    one.  So no run that had a nan is COMPLETED.

    Args:
        every: How many batches pass between two looks; each waits for the device.  1 names the batch exactly.
        gradients: Look at the gradients of each step, too, before they are clipped: they break one step earlier, and a
            loss may stay finite when they do not.  Those of a skipped step (a scaled loss overflowed) do not count.

    Raises:
        ArgumentRefused: *every* is no whole number of 1 or more, *gradients* no bool.
        LossRefused: nan or inf was found when the epoch had ended already.

    Cost per batch: one addition on the device; with *gradients*, the largest absolute value of all gradients.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks.terminate_on_nan import TerminateOnNaN
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[TerminateOnNaN(every=2)])
        >>> good, bad = (torch.ones(4, 2), torch.zeros(4, 1)), (torch.ones(4, 2), torch.full((4, 1), torch.inf))
        >>> print(engine.fit([good, good, good, bad, good, good]).stops[0].reason)
        TerminateOnNaN: the loss was nan or inf in one of the batches 2 to 3 of epoch 0
    """

    order = -40

    def __init__(self, *, every: int = 50, gradients: bool = False) -> None:
        check_count("every", every, least=1)
        if not isinstance(gradients, bool):
            raise ArgumentRefused(
                f"gradients is {shown(gradients)}, {typed(gradients)}", allowed="True, False", instead="leave it out"
            )
        self.every, self.gradients = every, gradients
        self._loss, self._gradients = _Poison(), _Poison()
        if gradients:  # who does not look at gradients does not hear, and a captured step stays possible
            self.on_step_begin = self._gradients.take_gradients
        # The first batch that was not looked at, and the last one (-1: unknown).
        self._from, self._last = 0, -1

    def on_epoch_begin(self, run: Run) -> None:
        """Begin anew."""
        self._loss.sum = self._gradients.sum = None
        self._from, self._last = 0, length_hint(run.loader, 0) - 1

    def on_batch_end(self, run: Run) -> None:
        """Take in the loss, and look if it is time to."""
        if isinstance(run.loss, Tensor):  # there is none while all batches were skipped
            self._loss.take(run.loss.detach())
        if (run.batch_index + 1) % self.every == 0 or run.batch_index == self._last:
            found = self._found(run, run.batch_index)
            if found:
                run.stop(found)

    def on_epoch_end(self, run: Run) -> None:
        """Look at what is left: the loader had no length, or a window was stepped behind its last batch."""
        unread = self._from < run.batch_index or self._gradients.sum is not None
        if run.stopping or not unread:
            return
        found = self._found(run, run.batch_index - 1)
        if found:
            raise LossRefused(
                found,
                allowed="finite numbers",
                instead="take a smaller learning rate, clip the gradients, or look for the operation with "
                "torch.autograd.set_detect_anomaly(True)",
            )

    def on_train_end(self, run: Run) -> None:
        """Hold nothing on the device."""
        del run
        self._loss.sum = self._gradients.sum = None

    def _found(self, run: Run, last: int) -> str:
        """What was nan or inf since the last look, and in which batches; empty if nothing.  Waits for the device."""
        first, self._from = min(self._from, last), last + 1
        sums = {"the loss was": self._loss, "the gradients were": self._gradients}
        broken = [what for what, poison in sums.items() if poison.sum is not None and not poison.sum.isfinite()]
        where = f"in batch {first}" if first == last else f"in one of the batches {first} to {last}"
        return f"TerminateOnNaN: {' and '.join(broken)} nan or inf {where} of epoch {run.epoch}" if broken else ""


@define(eq=False)
class _Poison:
    """The sum of 0 times each value: nan once one of them was nan or inf, for 0 times inf is nan."""

    # A scalar on the device of the values; none before the first.
    sum: Tensor | None = None

    def take(self, value: Tensor) -> None:
        """Take in a value; of several numbers, the largest."""
        if value.dim():
            value = value.abs().amax()
        self.sum = value * 0 if self.sum is None else self.sum.add_(value, alpha=0)

    def take_gradients(self, run: Run) -> None:
        """Take in the gradients of a step."""
        present = [gradient.detach() for gradient in gradients(run)]
        if present:
            self.take(get_total_norm(present, float("inf")))
