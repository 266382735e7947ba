"""Does it matter which of two callbacks comes first?  A small training in both orders, and what differs first."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from inspect import isroutine
from itertools import combinations

from attrs import evolve, frozen

from engine.listeners import Listener
from engine.running.order import arrange
from engine.testing.pairs.trainings import Look, Names, Trainings, first_that_differs, names_of, unsteady_in
from engine.testing.runs.subject import Factory, Subject
from states.walk import Plan


# Six batches in two epochs, each validated: what a callback does every ten epochs takes a longer plan.
SMALL = Plan(epochs=2, batches=3, valid_batches=2)


@frozen
class Conflict:
    """Two callbacks of which neither is declared to come first, and that do not leave the same in both orders.

    Attributes:
        one: The callback that comes first as the engine is.
        other: The one that comes behind it.
        field: The first field that differs.
        word: The event or guard after which it does, for the first time.
        epoch: When that is.
        batch: When that is.
        first: Its value where *one* comes first.
        second: Its value where *other* does.
        instead: What to do about it.
    """

    one: str
    other: str
    field: str
    word: str
    epoch: int
    batch: int
    first: str
    second: str
    instead: str

    def __str__(self) -> str:
        when = f"after {self.word} (epoch {self.epoch}, batch {self.batch})"
        return (
            f"it matters which comes first, {self.one} or {self.other}, and nothing says which\n"
            f"  differs:  {self.field}, {when}: "
            f"{self.first} with {self.one} first, {self.second} with {self.other} first\n"
            f"  instead:  {self.instead}"
        )


@frozen
class Orders:
    """What was found.

    Attributes:
        conflicts: The pairs for which the order matters; one for each pair.
        pairs: The pairs that were tried in both orders.
        unsteady: The fields that were not compared, for they differ between two runs in the same order: a clock's.
        raises: What the training raises as it is; then no pair was tried.
    """

    conflicts: tuple[Conflict, ...]
    pairs: tuple[tuple[str, str], ...]
    unsteady: tuple[str, ...]
    raises: str = ""

    def __str__(self) -> str:
        if self.raises:
            return f"no pair of callbacks was tried in both orders: the training raises {self.raises}"
        tried = f"{len(self.pairs)} pair{'' if len(self.pairs) == 1 else 's'} of callbacks in both orders"
        found = "\n".join(map(str, self.conflicts)) or "none of them minds"
        left = f"\nnot compared, for two equal runs differ: {', '.join(self.unsteady)}" if self.unsteady else ""
        return f"{tried}: {found}{left}"


def commuting(factory: Factory, *, plan: Plan = SMALL) -> tuple[Conflict, ...]:
    """The pairs of callbacks for which the order matters and nothing declares it; see `try_orders`."""
    return try_orders(factory, plan=plan).conflicts


def try_orders(factory: Factory, *, plan: Plan = SMALL) -> Orders:
    """Train in both orders for each pair of callbacks whose order nothing declares, and compare.

    A pair is tried if both hear one event or answer one guard, and neither `order` nor `runs_after` says who is first.
    Its two trainings differ in nothing else: the same seed, the same batches, all others in the same places.

    Args:
        factory: Gives a fresh engine and the arguments of its `fit`; called anew for each training.
        plan: How long a training is: its epochs, and how many batches are drawn from each loader, once.

    Raises:
        ArgumentRefused: the factory gives no training loader.

    Example:
        >>> import torch
        >>> from engine import Callback, Engine
        >>> class Plateau(Callback):
        ...     def on_epoch_end(self, run):
        ...         run.optimizer.param_groups[0]["lr"] *= 0.5
        >>> class Warmup(Callback):
        ...     def on_epoch_end(self, run):
        ...         run.optimizer.param_groups[0]["lr"] = 0.4
        >>> def factory():
        ...     model = torch.nn.Linear(1, 1)
        ...     sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        ...     engine = Engine(model, torch.nn.MSELoss(), sgd, [Plateau(), Warmup()])
        ...     return engine, {"train_loader": [(torch.ones(2, 1), torch.zeros(2, 1))]}
        >>> print(try_orders(factory).conflicts[0].field)
        optimizer.param_groups[0]['lr']
    """
    trainings = Trainings(Subject(factory), plan)
    plain, again = trainings.twice()
    if plain.error:
        return Orders((), (), (), plain.error)
    listeners, unsteady = trainings.listeners(), unsteady_in(plain, again)
    conflicts: list[Conflict] = []
    pairs: list[tuple[str, str]] = []
    for one, other in combinations(arrange(listeners), 2):
        if ways := _ways(listeners, one, other):
            pairs.append((one.name, other.name))
            conflicts += _conflict(trainings, (one, other), ways, unsteady)
    return Orders(tuple(conflicts), tuple(pairs), tuple(sorted(unsteady)))


def _ways(listeners: Sequence[Listener], one: Listener, other: Listener) -> list[tuple[Names, Names]]:
    """Two registrations in which a pair changes places and nobody else does; none where its order is declared.

    The pair is put where its later one is, then where its earlier one is: what one of them needs is mostly before it.
    """
    if not (one.hears.keys() & other.hears or one.answers.keys() & other.answers):
        return []
    arranged = arrange(listeners)
    rest = [each for each in arranged if each not in (one, other)]
    ways = []
    for at in dict.fromkeys((arranged.index(other) - 1, arranged.index(one))):
        way = [arrange([*rest[:at], *pair, *rest[at:]]) for pair in ((one, other), (other, one))]
        place = way[0].index(one)
        if way[1] == (*way[0][:place], other, one, *way[0][place + 2 :]):
            ways.append((names_of(way[0]), names_of(way[1])))
    return ways


def _conflict(
    trainings: Trainings,
    pair: tuple[Listener, Listener],
    ways: Iterable[tuple[Names, Names]],
    unsteady: Collection[str],
) -> Iterator[Conflict]:
    """Whether the order of a pair matters; all is compared at each event only where something has differed."""
    one, other = pair
    look = Look.at(one, other)
    for way in ways:
        mine, yours = (trainings.run(names, look) for names in way)
        if mine.error and yours.error:
            continue  # what one of them needs was not there; the other way may have it
        if found := first_that_differs(mine, yours, unsteady):
            again, against = (trainings.run(names, evolve(look, full=True)) for names in way)
            place, differs = first_that_differs(again, against, unsteady) or found
            yield Conflict(one.name, other.name, differs.field, *place, differs.one, differs.other, _advice(one, other))
        return


def _advice(one: Listener, other: Listener) -> str:
    """How to say which comes first."""
    classes = [None if isroutine(each.source) else type(each.source) for each in (one, other)]
    known = [kind.__name__ for kind in classes if kind is not None]
    if None in classes or classes[0] is classes[1]:
        after = f" or, in the one that comes last, runs_after = ({known[0]},)" if known and None in classes else ""
        return f"give one of them an order of its own: order=1{after}; or let one alone write it"
    return (
        f"give one of them an order of its own, or write runs_after = ({known[0]},) in {known[1]}, or the reverse; "
        "or let one of them alone write it"
    )
