"""What is an engine made of?  Layers with their parameters, optimizers with their groups, callbacks in order.

Nothing is computed and nothing changes: what a lazy module will hold is not known before its first batch, and said so.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from textwrap import wrap
from types import MappingProxyType
from typing import Any

from attrs import field, frozen
from torch import Tensor, device, nn, optim
from torch.nn.parameter import is_lazy

from engine.layout.columns import aligned
from engine.listeners import Listener
from engine.several import Optimizers
from states.names import Event, Guard, name_of


# The text is no wider than this, and the name of a layer no longer than that.
WIDTH, NAME = 100, 44


@frozen
class Layer:
    """A module that holds parameters or buffers itself, or has no module inside.

    Attributes:
        name: Its name in the model, as torch has it; of the model itself, nothing.
        kind: The name of its class.
        parameters: How many numbers its own parameters hold; those that a layer above holds as well are not counted.
        trainable: How many of these want gradients.
        shared: How many it shares with layers above.
        lazy: Whether some of its parameters or buffers have no shape yet; they are not counted.
    """

    name: str
    kind: str
    parameters: int
    trainable: int
    shared: int
    lazy: bool


@frozen
class Group:
    """A group of parameters that an optimizer steps alike: how many numbers they hold, and its hyperparameters."""

    parameters: int
    settings: Mapping[str, object] = field(hash=False)


@frozen
class Stepper:
    """An optimizer: its name, empty if it is the only one; the name of its class; its groups."""

    name: str
    kind: str
    groups: tuple[Group, ...]


@frozen
class Heard:
    """A callback: what it hears and answers, and what else is known of it.

    Attributes:
        name: Its name, as tables and messages have it.
        order: Its order.
        events: What it hears, in the order of the machine.
        guards: What it answers.
        filter: Which hearings reach it, as `every 2`; empty for all.
        writes: The hyperparameters that it writes: `(number of the group, name)`.
        in_trials: Whether it takes part in trials.
        stateful: Whether a checkpoint keeps a state of it.
    """

    name: str
    order: int
    events: tuple[str, ...]
    guards: tuple[str, ...]
    filter: str
    writes: tuple[tuple[int, str], ...]
    in_trials: bool
    stateful: bool

    def __str__(self) -> str:
        filtered = f" ({self.filter})" if self.filter else ""
        parts = [f"hears {', '.join(self.events)}{filtered}"] if self.events else []
        parts += [f"answers {', '.join(self.guards)}"] if self.guards else []
        parts += (
            [f"writes {', '.join(f'{name} of group {group}' for group, name in self.writes)}"] if self.writes else []
        )
        parts += ["takes part in trials"] if self.in_trials else []
        return "; ".join([*parts, *(["keeps a state"] if self.stateful else [])])


@frozen
class Summary:
    """What an engine is made of; its text is a table.

    Attributes:
        model: The name of the model's class.
        layers: In the order of the model.
        parameters: How many numbers all parameters hold, each parameter once; lazy ones hold none yet.
        trainable: How many of these want gradients.
        buffers: How many numbers the buffers hold.
        bytes: What parameters and buffers take.
        dtypes: The types of the parameters, as `float32`.
        device: Where a batch is moved to.
        machine: The name of the machine that `fit` runs.
        switches: Which of `checked`, `compile`, `capture`, `prefetch` are on, and the precision.
        optimizers: In the order in which they step.
        callbacks: In the order in which they are called.
    """

    model: str
    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    buffers: int
    bytes: int
    dtypes: tuple[str, ...]
    device: device
    machine: str
    switches: tuple[str, ...]
    optimizers: tuple[Stepper, ...]
    callbacks: tuple[Heard, ...]

    def __str__(self) -> str:
        parts = (self._head(), _layers(self.layers), self._optimizers(), self._callbacks())
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def _head(self) -> list[str]:
        trainable = "all" if self.trainable == self.parameters else f"{self.trainable:,}"
        held = f"{self.parameters:,} parameters, {trainable} trainable; {self.buffers:,} numbers in buffers"
        types = "".join(f", {dtype}" for dtype in self.dtypes)
        switched = f"; {', '.join(self.switches)}" if self.switches else ""
        return [f"{self.model}: {held}; {self.bytes:,} bytes{types}", f"{self.machine} on {self.device}{switched}"]

    def _optimizers(self) -> list[str]:
        lines = []
        for one in self.optimizers:
            named = f"{one.name}, {one.kind}" if one.name else one.kind
            for number, group in enumerate(one.groups):
                head = f"{named}, group {number}: {group.parameters:,} parameters; "
                chosen = {
                    key: value for key, value in group.settings.items() if value is not None and value is not False
                }
                told = (f"{key} {value}" for key, value in chosen.items())
                lines += wrap(head + ", ".join(told), WIDTH, subsequent_indent="    ")
        return lines

    def _callbacks(self) -> list[str]:
        heads = aligned([(one.name, str(one.order)) for one in self.callbacks], "<>")
        lines = ["callbacks, in the order in which they are called"]
        for head, one in zip(heads, self.callbacks, strict=True):
            indent = " " * (len(head) + 2)
            lines += wrap(f"{head}  {one}", WIDTH, subsequent_indent=indent, break_on_hyphens=False)
        return lines


def summarise(
    model: nn.Module,
    optimizer: optim.Optimizer | Optimizers | None,
    listeners: Sequence[Listener],
    words: Collection[Enum],
    *,
    device: device,
    machine: str,
    switches: tuple[str, ...],
) -> Summary:
    """Look at the parts of an engine.

    Args:
        model: The model.
        optimizer: One, several, or none.
        listeners: Everyone who listens, in order.
        words: The events and guards that they may name.
        device: Where a batch is moved to.
        machine: The name of the machine.
        switches: What else is on.
    """
    words = tuple(dict.fromkeys((*Event, *Guard, *words)))  # ours in the order in which they come, then the user's
    layers = tuple(_layer(*named) for named in _owners(model))
    parameters, buffers = _known(model.parameters()), _known(model.buffers())
    return Summary(
        model=type(model).__name__,
        layers=layers,
        parameters=_numbers(parameters),
        trainable=_numbers(parameter for parameter in parameters if parameter.requires_grad),
        buffers=_numbers(buffers),
        bytes=sum(held.numel() * held.element_size() for held in (*parameters, *buffers)),
        dtypes=tuple(dict.fromkeys(str(parameter.dtype).removeprefix("torch.") for parameter in parameters)),
        device=device,
        machine=machine,
        switches=switches,
        optimizers=_steppers(optimizer),
        callbacks=tuple(_heard(one, words, [] if optimizer is None else optimizer.param_groups) for one in listeners),
    )


def _owners(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[Tensor], list[Tensor]]]:
    """Each layer, with the parameters that are its own and those that a layer above holds as well."""
    met: set[Tensor] = set()
    for name, module in model.named_modules():
        held = dict.fromkeys(module.parameters(recurse=False))
        if held or next(module.buffers(recurse=False), None) is not None or next(module.children(), None) is None:
            yield name, module, [one for one in held if one not in met], [one for one in held if one in met]
        met.update(held)


def _layer(name: str, module: nn.Module, own: Sequence[Tensor], shared: Sequence[Tensor]) -> Layer:
    known = _known(own)
    return Layer(
        name,
        type(module).__name__,
        parameters=_numbers(known),
        trainable=_numbers(parameter for parameter in known if parameter.requires_grad),
        shared=_numbers(_known(shared)),
        lazy=any(map(is_lazy, (*own, *module.buffers(recurse=False)))),
    )


def _known(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Those that have a shape."""
    return [tensor for tensor in tensors if not is_lazy(tensor)]


def _numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _steppers(optimizer: optim.Optimizer | Optimizers | None) -> tuple[Stepper, ...]:
    named: Mapping[str, optim.Optimizer] = {}
    if optimizer is not None:
        named = optimizer if isinstance(optimizer, Optimizers) else {"": optimizer}
    return tuple(Stepper(name, type(one).__name__, tuple(map(_group, one.param_groups))) for name, one in named.items())


def _group(group: Mapping[str, Any]) -> Group:
    settings = {name: _value(value) for name, value in group.items() if name != "params"}
    return Group(_numbers(_known(group["params"])), MappingProxyType(settings))


def _value(value: object) -> object:
    """A hyperparameter as it is now: one that is kept in a tensor is read."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _heard(listener: Listener, words: Collection[Enum], param_groups: Sequence[dict[str, Any]]) -> Heard:
    source = listener.source
    writes: Callable[[Any], Iterable[tuple[int, str]]] | None = getattr(source, "writes", None)
    return Heard(
        listener.name,
        listener.order,
        events=tuple(name_of(word) for word in words if word in listener.hears),
        guards=tuple(name_of(word) for word in words if word in listener.answers),
        filter=str(listener.filter).strip(" ()"),
        writes=tuple(writes(param_groups)) if callable(writes) else (),
        in_trials=bool(getattr(source, "in_trials", False)),
        stateful=callable(getattr(source, "state_dict", None)),
    )


def _layers(layers: Sequence[Layer]) -> list[str]:
    rows = [("layer", "type", "parameters", "trainable", "")]
    for one in layers:
        note = "lazy: not known before the first batch" if one.lazy else ""
        note = note or (f"{one.shared:,} shared with a layer above" if one.shared else "")
        rows.append((_short(one.name or "(the model)"), one.kind, f"{one.parameters:,}", f"{one.trainable:,}", note))
    return aligned(rows, "<<>><")


def _short(name: str) -> str:
    """The end of a name says more than its begin."""
    return name if len(name) <= NAME else f"...{name[3 - NAME :]}"
