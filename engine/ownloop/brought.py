"""What does a report bring along, and is it that?  Looked at before anything is changed."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from torch import Tensor

from engine.errors import ArgumentRefused, LossRefused
from states import Trigger
from states.errors import typed
from states.names import name_of


NOTHING: Any = object()  # what was not given, where None is a value

# What each report brings.  Those of the user's own words may bring anything, all other built-in ones nothing.
_MUST = {Trigger.BATCH_READY: "inputs", Trigger.OUTPUT_READY: "output", Trigger.LOSS_READY: "loss"}
_MAY = {Trigger.BATCH_READY: ("inputs", "targets"), Trigger.OUTPUT_READY: ("output",), Trigger.LOSS_READY: ("loss",)}

# Looked at in every batch, so bound once: a member reached through its class costs a call in Python 3.11.
_OUTPUT_READY, _LOSS_READY = Trigger.OUTPUT_READY, Trigger.LOSS_READY
_GRADS_READY, _WEIGHTS_MOVED = Trigger.GRADS_READY, Trigger.WEIGHTS_MOVED


def usual(trigger: Enum, inputs: object, targets: object, output: object, loss: object) -> bool:
    """Whether a report of a batch brings what it brings in nearly all cases: told without making anything."""
    if inputs is not NOTHING or targets is not NOTHING:
        return False
    if trigger is _LOSS_READY:
        return type(loss) is Tensor and output is NOTHING
    if trigger is _OUTPUT_READY:
        return output is not NOTHING and loss is NOTHING
    return (trigger is _GRADS_READY or trigger is _WEIGHTS_MOVED) and output is NOTHING and loss is NOTHING


def check_brought(trigger: Enum | None, given: Mapping[str, Any], call: str = "report") -> None:
    """Refuse a report without what it brings, or with what it does not bring; a loss is a tensor."""
    brought = [name for name, value in given.items() if value is not NOTHING]
    if isinstance(trigger, Trigger):
        must, may = _MUST.get(trigger), _MAY.get(trigger, ())
        if must is not None and must not in brought:
            begun = "" if call == "skip" else f"Trigger.{trigger.name}, "
            raise ArgumentRefused(
                f"{name_of(trigger)} was reported without {must}",
                allowed=f"the {must} that is ready" + ("" if must == "loss" else ", or None where there is none"),
                instead=f"write run.{call}({begun}{must}={must})",
            )
        if wrong := [name for name in brought if name not in may]:
            raise ArgumentRefused(
                f"{name_of(trigger)} was reported with {wrong[0]}",
                allowed=", ".join(may) or "the trigger alone",
                instead=f"report {wrong[0]} with {next(name_of(t) for t, names in _MAY.items() if wrong[0] in names)}",
            )
    if "loss" in brought and not isinstance(given["loss"], Tensor):
        raise LossRefused(
            f"the loss that was reported is {typed(given['loss'])}",
            allowed="the tensor that the loss function returned",
            instead="report loss, not loss.item(): that number waits for the device, and is read once per epoch here",
        )
    if "loss" in brought and given["loss"].numel() != 1:
        raise LossRefused(
            f"the loss that was reported is a tensor of shape {tuple(given['loss'].shape)}",
            allowed="a tensor of one number, of shape ()",
            instead="report the loss that backward() is called on: loss.mean(), or a loss function that reduces",
        )
