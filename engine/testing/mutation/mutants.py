"""Which broken machines is a test to notice?  Tables with one change, and walks with one fault, in a fixed order."""

from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest

from attrs import evolve, field, frozen

from engine.running.link import Happening, Linked, LinkedRow, reached
from engine.testing.mutation.change import Change
from engine.testing.mutation.changes import changes
from engine.testing.mutation.linking import Linking, Put
from engine.testing.mutation.walks import broken_walks
from states import Event, Machine, Transition


# How many are tried, if nobody says.
MOST = 60
# The golden section: steps of this length round a circle never come close to each other.
STEP = 0.6180339887


@frozen(eq=False)
class Mutant:
    """An engine with one fault.

    Attributes:
        family: What kind of fault it is.
        change: Which one, in words.
        machine: The machine whose runs are broken.
        put: Links that machine with the fault in it.
        usual: Whether it is about what comes in a run in which every guard says no.
        alone: Whether it is about how a run dies or ends; one that another holds does so in silence.
    """

    family: str
    change: str
    machine: Machine
    put: Put = field(repr=False)
    usual: bool = True
    alone: bool = False

    def met(self, given: Linking) -> bool:
        """Whether its fault is in the rows of a run: not so if it is about a callback that nobody has."""
        alike = evolve(given, checked=False, every=False)
        return given.machine == self.machine and _told(self.put(alike)) != _told(alike.link())

    def __str__(self) -> str:
        return f"{self.family}: {self.change}"


def unchanged(machine: Machine) -> Mutant:
    """The mutant that is none."""
    return Mutant("no change", machine.name, machine, Linking.link)


def machine_mutants(machine: Machine) -> tuple[Mutant, ...]:
    """All small changes of a table's rows and counts that an engine could still run, also those that `prove` refuses.

    Example:
        >>> from states import PREDICTION
        >>> print(machine_mutants(PREDICTION)[0])
        drop a row: predict [stop_predict] -> stopping: stop
    """
    usual, found = _usual(machine), {(machine.rows, machine.counts): unchanged(machine)}
    for change in changes(machine):
        if change.runs:
            mutant = Mutant(change.family, change.change, machine, _put(change), usual=_about(change, usual))
            found.setdefault((change.looked_at, change.counts), mutant)
    return tuple(found.values())[1:]


def walk_mutants(machine: Machine) -> tuple[Mutant, ...]:
    """All faults of the engine's walk of a machine: who hears, who is asked, what is done, how a run dies and ends.

    Example:
        >>> from states import PREDICTION
        >>> print(walk_mutants(PREDICTION)[-1])
        how a run ends: COMPLETED becomes STOPPED
    """
    usual = _usual(machine)
    seen = {word for row in usual for word in (row, row.source, *row.events)} | {*machine.guards, None}
    return tuple(
        Mutant(family, change, machine, put, usual=about in seen, alone=about in (None, Event.EXCEPTION))
        for family, change, put, about in broken_walks(machine)
    )


def mutants_of(machine: Machine, *, most: int = MOST) -> tuple[Mutant, ...]:
    r"""A selection from all families, of the machine and of those that its states hold: always the same one.

    Args:
        machine: The machine.
        most: How many, at most.  Of each family, what comes in any run is taken first.

    Example:
        >>> from states import TRAINING
        >>> chosen = mutants_of(TRAINING, most=2)
        >>> print(*chosen, sep="\n")
        drop a row: train epoch_due [stop_training] -> stopping: stop
        redirect a row: idle fit_asked -> train: train_begin => stopping
    """
    return tuple(islice(in_turn(machine), most))


def in_turn(machine: Machine) -> Iterator[Mutant]:
    """All mutants of a machine and of those that its states hold: one of each family, then one more of each."""
    families: dict[str, list[Mutant]] = {}
    for one in dict.fromkeys((machine, *machine.within)):
        for mutant in (*machine_mutants(one), *walk_mutants(one)):
            if one is machine or not mutant.alone:
                families.setdefault(mutant.family, []).append(mutant)
    rounds = zip_longest(*(_spread(family) for family in families.values()))
    return (mutant for turn in rounds for mutant in turn if mutant is not None)


def _put(change: Change) -> Put:
    def put(given: Linking) -> Linked:
        return evolve(given, machine=change.unproved()).link()

    return put


def _about(change: Change, usual: frozenset[Transition]) -> bool:
    """Whether a change is about a usual row, or what is heard or reported there."""
    words = {word for row in usual for word in (row.trigger, *row.events)}
    counted = {count.what for count in {*change.original.counts} ^ {*change.counts}}
    return bool(usual - {*change.rows}) or bool(counted & words) or change.rows == change.original.rows


def _usual(machine: Machine) -> frozenset[Transition]:
    """The rows that are taken where every guard says no."""
    last = {row.group: row for row in machine.rows}
    found = {machine.initial}
    while more := {row.dest for row in last.values() if row.source in found} - found:
        found |= more
    return frozenset(row for row in last.values() if row.source in found)


def _spread(mutants: Iterable[Mutant]) -> Iterator[Mutant]:
    """The same, the usual ones first, in an order in which any first few come from everywhere."""
    placed = sorted(enumerate(mutants), key=lambda pair: (not pair[1].usual, pair[0] * STEP % 1))
    return (mutant for _, mutant in placed)


def _told(linked: Linked) -> list[object]:
    """All that can be told of linked rows: who is called where, and by what function."""
    told: list[object] = [_names(linked.exception), [(state, _names(end)) for state, end in linked.deaths.items()]]
    for at in reached(linked.start):
        told.append((at.state, at.action))
        for group in at.groups:
            told.append((group.trigger, _names(group.first)))
            told += [(_asking(row), _names(row.heard), row.dest.state) for row in group.choices]
    return told


def _names(happenings: Iterable[Happening]) -> list[object]:
    return [(happening.name, happening.code, happening.note) for happening in happenings]


def _asking(row: LinkedRow) -> object:
    return row.ask and (row.ask.name, row.ask.who, row.ask.do.__qualname__)
