"""How does an optimizer step that evaluates the loss anew?  One with a closure, such as LBFGS."""

import inspect
from enum import Enum
from typing import Any

from attrs import define
from torch import Tensor, optim

from engine.errors import OptimizerRefused
from engine.run import Do, Run
from states import Trigger


@define(eq=False)
class Closing:
    """The actions of a machine whose optimizer evaluates the loss several times for one step.

    The closure's first call returns the loss that is there already; later calls compute it anew, unheard: with the
    actions alone, so nothing that a callback put in place of output or loss would be in them.  That is refused.
    """

    forward_before: Do
    loss_before: Do
    backward: Do
    # What the actions made of the batch in hand.
    _output: Any = None
    _loss: Any = None
    # Whether the gradients of an earlier step were kept.
    _kept: bool = False

    def forward(self, run: Run) -> Enum:
        """The action of FORWARD; what it made is remembered."""
        trigger = self.forward_before(run)
        self._output = run.output
        return trigger

    def loss(self, run: Run) -> Enum:
        """The action of LOSS; what it made is remembered."""
        if run.output is not self._output:
            raise _changed(run, "output")
        trigger = self.loss_before(run)
        self._loss = run.loss
        return trigger

    def step(self, run: Run) -> Enum:
        """The action of STEP."""
        assert run.optimizer is not None, "an optimizer that needs a closure is there"
        if run.window > 1:
            raise _one_batch_alone(run, f"{run.window} batches were accumulated", "accumulate")
        if self._kept:
            raise _one_batch_alone(run, "the gradients of an earlier step were kept", "skip_zero_grad")
        first, output, fresh = run.loss, run.output, True
        if first is not self._loss:
            raise _changed(run, "loss")

        def closure() -> Tensor:
            nonlocal fresh
            if not fresh:
                self._evaluate(run)
            fresh = False
            return run.loss  # type: ignore[no-any-return]  # the loss function's result

        run.optimizer.step(closure)  # type: ignore[arg-type]  # a closure returns a tensor
        run.loss, run.output = first, output
        self._kept = True
        return Trigger.WEIGHTS_MOVED

    def flush(self, run: Run) -> Enum:
        """The action of FLUSH: refused, for the batches of the open window are gone."""
        left = "a batch was" if run.window == 1 else f"{run.window} batches were"
        raise _one_batch_alone(run, f"{left} accumulated when the loader was left", "accumulate")

    def clearing(self, zero_grad: Do) -> Do:
        """An action that drops the gradients, so that those to come are of one batch."""

        def clear(run: Run) -> Enum:
            self._kept = False
            return zero_grad(run)

        return clear

    def _evaluate(self, run: Run) -> None:
        assert run.optimizer is not None, "as above"
        run.optimizer.zero_grad()
        self.forward(run)
        self.loss(run)
        self.backward(run)


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
        instead=f"take the guard `{guard}` away, use an optimizer without a closure, or replace the step's action",
    )


def _changed(run: Run, what: str) -> OptimizerRefused:
    return OptimizerRefused(
        f"a callback replaced run.{what}, and {type(run.optimizer).__name__} evaluates the loss anew without it",
        allowed="the output and the loss that the actions made",
        instead=f"compute it in the action: actions={{State.{'FORWARD' if what == 'output' else 'LOSS'}: "
        f"{what}_from(lambda run: ...)}}",
    )
