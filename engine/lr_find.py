"""Which learning rate?  A search trains with each of many on a second engine, and all of it is undone."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import evolve

from engine.callbacks.lr_finder import LRFinder
from engine.check import check_loader
from engine.errors import ArgumentRefused, LoaderRefused
from engine.found import LRFound
from engine.undone import takes_part, undone
from states import Event, Machine
from states.errors import typed
from states.names import name_of


if TYPE_CHECKING:
    from engine.engine import Engine


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
    trial = trial_of(engine, finder)
    with undone(engine, loader):
        trial.fit(loader, epochs=finder.num_it)  # each has a batch at least, so they are enough
    return finder.found


def trial_of(engine: "Engine", callback: object) -> "Engine":
    """A second engine with the same parts, on which *callback* listens, and who takes part in trials.

    It has a `last_run` and a history of its own.  What is compiled is compiled once for both.
    """
    precision = engine.precision if engine.scaler is None else engine.scaler  # the very one: its scale is found already
    where_it_is = None  # the model is not moved
    trial = evolve(engine, callbacks=(), metrics=None, recorder=None, precision=precision, device=where_it_is)
    trial._compiled, trial._cuda = engine._compiled, engine._cuda  # noqa: SLF001  # it is the same engine to them
    for listener in engine._registry.listeners:  # noqa: SLF001  # with their filters and names
        if takes_part(listener.source):
            trial._registry.add(listener)  # noqa: SLF001  # as above
    trial.add(callback)
    return trial


def _check_heard(machine: Machine) -> None:
    """Refuse a machine that does not announce what the search hears."""
    for event in (Event.TRAIN_BEGIN, Event.BATCH_BEGIN, Event.BATCH_END, Event.TRAIN_END):
        if event not in machine.events:
            raise ArgumentRefused(
                f"the machine {machine.name!r} never announces {name_of(event)}, which a search has to hear",
                allowed="a machine that announces train_begin, batch_begin, batch_end and train_end",
                instead="let a row of it be heard as this event, or search on an Engine with the machine TRAINING",
            )
