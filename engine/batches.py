"""Where do batches come from?  The action that draws one, moves it to the device and unpacks it."""

from collections import UserDict
from collections.abc import Callable, Iterator
from copy import copy
from enum import Enum
from typing import Any

import torch
from attrs import frozen
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from engine.check import length
from engine.errors import BatchRefused, LoaderRefused
from engine.run import Run
from states import Trigger
from states.errors import typed


# Reported in every batch, so bound once: a member reached through its class costs a call in Python 3.11.
_BATCH_READY = Trigger.BATCH_READY
_DRY = object()
_PAIR = (tuple, list)


@frozen
class NoLoader:
    """In the place of a loader that was not given: the user's own loop says which one, when it draws."""

    def __iter__(self) -> Iterator[Any]:
        """Nothing can be drawn."""
        raise self.refused()

    def refused(self) -> LoaderRefused:
        """The error for one who draws all the same."""
        return LoaderRefused(
            "no train_loader was given to engine.start",
            allowed="any iterable of batches",
            instead="write engine.start(train_loader, ...), or run.each_batch(train_loader) in a loop of your own",
        )


def begin(run: Run) -> Iterator[Any]:
    """Begin the loader of a run."""
    return begun(run.loader, run.epoch)


def begun(loader: Any, epoch: int) -> Iterator[Any]:  # noqa: ANN401  # any iterable of batches
    """Begin a loader; samplers that shuffle by epoch are told which one it is."""
    sampler, batches = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    parts = {id(part): part for part in (sampler, batches, getattr(batches, "sampler", None))}
    for part in parts.values():
        tell = getattr(part, "set_epoch", None)
        if tell is not None:
            tell(epoch)
    return iter(loader)


def fetch(run: Run, opening: Callable[[Run], Iterator[Any]] = begin) -> Enum:
    """Draw a batch, move it to the device, unpack it; unless enough optimizer steps were taken."""
    if run.max_updates is not None and run.updates >= run.max_updates:
        return Trigger.UPDATES_SPENT
    iterator = run.iterator
    if iterator is None:
        iterator = run.iterator = opening(run)
    batch: Any = next(iterator, _DRY)
    if batch is _DRY:
        _check_end(run)
        run.iterator = None
        return Trigger.LOADER_DRY
    paired = isinstance(batch, _PAIR) and len(batch) == 2  # noqa: PLR2004  # a pair
    inputs, targets = batch if paired else _lone(run, batch)
    if run.one_device and type(inputs) is Tensor and type(targets) is Tensor:
        run.inputs, run.targets = inputs, targets
    else:
        run.inputs, run.targets = to_device(inputs, run.device), to_device(targets, run.device)
    return _BATCH_READY


def to_device(value: Any, device: torch.device) -> Any:  # noqa: ANN401  # a batch may be anything
    """A batch with all its tensors on the device; its lists and dicts are new ones of the types that they were.

    So a callback may put something else into `run.inputs["pixels"]`, and the loader's own batch is as it was.

    Cost: nothing for tensors that are there already; the copy of pinned memory does not wait.

    Example:
        >>> to_device({"pixels": torch.zeros(2), "names": ["a", "b"]}, torch.device("cpu"))
        {'pixels': tensor([0., 0.]), 'names': ['a', 'b']}
    """
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device, non_blocking=True)
    if callable(getattr(type(value), "to", None)):  # packed sequences, graph batches, batches of tokenizers
        return value.to(device)
    if isinstance(value, tuple):
        return _tuple_to_device(value, device)
    if isinstance(value, list):
        items = copy(value)  # whatever else it is or has is kept
        items[:] = [to_device(item, device) for item in value]
        return items
    if isinstance(value, dict | UserDict):
        entries = copy(value)
        for key, item in value.items():
            entries[key] = to_device(item, device)
        return entries
    return value


def _tuple_to_device(value: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    """A tuple cannot be written into: where nothing in it moves, it is the one that it was."""
    moved = [to_device(item, device) for item in value]
    if all(item is other for item, other in zip(value, moved, strict=True)):
        return value
    try:
        return type(value)(*moved) if hasattr(value, "_fields") else type(value)(moved)
    except TypeError as error:
        raise BatchRefused(
            f"the batch has {typed(value)}, and one cannot be made of its items: {error}",
            allowed="tuples and named tuples that are made as Python makes them",
            instead=f"give {type(value).__name__} a method to(device) that returns one with its tensors there",
        ) from error


def _lone(run: Run, batch: Any) -> tuple[Any, None]:  # noqa: ANN401  # a batch may be anything
    """A batch that is no pair is all inputs, where it may be so."""
    if run.pairs_only:
        size = f" of {len(batch)}" if isinstance(batch, tuple | list | dict) else ""
        raise BatchRefused(
            f"{_called(run)} gave {typed(batch)}{size} in {run.where}",
            allowed="a pair (inputs, targets)",
            instead="let the loader give pairs, or say what to do with it: Engine(..., actions={State.FORWARD: "
            "output_from(lambda run: run.model(run.inputs[...])), State.LOSS: loss_from(lambda run: ...)})",
        )
    return (batch[0] if isinstance(batch, _PAIR) and len(batch) == 1 else batch), None


def _check_end(run: Run) -> None:
    """Refuse an epoch without a batch, and a loader that ended before its length."""
    loader, drawn = run.loader, run.batch_index
    if drawn == 0 and iter(loader) is loader:
        raise LoaderRefused(
            f"{_called(run)} is an iterator that gives nothing (any more) in {run.where}",
            allowed="an iterable that can be begun once per epoch",
            instead="pass the list, Dataset or DataLoader that it came from, not iter(...) or a generator",
        )
    if drawn == 0:
        raise LoaderRefused(
            f"{_called(run)} gave no batch in {run.where}",
            allowed="at least one batch per epoch",
            instead="check the data set and drop_last; to train without it, pass no such loader",
        )
    mapped = isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)
    if mapped and (whole := length(loader)) is not None and drawn < whole:
        raise LoaderRefused(
            f"{_called(run)}, a DataLoader, ended after {drawn} of its {whole} batches in {run.where}",
            allowed=f"{whole} batches",
            instead="look for a StopIteration in the data set's __getitem__ or in collate_fn, which ends the loader; "
            "or let the sampler's __len__ say how many it really gives",
        )


def _called(run: Run) -> str:
    """What messages call the loader of a run."""
    return "the loader" if run.parent is None else "the validation loader"
