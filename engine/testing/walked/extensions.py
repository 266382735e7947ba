"""Which machines does a test draw?  Those that come out of another by inserting, leaving out and replacing."""

from collections.abc import Callable, Iterator
from enum import Enum

from attrs import evolve
from hypothesis import strategies as st

from engine.testing.strategies import check_bound, check_machine
from states import EVALUATION, PREDICTION, TRAINING, Machine, MachineRefused
from states.errors import ExtensionRefused
from states.names import name_of


# How many states may be inserted into one machine.
MANY = 10
# How often a change is drawn anew when it was refused: most of them are.
TRIES = 5

# The words of the states that are inserted, five for each.
_WORDS = ("PUT_{}", "DONE_PUT_{}", "SKIP_PUT_{}", "PUT_{}_BEGIN", "PUT_{}_END")
Drawn = Enum("Drawn", [word.format(n) for n in range(MANY) for word in _WORDS])  # type: ignore[misc]  # all are alike

# A change of a machine; it may be refused.
Change = Callable[[Machine], Machine]


def machines(base: Machine | None = None, *, max_changes: int = 3) -> st.SearchStrategy[Machine]:
    """Machines that `prove` accepts and nobody has thought of: inserted states, words left out, other rows.

    States are inserted with events around them or without, with a guard that skips them, with a machine in them.  What
    `prove` refuses is left out, so that a draw may come to fewer changes.

    Args:
        base: The machine that is changed; by default one of the built-in ones, TRAINING most of all.
        max_changes: At most how many changes.

    Raises:
        ArgumentRefused: what is no machine, or a number of changes that there are no words for.

    Example:
        >>> from hypothesis import find
        >>> find(machines(TRAINING), lambda machine: len(machine.rows) < len(TRAINING.rows)).name
        'training without stop_training'
    """
    if base is not None:
        check_machine(base, "machines")
    check_bound("max_changes", max_changes, 0, MANY)
    return _machines(base, max_changes)


@st.composite
def _machines(draw: st.DrawFn, base: Machine | None, max_changes: int) -> Machine:
    machine = draw(st.sampled_from([TRAINING, TRAINING, EVALUATION, PREDICTION])) if base is None else base
    for _ in range(draw(st.integers(0, max_changes))):
        for _ in range(TRIES):
            try:
                machine = draw(changes_of(machine))(machine)
            except (MachineRefused, ExtensionRefused):
                continue
            break
    return machine


def changes_of(machine: Machine) -> st.SearchStrategy[Change]:
    """One change of a machine, sensible or nonsense: it raises what refuses it."""
    return st.one_of(insertions(machine), losses(machine), replacements(machine))


@st.composite
def insertions(draw: st.DrawFn, machine: Machine) -> Change:
    """A new state somewhere, heard or not, skipped or not, holding a machine or not."""
    put, done, skips, begin, end = next(_fresh(machine))
    side = draw(st.sampled_from(["before", "after"]))
    at = draw(st.sampled_from(machine.states))
    events = draw(st.sampled_from([(), (begin, end), (end, begin)]))
    skip = draw(st.sampled_from([None, skips]))
    holds = draw(st.sampled_from([None, None, EVALUATION])) if machine.gradients else None
    return lambda machine: machine.insert(
        put,
        None if holds else done,
        before=at if side == "before" else None,
        after=at if side == "after" else None,
        events=events,
        skip=skip,
        holds=holds,
    )


def losses(machine: Machine) -> st.SearchStrategy[Change]:
    """A word, or a row, that goes."""
    words = (*machine.guards, *machine.events[:-1], *machine.states, *machine.triggers, *machine.rows)
    return st.sampled_from(words).map(lambda word: lambda machine: machine.without(word))


@st.composite
def replacements(draw: st.DrawFn, machine: Machine) -> Change:
    """A row that leads elsewhere, or hears something else, or comes twice."""
    row = draw(st.sampled_from(machine.rows))
    dest = draw(st.sampled_from(machine.states))
    heard = draw(st.sampled_from([row.heard, row.heard[::-1], row.heard[1:], (), machine.events[:1]]))
    return lambda machine: machine.replace({row: evolve(row, dest=dest, heard=heard)})


def _fresh(machine: Machine) -> Iterator[tuple[Enum, ...]]:
    """The words of inserted states of which the machine, and what is within it, has none yet."""
    inside = (machine, *machine.within)
    parts = ("states", "triggers", "guards", "events")
    known = {name_of(word) for one in inside for part in parts for word in getattr(one, part)}
    for number in range(MANY):
        words = tuple(Drawn[word.format(number)] for word in _WORDS)
        if not known.intersection(map(name_of, words)):
            yield words
