"""Where was it measured?  The machine and the versions, as far as the system tells."""

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from tests.bench.contenders import Contender
from tests.bench.results import Results, Table


def results(tables: list[Table], peers: Iterable[Contender], absent: dict[str, str]) -> Results:
    """The tables, with when and where they were measured."""
    versions = {"Python": platform.python_version(), "torch": torch.__version__, "transitions": version("transitions")}
    versions.update((peer.name, peer.version) for peer in peers)
    return Results(datetime.now(UTC).date().isoformat(), machine(), versions, absent, tables)


def machine() -> str:
    """Processor, cores, memory, system."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown processor")
