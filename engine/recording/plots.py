"""What does a training look like?  The figures of a recorder: losses, learning rates, metrics, schedules."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from engine.errors import Refused
from engine.layout.figures import COLOURS, mark_epochs, new_figure, tidy
from engine.recording.series import Series
from engine.recording.tables import COUNTED, TIMED, Records, columns


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN, VALID = COLOURS[:2]
# How many plots are beside each other at most.
BESIDE = 2


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
    beside = min(BESIDE, len(labels))
    rows = ceil(len(labels) / beside)
    figure = new_figure(6.4, 4) if len(labels) == 1 else new_figure(4.8 * beside, 3 * rows)
    panels = [figure.add_subplot(rows, beside, at, xlabel=along, ylabel=label) for at, label in enumerate(labels, 1)]
    for axes in panels:
        axes.locator_params("x", integer=True)
        tidy(axes)
    return figure, panels


def _draw(axes: "Axes", series: Series, name: str, colour: str) -> None:
    """A hyperparameter: it stays as it is until it changes."""
    axes.plot(
        series.batches, series.values(name), color=colour, linewidth=1.8, drawstyle="steps-post", label=_told(name)
    )


def _over_batches(axes: "Axes", series: Series) -> None:
    """Batches along the x axis; above it where epochs begin."""
    mark_epochs([axes], [(begin.epoch, begin.batch) for begin in series.begins])
