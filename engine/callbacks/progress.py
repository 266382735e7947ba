"""How far is the run?  A bar for each pass over a loader, and a table with a row for each epoch that ended."""

from math import inf
from operator import length_hint
from time import monotonic
from typing import Any, TextIO

from torch import Tensor

from engine.check import is_number
from engine.errors import ArgumentRefused
from engine.layout.epoch_table import EpochTable, duration, number
from engine.layout.screen import Screen, screen_for
from engine.listeners import Callback
from engine.outcome import Outcome
from engine.run import Run
from states import Event, State
from states.errors import shown, typed


# How wide a number and a time are at most, as they are written: a column does not grow with its rows.
NUMBER, TIME = len("-1.00e-100"), len("10:00:00")
# What a stream has to have.
NEEDED = ("write", "flush", "isatty")


class Progress(Callback):
    """Show epoch, batch, loss, rate and time left while a run goes on, and a table of the epochs that ended.

    On a terminal: a bar for each pass over a loader (training, validation, prediction), gone when the pass has ended,
    and a row that stays for each epoch, with its metrics and how long it took.  In a notebook: the same in the cell,
    with widgets if ipywidgets is installed.  In a file or a pipe: the table alone, line by line, without control
    characters.  Of several processes (`torch.distributed`, or torchrun's variable `RANK`) the first alone shows it.

    A run that does not come to its end leaves a line that says where it was: stopped and for which reason, stopped by
    Ctrl-C, or failed and by which exception.  A row is no wider than the terminal: columns give way, in the order that
    `EpochTable` says, and the last word of the header counts them.

    Epochs count from 0, as everywhere: the last of eight is 7/7.  Print from a callback of yours when a bar is open,
    and the bar is torn: use `tqdm.write` there, in `on_exception` too.

    Args:
        refresh_seconds: How long a bar stays as it is.  The loss is read on the host only when it is drawn anew (this
            waits for the device), so at most once in that time and once at the end of a pass.
        stream: Where to draw, a file that is open for text; by default what `sys.stderr` is at that moment, and in a
            notebook the cell.

    Raises:
        ArgumentRefused: *refresh_seconds* is not a number above 0; *stream* cannot be written to.

    Cost per batch: one look at the clock and two comparisons.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks import Progress
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Progress()])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 8, epochs=2)
    """

    order = 900

    def __init__(self, *, refresh_seconds: float = 0.25, stream: TextIO | None = None) -> None:
        if not is_number(refresh_seconds) or refresh_seconds <= 0:
            raise ArgumentRefused(
                f"refresh_seconds is {shown(refresh_seconds)}, {typed(refresh_seconds)}",
                allowed="a number of seconds above 0",
                instead="leave it out for 0.25",
            )
        if stream is not None and not all(callable(getattr(stream, name, None)) for name in NEEDED):
            raise ArgumentRefused(
                f"stream is {shown(stream)}, {typed(stream)}",
                allowed=f"a file that is open for text: an object with {', '.join(NEEDED)}",
                instead='write stream=open("progress.txt", "w"), or leave it out for sys.stderr',
            )
        self.refresh_seconds, self.stream = refresh_seconds, stream
        # The open bars, innermost last; when that one is drawn next, and the index of its last batch (-1: unknown).
        self._bars: list[tuple[Run, Any]] = []
        self._due, self._last = inf, -1
        # The epoch that began last; -1 before the first.
        self._began, self._table, self._epoch = 0.0, EpochTable(), -1

    def on_train_begin(self, run: Run) -> None:
        """Begin the table."""
        del run
        self._table, self._epoch = EpochTable(), -1

    def on_epoch_begin(self, run: Run) -> None:
        """Open the bar of the training."""
        self._open(f"{_epoch(run)} train", run)
        self._began, self._epoch = monotonic(), run.epoch

    def on_batch_end(self, run: Run) -> None:
        """Draw the bar if it is time to."""
        if monotonic() >= self._due or run.batch_index == self._last:
            self._draw(run)

    def on_epoch_end(self, run: Run) -> None:
        """Write the row of the epoch."""
        self._close_all()
        if not run.stopping:
            numbers = {name: number(value).rjust(NUMBER) for name, value in run.metrics.items()}
            row = {"epoch": _count(run), **numbers, "time": duration(monotonic() - self._began).rjust(TIME)}
            self._tell(*self._table.lines(row, self._screen.columns))

    def on_train_end(self, run: Run) -> None:
        """Leave nothing open."""
        del run
        self._epoch = -1
        self._close_all()

    def on_validate_begin(self, run: Run) -> None:
        """Open the bar of a validation, or of an evaluation by itself."""
        self._open("evaluation" if run.parent is None else f"{_epoch(run)} valid", run)
        if run.parent is None:
            self._began = monotonic()

    on_validate_batch_end = on_batch_end

    def on_validate_end(self, run: Run) -> None:
        """Close the bar; say how it went unless that is said at the end of the epoch."""
        self._end(run, "evaluation")

    def on_predict_begin(self, run: Run) -> None:
        """Open the bar of a prediction."""
        self._open("prediction", run)
        self._began = monotonic()

    on_predict_batch_end = on_batch_end

    def on_predict_end(self, run: Run) -> None:
        """Say how long it took."""
        self._end(run, "prediction")

    def on_stop(self, run: Run) -> None:
        """Say why; what was open is not drawn to its end."""
        self._close_all()
        self._tell(f"stopped {_stopped(run)}: {run.stops[-1].reason}")

    def on_exception(self, run: Run) -> None:
        """Say where it died, and leave a clean line to the traceback."""
        interrupted = run.outcome is Outcome.INTERRUPTED
        if self._bars or interrupted:  # a `^C` stands there
            self._close_all()
            self._screen.wipe()
        where = _place(run) if Event.EPOCH_BEGIN not in run.machine.events else self._died(run)
        by = "" if interrupted else f": {type(run.errors[0]).__name__}"
        self._tell(f"{'stopped by Ctrl-C' if interrupted else 'failed'} {where}{by}")

    def _died(self, run: Run) -> str:
        """Where a training was when it died; its last transition led there."""
        if run.epoch != self._epoch:
            return f"before epoch {run.epoch}"
        held = run.recent[-1].dest in run.machine.holds
        return f"in the validation of epoch {run.epoch}" if held else _place(run)

    def _open(self, title: str, run: Run) -> None:
        bar = self._screen.bar(title, length_hint(run.loader, 0) or None, nested=bool(self._bars))
        if bar is not None:
            self._bars.append((run, bar))
            self._aim()

    def _aim(self) -> None:
        """Find out when the innermost bar is drawn next."""
        self._due, self._last = inf, -1
        if self._bars:
            self._due, self._last = monotonic() + self.refresh_seconds, (self._bars[-1][1].total or 0) - 1

    def _draw(self, run: Run) -> None:
        if not self._bars or self._bars[-1][0] is not run:
            return
        bar = self._bars[-1][1]
        if isinstance(run.loss, Tensor) and run.loss.numel() == 1:
            bar.set_postfix_str(f"loss {number(run.loss.detach().item())}", refresh=False)
        bar.update(run.batch_index + 1 - bar.n)
        if run.batch_index == self._last:
            self._close(run)  # before others print at the end of the epoch
        else:
            self._aim()

    def _close(self, run: Run) -> None:
        """Close the bar of this run, if it is open still."""
        if self._bars and self._bars[-1][0] is run:
            self._bars.pop()[1].close()
            self._aim()

    def _close_all(self) -> None:
        while self._bars:
            self._bars.pop()[1].close()
        self._aim()

    def _end(self, run: Run, title: str) -> None:
        self._close(run)
        if run.parent is not None:
            return
        if run.outcome is Outcome.COMPLETED:
            self._say(title, run)
        elif run.outcome is Outcome.STOPPED and not any(Event.STOP in stop.transition.events for stop in run.stops):
            self._say(f"{title} stopped {_stopped(run)}", run)  # `stop_validate` hears no `stop`: it was not told yet

    def _say(self, title: str, run: Run) -> None:
        numbers = (f"{name} {number(value)}" for name, value in run.metrics.items())
        self._tell("  ".join([title, *numbers, duration(monotonic() - self._began)]))

    def _tell(self, *lines: str) -> None:
        screen = self._screen
        for line in lines:
            screen.write(line)

    @property
    def _screen(self) -> Screen:
        return screen_for(self.stream)


def _epoch(run: Run) -> str:
    return f"epoch {_count(run).strip()}"


def _count(run: Run) -> str:
    """Which epoch this is, of which last one, as wide as that."""
    if run.epochs is None:
        return str(run.epoch)
    last = str(run.epochs - 1)
    return f"{run.epoch:{len(last)}}/{last}"


def _stopped(run: Run) -> str:
    """Where the last stop was granted."""
    between = run.stops[-1].transition.source is State.TRAIN
    return f"before epoch {run.epoch}" if between else _place(run)


def _place(run: Run) -> str:
    """Which batch of which epoch a run is at: so many have ended, of so many if that is known."""
    total = length_hint(run.loader, 0)
    batch = f"at batch {run.batch_index}{f' of {total}' if total else ''}"
    if run.parent is not None:
        return f"in the validation of epoch {run.epoch} {batch}"
    return f"in epoch {run.epoch} {batch}" if Event.EPOCH_BEGIN in run.machine.events else batch
