"""Where do the numbers of the batches wait until they are read?  On their device, each in a place of its own."""

from typing import Any, TypeGuard

import torch
from attrs import define, field
from torch import Tensor


def is_scalar(value: object) -> TypeGuard[Tensor]:
    """Whether something is a tensor of one real number.

    Example:
        >>> is_scalar(torch.ones(1, 1)), is_scalar(torch.ones(2)), is_scalar(torch.tensor(1j)), is_scalar(1.0)
        (True, False, False, False)
    """
    return isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex()


@define(eq=False)
class Room:
    """Room for the scalars of many batches, which are taken out together; nothing is read on the host.

    Args:
        size: For how many.

    Cost per value: a detach and a copy of one number on the device, so that what is written into the tensor later is
    not in here.  The places are used again, and made as they are needed: each is a view of the room.

    Example:
        >>> room = Room(2)
        >>> [room.put(torch.tensor(number)) for number in (1.5, 2, 3)]
        [True, True, False]
        >>> room.take().tolist()
        [1.5, 2.0]
    """

    size: int
    # How many wait.  Invariant: taken <= len(_places) <= size.
    taken: int = field(init=False, default=0)
    # The type of the last value, the room of shape (size,), and its places, of shape ().
    _dtype: torch.dtype | None = field(init=False, default=None)
    _room: Tensor | None = field(init=False, default=None)
    _places: list[Tensor] = field(init=False, factory=list)

    def put(self, value: Any) -> bool:  # noqa: ANN401  # a loss may be anything
        """Copy a tensor of one number into the next place; `False` where it is no such tensor, or there is no place."""
        taken = self.taken
        usual = isinstance(value, Tensor) and value.dtype is self._dtype and taken < len(self._places)
        if not usual and not (is_scalar(value) and self._make_place(value)):
            return False
        try:
            self._places[taken].copy_(value.detach())
        except RuntimeError:
            if not value.dim():
                raise
            if not is_scalar(value):
                return False
            self._places[taken].copy_(value.detach().reshape(()))
        self.taken = taken + 1
        return True

    def take(self) -> Tensor:
        """All that wait, of shape (taken,), as float64 (on mps float32); look at them before the next one is put."""
        taken, self.taken = self.taken, 0
        return torch.empty(0) if self._room is None else self._room[:taken]

    def _make_place(self, value: Tensor) -> bool:
        """Whether there is a next place for a value of this type; the first one makes the room."""
        self._dtype = value.dtype
        if self._room is None:
            precise = torch.float32 if value.device.type == "mps" else torch.float64
            self._room = torch.empty(self.size, dtype=precise, device=value.device)
        begun = len(self._places)
        if self.taken == begun:
            self._places.extend(self._room[begun : max(2 * begun, 16)].unbind())
        return self.taken < len(self._places)
