"""How do weights decay, whatever the optimizer makes of gradients?  By lr times a rate, before each step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.check import is_number
from engine.errors import ArgumentRefused, CallbackRefused, OptimizerRefused
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


class WeightDecay(Callback):
    """Decoupled weight decay for any optimizer: before each step, each weight is multiplied by `1 - lr * rate`.

    So Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), as `torch.optim.AdamW` has it: `Adam` with
    this is `AdamW`, bit for bit.  The `lr` is that of the weight's group as it is then; a tensor is not read on the
    host.  What has no gradient in a step does not decay in it.

    Args:
        rate: The decay; 0.01 is what `AdamW` takes by default.
        only: Which parameters decay, asked for each of the model's at `train_begin`: `(name, parameter) -> bool`.  By
            default all that the optimizer holds.  `lambda name, parameter: parameter.ndim > 1` spares biases and norms.

    Raises:
        ArgumentRefused: *rate* is no number from 0 on, or *only* cannot be called.
        OptimizerRefused: at `train_begin`, where the optimizer decays weights itself, or there is none.
        CallbackRefused: at `train_begin`, where another callback writes the optimizer's own `weight_decay`.

    Cost per step: a multiplication for each parameter, all of a group by one call.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> adam = torch.optim.Adam(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), adam, callbacks=[WeightDecay(0.01)])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 10)
    """

    order = 60
    in_trials = True

    def __init__(self, rate: float, *, only: Callable[[str, Tensor], bool] | None = None) -> None:
        if not is_number(rate) or rate < 0:
            raise ArgumentRefused(
                f"rate is {shown(rate)}, {typed(rate)}",
                allowed="a number, 0 or more",
                instead="write for example WeightDecay(0.01)",
            )
        if only is not None and not callable(only):
            raise ArgumentRefused(
                f"only is {shown(only)}, {typed(only)}",
                allowed="a function (name, parameter) -> bool",
                instead="write only=lambda name, parameter: parameter.ndim > 1",
            )
        self.rate, self.only = rate, only
        # Which parameters decay, where that was asked.
        self._chosen: set[Tensor] | None = None

    def on_train_begin(self, run: Run) -> None:
        """Refuse what would decay twice; ask which parameters decay."""
        if run.optimizer is None:
            raise OptimizerRefused(
                "WeightDecay trains with an engine that has no optimizer",
                allowed="an optimizer, whose groups say what lr is",
                instead="give the engine one, or leave WeightDecay out",
            )
        for number, group in enumerate(run.optimizer.param_groups):
            _check_group(number, group)
        _check_callbacks(run.callbacks, run.optimizer.param_groups)
        if self.only is not None:
            self._chosen = {p for name, p in run.model.named_parameters() if self.only(name, p)}

    def on_step_begin(self, run: Run) -> None:
        """Decay."""
        assert run.optimizer is not None, "checked in train_begin"
        for group in run.optimizer.param_groups:
            decaying = [parameter for parameter in group["params"] if parameter.grad is not None]
            if self._chosen is not None:
                decaying = [parameter for parameter in decaying if parameter in self._chosen]
            if decaying:
                with torch.no_grad():
                    torch._foreach_mul_(decaying, 1 - group["lr"] * self.rate)  # as torch's AdamW does

    def on_train_end(self, run: Run) -> None:
        """Hold no parameter longer than the run."""
        del run
        self._chosen = None


def _check_group(number: int, group: dict[str, Any]) -> None:
    if own := group.get("weight_decay", 0):
        raise OptimizerRefused(
            f"the optimizer has weight_decay={own} in group {number}, and WeightDecay would decay it once more",
            allowed="weight_decay=0 in each group of the optimizer",
            instead="make the optimizer with weight_decay=0 (that of AdamW is 0.01 unless it is said), or leave "
            "WeightDecay out",
        )


def _check_callbacks(callbacks: Mapping[str, object], groups: Sequence[dict[str, Any]]) -> None:
    for name, callback in callbacks.items():
        writes = getattr(callback, "writes", None)
        for number, what in writes(groups) if callable(writes) else ():
            if what == "weight_decay":
                raise CallbackRefused(
                    f"{name} writes weight_decay of group {number}, and WeightDecay would decay it once more",
                    allowed="one of them that decays weights",
                    instead=f"leave WeightDecay out, or let {name} write no weight_decay",
                )
