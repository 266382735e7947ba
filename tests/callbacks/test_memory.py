"""Do the peaks of the memory get into the record of an epoch, in MiB, and from where they should?"""

import resource
import sys
from pathlib import Path

import pytest
import torch

from engine.callbacks import Memory
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.engine.tools import answers, batches, hears, refuses, small_engine
from tests.testing.subjects import subject


def test_each_record_has_the_peak_of_the_process_so_far_as_the_system_tells_it() -> None:
    engine = small_engine(Memory())
    grown: list[bytearray] = []
    engine.on("epoch_begin", once=2)(lambda run: grown.append(bytearray(96 * 2**20)))
    run = engine.fit(batches(2), batches(1), epochs=3)

    peaks = [record["host_peak_mib"] for record in run.history]
    unit = 1 if sys.platform == "darwin" else 1024
    assert peaks == sorted(peaks)
    assert peaks[-1] == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    if sys.platform == "linux":  # VmHWM, in KiB: another source of the same number
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        assert peaks[-1] == pytest.approx(int(line.split()[1]) / 1024, rel=0.02)
    assert "device_peak_mib" not in run.metrics
    assert list(run.history[0]) == ["epoch", "updates", "train_loss", "valid_loss", "host_peak_mib"]


def test_on_cuda_the_peak_of_the_device_is_that_of_the_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without such a device, with one that only counts."""
    calls: list[str] = []
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(f"reset {device}"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: calls.append(f"read {device}") or 3 * 2**20)
    first = hears("epoch_begin", lambda run: setattr(run, "device", cuda), order=-111)
    engine = small_engine(
        Memory(), first, hears("batch_begin", lambda run: setattr(run, "device", torch.device("cpu")))
    )
    engine.on("epoch_end", order=-111)(lambda run: setattr(run, "device", cuda))
    run = engine.fit(batches(2), epochs=2)

    assert [record["device_peak_mib"] for record in run.history] == [3, 3]
    assert calls == ["reset cuda:0", "read cuda:0"] * 2


def test_an_epoch_that_was_stopped_has_no_record_and_a_run_without_metrics_has_the_number() -> None:
    stopped = small_engine(Memory(), answers("stop_training", lambda run: run.batch_index == 1)).fit(batches(3))
    assert stopped.history == []
    run = small_engine(Memory(), metrics=None).fit(batches(2))
    assert list(run.history[0]) == ["epoch", "updates", "host_peak_mib"]


def test_a_system_without_getrusage_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with refuses(ArgumentRefused, "getrusage", "Linux and macOS"):
        Memory()


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(subject(Memory), runs=20, seed=0)
