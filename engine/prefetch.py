"""How is a batch on the device before it is asked for?  It is copied one ahead, on a stream of its own.

# Theory of operation
#
# `Ahead` stands between the loader and FETCH.  When a batch is asked for, the current stream waits for its copy, which
# began one batch earlier; then the next one is drawn and its copy begins.  The copy of a batch waits for all that the
# device was given before it was drawn.  So the memory of a batch that was let go can be used for it at once: who still
# reads it, does so before the copy.  No `record_stream` is needed for that, and batches of any type will do.
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

import torch
from attrs import define, evolve, field, frozen

from engine.actions import Action
from engine.batches import begin, fetch, to_device
from engine.cuda import Cuda
from engine.run import Run
from states import State


@define(eq=False)
class Ahead:
    """An iterator over the batches of another one, each on the device, and copied while the one before is worked on.

    What the loader raises is raised where its batch is asked for, so the batches before it are trained on.
    """

    batches: Iterator[Any]
    device: torch.device
    cuda: Cuda
    _stream: Any = field(init=False)
    # The batch that is copied already, or what was raised instead; nothing before the first is asked for.
    _held: tuple[Any, Exception | None] | None = None

    def __attrs_post_init__(self) -> None:
        """One stream for all copies."""
        self._stream = self.cuda.stream(self.device)

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Any:  # noqa: ANN401  # a batch may be anything
        batch, error = self._held or self._drawn()
        if error is not None:
            raise error
        self.cuda.join(self._stream)  # before the next copy is begun: that one is not waited for
        self._held = self._drawn()
        return batch

    def _drawn(self) -> tuple[Any, Exception | None]:
        try:
            batch = next(self.batches)
            return self.cuda.beside(self._stream, partial(to_device, batch, self.device)), None
        except Exception as error:  # noqa: BLE001  # kept, and raised where this batch is asked for
            return None, error


@frozen(eq=False)
class Prefetch:
    """FETCH with batches that are copied one ahead."""

    cuda: Cuda

    def actions(self, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
        """What is done instead of the engine's own action of a machine."""
        ahead = partial(fetch, opening=self._begin)
        return {State.FETCH: evolve(actions[State.FETCH], do=ahead)} if State.FETCH in actions else {}

    def _begin(self, run: Run) -> Iterator[Any]:
        return Ahead(begin(run), run.device, self.cuda)
