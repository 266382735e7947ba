"""How does a result look as text?  A table of words, aligned for a terminal, or in Markdown."""

import math
from collections.abc import Sequence

from tests.bench.results import Measured, Memory, Part, Results, Startup, Table
from tests.bench.timing import Spread, beyond, ratios, spread


Rows = list[list[str]]

HEAD = [
    "contender",
    "beyond, us",
    "quartiles",
    "ratio",
    "quartiles",
    "us/batch",
    "once, ms",
    "calls",
    "rounds x batches",
    "weights",
]


def rows(table: Table) -> Rows:
    """A row of words for the baseline against itself, then the contenders: our own first, then from fast to slow."""
    return [_row(table, table.noise), *(_row(table, one) for one in ordered(table))]


def ordered(table: Table) -> list[Measured]:
    """Our own first, then the peers from fast to slow."""
    return sorted(table.contenders, key=lambda one: (bool(one.version), cost(one).median))


def cost(one: Measured) -> Spread:
    """Microseconds for each batch beyond the baseline's."""
    return beyond(one.pairs, one.batches)


def _row(table: Table, one: Measured) -> list[str]:
    over, ratio = cost(one), ratios(one.pairs)
    micros = spread([pair.mine for pair in one.pairs]).median / one.batches * 1e6
    once = spread([pair.mine - pair.base for pair in one.once]).median * 1e3 if one.once else None
    shown = two_decimals if table.name == "dispatch" else one_decimal
    return [
        f"{one.name} {one.version}".strip(),
        shown(over.median),
        f"{shown(over.low)} .. {shown(over.high)}",
        f"{ratio.median:.3f}",
        f"{ratio.low:.3f} .. {ratio.high:.3f}",
        f"{micros:.1f}",
        "" if once is None else one_decimal(once),
        f"{one.calls} of {table.calls}" if table.calls else "",
        f"{len(one.pairs)} x {one.batches}",
        _difference(one.loss_off),
    ]


def _difference(off: float | None) -> str:
    return "" if off is None else "equal" if off == 0 else f"off by {off:.0e}"


def one_decimal(value: float) -> str:
    """Without a minus before a zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def two_decimals(value: float) -> str:
    """The same, where a tenth of a microsecond is much."""
    return f"{round(value, 2) + 0.0:.2f}"


def aligned(table: Table) -> str:
    """For a terminal, with a bar that grows by one step for each doubling."""
    head, *body = [[*row] for row in without_empty([HEAD, *rows(table)])]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    bars = ["", *(bar(cost(one).median) for one in ordered(table))]
    lines = [f"  {_line(row, widths)}  {drawn}".rstrip() for row, drawn in zip(body, bars, strict=True)]
    rule = "-" * (sum(widths) + 2 * len(widths) - 2)
    return "\n".join([f"{table.name}: {table.text}", "", f"  {_line(head, widths)}", f"  {rule}", *lines])


def without_empty(lines: Rows) -> Rows:
    """Drop the columns in which no row says anything."""
    _, *body = lines
    kept = [any(column) for column in zip(*body, strict=True)]
    return [[word for word, keep in zip(line, kept, strict=True) if keep] for line in lines]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *words = row
    return "  ".join(
        [name.ljust(widths[0]), *(word.rjust(width) for word, width in zip(words, widths[1:], strict=True))]
    )


def bar(micros: float) -> str:
    """A bar on a logarithmic scale: one step up to 1 us, one more for each doubling."""
    return "" if micros <= 0 else "▪" * max(1, 1 + math.ceil(math.log2(micros)))


def markdown(table: Table) -> str:
    """For a document."""
    head, *body = without_empty([HEAD, *rows(table)])
    rule = ["---", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *body))


def summary(results: Results) -> str:
    """Microseconds beyond the plain loop, and the ratio, of everyone in every workload of real work, in Markdown."""
    tables = [table for table in results.tables if table.noise.once]
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        for one in ordered(table):
            cell = f"{one_decimal(cost(one).median)} µs, {ratios(one.pairs).median:.3f}"
            found.setdefault(f"{one.name} {one.version}".strip(), {})[table.name] = cell
    names = [table.name for table in tables]
    rows = [f"| {name} | {' | '.join(cells.get(n, '') for n in names)} |" for name, cells in found.items()]
    return "\n".join([f"| beyond the plain loop | {' | '.join(names)} |", "|---|" + "--:|" * len(names), *rows])


def report(results: Results) -> str:
    """Everything, for a terminal."""
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    parts = [f"{results.machine}\n{versions}", *map(aligned, results.tables)]
    if results.absent:
        parts.append("\n".join(f"{name}: {why}" for name, why in results.absent.items()))
    if results.parts:
        parts.append(parts_lines(results.parts))
    if results.memory:
        parts.append(memory_line(results.memory))
    if results.startup:
        parts.append(startup_line(results.startup))
    return "\n\n".join(parts)


def memory_line(memory: Memory) -> str:
    """One sentence."""
    return (
        f"{memory.batches:,} batches of fake work, in a fresh process: the first half raised the peak of memory by "
        f"{memory.first} KiB, the second by {memory.second} KiB"
    )


def startup_line(startup: Startup) -> str:
    """What is loaded, and when: the goal is under 10 %."""
    parts = (startup.engine, startup.names - startup.collected, startup.collected)
    alone, names, collected = (f"{part * 1e3:.0f} ms ({part / startup.torch:.1%})" for part in parts)
    return (
        f"import torch takes {startup.torch * 1e3:.0f} ms; import engine adds {alone}; "
        f"from engine import Engine, Callback adds {names}, and {collected} for a pass of the garbage collector over "
        f"what torch has loaded, which is due soon after import torch, whatever is loaded next"
    )


def parts_lines(parts: Sequence[Part]) -> str:
    """A line for each part, in microseconds."""
    return "\n".join(["where it goes, us/batch:", "", *(f"  {part.micros:6.2f}  {part.name}" for part in parts)])
