"""How did the epochs go?  A table with a row for each, whose columns are those of its metrics."""

from collections.abc import Mapping
from numbers import Real

from attrs import define, field

from states.errors import shown


@define(eq=False)
class EpochTable:
    r"""Rows that are given one by one; the header comes before the first, and again when a column is new or wider.

    Example:
        >>> table = EpochTable()
        >>> print(*table.lines({"epoch": "0/1", "train_loss": "0.5000"}), sep="\n")
        epoch  train_loss
          0/1      0.5000
        >>> print(*table.lines({"epoch": "1/1", "train_loss": "0.2500"}), sep="\n")
          1/1      0.2500
    """

    _widths: dict[str, int] = field(init=False, factory=dict)

    def lines(self, cells: Mapping[str, str]) -> list[str]:
        """The row of these cells, by column, below the header where that is due."""
        widths = {name: max(len(name), len(cell), self._widths.get(name, 0)) for name, cell in cells.items()}
        known = [*widths.items()] == [*self._widths.items()]
        rows = [[*cells.values()]] if known else [[*cells], [*cells.values()]]
        self._widths = widths
        return ["  ".join(map(str.rjust, row, widths.values())) for row in rows]


def number(value: object) -> str:
    """Four digits that do not jump from line to line; very small and large ones in powers of ten.

    What is no number, and a callback has put among the metrics, is shown as it is.

    Example:
        >>> number(0.98765), number(12.5), number(3e-7), number("none")
        ('0.9877', '12.5000', '3.00e-07', 'none')
    """
    if not isinstance(value, Real):
        return value if isinstance(value, str) else shown(value)
    value = float(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"  # noqa: PLR2004  # as said


def duration(seconds: float) -> str:
    """How long something took, for people.

    Example:
        >>> duration(1.25), duration(59.96), duration(3723.4)
        ('1.2 s', '1:00', '1:02:03')
    """
    if seconds < 59.95:  # noqa: PLR2004  # what is rounded to less than a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
