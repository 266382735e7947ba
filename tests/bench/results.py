"""What was measured?  Everything that the tables, the page and the picture are made of; kept in docs/speed.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

from tests.bench.timing import Pair


ROOT = Path(__file__).parent.parent.parent
JSON = ROOT / "docs" / "speed.json"


@frozen
class Measured:
    """One contender in one workload."""

    name: str
    version: str
    note: str
    # Training batches of a run.
    batches: int
    # Whole runs; and runs of one batch, which show what a run costs once.
    pairs: Sequence[Pair]
    once: Sequence[Pair]
    # How far the final loss was from the baseline's; 0 means the same weights, bit for bit.  `None`: there are none.
    loss_off: float | None
    # How many calls its callbacks heard in a batch.
    calls: int


@frozen
class Table:
    """One workload: the baseline against itself, then the contenders, our own first."""

    name: str
    text: str
    # How many calls a batch has in the baseline.
    calls: int
    noise: Measured
    contenders: Sequence[Measured]


@frozen
class Memory:
    """What many batches of fake work leave behind: KiB by which the peak grew, in each half of them."""

    batches: int
    first: int
    second: int


@frozen
class Startup:
    """Seconds of an import in a fresh process, beyond those of `import torch`: medians."""

    torch: float
    engine: float
    names: float
    # Of `names`: a pass of the garbage collector over what torch has loaded, if it came due.
    collected: float
    processes: int


@frozen
class Part:
    """Something that the loop does in each batch, and its microseconds."""

    name: str
    micros: float


@define
class Results:
    """One session of measuring."""

    date: str
    machine: str
    versions: dict[str, str]
    # By name of the peer: why it was not timed.
    absent: dict[str, str]
    tables: list[Table]
    memory: Memory | None = None
    startup: Startup | None = None
    parts: list[Part] = field(factory=list)


def written(results: Results) -> str:
    """As JSON; seconds to the microsecond."""
    return json.dumps(_plain(asdict(results)), indent=1) + "\n"


def _plain(value: Any) -> Any:
    """Pairs as one line of text each run, so that the file stays small."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict) and set(value) == {"mine", "base"}:
        return f"{value['mine']:.6f} {value['base']:.6f}"
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def read(text: str) -> Results:
    """The reverse of `written`."""
    given = json.loads(text)
    tables = [_table(table) for table in given.pop("tables")]
    memory, startup = given.pop("memory"), given.pop("startup")
    parts = [Part(**part) for part in given.pop("parts")]
    return Results(
        **given,
        tables=tables,
        memory=memory and Memory(**memory),
        startup=startup and Startup(**startup),
        parts=parts,
    )


def _table(given: dict[str, Any]) -> Table:
    noise, contenders = _measured(given.pop("noise")), [_measured(one) for one in given.pop("contenders")]
    return Table(**given, noise=noise, contenders=contenders)


def _measured(given: dict[str, Any]) -> Measured:
    pairs, once = (_pairs(given.pop(name)) for name in ("pairs", "once"))
    return Measured(**given, pairs=pairs, once=once)


def _pairs(lines: Sequence[str]) -> list[Pair]:
    return [Pair(*map(float, line.split())) for line in lines]
