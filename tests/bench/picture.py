"""How do the results look?  docs/speed.svg: bars of what a batch costs beyond the plain loop, on a logarithmic scale.

Made from the results alone, by hand, with text as text.  The ground is transparent; each colour has enough contrast to
white and to the black of a dark page alike.
"""

import math
from collections.abc import Iterator
from html import escape

from tests.bench.results import ROOT, Measured, Results, Table
from tests.bench.table import cost
from tests.bench.timing import spread


PATH = ROOT / "docs" / "speed.svg"

# The workloads that are drawn, and what stands above each.
DRAWN = {
    "tiny": "nobody listens",
    "calls": "five callbacks hear six events each",
    "digits": "DataLoader, Adam, accuracy, validation",
}
TEXT, FAINT = "#7a7d85", "#8b8f98"
OWN, OWN_CHECKED, PEER = "#2f81f7", "#6ea8f5", "#8b8f98"
FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"

WIDTH, LEFT, RIGHT = 840, 215, 650
ROW, BAR, TITLE, AXIS, TOP = 25, 15, 40, 34, 62
# The scale: microseconds at its left end and at its right end.
LEAST, MOST = 0.3, 1000.0
MARKS = (1, 10, 100, 1000)
# About how wide a letter is, for what must not run through words.
LETTER = 8.5


def made(results: Results) -> str:
    """The picture, as SVG."""
    tables = [table for table in results.tables if table.name in DRAWN]
    height = TOP + sum(_height(table) for table in tables) + 6
    lines, top = [*_head(height), *_heading(results)], TOP
    for table in tables:
        lines.extend(_panel(table, top))
        top += _height(table)
    return "\n".join([*lines, "</svg>", ""])


def _height(table: Table) -> int:
    return TITLE + ROW * len(drawn(table)) + AXIS


def drawn(table: Table) -> list[Measured]:
    """The engine and the libraries, from fast to slow; other ways to write the plain loop are in the page alone."""
    ours = [one for one in table.contenders if not one.name.startswith("plain loop")]
    return sorted(ours, key=lambda one: cost(one).median)


def _head(height: int) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="{FONT}" font-size="13" fill="{TEXT}" role="img">',
        "<title>What a batch costs beyond the loop written by hand</title>",
    ]


def _heading(results: Results) -> Iterator[str]:
    yield text(8, 24, "What a batch costs beyond the loop written by hand", size=18, bold=True)
    yield text(
        8,
        44,
        f"microseconds, on a logarithmic scale · whiskers: quartiles · grey: the loop against itself · {results.date}",
    )


def _panel(table: Table, top: int) -> Iterator[str]:
    """One workload: title, scale, the noise, a row for each contender."""
    ordered = drawn(table)
    first, foot = top + TITLE, top + TITLE + ROW * len(ordered)
    by_hand = spread([pair.mine for pair in table.noise.pairs]).median / table.noise.batches * 1e6
    yield text(8, top + 24, table.name, size=15, bold=True)
    yield text(18 + 9 * len(table.name), top + 24, f"{DRAWN[table.name]} · the loop by hand takes {by_hand:.0f} µs")
    yield from _noise(table, first, foot)
    for micros in MARKS:
        yield text(place(micros), foot + 16, f"{micros} µs", anchor="middle", size=12)
    for index, one in enumerate(ordered):
        yield from _row(table, one, first + ROW * index)


def _noise(table: Table, top: int, foot: int) -> Iterator[str]:
    """Where the plain loop against itself is: below that, nothing can be told."""
    floor = noise_of(table)
    x = place(floor)
    yield (
        f'<rect x="{LEFT}" y="{top}" width="{x - LEFT:.1f}" height="{foot - top}" fill="{FAINT}" fill-opacity="0.18">'
        f"<title>the plain loop against itself: {floor:.1f} µs</title></rect>"
    )


def noise_of(table: Table) -> float:
    """Half of the values of the plain loop against itself are nearer to 0 than this, in microseconds."""
    quartiles = cost(table.noise)
    return max(abs(quartiles.low), abs(quartiles.high))


def _row(table: Table, one: Measured, top: int) -> Iterator[str]:
    """Name, marks, bar, whisker, number."""
    own, quartiles, middle = not one.version, cost(one), top + ROW / 2
    low, end, high = (place(micros) for micros in (quartiles.low, quartiles.median, quartiles.high))
    words, right = _label(table, one), max(end, high) + 7
    colour = PEER if not own else OWN_CHECKED if one.note else OWN
    yield text(LEFT - 8, middle + 4.5, f"Stateloop {one.name}" if own else one.name, anchor="end", bold=own)
    for x in map(place, MARKS):
        if not right - 4 < x < right + LETTER * len(words):
            yield f'<path d="M{x:.1f} {top}v{ROW}" stroke="{FAINT}" stroke-opacity="0.35"/>'
    yield (f'<rect x="{LEFT}" y="{middle - BAR / 2}" width="{end - LEFT:.1f}" height="{BAR}" rx="2" fill="{colour}"/>')
    yield f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="{TEXT}" stroke-width="2"/>'
    yield text(right, middle + 4.5, words, bold=own)


def _label(table: Table, one: Measured) -> str:
    missing = f" · {one.calls} of {table.calls} calls" if one.calls < table.calls else ""
    return f"{number(cost(one).median)} µs{missing}"


def number(micros: float) -> str:
    """Two digits at least, none more than is known."""
    return f"{micros:.1f}" if abs(micros) < 10 else f"{micros:.0f}"


def place(micros: float) -> float:
    """Where a number of microseconds is, from left to right; what is below the scale is at its left end."""
    share = math.log(max(micros, LEAST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + (RIGHT - LEFT) * min(share, 1.06)


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 0, bold: bool = False) -> str:
    """One line of text."""
    more = "".join(
        [
            f' text-anchor="{anchor}"' if anchor != "start" else "",
            f' font-size="{size}"' if size else "",
            ' font-weight="600"' if bold else "",
        ]
    )
    return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{escape(words)}</text>'
