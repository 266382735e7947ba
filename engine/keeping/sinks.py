"""Where do the numbers of a training go?  What every sink can do, and the two that are plain files.

`engine.keeping.trackers` has those that hand them on to TensorBoard, Weights & Biases and MLflow.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from engine.errors import ArgumentRefused
from states.errors import shown, typed


@runtime_checkable
class Sink(Protocol):
    """Where numbers go.  `Log` calls `open` first and `close` last, `close` also where `open` has failed.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.callbacks import Log
        >>> class Print:
        ...     def open(self, epoch, step): ...
        ...     def write(self, step, values): print(step, sorted(values))
        ...     def flush(self): ...
        ...     def close(self): ...
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Log(Print())])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
        3 ['epoch', 'train_loss', 'updates']
        6 ['epoch', 'train_loss', 'updates']
    """

    def open(self, epoch: int, step: int) -> None:
        """Begin, before the first batch.

        Args:
            epoch: The first epoch of this training.  0 begins anew.  Any other goes on, and what is there of that epoch
                and of later ones, by a run that was cut off, is forgotten: it is trained again.
            step: How many batches were trained before.
        """

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers by name, `epoch` among them; *step* is how many batches have been trained."""

    def flush(self) -> None:
        """Let others see what was written: an epoch has ended."""

    def close(self) -> None:
        """The training has ended, however it did."""


class _File:
    """A text file that is held open while a training goes on."""

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        if not isinstance(path, str | os.PathLike) or Path(path).is_dir():
            kind = "a folder" if isinstance(path, str | os.PathLike) else typed(path)
            raise ArgumentRefused(
                f"the path of {type(self).__name__} is {shown(path)}, {kind}",
                allowed="the path of a file; it is made, with its folders",
                instead=f'write {type(self).__name__}("runs/history")',
            )
        self.path, self.append = Path(path), append
        self._file: TextIO | None = None

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file, if it is open."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _found(self, epoch: int) -> str:
        """What is in the file and stays there: whole lines alone, as a run that was cut off may leave half of one."""
        if self._file is not None:
            raise ArgumentRefused(
                f"{self.path} is written to already",
                allowed="one Log for each sink",
                instead="make a second sink, with a path of its own",
            )
        if not self.path.exists() or not (epoch or self.append):
            return ""
        text = self.path.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1]

    def _replace(self, text: str) -> None:
        """Write the file anew, at once or not at all, and stay behind its end."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")


class JSONLines(_File):
    """A file with a JSON object on each line, `step` first; what is not finite is `NaN` or `Infinity`, as in Python.

    Args:
        path: The file; its folders are made.  What is there is written over when a training begins.
        append: Write behind what is there instead; a last line that was cut off is forgotten.

    Raises:
        ArgumentRefused: *path* is no path, or a folder; when a training begins, another `Log` writes there, or what is
            there and stays cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sink = JSONLines(f"{folder}/history.jsonl")
        ...     sink.open(0, 0)
        ...     sink.write(12, {"epoch": 0, "train_loss": 0.5})
        ...     sink.close()
        ...     print(sink.path.read_text(), end="")
        {"step": 12, "epoch": 0, "train_loss": 0.5}
    """

    def open(self, epoch: int, step: int) -> None:
        """Make the file, or go on in it."""
        del step
        with _told(self.path):
            lines = self._found(epoch).splitlines()
            kept = _before(epoch, [_object(number, line) for number, line in enumerate(lines, 1)])
        self._replace("".join(f"{line}\n" for line in lines[: len(kept)]))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line."""
        assert self._file is not None, "it was opened"
        self._file.write(f"{json.dumps({'step': step, **values})}\n")


class CSVFile(_File):
    """A table with a column for each name, `step` first, as spreadsheets and `pandas.read_csv` take it.

    A name that comes later gets a column of its own: the file is written anew, with empty cells above.  So there is one
    header, and each row has all columns, whatever was left out in an epoch.

    Args:
        path: The file; its folders are made.  What is there is written over when a training begins.
        append: Write behind what is there instead, below the same header; a last line that was cut off is forgotten.

    Raises:
        ArgumentRefused: *path* is no path, or a folder; when a training begins, another `Log` writes there, or what is
            there and stays cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sink = CSVFile(f"{folder}/history.csv")
        ...     sink.open(0, 0)
        ...     sink.write(12, {"epoch": 0, "train_loss": 0.5})
        ...     sink.write(24, {"epoch": 1, "train_loss": 0.25, "valid_loss": 0.5})
        ...     sink.close()
        ...     print(sink.path.read_text(), end="")
        step,epoch,train_loss,valid_loss
        12,0,0.5,
        24,1,0.25,0.5
    """

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        super().__init__(path, append=append)
        self._columns: list[str] = []

    def open(self, epoch: int, step: int) -> None:
        """Make the file, or go on in it."""
        del step
        with _told(self.path):
            self._columns, rows = _table(self._found(epoch))
            kept = _before(epoch, rows)
        self._replace(_csv(self._columns, kept, header=True))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row; the whole file, where a name is new."""
        row = {"step": step, **values}
        if more := [name for name in row if name not in self._columns]:
            self.close()
            _, rows = _table(self.path.read_text(encoding="utf-8"))
            self._columns += more
            self._replace(_csv(self._columns, rows, header=True))
        assert self._file is not None, "it was opened"
        self._file.write(_csv(self._columns, [row]))


Rows = Sequence[Mapping[str, Any]]


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of which file it is that something cannot be read."""
    try:
        yield
    except (ValueError, csv.Error) as broken:
        raise ArgumentRefused(
            f"{path} is there already, and cannot be gone on in: {broken}",
            allowed="a file that this kind of sink wrote, in UTF-8",
            instead="mend or remove the file, or give the sink another path",
        ) from broken


def _object(number: int, line: str) -> Mapping[str, Any]:
    """The JSON object of a line."""
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        msg = f"line {number} is {shown(line)}, no JSON object"
        raise ValueError(msg)  # noqa: TRY004  # it is of a text, not of a type
    return row


def _before(epoch: int, rows: Rows) -> Rows:
    """Rows without those at the end that are of this epoch or a later one; all, for a training that does not go on."""
    kept = len(rows)
    while epoch and kept and float(rows[kept - 1].get("epoch") or -1) >= epoch:
        kept -= 1
    return rows[:kept]


def _table(text: str) -> tuple[list[str], Rows]:
    """The columns of a CSV text, and its rows."""
    reader, rows = csv.DictReader(io.StringIO(text)), []
    for row in reader:
        if None in row:
            msg = f"line {reader.line_num} has more cells than the header"
            raise ValueError(msg)
        rows.append(row)
    return list(reader.fieldnames or ()), rows


def _csv(columns: Sequence[str], rows: Rows, *, header: bool = False) -> str:
    """Rows as CSV text; nothing, without columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if header and columns:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
