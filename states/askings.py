"""Who is asked which guard while something may be going on, in what order, and what may each answer?

# Theory of operation
#
# All who answer a guard are asked in one order, up to a yes.  So whoever is asked it once in a run is asked it whenever
# it is, behind those who came before; and first come those who were seen first.
#
# A yes may be silent.  `run.stop` answers a guard that stops, before all others.  And a loop of the user's own may skip
# as well: where it reports, nobody is asked; where a batch is offered to it, all have said no.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from attrs import frozen

from states.names import is_stop, name_of
from states.places import Place
from states.strides import Stride
from states.trace import TraceLine


# Who answers each guard, by its name, in order.
Answering = Mapping[str, tuple[str, ...]]
# A guard, who is asked, and what may be answered; `None` where that raises.
Turn = tuple[Enum, str, tuple[bool | None, ...]]

_NO, _ANY, _YES, _RAISES = (False,), (True, False), (True,), (None, False)


@frozen
class Asking:
    """All who are asked at one moment: everyone in turn, until one says yes, or raises.

    Attributes:
        turns: Who is asked what, in order.
        needed: How many of the turns have to come; those behind are cut short by what is raised between them.
    """

    turns: tuple[Turn, ...]
    needed: int


def answering(lines: Iterable[TraceLine]) -> Mapping[int, Answering]:
    """Who answers which guard, in each run of a trace."""
    runs: dict[int, dict[str, tuple[str, ...]]] = {}
    for line in lines:
        if line.guard is not None and line.callback is not None:
            known = runs.setdefault(line.run, {})
            known[line.guard] = tuple(dict.fromkeys((*known.get(line.guard, ()), line.callback)))
    return runs


def askings(place: Place, stride: Stride, who: Answering) -> Iterator[Asking]:
    """In which ways may be asked what leads to a stride?"""
    no = tuple(_turns((guard for guard, answer in stride.asked if not answer), who, _NO))
    if stride.raises is not None and stride.raises in place.machine.guards:
        yield Asking((*no, *_turns([stride.raises], who, _RAISES)), len(no))
        return
    chosen = stride.asked[-1][0] if stride.asked and stride.asked[-1][1] else None
    turns = (*no, *_until_yes(chosen, who)) if chosen is not None else no
    yield Asking(turns, len(turns))
    if chosen is not None and is_stop(chosen):
        yield Asking(no, len(no))
    elif chosen is not None:
        yield Asking((), 0)
        yield from offered(place, who)


def offered(place: Place, who: Answering) -> Iterator[Asking]:
    """How all are asked where a state decides, and say no: the user's own code may still have it otherwise."""
    rows = place.machine.groups.get((place.state, None), ())
    turns = tuple(_turns((row.guard for row in rows if row.guard is not None), who, _NO))
    if turns:
        yield Asking(turns, len(turns))


def _turns(guards: Iterable[Enum], who: Answering, answers: tuple[bool | None, ...]) -> Iterator[Turn]:
    return ((guard, callback, answers) for guard in guards for callback in who.get(name_of(guard), ()))


def _until_yes(guard: Enum, who: Answering) -> tuple[Turn, ...]:
    """Each may say yes; the last has to, if nobody before did."""
    turns = tuple(_turns([guard], who, _ANY))
    return (*turns[:-1], *((guard, callback, _YES) for _, callback, _ in turns[-1:]))
