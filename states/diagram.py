"""What does a machine look like?  Its picture as Mermaid, DOT, SVG or PNG."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import Enum
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Literal, overload

from states.dot import to_dot
from states.errors import StateloopError, shown, typed
from states.here import marked
from states.machine import Machine
from states.mermaid import to_mermaid
from states.picture import Called, Picture, picture
from states.rows import Transition
from states.svg import to_png, to_svg


Text = Literal["mermaid", "dot", "svg"]
Where = str | PathLike[str] | None
Taken = Transition | Iterable[Transition]

FORMATS: Mapping[str, Callable[[Picture], str | bytes]] = MappingProxyType(
    {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg, "png": to_png}
)
# What a file's name says when no format is given.
SUFFIXES = MappingProxyType(
    {".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg", ".png": "png"}
)


class FormatUnknown(StateloopError):
    """A picture was asked for in a format that there is none in, or that the name of its file contradicts."""


class MachineMissing(StateloopError):
    """A picture was asked for of something that is no machine."""


@overload
def diagram(
    machine: Machine,
    format: Text,
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
    here: Enum | None = None,
    taken: Taken = (),
) -> str: ...
@overload
def diagram(
    machine: Machine,
    format: Literal["png"],
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
    here: Enum | None = None,
    taken: Taken = (),
) -> bytes: ...
@overload
def diagram(
    machine: Machine,
    format: str | None = None,
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
    here: Enum | None = None,
    taken: Taken = (),
) -> str | bytes: ...
def diagram(
    machine: Machine,
    format: str | None = None,  # noqa: A002  # the word that everybody tries first
    path: Where = None,
    *,
    hears: Called | None = None,
    answers: Called | None = None,
    here: Enum | None = None,
    taken: Taken = (),
) -> str | bytes:
    """Draw a machine: its states, its rows as arrows, its scopes as boxes, its guards in square brackets.

    Args:
        machine: Any machine; only its rows and its proof are read.
        format: "mermaid", "dot", "svg" or "png"; by default what the suffix of `path` says, "mermaid" without a path.
        path: Where the picture is written as well; its folders are made.
        hears: For an event, the names of the callbacks that hear it, in order; they are named below the picture, and
            the event has a star.
        answers: For a guard, the names of the callbacks that answer it, likewise.
        here: The state in which a run is: filled, with a thick frame.  `State.FAILED` and `State.INTERRUPTED` stand in
            the note of the abnormal ends, which is marked in their place.
        taken: The row that was taken last, or several: their arrows are thick.

    Returns:
        The text of the picture, or the bytes of a PNG.  One machine gives one picture: mermaid and dot are the same
        bytes everywhere, svg and png on one machine with its fonts.

    Raises:
        FormatUnknown: the format, or the suffix of the path, is none of those above, or they contradict each other.
        MachineMissing: *machine* is no machine.
        PlaceUnknown: *here* is no state of the machine, or *taken* has what is no row of it.
        PicturesMissing: svg or png was asked for, and pygraphviz is not installed.

    Example:
        >>> from states import TRAINING, Guard
        >>> text = diagram(TRAINING, "mermaid", answers={Guard.SKIP_STEP: ["Overflow"]})
        >>> print(next(line for line in text.splitlines() if "Overflow" in line))
          Called["#42; called, in this order:<br/>skip_step: Overflow"]
    """
    if not isinstance(machine, Machine):
        raise MachineMissing(_no_machine(machine))
    draw = FORMATS[_chosen(format, path)]
    drawn = draw(marked(picture(machine, hears, answers), machine, here, taken))
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(drawn.encode() if isinstance(drawn, str) else drawn)
    return drawn


def _no_machine(given: object) -> str:
    what = f"a picture is drawn of a Machine, not of {typed(given)}: {shown(given)}"
    has_one = callable(getattr(given, "diagram", None)) and not isinstance(given, type)
    return f"{what}\n  instead:  write engine.diagram(...), its own method" if has_one else what


def _chosen(form: object, path: Where) -> str:
    """The format asked for, by name or by the suffix of a path."""
    suffix = "" if path is None else Path(path).suffix.lower()
    told = SUFFIXES.get(suffix)
    if form is None:
        if told is None and path is not None:
            raise FormatUnknown(f"no format was given, and the suffix {suffix!r} tells none; {_known()}")
        return told or "mermaid"
    if not isinstance(form, str) or form not in FORMATS:
        raise FormatUnknown(_unknown(form))
    if told not in {None, form}:
        raise FormatUnknown(
            f"the format is {form!r}, but the suffix of {str(path)!r} says {told!r}\n"
            "  instead:  leave out the format, or give the file another suffix"
        )
    return form


def _unknown(form: object) -> str:
    """What is wrong with a format that is none: it is a path, or misspelt, or there is no such picture."""
    what = f"no picture in the format {shown(form)}"
    if isinstance(form, PathLike) or (isinstance(form, str) and Path(form).suffix.lower() in SUFFIXES):
        return f"{what}, which is a path\n  instead:  path={str(form)!r}"
    near = get_close_matches(str(form).lower(), FORMATS, n=1)
    return f"{what}: did you mean {near[0]!r}?; {_known()}" if near else f"{what}; {_known()}"


def _known() -> str:
    return f"formats: {', '.join(FORMATS)}; suffixes: {', '.join(SUFFIXES)}"
