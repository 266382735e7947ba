"""How does a training survive?  Files from which it goes on: the last state, and the best ones."""

import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from attrs import frozen

from engine.check import check_count
from engine.errors import ArgumentRefused
from engine.keeping.checkpoints import checkpoint_of, with_state
from engine.keeping.files import write
from engine.listeners import Callback
from engine.measuring.monitored import Mode, Monitored
from engine.run import Run
from states.errors import shown, typed


# What a name in the state of a checkpoint has to look like: it is a file that may be deleted.
_NAME = re.compile(r"epoch-\d+_[\w.+-]+\.pt", re.ASCII)


@frozen
class Kept:
    """One of the best files: the value, the epoch in which it was measured, the name in the folder."""

    value: float
    epoch: int
    name: str


class Checkpoint(Callback):
    """Write what a training needs to go on, at the end of each epoch: `engine.load` takes it.

    `last.pt` is the newest; `epoch-3_valid_loss-0.1234.pt` one of the *keep* best (the epoch counts from 0; of equal
    values the earlier is better; nan is never among them).  Each file is whole: it is written beside its place, put on
    the disk, and then renamed, so that a crash leaves the old one.  A file that falls out of the best is deleted when
    the new ones are there; no file that another run has written is, but those of the same name are replaced: give each
    training a folder of its own.  A training that goes on in another folder looks for its best anew there.  An epoch
    that was stopped in the middle is not saved.

    In a file (`torch.load(path)`, with weights_only=True) are the states of the model, the optimizer and all callbacks
    that have one, the number of epochs that ended, the history of this run, and where the random generators of Python,
    NumPy and torch stand.  A callback behind this one (order above 290) is saved as it was before this `epoch_end`.

    Args:
        folder: Where; it is made with the first file.
        monitor: The metric that says which are the best; `None` keeps only the last.
        mode: "min" or "max": which values are better.
        keep: How many of the best are kept; 1 or more.
        last: Whether `last.pt` is written.
        every: Only after each n-th epoch, counted over all parts of a training; the others are not looked at.

    Raises:
        ArgumentRefused: arguments that have no meaning, or would write nothing; when a training starts, a metric that
            cannot come; at the end of an epoch, one that did not, or a state that no file can hold.
        CallbackRefused: a callback has only one of `state_dict` and `load_state_dict`.

    Cost per batch: none.  Each file waits for the device and for the disk.

    Example:
        >>> import tempfile, torch
        >>> from engine import Engine
        >>> from engine.callbacks.checkpoint import Checkpoint
        >>> batches = [(torch.ones(4, 2), torch.zeros(4, 1))]
        >>> def fresh(folder):
        ...     model = torch.nn.Linear(2, 1)
        ...     sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        ...     return Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Checkpoint(folder)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = fresh(folder).fit(batches, epochs=3)
        ...     engine = fresh(folder)
        ...     run = engine.fit(batches, epochs=5, start_epoch=engine.load(f"{folder}/last.pt"))
        >>> [record["epoch"] for record in run.history]
        [3, 4]
    """

    order = 290

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        monitor: str | None = None,
        mode: Mode | None = None,
        keep: int = 1,
        last: bool = True,
        every: int = 1,
    ) -> None:
        check_count("keep", keep, least=1)
        check_count("every", every, least=1)
        if not isinstance(folder, str | PathLike) or not fspath(folder) or Path(folder).is_file():
            kind = "a file" if isinstance(folder, str | PathLike) and fspath(folder) else typed(folder)
            raise ArgumentRefused(
                f"folder is {shown(folder)}, {kind}",
                allowed="the path of a folder; it is made",
                instead='write Checkpoint("runs/1")',
            )
        if monitor is None and (mode is not None or keep != 1 or not last):
            raise ArgumentRefused(
                f"monitor is None, mode is {shown(mode)}, keep is {keep}, last is {shown(last)}: no file would be "
                "the best",
                allowed="mode, keep and last=False together with a monitor",
                instead='write monitor="valid_loss", mode="min", or leave the others out',
            )
        self.folder, self.keep, self.last, self.every, self.monitor = Path(folder), keep, last, every, monitor
        self._monitored = None if monitor is None else Monitored(monitor, mode)  # type: ignore[arg-type]  # it looks
        # The best first.  Invariant: at most *keep*, all written by this training.
        self._kept: list[Kept] = []

    @property
    def best_path(self) -> Path | None:
        """The file of the best epoch so far; `None` before there is one."""
        return self.folder / self._kept[0].name if self._kept else None

    def on_train_begin(self, run: Run) -> None:
        """Forget the files of epochs that are trained anew; refuse callbacks that could not go on."""
        self._kept = [kept for kept in self._kept if kept.epoch < run.epoch]
        with_state(run.callbacks)

    def on_epoch_end(self, run: Run) -> None:
        """Write the files of this epoch, then delete what is no longer among the best."""
        if run.stopping or (run.epoch + 1) % self.every:
            return
        before, new = self._kept, self._new(run)
        self._kept = sorted([*before, *new], key=self._rank)[: self.keep]  # before it is saved: it is in the file, too
        try:
            self._write(run, [kept.name for kept in new if kept in self._kept])
        except BaseException:
            self._kept = before
            raise
        for kept in before:
            if kept not in self._kept:
                (self.folder / kept.name).unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """The best files: value, epoch and name of each."""
        named = None if self._monitored is None else self._monitored.named
        return {"monitored": named, "kept": [[kept.value, kept.epoch, kept.name] for kept in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, with the best files that are in this folder: one that is not stands in no new one's way."""
        if self._monitored is not None and state["monitored"] is not None:
            self._monitored.check_state(state)
        kept = [Kept(*entry) for entry in state["kept"]]
        for one in kept:
            if not _NAME.fullmatch(one.name):
                raise ArgumentRefused(
                    f"the state of Checkpoint has the file {one.name!r}",
                    allowed="the name of a file that it writes itself",
                    instead="do not load this file: somebody has changed it",
                )
        there = [one for one in kept if (self.folder / one.name).is_file()]
        self._kept = there if self._monitored is not None else []

    def __repr__(self) -> str:
        """One line: where it writes, and which file is the best."""
        best = "" if self.monitor is None else f"; the best of {self.monitor}: {self.best_path or 'none yet'}"
        return f"<Checkpoint in {self.folder}{best}>"

    def _write(self, run: Run, best: list[str]) -> None:
        names = [*best, "last.pt"] if self.last else best
        content = checkpoint_of(run, run.epoch + 1) if names else {}
        for name in names:
            write(self.folder / name, content)

    def _new(self, run: Run) -> list[Kept]:
        """This epoch, if it has a value that can be ranked."""
        value = None if self._monitored is None else self._monitored.value(run)
        if self._monitored is None or value is None or value != value:  # noqa: PLR0124  # nan alone is not itself
            return []
        name = re.sub(r"[^\w.+-]", "_", self._monitored.monitor, flags=re.ASCII)
        return [Kept(value, run.epoch, f"epoch-{run.epoch}_{name}-{value:.6g}.pt")]

    def _rank(self, kept: Kept) -> float:
        assert self._monitored is not None, "without a monitor nothing is ranked"
        return kept.value if self._monitored.mode == "min" else -kept.value
