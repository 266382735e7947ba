"""What stands in for a loader?  The first few of its batches, as often as a plan asks for them."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import cycle, islice
from typing import Any

from attrs import define


@define(eq=False)
class Few:
    """So many batches, from the first few of a loader.

    Each pass gives copies, so that the next run does not see what a callback does to a batch.  All else that a callback
    may ask for, `dataset` say, is the loader's.
    """

    batches: Sequence[Any]
    number: int
    loader: object

    def __iter__(self) -> Iterator[Any]:
        """The batches, from the first on again where there are too few."""
        return (deepcopy(batch) for batch in islice(cycle(self.batches), self.number))

    def __len__(self) -> int:
        """How many."""
        return self.number

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # callbacks look at their loader: this is to look like it
        """What the loader has."""
        return getattr(self.loader, name)
