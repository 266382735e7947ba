"""Which values have the hyperparameters now?  Written from curves, at the place that the run has come to."""

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from engine.check import check_count, length
from engine.errors import ArgumentRefused, OptimizerRefused
from engine.listeners import Callback
from engine.recording.counts import Counts
from engine.run import Run
from engine.schedules.curves import Curve, check_curve
from engine.schedules.hyper import Place, check_shared, find, group_numbers
from engine.schedules.picture import by_name, draw
from states.errors import shown, typed


if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curves = Curve | Sequence[Curve]


class Schedule(Callback):
    """Write hyperparameters of the optimizer from curves, before each batch or before each epoch.

    Where on a curve the run is follows from its counters alone, `epoch * len(train_loader) + batch_index` of
    `epochs * len(train_loader)` steps: skipped batches, epochs that were stopped and `fit(start_epoch=...)` need no
    state and cannot put it out of step.  Behind the last step the last value stays; after a run the optimizer keeps the
    values of its last batch, as with torch's schedules.

    Where epochs draw another number of batches than `len(train_loader)`, because a callback cuts them short or the
    length of the loader changes, say how many in *steps_per_epoch*: it then takes the place of `len(train_loader)`.
    With `ShortEpochs(3)` that is `steps_per_epoch=3`.  An epoch that draws more stays at its last place.

    Of a loader without a length the batches are counted, and the count is in `state_dict()`; a training that goes on
    in epoch n counts from where epoch n - 1 ended, as far as that is known.

    Args:
        curves: By hyperparameter, a curve for all groups, or a list with one curve for each: {"lr": Cosine(0.1, 0)}.
            "lr", "momentum", "weight_decay" and whatever else is a number in the group; "beta1" and "beta2" of `betas`;
            "momentum" is "beta1" for an optimizer with `betas` and no momentum, such as Adam.
        groups: The numbers of the groups of parameters, from 0; by default all.  Those of several optimizers are
            counted through, in the order of the optimizers.
        by: "batch", or "epoch": then a step is an epoch.
        steps: How many steps the curves have; needed where the loader has no length, or `epochs` is `None`.
        steps_per_epoch: How many batches an epoch draws, where that is not `len(train_loader)`.

    Raises:
        ArgumentRefused: what is no curve, no group, or not one curve for each; *steps_per_epoch* where a step is an
            epoch; when a training starts: a hyperparameter
            or a group that the optimizer does not have, or a length that nobody knows.
        CallbackRefused: when a training starts: another callback writes the same hyperparameter of a group.

    Cost per batch: about a microsecond for each curve, two for a combined one; nothing is read from the device.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> from engine.schedules.curves import Cosine
        >>> model = torch.nn.Linear(2, 1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Schedule({"lr": Cosine(0.1, 0.0)})])
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 8, epochs=2)
        >>> sgd.param_groups[0]["lr"]
        0.0
    """

    order = -50

    def __init__(
        self,
        curves: Mapping[str, Curves],
        *,
        groups: int | Collection[int] | None = None,
        by: Literal["batch", "epoch"] = "batch",
        steps: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        self.curves = _checked(curves)
        if by not in ("batch", "epoch"):
            raise ArgumentRefused(f"by is {shown(by)}", allowed="'batch', 'epoch'", instead="leave it out for 'batch'")
        check_count("steps", steps, least=1, may_be_none=True)
        check_count("steps_per_epoch", steps_per_epoch, least=1, may_be_none=True)
        if by == "epoch" and steps_per_epoch is not None:
            raise ArgumentRefused(
                f"steps_per_epoch is {steps_per_epoch} and by is 'epoch'",
                allowed="one of them: by the epoch, a step is an epoch, whatever it draws",
                instead="leave steps_per_epoch out",
            )
        self.groups, self.by, self.steps, self.steps_per_epoch = group_numbers(groups), by, steps, steps_per_epoch
        # The curves, each with the places where it is written, in an optimizer of as many groups.
        self._lanes: list[tuple[Curve, list[Place]]] = []
        self._group_count = 0
        # How many steps the run in hand has, and the batches of an epoch (`None`: nobody says).
        self._steps = 0
        self._per_epoch: int | None = None
        self._begun = Counts()  # batches, over all parts of a training

    def writes(self, param_groups: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
        """What is written of which group: two callbacks that write the same are refused."""
        return [(place.group, place.name) for _, places in self._found(param_groups) for place in places]

    def on_train_begin(self, run: Run) -> None:
        """Find what to write, and how long the run is."""
        if run.optimizer is None:
            raise OptimizerRefused(
                "Schedule was given to an engine without an optimizer",
                allowed="an engine with an optimizer, whose hyperparameters are written",
                instead="write Engine(model, loss_fn, optimizer, ...), or leave Schedule out",
            )
        self._aim(run.optimizer.param_groups)
        self._per_epoch = self.steps_per_epoch or length(run.loader)
        self._steps = self._length(run)
        self._begun.begin(run.epoch)
        if run.epoch and self.by == "batch" and self._per_epoch is None and not self._begun.total:
            raise ArgumentRefused(
                f"the run starts in epoch {run.epoch}, and nobody knows how many batches were before: the train_loader "
                "has no length, and Schedule was not given its state",
                allowed="a loader with a length, or the state of the Schedule of the first part of the training",
                instead="call schedule.load_state_dict(...) with what schedule.state_dict() gave then",
            )

    def on_epoch_begin(self, run: Run) -> None:
        """Write the values of an epoch."""
        if self.by == "epoch":
            self._write(run, run.epoch)

    def on_batch_begin(self, run: Run) -> None:
        """Write the values of a batch."""
        if self.by == "batch":
            begun, per_epoch = self._begun.total, self._per_epoch
            self._write(run, begun if per_epoch is None else _place(run.epoch, run.batch_index, per_epoch))
            self._begun.note(run.epoch, begun + 1)

    def state_dict(self) -> dict[str, dict[int, int]]:
        """How many batches have begun, by epoch; looked at where the loader has no length."""
        return {"begun": self._begun.state_dict()}

    def load_state_dict(self, state: Mapping[str, Mapping[int, int]]) -> None:
        """Go on from there."""
        self._begun.load_state_dict(state["begun"])

    def values(self, epochs: int, batches: int) -> dict[str, list[float]]:
        """The value of each hyperparameter at each batch of a run of so many epochs that draw so many batches.

        Where each group has a curve of its own, one list is called "lr of group 0", another "lr of group 1".
        """
        return by_name(self._courses(epochs, batches))

    def preview(self, epochs: int, batches: int, path: str | PathLike[str] | None = None) -> "Figure":
        """A picture of those values, a `matplotlib.figure.Figure`; written to *path* too, if there is one.

        Raises:
            ArgumentRefused: *epochs* or *batches* is no whole number above 0.
            PicturesMissing: matplotlib is not installed.
        """
        return draw(self._courses(epochs, batches), epochs, batches, path)

    def _courses(self, epochs: int, batches: int) -> dict[str, dict[str, list[float]]]:
        """By hyperparameter, and by group where each has a curve of its own, a value for each batch."""
        check_count("epochs", epochs, least=1)
        check_count("batches", batches, least=1)
        per_epoch = 1 if self.by == "epoch" else self.steps_per_epoch or batches
        steps = self.steps or epochs * per_epoch
        places = [_place(epoch, batch, per_epoch) for epoch in range(epochs) for batch in range(batches)]
        at = [min(place, steps - 1) for place in places]
        return {
            name: {label: [curve.at(step, steps) for step in at] for label, curve in self._labelled(given)}
            for name, given in self.curves.items()
        }

    def _labelled(self, given: Curves) -> list[tuple[str, Curve]]:
        if isinstance(given, Curve):
            return [("", given)]
        numbers = range(len(given)) if self.groups is None else self.groups
        return [(f"group {number}", curve) for number, curve in zip(numbers, given, strict=True)]

    def _length(self, run: Run) -> int:
        """How many steps the run has."""
        if self.steps is not None:
            return self.steps
        per_epoch = 1 if self.by == "epoch" else self._per_epoch
        if run.epochs is None or per_epoch is None:
            why = "epochs is None" if run.epochs is None else "the train_loader has no length"
            raise ArgumentRefused(
                f"Schedule does not know how long the run is: {why}",
                allowed="a number of epochs and a train_loader with a length; or the number of steps",
                instead=f"write Schedule(..., steps=...), counted in {'batches' if self.by == 'batch' else 'epochs'}",
            )
        return run.epochs * per_epoch

    def _aim(self, groups: Sequence[dict[str, Any]]) -> None:
        """Find the places anew: an optimizer may get a further group while a run goes on."""
        self._lanes = self._found(groups)
        check_shared("Schedule", groups, {place: curve for curve, places in self._lanes for place in places})
        self._group_count = len(groups)

    def _found(self, groups: Sequence[dict[str, Any]]) -> list[tuple[Curve, list[Place]]]:
        """Each curve with its places."""
        numbers = range(len(groups)) if self.groups is None else self.groups
        lanes: list[tuple[Curve, list[Place]]] = []
        for name, given in self.curves.items():
            if isinstance(given, Curve):
                lanes.append((given, [find("Schedule", groups, number, name) for number in numbers]))
                continue
            if len(given) != len(numbers):
                raise _one_each(name, len(given), len(numbers))
            pairs = zip(given, numbers, strict=True)
            lanes += [(curve, [find("Schedule", groups, number, name)]) for curve, number in pairs]
        return lanes

    def _write(self, run: Run, step: int) -> None:
        assert run.optimizer is not None, "it was there when the run began"
        groups = run.optimizer.param_groups  # asked each time: loading a state makes new ones
        if len(groups) != self._group_count:
            self._aim(groups)
        steps = self._steps
        step = min(step, steps - 1)
        for curve, places in self._lanes:
            value = curve.at(step, steps)
            for place in places:
                place.write(groups, value)


def _place(epoch: int, batch: int, per_epoch: int) -> int:
    """The step of a batch; one that an epoch has too many is at the place of the last."""
    return epoch * per_epoch + min(batch, per_epoch - 1)


def _checked(curves: object) -> dict[str, Curve | tuple[Curve, ...]]:
    """Refuse what is no mapping of names and curves; lists are copied."""
    if not isinstance(curves, Mapping) or not curves or not all(isinstance(name, str) for name in curves):
        raise ArgumentRefused(
            f"Schedule was given {shown(curves)}, {typed(curves)}",
            allowed="a dict of names of hyperparameters, and curves",
            instead='write Schedule({"lr": Cosine(0.1, 0)})',
        )
    for given in curves.values():
        for curve in given if isinstance(given, list | tuple) else (given,):
            check_curve("Schedule", curve)
    return {name: tuple(given) if isinstance(given, list | tuple) else given for name, given in curves.items()}


def _one_each(name: str, curves: int, groups: int) -> ArgumentRefused:
    return ArgumentRefused(
        f"Schedule has {curves} curves for {name}, and writes {groups} groups of parameters",
        allowed="one curve for all of them, or a list with one for each",
        instead="give as many curves as there are groups, or say which groups=[...] they are for",
    )
