"""What is done to each batch on the device, before the model sees it?  A function of the user's own, such as a flip."""

from collections.abc import Callable, Collection
from typing import Any

from engine.errors import ArgumentRefused, BatchRefused
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


# The passes over a loader in which a batch may be transformed.
PASSES = ("train", "valid", "predict")


class BatchTransform(Callback):
    """Replace `run.inputs` by what a function makes of them, on the device, when a batch begins.

    A transform of torchvision that takes a batch of pictures is such a function.  It has to return what it makes, and
    to leave what it was given as it is: that may be the loader's own.

    Args:
        function: `inputs -> inputs`; with *targets*, `(inputs, targets) -> (inputs, targets)`.
        on: In which passes: "train", "valid" (of a training, and `engine.evaluate`), "predict", or several of them.
        targets: Whether the function takes and gives both, as a flip of pictures and their masks does.
        uses_random: Whether it draws random numbers of torch, Python or NumPy.

    Raises:
        ArgumentRefused: *function* cannot be called, or *on* names another pass.
        BatchRefused: the function gave nothing, or with *targets* no pair.

    Cost per batch: the function, and a microsecond.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks import BatchTransform
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> brighter = BatchTransform(lambda inputs: inputs * 2, on=("train", "valid"))
        >>> run = Engine(model, torch.nn.MSELoss(), sgd, [brighter]).fit([(torch.ones(4, 2), torch.zeros(4, 1))])
        >>> run.outcome.name
        'COMPLETED'
    """

    in_trials = True

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        on: str | Collection[str] = "train",
        targets: bool = False,
        uses_random: bool = False,
    ) -> None:
        if not callable(function):
            raise ArgumentRefused(
                f"function is {typed(function)}",
                allowed="a function inputs -> inputs",
                instead="pass the function itself, or an instance of the transform",
            )
        passes = (on,) if isinstance(on, str) else on
        if not isinstance(passes, Collection) or not passes or any(one not in PASSES for one in passes):
            raise ArgumentRefused(
                f"on is {shown(on)}", allowed="'train', 'valid', 'predict', or a tuple of them", instead="leave it out"
            )
        self.function, self.on, self.targets, self.uses_random = function, tuple(passes), targets, uses_random

    def on_batch_begin(self, run: Run) -> None:
        """Transform a batch of a training."""
        if "train" in self.on:
            self._transform(run)

    def on_validate_batch_begin(self, run: Run) -> None:
        """Transform a batch of a validation."""
        if "valid" in self.on:
            self._transform(run)

    def on_predict_batch_begin(self, run: Run) -> None:
        """Transform a batch of a prediction."""
        if "predict" in self.on:
            self._transform(run)

    def _transform(self, run: Run) -> None:
        made = self.function(run.inputs, run.targets) if self.targets else self.function(run.inputs)
        if made is None or (self.targets and not (isinstance(made, tuple | list) and len(made) == 2)):  # noqa: PLR2004  # a pair
            raise BatchRefused(
                f"the function of {type(self).__name__} returned {typed(made)} in {run.where}",
                allowed="the pair (inputs, targets)" if self.targets else "the inputs that the model is to see",
                instead="return what it makes of the batch",
            )
        if self.targets:
            run.inputs, run.targets = made
        else:
            run.inputs = made
