"""How did the epochs go?  A table with a row for each, whose columns are those of its metrics."""

from collections.abc import Mapping
from numbers import Real

from attrs import define, field

from states.errors import shown


# Which columns give way first: by the begin of their names, whatever has another one before all; these behind them.
KINDS, LAST = (None, "train_", "time", "valid_"), ("train_loss", "valid_loss", "epoch")


@define(eq=False)
class EpochTable:
    r"""Rows that are given one by one; the header comes before the first, and again when a column is new or wider.

    Where a row would be wider than it may be, columns give way as a whole, for names stay readable: first what is no
    number of training or validation, then those of the training, then the time, then those of the validation; of each
    kind the last one first, and the two losses after all of them.  The epoch stays.  The header says how many are left
    out.

    Example:
        >>> table = EpochTable()
        >>> print(*table.lines({"epoch": "0/1", "train_loss": "0.5000"}), sep="\n")
        epoch  train_loss
          0/1      0.5000
        >>> print(*table.lines({"epoch": "1/1", "train_loss": "0.2500"}), sep="\n")
          1/1      0.2500
        >>> print(*table.lines({"epoch": "2/2", "train_loss": "0.2", "grad_norm": "1.5"}, 27), sep="\n")
        epoch  train_loss  (+1)
          2/2         0.2
    """

    _widths: dict[str, int] = field(init=False, factory=dict)

    def lines(self, cells: Mapping[str, str], columns: int | None = None) -> list[str]:
        """The row of these cells, by column, below the header where that is due; at most so many characters wide."""
        widths = {name: max(len(name), len(cell), self._widths.get(name, 0)) for name, cell in cells.items()}
        shown = widths if columns is None else _fitting(widths, columns)
        known = [*shown.items()] == [*self._widths.items()]
        row = [cells.get(name, "") for name in shown]
        self._widths = shown
        return [
            "  ".join(map(str.rjust, one, shown.values())).rstrip() for one in ([row] if known else [[*shown], row])
        ]


def _fitting(widths: dict[str, int], columns: int) -> dict[str, int]:
    """The columns that have their place, and one whose name says how many have none."""
    left, staying = widths, sorted(widths, key=_rank, reverse=True)
    for places in range(len(widths) - 1, 0, -1):
        if sum(left.values()) + 2 * (len(left) - 1) <= columns:
            break
        left = {name: width for name, width in widths.items() if name in staying[:places]}
        more = f"(+{len(widths) - places})"
        left[more] = len(more)
    return left


def _rank(name: str) -> int:
    """How long a column stays."""
    if name in LAST:
        return len(KINDS) + LAST.index(name)
    return next((number for number, kind in enumerate(KINDS) if kind and name.startswith(kind)), 0)


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
