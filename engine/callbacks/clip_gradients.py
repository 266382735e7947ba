"""How large may a gradient be?  All of them together by their norm, or each number by itself."""

from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from engine.errors import ArgumentRefused
from engine.listeners import Callback
from engine.measuring.meter import Mean
from engine.run import Run, held
from states.errors import shown, typed


class ClipGradients(Callback):
    """Clip the gradients before each step, when they are the mean over the window, as torch's functions do.

    With *norm*, the gradients of all parameters that the optimizer holds are scaled down together where their norm is
    larger (`torch.nn.utils.clip_grad_norm_`).  The norm before that is measured: its mean over the steps of the epoch
    is `run.metrics["grad_norm"]` at `epoch_end`, and stands in the epoch's record in `run.history`; nan without a step.
    With *value*, each number is cut to between minus and plus that value (`torch.nn.utils.clip_grad_value_`).

    Args:
        norm: The largest norm; `inf` measures it and clips nothing.
        value: The largest absolute value.
        norm_type: The p of the norm: 1.0, 2.0, `inf` ...

    Raises:
        ArgumentRefused: not exactly one of *norm* and *value*, or one that is no number above 0.

    Cost per step: torch's function, a list of the parameters, and for a norm a copy of one number on the device.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[ClipGradients(norm=1.0)])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 10)
        >>> "grad_norm" in run.history[0]
        True
    """

    order = 50
    in_trials = True

    def __init__(self, *, norm: float | None = None, value: float | None = None, norm_type: float = 2.0) -> None:
        if (norm is None) is (value is None):
            raise ArgumentRefused(
                f"norm is {norm!r} and value is {value!r}",
                allowed="one of them",
                instead="write ClipGradients(norm=1.0), or ClipGradients(value=0.5)",
            )
        for name, given in (("norm", norm), ("value", value), ("norm_type", norm_type)):
            if given is not None:
                _check_number(name, given)
        self.norm, self.value, self.norm_type = norm, value, float(norm_type)
        self.measures = () if norm is None else ("grad_norm",)
        self._mean = Mean("grad_norm")

    def on_epoch_begin(self, run: Run) -> None:
        """Forget the norms of the last epoch."""
        del run
        self._mean = Mean("grad_norm")

    def on_step_begin(self, run: Run) -> None:
        """Clip; a parameter that two optimizers hold is clipped once."""
        parameters = dict.fromkeys(run.model.parameters() if run.optimizer is None else held(run.optimizer))
        if self.norm is not None:
            self._mean.add(clip_grad_norm_(parameters, self.norm, self.norm_type), 1)
        if self.value is not None:
            clip_grad_value_(parameters, self.value)

    def on_epoch_end(self, run: Run) -> None:
        """Read the mean norm; of two that measure one, the first, which is that before any clipping, stays."""
        if self.norm is None:
            return
        measured = run.metrics.setdefault("grad_norm", self._mean.value())
        if not run.stopping:
            run.history[-1].setdefault("grad_norm", measured)

    def on_train_end(self, run: Run) -> None:
        """Hold nothing on the device."""
        del run
        self._mean = Mean("grad_norm")


def _check_number(name: str, given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise ArgumentRefused(
            f"{name} is {shown(given)}, {typed(given)}",
            allowed="a number above 0; inf too",
            instead=f"write for example {name}={2.0 if name == 'norm_type' else 1.0}",
        )
