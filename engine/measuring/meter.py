"""What is the mean of a pass over a loader?  Loss and metrics, added up on the device and read once."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from attrs import define, field
from torch import Tensor

from engine.actions import loss_refused, no_gradient
from engine.errors import MetricRefused
from engine.measuring.room import Room, is_scalar
from engine.run import Run
from states.errors import shown, typed


MetricFunction = Callable[[Any, Any], Tensor]


@runtime_checkable
class MetricObject(Protocol):
    """What a `torchmetrics` metric can do: it keeps its own sums."""

    def update(self, output: Any, target: Any) -> None:  # noqa: ANN401  # as the model and the loader give them
        """Take in one batch."""

    def compute(self) -> Any:  # noqa: ANN401  # a tensor, or a dict of tensors for a collection
        """The value over all batches taken in."""

    def reset(self) -> None:
        """Forget all batches."""


# How many values a mean keeps before it adds them up; each is a tensor of one number.
KEPT = 256


@define(eq=False)
class Mean:
    """The mean of one scalar per batch, weighted by batch size; nothing is read on the host until `value`.

    Cost per batch: a copy of one number, so that what is written into the tensor later is not in the mean.  Every 256
    batches the copies are added up on the device, in float64, and their places are used again.

    Example:
        >>> mean = Mean("loss")
        >>> mean.add(torch.tensor(1.0), 3)
        >>> mean.add(torch.tensor(5.0), 1)
        >>> mean.value()
        2.0
    """

    name: str
    # The values that are not added up yet, and their weights.
    _room: Room = field(factory=lambda: Room(KEPT))
    _sizes: list[int] = field(factory=list)
    # The weighted sum of all others, of shape (), and the weight of it.
    _total: Tensor | None = None
    _samples: int = 0

    def add(self, value: Tensor, size: int) -> None:
        """Take in the value of one batch of *size* samples: a tensor of one element.  That of no samples is none."""
        if not size or not self._room.put(value):
            if not is_scalar(value):
                raise self._no_scalar(value)
            if not size:
                return
            self._add_up()
            self._room.put(value)
        self._sizes.append(size)

    def value(self) -> float:
        """The weighted mean so far.  Waits for the device."""
        if self._sizes:
            self._add_up()
        if self._total is None or not self._samples:
            return float("nan")
        return float(self._total) / self._samples

    def _add_up(self) -> None:
        values = self._room.take()
        sizes = torch.tensor(self._sizes, dtype=values.dtype).to(values.device, non_blocking=True)
        total = torch.dot(values, sizes)
        self._total = total if self._total is None else self._total + total
        self._samples += sum(self._sizes)
        self._sizes.clear()

    def _no_scalar(self, value: object) -> MetricRefused:
        given = typed(value)
        if isinstance(value, Tensor):
            given = f"a tensor of {value.dtype}" if value.is_complex() else f"a tensor of shape {tuple(value.shape)}"
        return MetricRefused(
            f"{self.name} is {given} for each batch",
            allowed="a scalar tensor for each batch",
            instead="return a mean over the batch, as a tensor",
        )


@define(eq=False)
class Meter:
    """The loss and the metrics of one pass over a loader."""

    prefix: str
    functions: Mapping[str, MetricFunction]
    objects: Mapping[str, MetricObject]
    loss: Mean = field(init=False)
    means: tuple[tuple[Mean, MetricFunction], ...] = field(init=False)
    # Whether there is more than the loss.
    further: bool = field(init=False)
    # Whether the objects have taken in a batch: many cannot compute before.
    met: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """One mean for each function."""
        self.loss = Mean(f"{self.prefix}_loss")
        self.means = tuple((Mean(f"{self.prefix}_{name}"), function) for name, function in self.functions.items())
        self.further = bool(self.functions or self.objects)

    def add(self, run: Run) -> None:
        """Take in the batch in hand."""
        inputs = run.inputs
        size = shape[0] if isinstance(inputs, Tensor) and (shape := inputs.shape) else batch_size(inputs, run.targets)
        try:
            self.loss.add(run.loss, size)
        except MetricRefused:
            problem = no_gradient(run.loss)
            if not problem or (isinstance(run.loss, Tensor) and not run.machine.gradients):
                raise
            raise loss_refused(run, problem) from None
        if self.further:
            self._add_metrics(run, size)

    def _add_metrics(self, run: Run, size: int) -> None:
        with torch.no_grad():
            output = run.output.detach() if isinstance(run.output, Tensor) else run.output
            for mean, function in self.means:
                mean.add(_measured(mean.name, function, output, run.targets), size)
            for metric in self.objects.values():
                metric.update(output, run.targets)
        self.met = True

    def read(self) -> dict[str, float]:
        """All values, as numbers on the host: `train_loss`, `valid_accuracy`, ...; nan where no batch came."""
        values = {mean.name: mean.value() for mean in (self.loss, *(mean for mean, _ in self.means))}
        for name, metric in self.objects.items():
            values.update(_numbers(f"{self.prefix}_{name}", metric.compute() if self.met else float("nan")))
        return values


def _measured(name: str, function: MetricFunction, output: Any, targets: Any) -> Tensor:  # noqa: ANN401  # a batch's
    """The value of a metric; what it raises names it."""
    try:
        return function(output, targets)
    except Exception as error:
        missing = "; the batch was no pair, so it was given None for targets: compute it in a callback"
        error.add_note(f"while the metric {name} was computed{missing if targets is None else ''}")
        raise


def batch_size(inputs: Any, targets: Any = None) -> int:  # noqa: ANN401  # a batch may be anything
    """The number of samples: the length of the first tensor in the inputs, or else in the targets; 1 if there is none.

    A tensor of shape `()` has no length and is passed over.

    Example:
        >>> batch_size(torch.zeros(5, 2)), batch_size({"t": torch.tensor(1.0), "a": [torch.zeros(3)]})
        (5, 3)
        >>> batch_size(["a", "b"], torch.zeros(2)), batch_size("x")
        (2, 1)
    """
    return next((length for part in (inputs, targets) for length in _lengths(part)), 1)


def _lengths(value: Any) -> Iterator[int]:  # noqa: ANN401  # a batch may be anything
    if isinstance(value, Tensor):
        yield from value.shape[:1]
    elif isinstance(value, Mapping):
        yield from (length for part in value.values() for length in _lengths(part))
    elif isinstance(value, tuple | list):
        yield from (length for part in value for length in _lengths(part))


def _numbers(name: str, value: Any) -> dict[str, float]:  # noqa: ANN401  # what compute() gave
    if isinstance(value, Mapping):
        return {f"{name}_{key}": number for key, item in value.items() for number in _numbers(name, item).values()}
    if isinstance(value, Tensor) and value.numel() != 1:
        raise MetricRefused(
            f"{name} is a tensor of shape {tuple(value.shape)}",
            allowed="one number",
            instead="reduce it, for example with average='macro'",
        )
    try:
        return {name: float(value)}
    except (TypeError, ValueError) as error:
        raise MetricRefused(
            f"{name} is {shown(value)}, {typed(value)}",
            allowed="one number, or a dict of numbers",
            instead="pass a metric whose compute() gives a number",
        ) from error
