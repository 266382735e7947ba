"""How is a picture drawn by Graphviz?  As DOT text, laid out as SVG or PNG by pygraphviz when that is asked for.

# Theory of operation
#
# The table is drawn from top to bottom, as it is read.  States that follow each other without a guard make a column,
# with heavy edges between them.  An arrow to where a later column begins is as long as there are states in between, so
# that what comes after a loop stands below it, and heavy enough to be straight.  The first column may bend where a box
# begins; the others may not.
#
# Colours are written for a light page.  An SVG carries a style that replaces each of them where the reader prefers
# dark; it brings its own page with it, so that it is legible on any.
"""

from collections.abc import Iterator
from html import escape
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from states.errors import StateloopError
from states.picture import Arrow, Box, Does, Node, Part, Picture, Way, visible


if TYPE_CHECKING:
    import pygraphviz

FONT = "Helvetica,Arial,sans-serif"
PAGE, INK, FAINT, LINE, FRAME = "#fffffe", "#1f2328", "#59636e", "#57606a", "#c4ccd4"
BOXES = ("#f6f8fa", "#eef1f4", "#e6eaef")  # outermost first; those deeper inside are as the last
RUNS, RUNS_EDGE, ASKS, ASKS_EDGE = "#ddf4ff", "#0969da", "#fff8c5", "#9a6700"
HOLDS, HOLDS_EDGE, STOPS, SKIPS = "#dafbe1", "#1a7f37", "#cf222e", "#8250df"

# What each colour is on a dark page.
DARK = MappingProxyType(
    {
        PAGE: "#0d1117",
        INK: "#f0f6fc",
        FAINT: "#9aa4af",
        LINE: "#98a2ad",
        FRAME: "#3d444d",
        BOXES[0]: "#151b23",
        BOXES[1]: "#1b222c",
        BOXES[2]: "#212a35",
        RUNS: "#0c2d4f",
        RUNS_EDGE: "#4493f8",
        ASKS: "#3b2f08",
        ASKS_EDGE: "#d29922",
        HOLDS: "#12341d",
        HOLDS_EDGE: "#3fb950",
        STOPS: "#ff7b72",
        SKIPS: "#bc8cff",
    }
)
COLOURS = MappingProxyType({Way.PLAIN: LINE, Way.STOPS: STOPS, Way.SKIPS: SKIPS})
SHAPES = MappingProxyType(
    {
        Does.REPORTS: f'shape=box, style="rounded,filled", fillcolor="{RUNS}", color="{RUNS_EDGE}"',
        Does.DECIDES: f'shape=hexagon, style=filled, fillcolor="{ASKS}", color="{ASKS_EDGE}"',
        Does.HOLDS: f'shape=box, style="rounded,filled", peripheries=2, fillcolor="{HOLDS}", color="{HOLDS_EDGE}"',
        Does.ENDS: f'shape=ellipse, style=filled, peripheries=2, fillcolor="{PAGE}", color="{INK}"',
    }
)
START = "START"  # no state has this name: names are in lower case


class PicturesMissing(StateloopError):
    """A picture was asked for that Graphviz lays out, and pygraphviz cannot be imported."""


def to_dot(picture: Picture) -> str:
    """The picture as DOT text.

    Example:
        >>> from states import PREDICTION
        >>> from states.picture import picture
        >>> print(to_dot(picture(PREDICTION)).splitlines()[0])
        digraph "prediction" {
    """
    columns = _columns(picture)
    lines = [
        f"digraph {_quoted(picture.name)} {{",
        f'  graph [rankdir=TB, newrank=true, nodesep=0.2, ranksep=0.2, pad=0.15, bgcolor="{PAGE}", fontname="{FONT}",',
        f'    fontsize=11, fontcolor="{FAINT}", labelloc=b, labeljust=l, label=<{_note(picture)}>]',
        f'  node [fontname="{FONT}", fontsize=12, fontcolor="{INK}", height=0.34, margin="0.12,0.03"]',
        f'  edge [fontname="{FONT}", arrowsize=0.65]',
        f'  {START} [label="", shape=circle, style=filled, width=0.13, height=0.13, margin=0, '
        f'fillcolor="{INK}", color="{INK}"]',
        f'  {START} -> {_quoted(picture.initial)} [color="{INK}", weight=50]',
        *_box(picture.page, picture, columns),
        *(_arrow(arrow, columns) for arrow in picture.arrows),
        "}",
    ]
    return "\n".join(lines) + "\n"


def to_svg(picture: Picture) -> str:
    """The picture as SVG text, for light and for dark pages.

    Raises:
        PicturesMissing: pygraphviz is not installed.
    """
    drawn = _laid_out(picture, "svg").decode()
    rules = "".join(f'[fill="{c}"]{{fill:{dark}}}[stroke="{c}"]{{stroke:{dark}}}' for c, dark in DARK.items())
    style = f"<style>svg{{clip-path:inset(0 round 10px)}}@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, group, rest = drawn.partition("<g ")
    head = head.replace('pt"', 'px"')
    return f"{head}{style}\n{group}{rest}"


def to_png(picture: Picture) -> bytes:
    """The picture as PNG bytes, on a light page, two pixels for each unit.

    Raises:
        PicturesMissing: pygraphviz is not installed.
    """
    return _laid_out(picture, "png", "-Gdpi=144")


def _laid_out(picture: Picture, form: str, args: str = "") -> bytes:
    graph: pygraphviz.AGraph = _pygraphviz_graph(to_dot(picture))
    try:
        return bytes(graph.draw(format=form, prog="dot", args=args))
    finally:
        graph.close()


def _pygraphviz_graph(text: str) -> "pygraphviz.AGraph":
    try:
        from pygraphviz import AGraph  # noqa: PLC0415  # at first use: only pictures need it
    except ImportError as missing:
        msg = (
            "svg and png are laid out by pygraphviz, which cannot be imported\n"
            "  instead:  pip install 'stateloop[pictures]', which brings Graphviz with it; "
            "or ask for 'mermaid' or 'dot', which need nothing"
        )
        raise PicturesMissing(msg) from missing
    return AGraph(string=text)


def _columns(picture: Picture) -> tuple[tuple[str, ...], ...]:
    """The states, in the order of the table, cut where one does not simply follow the other."""
    names = tuple(
        dict.fromkeys((picture.initial, *(a.source for a in picture.arrows), *(a.dest for a in picture.arrows)))
    )
    columns: list[tuple[str, ...]] = []
    for name in names:
        if any(name in column for column in columns):
            continue
        column: tuple[str, ...] = (name,)
        taken = {n for c in columns for n in c}
        while following := _following(picture, column[-1], {*taken, *column}):
            column = (*column, following)
        columns.append(column)
    return tuple(columns)


def _following(picture: Picture, name: str, taken: set[str]) -> str:
    """Where the first row without a guard leads to, of those that lead on."""
    onward = (a.dest for a in picture.arrows if a.source == name and a.way is Way.PLAIN and not a.back)
    return next((dest for dest in onward if dest not in taken), "")


def _box(box: Box, picture: Picture, columns: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """A cluster with what stands in it; the page itself is none."""
    indent = "  " * (len(box.path) + 1)
    if box.path:
        number = [inner.path for inner in picture.page.walk()].index(box.path)
        shade = BOXES[min(len(box.path), len(BOXES)) - 1]
        yield f"{indent[2:]}subgraph cluster_{number} {{"
        yield f'{indent}graph [label=<{_text(box.path[-1])}>, labelloc=t, style="rounded,filled", margin=8, '
        yield f'{indent}  color="{FRAME}", fillcolor="{shade}"]'
    for node in box.nodes:
        yield f"{indent}{_node(node, columns)}"
    for inner in box.boxes:
        yield from _box(inner, picture, columns)
    if box.path:
        yield f"{indent[2:]}}}"


def _node(node: Node, columns: tuple[tuple[str, ...], ...]) -> str:
    runs = f'<BR/><FONT POINT-SIZE="10">runs {_text(node.runs)}</FONT>' if node.runs else ""
    column = next(number for number, column in enumerate(columns) if node.name in column)
    group = f', group="column {column}"' if column else ""
    return f"{_quoted(node.name)} [label=<{_text(node.name)}{runs}>, {SHAPES[node.does]}{group}]"


def _arrow(arrow: Arrow, columns: tuple[tuple[str, ...], ...]) -> str:
    ends = f"{_quoted(arrow.source)} -> {_quoted(arrow.dest)}"
    label = f", label=<{_label(arrow)}>" if arrow.trigger or arrow.guard or arrow.heard else ""
    return f'  {ends} [color="{COLOURS[arrow.way]}"{_pull(arrow, columns)}{label}]'


def _pull(arrow: Arrow, columns: tuple[tuple[str, ...], ...]) -> str:
    """How an arrow moves what it joins: heavy along a column, long to where a later column begins."""
    names = [name for column in columns for name in column]
    if arrow.way is Way.PLAIN and any((arrow.source, arrow.dest) in pairwise(column) for column in columns):
        return ", weight=20"
    if not arrow.back and any(arrow.dest == column[0] for column in columns):
        return f", weight=6, minlen={names.index(arrow.dest) - names.index(arrow.source)}"
    return ""


def _label(arrow: Arrow) -> str:
    colour = INK if arrow.way is Way.PLAIN else COLOURS[arrow.way]
    styles = {
        Part.TRIGGER: f'<FONT POINT-SIZE="10.5" COLOR="{colour}">{{}}</FONT>',
        Part.GUARD: f'<FONT POINT-SIZE="10.5" COLOR="{colour}"><B>{{}}</B></FONT>',
        Part.EVENTS: f'<FONT POINT-SIZE="9.5" COLOR="{FAINT}"><I>{{}}</I></FONT>',
    }
    return _table(styles[part].format(_text(line)) for part, line in arrow.lines())


def _note(picture: Picture) -> str:
    """Below the picture: how it is read, and the abnormal ends."""
    how = (
        ("rounded box", RUNS_EDGE, "an action runs, and reports"),
        ("hexagon", ASKS_EDGE, "nothing runs, guards decide"),
        ("[stop_...]", STOPS, "a guard that stops"),
        ("[other]", SKIPS, "a guard that skips"),
    )
    legend = _table(f'<FONT COLOR="{colour}">{word}</FONT>: {text}' for word, colour, text in how)
    deaths = _table(map(_text, picture.note))
    cells = f'<TD BORDER="1" STYLE="ROUNDED" COLOR="{FRAME}" VALIGN="TOP" CELLPADDING="6">{{}}</TD>'
    both = (legend, deaths) if picture.note else (legend,)
    row = "".join(map(cells.format, both))
    return f'<TABLE BORDER="0" CELLSPACING="8"><TR>{row}</TR></TABLE>'


def _table(lines: Iterator[str]) -> str:
    rows = "".join(f'<TR><TD ALIGN="LEFT">{line}</TD></TR>' for line in lines)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{rows}</TABLE>'


def _quoted(name: str) -> str:
    return '"' + visible(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(name: str) -> str:
    return escape(visible(name))
