"""How is a picture shown as SVG or PNG?  Graphviz lays out its DOT text, when that is asked for.

An SVG carries a style that replaces each of its colours where the reader prefers dark; it brings its own page with it,
so that it is legible on any.
"""

import re
from hashlib import sha256
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING

from states.dot import (
    ASKS,
    ASKS_EDGE,
    BOXES,
    FAINT,
    FRAME,
    HERE,
    HERE_EDGE,
    HOLDS,
    HOLDS_EDGE,
    INK,
    LINE,
    PAGE,
    RUNS,
    RUNS_EDGE,
    SKIPS,
    STOPS,
    to_dot,
)
from states.errors import StateloopError
from states.picture import Picture, visible


if TYPE_CHECKING:
    import pygraphviz

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
# The same for where a run is; a picture that shows none needs neither.
DARK_HERE = MappingProxyType({HERE: "#7a3e00", HERE_EDGE: "#ffa657"})
# How Graphviz numbers what it draws: nothing refers to it, and two pictures on one page would have the same.
ID = re.compile(r'<g id="[^"]*" ')


class PicturesMissing(StateloopError):
    """A picture was asked for, and the package that lays it out, pygraphviz or matplotlib, cannot be imported."""


def to_svg(picture: Picture) -> str:
    """The picture as SVG text, for light and for dark pages.

    Raises:
        PicturesMissing: pygraphviz is not installed.
    """
    drawn = _titled(_laid_out(picture, "svg").decode(), picture)
    head, group, rest = drawn.partition("<g ")
    head = head.replace('pt"', 'px"')
    return f"{head}<style>{_style(picture)}</style>\n{group}{rest}"


def to_inline_svg(picture: Picture) -> str:
    """The same as an element of a web page, beside others: it has no ids, its style is its own, and it shrinks.

    What its style is said of is named by what is in it, so that one picture is the same bytes everywhere, and two that
    have one name have one style.

    Raises:
        PicturesMissing: pygraphviz is not installed.
    """
    _, opening, drawn = to_svg(picture).partition("<svg ")
    name = f"stateloop-{sha256(_style(picture).encode()).hexdigest()[:8]}"
    styled = drawn.replace(_style(picture), _style(picture, f".{name}"), 1)
    return f'{opening}class="{name}" style="max-width:100%;height:auto" {re.sub(ID, "<g ", styled)}'


def _style(picture: Picture, root: str = "") -> str:
    """Rounded corners, and what each colour is on a dark page; for one picture alone where its root is named."""
    colours = {**DARK, **DARK_HERE} if picture.here else DARK
    inside = f"{root} " if root else ""
    rules = (
        f'{inside}[fill="{light}"]{{fill:{dark}}}{inside}[stroke="{light}"]{{stroke:{dark}}}'
        for light, dark in colours.items()
    )
    shape = f"{root or 'svg'}{{clip-path:inset(0 round 10px)}}"
    return f"{shape}@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


def to_png(picture: Picture) -> bytes:
    """The picture as PNG bytes, on a light page, two pixels for each unit.

    Raises:
        PicturesMissing: pygraphviz is not installed.
    """
    return _laid_out(picture, "png", "-Gdpi=144")


def _titled(drawn: str, picture: Picture) -> str:
    """An SVG that says in words, when one points at a box, an arrow or its label, what it is and who is called."""
    boxes = tuple(picture.page.walk())

    def title(match: re.Match[str]) -> str:
        number = int(match[3])
        told = visible(boxes[number].path[-1]) if match[2] == "BOX" else picture.told(picture.arrows[number])
        return f"{match[1]}{escape(told)}"

    return re.sub(r'(class="(?:cluster|edge|node)">\s<title>)[^<]*\b(LABEL|BOX) (\d+)[^<]*', title, drawn)


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
