"""What is torch.cuda asked for, and in which order?  With something in its place that only writes down."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from attrs import define

from engine.errors import ArgumentRefused
from engine.faster.cuda import Cuda
from tests.engine.tools import refuses


@define(eq=False)
class Stream:
    """A stream that writes down whom it waits for."""

    name: str
    log: list[str]
    device: torch.device

    def wait_stream(self, other: "Stream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `torch.cuda` was asked for."""
    said: list[str] = []

    @contextmanager
    def scope(name: str) -> Iterator[None]:
        said.append(f"{name} (")
        yield
        said.append(")")

    def graph(recorded: object, *, stream: Stream, capture_error_mode: str) -> Any:
        return scope(f"graph on {stream.name}, {capture_error_mode}")

    class Graph:
        def replay(self) -> None:
            said.append("replay")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", said, device))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(f"current of {device}", said, device))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: scope(f"stream {stream.name}"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: scope(f"device {device}"))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    return said


def test_what_runs_beside_waits_for_what_was_there_and_who_joins_waits_for_it(log: list[str]) -> None:
    cuda = Cuda()
    side = cuda.stream(torch.device("cuda:1"), "capture")
    assert cuda.beside(side, lambda: log.append("work") or 3) == 3
    cuda.join(side)
    assert log == [
        "side waits for current of cuda:1",
        "stream side (",
        "work",
        ")",
        "current of cuda:1 waits for side",
    ]


def test_what_is_recorded_is_called_once_on_its_stream_and_replayed_as_often_as_asked(log: list[str]) -> None:
    cuda = Cuda()
    made, replay = cuda.recorded(cuda.stream(torch.device("cuda:1"), "capture"), lambda: log.append("work") or 3)
    assert made == 3
    replay()
    replay()
    assert log == ["device cuda:1 (", "graph on side, thread_local (", "work", ")", ")", "replay", "replay"]


@pytest.mark.parametrize("collects", [True, False])
def test_no_garbage_is_collected_while_something_is_recorded_also_where_that_fails(
    log: list[str], collects: bool
) -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise KeyboardInterrupt

    cuda = Cuda()
    stream = cuda.stream(torch.device("cuda:1"), "capture")
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        assert cuda.recorded(stream, gc.isenabled)[0] is False
        with pytest.raises(KeyboardInterrupt):
            cuda.recorded(stream, fail)
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()


def test_there_is_one_stream_for_each_device_and_use(log: list[str]) -> None:
    cuda, one, other = Cuda(), torch.device("cuda:0"), torch.device("cuda:1")
    asked = [(one, "capture"), (one, "prefetch"), (other, "capture")]
    streams = [cuda.stream(*for_what) for for_what in asked]
    assert len(set(map(id, streams))) == 3
    assert all(cuda.stream(*for_what) is stream for for_what, stream in zip(asked, streams, strict=True))


def test_only_a_cuda_device_will_do() -> None:
    Cuda().check(torch.device("cuda:3"), "capture")
    with refuses(ArgumentRefused, "prefetch is True, and the model is on mps", "leave prefetch out here"):
        Cuda().check(torch.device("mps"), "prefetch")
