"""Who looks for what is not there?  Callbacks that trust one moment to have come before another."""

from collections.abc import Iterator

from engine import Callback, Run
from engine.testing.runs.cases import Case
from engine.testing.runs.described import Fault, Script
from states.walk import Plan
from tests.testing.zoo import NONE, ONE, VALID, Animal


class StaleLoss(Callback):
    """fastai #4029: what is heard when a batch ends is heard of a skipped one, too, which has no loss."""

    def on_batch_end(self, run: Run) -> None:
        self.last = run.loss.item()


class FreshLoss(Callback):
    def on_loss_end(self, run: Run) -> None:
        self.last = run.loss.item()


class LateLog(Callback):
    """fastai, Recorder.log: what the first epoch makes is not there if no epoch begins."""

    log: list[int]

    def on_epoch_begin(self, run: Run) -> None:
        self.log = []

    def on_train_end(self, run: Run) -> None:
        self.log.append(run.epoch)


class EarlyLog(LateLog):
    def __init__(self) -> None:
        self.log = []


class BestModel(Callback):
    """Lightning #16567: the value that is monitored is not there, for nothing was validated."""

    best = float("inf")

    def on_epoch_end(self, run: Run) -> None:
        self.best = min(self.best, run.metrics["valid_loss"])


class BestModelIfAny(BestModel):
    def on_epoch_end(self, run: Run) -> None:
        self.best = run.metrics.get("valid_loss", self.best)


class SavesAtTheStep(Callback):
    """Lightning #11930: what is saved at a step comes before the epoch's numbers are there."""

    def on_step_end(self, run: Run) -> None:
        self.score = run.metrics["train_loss"]


class SavesAtTheEnd(Callback):
    def on_epoch_end(self, run: Run) -> None:
        self.score = run.metrics.get("train_loss")


class PairsWithSteps(Callback):
    """Lightning #9584: not each gradient is stepped with."""

    norms = 0
    steps = 0

    def on_train_begin(self, run: Run) -> None:
        self.norms = self.steps = 0

    def on_backward_end(self, run: Run) -> None:
        self.norms += 1

    def on_step_end(self, run: Run) -> None:
        self.steps += 1

    def on_train_end(self, run: Run) -> None:
        if self.norms != self.steps and not run.errors:
            raise ValueError(f"{self.norms} norms of {self.steps} steps")


class PairsWhatIsPaired(PairsWithSteps):
    def on_step_begin(self, run: Run) -> None:
        self.norms = self.steps + 1

    def on_train_end(self, run: Run) -> None:
        self.norms = self.steps


class OneGradient(Callback):
    """Lightning #7924: several gradients come before a step where they accumulate."""

    waiting = False

    def on_batch_begin(self, run: Run) -> None:
        if self.waiting:
            raise ValueError("the last gradient was not used")

    def on_backward_end(self, run: Run) -> None:
        self.waiting = True

    def on_step_end(self, run: Run) -> None:
        self.waiting = False

    def on_train_end(self, run: Run) -> None:
        self.waiting = False


class ManyGradients(OneGradient):
    def on_batch_begin(self, run: Run) -> None:
        self.waiting = run.window > 0


class StepClock(Callback):
    """HF #34191: the last window of an epoch is stepped behind its last batch, where no batch is open."""

    def __init__(self) -> None:
        self.began: dict[str, int] = {}

    def on_batch_begin(self, run: Run) -> None:
        self.began["batch"] = run.batches_done

    def on_step_begin(self, run: Run) -> None:
        self.last = self.began["batch"]

    def on_batch_end(self, run: Run) -> None:
        del self.began["batch"]


class StepClockOfItsOwn(StepClock):
    def on_step_begin(self, run: Run) -> None:
        self.last = self.began.get("batch", run.batches_done)


class Bar(Callback):
    """fastprogress #54: the bar that an exception is written to is not there yet, and its error hides the real one."""

    out: list[str]

    def on_epoch_begin(self, run: Run) -> None:
        self.out = []

    def on_exception(self, run: Run) -> None:
        self.out.append("interrupted")


class BarFromTheStart(Bar):
    def __init__(self) -> None:
        self.out = []


class TidiesUp(Callback):
    """Lightning #20666: who ends a run may never have heard that it began."""

    started: int

    def on_train_begin(self, run: Run) -> None:
        self.started = run.batches_done

    def on_train_end(self, run: Run) -> None:
        self.batches = run.batches_done - self.started


class TidiesUpWhatThereIs(TidiesUp):
    started = 0


class Rates(Callback):
    """Lightning, TNT: a StopIteration of a callback's own ends the epoch, and nobody is told."""

    rates: Iterator[float]

    def on_train_begin(self, run: Run) -> None:
        self.rates = iter([0.01])

    def on_batch_begin(self, run: Run) -> None:
        run.optimizer.param_groups[0]["lr"] = next(self.rates)


class RatesWithALast(Rates):
    def on_batch_begin(self, run: Run) -> None:
        run.optimizer.param_groups[0]["lr"] = next(self.rates, 0.1)


class Computes(Callback):
    def on_epoch_end(self, run: Run) -> None:
        run.metrics["f1"] = 0.5


class Logs(Callback):
    """Ignite #706: who logs comes before who computes, if that is how they were registered."""

    def on_epoch_end(self, run: Run) -> None:
        self.line = f"{run.metrics['f1']:.3f}"


class LogsAfter(Logs):
    runs_after = (Computes,)


class MeanOfAll(Callback):
    """fastai #3126: a validation that is cut short has fewer batches than there are, or none."""

    losses: list[float]

    def on_validate_begin(self, run: Run) -> None:
        self.losses = []

    def on_validate_batch_end(self, run: Run) -> None:
        self.losses.append(run.loss.item())

    def on_validate_end(self, run: Run) -> None:
        self.mean = sum(self.losses) / len(self.losses)


class MeanOfSome(MeanOfAll):
    def on_validate_end(self, run: Run) -> None:
        self.mean = sum(self.losses) / max(1, len(self.losses))


class LastRow(Callback):
    """skorch #387: an epoch that was stopped has no row in the history."""

    def on_epoch_end(self, run: Run) -> None:
        self.row = run.history[-1]


class LastRowIfAny(LastRow):
    def on_epoch_end(self, run: Run) -> None:
        self.row = run.history[-1] if run.history else {}


FAILS = "callbacks"
ANIMALS = (
    Animal([StaleLoss], [FreshLoss], FAILS, Case(ONE, Script({"skip_batch": [0]})), "AttributeError: 'NoneType'"),
    Animal([LateLog], [EarlyLog], FAILS, Case(NONE), "no attribute 'log' in train_end"),
    Animal([BestModel], [BestModelIfAny], FAILS, Case(ONE), "KeyError: 'valid_loss' in epoch_end"),
    Animal([SavesAtTheStep], [SavesAtTheEnd], FAILS, Case(ONE), "KeyError: 'train_loss' in step_end"),
    Animal([PairsWithSteps], [PairsWhatIsPaired], FAILS, Case(ONE, Script({"skip_step": [0]})), "1 norms of 0 steps"),
    Animal(
        [OneGradient],
        [ManyGradients],
        FAILS,
        Case(Plan(epochs=1, batches=2), Script({"accumulate": [0]})),
        "ValueError: the last gradient was not used in batch_begin",
    ),
    Animal(
        [StepClock], [StepClockOfItsOwn], FAILS, Case(ONE, Script({"accumulate": [0]})), "KeyError: 'batch' in step"
    ),
    Animal(
        [Bar],
        [BarFromTheStart],
        FAILS,
        Case(NONE, fault=Fault(ValueError, 0, "event")),
        "no attribute 'out' in exception, while the run was dying",
    ),
    Animal(
        [TidiesUp],
        [TidiesUpWhatThereIs],
        FAILS,
        Case(NONE, fault=Fault(ValueError, 0, "event")),
        "no attribute 'started' in train_end, while the run was dying",
    ),
    Animal(
        [Rates], [RatesWithALast], FAILS, Case(Plan(epochs=1, batches=2)), "Rates raises StopIteration in batch_begin"
    ),
    Animal([Computes, Logs], [Computes, LogsAfter], FAILS, Case(ONE, turns=(1, 0)), "KeyError: 'f1' in epoch_end"),
    Animal([MeanOfAll], [MeanOfSome], FAILS, Case(VALID, Script({"stop_validate": [0]})), "ZeroDivisionError"),
    Animal([LastRow], [LastRowIfAny], FAILS, Case(ONE, Script({"stop_training": [1]})), "IndexError"),
)
