"""How are the records of epochs written down?  As a text, as a CSV file, as a frame of pandas."""

import csv
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import Refused
from engine.layout.columns import aligned


if TYPE_CHECKING:
    from pandas import DataFrame

# One for each epoch, as `Recorder.epochs` gives them; what was not measured in an epoch is not in its record.
Records = Sequence[Mapping[str, Any]]

# What stands at the begin and at the end of each record.
COUNTED, TIMED = ("epoch", "updates", "batches"), ("started", "seconds")


def columns(records: Records) -> list[str]:
    """The names in any of the records.

    Example:
        >>> columns([{"epoch": 0, "train_loss": 0.5, "seconds": 1.0}, {"epoch": 1, "valid_loss": 0.25}])
        ['epoch', 'updates', 'batches', 'train_loss', 'valid_loss', 'started', 'seconds']
    """
    measured = dict.fromkeys(name for record in records for name in record if name not in (*COUNTED, *TIMED))
    return [*COUNTED, *measured, *TIMED]


def text(records: Records) -> str:
    """A line for each epoch, below the names."""
    names = [name for name in columns(records) if name not in ("batches", "started")]
    return "\n".join(aligned([names, *([_cell(record.get(name, "")) for name in names] for record in records)], "<"))


def write_csv(records: Records, path: str | PathLike[str]) -> None:
    """A line for each epoch, below the names, with all digits; the folders of the file are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns(records))
        writer.writeheader()
        writer.writerows(records)


def frame(records: Records) -> "DataFrame":
    """A row for each epoch, which is its index."""
    try:
        from pandas import DataFrame  # noqa: PLC0415  # only a frame needs it
    except ImportError as missing:
        raise Refused(
            "to_frame makes a DataFrame of pandas, which cannot be imported",
            allowed="Python with pandas",
            instead="pip install pandas; or take recorder.epochs, a list of dicts, or recorder.to_csv(path)",
        ) from missing
    return DataFrame(list(records), columns=columns(records)).set_index("epoch")


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
