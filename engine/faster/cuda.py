"""What does `torch.cuda` do for us?  Streams that run beside the current one, and graphs that are replayed.

Everything that needs a GPU is in here: what is given a `Cuda` runs with a stand-in as well.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import torch
from attrs import define, field

from engine.errors import ArgumentRefused


T = TypeVar("T")


@define(eq=False)
class Cuda:
    """Streams and graphs of `torch.cuda`."""

    # The type of the devices that this works on.
    device_type: ClassVar[str] = "cuda"

    _streams: dict[tuple[torch.device, str], Any] = field(factory=dict, init=False)

    def check(self, device: torch.device, asked: str) -> None:
        """Refuse another device than one of these, for what was asked."""
        if device.type != self.device_type:
            raise ArgumentRefused(
                f"{asked} is True, and the model is on {device}",
                allowed=f"True for a model on {self.device_type}, whose work goes on beside the host",
                instead=f"leave {asked} out here, or put the model there, where there is such a device",
            )

    def stream(self, device: torch.device, asked: str) -> Any:  # noqa: ANN401  # a stand-in has streams of its own
        """The stream for what was asked, in all runs: torch keeps memory apart for each stream.

        And a graph that outlives its run, in the traceback of an error, has gradients added up where it was made.
        """
        if (device, asked) not in self._streams:
            self._streams[device, asked] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch gives it no types
        return self._streams[device, asked]

    def beside(self, stream: Any, do: Callable[[], T]) -> T:  # noqa: ANN401  # as above
        """Do something on a stream, after all that the current stream was given so far."""
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            return do()

    def join(self, stream: Any) -> None:  # noqa: ANN401  # as above
        """Let the current stream wait for all that a stream was given so far; the host does not wait."""
        torch.cuda.current_stream(stream.device).wait_stream(stream)

    def recorded(self, stream: Any, do: Callable[[], T]) -> tuple[T, Callable[[], None]]:  # noqa: ANN401  # as above
        """What *do* made while it was recorded on a stream, which each replay fills anew, and what replays it."""
        graph = torch.cuda.CUDAGraph()
        # "thread_local": a loader may pin memory in a thread of its own meanwhile.
        recording = torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local")
        with torch.cuda.device(stream.device), _garbage_stays(), recording:
            made = do()
        return made, graph.replay


@contextmanager
def _garbage_stays() -> Iterator[None]:
    """Python collects nothing while this is open: an older graph that is freed while one is recorded spoils that."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
