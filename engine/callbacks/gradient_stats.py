"""How large are gradients and weights, and how far does a step move them?  Looked at every so many steps."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.layout.columns import aligned
from engine.layout.figures import new_figure, saved
from engine.listeners import Callback
from engine.recording.counts import Counts
from engine.recording.thinned import Thinned
from engine.run import Run
from states.errors import shown, typed


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is measured of each parameter, in this order.
COLUMNS = ("grad_mean", "grad_std", "grad_near_zero", "grad_norm", "mean", "std", "norm", "update_ratio")
# Up to so many times its least number, a scale has 3, 30, ... between the powers of ten; on a longer one is no room.
SHORT = 1e4


class GradientStats(Callback):
    """Measure gradients, weights and steps, for each parameter of the model, at every n-th step.

    Measured are, in float32: `grad_mean` and `grad_std`, mean and standard deviation of the gradient before clipping
    (over all of its numbers, without Bessel's correction); `grad_near_zero`, the share of them that are not larger than
    *near_zero*; `grad_norm`, its 2-norm; `mean`, `std` and `norm` of the weights before the step; `update_ratio`, the
    norm of what the step changed, divided by `norm`: about 0.001 is a healthy one, says a rule of thumb.  What has no
    gradient in a step has nan there.

    A second training begins anew; one that goes on (`start_epoch`), on the same engine or with the state of the last,
    goes on behind it.  It forgets the steps of the epochs that are trained again; what was thinned stays so.

    Args:
        every: Look at each so many steps.
        near_zero: Up to which absolute value a number is near zero.
        points: How many steps are kept at most: when there are more, every second is forgotten.

    Attributes:
        names: The parameters, as `model.named_parameters()` calls them.

    Raises:
        ArgumentRefused: *every* is no whole number from 1 on, *near_zero* no number from 0 on, *points* none from 2 on;
            at `train_begin`, where a training goes on with the numbers of another model.

    Cost per step: a comparison; at every n-th about twenty operations for each parameter and a copy of the weights, all
    on the device.  They are read on the host when somebody asks.  Memory on the device: 32 bytes for each parameter of
    the model (a tensor, not a number in one) and each step that there is room for.

    Example:
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> stats = GradientStats(every=5)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[stats])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 10, epochs=2)
        >>> stats.names, stats.steps, stats.stats["grad_norm"].shape
        (['weight', 'bias'], [5, 10, 15, 20], torch.Size([4, 2]))
    """

    order = 40

    def __init__(self, *, every: int = 50, near_zero: float = 1e-8, points: int = 1024) -> None:
        check_count("every", every, least=1)
        check_count("points", points, least=2)
        if not is_number(near_zero) or near_zero < 0:
            raise ArgumentRefused(
                f"near_zero is {shown(near_zero)}, {typed(near_zero)}",
                allowed="a number, 0 or more",
                instead="leave it out for 1e-8",
            )
        self.every, self.near_zero, self.points = every, near_zero, points
        # Between step_begin and step_end the weights before it, with what was measured.
        self._open: tuple[list[Tensor], list[Tensor]] | None = None
        self._begin([])

    @property
    def steps(self) -> list[int]:
        """The steps that were looked at and are kept, counted from 1 over the whole training."""
        return list(self._kept.numbers)

    @property
    def stats(self) -> dict[str, Tensor]:
        """What was measured, by column: float32 on the host, of shape (steps, parameters).  Waits for the device."""
        return dict(zip(COLUMNS, self._kept.values.unbind(2), strict=True))

    def on_train_begin(self, run: Run) -> None:
        """Begin anew, unless a training goes on."""
        names = [name for name, _ in run.model.named_parameters()]
        if run.epoch == 0 or not self.names:
            self._begin(names)
        elif names != self.names:
            raise ArgumentRefused(
                f"GradientStats goes on in epoch {run.epoch} with other parameters: {shown(names)}",
                allowed=f"those that it has numbers of: {shown(self.names)}",
                instead="train the model that the state is of, or make a new GradientStats",
            )
        self._steps.begin(run.epoch)
        self._kept.cut(self._steps.total + 1)
        self._kept.open(run.device)

    def on_step_begin(self, run: Run) -> None:
        """Measure gradients and weights, if it is time to."""
        self._steps.note(run.epoch, self._steps.total + 1)
        if self._kept.due(self._steps.total):
            weights = [parameter.detach().clone() for parameter in run.model.parameters()]
            self._open = weights, [self._measured(parameter) for parameter in run.model.parameters()]

    def on_step_end(self, run: Run) -> None:
        """Measure how far the weights have moved, if it is time to."""
        if self._open is None:
            return
        (weights, measured), self._open = self._open, None
        rows = []
        for parameter, before, numbers in zip(run.model.parameters(), weights, measured, strict=True):
            moved = _norm(parameter.detach() - before) / _norm(before)
            rows.append(torch.cat([numbers, moved.reshape(1)]).to(run.device))
        self._kept.put(self._steps.total, torch.stack(rows))

    def on_train_end(self, run: Run) -> None:
        """Take what was measured off the device; hold no weights."""
        del run
        self._open = None
        self._kept.close()

    def table(self) -> str:
        """The numbers of the last step that was looked at, a line for each parameter."""
        self._refuse_nothing("table")
        rows = zip(self.names, self._kept.values[-1].tolist(), strict=True)
        cells = [(name, *(f"{number:.3g}" for number in numbers)) for name, numbers in rows]
        return "\n".join(aligned([(f"step {self.steps[-1]}", *(f"{name:>14}" for name in COLUMNS)), *cells], "<>"))

    def plot(self, path: str | PathLike[str] | None = None) -> "Figure":
        """A picture of the norms of gradients and of how far steps move weights, parameter by step, on log scales.

        Args:
            path: Where it is saved as well; its end says as what, and its folders are made.

        Raises:
            ArgumentRefused: nothing was measured yet.
            PicturesMissing: matplotlib is not installed.
        """
        self._refuse_nothing("plot")
        figure = new_figure(9, 1.5 + 0.22 * max(len(self.names), 6))
        titles = {"grad_norm": "norm of the gradient", "update_ratio": "norm of the step / norm of the weights"}
        axes = figure.subplots(1, len(titles), sharey=True)
        for panel, (column, title) in zip(axes, titles.items(), strict=True):
            self._draw(panel, column, title)
        return saved(figure, path)

    def state_dict(self) -> dict[str, Any]:
        """All that was measured."""
        return {"names": list(self.names), "kept": self._kept.state_dict(), "steps": self._steps.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the numbers back; `fit(..., start_epoch=n)` goes on with them."""
        self.names = list(state["names"])
        self._kept.load_state_dict(state["kept"])
        self._steps.load_state_dict(state["steps"])

    def _begin(self, names: list[str]) -> None:
        self.names, self._steps = names, Counts()
        self._kept = Thinned(self.every, self.points, (len(names), len(COLUMNS)))

    @torch.no_grad()
    def _measured(self, parameter: Tensor) -> Tensor:
        """All columns but the last of one parameter, of shape (7,)."""
        weights = _plain(parameter)
        std, mean = torch.std_mean(weights, correction=0)
        numbers = [mean, std, _norm(parameter)]
        if parameter.grad is None:
            return torch.stack([*[torch.full_like(mean, torch.nan)] * 4, *numbers])
        gradient = _plain(parameter.grad)
        grad_std, grad_mean = torch.std_mean(gradient, correction=0)
        near_zero = (gradient.abs() <= self.near_zero).float().mean()
        return torch.stack([grad_mean, grad_std, near_zero, _norm(parameter.grad), *numbers])

    def _refuse_nothing(self, asked: str) -> None:
        if not self.steps:
            raise ArgumentRefused(
                f"{asked} was asked for, and nothing was measured yet",
                allowed=f"a training of {self.every} steps or more",
                instead="train first, or look more often: GradientStats(every=1)",
            )

    def _draw(self, axes: "Axes", column: str, title: str) -> None:
        from matplotlib.colors import LogNorm  # noqa: PLC0415  # only a picture needs it
        from matplotlib.ticker import LogLocator  # noqa: PLC0415  # as above

        numbers = self.stats[column].T.numpy()
        positive = numbers[(numbers > 0) & (numbers < torch.inf)]
        scale = LogNorm(positive.min(), positive.max()) if positive.size else None
        stride = self._kept.stride
        edges = [step - stride / 2 for step in self.steps]
        mesh = axes.pcolormesh([*edges, edges[-1] + stride], range(len(self.names) + 1), numbers, norm=scale)
        axes.set_title(title, loc="left")
        axes.set_xlabel("step")
        axes.set_ylim(len(self.names), 0)  # the first layer on top
        axes.set_yticks([number + 0.5 for number in range(len(self.names))], self.names)
        axes.locator_params("x", integer=True)
        axes.tick_params(axis="y", length=0)
        axes.spines[:].set_visible(False)
        if scale is not None:
            subs = (1, 3) if positive.max() < SHORT * positive.min() else (1,)
            bar = axes.figure.colorbar(mesh, ax=axes, ticks=LogLocator(subs=subs), format="{x:g}")
            bar.minorticks_off()
            bar.outline.set_visible(False)


def _plain(numbers: Tensor) -> Tensor:
    """Dense real numbers in float32: those of a sparse gradient, and both parts of complex ones."""
    numbers = numbers.detach()
    dense = numbers.to_dense() if numbers.is_sparse else numbers
    return (torch.view_as_real(dense) if dense.is_complex() else dense).float()


def _norm(numbers: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(_plain(numbers))
    return norm
