"""How does an optimizer step that evaluates the loss anew?  One with a closure, such as LBFGS."""

import inspect
from collections.abc import Mapping
from enum import Enum
from typing import Any, NoReturn

import torch
from attrs import define, field, frozen
from torch import Tensor, optim

from engine.errors import OptimizerRefused
from engine.run import Do, Run, gradients, held
from engine.several import Optimizers
from states import Trigger


@frozen(eq=False)
class Made:
    """A value as an action left it, to be compared later: another one, or one that was written into, is changed."""

    value: Any
    version: int

    @classmethod
    def of(cls, value: object) -> "Made":
        """A value as it is now."""
        return cls(value, _version(value))

    def is_still(self, value: object) -> bool:
        """Whether a value is this one, untouched."""
        return value is self.value and _version(value) == self.version


def _version(value: object) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else -1  # noqa: SLF001  # torch's name


@define(eq=False)
class Closing:
    """The actions of a machine whose optimizer evaluates the loss several times for one step.

    The closure's first call returns the loss that is there already; later calls compute it anew, unheard: with the
    actions alone, so nothing that a callback makes of the batch, its output, loss or gradients behind the action that
    uses or makes them would be in all of them.  That is refused; so are gradients of more than one batch.

    Cost: per step a copy of the gradients and a comparison, which waits for the device, as LBFGS does itself.
    """

    forward_before: Do
    loss_before: Do
    backward_before: Do
    # What the actions used and made of the batch in hand, by the name of the run's field.
    _made: dict[str, Made] = field(factory=dict)
    # Copies of the gradients as they were made.
    _gradients: tuple[Tensor, ...] = ()
    # Whether gradients of something else are in them.
    _kept: bool = False

    def forward(self, run: Run) -> Enum:
        """The action of FORWARD; what it used and made is remembered."""
        trigger = self.forward_before(run)
        self._made = {"inputs": Made.of(run.inputs), "output": Made.of(run.output)}
        return trigger

    def loss(self, run: Run) -> Enum:
        """The action of LOSS; what it used and made is remembered."""
        self._check(run)
        trigger = self.loss_before(run)
        self._made.update({name: Made.of(getattr(run, name)) for name in ("output", "targets", "loss")})
        return trigger

    def backward(self, run: Run) -> Enum:
        """The action of BACKWARD; what it made is remembered."""
        self._check(run)
        trigger = self.backward_before(run)
        self._made["loss"] = Made.of(run.loss)
        self._gradients = tuple(gradient.clone() for gradient in gradients(run))
        return trigger

    def fresh_backward(self, run: Run) -> Enum:
        """The engine's own action of BACKWARD, which adds to what is there."""
        self._kept = any(bool(_dense(gradient).any()) for gradient in gradients(run))
        return self.backward(run)

    def step(self, run: Run) -> Enum:
        """The action of STEP."""
        assert run.optimizer is not None, "an optimizer that needs a closure is there"
        self._check_gradients(run)
        first, output, fresh = run.loss, run.output, True
        parameters = held(run.optimizer)
        made_at = list(map(_version, parameters))

        def closure() -> Tensor:
            nonlocal fresh
            if not fresh or made_at != list(map(_version, parameters)):  # some move before they call it
                self._evaluate(run)
            fresh = False
            return run.loss  # type: ignore[no-any-return]  # the loss function's result

        run.optimizer.step(closure)  # type: ignore[arg-type,call-arg]  # a closure returns a tensor; several need none
        run.loss, run.output = first, output
        self._made, self._gradients = {}, ()  # nothing of this batch is held beyond its step
        return Trigger.WEIGHTS_MOVED

    def _check(self, run: Run) -> None:
        """Refuse what the first evaluation, or the later ones, would have alone."""
        for name, made in self._made.items():
            if not made.is_still(getattr(run, name)):
                raise _changed(run, name)

    def _check_gradients(self, run: Run) -> None:
        if run.window > 1:
            raise _one_batch_alone(run, f"{run.window} batches were accumulated", "accumulate")
        if self._kept:
            raise _one_batch_alone(run, "gradients were left from before this batch", "skip_zero_grad")
        self._check(run)
        now = tuple(gradients(run))
        if len(now) != len(self._gradients) or not all(map(_same, now, self._gradients)):
            raise _changed(run, "gradients")

    def _evaluate(self, run: Run) -> None:
        assert run.optimizer is not None, "as above"
        run.optimizer.zero_grad()
        self.forward(run)
        self.loss(run)
        self.backward(run)


def _dense(gradient: Tensor) -> Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two gradients are equal; what is not a number equals itself here."""
    return torch.allclose(_dense(one), _dense(other), rtol=0.0, atol=0.0, equal_nan=True)


def flush_refused(run: Run) -> NoReturn:
    """The action of FLUSH: the batches of the open window are gone."""
    left = "a batch was" if run.window == 1 else f"{run.window} batches were"
    raise _one_batch_alone(run, f"{left} accumulated when the loader was left", "accumulate")


def needs_closure(optimizer: optim.Optimizer | Optimizers | None) -> bool:
    """Whether the optimizer's `step` cannot be called without a closure; that of several takes none."""
    if optimizer is None:
        return False
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _one_batch_alone(run: Run, what: str, guard: str) -> OptimizerRefused:
    """The error for gradients of several batches: the closure would evaluate the last of them alone."""
    return OptimizerRefused(
        f"{type(run.optimizer).__name__} evaluates the loss anew, and {what} in {run.where}",
        allowed="gradients of one batch, for optimizers that need a closure",
        instead=f"take the guard `{guard}` away, or whatever else computes gradients between two batches; use an "
        "optimizer without a closure; or replace the actions that step",
    )


# Where what was changed can be made so that every evaluation has it.
_WHERE: Mapping[str, str] = {
    "inputs": "change them in batch_begin or forward_begin",
    "targets": "change them in loss_begin or before",
    "output": "compute it in the action: actions={State.FORWARD: output_from(lambda run: ...)}",
    "loss": "compute it in the action: actions={State.LOSS: loss_from(lambda run: ...)}",
    "gradients": "change them in a hook, which every evaluation runs: parameter.register_hook(lambda gradient: ...)",
}


def _changed(run: Run, what: str) -> OptimizerRefused:
    thing, optimizer = "the gradients" if what == "gradients" else f"run.{what}", type(run.optimizer).__name__
    return OptimizerRefused(
        f"{thing} changed behind the action that used or made it, and {optimizer} evaluates the loss anew without that",
        allowed="inputs, targets, output, loss and gradients as the actions left them",
        instead=_WHERE[what],
    )
