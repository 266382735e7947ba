"""Which rows are kept of a long run, where there is room for a few?  Every n-th, evenly from its begin to its end.

# Theory of operation
#
# The table lies on the device and has room for a number of rows.  When it is full, every second row is forgotten and
# only every second number is kept from then on: a run of any length costs the same memory.  Nothing is read on the host
# until somebody asks.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Thinned:
    """Rows of one shape, each with a number; those that are kept have numbers that the stride divides.

    Args:
        every: The first stride.
        points: How many rows are kept at most, 2 or more.
        shape: Of a row.

    Attributes:
        numbers: The numbers of the rows that are kept, in order.
        stride: Which numbers are kept now: *every*, doubled as often as there was no room.

    Example:
        >>> kept = Thinned(every=1, points=3, shape=())
        >>> kept.open(torch.device("cpu"))
        >>> for number in range(8):
        ...     kept.put(number, torch.tensor(float(number)))
        >>> kept.numbers, kept.values.tolist()
        ([0, 4], [0.0, 4.0])
    """

    def __init__(self, every: int, points: int, shape: tuple[int, ...]) -> None:
        self.points, self.shape, self.stride = points, shape, every
        self.numbers: list[int] = []
        self._table = torch.empty(0, *shape)

    @property
    def values(self) -> Tensor:
        """The rows that are kept, float32 on the host, of shape (rows, *shape).  Waits for the device."""
        return self._table[: len(self.numbers)].cpu()

    def open(self, device: torch.device) -> None:
        """Make room on a device."""
        while len(self.numbers) > self.points:
            self._thin()
        table = torch.empty(self.points, *self.shape, device=device)
        table[: len(self.numbers)] = self._table[: len(self.numbers)]
        self._table = table

    def close(self) -> None:
        """Take what is kept off the device, and give the room back."""
        self._table = self.values.clone()

    def due(self, number: int) -> bool:
        """Whether a row of this number would be kept now."""
        return number % self.stride == 0

    def put(self, number: int, row: Tensor) -> None:
        """Keep a row, if it is due still when there is room."""
        while self.due(number) and len(self.numbers) == self.points:
            self._thin()
        if self.due(number):
            self._table[len(self.numbers)].copy_(row)
            self.numbers.append(number)

    def cut(self, number: int) -> None:
        """Forget the rows of this number and of greater ones; what was thinned stays so."""
        self.numbers = [one for one in self.numbers if one < number]

    def state_dict(self) -> dict[str, Any]:
        """What is kept, on the host."""
        return {"table": self.values.clone(), "numbers": list(self.numbers), "stride": self.stride}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take such a state; its rows say the shape."""
        self._table, self.numbers, self.stride = state["table"].clone(), list(state["numbers"]), state["stride"]
        self.shape = tuple(self._table.shape[1:])

    def _thin(self) -> None:
        self.stride *= 2
        kept = [row for row, number in enumerate(self.numbers) if number % self.stride == 0]
        self._table[: len(kept)] = self._table[kept]
        self.numbers = [self.numbers[row] for row in kept]
