"""Which learning rate?  A search trains with each of many on a second engine, and all of it is undone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import define, field

from engine.batches import begun
from engine.callbacks.lr_finder import LRFinder
from engine.check import check_loader
from engine.errors import ArgumentRefused, LoaderRefused
from engine.keeping.undone import undone
from engine.searching.found import LRFound
from states import Event, Machine
from states.errors import typed
from states.names import name_of


if TYPE_CHECKING:
    from engine.engine import Engine


@define
class Cycled:
    """A loader that is begun anew as often as needed, all in one epoch: what waits for the next waits in a search.

    It has no length, and ends with a pass that is empty.
    """

    loader: Any
    _begun: int = field(init=False, default=0)

    def __iter__(self) -> Iterator[Any]:
        """All batches, again and again."""
        drawn = True
        while drawn:
            drawn = False
            self._begun += 1
            for batch in begun(self.loader, self._begun - 1):
                drawn = True
                yield batch


def search(engine: "Engine", loader: Any, finder: LRFinder) -> LRFound:  # noqa: ANN401  # any iterable of batches
    """Let a finder search with the parts of an engine, and put them all back.

    Raises:
        LoaderRefused: the loader is none, is empty, or can be gone through only once.
        ArgumentRefused: the machine does not announce its batches.
        Exception: as in `fit`; all is put back then, too.
    """
    check_loader("train_loader", loader)
    if isinstance(loader, Iterator):
        raise LoaderRefused(
            f"train_loader is {typed(loader)}, an iterator: what a search draws from it is gone for the training",
            allowed="an iterable that can be begun anew",
            instead="pass the list, Dataset or DataLoader that it came from, not iter(...) or a generator",
        )
    _check_heard(engine.machine)
    trial = engine._trial(finder)  # noqa: SLF001  # a part of the engine's own
    with undone(engine, loader):
        # One epoch is enough, unless somebody stops it: then the next goes on, and has a batch at least.
        trial.fit(Cycled(loader), epochs=finder.num_it)
    return finder.found


def _check_heard(machine: Machine) -> None:
    """Refuse a machine that does not announce what the search hears."""
    for event in (Event.TRAIN_BEGIN, Event.BATCH_BEGIN, Event.BATCH_END, Event.TRAIN_END):
        if event not in machine.events:
            raise ArgumentRefused(
                f"the machine {machine.name!r} never announces {name_of(event)}, which a search has to hear",
                allowed="a machine that announces train_begin, batch_begin, batch_end and train_end",
                instead="let a row of it be heard as this event, or search on an Engine with the machine TRAINING",
            )
