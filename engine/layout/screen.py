"""Where is progress shown, and how?  In a terminal, in a notebook, in a file, or nowhere."""

import os
import sys
from enum import Enum
from functools import cache
from importlib.util import find_spec
from typing import Any, TextIO

from attrs import frozen
from torch import distributed


# What terminals understand as: go to the line's first column and erase the line (a `^C` may stand there).
ERASE_LINE = "\r\x1b[K"


class Kind(Enum):
    """What a stream leads to."""

    TERMINAL = "bars and lines"
    NOTEBOOK = "one bar of text at a time, and lines"
    WIDGETS = "bars that are widgets, and lines"
    FILE = "lines alone, without control characters"


@frozen
class Screen:
    """A stream, and what it leads to; without one nothing is shown.

    Example:
        >>> screen_for(sys.stdout) == Screen(sys.stdout, Kind.FILE)  # in a doctest
        True
    """

    stream: TextIO | None = None
    kind: Kind = Kind.FILE

    def bar(self, title: str, total: int | None, *, nested: bool) -> Any:  # noqa: ANN401  # tqdm ships no types
        """A bar that is gone when it is closed, and `None` where none is drawn; *nested* is one below another bar."""
        if self.stream is None or self.kind is Kind.FILE or (nested and self.kind is Kind.NOTEBOOK):
            return None
        bar = widget_bar() if self.kind is Kind.WIDGETS else text_bar()
        return bar(
            desc=title,
            total=total,
            unit=" batches",
            file=self.stream,
            leave=False,
            dynamic_ncols=True,
            mininterval=0,
            miniters=1,
        )

    def write(self, line: str) -> None:
        """Write a line, above the open bars; it is there when this returns."""
        if self.stream is None:
            return
        if self.kind in (Kind.TERMINAL, Kind.NOTEBOOK):
            text_bar().write(line, file=self.stream)
        else:
            self.stream.write(f"{line}\n")
        self.stream.flush()

    @property
    def columns(self) -> int | None:
        """How many characters a line of a terminal has; `None` where lines have no end, or that is not known."""
        if self.stream is None or self.kind is not Kind.TERMINAL:
            return None
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or None
        except (AttributeError, OSError, ValueError):  # it only says that it is a terminal
            return None

    def wipe(self) -> None:
        """Take away what else stands in the line where a bar was."""
        if self.stream is not None and self.kind is Kind.TERMINAL:
            self.stream.write(ERASE_LINE)
            self.stream.flush()


def screen_for(stream: TextIO | None) -> Screen:
    """Where to draw now: on a stream, or where nothing is given on what `sys.stderr` is; in a notebook on its cell.

    On one process of several, the first, alone: all others show nothing.
    """
    if _other_rank():
        return Screen()
    if stream is None and _in_notebook():
        return Screen(sys.stdout, Kind.WIDGETS if find_spec("ipywidgets") else Kind.NOTEBOOK)
    stream = sys.stderr if stream is None else stream
    return Screen(stream, Kind.TERMINAL if stream is not None and stream.isatty() else Kind.FILE)


def _other_rank() -> bool:
    """Whether this is another process than the first; before they know each other, torchrun's variable says so."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() != 0
    return os.environ.get("RANK", "0") != "0"


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; IPython is not imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return any(one.__name__ == "ZMQInteractiveShell" for one in type(shell).__mro__)


@cache
def text_bar() -> Any:  # noqa: ANN401  # tqdm ships no types
    """The class of bars of text; tqdm is imported when the first is needed."""
    from tqdm import tqdm  # noqa: PLC0415  # at first use

    class Bar(tqdm):  # type: ignore[misc]  # tqdm ships no types
        """A bar that no thread watches: it is drawn when we say so, and loaders that fork stay safe."""

        monitor_interval = 0
        nrows: int | None

        @property
        def format_dict(self) -> dict[str, Any]:
            """As tqdm's, three columns narrower: the `^C` that a terminal echoes must not break the line."""
            known = super().format_dict
            columns = known["ncols"] or 0
            return {**known, "ncols": max(columns - 3, 1) if columns > 0 else None}

        def display(self, msg: str | None = None, pos: int | None = None) -> Any:  # noqa: ANN401  # as tqdm's
            """As tqdm's, and on a terminal that does not know its size, too: it says that it has no rows."""
            self.nrows = max(self.nrows or 0, 0) or None
            return super().display(msg, pos)

    return Bar


@cache
def widget_bar() -> Any:  # noqa: ANN401  # tqdm ships no types
    """The class of bars that are widgets."""
    from tqdm.notebook import tqdm  # noqa: PLC0415  # it needs ipywidgets

    class Widget(tqdm):  # type: ignore[misc]  # tqdm ships no types
        """A bar that no thread watches, and that goes when it is closed, full or not."""

        monitor_interval = 0

        def close(self) -> None:
            """As tqdm's, which leaves one in red that did not come to its end."""
            self.total = None
            super().close()

    return Widget
