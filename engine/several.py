"""What are several models and several optimizers, given by name?  One module, and one mapping that steps them all."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from attrs import define, field
from torch import nn, optim

from engine.errors import ArgumentRefused, OptimizerRefused
from states.errors import shown, typed


# What nobody may be called in a ModuleDict: its own methods and attributes.
_TAKEN = frozenset(dir(nn.ModuleDict()))


def _read_only(given: Mapping[str, optim.Optimizer]) -> Mapping[str, optim.Optimizer]:
    """A copy that nobody changes."""
    return MappingProxyType(dict(given))


@define(eq=False, repr=False)
class Optimizers(Mapping[str, optim.Optimizer]):
    """Several optimizers by name, in the order given: a read-only mapping that steps and clears all of them.

    It has what a loop and a callback use of an optimizer, so both need not know how many there are: a schedule that
    writes into the `param_groups` works as it did.  It is no `optim.Optimizer`: that would have a state, defaults and
    hooks of its own, and torch's schedules would count the steps of the wrapper.  Give torch one of them by name.

    For a type checker, `run.optimizer` is an `optim.Optimizer`, these, or `None`; `isinstance(run.optimizer,
    Optimizers)` says which, as `isinstance(run.model, nn.ModuleDict)` does for several models.

    Args:
        given: The optimizers by name.  Two may hold the same parameter: it is stepped by both.

    Raises:
        OptimizerRefused: there is none, a name is no text, a value is no optimizer, or one has two names.

    Example:
        >>> import torch
        >>> one, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        >>> optimizers = Optimizers({"one": optim.SGD(one.parameters()), "other": optim.Adam(other.parameters())})
        >>> optimizers
        <Optimizers: one (SGD), other (Adam)>
        >>> for group in optimizers.param_groups:
        ...     group["lr"] *= 0.5
        >>> optimizers["one"].param_groups[0]["lr"], optimizers["other"].param_groups[0]["lr"]
        (0.0005, 0.0005)
    """

    _given: Mapping[str, optim.Optimizer] = field(converter=_read_only)

    def __attrs_post_init__(self) -> None:
        """Refuse what could not be stepped by its name."""
        if not self._given:
            raise _refused("the optimizer is an empty mapping")
        names: dict[int, str] = {}
        for name, optimizer in self._given.items():
            if not isinstance(name, str) or not name:
                raise _refused(f"an optimizer has the name {shown(name)}, {typed(name)}")
            if not isinstance(optimizer, optim.Optimizer):
                raise _refused(f"the optimizer {name!r} is {shown(optimizer)}, {typed(optimizer)}")
            if (before := names.setdefault(id(optimizer), name)) != name:
                raise _refused(f"the optimizers {before!r} and {name!r} are one: it would step twice", "take one away")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all, the very ones: write into them; a further one is added to an optimizer by name."""
        return [group for optimizer in self.values() for group in optimizer.param_groups]

    def step(self) -> None:
        """Step each, in the order given."""
        for optimizer in self.values():
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of each, by its own method."""
        for optimizer in self.values():
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The state of each, by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.items()}

    def load_state_dict(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Load the state of each, by name: all of them, or none.

        Raises:
            OptimizerRefused: the names are others.
            Exception: what an optimizer raises whose state it is not; those before it are put back.
        """
        if state.keys() != self.keys():
            raise OptimizerRefused(
                f"the state is of {', '.join(map(str, state)) or 'nobody'}, and the optimizers are {', '.join(self)}",
                allowed="the state of each by name, as state_dict() gives it",
                instead="load them one by one: optimizers[name].load_state_dict(...)",
            )
        kept: list[tuple[optim.Optimizer, dict[str, Any]]] = []
        try:
            for name, optimizer in self.items():
                kept.append((optimizer, optimizer.state_dict()))
                optimizer.load_state_dict(state[name])
        except BaseException:
            for optimizer, before in kept:
                optimizer.load_state_dict(before)
            raise

    def __getitem__(self, name: str) -> optim.Optimizer:
        return self._given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __repr__(self) -> str:
        """One line: the names, and what each is."""
        return f"<Optimizers: {', '.join(f'{name} ({type(one).__name__})' for name, one in self.items())}>"


def _refused(what: str, instead: str = "") -> OptimizerRefused:
    return OptimizerRefused(
        what,
        allowed="an optimizer, or several by name, each of them once",
        instead=instead or 'write optimizer={"generator": torch.optim.Adam(generator.parameters()), ...}',
    )


def as_optimizer(
    given: optim.Optimizer | Mapping[str, optim.Optimizer] | None,
) -> optim.Optimizer | Optimizers | None:
    """What an engine steps: a mapping becomes `Optimizers`; what is no optimizer at all is refused later."""
    return Optimizers(given) if isinstance(given, Mapping) and not isinstance(given, Optimizers) else given


def as_model(given: nn.Module | Mapping[str, nn.Module]) -> nn.Module:
    """What an engine trains: a mapping becomes an `nn.ModuleDict` of the very modules.

    Raises:
        ArgumentRefused: there is none, a name that an `nn.ModuleDict` does not take, or a value that is no module.

    Example:
        >>> teacher, student = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> as_model({"teacher": teacher, "student": student})["teacher"] is teacher
        True
    """
    if isinstance(given, nn.Module) or not isinstance(given, Mapping):
        return given
    if not given:
        raise _no_model("the model is an empty mapping")
    for name, module in given.items():
        if not isinstance(name, str) or not name or "." in name or name in _TAKEN:
            raise _no_model(f"a model has the name {shown(name)}, {_why(name)}")
        if not isinstance(module, nn.Module):
            raise _no_model(f"the model {name!r} is {shown(module)}, {typed(module)}")
    return nn.ModuleDict(given)


def _why(name: object) -> str:
    """What is wrong with the name of a model."""
    if not isinstance(name, str):
        return typed(name)
    return "which torch's nn.ModuleDict has for itself" if name in _TAKEN else "which is no part of a parameter's name"


def _no_model(what: str) -> ArgumentRefused:
    return ArgumentRefused(
        what,
        allowed="an nn.Module, or several by name: text without dots that nn.ModuleDict does not use itself",
        instead='write model={"generator": generator, "discriminator": discriminator}, with the modules themselves',
    )
