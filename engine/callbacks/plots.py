"""What does a training look like?  The figures of a recorder: losses, learning rates, metrics, schedules."""

from collections.abc import Sequence
from math import ceil
from os import PathLike
from typing import TYPE_CHECKING

from engine.callbacks.tables import COUNTED, TIMED, Records, columns
from engine.errors import Refused
from engine.series import Series


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALID = "#4c72b0", "#dd8452"
# Of several lines in one place.
COLOURS = (TRAIN, VALID, "#55a868", "#c44e52", "#8172b3", "#937860")
# How many plots are beside each other at most, and how many epochs have a mark.
BESIDE, MARKS = 2, 10


def loss(series: Series, records: Records) -> "Figure":
    """The loss of each batch, its moving average, and the validation's mean at the end of each epoch."""
    if not series.losses:
        raise _nothing("no loss", "train first, with engine.fit(...)")
    figure, (axes,) = _panels(["loss"], "batch")
    axes.plot(series.batches, series.losses, color=TRAIN, alpha=0.3, linewidth=0.8, label="train, each batch")
    axes.plot(series.batches, series.smoothed, color=TRAIN, linewidth=1.8, label="train, smoothed")
    valid = [(record["batches"], record["valid_loss"]) for record in records if "valid_loss" in record]
    if valid:
        axes.plot(*zip(*valid, strict=True), color=VALID, marker="o", markersize=4, label="valid")
    axes.legend(frameon=False)
    _over_batches(axes, series)
    return figure


def rates(series: Series) -> "Figure":
    """The learning rates of all groups, in one place."""
    names = [name for name in series.changes if name.rpartition(".")[2] == "lr"]
    if not names:
        raise _nothing("no learning rate", "train first, with an optimizer: engine.fit(...)")
    figure, (axes,) = _panels(["learning rate"], "batch")
    for number, name in enumerate(names):
        _draw(axes, series, name, COLOURS[number % len(COLOURS)])
    if len(names) > 1:
        axes.legend(frameon=False)
    _over_batches(axes, series)
    return figure


def metrics(records: Records) -> "Figure":
    """All that was measured, epoch by epoch: what begins with `train_` and `valid_` in one plot."""
    names = dict.fromkeys(map(_measured, columns(records)[len(COUNTED) : -len(TIMED)]))
    if not names:
        raise _nothing("no measured epoch", "train an epoch to its end, on an engine without metrics=None")
    figure, panels = _panels(list(names), "epoch")
    for name, axes in zip(names, panels, strict=True):
        for key, colour in ((f"train_{name}", TRAIN), (f"valid_{name}", VALID), (name, TRAIN)):
            points = [(record["epoch"], record[key]) for record in records if isinstance(record.get(key), int | float)]
            if points:
                label = key.removesuffix(f"_{name}")
                axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, label=label)
        axes.legend(frameon=False)
    return figure


def schedule(series: Series) -> "Figure":
    """Each hyperparameter that had more than one value, in a plot of its own."""
    moved = [name for name in series.changes if len(set(series.values(name))) > 1]
    if not moved:
        raise _nothing("no hyperparameter that moved", "train with a schedule; plot_lr() draws what stayed as it was")
    figure, panels = _panels([_told(name) for name in moved], "batch")
    for name, axes in zip(moved, panels, strict=True):
        _draw(axes, series, name, TRAIN)
        _over_batches(axes, series)
    return figure


def saved(figure: "Figure", path: str | PathLike[str] | None) -> "Figure":
    """The figure, which is written into a file where one is given."""
    if path is not None:
        figure.savefig(path)
    return figure


def _nothing(what: str, instead: str) -> Refused:
    what = f"{what} was recorded, so there is nothing to draw"
    return Refused(what, allowed="a recorder that has heard a training", instead=instead)


def _measured(name: str) -> str:
    return name.removeprefix("train_").removeprefix("valid_")


def _told(name: str) -> str:
    """A hyperparameter for people.

    Example:
        >>> _told("0.lr"), _told("generator.1.betas.0")
        ('lr of group 0', 'betas.0 of group 1 of generator')
    """
    parts = name.split(".")
    at = next(number for number, part in enumerate(parts) if part.isdigit())
    return " of ".join([".".join(parts[at + 1 :]), f"group {parts[at]}", *parts[:at]])


def _panels(labels: Sequence[str], along: str) -> "tuple[Figure, list[Axes]]":
    """A figure with a plot for each label, which stands at its y axis; whole numbers of *along* at the x axis."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # only plots need it
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # as above
    except ImportError as missing:
        raise Refused(
            "plots are drawn by matplotlib, which cannot be imported",
            allowed="Python with matplotlib",
            instead='pip install "stateloop[pictures]"; or take the numbers: recorder.losses, recorder.epochs',
        ) from missing
    beside = min(BESIDE, len(labels))
    rows = ceil(len(labels) / beside)
    size = (6.4, 4) if len(labels) == 1 else (4.8 * beside, 3 * rows)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    panels = [figure.add_subplot(rows, beside, at, xlabel=along, ylabel=label) for at, label in enumerate(labels, 1)]
    for axes in panels:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure, panels


def _draw(axes: "Axes", series: Series, name: str, colour: str) -> None:
    """A hyperparameter: it stays as it is until it changes."""
    axes.plot(
        series.batches, series.values(name), color=colour, linewidth=1.8, drawstyle="steps-post", label=_told(name)
    )


def _over_batches(axes: "Axes", series: Series) -> None:
    """Batches along the x axis; above it where epochs begin."""
    axes.grid(visible=False, axis="x")
    marked = series.begins[:: max(1, ceil(len(series.begins) / MARKS))]
    for begin in marked:
        axes.axvline(begin.batch, color="black", alpha=0.12, linewidth=0.8, zorder=0)
    above = axes.secondary_xaxis("top")
    above.set_xticks([begin.batch for begin in marked], labels=[str(begin.epoch) for begin in marked])
    above.set_xlabel("epoch")
    above.spines["top"].set_visible(False)
    above.tick_params(length=0)
