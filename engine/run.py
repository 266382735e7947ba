"""What changes while a model trains?  Everything mutable of one run, in one place."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from attrs import define, field
from torch import Tensor, device, nn, optim
from torch.amp import GradScaler

from engine.errors import ArgumentRefused, LoaderRefused
from engine.outcome import Outcome, Tally, Verdict
from engine.several import Optimizers
from states import Machine, Transition
from states.errors import shown
from states.names import OF_THE_EPOCH, name_of


if TYPE_CHECKING:
    from engine.measuring.meter import Meter

# How many of the last transitions a run remembers, for the note on an exception.
REMEMBERED = 8


@define(eq=False)
class Wish:
    """A stop that was asked for; one of the whole run stays here when granted, so that nobody can take it back."""

    reason: str | None = None
    # In which epoch, where a stop of the epoch was asked for: it is void in all others.
    epoch: int = -1


@define(eq=False, kw_only=True)
class Run:
    """Everything mutable of one run.  Callbacks, guards and actions get it as their only argument.

    Callbacks may read everything, and write what they mean to change: `inputs`, `targets`, `output`, `loss`, the
    model, the optimizer.  State and counters are written by the engine alone.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3, epochs=2)
        >>> run.epoch, run.batch_index, run.updates, run.batches_done, run.outcome.name
        (2, 3, 6, 6, 'COMPLETED')
    """

    machine: Machine
    model: nn.Module  # of several models an nn.ModuleDict: run.model["generator"]
    device: device
    loss_fn: Any = None  # (output, targets) -> scalar tensor
    optimizer: optim.Optimizer | Optimizers | None = None  # of several: run.optimizer["generator"]
    scaler: GradScaler | None = None  # with fp16: it scales the loss; a checkpoint keeps its state, too
    loader: Iterable[Any]
    valid_loader: Iterable[Any] | None = None

    # What was asked for: `epochs` is where `epoch` ends, `None` without end; `max_updates` optimizer steps are enough.
    epochs: int | None = 1
    max_updates: int | None = None

    # Everyone who hears or answers, in order, by the names that tables and messages give them.
    callbacks: Mapping[str, object] = field(factory=dict)
    # The run that holds this one (a validation), if any.
    parent: "Run | None" = None
    # What the run is doing now.  Written by the engine.
    state: Enum

    # Counters, moved where the machine's `counts` say, and nowhere else.  None is ever negative.
    epoch: int = 0  # epochs ended; while one is open, its number, from 0
    batch_index: int = 0  # batches ended since the loader was begun; while one is open, its number, from 0
    batches_done: int = 0  # training batches ended in the whole run, skipped ones too
    updates: int = 0  # optimizer steps taken
    window: int = 0  # batches whose gradients are summed and wait for a step
    overflows: int = 0  # windows that were dropped since their gradients were not finite (with fp16)

    # The batch in hand: written by FETCH, FORWARD and LOSS, replaced by the next batch, let go at the epoch's end.
    inputs: Any = None  # on the device; the whole batch if it is no pair
    targets: Any = None
    output: Any = None
    loss: Any = None  # the tensor that the loss function returned: scalar (), with its graph until the epoch's end

    # Numbers on the host.  `metrics` holds the latest of this epoch, `history` one record for each epoch that ended
    # without a stop: {"epoch": 0, "updates": 12, "train_loss": ..., "valid_loss": ...}.
    metrics: dict[str, float] = field(factory=dict)
    history: list[dict[str, float]] = field(factory=list)

    # How it ends.  `stopping` is true from a yes to `stop_training` on, or to a guard whose row ends the run for good.
    outcome: Outcome = Outcome.RUNNING
    stopping: bool = False
    # A held run writes its stops and skips into its parent's.
    stops: list[Verdict] = field(factory=list)
    tallies: list[Tally] = field(factory=list)
    errors: list[BaseException] = field(factory=list)
    # The ways that were taken last, newest last: rows that follow each other without a choice.  How far the newest one
    # was gone, the state tells.
    ways: deque[tuple[Transition, ...]] = field(factory=lambda: deque(maxlen=REMEMBERED))

    # Whether a batch must be a pair; not so where the user's own forward unpacks it.
    pairs_only: bool = True
    # Whether no other device computes: without an accelerator, nobody looks where a batch is.
    one_device: bool = False
    # Ours alone: the open iterator, the accumulated metrics, the modes to put back, the stops asked for,
    # and who has not heard the last end yet.
    iterator: Iterator[Any] | None = None
    left: "Iterator[Callable[[Run], object]] | None" = None
    meter: "Meter | None" = None
    modes: list[tuple[nn.Module, bool]] = field(factory=list)
    wish: Wish = field(factory=Wish)
    epoch_wish: Wish = field(factory=Wish)

    @property
    def around(self) -> "Iterator[Run]":
        """The runs that hold this one, innermost first: for a validation in a training, that training."""
        run = self.parent
        while run is not None:
            yield run
            run = run.parent

    @property
    def recent(self) -> tuple[Transition, ...]:
        """The last transitions that were taken, newest last; eight at most."""
        if not self.ways:
            return ()
        *before, newest = self.ways
        places = [newest[0].source, *(row.dest for row in newest)]
        here = [number for number, place in enumerate(places) if place is self.state]
        taken = newest[: here[-1]] if here else newest
        return tuple(deque((*chain.from_iterable(before), *taken), maxlen=REMEMBERED))

    @property
    def skips(self) -> tuple[Tally, ...]:
        """The guards that skipped something in this run: how often, by whom, and when last."""
        return tuple(tally for tally in self.tallies if tally.count)

    def stop(self, reason: str, *, scope: Literal["run", "epoch"] = "run") -> None:
        """Ask for a stop; the next stop guard grants it, and everything open ends in order.

        Args:
            reason: Why, in words; kept in `run.stops`.
            scope: `"run"` ends the whole run (from inside a validation too); `"epoch"` ends only the pass over the
                loader in hand: flush, validation and the next epoch go on.  Where the loader was left already, nothing
                is left to end.

        Raises:
            ArgumentRefused: an empty reason, an unknown scope, or `"epoch"` where no epoch is open to be stopped.

        Several may ask; the first reason is kept, and nobody can take a stop back.  A stop that is asked for when no
        guard is left to grant it (in the last `epoch_end`, say) comes too late: all was done, the run is COMPLETED.
        """
        if not isinstance(reason, str) or not reason:
            raise ArgumentRefused(
                f"run.stop was given the reason {shown(reason)}",
                allowed="a sentence",
                instead='say why: run.stop("the loss is not finite")',
            )
        if scope not in ("run", "epoch"):
            raise ArgumentRefused(
                f"run.stop was given the scope {shown(scope)}",
                allowed="'run', 'epoch'",
                instead="leave it out to stop the whole run",
            )
        if scope == "epoch" and not any(guard in self.machine.guards for guard in OF_THE_EPOCH):
            raise ArgumentRefused(
                f"run.stop was given the scope 'epoch' in a {self.machine.name}, which has no row for it",
                allowed="'run'",
                instead="leave it out to stop the whole run",
            )
        if scope == "epoch" and not self._passing:
            raise ArgumentRefused(
                f"run.stop was given the scope 'epoch' in {self.where}, where no epoch is open",
                allowed="'run'; 'epoch' from its begin to its end",
                instead="ask in epoch_begin or later",
            )
        if scope == "run":
            self.wish.reason = self.wish.reason or reason
        elif self.epoch_wish.reason is None or self.epoch_wish.epoch != self.epoch:
            self.epoch_wish.reason, self.epoch_wish.epoch = reason, self.epoch

    @property
    def _passing(self) -> bool:
        """Whether what `stop(scope="epoch")` would end is open: all the scopes of a state that asks for such a stop."""
        scopes = self.machine.proof.scopes
        asking = [scopes[row.source] for row in self.machine.rows if row.guard in OF_THE_EPOCH]
        return any(scopes.get(self.state, ())[: len(stack)] == stack for stack in asking)

    @property
    def where(self) -> str:
        """Where the run is, for messages: state and counters.

        Example: `forward (epoch 3, batch 17, update 1204)`.
        """
        return f"{name_of(self.state)} (epoch {self.epoch}, batch {self.batch_index}, update {self.updates})"

    def __repr__(self) -> str:
        """One line: the machine, where it is, how it ended."""
        return f"<Run of {self.machine.name}: {self.where}; {self.outcome.value}>"

    def _repr_html_(self) -> str:
        """In a notebook: where it is, its last transitions, its state on the diagram."""
        from engine.notebook import shown_as_html  # noqa: PLC0415  # it draws a run, so it comes behind this file

        return shown_as_html(self)


Do = Callable[[Run], Enum]  # what is done in a state; it returns the trigger that happened


def held_by(parent: Run, machine: Machine) -> Run:
    """A run of a machine that a state of another run's machine holds: on its validation loader, with its counters.

    Raises:
        LoaderRefused: there is no validation loader.
    """
    if parent.valid_loader is None:
        raise LoaderRefused(
            f"valid_loader is None, and {parent.machine.name} is in {parent.where}, which holds {machine.name}",
            allowed="a loader to validate on",
            instead="pass valid_loader=..., or let an action or a guard lead round this state where there is none",
        )
    return Run(
        machine=machine,
        model=parent.model,
        device=parent.device,
        loss_fn=parent.loss_fn,
        optimizer=parent.optimizer,
        scaler=parent.scaler,
        loader=parent.valid_loader,
        valid_loader=parent.valid_loader,
        state=machine.initial,
        parent=parent,
        callbacks=parent.callbacks,
        one_device=parent.one_device,
        pairs_only=parent.pairs_only,
        epochs=parent.epochs,
        epoch=parent.epoch,
        batch_index=parent.batch_index,
        batches_done=parent.batches_done,
        updates=parent.updates,
        window=parent.window,
        overflows=parent.overflows,
        stops=parent.stops,
        tallies=parent.tallies,
        history=parent.history,
        wish=parent.wish,
    )


def gradients(run: Run) -> Iterator[Tensor]:
    """The gradients that there are: of what the optimizer holds, or of the model where the engine has none."""
    parameters = run.model.parameters() if run.optimizer is None else held(run.optimizer)
    return (parameter.grad for parameter in parameters if parameter.grad is not None)


def held(optimizer: optim.Optimizer | Optimizers) -> list[Tensor]:
    """The parameters that an optimizer steps, group by group; of several, one that two of them step comes twice."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def release(run: Run) -> None:
    """Let go of the batch in hand and of its graph; the last loss stays, detached."""
    run.iterator = run.inputs = run.targets = run.output = None
    if isinstance(run.loss, Tensor):
        run.loss = run.loss.detach()
