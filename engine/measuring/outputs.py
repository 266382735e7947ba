"""What did the model predict?  The outputs of a prediction, collected and put together."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.listeners import Callback
from engine.run import Run


class Outputs(Callback):
    """Keep what the model gave for each batch; after all others, so that what they changed is kept."""

    order = 1000

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def on_predict_batch_end(self, run: Run) -> None:
        """Keep one batch's output."""
        self.kept.append(run.output)


def joined(outputs: Sequence[Any]) -> Any:  # noqa: ANN401  # whatever the model gives
    """Outputs of many batches as one: tensors along their first dimension, also inside tuples, lists and dicts.

    Example:
        >>> joined([torch.zeros(2, 3), torch.zeros(1, 3)]).shape
        torch.Size([3, 3])
        >>> {key: value.shape for key, value in joined([{"a": torch.zeros(2)}, {"a": torch.zeros(2)}]).items()}
        {'a': torch.Size([4])}
        >>> len(joined([torch.zeros(2, 3), torch.zeros(2, 4)]))  # these do not fit together
        2
    """
    first = outputs[0]
    if isinstance(first, Tensor):
        return _put_together(outputs)
    if isinstance(first, dict):
        return {key: joined([output[key] for output in outputs]) for key in first}
    if type(first) in (tuple, list):
        return type(first)(joined(parts) for parts in zip(*outputs, strict=True))
    return list(outputs)


def _put_together(outputs: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """Tensors that agree in all but their first dimension as one; a list of those that do not."""
    fits = len({(output.dim(), output.shape[1:]) for output in outputs}) == 1
    if not fits:
        return list(outputs)
    return torch.cat(list(outputs)) if outputs[0].dim() else torch.stack(list(outputs))
