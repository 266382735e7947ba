"""Do activations die or explode?  Mean, deviation and the share near zero of what each layer gives, batch by batch.

# Theory of operation
#
# A forward hook on each layer writes three numbers into a place of its own on the device, in place: so it may be
# compiled or captured, and a module that is called again writes over them.  When the batch ends, all places are copied
# into a row of a table on the device, which is thinned when it is full.  The host reads the table when somebody asks,
# and when the training ends.
"""

from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from attrs import field, frozen
from torch import Tensor, nn

from engine.check import check_count, is_number
from engine.errors import ArgumentRefused
from engine.layout.columns import aligned
from engine.layout.figures import COLOURS, new_figure, saved, tidy
from engine.listeners import Callback
from engine.recording.counts import Counts
from engine.recording.thinned import Thinned
from engine.run import Run
from states.errors import nearest, shown, typed


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch.utils.hooks import RemovableHandle

# The columns of a picture, and how much of a layer's name fits over one: its end says more than its begin.
COLUMNS, TITLE = 4, 30


@frozen(eq=False)
class Activations:
    """What one layer gave, a number for each batch that was looked at: float32 on the host, of shape (batches,).

    nan where the layer was not called, or gave nothing that has a mean.

    Attributes:
        kind: The name of the layer's class.
        mean: The mean of its output.
        std: The standard deviation, of the population: divided by n.
        near_zero: The share of numbers whose absolute value is at most the threshold, 0 to 1.
    """

    kind: str
    mean: Tensor = field(repr=False)
    std: Tensor = field(repr=False)
    near_zero: Tensor = field(repr=False)


class ActivationStats(Callback):
    """Keep mean, standard deviation and share near zero of the outputs of layers, while they train.

    Validation is passed over.  Of a tuple or list the first element counts (the output of an LSTM); what is then no
    floating-point tensor is passed over.  A layer that is called several times in a batch shows its last call.

    Read `stats` (by the layer's name) and `batches` (the numbers of the batches, from 0), at any time; `table()` and
    `plot()` show them.  A second training begins anew; one that goes on (`start_epoch`), on the same engine or with the
    state of the last, goes on in the table, if its layers are the same.  It forgets the batches of the epochs that are
    trained again; what was thinned stays so.

    Args:
        layers: Modules, or their names in the model; by default all that have no module inside.
        every: Look at each n-th batch.
        near_zero: Up to which absolute value a number is near zero; by default as in fastai.
        points: How many batches are kept at most: when there are more, every second is forgotten.

    Raises:
        ArgumentRefused: a number that makes no sense; when the training starts, a layer that the model does not have.

    Cost per batch that is looked at: a hook for each layer with seven small operations on the device, 25 microseconds a
    layer on a CPU; of any other, the call of the hooks.  Nothing is read on the host.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> watched = ActivationStats()
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[watched])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 5)
        >>> list(watched.stats), watched.stats["1"].kind, watched.stats["1"].mean.shape
        (['0', '1', '2'], 'ReLU', torch.Size([5]))
    """

    order = 85

    # The layers that are watched: their names and the names of their classes.
    _kinds: dict[str, str]
    # What was kept, in rows of shape (layers, 3), by the number of the batch.
    _kept: Thinned
    # What the hooks write into: three numbers for each layer.
    _latest: Tensor
    # How many batches have ended.
    _batches: Counts
    # Whether the hooks look at what goes on now, and whether the batch in hand gets a row.
    _looking: bool
    _due: bool

    def __init__(self, *layers: str | nn.Module, every: int = 1, near_zero: float = 0.05, points: int = 1024) -> None:
        for layer in layers:
            if not isinstance(layer, str | nn.Module):
                raise _refused(f"a layer is {shown(layer)}, {typed(layer)}", "modules of the model, or their names")
        check_count("every", every, least=1)
        check_count("points", points, least=2)
        if not is_number(near_zero) or near_zero < 0:
            raise _refused(f"near_zero is {shown(near_zero)}", "a number, 0 or more")
        self.layers, self.every, self.near_zero, self.points = layers, every, near_zero, points
        self._handles: list[RemovableHandle] = []
        self._forget({})

    @property
    def stats(self) -> dict[str, Activations]:
        """What each layer gave in the batches that were looked at, by its name in the model.  Waits for the device."""
        values = self._kept.values.unbind(1)
        return {
            name: Activations(kind, *one.unbind(1))
            for (name, kind), one in zip(self._kinds.items(), values, strict=True)
        }

    @property
    def batches(self) -> tuple[int, ...]:
        """The numbers of these batches, counted from 0 over the whole training."""
        return tuple(self._kept.numbers)

    def on_train_begin(self, run: Run) -> None:
        """Put a hook on each layer."""
        modules = self._found(run.model)
        kinds = {name: type(module).__name__ for name, module in modules.items()}
        if run.epoch == 0 or kinds != self._kinds:
            self._forget(kinds)
        self._batches.begin(run.epoch)
        self._kept.cut(self._batches.total)
        self._kept.open(run.device)
        self._latest = torch.empty((len(kinds), 3), device=run.device)
        for module, place in zip(modules.values(), self._latest.unbind(), strict=True):
            self._handles.append(module.register_forward_hook(partial(self._look, place)))

    def on_batch_begin(self, run: Run) -> None:
        """Look at this batch, if it is its turn: from here on, as a loop of one's own reports what is over."""
        del run
        self._looking = self._kept.due(self._batches.total)
        if self._looking:
            self._latest.fill_(torch.nan)

    def on_forward_begin(self, run: Run) -> None:
        """It gets a row: one that is skipped gets none."""
        del run
        self._due = self._kept.due(self._batches.total)

    def on_validate_begin(self, run: Run) -> None:
        """Look away: a validation may come before the batch has ended."""
        del run
        self._looking = False

    on_predict_begin = on_validate_begin

    def on_batch_end(self, run: Run) -> None:
        """Keep what was seen."""
        if self._due:
            self._kept.put(self._batches.total, self._latest)
        self._batches.note(run.epoch, self._batches.total + 1)
        self._looking = self._due = False

    def on_train_end(self, run: Run) -> None:
        """Take the hooks away, and what was kept off the device."""
        del run
        while self._handles:
            self._handles.pop().remove()
        self._looking = self._due = False
        self._kept.close()

    def state_dict(self) -> dict[str, Any]:
        """What was kept so far, on the host.  Waits for the device."""
        kept, batches = self._kept.state_dict(), self._batches.state_dict()
        return {"kinds": dict(self._kinds), "kept": kept, "batches": batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take such a state; a training that goes on goes on behind it."""
        self._kinds = dict(state["kinds"])
        self._kept.load_state_dict(state["kept"])
        self._batches.load_state_dict(state["batches"])

    def table(self) -> str:
        """The last batch that was looked at, a line for each layer; each number with four digits."""
        rows = [("layer", "type", "mean", "std", "near zero")]
        for name, one in self.stats.items() if self.batches else ():
            mean, std, near = (float(values[-1]) for values in (one.mean, one.std, one.near_zero))
            rows.append((name or "(the model)", one.kind, f"{mean:.4g}", f"{std:.4g}", f"{near:.1%}"))
        return "\n".join(aligned(rows, "<<>"))

    def plot(self, path: str | PathLike[str] | None = None) -> "Figure":
        """Draw the mean of each layer, within a standard deviation, over the batches.

        Args:
            path: Where the picture is saved as well; its folders are made.

        Raises:
            PicturesMissing: matplotlib is not installed.
        """
        stats = self.stats
        columns, rows = min(COLUMNS, max(len(stats), 1)), -(-len(stats) // COLUMNS) or 1
        figure = new_figure(1 + 2.4 * columns, 0.6 + 1.9 * rows)
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for number, (name, one) in enumerate(stats.items()):
            self._draw(name, one, panels[number])
            panels[number].tick_params(labelbottom=number + columns >= len(stats))
        for axes in panels[len(stats) :]:
            axes.set_axis_off()
        figure.supxlabel("batch", fontsize="small")
        figure.supylabel("mean ± standard deviation", fontsize="small")
        return saved(figure, path)

    def _draw(self, name: str, one: Activations, axes: "Axes") -> None:
        axes.fill_between(self.batches, one.mean - one.std, one.mean + one.std, color=COLOURS[0], alpha=0.25, lw=0)
        axes.plot(self.batches, one.mean, color=COLOURS[0], lw=1)
        near = f", {float(one.near_zero[-1]):.0%} near 0" if self.batches else ""
        axes.set_title(f"{name[-TITLE:] or 'the model'}\n{one.kind}{near}", loc="left", fontsize="small")
        axes.tick_params(labelsize="x-small")
        tidy(axes)

    def _found(self, model: nn.Module) -> dict[str, nn.Module]:
        """The layers by name, in the order of the model."""
        known = dict(model.named_modules())
        if not self.layers:
            return {name: module for name, module in known.items() if next(module.children(), None) is None}
        names = {module: name for name, module in known.items()}
        for layer in self.layers:
            if isinstance(layer, str) and layer not in known:
                raise _refused(f"the model has no layer {layer!r}", nearest(layer, known.keys() - {""}))
            if isinstance(layer, nn.Module) and layer not in names:
                raise _refused(f"the model has no such layer: {shown(layer)}", "modules of the model that is trained")
        chosen = {layer if isinstance(layer, str) else names[layer] for layer in self.layers}
        return {name: module for name, module in known.items() if name in chosen}

    def _look(self, place: Tensor, module: nn.Module, args: object, output: object) -> None:
        """The forward hook: three numbers into a place of shape (3,)."""
        del module, args
        if not self._looking:
            return
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor) and first.is_floating_point() and first.layout is torch.strided and first.numel():
            values = first.detach().float()
            std, mean = torch.std_mean(values, correction=0)
            place.copy_(torch.stack((mean, std, (values.abs() <= self.near_zero).mean(dtype=torch.float32))))

    def _forget(self, kinds: Mapping[str, str]) -> None:
        """Begin anew, with these layers."""
        self._kinds = dict(kinds)
        self._kept, self._batches = Thinned(self.every, self.points, (len(kinds), 3)), Counts()
        self._latest = torch.empty(len(kinds), 3)
        self._looking = self._due = False


def _refused(what: str, allowed: str) -> ArgumentRefused:
    return ArgumentRefused(what, allowed=allowed, instead="leave it out for the default")
