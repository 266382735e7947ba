"""How does a network learn what lies between its samples?  MixUp and CutMix mix those of a batch, and its loss.

# Theory of operation
#
# The inputs are mixed in `batch_begin`, and from there to `batch_end` `run.loss_fn` is a `MixedLoss`, which holds the
# loss function that was there.  It belongs to the run: the engine's own is never touched, however the run ends.  It
# stays until `batch_end` because some evaluate a batch more than once, LBFGS and sharpness-aware minimization among
# them; a validation that is held within a batch gets the loss function that was there.
"""

from abc import ABC, abstractmethod
from math import isfinite, sqrt
from typing import Any

import torch
from attrs import define, field, frozen
from torch import Tensor

from engine.errors import ArgumentRefused, BatchRefused, CallbackRefused, LossRefused
from engine.listeners import Callback
from engine.run import Run
from states import Event
from states.errors import shown, typed
from states.names import name_of


# What must be heard of a batch, or the inputs would be mixed without the loss, or for good.
NEEDED = (Event.BATCH_BEGIN, Event.LOSS_END, Event.BATCH_END)
# Pictures have at least these dimensions: batch, channels, height, width.
PICTURES = 4


@frozen(eq=False)
class Mix:
    """Who is mixed with whom: *share* is what is each sample's own, *partner* the other's index, of shape (batch,)."""

    share: float
    partner: Tensor


@define(eq=False)
class MixedLoss:
    """A loss function that stands for another one: the mean over own targets and partners', weighted by their shares.

    Example:
        >>> mixed = MixedLoss(torch.nn.functional.mse_loss, [Mix(0.75, torch.tensor([1, 0]))])
        >>> mixed(torch.zeros(2), torch.tensor([0.0, 0.0])), mixed.called
        (tensor(0.), True)
    """

    plain: Any
    mixes: list[Mix] = field(factory=list)
    called: bool = False

    def __call__(self, output: Any, targets: Tensor) -> Tensor:  # noqa: ANN401  # as the model gives it
        """The mixed loss."""
        self.called = True
        return self._mixed(output, targets, 0)

    def _mixed(self, output: Any, targets: Tensor, depth: int) -> Tensor:  # noqa: ANN401  # as above
        if depth == len(self.mixes):
            return self.plain(output, targets)  # type: ignore[no-any-return]  # the loss function's result
        mix = self.mixes[depth]
        own = self._mixed(output, targets, depth + 1)
        others = self._mixed(output, targets[mix.partner], depth + 1)
        return mix.share * own + (1 - mix.share) * others


class Mixing(Callback, ABC):
    """What MixUp and CutMix have in common."""

    order = 10
    # A share comes from torch's generator of the CPU, the partners from that of the inputs' device: a seed, a
    # checkpoint and a trial know both, where a generator of its own would need a seed and a state of its own.
    uses_random = True
    in_trials = True

    def __init__(self, alpha: float) -> None:
        if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not isfinite(alpha) or alpha <= 0:
            raise ArgumentRefused(
                f"alpha is {shown(alpha)}, {typed(alpha)}",
                allowed="a number above 0: shares are drawn from Beta(alpha, alpha)",
                instead="leave it out for that of the paper",
            )
        self.alpha = alpha
        parameter = torch.tensor(float(alpha), device="cpu")  # a share is used on the host, so it is drawn there
        self._shares = torch.distributions.Beta(parameter, parameter, validate_args=False)

    def on_train_begin(self, run: Run) -> None:
        """Refuse a training whose loss could not be mixed."""
        if missing := [name_of(event) for event in NEEDED if event not in run.machine.events]:
            raise CallbackRefused(
                f"{type(self).__name__} needs {missing[0]}, and the machine {run.machine.name!r} never announces it",
                allowed=f"a machine with {', '.join(map(name_of, NEEDED))}",
                instead="leave it out, and mix in the actions of this machine",
            )
        if run.loss_fn is None:
            raise CallbackRefused(
                f"{type(self).__name__} mixes the loss, and the engine has no loss function",
                allowed="an engine with a loss_fn, called as run.loss_fn(output, targets)",
                instead="write Engine(model, loss_fn, optimizer)",
            )

    def on_batch_begin(self, run: Run) -> None:
        """Mix the inputs, and have the loss mixed alike."""
        inputs, targets = run.inputs, run.targets
        if problem := self._problem(inputs):
            raise self._refused(run, "inputs", inputs, problem)
        if not isinstance(targets, Tensor) or targets.shape[:1] != inputs.shape[:1]:
            raise self._refused(run, "targets", targets, "a tensor with one target for each sample")
        partner = torch.randperm(len(inputs), device=inputs.device)
        run.inputs, share = self._mixed(inputs, partner, self._shares.sample().item())
        if not isinstance(run.loss_fn, MixedLoss):
            run.loss_fn = MixedLoss(run.loss_fn)
        run.loss_fn.mixes.append(Mix(share, partner))  # the second of two mixes what is mixed already

    def on_loss_end(self, run: Run) -> None:
        """Refuse a loss that was computed without `run.loss_fn`."""
        if isinstance(run.loss_fn, MixedLoss) and not run.loss_fn.called:
            raise LossRefused(
                f"{type(self).__name__} mixed the inputs, and the loss was computed without run.loss_fn in {run.where}",
                allowed="a loss by run.loss_fn(output, targets): it is the mixed one from batch_begin to batch_end",
                instead="call it in your action, as in loss_from(lambda run: run.loss_fn(run.output, run.targets)); in "
                "a loop of your own call run.loss_fn, not engine.loss_fn",
            )

    def on_batch_end(self, run: Run) -> None:
        """Put the loss function back."""
        if isinstance(run.loss_fn, MixedLoss):
            run.loss_fn = run.loss_fn.plain

    on_validate_begin = on_batch_end  # of a validation within a batch: its run takes over what is there
    on_train_end = on_batch_end  # of a run that died within a batch

    def _refused(self, run: Run, what: str, value: object, allowed: str) -> BatchRefused:
        given = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else typed(value)
        return BatchRefused(
            f"{type(self).__name__} cannot mix run.{what}, {given}, in {run.where}",
            allowed=allowed,
            instead="mix in a callback of your own, in batch_begin; or leave it out",
        )

    @abstractmethod
    def _problem(self, inputs: object) -> str:
        """What would be taken in the place of these inputs; nothing if they are."""

    @abstractmethod
    def _mixed(self, inputs: Tensor, partner: Tensor, share: float) -> tuple[Tensor, float]:
        """New inputs of the same shape, and the share of each that is its own."""


class MixUp(Mixing):
    """Train on weighted means of two samples: `share * x + (1 - share) * x[partner]`, and the loss alike.

    One share for each batch, from Beta(alpha, alpha), and a random partner in the batch for each sample; the loss is
    `share * loss(output, targets) + (1 - share) * loss(output, targets[partner])`, as in Zhang, Cissé, Dauphin and
    Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018, arXiv:1710.09412.

    Targets may be class indices or floats, and the loss function what it likes, smoothing of labels included.
    Validation is untouched.  Metrics of the training are computed as ever: from the output for the mixed inputs and the
    targets as the loader gave them, so they say little; `train_loss` is the mean of the mixed loss.

    Args:
        alpha: Above 0; the smaller, the nearer are shares to 0 or 1.

    Raises:
        ArgumentRefused: *alpha* is not a number above 0.
        CallbackRefused: the engine has no loss function, or its machine no batches.
        BatchRefused: inputs that are no floats of shape (batch, ...), or targets that are not one for each of them.
        LossRefused: the loss was computed without `run.loss_fn`, so it was not mixed.

    Cost per batch: a copy of the inputs, a second evaluation of the loss, and 40 microseconds.  Nothing is read from
    the device.

    Example:
        >>> from engine import Engine
        >>> from engine.callbacks import MixUp
        >>> model = torch.nn.Linear(2, 3)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.CrossEntropyLoss(label_smoothing=0.1), sgd, callbacks=[MixUp()])
        >>> run = engine.fit([(torch.rand(4, 2), torch.tensor([0, 1, 2, 0]))], epochs=2)
    """

    def __init__(self, alpha: float = 0.4) -> None:
        super().__init__(alpha)

    def _problem(self, inputs: object) -> str:
        taken = isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.dim() > 0
        return "" if taken else "a tensor of floats, of shape (batch, ...)"

    def _mixed(self, inputs: Tensor, partner: Tensor, share: float) -> tuple[Tensor, float]:
        return inputs[partner].lerp_(inputs, share), share


class CutMix(Mixing):
    """Train on pictures with a box of another one in them, and on the loss weighted by the areas.

    One box for each batch, with its centre anywhere and `1 - share` of the area, the share from Beta(alpha, alpha), cut
    off where it leaves the picture; and a random partner in the batch for each sample.  The loss is `share *
    loss(output, targets) + (1 - share) * loss(output, targets[partner])` with the share of the area that is left, as in
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019, arXiv:1905.04899.

    What is said of targets, validation and metrics in `MixUp` holds here, too.

    Args:
        alpha: Above 0; 1 draws all shares alike.

    Raises:
        ArgumentRefused: *alpha* is not a number above 0.
        CallbackRefused: the engine has no loss function, or its machine no batches.
        BatchRefused: inputs that are no pictures of shape (batch, channels, ..., height, width), or targets that are
            not one for each of them.
        LossRefused: the loss was computed without `run.loss_fn`, so it was not mixed.

    Cost per batch: a copy of the inputs, a second evaluation of the loss, and 70 microseconds.  Nothing is read from
    the device.

    Example:
        >>> from engine import Engine
        >>> from engine.callbacks import CutMix
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.functional.cross_entropy, sgd, callbacks=[CutMix()])
        >>> run = engine.fit([(torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))], epochs=2)
    """

    runs_after: tuple[type, ...] = (MixUp,)  # of two in one engine: which comes first matters

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)

    def _problem(self, inputs: object) -> str:
        taken = isinstance(inputs, Tensor) and inputs.dim() >= PICTURES and min(inputs.shape[-2:]) > 0
        return "" if taken else "a tensor of pictures, of shape (batch, channels, ..., height, width)"

    def _mixed(self, inputs: Tensor, partner: Tensor, share: float) -> tuple[Tensor, float]:
        height, width = inputs.shape[-2:]
        side = sqrt(1 - share)
        (top, bottom), (left, right) = (
            _span(length, int(length * side), int(length * centre))
            for length, centre in zip((height, width), torch.rand(2, device="cpu").tolist(), strict=True)
        )
        mixed = inputs.clone()
        mixed[..., top:bottom, left:right] = inputs[..., top:bottom, left:right][partner]
        return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _span(length: int, cut: int, centre: int) -> tuple[int, int]:
    """Where a cut around a centre begins and ends, within a length; an odd one loses a pixel, as in the paper's code.

    Example:
        >>> _span(8, 4, 5), _span(8, 4, 0), _span(8, 3, 7)
        ((3, 7), (0, 2), (6, 8))
    """
    return max(centre - cut // 2, 0), min(centre + cut // 2, length)
