"""Who leaves the model otherwise than it was?  Callbacks that undo too early, too seldom or never."""

from contextlib import suppress
from typing import Any

import torch
from torch import nn

from engine import Callback, Run
from engine.testing.runs.cases import Case
from engine.testing.runs.described import Fault
from tests.testing.zoo import NONE, ONE, Animal, Insider


def quiet(*given: object) -> None:
    """A hook that does nothing."""


class Activations(Callback):
    """fastai #3101: what is undone when the epoch ends stays if it dies."""

    handle: Any = None

    def on_epoch_begin(self, run: Run) -> None:
        self.handle = run.model.register_forward_hook(quiet)

    def on_epoch_end(self, run: Run) -> None:
        self.handle.remove()


class ActivationsOfARun(Activations):
    def on_train_end(self, run: Run) -> None:
        if self.handle is not None:
            self.handle.remove()


class MixUp(Callback):
    """fastai #3454: what was put in the place of another thing is put back behind each error, but not behind Ctrl-C."""

    def on_train_begin(self, run: Run) -> None:
        run.model.forward = lambda inputs: nn.Linear.forward(run.model, inputs)

    def _put_back(self, run: Run) -> None:
        with suppress(AttributeError):  # it may not be there yet
            del run.model.forward

    def on_train_end(self, run: Run) -> None:
        if not run.errors or isinstance(run.errors[0], Exception):
            self._put_back(run)


class MixUpAndBack(MixUp):
    def on_train_end(self, run: Run) -> None:
        self._put_back(run)


class Probes(Callback):
    """fastai #3030: the model is left in evaluation mode, and nothing says so."""

    def on_batch_end(self, run: Run) -> None:
        run.model.eval()
        run.model(torch.zeros(1, 1))


class ProbesAndPutsBack(Probes):
    def on_batch_end(self, run: Run) -> None:
        super().on_batch_end(run)
        run.model.train()


class HookCallback(Callback):
    """fastai #3167: an attribute of the callback's is put over one of the model's, here a method."""

    def on_train_begin(self, run: Run) -> None:
        run.model.modules = [run.model]


class HookCallbackOfItsOwn(Callback):
    def on_train_begin(self, run: Run) -> None:
        self.modules = [run.model]


class CountsInTheModel(Callback):
    """fastai #2981: what a callback keeps is saved with the model, and loads into no other."""

    def on_train_begin(self, run: Run) -> None:
        run.model.register_buffer("seen", torch.zeros(()))


class CountsInItself(Callback):
    def on_train_begin(self, run: Run) -> None:
        self.seen = torch.zeros(())


class AddsOthers(Insider):
    """fastai2 #255: callbacks that came with a run stay when it is over."""

    def on_train_begin(self, run: Run) -> None:
        self.engine.add(CountsInItself())


LEFT = "leaks"
BUFFER = "CountsInTheModel left model.seen as a buffer; it was not there, in train_begin"
CTRL_C = Case(NONE, fault=Fault(KeyboardInterrupt, 1, "event"))
ANIMALS = (
    Animal(
        [Activations],
        [ActivationsOfARun],
        LEFT,
        Case(ONE, fault=Fault(ValueError, 2, "event")),
        "Activations left a forward hook on model (tests.testing.zoo_altering.quiet), in epoch_begin",
    ),
    Animal([MixUp], [MixUpAndBack], LEFT, CTRL_C, "MixUp left model.forward"),
    Animal([Probes], [ProbesAndPutsBack], LEFT, Case(ONE), "left the model in evaluation mode, in batch_end"),
    Animal([HookCallback], [HookCallbackOfItsOwn], LEFT, Case(NONE), "HookCallback left model.modules as a list"),
    Animal([CountsInTheModel], [CountsInItself], LEFT, Case(NONE), BUFFER),
    Animal([AddsOthers], [], LEFT, Case(NONE), "AddsOthers left a callback on the engine"),
)
