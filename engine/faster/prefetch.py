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
from attrs import define, evolve

from engine.actions import Action
from engine.batches import begin, fetch, to_device
from engine.errors import ArgumentRefused
from engine.faster.cuda import Cuda
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
    # Where copies are made.
    stream: Any
    # The batch that is copied already, or what was raised instead; nothing before the first is asked for.
    _held: tuple[Any, Exception | None] | None = None

    def __iter__(self) -> "Ahead":
        return self

    def __next__(self) -> Any:  # noqa: ANN401  # a batch may be anything
        batch, error = self._held or self._drawn()
        if error is not None:
            raise error
        self.cuda.join(self.stream)  # before the next copy is begun: that one is not waited for
        self._held = self._drawn()
        return batch

    def _drawn(self) -> tuple[Any, Exception | None]:
        try:
            batch = next(self.batches)
        except Exception as error:  # noqa: BLE001  # kept, and raised where this batch is asked for
            return None, error
        try:
            return self.cuda.beside(self.stream, partial(to_device, batch, self.device)), None
        except StopIteration as error:
            return None, _no_end(error)
        except Exception as error:  # noqa: BLE001  # as above
            return None, error


def _no_end(error: StopIteration) -> RuntimeError:
    """What a StopIteration out of a batch's own `to` becomes, which else would end the epoch: as in a generator."""
    raised = RuntimeError("the batch's own method to(device) raised StopIteration")
    raised.__cause__ = error
    return raised


@define(eq=False)
class Prefetch:
    """FETCH with batches that are copied one ahead."""

    cuda: Cuda
    # One stream for the copies of all passes: torch keeps memory apart for each.
    _stream: Any = None

    def actions(self, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
        """What is done instead of the engine's own action of a machine."""
        ahead = partial(fetch, opening=self._begin)
        return {State.FETCH: evolve(actions[State.FETCH], do=ahead)} if State.FETCH in actions else {}

    def _begin(self, run: Run) -> Iterator[Any]:
        self._stream = self._stream or self.cuda.stream(run.device, "prefetch")
        return Ahead(begin(run), run.device, self.cuda, self._stream)


def check_prefetch(given: Mapping[Any, object], device: torch.device, cuda: Cuda) -> None:
    """Refuse a device to which nothing is copied beside its work, and a FETCH of the user's own.

    Raises:
        ArgumentRefused: with what to do instead.
    """
    cuda.check(device, "prefetch")
    if State.FETCH in given:
        raise ArgumentRefused(
            "prefetch is True, and actions replaces fetch",
            allowed="the engine's own action of fetch",
            instead="leave prefetch out, and copy ahead in your own action",
        )
