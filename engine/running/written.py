"""How is what a run does written down?  Actions, happenings and words as lines of Python, and lines as a function.

Names are made from those of states, guards and callbacks, by letters, digits and underscores alone.
"""

import linecache
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from types import CodeType
from weakref import finalize

from attrs import field, frozen

from engine.run import Run
from engine.running.code import Code, Names
from engine.running.link import Happening, LinkedState
from states.names import name_of
from states.picture import visible


# Names that a text uses itself.
OWN = frozenset({"run", "remember", "trigger", "wish", "epoch_wish", "unexpected", "__builtins__", "__debug__"})


@frozen
class Source:
    """A loop as text, with what its names stand for."""

    name: str
    text: str
    space: Mapping[str, object] = field(repr=False, hash=False)

    def compiled(self) -> Callable[[Run], None]:
        """The loop as a function, which debuggers can step through and tracebacks show line by line."""
        space, (code, lines) = {**self.space}, _compiled(self.name, self.text)
        linecache.cache[code.co_filename] = lines
        exec(code, space)  # noqa: S102  # our own text: names are made by `Names` alone
        return space[self.name]  # type: ignore[return-value]  # the text defines it


Lines = tuple[int, None, list[str], str]  # what `linecache` keeps of a file: size, time, lines, name


@lru_cache(maxsize=64)
def _compiled(name: str, text: str) -> tuple[CodeType, Lines]:
    """The code of a text, compiled once however often it is run, and its lines, which are kept as long as it lives."""
    file = f"<stateloop: {name} {sha256(text.encode()).hexdigest()[:8]}>"
    code, lines = compile(text, file, "exec"), (len(text), None, text.splitlines(keepends=True), file)
    (function,) = (part for part in code.co_consts if isinstance(part, CodeType))  # it lives while its loop can run
    finalize(function, _forget, file, lines).atexit = False
    return code, lines


def _forget(file: str, lines: Lines) -> None:
    """Take lines out of `linecache`, unless another code of the same text has put its own there."""
    if linecache.cache.get(file) is lines:
        del linecache.cache[file]


def constant(names: Names, word: Enum | None) -> str:
    """The name of a state or a trigger."""
    assert word is not None, "a state that reports has triggers"
    return names(word.name.upper(), word)


def call(names: Names, at: LinkedState) -> str:
    """The call of the action of a state, with its note."""
    assert at.action is not None, "a state that decides does nothing"
    note = f"  # {visible(at.action.note)}" if at.action.note else ""
    return f"{names(name_of(at.state), at.action.do)}(run){note}"


def done(names: Names, at: LinkedState) -> tuple[str, ...]:
    """The lines of an action that can report one thing alone."""
    assert at.action is not None, "a state that decides does nothing"
    does, several = call(names, at), at.action.several
    return (does,) if several is None else (f"if run.{name_of(several)} > 1:", *Code((does,)).inside())


def happen(names: Names, happenings: Iterable[Happening]) -> Iterator[str]:
    """The lines of all that happens."""
    for happening in happenings:
        note = f"  # {visible(happening.note)}" if happening.note else ""
        yield (happening.code or f"{names(happening.name, happening.do)}(run)") + note
