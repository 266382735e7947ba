"""Which numbers of an optimizer are others than before?"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from attrs import define, field
from torch import Tensor, optim

from engine.measuring.room import is_scalar
from engine.several import Optimizers


# What no entry of a group is; and that there is none.
_MISSING = object()
_NOTHING: Sequence[tuple[str, float]] = ()


@define(eq=False)
class Hyperparameters:
    """What the groups of an optimizer, or of several, hold beside their parameters, as it was when last looked at.

    Each has a name: `0.lr` is that of group 0, `0.betas.1` its second beta; of several optimizers by name,
    `generator.0.lr`.

    Cost per look: a comparison of each group with what it was, 0.1 us; some 2 us for each where something differs.

    Example:
        >>> import torch
        >>> sgd = optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
        >>> hypers = Hyperparameters()
        >>> hypers.changed(sgd)
        [('0.lr', 0.1), ('0.momentum', 0.0), ('0.dampening', 0.0), ('0.weight_decay', 0.0)]
        >>> sgd.param_groups[0]["lr"] = 0.05
        >>> hypers.changed(sgd), hypers.changed(sgd)
        ([('0.lr', 0.05)], ())
    """

    # Those that are tensors of one number: whether one was written into cannot be told.
    tensors: Sequence[tuple[str, Tensor]] = field(init=False, default=())
    # The groups as they were, and what the names of each begin with; the entries that are tensors, by their names.
    _seen: list[dict[str, Any]] = field(init=False, factory=list)
    _prefixes: list[str] = field(init=False, factory=list)
    _entries: dict[str, list[tuple[str, Tensor]]] = field(init=False, factory=dict)

    def changed(self, optimizer: optim.Optimizer | Optimizers) -> Sequence[tuple[str, float]]:
        """The numbers that were written since the last look, or have come; some may be what they were."""
        groups = optimizer.param_groups
        try:
            same = not self.tensors and groups == self._seen
        except (RuntimeError, ValueError):  # another parameter, say: several numbers do not compare to one bool
            same = False
        return _NOTHING if same else self._look(groups, optimizer)

    def _look(
        self, groups: Sequence[Mapping[str, Any]], optimizer: optim.Optimizer | Optimizers
    ) -> list[tuple[str, float]]:
        """The same, entry by entry: told by identity, for to compare a tensor waits for it."""
        if len(groups) != len(self._seen):
            self._seen, self._prefixes, self._entries = [{} for _ in groups], _prefixes(optimizer), {}
        changed: list[tuple[str, float]] = []
        for prefix, group, before in zip(self._prefixes, groups, self._seen, strict=True):
            for key, value in group.items():
                if value is not before.get(key, _MISSING) and key not in ("params", "param_names"):
                    leaves = _leaves(f"{prefix}{key}", value)
                    changed += [(name, float(leaf)) for name, leaf in leaves if _is_number(leaf)]
                    self._entries[f"{prefix}{key}"] = [leaf for leaf in leaves if is_scalar(leaf[1])]
        self._seen = list(map(dict, groups))
        self.tensors = [named for entry in self._entries.values() for named in entry]
        return changed


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:  # noqa: ANN401  # a group may hold anything
    """An entry with its name, or the parts of a tuple with theirs."""
    if not isinstance(value, tuple | list):
        return [(name, value)]
    return [leaf for number, part in enumerate(value) for leaf in _leaves(f"{name}.{number}", part)]


def _prefixes(optimizer: optim.Optimizer | Optimizers) -> list[str]:
    """What the names of each group begin with."""
    if isinstance(optimizer, Optimizers):
        return [f"{name}.{prefix}" for name, one in optimizer.items() for prefix in _prefixes(one)]
    return [f"{number}." for number in range(len(optimizer.param_groups))]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
