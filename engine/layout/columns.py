"""How are rows laid out in columns?  Each as wide as its widest cell, words to the left and numbers to the right."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """A line for each row, with nothing behind its last word.

    Args:
        rows: All with the same number of cells.
        sides: A sign for each column, "<" for words, ">" for numbers; the last one is that of all behind it, too.

    Example:
        >>> aligned([("layer", "bytes", ""), ("0", "1,024", "shared"), ("12", "64", "")], "<><")
        ['layer  bytes', '0      1,024  shared', '12        64']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    specs = [f"{side}{width}" for side, width in zip(sides.ljust(len(widths), sides[-1]), widths, strict=False)]
    return ["  ".join(map(format, row, specs)).rstrip() for row in rows]
