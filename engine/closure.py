"""How does an optimizer step that evaluates the loss anew?  One with a closure, such as LBFGS."""

import inspect
from enum import Enum
from typing import Any

from attrs import define, field, frozen
from torch import Tensor, optim

from engine.errors import OptimizerRefused
from engine.run import Do, Run, gradients
from states import Trigger


@frozen(eq=False)
class Made:
    """A value as an action made it, to be compared later: another one, or one that was written into, is changed."""

    value: Any = None
    version: int = -1

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
    actions alone, so nothing that a callback makes of output, loss or gradients would be in them.  That is refused; so
    are gradients of more than one batch.  (What every evaluation shall do belongs into an action, or into a hook of a
    parameter.)
    """

    forward_before: Do
    loss_before: Do
    backward_before: Do
    # What the actions made of the batch in hand.
    _output: Made = field(factory=Made)
    _loss: Made = field(factory=Made)
    _gradients: tuple[Made, ...] = ()
    # Whether gradients of an earlier step are in them.
    _kept: bool = False

    def forward(self, run: Run) -> Enum:
        """The action of FORWARD; what it made is remembered."""
        trigger = self.forward_before(run)
        self._output = Made.of(run.output)
        return trigger

    def loss(self, run: Run) -> Enum:
        """The action of LOSS; what it made is remembered."""
        if not self._output.is_still(run.output):
            raise _changed(run, "output")
        trigger = self.loss_before(run)
        self._loss = Made.of(run.loss)
        return trigger

    def backward(self, run: Run) -> Enum:
        """The action of BACKWARD; what it made is remembered."""
        trigger = self.backward_before(run)
        self._gradients = tuple(map(Made.of, gradients(run)))
        return trigger

    def fresh_backward(self, run: Run) -> Enum:
        """The engine's own action of BACKWARD, which adds to what is there."""
        if run.window == 0:
            self._kept = any(bool(gradient.count_nonzero()) for gradient in gradients(run))
        return self.backward(run)

    def step(self, run: Run) -> Enum:
        """The action of STEP."""
        assert run.optimizer is not None, "an optimizer that needs a closure is there"
        self._check(run)
        first, output, fresh = run.loss, run.output, True

        def closure() -> Tensor:
            nonlocal fresh
            if not fresh:
                self._evaluate(run)
            fresh = False
            return run.loss  # type: ignore[no-any-return]  # the loss function's result

        run.optimizer.step(closure)  # type: ignore[arg-type]  # a closure returns a tensor
        run.loss, run.output = first, output
        return Trigger.WEIGHTS_MOVED

    def _check(self, run: Run) -> None:
        """Refuse what the first evaluation alone would have in it."""
        if run.window > 1:
            raise _one_batch_alone(run, f"{run.window} batches were accumulated", "accumulate")
        if self._kept:
            raise _one_batch_alone(run, "the gradients of an earlier step were kept", "skip_zero_grad")
        if not self._loss.is_still(run.loss):
            raise _changed(run, "loss")
        now = tuple(gradients(run))
        if len(now) != len(self._gradients) or not all(map(Made.is_still, self._gradients, now)):
            raise _changed(run, "gradients")

    def _evaluate(self, run: Run) -> None:
        assert run.optimizer is not None, "as above"
        run.optimizer.zero_grad()
        self.forward(run)
        self.loss(run)
        self.backward(run)


def flush_refused(run: Run) -> Enum:
    """The action of FLUSH: the batches of the open window are gone."""
    left = "a batch was" if run.window == 1 else f"{run.window} batches were"
    raise _one_batch_alone(run, f"{left} accumulated when the loader was left", "accumulate")


def needs_closure(optimizer: optim.Optimizer | None) -> bool:
    """Whether the optimizer's `step` cannot be called without a closure."""
    if optimizer is None:
        return False
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def _one_batch_alone(run: Run, what: str, guard: str) -> OptimizerRefused:
    """The error for gradients of several batches: the closure would evaluate the last of them alone."""
    return OptimizerRefused(
        f"{type(run.optimizer).__name__} evaluates the loss anew, and {what} in {run.where}",
        allowed="gradients of one batch, for optimizers that need a closure",
        instead=f"take the guard `{guard}` away, use an optimizer without a closure, or replace the actions that step",
    )


# Where what a callback has changed can be made so that every evaluation has it.
_WHERE = {
    "output": "compute it in the action: actions={State.FORWARD: output_from(lambda run: ...)}",
    "loss": "compute it in the action: actions={State.LOSS: loss_from(lambda run: ...)}",
    "gradients": "change them in a hook, which every evaluation runs: parameter.register_hook(lambda gradient: ...)",
}


def _changed(run: Run, what: str) -> OptimizerRefused:
    return OptimizerRefused(
        f"a callback changed the {what}, and {type(run.optimizer).__name__} evaluates the loss anew without that",
        allowed="output, loss and gradients as the actions made them",
        instead=_WHERE[what],
    )
