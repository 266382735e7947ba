"""How do forward and loss run compiled?  Two functions that `torch.compile` compiles once for each engine.

# Theory of operation
#
# The model and the loss function are arguments of what is compiled, so the user's own module is called, hooks and all;
# torch looks at its mode, at its hooks, at `no_grad` and at the shapes, and compiles anew where they differ.  It counts
# how often per code object and gives up after eight, so each engine has functions with code of its own.
#
# The optimizer's step is left alone.  Measured with torch 2.13 on a CPU: with a float for lr, a schedule has SGD's step
# compiled anew at each change, a second each, until torch gives up; Adam's moves the weights by 1e-5 elsewhere within
# fourteen steps; a schedule warns that nobody stepped, since it looks at the uncompiled step.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from functools import cached_property
from types import FunctionType
from typing import Any

import torch
from attrs import define, evolve

from engine.actions import NO_PAIR, Action
from engine.errors import ArgumentRefused
from engine.run import Do, Run
from states import State, Trigger


@define(eq=False)
class Compiled:
    """The engine's own actions of FORWARD and LOSS, compiled at their first call."""

    def actions(self, actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
        """What is done instead of the engine's own actions of a machine."""
        does: dict[Enum, Do] = {State.FORWARD: self.forward, State.LOSS: self.loss}
        own = {state: action for state, action in actions.items() if state in does}
        return {state: evolve(action, do=does[state], note=f"{action.note}, compiled") for state, action in own.items()}

    def forward(self, run: Run) -> Enum:
        """The action of FORWARD."""
        try:
            with self.watched():
                run.output = self._output_of(run.model, run.inputs)
        except RuntimeError as error:
            _refuse_no_compiler(error)
            raise
        return Trigger.OUTPUT_READY

    def loss(self, run: Run) -> Enum:
        """The action of LOSS."""
        try:
            with self.watched():
                run.loss = self._loss_of(run.loss_fn, run.output, run.targets)
        except Exception as error:
            _refuse_no_compiler(error)
            if run.targets is None:
                error.add_note(NO_PAIR)
            raise
        return Trigger.LOSS_READY

    def watched(self) -> AbstractContextManager[object]:
        """While this is open, torch compiles anew where a hook came or went; by default it would pass over them.

        `fit` opens it once for all; a run that is taken forward from outside, for each call: what two such runs open
        for as long as they last would not be closed in the reverse order.
        """
        from torch._dynamo import config  # noqa: PLC0415  # it takes seconds to import, and only those wait who compile

        patch: AbstractContextManager[object] = config.patch(skip_nnmodule_hook_guards=False)
        return patch if config.skip_nnmodule_hook_guards else nullcontext()

    @cached_property
    def _output_of(self) -> Callable[[Any, Any], Any]:
        return _compiled(output_of)

    @cached_property
    def _loss_of(self) -> Callable[[Any, Any, Any], Any]:
        return _compiled(loss_of)


def output_of(model: Callable[[Any], Any], inputs: Any) -> Any:  # noqa: ANN401  # as the model takes and gives them
    """What FORWARD compiles."""
    return model(inputs)


def loss_of(loss_fn: Callable[[Any, Any], Any], output: Any, targets: Any) -> Any:  # noqa: ANN401  # as above
    """What LOSS compiles."""
    return loss_fn(output, targets)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function compiled by torch, with a code object that nobody else has."""
    assert isinstance(function, FunctionType), "one of the two above"
    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    compiled: Callable[..., Any] = torch.compile(own)
    return compiled


def _refuse_no_compiler(error: Exception) -> None:
    """Say what to do, where torch found nothing to compile with."""
    cause = getattr(error, "inner_exception", None)
    if type(cause).__name__ in ("InvalidCxxCompiler", "TritonMissing"):
        raise ArgumentRefused(
            f"compile is True, and torch has nothing to compile with: {str(cause).strip().splitlines()[0]}",
            allowed="True where there is a C++ compiler (on a CPU) or Triton (on CUDA)",
            instead="install one (g++ or clang++; the variable CXX names another), or leave compile out",
        ) from error
