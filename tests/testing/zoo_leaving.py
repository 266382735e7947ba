"""Who leaves something behind in the process?  Files, threads, handlers, settings."""

import logging
import os
import signal
from threading import Event, Thread

import torch

from engine import Callback, Run
from engine.testing.runs.cases import Case
from engine.testing.runs.described import Fault, Script
from tests.testing.zoo import NONE, ONE, VALID, Animal


def ignored(number: int, frame: object) -> None:
    """A handler that does nothing."""


class MixedPrecision(Callback):
    """fastai, MixedPrecision: what a batch enters it leaves behind its loss, which a skipped one does not have."""

    def on_batch_begin(self, run: Run) -> None:
        torch.set_autocast_enabled("cuda", True)

    def on_loss_end(self, run: Run) -> None:
        torch.set_autocast_enabled("cuda", False)


class MixedPrecisionOfARun(MixedPrecision):
    def on_train_end(self, run: Run) -> None:
        torch.set_autocast_enabled("cuda", False)


class ValidatesWithout(Callback):
    """Ignite, Lightning: what a validation sets for all stays as it is if the validation dies."""

    def on_validate_begin(self, run: Run) -> None:
        torch.set_deterministic_debug_mode("warn")

    def on_validate_end(self, run: Run) -> None:
        torch.set_deterministic_debug_mode("default")


class ValidatesAndPutsBack(ValidatesWithout):
    def on_train_end(self, run: Run) -> None:
        torch.set_deterministic_debug_mode("default")


class KeepsAFile(Callback):
    """fastai, CSVLogger: a file that is closed when the epoch ends stays open if there is none."""

    file = -1

    def on_train_begin(self, run: Run) -> None:
        self.file = os.open(__file__, os.O_RDONLY)

    def on_epoch_end(self, run: Run) -> None:
        self._close()

    def _close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
        self.file = -1

    __del__ = _close


class KeepsAFileAndCloses(KeepsAFile):
    def on_train_end(self, run: Run) -> None:
        self._close()


class LogsToo(Callback):
    """fastai, learn.logger: only a run that is stopped hears a stop."""

    def __init__(self) -> None:
        self.handler = logging.NullHandler()

    def on_train_begin(self, run: Run) -> None:
        logging.getLogger("zoo").addHandler(self.handler)

    def on_stop(self, run: Run) -> None:
        logging.getLogger("zoo").removeHandler(self.handler)


class LogsAndLeaves(LogsToo):
    def on_train_end(self, run: Run) -> None:
        self.on_stop(run)


class Prefetches(Callback):
    """Ignite #3308: a validation that is stopped before its first batch hears no end of one."""

    def __init__(self) -> None:
        self.over = Event()

    def on_validate_begin(self, run: Run) -> None:
        self.over.clear()
        self.thread = Thread(target=self.over.wait, args=(10,), name="prefetcher", daemon=True)
        self.thread.start()

    def on_validate_batch_end(self, run: Run) -> None:
        self._join()

    def _join(self) -> None:
        self.over.set()
        if hasattr(self, "thread"):
            self.thread.join()

    __del__ = _join


class PrefetchesAndJoins(Prefetches):
    def on_train_end(self, run: Run) -> None:
        self._join()


class Signals(Callback):
    """Composer: handlers of signals are set for the whole process, and stay."""

    def on_train_begin(self, run: Run) -> None:
        signal.signal(signal.SIGUSR1, ignored)


class SignalsAndPutsBack(Signals):
    def on_train_end(self, run: Run) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


LEFT = "leaks"
ANIMALS = (
    Animal(
        [MixedPrecision],
        [MixedPrecisionOfARun],
        LEFT,
        Case(ONE, Script({"skip_batch": [0]})),
        "MixedPrecision left torch.is_autocast_enabled('cuda') as True; it was False, in batch_begin",
    ),
    Animal(
        [ValidatesWithout],
        [ValidatesAndPutsBack],
        LEFT,
        Case(VALID, fault=Fault(ValueError, 13, "event")),
        "ValidatesWithout left torch.are_deterministic_algorithms_enabled() as True; it was False, in validate_begin",
    ),
    Animal(
        [KeepsAFile],
        [KeepsAFileAndCloses],
        LEFT,
        Case(NONE),
        f"KeepsAFile left open the file {__file__}, in train_begin",
    ),
    Animal([LogsToo], [LogsAndLeaves], LEFT, Case(NONE), "LogsToo left a handler on the logger 'zoo'"),
    Animal(
        [Prefetches],
        [PrefetchesAndJoins],
        LEFT,
        Case(VALID, Script({"stop_validate": [0]})),
        "Prefetches left the thread prefetcher running, in validate_begin",
    ),
    Animal([Signals], [SignalsAndPutsBack], LEFT, Case(NONE), "Signals left the handler of SIGUSR1"),
)
