"""Who does what is another's to do?  Callbacks that write, stop, end, draw or evaluate where it is not theirs."""

import sys

import torch

from engine import Callback, Run
from engine.testing.runs.cases import Case
from engine.testing.runs.described import Fault, Script
from tests.testing.zoo import NONE, ONE, Animal, Insider, Pair


class SkipsToEpoch(Callback):
    """fastai #3652: who goes on where another run ended writes the counters, and they are not the run's any more."""

    def on_train_begin(self, run: Run) -> None:
        run.epoch = 1


class SaysWhereItBegan(Callback):
    def on_train_begin(self, run: Run) -> None:
        self.began = 1


class SkipsABatch(Callback):
    """Lightning #19764: batches are counted twice, or not at all."""

    def on_batch_end(self, run: Run) -> None:
        run.batch_index += 1


class CountsASkippedBatch(Callback):
    def on_batch_end(self, run: Run) -> None:
        self.next = run.batch_index + 2


class CountsSteps(Callback):
    """HF #22082: a step is counted with the gradient, whether or not it is taken."""

    def on_backward_end(self, run: Run) -> None:
        run.updates += 1


class CountsStepsTaken(Callback):
    def on_step_end(self, run: Run) -> None:
        self.updates = run.updates


class Unstops(Callback):
    """TensorFlow #37587: a flag that stops the training is put back by another, who means its own."""

    def on_epoch_end(self, run: Run) -> None:
        run.stopping = False


class LastStopWins(Callback):
    """Lightning #6194: of two who stop, the last one alone is known."""

    def on_stop(self, run: Run) -> None:
        run.stops[:] = run.stops[1:]


class NotesTheStop(Callback):
    def on_stop(self, run: Run) -> None:
        self.stopped = run.stopping
        self.last = run.stops[-1]


class Exits(Callback):
    """Lightning #19976: Ctrl-C ends the process, and the notebook with it."""

    def on_exception(self, run: Run) -> None:
        if isinstance(run.errors[0], KeyboardInterrupt):
            sys.exit(1)


class SaysGoodbye(Callback):
    def on_exception(self, run: Run) -> None:
        self.interrupted = isinstance(run.errors[0], KeyboardInterrupt)


class StopsByCtrlC(Callback):
    """skorch #952: an early stop that is raised as Ctrl-C ends more than this training."""

    def on_epoch_end(self, run: Run) -> None:
        raise KeyboardInterrupt


class StopsByAsking(Callback):
    def on_epoch_end(self, run: Run) -> None:
        run.stop("it is good enough")


class SaysNothing(Callback):
    """fastai 1.0.48: who answers only where the answer is yes says nothing at all elsewhere."""

    def skip_step(self, run: Run) -> bool:
        if run.updates > 100:
            return True
        return None  # it is the point


class SaysNo(Callback):
    def skip_step(self, run: Run) -> bool:
        return run.updates > 100


class Evaluates(Insider):
    """Lightning #4001: a validation begins where nobody expects one."""

    def on_step_end(self, run: Run) -> None:
        self.engine.evaluate([(run.inputs, run.targets)])


class EvaluatesByItself(Insider):
    def on_step_end(self, run: Run) -> None:
        with torch.no_grad():
            self.loss = run.loss_fn(run.model(run.inputs), run.targets)


class Augments(Callback):
    """fastai #3295: a callback that draws random numbers changes all that is drawn behind it."""

    def on_batch_begin(self, run: Run) -> None:
        run.inputs = run.inputs + torch.rand(()) / 100


class AugmentsAlone(Callback):
    def on_train_begin(self, run: Run) -> None:
        self.chance = torch.Generator().manual_seed(1)

    def on_batch_begin(self, run: Run) -> None:
        run.inputs = run.inputs + torch.rand((), generator=self.chance) / 100


class Reseeds(Callback):
    """fastai #3013: what sets the seed changes the training that it is to watch."""

    def on_epoch_begin(self, run: Run) -> None:
        torch.manual_seed(0)


class ReseedsAndSaysSo(Reseeds):
    uses_random = True


class SkipsByChance(Callback):
    """HF #11323: results differ, for a guard draws the random numbers of the model."""

    def skip_batch(self, run: Run) -> bool:
        return torch.rand(()).item() < 0


class SkipsByCount(Callback):
    def skip_batch(self, run: Run) -> bool:
        return run.batches_done > 100


class Plateau(Callback):
    """fastai, ReduceLROnPlateau: the rate that it lowers is written by a schedule as well, and the last one wins."""

    def on_epoch_end(self, run: Run) -> None:
        run.optimizer.param_groups[0]["lr"] *= 0.5


class Schedule(Callback):
    def on_epoch_end(self, run: Run) -> None:
        run.optimizer.param_groups[0]["lr"] = 0.4 / (run.epoch + 1)


class PlateauBehind(Plateau):
    runs_after = (Schedule,)


class RecordsRates(Callback):
    """fastai #1511: who writes the rate down may come before it is set, or behind."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_epoch_end(self, run: Run) -> None:
        self.rates.append(run.optimizer.param_groups[0]["lr"])


class RecordsRatesFirst(RecordsRates):
    order = -1


TABLE, STOPS, DRAWS = "table", "stops", "drew random numbers of torch without saying so, in"
STOPPED = Case(ONE, Script({"stop_training": [1]}))
ANIMALS = (
    Animal([SkipsToEpoch], [SaysWhereItBegan], TABLE, Case(NONE), "at train_end, run.epoch is 1, and the table says 0"),
    Animal([SkipsABatch], [CountsASkippedBatch], TABLE, Case(ONE), "at epoch_end, run.batch_index is 2, and the table"),
    Animal(
        [CountsSteps], [CountsStepsTaken], TABLE, Case(ONE), "at step_begin, run.updates is 1, and the table says 0"
    ),
    Animal([Unstops], [], STOPS, STOPPED, "the run says COMPLETED, and its record of stops says STOPPED"),
    Animal(
        [LastStopWins],
        [NotesTheStop],
        STOPS,
        Case(ONE, Script({"stop_training": [0]})),
        "the run says STOPPED, and its record of stops says COMPLETED",
    ),
    Animal(
        [Exits],
        [SaysGoodbye],
        "callbacks",
        Case(NONE, fault=Fault(KeyboardInterrupt, 0, "event")),
        "Exits raises SystemExit: 1 in exception, while the run was dying",
    ),
    Animal([SaysNothing], [SaysNo], "deaths", Case(ONE), "SaysNothing answered the guard skip_step with None"),
    Animal([Evaluates], [EvaluatesByItself], "order", Case(ONE), "validate_begin is not legal here, by the grammar"),
    Animal([Augments], [AugmentsAlone], "leaks", Case(ONE), f"Augments {DRAWS} batch_begin"),
    Animal([Reseeds], [ReseedsAndSaysSo], "leaks", Case(ONE), f"Reseeds {DRAWS} epoch_begin"),
    Animal([SkipsByChance], [SkipsByCount], "leaks", Case(ONE), f"SkipsByChance {DRAWS} skip_batch"),
    Animal(
        [StopsByCtrlC], [StopsByAsking], "callbacks", Case(ONE), "StopsByCtrlC raises KeyboardInterrupt in epoch_end"
    ),
)
RATE = "optimizer.param_groups[0]['lr']"
PAIRS = (
    Pair((Schedule, Plateau), (Schedule, PlateauBehind), RATE),
    Pair((Schedule, RecordsRates), (Schedule, RecordsRatesFirst), "RecordsRates.rates[0]"),
)
