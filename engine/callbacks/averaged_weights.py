"""What are the mean weights of a training?  An exponential moving average, or an equal one, kept beside the model."""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.listeners import Callback
from engine.run import Run
from states.errors import shown, typed


AnyModule = TypeVar("AnyModule", bound=nn.Module)


class AveragedWeights(Callback):
    """Average the weights after each step; validate with the average, and train on with the weights themselves.

    With *decay* the average moves by `average = decay * average + (1 - decay) * weights` (Polyak and Juditsky 1992;
    torch's `get_ema_multi_avg_fn`).  Without, all weights that were taken in count the same: stochastic weight
    averaging (Izmailov et al. 2018; torch's `get_swa_multi_avg_fn`).  The first weights are taken as they are.
    Averaged are all parameters and buffers of the model that are no integers, in their own type: in bfloat16 a decay of
    0.999 hardly moves.

    The averages are put into the model from `validate_begin` to `validate_end` where a training validates; whatever
    happens in between, a stop, an error, Ctrl-C, the weights come back bit for bit, before a checkpoint hears of it.
    Callbacks before this one (order below 80) still see the averages in the `stop` or `exception` of a validation.
    `engine.evaluate` alone looks at the weights that the model has: say `averaged.copy_to(model)` first.

    Args:
        decay: How much of the average stays in each update, from 0 to below 1; `None` is the equal average.
        start_epoch: The epoch in which averaging begins.
        every: Each so many steps the weights are taken in; those of an epoch make it once per epoch.
        in_validation: Whether the validations of a training look at the average, as soon as there is one.

    Attributes:
        weights: The averages, by the model's names for its parameters and buffers; empty until there are any.

    Raises:
        ArgumentRefused: a *decay* out of its range, other numbers that are no whole ones; where averages are put into a
            model whose names or shapes are not theirs, or there are none.

    Cost per step: a walk over the model's tensors, and one operation for each.  Per validation: three copies of them.

    Example:
        >>> from copy import deepcopy
        >>> import torch
        >>> from engine import Engine
        >>> batches = [(torch.ones(4, 2), torch.zeros(4, 1))] * 10
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> averaged = AveragedWeights(decay=None, start_epoch=1)
        >>> engine = Engine(model, nn.MSELoss(), sgd, callbacks=[averaged])
        >>> run = engine.fit(batches, batches, epochs=3)
        >>> mean_model = averaged.copy_to(deepcopy(model))
        >>> torch.optim.swa_utils.update_bn(batches, mean_model)  # statistics of batch norms for the mean weights
    """

    order = 80

    def __init__(
        self,
        *,
        decay: float | None = 0.999,
        start_epoch: int = 0,
        every: int = 1,
        in_validation: bool = True,
    ) -> None:
        if decay is not None and not (is_number(decay) and 0 <= decay < 1):
            raise ArgumentRefused(
                f"decay is {shown(decay)}, {typed(decay)}",
                allowed="a number from 0 to below 1; None for the equal average",
                instead="leave it out for 0.999",
            )
        if not isinstance(in_validation, bool):
            raise ArgumentRefused(
                f"in_validation is {shown(in_validation)}, {typed(in_validation)}",
                allowed="True, False",
                instead="leave it out to validate with the averages",
            )
        check_count("start_epoch", start_epoch)
        check_count("every", every, least=1)
        self.decay, self.start_epoch, self.every = decay, start_epoch, every
        self.in_validation = in_validation
        self.weights: dict[str, Tensor] = {}
        self._average: Callable[..., None] = (
            get_swa_multi_avg_fn() if decay is None else get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's
        )
        # How many steps there were since averaging began, and how many weights were taken in.
        self._steps = self._taken = 0
        # While the averages are in the model: its own values, and where they belong.
        self._own: list[tuple[Tensor, Tensor]] = []

    def on_train_begin(self, run: Run) -> None:
        """Begin anew, unless a training goes on; then see that the averages are of this model."""
        if run.epoch == 0:
            self.weights, self._steps, self._taken = {}, 0, 0
        if self.weights:
            places = self._places(run.model)
            self.weights = {name: value.to(places[name]) for name, value in self.weights.items()}

    def on_step_end(self, run: Run) -> None:
        """Take the weights in."""
        if run.epoch < self.start_epoch:
            return
        self._steps += 1
        if self._steps % self.every:
            return
        now = _tensors(run.model)
        if self.weights:
            self._average(list(self.weights.values()), [now[name] for name in self.weights], self._taken)
        else:
            self.weights = {name: value.clone() for name, value in now.items()}
        self._taken += 1

    def on_validate_begin(self, run: Run) -> None:
        """Put the averages into the model, where a training validates."""
        if self.in_validation and self.weights and run.parent is not None:
            self._own = [(place, place.clone()) for place in self._places(run.model).values()]
            self.copy_to(run.model)

    def on_validate_end(self, run: Run) -> None:
        """Put the model's own weights back."""
        del run
        for place, value in self._own:
            place.copy_(value)
        self._own = []

    # A validation that is stopped or dies: others may take a checkpoint of what they hear then.
    on_stop = on_exception = on_train_end = on_validate_end

    def copy_to(self, model: AnyModule) -> AnyModule:
        """Write the averages into a model of the same names and shapes, and return it.

        Raises:
            ArgumentRefused: there are no averages yet, or the model is another one; nothing is written.

        Example: `mean_model = averaged.copy_to(deepcopy(model))`.
        """
        if not self.weights:
            raise ArgumentRefused(
                "copy_to was called, and no weights were averaged",
                allowed="a call behind the first step of epoch start_epoch",
                instead=f"train beyond epoch {self.start_epoch} first, or load a state",
            )
        for name, place in self._places(model).items():
            place.copy_(self.weights[name])
        return model

    def state_dict(self) -> dict[str, Any]:
        """The averages, and how many weights are in them."""
        return {"weights": self.weights, "steps": self._steps, "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take averages back; `fit(..., start_epoch=n)` goes on with them."""
        self.weights = {name: value.clone() for name, value in state["weights"].items()}
        self._steps, self._taken = state["steps"], state["taken"]

    def _places(self, model: nn.Module) -> dict[str, Tensor]:
        """Where the averages belong in a model."""
        now = _tensors(model)
        wrong = [name for name in {**self.weights, **now} if _shape(self.weights, name) != _shape(now, name)]
        if wrong:
            name = wrong[0]
            raise ArgumentRefused(
                f"the averages have {_shape(self.weights, name)} for {name!r}, and the model has {_shape(now, name)}",
                allowed="a model with the names and shapes of the one that was averaged",
                instead="give that model or a copy of it; or train from epoch 0, which forgets the averages",
            )
        return now


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers that can be averaged, by name, without their graph."""
    named = chain(model.named_parameters(), model.named_buffers())
    return {name: value.detach() for name, value in named if value.is_floating_point() or value.is_complex()}


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return f"shape {tuple(tensors[name].shape)}" if name in tensors else "nothing"
