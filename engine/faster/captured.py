"""Can the step of an engine be captured?  Who hears, answers or acts inside of it is refused, with what to do instead.

All that is known before the first batch; what a batch is, `capture` looks at.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

from attrs import frozen
from torch import Tensor, nn, optim

from engine.actions import clears_as_torch_does
from engine.callbacks.recorder import Recorder
from engine.closure import needs_closure
from engine.errors import ArgumentRefused, OptimizerRefused
from engine.faster.capture import INSIDE
from engine.listeners import Listener
from engine.measuring.metrics import Metrics
from engine.run import held
from engine.several import Optimizers
from states import Machine, State
from states.errors import shown
from states.names import is_stop, name_of


@frozen
class Inside:
    """What may happen between FORWARD and the end of ZERO_GRAD: the events heard and the guards asked."""

    events: tuple[Enum, ...]
    guards: tuple[Enum, ...]

    @classmethod
    def of(cls, machine: Machine) -> "Inside":
        """Read off the rows of a machine that takes the states of a step one after the other."""
        events: list[Enum] = []
        guards: list[Enum] = []
        for state, after in pairwise(INSIDE):
            rows = machine.rows_from(state)
            if not rows or len({row.trigger for row in rows}) > 1 or rows[-1].dest is not after:
                raise _other_way(machine, f"does not go from {name_of(state)} straight to {name_of(after)}")
            guards += [row.guard for row in rows if row.guard is not None]
            events += [*rows[0].first, *rows[-1].heard]
        later = set(INSIDE) - {State.FORWARD}
        if entering := [row for row in machine.rows if row.dest in later and row.source not in INSIDE]:
            raise _other_way(machine, f"comes to {name_of(entering[0].dest)} from {name_of(entering[0].source)}, too")
        return cls(tuple(events), tuple(guards))


def check_capture(
    machine: Machine,
    given: Mapping[Any, object],
    listeners: Sequence[Listener],
    model: nn.Module,
    optimizer: optim.Optimizer | Optimizers | None,
) -> None:
    """Refuse a training whose steps cannot be captured.

    Args:
        machine: The machine that trains.
        given: The user's actions, by state.
        listeners: Everyone who hears or answers.
        model: What is trained.
        optimizer: What steps.

    Raises:
        ArgumentRefused: something is heard, asked or done inside of what is captured.
        OptimizerRefused: the optimizer cannot step in there.
    """
    inside = Inside.of(machine)
    if replaced := [name_of(state) for state in INSIDE if state in given]:
        raise ArgumentRefused(
            f"capture is True, and actions replaces {', '.join(replaced)}, inside of what is captured",
            allowed="the engine's own actions from forward to zero_grad",
            instead="put it into the model or the loss function, which are captured; or leave capture out",
        )
    for who, what in _disturbing(inside, listeners):
        raise ArgumentRefused(
            f"capture is True, and {who} {what}, inside of what is captured",
            allowed=f"events up to forward_begin and from batch_end on; any guard but "
            f"{', '.join(dict.fromkeys(map(name_of, inside.guards)))}",
            instead="hear batch_end, where output and loss are there; change gradients in a hook of a parameter: that "
            "is captured; or leave capture out",
        )
    if isinstance(optimizer, Optimizers):
        raise OptimizerRefused(
            f"capture is True, and there are several optimizers: {', '.join(optimizer)}",
            allowed="one optimizer",
            instead="make one with several groups: torch.optim.Adam([{'params': ..., 'lr': ...}, ...]); or leave "
            "capture out",
        )
    assert optimizer is not None, "it steps, and was checked"
    _check_optimizer(optimizer)
    _check_clearing(model, optimizer)


def _disturbing(inside: Inside, listeners: Sequence[Listener]) -> Iterator[tuple[str, str]]:
    """Who hears or answers what inside.  The engine's own read the loss alone, which is ready then."""
    for guard in filter(is_stop, inside.guards):
        yield "run.stop", f"answers {name_of(guard)}"
    for listener in listeners:
        if type(listener.source) not in (Metrics, Recorder):
            yield from (
                (listener.label, f"hears {name_of(event)}") for event in inside.events if event in listener.hears
            )
        yield from ((listener.label, f"answers {name_of(g)}") for g in inside.guards if g in listener.answers)


def _check_optimizer(optimizer: optim.Optimizer) -> None:
    name = type(optimizer).__name__
    if needs_closure(optimizer) or not all(map(_capturable, optimizer.param_groups)):
        fused = isinstance(optimizer, optim.SGD)
        raise OptimizerRefused(
            f"capture is True, and the step of {name} cannot be captured as it is",
            allowed="optimizers with capturable=True, and SGD with fused=True",
            instead=f"write {name}(..., fused=True)" if fused else "write for example Adam(..., capturable=True)",
        )
    for group in filter(lambda group: group["params"], optimizer.param_groups):
        rate, devices = group["lr"], {parameter.device for parameter in group["params"]}
        if not isinstance(rate, Tensor) or {rate.device} != devices:
            raise OptimizerRefused(
                f"capture is True, and lr is {shown(rate)}, which a captured step would keep, whatever a schedule does",
                allowed="a tensor on the device of the parameters: schedules write into it",
                instead=f"write {name}(..., lr=torch.tensor({float(rate)}, device={str(next(iter(devices)))!r}))",
            )


def _check_clearing(model: nn.Module, optimizer: optim.Optimizer) -> None:
    """Refuse gradients that stay when those of the optimizer are dropped: a replay would add to none of them."""
    name, stepped = type(optimizer).__name__, set(map(id, held(optimizer)))
    left = [path for path, p in model.named_parameters() if p.requires_grad and id(p) not in stepped]
    if left:
        raise OptimizerRefused(
            f"capture is True, and {name} does not hold {left[0]}, which requires a gradient",
            allowed="an optimizer with all parameters of the model that require a gradient",
            instead="freeze the others (parameter.requires_grad_(False)), or leave capture out",
        )
    if not clears_as_torch_does(optimizer):
        raise OptimizerRefused(
            f"capture is True, and {name} has a zero_grad of its own",
            allowed="optimizers with torch's own zero_grad, which sets gradients to None",
            instead="leave capture out, or that method",
        )


def _capturable(group: Mapping[str, Any]) -> bool:
    """Whether torch captures the step of a group.  SGD has no such option; its fused step reads lr where it lies."""
    return bool(group["capturable"] if "capturable" in group else group.get("fused") and "dampening" in group)


def _other_way(machine: Machine, what: str) -> ArgumentRefused:
    return ArgumentRefused(
        f"capture is True, and the machine {machine.name!r} {what}",
        allowed=f"a machine that goes {' -> '.join(map(name_of, INSIDE))}",
        instead="leave capture out for this machine",
    )
