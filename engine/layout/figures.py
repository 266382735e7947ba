"""How is a figure of ours made and saved?  With matplotlib, where it is installed, in the same colours everywhere."""

from collections.abc import Sequence
from math import ceil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from states.svg import PicturesMissing


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of several lines in one place: the first is the training's, the second the validation's.
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")
# How many epochs have a mark at most.
MARKS = 10


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, of so many inches.

    Raises:
        PicturesMissing: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # only pictures need it
    except ImportError as missing:
        msg = (
            "plots are drawn by matplotlib, which cannot be imported\n"
            "  instead:  pip install 'stateloop[pictures]'; or take the numbers, or the tables, which need nothing"
        )
        raise PicturesMissing(msg) from missing
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def tidy(axes: "Axes") -> None:
    """No frame, a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def mark_epochs(panels: "Sequence[Axes]", begins: Sequence[tuple[int, int]]) -> None:
    """Lines where epochs begin, and their numbers above the first panel; below the last one stands what is counted.

    Args:
        panels: One above the other, with the same batches along their x axes.
        begins: Epochs, each with its first batch; of many, every second, third, ... is marked.
    """
    marked = begins[:: ceil(len(begins) / MARKS) or 1]
    for axes in panels:
        axes.grid(visible=False, axis="x")
        for _, batch in marked:
            axes.axvline(batch, color="black", alpha=0.12, linewidth=0.8, zorder=0)
    panels[-1].set_xlabel("batch")
    above = panels[0].secondary_xaxis("top")
    above.set_xticks([batch for _, batch in marked], labels=[str(epoch) for epoch, _ in marked])
    above.set_xlabel("epoch")
    above.spines["top"].set_visible(False)
    above.tick_params(length=0)


def saved(figure: "Figure", path: str | PathLike[str] | None) -> "Figure":
    """The figure, which is written into a file where one is given, whose folders are made."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return figure
