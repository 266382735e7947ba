"""How does an optimizer step that evaluates the loss anew?  One with a closure, such as LBFGS."""

import inspect
from enum import Enum

from torch import Tensor, optim

from engine.errors import OptimizerRefused
from engine.run import Do, Run
from states import Trigger


def step_with_closure(forward: Do, loss: Do, backward: Do) -> Do:
    """A step for optimizers that evaluate the loss several times, such as LBFGS.

    The closure's first call returns the loss that is there already; later calls compute it anew, unheard.
    """

    def step_closing(run: Run) -> Enum:
        if run.window > 1:
            raise no_closure_for_windows(run)
        first, output = run.loss, run.output
        fresh = True

        def closure() -> Tensor:
            nonlocal fresh
            if not fresh:
                run.optimizer.zero_grad()  # type: ignore[union-attr]  # as below
                forward(run)
                loss(run)
                backward(run)
            fresh = False
            return run.loss  # type: ignore[no-any-return]  # the loss function's result

        run.optimizer.step(closure)  # type: ignore[union-attr, arg-type]  # a closure returns a tensor
        run.loss, run.output = first, output
        return Trigger.WEIGHTS_MOVED

    return step_closing


def needs_closure(optimizer: optim.Optimizer | None) -> bool:
    """Whether the optimizer's `step` cannot be called without a closure."""
    if optimizer is None:
        return False
    parameter = inspect.signature(optimizer.step).parameters.get("closure")
    return parameter is not None and parameter.default is inspect.Parameter.empty


def no_closure_for_windows(run: Run) -> OptimizerRefused:
    """The error for a window of several batches: the closure would evaluate the last of them alone."""
    return OptimizerRefused(
        f"{type(run.optimizer).__name__} evaluates the loss anew, and {run.window} batches were accumulated",
        allowed="windows of one batch for optimizers that need a closure",
        instead="take the guard `accumulate` away, or use an optimizer without a closure",
    )
