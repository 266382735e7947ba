"""What does a machine look like?  Its picture as Mermaid, DOT, SVG or PNG."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Literal, overload

from states.dot import to_dot, to_png, to_svg
from states.errors import StateloopError, nearest
from states.machine import Machine
from states.mermaid import to_mermaid
from states.picture import Called, Picture, picture


Text = Literal["mermaid", "dot", "svg"]
Where = str | PathLike[str] | None

FORMATS: Mapping[str, Callable[[Picture], str | bytes]] = MappingProxyType(
    {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg, "png": to_png}
)
# What a file's name says when no format is given.
SUFFIXES = MappingProxyType(
    {".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg", ".png": "png"}
)


class FormatUnknown(StateloopError):
    """A picture was asked for in a format that there is none in."""


@overload
def diagram(
    machine: Machine, format: Text, path: Where = None, *, hears: Called | None = None, answers: Called | None = None
) -> str: ...
@overload
def diagram(
    machine: Machine,
    format: Literal["png"],
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
) -> bytes: ...
@overload
def diagram(
    machine: Machine,
    format: str | None = None,
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
) -> str | bytes: ...
def diagram(
    machine: Machine,
    format: str | None = None,  # noqa: A002  # the word that everybody tries first
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
) -> str | bytes:
    """Draw a machine: its states, its rows as arrows, its scopes as boxes, its guards in square brackets.

    Args:
        machine: Any machine; only its rows and its proof are read.
        format: "mermaid", "dot", "svg" or "png".  `None` takes what the suffix of `path` says.
        path: Where the picture is written as well.
        hears: For an event, the names of the callbacks that hear it; they are named on its arrows.
        answers: For a guard, the names of the callbacks that answer it; they are named in its brackets.

    Returns:
        The text of the picture, or the bytes of a PNG.  One machine gives one picture: mermaid and dot are the same
        bytes everywhere, svg and png on one machine with its fonts.

    Raises:
        FormatUnknown: the format, or the suffix of the path, is none of those above.
        PicturesMissing: svg or png was asked for, and pygraphviz is not installed.

    Example:
        >>> from states import TRAINING, Guard
        >>> text = diagram(TRAINING, "mermaid", answers={Guard.SKIP_STEP: ["Overflow"]})
        >>> print(next(line for line in text.splitlines() if "Overflow" in line))
          backward -->|"grads ready<br/><b>[skip_step: Overflow]</b><br/><small><i>backward_end</i></small>"| zero_grad
    """
    draw = FORMATS[_chosen(format, path)]
    drawn = draw(picture(machine, hears, answers))
    if path is not None:
        Path(path).write_bytes(drawn.encode() if isinstance(drawn, str) else drawn)
    return drawn


def _chosen(form: str | None, path: Where) -> str:
    """The format asked for, by name or by the suffix of a path."""
    if form is not None and form in FORMATS:
        return form
    if form is not None:
        raise FormatUnknown(f"no picture in the format {form!r}: {nearest(str(form), FORMATS)}; {_known()}")
    suffix = "" if path is None else Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        told = "no path was given to tell it" if path is None else f"the suffix {suffix!r} tells none"
        raise FormatUnknown(f"no format was given, and {told}; {_known()}")
    return SUFFIXES[suffix]


def _known() -> str:
    return f"formats: {', '.join(FORMATS)}; suffixes: {', '.join(SUFFIXES)}"
