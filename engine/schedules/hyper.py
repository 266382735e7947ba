"""Where does a hyperparameter stand in the groups of an optimizer?  Found by its name once, and written in place."""

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import field, frozen
from torch import Tensor

from engine.check import is_number
from engine.errors import ArgumentRefused, hint
from states.errors import shown, typed


# The elements of `betas`, as in Adam's.
BETAS = ("beta1", "beta2")


@frozen
class Place:
    """One hyperparameter of one group: a value in it, or an element of its `betas`."""

    group: int
    name: str
    # Where among `betas`; -1 for what is a value by itself.
    beta: int = field(init=False, repr=False)

    @beta.default
    def _which(self) -> int:
        return BETAS.index(self.name) if self.name in BETAS else -1

    def write(self, groups: Sequence[dict[str, Any]], value: float) -> None:
        """Put a value there; a tensor is filled in place, for whoever holds it (a captured step), and is not read."""
        group = groups[self.group]
        if self.beta >= 0:
            betas = group["betas"]
            if isinstance(betas[self.beta], Tensor):
                betas[self.beta].fill_(value)
            else:
                group["betas"] = (*betas[: self.beta], value, *betas[self.beta + 1 :])
        elif isinstance(group[self.name], Tensor):
            group[self.name].fill_(value)
        else:
            group[self.name] = value


def group_numbers(groups: object) -> tuple[int, ...] | None:
    """The numbers of the groups that somebody writes, each once; `None` for all.

    Args:
        groups: The number of a group, from 0, or several of them: a list, a tuple, a range or a set.

    Raises:
        ArgumentRefused: what is no number of a group, none, or one twice.

    Example:
        >>> group_numbers(1), group_numbers(range(2))
        ((1,), (0, 1))
    """
    if groups is None:
        return None
    numbers = (groups,) if isinstance(groups, int) else groups
    if (
        not isinstance(numbers, list | tuple | range | set | frozenset)
        or not numbers
        or any(type(number) is not int or number < 0 for number in numbers)
        or len(set(numbers)) != len(numbers)
    ):
        raise ArgumentRefused(
            f"groups is {shown(groups)}, {typed(groups)}",
            allowed="the number of a group, from 0, or a list of several, each once",
            instead="leave groups out for all of them",
        )
    return tuple(sorted(numbers) if isinstance(numbers, set | frozenset) else numbers)


def find(who: str, groups: Sequence[Mapping[str, Any]], number: int, name: str) -> Place:
    """The place of a hyperparameter in a group.

    "momentum" is "beta1" where a group has `betas` and no momentum: Adam's first moment plays its part, and torch's
    `OneCycleLR` and `CyclicLR` take it for that.

    Args:
        who: Who asks, for messages.
        groups: The groups of the optimizer, or of all of them.
        number: Which group, from 0.
        name: "lr", "momentum", "weight_decay", "beta1" or whatever else is a number in the group.

    Raises:
        ArgumentRefused: there is no such group, or it has no such hyperparameter.

    Example:
        >>> find("Schedule", [{"params": [], "lr": 0.1, "betas": (0.9, 0.999)}], 0, "momentum")
        Place(group=0, name='beta1')
    """
    if number >= len(groups):
        raise ArgumentRefused(
            f"{who} writes {name} of group {number}, and the optimizer has {len(groups)} of them",
            allowed="numbers of groups, from 0",
            instead="leave groups out for all of them",
        )
    known = _known(groups[number])
    if name == "momentum" and name not in known and "beta1" in known:
        name = "beta1"
    if name not in known:
        raise ArgumentRefused(
            f"{who} writes {name!r}, and group {number} of the optimizer has no number of that name",
            allowed=", ".join(known),
            instead=hint(name, known) if name != "momentum" else "leave momentum out; for one_cycle, say momentum=None",
        )
    return Place(number, name)


def _known(group: Mapping[str, Any]) -> list[str]:
    """What can be written: all numbers of a group, and the elements of its `betas`."""
    names = [
        name for name, value in group.items() if is_number(value) or (isinstance(value, Tensor) and not value.dim())
    ]
    return [*names, *(BETAS[: len(group.get("betas", ()))])]


def check_shared(who: str, groups: Sequence[Mapping[str, Any]], written: Mapping[Place, object]) -> None:
    """Refuse a tensor that several groups hold, where they are not written from one curve: each would get the last.

    `torch.optim.Adam(groups, lr=torch.tensor(0.1))` puts the very tensor into every group.

    Args:
        who: Who writes, for messages.
        groups: The groups of the optimizer, or of all of them.
        written: What is written into each place.

    Raises:
        ArgumentRefused: with the two groups.
    """
    for place, curve in written.items():
        if place.beta >= 0 or not isinstance(value := groups[place.group][place.name], Tensor):
            continue
        for number, group in enumerate(groups):
            other = written.get(Place(number, place.name))
            if group.get(place.name) is value and other is not curve:
                raise ArgumentRefused(
                    f"{who} writes {place.name} of group {place.group}, and group {number} holds the very same tensor",
                    allowed="a tensor for each group, or one curve for all that share one",
                    instead="give each group a tensor of its own: {'params': ..., 'lr': torch.tensor(0.1)}",
                )
