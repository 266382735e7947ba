"""What will a hyperparameter be?  A picture of its course over a run, drawn before the first batch."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

from engine.layout.figures import COLOURS, mark_epochs, new_figure, saved, tidy


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# By hyperparameter, and by what a line is called (nothing where there is one), a value for each batch.
Courses = Mapping[str, Mapping[str, list[float]]]


def by_name(courses: Courses) -> dict[str, list[float]]:
    """Each course by its name, "lr", or by that and what the line is called, "lr of group 0".

    Example:
        >>> by_name({"lr": {"group 0": [0.1]}, "momentum": {"": [0.9]}})
        {'lr of group 0': [0.1], 'momentum': [0.9]}
    """
    return {f"{name}{label and ' of '}{label}": v for name, lines in courses.items() for label, v in lines.items()}


def draw(courses: Courses, epochs: int, batches: int, path: str | PathLike[str] | None = None) -> "Figure":
    """The course of each hyperparameter, one above the other, over the batches of a run; its epochs are marked.

    Args:
        courses: What is drawn.
        epochs: How many epochs the run has.
        batches: How many batches an epoch has.
        path: Where the picture is written as well; its suffix says how.

    Raises:
        PicturesMissing: matplotlib is not installed.
    """
    figure = new_figure(6.4, 0.8 + 2.2 * len(courses))
    panels = list(figure.subplots(len(courses), sharex=True, squeeze=False)[:, 0])
    for axes, (name, lines) in zip(panels, courses.items(), strict=True):
        _draw_lines(axes, name, lines)
    mark_epochs(panels, [(epoch, epoch * batches) for epoch in range(epochs)])
    figure.align_ylabels(panels)
    return saved(figure, path)


def _draw_lines(axes: "Axes", name: str, lines: Mapping[str, Sequence[float]]) -> None:
    """Steps: a value holds until the next batch."""
    for number, (label, values) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        axes.step(range(len(values) + 1), [*values, values[-1]], where="post", color=colour, label=label)
    axes.set_ylabel(name)
    axes.margins(x=0)
    tidy(axes)
    if len(lines) > 1:
        axes.legend(frameon=False)
