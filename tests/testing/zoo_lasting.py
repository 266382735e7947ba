"""Who remembers too much?  Callbacks for which a second training is not like the first."""

from typing import Any, ClassVar

from torch.optim.lr_scheduler import OneCycleLR

from engine import Callback, Run
from engine.testing.runs.cases import Case
from states.walk import Plan
from tests.testing.zoo import ONE, Animal


class StopsAfter(Callback):
    """fastai #1913: who stops after so many batches goes on counting in the next training."""

    seen = 0

    def on_batch_end(self, run: Run) -> None:
        self.seen += 1
        if self.seen >= 2:
            run.stop("two batches are enough")


class StopsAfterAnew(StopsAfter):
    def on_train_begin(self, run: Run) -> None:
        self.seen = 0


class EarlyStopping(Callback):
    """Composer #108: the best value of the first training is what the second one is measured by."""

    best = float("inf")

    def on_epoch_end(self, run: Run) -> None:
        loss = run.metrics.get("train_loss", self.best)
        if loss >= self.best:
            run.stop("the loss is no better")
        self.best = min(loss, self.best)


class EarlyStoppingAnew(EarlyStopping):
    def on_train_begin(self, run: Run) -> None:
        self.best = float("inf")


class WarmsUp(Callback):
    """fastai2 #77: a flag that is never put back."""

    done = False

    def skip_step(self, run: Run) -> bool:
        return not self.done

    def on_epoch_end(self, run: Run) -> None:
        self.done = True


class WarmsUpAnew(WarmsUp):
    def on_train_begin(self, run: Run) -> None:
        self.done = False


class Accumulates(Callback):
    """fastai #3048: a guard that counts how often it was asked is out of step when the epoch is over."""

    asked = 0

    def accumulate(self, run: Run) -> bool:
        self.asked += 1
        return self.asked % 2 == 1


class AccumulatesByWindow(Callback):
    def accumulate(self, run: Run) -> bool:
        return run.window < 2


class OneCycle(Callback):
    """Accelerate #963: a schedule of so many steps is stepped more often than that."""

    schedule: Any = None

    def on_train_begin(self, run: Run) -> None:
        if self.schedule is None:
            self.schedule = OneCycleLR(run.optimizer, 0.1, total_steps=4)

    def on_step_end(self, run: Run) -> None:
        self.schedule.step()


class OneCycleAnew(OneCycle):
    def on_train_begin(self, run: Run) -> None:
        self.schedule = OneCycleLR(run.optimizer, 0.1, total_steps=9)


class SharesAList(Callback):
    """fastai #1913: what all instances share goes on in other models, too."""

    seen: ClassVar[list[int]] = []

    def on_batch_end(self, run: Run) -> None:
        self.seen.append(run.batch_index)
        if len(self.seen) % 2 == 0:
            run.stop("two batches are enough")


class HasAList(Callback):
    def on_train_begin(self, run: Run) -> None:
        self.seen: list[int] = []

    def on_batch_end(self, run: Run) -> None:
        self.seen.append(run.batch_index)
        if len(self.seen) % 2 == 0:
            run.stop("two batches are enough")


AGAIN, SECOND = "again", "a second training hears"
TWO = Case(Plan(epochs=2, batches=1))
ANIMALS = (
    Animal([StopsAfter], [StopsAfterAnew], AGAIN, Case(ONE), f"{SECOND} stop, and that of a new engine epoch_end"),
    Animal([EarlyStopping], [EarlyStoppingAnew], AGAIN, TWO, f"{SECOND} stop, and that of a new engine epoch_begin"),
    Animal([WarmsUp], [WarmsUpAnew], AGAIN, Case(ONE), f"{SECOND} step_begin, and that of a new engine batch_end"),
    Animal([Accumulates], [AccumulatesByWindow], AGAIN, Case(ONE), f"{SECOND} step_begin, and that of a new engine"),
    Animal(
        [OneCycle],
        [OneCycleAnew],
        AGAIN,
        Case(Plan(epochs=2, batches=2)),
        "in a second training OneCycle raises ValueError: Tried to step 5 times",
    ),
    Animal([SharesAList], [HasAList], AGAIN, Case(ONE), SECOND),
)
