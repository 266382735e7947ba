"""How is a picture drawn by Graphviz?  As DOT text; `svg` has it laid out.

# Theory of operation
#
# The table is drawn from top to bottom, as it is read.  States that follow each other without a guard make a column,
# with heavy edges between them.  An arrow to where a later column begins is as long as there are states in between, so
# that what comes after a loop stands below it, and heavy enough to be straight.  Columns do not bend.
#
# What is written on an arrow is a node in the middle of it, in the smallest box that holds both ends: so a label stands
# in a box or outside it, never on its frame, no other arrow runs through it, and nobody asks which arrow it belongs to.
# The way back of a loop is written from its end to its beginning, as it stands on the page.  Boxes have their names
# below: what enters and what leads back comes from above.  Arrows keep further away from each other (nodesep, inches)
# than a frame keeps from what it holds (margin, points): or one that passes a box would run along its frame.
#
# Colours are written for a light page, one for each meaning, so that an SVG can replace them on a dark one.  The state
# in which a run is has a thick frame besides its colour, and the rows that it took last are thicker than the others.
"""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise, zip_longest
from types import MappingProxyType

from states.picture import STAR, STARRED, Arrow, Box, Does, Node, Part, Picture, Way, visible


FONT = "Helvetica,Arial,sans-serif"
PAGE, INK, FAINT, LINE, FRAME = "#fffffe", "#1f2328", "#59636e", "#57606a", "#c4ccd4"
BOXES = ("#f6f8fa", "#eef1f4", "#e6eaef")  # outermost first; those deeper inside are as the last
RUNS, RUNS_EDGE, ASKS, ASKS_EDGE = "#ddf4ff", "#0969da", "#fff8c5", "#9a6700"
HOLDS, HOLDS_EDGE, STOPS, SKIPS = "#dafbe1", "#1a7f37", "#cf222e", "#8250df"
HERE, HERE_EDGE = "#ffcf70", "#bc4c00"

COLOURS = MappingProxyType({Way.PLAIN: LINE, Way.STOPS: STOPS, Way.SKIPS: SKIPS})
SHAPES = MappingProxyType(
    {
        Does.REPORTS: f'shape=box, style="rounded,filled", fillcolor="{RUNS}", color="{RUNS_EDGE}"',
        Does.DECIDES: f'shape=hexagon, style=filled, fillcolor="{ASKS}", color="{ASKS_EDGE}"',
        Does.HOLDS: f'shape=box, style="rounded,filled", peripheries=2, fillcolor="{HOLDS}", color="{HOLDS_EDGE}"',
        Does.ENDS: f'shape=ellipse, style=filled, peripheries=2, fillcolor="{PAGE}", color="{INK}"',
    }
)
# Where a run is, instead of the colours of its shape; and an arrow that it took last.
MARKED = f'fillcolor="{HERE}", color="{HERE_EDGE}", penwidth=4'
TAKEN = ", penwidth=3.5"
Columns = tuple[tuple[str, ...], ...]
START = "START"  # no state has this name, nor that of a label or a box: names are in lower case


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
        f'  graph [rankdir=TB, newrank=true, nodesep=0.14, ranksep=0.16, pad=0.15, bgcolor="{PAGE}",',
        f'    fontname="{FONT}", fontsize=11, fontcolor="{FAINT}", labelloc=b, labeljust=l, label=<{_note(picture)}>]',
        f'  node [fontname="{FONT}", fontsize=12, fontcolor="{INK}", height=0.34, margin="0.12,0.03"]',
        f'  edge [fontname="{FONT}", arrowsize=0.65]',
        f'  {START} [label="", shape=circle, style=filled, width=0.13, height=0.13, margin=0, '
        f'fillcolor="{INK}", color="{INK}"]',
        f'  {START} -> {_quoted(picture.initial)} [color="{INK}", weight=50]',
        *_box(picture.page, picture, columns),
        *(line for arrow in picture.arrows for line in _arrow(arrow, picture, columns)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _columns(picture: Picture) -> Columns:
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


def _box(box: Box, picture: Picture, columns: Columns) -> Iterator[str]:
    """A cluster with what stands in it; the page itself is none."""
    indent = "  " * (len(box.path) + 1)
    if box.path:
        number = [inner.path for inner in picture.page.walk()].index(box.path)
        shade = BOXES[min(len(box.path), len(BOXES)) - 1]
        yield f'{indent[2:]}subgraph "cluster BOX {number}" {{'
        yield f'{indent}graph [label=<{_text(box.path[-1])}>, labelloc=b, style="rounded,filled", margin=5,'
        yield f'{indent}  color="{FRAME}", fillcolor="{shade}"]'
    for node in box.nodes:
        yield f"{indent}{_node(node, picture, columns)}"
    for arrow in picture.arrows:
        if any(arrow.lines()) and picture.home(arrow) == box.path:
            yield f"{indent}{_named(arrow)} [label=<{_label(arrow)}>, shape=plain{_group(arrow, columns)}]"
    for inner in box.boxes:
        yield from _box(inner, picture, columns)
    if box.path:
        yield f"{indent[2:]}}}"


def _node(node: Node, picture: Picture, columns: Columns) -> str:
    runs = f'<BR/><FONT POINT-SIZE="10">runs {_text(node.runs)}</FONT>' if node.runs else ""
    column = next(number for number, column in enumerate(columns) if node.name in column)
    shape = f"{SHAPES[node.does]}{f', {MARKED}' if node.name == picture.here else ''}"  # what is said last counts
    return f'{_quoted(node.name)} [label=<{_text(node.name)}{runs}>, {shape}, group="column {column}"]'


def _arrow(arrow: Arrow, picture: Picture, columns: Columns) -> Iterator[str]:
    """The arrow, in two halves with its label between them; downwards, also where it leads back."""
    label = (_named(arrow),) if any(arrow.lines()) else ()
    path = (_quoted(arrow.source), *label, _quoted(arrow.dest))
    halves = tuple(pairwise(path[::-1] if arrow.back else path))
    weight, length = _pull(arrow, columns)
    thick = TAKEN if arrow.number in picture.taken else ""
    for number, (upper, lower) in enumerate(halves):
        tip = number == (0 if arrow.back else len(halves) - 1)
        ends = f", dir={'back' if arrow.back else 'forward'}" if tip else ", dir=none"
        minlen = length if number == len(halves) - 1 else 1
        yield f'  {upper} -> {lower} [color="{COLOURS[arrow.way]}"{ends}, weight={weight}, minlen={minlen}{thick}]'


def _pull(arrow: Arrow, columns: Columns) -> tuple[int, int]:
    """How an arrow moves what it joins: heavy along a column, long to where a later column begins."""
    names = [name for column in columns for name in column]
    if _column(arrow, columns) is not None:
        return 20, 1
    if not arrow.back and any(arrow.dest == column[0] for column in columns):
        return 3, names.index(arrow.dest) - names.index(arrow.source)
    return 1, 1


def _column(arrow: Arrow, columns: Columns) -> int | None:
    """The column that the arrow runs along."""
    ends = (arrow.source, arrow.dest)
    along = (number for number, column in enumerate(columns) if ends in pairwise(column))
    return next(along, None) if arrow.way is Way.PLAIN else None


def _group(arrow: Arrow, columns: Columns) -> str:
    """What keeps the label of an arrow in line with the column."""
    column = _column(arrow, columns)
    return "" if column is None else f', group="column {column}"'


def _named(arrow: Arrow) -> str:
    return f'"LABEL {arrow.number}"'


def _label(arrow: Arrow) -> str:
    colour = INK if arrow.way is Way.PLAIN else COLOURS[arrow.way]
    styles = {
        Part.TRIGGER: f'<FONT POINT-SIZE="10.5" COLOR="{colour}">{{}}</FONT>',
        Part.GUARD: f'<FONT POINT-SIZE="10.5" COLOR="{colour}"><B>{{}}</B></FONT>',
        Part.EVENTS: f'<FONT POINT-SIZE="9.5" COLOR="{FAINT}"><I>{{}}</I></FONT>',
    }
    rows = "".join(f"<TR><TD>{styles[part].format(_text(line))}</TD></TR>" for part, line in arrow.lines())
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="1">{rows}</TABLE>'


def _note(picture: Picture) -> str:
    """Below the picture: how it is read, the abnormal ends, and who is called."""
    how = (
        ("rounded box", RUNS_EDGE, "an action runs, and reports"),
        ("hexagon", ASKS_EDGE, "nothing runs, guards decide"),
        ("[stop_...]", STOPS, "a guard that stops"),
        ("[other]", SKIPS, "a guard that skips"),
    )
    legend = _beside((f'<FONT COLOR="{colour}">{word}</FONT>', text) for word, colour, text in how)
    deaths = _beside((_death(line, picture),) for line in picture.note)
    calls = _beside((_text(word), _text(line)) for word, line in _called(picture))
    if picture.died:
        notes = [_cell(legend), _cell(deaths, 4, f'"{HERE_EDGE}" BGCOLOR="{HERE}"'), _cell(calls)]
    else:
        notes = [_cell(legend + deaths), _cell(calls)] if calls else [_cell(legend), _cell(deaths)]
    return f'<TABLE BORDER="0" CELLSPACING="8"><TR>{"".join(notes)}</TR></TABLE>'


def _cell(lines: str, border: int = 1, colour: str = f'"{FRAME}"') -> str:
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">{lines}</TABLE>'
    return f'<TD BORDER="{border}" STYLE="ROUNDED" COLOR={colour} CELLPADDING="3">{table}</TD>' if lines else ""


def _death(line: str, picture: Picture) -> str:
    """A line of the abnormal ends; that of the one which the run has come to is bold, all are legible on its colour."""
    text = f"<B>{_text(line)}</B>" if picture.is_here(line) else _text(line)
    return f'<FONT COLOR="{INK}">{text}</FONT>' if picture.died else text


def _called(picture: Picture) -> Iterator[tuple[str, str]]:
    """Who is called where there is a star, line by line: the word, then its callbacks."""
    if picture.calls:
        yield STAR, STARRED
    for calls in picture.calls:
        yield from zip_longest((calls.word,), calls.lines(), fillvalue="")


def _beside(lines: Iterable[tuple[str, ...]]) -> str:
    """Lines of one or of two cells each, one below the other: as texts, since the rows of a table would drift apart.

    A cell that is empty has a blank, or the line would have no height.
    """
    columns = tuple(zip(*lines, strict=True))
    spot = f'ALIGN="LEFT" BALIGN="LEFT" VALIGN="TOP" COLSPAN="{3 - len(columns)}"'
    texts = ("<BR/>".join(cell or "&#160;" for cell in column) for column in columns)
    row = "".join(f'<TD {spot}><FONT POINT-SIZE="11">{text}</FONT></TD>' for text in texts)
    return f"<TR>{row}</TR>" if row else ""


def _quoted(name: str) -> str:
    return '"' + visible(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(name: str) -> str:
    return escape(visible(name))
