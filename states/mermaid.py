"""How is a picture written as Mermaid?  As a flowchart, which code hosts draw where they show a README.

Its colours are those of the page that shows it, light or dark; only the arrows of guards and the dot where a run begins
have one of their own, which is seen on both.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from states.picture import STAR, STARRED, Arrow, Box, Does, Node, Part, Picture, Way, visible


SHAPES = MappingProxyType(
    {
        Does.REPORTS: '("{}")',
        Does.DECIDES: '{{{{"{}"}}}}',
        Does.HOLDS: '[["{}"]]',
        Does.ENDS: '((("{}")))',
    }
)
COLOURS = MappingProxyType({Way.STOPS: "#d9534f", Way.SKIPS: "#9a6ee0"})
STYLES = MappingProxyType({Part.TRIGGER: "{}", Part.GUARD: "<b>{}</b>", Part.EVENTS: "<small><i>{}</i></small>"})
# Words of Mermaid's own, in lower case as names of states are; ids of ours have a capital letter and meet none.
RESERVED = frozenset(
    ("end", "graph", "flowchart", "subgraph", "style", "class", "click", "href", "call", "default", "direction")
)
# Where a run is: a page of its own for its text, light on any page, and a frame that is thick besides its colour.
MARKED = "fill:#ffcf70,stroke:#d4620a,stroke-width:4px,color:#1f2328"
TAKEN = "stroke-width:5px"
START, NOTE, CALLED = "Start", "Note", "Called"
# Closer together than Mermaid's own 50, so that a page's width is enough; and no line of ours is broken again.
SPACING = '%%{init: {"flowchart": {"nodeSpacing": 24, "rankSpacing": 32, "wrappingWidth": 640}}}%%'


def to_mermaid(picture: Picture) -> str:
    """The picture as Mermaid text.

    Example:
        >>> from states import PREDICTION
        >>> from states.picture import picture
        >>> print(to_mermaid(picture(PREDICTION)).splitlines()[1])
        flowchart TB
    """
    ids = {node.name: _id(node.name, number) for number, node in enumerate(picture.nodes)}
    lines = [
        SPACING,
        "flowchart TB",
        *_box(picture.page, picture, ids),
        *(_arrow(arrow, picture, ids) for arrow in picture.arrows),
        f'  {START}((" ")) --> {ids[picture.initial]}',
        f"  style {START} fill:#888888,stroke:#888888",
        *_note(NOTE, map(partial(_death, picture), picture.note), picture, ids),
        *_note(CALLED, map(_text, _called(picture)), picture, ids),
        *_colours(picture),
        *_place(picture, ids),
    ]
    return "\n".join(lines) + "\n"


def _id(name: str, number: int) -> str:
    """What a state is called in the text: its name where Mermaid takes that."""
    plain = re.fullmatch(r"[a-z][a-z0-9_]+", name) and name not in RESERVED
    return name if plain else f"State{number}"


def _box(box: Box, picture: Picture, ids: dict[str, str]) -> Iterator[str]:
    """A subgraph with what stands in it; the page itself is none."""
    indent = "  " * (len(box.path) + 1)
    if box.path:
        number = [inner.path for inner in picture.page.walk()].index(box.path)
        yield f'{indent[2:]}subgraph Box{number} ["{_text(box.path[-1])}"]'
    for node in box.nodes:
        yield f"{indent}{ids[node.name]}{SHAPES[node.does].format(_title(node))}"
    for inner in box.boxes:
        yield from _box(inner, picture, ids)
    if box.path:
        yield f"{indent[2:]}end"


def _title(node: Node) -> str:
    runs = f"<br/><small>runs {_text(node.runs)}</small>" if node.runs else ""
    return f"{_text(node.name)}{runs}"


def _arrow(arrow: Arrow, picture: Picture, ids: dict[str, str]) -> str:
    label = "<br/>".join(STYLES[part].format(_text(line)) for part, line in arrow.lines())
    written = f'|"{label}"|' if label else ""
    return f"  {ids[arrow.source]} {_line(arrow, picture)}{written} {ids[arrow.dest]}"


def _line(arrow: Arrow, picture: Picture) -> str:
    """The arrow itself: longer onward where an earlier one joins the same states, so that their labels keep apart."""
    earlier = picture.arrows[: arrow.number]
    beside = any((other.source, other.dest) == (arrow.source, arrow.dest) for other in earlier)
    return "--->" if beside and not arrow.back else "-->"


def _note(ident: str, lines: Iterable[str], picture: Picture, ids: Mapping[str, str]) -> Iterator[str]:
    """The abnormal ends, or who is called, in a dashed box below the ends; what keeps it there is not seen."""
    if text := "<br/>".join(lines):
        yield f'  {ident}["{text}"]'
        yield f"  style {ident} stroke-dasharray:4 3,text-align:left"
        yield from (f"  {ids[node.name]} ~~~ {ident}" for node in picture.nodes if node.does is Does.ENDS)


def _death(picture: Picture, line: str) -> str:
    return f"<b>{_text(line)}</b>" if picture.is_here(line) else _text(line)


def _called(picture: Picture) -> Iterator[str]:
    """Who is called where there is a star: a line or more for each word."""
    if picture.calls:
        yield f"{STAR} {STARRED}"
    for calls in picture.calls:
        first, *more = calls.lines()
        yield from (f"{calls.word}: {first}", *more)


def _colours(picture: Picture) -> Iterator[str]:
    for way, colour in COLOURS.items():
        numbers = [str(arrow.number) for arrow in picture.arrows if arrow.way is way]
        if numbers:
            yield f"  linkStyle {','.join(numbers)} stroke:{colour},stroke-width:2px"


def _place(picture: Picture, ids: Mapping[str, str]) -> Iterator[str]:
    """Where a run is, and what it took last; of the lines about one arrow Mermaid takes the last, so it says all."""
    if picture.here:
        yield f"  style {ids.get(picture.here, NOTE)} {MARKED}"
    for arrow in picture.arrows:
        if arrow.number in picture.taken:
            colour = f"stroke:{COLOURS[arrow.way]}," if arrow.way in COLOURS else ""
            yield f"  linkStyle {arrow.number} {colour}{TAKEN}"


def _text(name: str) -> str:
    """A name as Mermaid shows it unchanged: all but letters, digits and plain signs as the number of the character."""
    return re.sub(r"[^\w ,.:()\[\]·→]", lambda found: f"#{ord(found[0])};", visible(name))
