"""How is what an object holds put back, in place?  Copies of all of it, each with what writes it back.

# Theory of operation
#
# From an object, `Kept` goes to all that it holds: tensors, lists and dicts, modules, what functions remember.  For
# each it keeps a copy, and a function that puts it back into the very object: whoever holds that object (an optimizer
# its parameters, a captured step its tensors, the user anything) holds the old value.  An object of a class that is not
# known here is not gone into, for it may be anything and lead anywhere; that it is the one that is there, is kept.
"""

import random
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial, singledispatchmethod
from itertools import chain
from operator import is_
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from attrs import define, field
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Sampler


Back = Callable[[], object]
# What holds nothing and never changes.
_PLAIN = frozenset((type(None), bool, int, float, str, bytes))
# How boxes are gone through; one that does it in a way of its own may be a loader, and is not touched.
_ITERS = frozenset(kind.__iter__ for kind in (list, deque, dict, OrderedDict, set))
_MISSING = object()


@define(eq=False)
class Kept:
    """What was there, and how it is put back.

    Args:
        data: Whether tensors are data that nobody writes into, and too many to copy.
    """

    data: bool = False
    # What puts things back, in this order; each may be called again.
    backs: list[Back] = field(init=False, factory=list)
    # What was met already, by its id; held, so that nobody else gets that id.
    _met: dict[int, object] = field(init=False, factory=dict)

    def open(self, owner: object) -> None:
        """Keep an object with its attributes, of whatever class it is."""
        self.keep(owner)
        self.keep(getattr(owner, "__dict__", None))
        for kind in type(owner).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if not name.startswith("__"):
                    value = getattr(owner, name, _MISSING)
                    self.backs.append(partial(_set_slot, owner, name, value))
                    self.keep(value)

    def callback(self, callback: object) -> None:
        """Keep what a callback remembers: its attributes, and what its `state_dict()` gives."""
        begun = len(self.backs)
        self.open(callback)
        attributes = self.backs[begun:]
        state_dict, load = getattr(callback, "state_dict", None), getattr(callback, "load_state_dict", None)
        if callable(state_dict) and callable(load):
            # Loaded into the objects that were there; then what loading has written beside them is put back as well.
            self.backs += [partial(load, deepcopy(state_dict())), *attributes]

    def keep(self, value: object) -> None:
        """Keep a value with all that it holds, if it is of a class that is known here."""
        if type(value) not in _PLAIN and id(value) not in self._met:
            self._met[id(value)] = value
            self._keep(value)

    @singledispatchmethod
    def _keep(self, value: object) -> None:
        self.backs += _numpys_dice(value)

    @_keep.register
    def _(self, value: Tensor) -> None:
        if not self.data and value.grad_fn is None:  # one with a graph is a result, and not written into
            values = value.detach().clone() if _written(value) else None
            self.backs.append(partial(_set_tensor, value, values, value.requires_grad, value.grad))
            self.keep(value.grad)

    @_keep.register
    def _(self, value: list | deque | dict | set) -> None:  # type: ignore[type-arg]  # of whatever
        if type(value).__iter__ not in _ITERS:
            return
        content = dict(value) if isinstance(value, dict) else list(value)
        self.backs.append(partial(_refill, value, content))
        self._keep_all(content.values() if isinstance(content, dict) else content)

    @_keep.register
    def _(self, value: tuple) -> None:  # type: ignore[type-arg]  # of whatever
        self._keep_all(value)

    @_keep.register
    def _(self, value: nn.Module | optim.Optimizer | DataLoader | Sampler) -> None:  # type: ignore[type-arg]  # as above
        self.open(value)
        if isinstance(value, nn.Module):  # a scripted one has its tensors and its parts elsewhere
            self._keep_all([*value.parameters(), *value.buffers()])

    @_keep.register
    def _(self, value: FunctionType) -> None:
        self._keep_all([value.__dict__, value.__defaults__, value.__kwdefaults__, *(value.__closure__ or ())])

    @_keep.register
    def _(self, value: CellType) -> None:
        content = _content(value)
        self.backs.append(partial(_set_cell, value, content))
        self.keep(content)

    @_keep.register
    def _(self, value: MethodType) -> None:
        self.keep(value.__func__)
        self.open(value.__self__)

    @_keep.register
    def _(self, value: partial) -> None:  # type: ignore[type-arg]  # as above
        self._keep_all([value.func, value.args, value.keywords])

    @_keep.register
    def _(self, value: torch.Generator) -> None:
        self.backs.append(partial(value.set_state, value.get_state()))

    @_keep.register
    def _(self, value: random.Random) -> None:
        if not isinstance(value, random.SystemRandom):  # which has no state
            self.backs.append(partial(value.setstate, value.getstate()))

    def _keep_all(self, values: Iterable[object]) -> None:
        for value in values:
            self.keep(value)


def _written(tensor: Tensor) -> bool:
    """Whether a tensor can be written into: torch refuses what was made for inference, and places shared by numbers."""
    if tensor.is_inference() or tensor.layout is not torch.strided:
        return not tensor.is_inference()
    return not any(size > 1 and not stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _set_tensor(tensor: Tensor, values: Tensor | None, requires_grad: bool, grad: Tensor | None) -> None:
    with torch.no_grad():
        if values is not None:
            tensor.copy_(values)
    if tensor.requires_grad is not requires_grad:
        tensor.requires_grad_(requires_grad)
    if tensor.grad is not grad:
        tensor.grad = grad


def _refill(box: Any, content: Any) -> None:  # noqa: ANN401  # a list or a dict, of whatever
    flat, then = ((chain(each, each.values()) if isinstance(each, dict) else each) for each in (box, content))
    if len(box) != len(content) or not all(map(is_, flat, then)):
        box.clear()
        (box.extend if isinstance(box, list | deque) else box.update)(content)


def _set_slot(owner: object, name: str, value: object) -> None:
    now = getattr(owner, name, _MISSING)
    if value is _MISSING and now is not _MISSING:
        object.__delattr__(owner, name)
    elif now is not value:
        object.__setattr__(owner, name, value)


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _MISSING


def _set_cell(cell: CellType, content: object) -> None:
    if content is not _MISSING:
        cell.cell_contents = content
    elif _content(cell) is not _MISSING:
        del cell.cell_contents


def _numpys_dice(value: object) -> list[Back]:
    """What puts a generator of NumPy back, if the value is one and NumPy is imported."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return [partial(setattr, value.bit_generator, "state", value.bit_generator.state)]
    if numpy is not None and isinstance(value, numpy.random.RandomState):
        return [partial(value.set_state, value.get_state())]
    return []
