"""What do people hold in their hands?  The engine: a model, what trains it, and everyone who listens."""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from enum import Enum
from functools import partial
from os import PathLike
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from attrs import define, evolve, field, setters
from torch import Tensor, nn, optim
from torch.amp import GradScaler

from engine.batches import NoLoader
from engine.callbacks.recorder import Recorder
from engine.check import (
    check_askings,
    check_closures,
    check_count,
    check_length,
    check_loader,
    check_optimizer,
    check_parts,
)
from engine.dryrun import DryRun, rehearse
from engine.errors import ArgumentRefused, EngineBusy
from engine.faster.captured import check_capture
from engine.faster.compiled import Compiled
from engine.faster.cuda import Cuda
from engine.faster.prefetch import Prefetch, check_prefetch
from engine.faster.suggest import suggestions
from engine.keeping.checkpoints import Parts, restore
from engine.keeping.undone import takes_part
from engine.listeners import (
    Answer,
    Filter,
    Hear,
    Listener,
    answering,
    hearing,
    listen,
    who_answers,
    who_hears,
)
from engine.measuring.measured import check_monitored
from engine.measuring.meter import MetricFunction, MetricObject
from engine.measuring.metrics import Metrics, Records
from engine.measuring.outputs import Outputs, joined
from engine.ownloop.openrun import OpenRun
from engine.ownloop.reports import PLAIN
from engine.precision import Precision, check_backward, check_capturing, check_scaled, precision_of
from engine.run import Run
from engine.running.fitting import (
    Given,
    check_actions,
    check_forward,
    check_loss,
    check_max_updates,
    check_mine,
    check_mine_closure,
    check_validation,
    steps,
    uses_optimizer,
)
from engine.running.loop import source
from engine.running.prepare import Kit, Preparation
from engine.running.registry import Registry
from engine.running.turns import Turns
from engine.running.writers import check_writers
from engine.several import Optimizers, as_model, as_optimizer
from engine.summary import Summary, summarise
from engine.timings import Timings
from engine.vocabulary import Vocabulary
from states import EVALUATION, PREDICTION, TRAINING, Machine, Proof, State, diagram, prove, scaled
from states.errors import shown
from states.walk import Plan, Reporting, script


if TYPE_CHECKING:
    from engine.outcome import Tally
    from engine.searching.found import LRFound

Loader = Iterable[Any]
LossFunction = Callable[[Any, Any], Tensor]
HearFunction = TypeVar("HearFunction", bound=Hear)
AnswerFunction = TypeVar("AnswerFunction", bound=Answer)
AnyRun = TypeVar("AnyRun", bound=Run)


def _read_only(given: object) -> object:
    """A mapping that nobody changes afterwards; what is no mapping is refused later, with words."""
    return MappingProxyType(dict(given)) if isinstance(given, Mapping) else given


@define(eq=False, repr=False)
class Engine:
    """Train, evaluate and predict with a model, as a table says.

    Args:
        model: Any module, or several by name (then say what FORWARD is); moved to *device* if one is given.
        loss_fn: `(output, targets) -> scalar tensor`, for example `torch.nn.functional.cross_entropy`.
        optimizer: One that holds the model's parameters, or several by name, stepped in the order given; not needed to
            evaluate and predict.
        callbacks: Objects that hear events and answer guards; see `Callback`.
        machine: The table that `fit` runs.
        device: Where batches are moved to; by default where the model's first parameter is.
        metrics: By name, functions `(output, targets) -> scalar tensor` (a mean over the batch) or `torchmetrics`
            metrics; computed for training and validation, read on the host once per pass.  `None` measures nothing, not
            even the mean loss, which costs a copy of one number per batch.
        recorder: Keeps the loss of each batch, what moves in the optimizer, and a record of each epoch, for plots and
            tables; see `Recorder`.  `None` keeps nothing.
        actions: By state, what to do instead of the engine's own action: a function of the run that returns one of
            the same triggers, or an `Action` that declares its own; `output_from` and `loss_from` make one in a line.
        checked: Let pytransitions decide where each report leads; slower, the same trace.
        compile: Let `torch.compile` compile forward and loss, once for this engine; see "Faster than the plain loop" in
            the README for this one and the next two.
        capture: Replay each training step, forward to zero_grad, as one CUDA graph; nobody may hear or answer in there.
        prefetch: Copy each batch to the CUDA device while the one before is worked on.
        precision: `"bf16"` or `"fp16"`: forward and loss, yours too, run under `torch.autocast`.  With fp16 the machine
            is `states.scaled(machine)`, and a `torch.amp.GradScaler`, this one if one is given, scales the loss where
            its gradients are computed; callbacks see `run.loss` as it is, but scaled gradients in `backward_end`.
            Gradients that overflow are dropped: that is heard as `overflow`, and counted in `run.overflows`.

    Raises:
        ArgumentRefused, CallbackRefused: something that could not work; nothing was changed.
        MachineRefused: an action may report a trigger that no row takes, or the reverse.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))], epochs=3)
        >>> print(run.outcome.value)
        everything that was asked for was done
    """

    model: nn.Module = field(converter=as_model)
    loss_fn: LossFunction | None = None
    optimizer: optim.Optimizer | Optimizers | None = field(default=None, converter=as_optimizer)
    _given: Sequence[object] = field(default=(), alias="callbacks")
    # What was checked together when the engine was made stays as it is: another machine is another engine.
    machine: Machine = field(default=TRAINING, kw_only=True, on_setattr=setters.frozen)
    device: torch.device | str | None = field(default=None, kw_only=True)
    metrics: Mapping[str, MetricFunction | MetricObject] | None = field(
        factory=dict, kw_only=True, converter=_read_only, on_setattr=setters.frozen
    )
    recorder: Recorder | None = field(factory=Recorder, kw_only=True, on_setattr=setters.frozen)
    actions: Given = field(factory=dict, kw_only=True, converter=_read_only, on_setattr=setters.frozen)
    checked: bool = field(default=False, kw_only=True)
    compile: bool = field(default=False, kw_only=True)
    capture: bool = field(default=False, kw_only=True)
    prefetch: bool = field(default=False, kw_only=True)
    precision: Literal["bf16", "fp16"] | GradScaler | None = field(
        default=None, kw_only=True, on_setattr=setters.frozen
    )

    # What is compiled, and what captures and copies; tests put a stand-in in its place.
    _compiled: Compiled = field(init=False, factory=Compiled)
    _cuda: Cuda = field(init=False, factory=Cuda)
    _precision: Precision | None = field(init=False)
    # Everyone who hears or answers.
    _registry: Registry = field(init=False)
    # The runs that go on now.
    _turns: Turns = field(init=False, factory=Turns)
    # What times the runs that are prepared now, while `timed` is open.
    _timings: Timings | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Refuse what could not work, then register the callbacks."""
        check_parts(self.model, self.loss_fn, self.optimizer)
        if not isinstance(self.machine, Machine):
            raise ArgumentRefused(
                f"the machine is {shown(self.machine)}", allowed="a states.Machine", instead="leave it out for TRAINING"
            )
        device = self._device_now() if self.device is None else torch.device(self.device)
        self._precision = precision_of(self.precision, device)
        if self.scaler is not None:
            object.__setattr__(self, "machine", scaled(self.machine))  # the one that runs
            check_backward(self.machine, self.actions)
        self._check_machines()
        self._registry = Registry(Vocabulary.of(self.machine))
        if self.recorder is not None and not isinstance(self.recorder, Recorder):
            raise ArgumentRefused(
                f"the recorder is {shown(self.recorder)}",
                allowed="a Recorder; None to keep nothing",
                instead="leave it out; callbacks=[...] takes all other callbacks",
            )
        if isinstance(self._given, str) or not isinstance(self._given, Iterable):
            raise ArgumentRefused(
                f"callbacks is {shown(self._given)}", allowed="a list of callbacks", instead="write callbacks=[...]"
            )
        given = tuple(self._given)
        if any(isinstance(callback, Recorder) for callback in given):
            raise ArgumentRefused(
                "there is a Recorder among the callbacks, beside the one that is engine.recorder",
                allowed="all other callbacks",
                instead="pass recorder=Recorder(...); engine.add takes a second one",
            )
        own = (Records() if self.metrics is None else Metrics(self.metrics), self.recorder)
        for callback in (*filter(None, own), *given):
            self._registry.add(self._registry.listening(callback))
        if self.device is not None:
            self.model.to(self.device)

    def fit(
        self,
        train_loader: Loader,
        valid_loader: Loader | None = None,
        epochs: int | None = 1,
        *,
        max_updates: int | None = None,
        start_epoch: int = 0,
    ) -> Run:
        """Train; return the run, with its history, counters and outcome.

        Args:
            train_loader: Any iterable of batches, but a tensor; `(inputs, targets)` unless forward was replaced.
            valid_loader: Another one, evaluated at the end of each epoch.
            epochs: Where `run.epoch` ends; `None` goes on until *max_updates*.
            max_updates: The run is complete after this many optimizer steps.
            start_epoch: Where `run.epoch` starts; not beyond *epochs*, or nothing would be trained.

        Raises:
            Refused: something that can be known before the first batch is refused there, and nothing is changed;
                later faults raise before the optimizer moves in that batch.
            Exception: whatever an action, a callback, a guard or a loader raises, unchanged, with a note that names
                the state and the last transitions.  `engine.last_run` is the failed run.
        """
        self._turns.refuse_second("fit was called")
        check_loader("train_loader", train_loader)
        check_length(epochs, max_updates, start_epoch)
        if valid_loader is not None:
            check_loader("valid_loader", valid_loader)
        check_validation(self.machine, self.actions, who_answers(self._registry.arranged()), valid_loader)
        self._check_training(max_updates, computes=True, validates=valid_loader is not None)
        if not self.actions:
            check_monitored(self._registry.arranged(), self.metrics, validates=valid_loader is not None)
        if self.capture:
            check_capturing(self._precision)
            self._cuda.check(self._device_now(), "capture")
            check_capture(self.machine, self.actions, self._registry.arranged(), self.model, self.optimizer)
        run = self._run(Run, self.machine, train_loader)
        run.valid_loader, run.epochs, run.max_updates, run.epoch = valid_loader, epochs, max_updates, start_epoch
        return self._go(run, trains=True)

    def start(
        self,
        train_loader: Loader | None = None,
        valid_loader: Loader | None = None,
        epochs: int | None = 1,
        *,
        max_updates: int | None = None,
        start_epoch: int = 0,
        mine: Collection[Enum] = PLAIN,
    ) -> OpenRun:
        """Begin a training that goes on when you say so: one transition at a time, or in a loop of your own.

        `run.advance()` lets the engine do what is due and take one transition.  In a loop of your own,
        `run.each_epoch`, `run.each_batch` and `run.report` tell the run what your code has done.  Both may be mixed.
        `with engine.start(...) as run:` ends the run in order, whatever happens; without it, `run.close()` does.

        Args:
            train_loader: As in `fit`; not needed where `run.each_batch(loader)` is given one.
            valid_loader: As in `fit`; evaluated where an epoch ends and `run.validate` was not called.
            epochs: As in `fit`; `None` without *max_updates* is a run that goes on until you leave it.
            max_updates: As in `fit`.
            start_epoch: As in `fit`.
            mine: The states whose work your code does and reports; the engine does that of all others.  By default
                those of a plain script: forward, loss, backward, step, and what its loops stand for.  `advance` does
                not look at it.  With `precision`, your code opens autocast itself; with fp16 it leaves backward to the
                engine, or does what unscales as well.

        Returns:
            The run.  Nothing has happened yet: it begins with the first transition.

        Raises:
            Refused: as in `fit`, and for `capture=True`, which replays what would be a transition at a time.

        Example:
            >>> import torch
            >>> from states import Event
            >>> model = torch.nn.Linear(2, 1)
            >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
            >>> with engine.start([(torch.ones(4, 2), torch.zeros(4, 1))] * 2) as run:
            ...     for transition in run:
            ...         if Event.BATCH_END in transition.events:
            ...             print(run.where)
            epoch (epoch 0, batch 1, update 1)
            epoch (epoch 0, batch 2, update 2)
        """
        check_length(epochs, max_updates, start_epoch, endless=True)
        for name, loader in (("train_loader", train_loader), ("valid_loader", valid_loader)):
            if loader is not None:
                check_loader(name, loader)
        self._check_training(max_updates, computes=train_loader is not None, validates=valid_loader is not None)
        check_mine(self.machine, mine)
        check_mine_closure(self.optimizer, mine)
        if self.capture:
            raise ArgumentRefused(
                "engine.start was called on an engine with capture=True",
                allowed="engine.fit, where a whole step is replayed at once",
                instead="make an Engine without capture for a run that is taken forward one transition at a time",
            )
        make = self._opening(() if valid_loader is None else self.machine.within, mine)
        run = self._run(make, self.machine, NoLoader() if train_loader is None else train_loader)
        run.pairs_only = train_loader is not None and run.pairs_only  # a loop of one's own takes a batch as it is
        run.valid_loader, run.epochs, run.max_updates, run.epoch = valid_loader, epochs, max_updates, start_epoch
        self._turns.started.add(run)
        return run

    def evaluate(self, loader: Loader) -> Run:
        """Compute loss and metrics over a loader; return the run, with `run.metrics`.

        The model is in evaluation mode and no gradient is recorded; each module's own mode is put back.  Callbacks
        are not asked `stop_training` here: what has stopped a training must not stop the test after it.  What runs is
        the machine that VALIDATE holds, or another that a state holds, if it computes losses and no gradients; if there
        is none, EVALUATION.

        Example:
            >>> import torch
            >>> engine = Engine(torch.nn.Identity(), torch.nn.MSELoss())
            >>> engine.evaluate([(torch.ones(4, 1), torch.zeros(4, 1))]).metrics
            {'valid_loss': 1.0}
        """
        check_loader("loader", loader)
        machine = self._evaluation
        check_forward((machine,), self.model, self.actions)
        check_loss((machine,), self.loss_fn, self.actions)
        run = self._run(Run, machine, loader)
        run.valid_loader = loader  # for what it may hold
        return self._go(run)

    def predict(self, loader: Loader) -> Any:  # noqa: ANN401  # whatever the model gives
        """Give the model's outputs for all batches, put together along the first dimension, on the model's device.

        A batch may be inputs alone or a pair whose targets are ignored.

        Example:
            >>> import torch
            >>> Engine(torch.nn.Identity()).predict([torch.zeros(2, 3), torch.zeros(1, 3)]).shape
            torch.Size([3, 3])
        """
        check_loader("loader", loader)
        check_forward((PREDICTION,), self.model, self.actions)
        outputs = Outputs()
        self._go(self._run(Run, PREDICTION, loader), outputs)
        return joined(outputs.kept) if outputs.kept else []

    def load(self, path: str | PathLike[str]) -> int:
        """Take over what the callback `Checkpoint` has written; return how many epochs had ended.

        Model, optimizer and callbacks (by name) get their states, and the random generators of Python, NumPy and torch
        stand where they stood, so that a training goes on as if it had never been interrupted:
        `engine.fit(loader, epochs=10, start_epoch=engine.load("runs/1/last.pt"))`.  All that has a state has to be
        there as it was.  No code from the file is run, and its checksums are compared.

        Raises:
            ArgumentRefused: a damaged file, another optimizer, a callback with a state too many or too few, by name.
            RuntimeError, ValueError: torch's, for weights or parameters that do not fit.
            OSError: the file cannot be opened.
            EngineBusy: a run goes on.

        Whatever is raised, nothing is changed.

        Example:
            >>> import tempfile
            >>> from engine.callbacks import Checkpoint
            >>> def made(folder):
            ...     model = torch.nn.Linear(2, 1)
            ...     sgd = torch.optim.SGD(model.parameters(), lr=0.1)
            ...     return Engine(model, torch.nn.MSELoss(), sgd, callbacks=[Checkpoint(folder)])
            >>> batches = [(torch.ones(4, 2), torch.zeros(4, 1))]
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     run = made(folder).fit(batches, epochs=1)
            ...     engine = made(folder)
            ...     run = engine.fit(batches, epochs=2, start_epoch=engine.load(f"{folder}/last.pt"))
            >>> [record["epoch"] for record in engine.recorder.epochs]
            [0, 1]
        """
        self._turns.refuse_second("load was called")
        callbacks = {listener.name: listener.source for listener in self._registry.arranged()}
        return restore(path, Parts(self.model, self.optimizer, callbacks, self.scaler))

    def dry_run(
        self,
        epochs: int | None = 1,
        batches: int = 2,
        valid_batches: int | None = None,
        *,
        max_updates: int | None = None,
        answers: Mapping[str, Sequence[int]] | None = None,
        reports: Reporting | None = None,
    ) -> DryRun:
        """List which callbacks would run and which guards would be asked; no tensor is touched, nobody is called.

        Args:
            epochs: How many epochs to walk.
            batches: How many batches the training loader is imagined to hold.
            valid_batches: How many the validation loader holds; `None` is no validation loader.
            max_updates: As in `fit`.
            answers: For a guard, by name, at which of its askings (from 0) it says yes: `{"skip_step": [0, 2]}`.
                All others are no.
            reports: For states that can report several triggers: which one, given the counters; one of your own must be
                among them.  `{State.UNSCALE: lambda counters: Trigger.OVERFLOWED}` shows the way of an overflow.

        Raises:
            PlanRefused: a number that no loader could have.
            ArgumentRefused: an unknown guard, or askings that are no whole numbers; *max_updates* as in `fit`.
        """
        for guard, yes in (answers or {}).items():
            self._registry.vocabulary.guard(guard)
            check_askings(guard, yes)
        check_max_updates(self.machine, self.actions, max_updates)
        plan = Plan(
            epochs=epochs,
            batches=batches,
            valid_batches=valid_batches,
            max_updates=max_updates,
            reports=reports or {},
        )
        listed = rehearse(self.machine, plan, self._registry.arranged(), script(answers or {}))
        return evolve(listed, suggestions=self.suggestions())

    def suggestions(self) -> tuple[str, ...]:
        """What would be faster with this optimizer, a sentence each; a dry run ends with them.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 1)
            >>> print(*Engine(model, torch.nn.MSELoss(), torch.optim.Adam(model.parameters())).suggestions())
            Adam has a fused step on cpu: Adam(..., fused=True) is faster. It is not switched on for you: ...
        """
        return suggestions(self.optimizer)

    def lr_find(
        self,
        train_loader: Loader,
        *,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_it: int = 100,
        stop_at: float | None = 4.0,
        groups: int | Collection[int] | None = None,
    ) -> "LRFound":
        """Search a learning rate: train a little with each of many, small to large, and undo it all.

        Returns the losses over the rates, with four suggestions.  No learning rate is changed: which one to take is
        for you to say.  `print(found)` compares them, `found.plot()` draws them; look at the picture.

        However it ends (all tried, an error, Ctrl-C), model, optimizer, random generators and callbacks are as before,
        bit for bit, so a training behind it is what it would have been without; `engine.keeping.undone` says what is
        not put back.  Of callbacks and functions, only those take part that have `in_trials = True`; nothing is
        validated.

        Args:
            train_loader: As in `fit`, but not an iterator, which could not be put back; begun anew if it is shorter, in
                the same epoch.
            start_lr: The rate of the first batch, above 0.
            end_lr: The rate of the last batch; the factor from each to the next is the same.
            num_it: How many rates, one a batch.
            stop_at: The search is over when the smoothed loss is so many times its best, or a loss is not finite;
                `None` waits for that alone.
            groups: The number of the optimizer's group that is searched, or several; `None` for all.  They keep the
                ratios of their rates; the largest goes from *start_lr* to *end_lr*.

        Raises:
            EngineBusy: the engine is in a run.
            Refused: as in `fit`, and numbers of which no search can be made.
            Exception: whatever is raised in the search, unchanged.

        Cost: that of so many batches, whose losses are read on the host one by one, and of one copy of model,
        gradients and optimizer's state, which is held meanwhile.

        Example:
            >>> import torch
            >>> inputs = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
            >>> model = torch.nn.Linear(8, 1, bias=False)
            >>> model.weight = torch.nn.Parameter(torch.zeros(1, 8))
            >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
            >>> found = Engine(model, torch.nn.MSELoss(), sgd).lr_find([(inputs, inputs.sum(1, keepdim=True))])
            >>> print(found)
            98 of 100 learning rates, from 1.00e-07 to 6.89e+00: the smoothed loss was more than 4 times its best
              valley    9.11e-04  in the middle of the longest fall of the loss
              slide     5.46e-02  before the loss begins to slide up
              minimum   2.72e-01  a tenth of the rate with the lowest loss
              steep     1.15e-01  where the loss falls fastest
            >>> for group in sgd.param_groups:
            ...     group["lr"] = found.valley
        """
        from engine.callbacks.lr_finder import LRFinder  # noqa: PLC0415  # as below
        from engine.searching.lr_find import search  # noqa: PLC0415  # it comes behind the callbacks, and those behind this file

        self._turns.refuse_second("lr_find was called")
        finder = LRFinder(start_lr=start_lr, end_lr=end_lr, num_it=num_it, stop_at=stop_at, groups=groups)
        return search(self, train_loader, finder)

    def on(
        self, event: str, *, every: int = 1, once: int | None = None, order: int = 0
    ) -> Callable[[HearFunction], HearFunction]:
        """Let a plain function hear an event.

        Args:
            event: The event's name, without `on_`.
            every: Only each n-th hearing, counted from the start of the run.
            once: Only the n-th hearing.
            order: As for callbacks.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 1)
            >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
            >>> @engine.on("epoch_end", every=2)
            ... def report(run):
            ...     print(f"epoch {run.epoch} ended")
            >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))], epochs=4)
            epoch 1 ended
            epoch 3 ended
        """
        word = self._registry.vocabulary.event(event)
        check_count("every", every, least=1)
        check_count("once", once, least=1, may_be_none=True)
        if once is not None and every != 1:
            raise ArgumentRefused(f"every is {every} and once is {once}", allowed="one of them", instead="drop one")

        def register(function: HearFunction) -> HearFunction:
            self._add(hearing(function, word, Filter(every, once), order, self._registry.names))
            return function

        return register

    def guard(self, name: str, *, order: int = 0) -> Callable[[AnswerFunction], AnswerFunction]:
        """Let a plain function answer a guard: `function(run) -> bool`.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 1)
            >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
            >>> @engine.guard("accumulate")
            ... def four_at_a_time(run):
            ...     return (run.batch_index + 1) % 4 != 0
            >>> engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 10).updates
            3
        """
        word = self._registry.vocabulary.guard(name)

        def register(function: AnswerFunction) -> AnswerFunction:
            self._add(answering(function, word, order, self._registry.names))
            return function

        return register

    def add(self, callback: object) -> None:
        """Register a callback; while a run goes on, for the next one."""
        self._add(self._registry.listening(callback))

    def remove(self, callback: object) -> None:
        """Forget a callback or function; while a run goes on, from the next one on."""
        self._registry.remove(callback)
        self._warn_if_active("removed", level=3)

    @property
    def callbacks(self) -> tuple[object, ...]:
        """Everyone who hears or answers, in the order in which they are called."""
        return tuple(listener.source for listener in self._registry.arranged())

    def __repr__(self) -> str:
        """One line: the model, the machine, who listens."""
        return f"<Engine of {type(self.model).__name__}: {self.machine.name}; {', '.join(self._registry.names)}>"

    @property
    def scaler(self) -> GradScaler | None:
        """What scales the loss, with fp16; callbacks find it in `run.scaler`."""
        return None if self._precision is None else self._precision.scaler

    @property
    def last_run(self) -> Run | None:
        """The run that began last, also if it failed."""
        return self._turns.last

    def prove(self) -> Proof:
        """Prove the machine together with what the actions declare."""
        return self._prove(self.machine)

    def source(self, machine: Machine | None = None) -> str:
        """The loop that runs: plain Python made from the table, with the callbacks that listen and answer in it.

        Args:
            machine: The machine whose loop is meant; by default the one that `fit` runs.  One that it holds is shown as
                it runs in there.  With `checked=True` this is the loop that would run without.

        Raises:
            NotNested: the ways of the machine cannot be written as nested loops; its table is followed instead.

        Example:
            >>> import torch
            >>> from engine import Engine
            >>> from states import PREDICTION
            >>> print(Engine(torch.nn.Identity()).source(PREDICTION))  # doctest: +ELLIPSIS
            def prediction(run):
                remember, wish, epoch_wish = run.ways.append, run.wish, run.epoch_wish
                idle(run)
                remember(way_0)
                run.state = PREDICT  # idle prediction_asked -> predict: predict_begin
                run.batch_index = 0
                while True:
            ...
        """
        machine = self.machine if machine is None else machine
        trains = machine in (self.machine, *self.machine.within)
        ready = Preparation(evolve(self._kit, checked=False), self._registry.arranged(), [], trains=trains)
        return source(ready.linked(machine)).text

    def diagram(
        self,
        format: str | None = None,  # noqa: A002  # as in states
        path: str | PathLike[str] | None = None,
        *,
        machine: Machine | None = None,
    ) -> str | bytes:
        """Draw a machine with the callbacks that are called on its arrows; see `states.diagram`.

        Args:
            format: "mermaid", "dot", "svg" or "png"; by default as *path* ends, "mermaid" without one.
            path: Where the picture is written as well; its folders are made.
            machine: Which machine: by default the one that `fit` runs; `EVALUATION` for what a validation hears.
        """
        listeners = self._registry.arranged()
        drawn = self.machine if machine is None else machine
        return diagram(drawn, format, path, hears=who_hears(listeners), answers=who_answers(listeners))

    @contextmanager
    def timed(self, *, synchronize: bool = False) -> Iterator[Timings]:
        """Find out where the time goes: each action and each call of a callback, in the runs that begin in here.

        Args:
            synchronize: Wait for the device of the run behind each call.  Without it the times are the host's: a CUDA
                device is given its work, which is counted where somebody waits for it, mostly where a number is read.

        Raises:
            EngineBusy: it is open already.

        Cost: less than half a microsecond for each call that is timed; nothing for runs that begin outside.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 1)
            >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
            >>> with engine.timed() as timings:
            ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 5)
            >>> timings.states["training", "forward"].calls, timings.callbacks["Metrics", "loss_end"].calls
            (5, 5)
            >>> print(timings)
            machine ... state ... calls  seconds  µs a call   share
            training ...
        """
        if self._timings is not None:
            raise EngineBusy(
                "engine.timed() was called while it is open already",
                allowed="one at a time for each engine",
                instead="leave the other with block first",
            )
        self._timings = timings = Timings(synchronize)
        try:
            yield timings
        finally:
            self._timings = None
            timings.close()

    def summary(self) -> Summary:
        """Say what this engine is made of: layers and parameters, optimizers, who listens; nothing is computed.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 1)
            >>> summary = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1)).summary()
            >>> summary.parameters, summary.trainable, summary.optimizers[0].groups[0].settings["lr"]
            (3, 3, 0.1)
            >>> print(summary)
            Linear: 3 parameters, all trainable; 0 numbers in buffers; 12 bytes, float32
            training on cpu
            ...
        """
        vocabulary = self._registry.vocabulary
        switches = [name for name in ("checked", "compile", "capture", "prefetch") if getattr(self, name)]
        if self._precision is not None:
            switches.append(self._precision.name)
        return summarise(
            self.model,
            self.optimizer,
            self._registry.arranged(),
            [*vocabulary.events.values(), *vocabulary.guards.values()],
            device=self._device_now(),
            machine=self.machine.name,
            switches=tuple(switches),
        )

    def _trial(self, callback: object) -> "Engine":
        """A second engine with the same parts, on which *callback* listens, and who takes part in trials.

        It has a `last_run` and a history of its own.  What is compiled is compiled once for both.
        """
        precision = self.precision if self.scaler is None else self.scaler  # the very one: its scale is found already
        # Without a device: the model stays where it is.
        trial = evolve(self, callbacks=(), metrics=None, recorder=None, precision=precision, device=None)
        # Of its own kind, and the same engine to these.
        trial._compiled, trial._cuda, trial._timings = self._compiled, self._cuda, self._timings  # noqa: SLF001
        for listener in self._registry.listeners:  # with their filters and names
            if takes_part(listener.source):
                trial._registry.add(listener)  # noqa: SLF001  # as above
        trial.add(callback)
        return trial

    def _add(self, listener: Listener) -> None:
        self._registry.add(listener)
        self._warn_if_active("added", level=4)

    def _warn_if_active(self, done: str, level: int) -> None:
        if self._turns.runs or any(not run.ended for run in self._turns.started):
            text = f"a callback was {done} while a run goes on: it takes effect at the next run"
            warnings.warn(text, stacklevel=level)

    def _check_machines(self) -> None:
        mine = (self.machine, *self.machine.within)
        check_actions(self.actions, (*mine, EVALUATION, PREDICTION))
        for machine in mine:
            self._prove(machine)

    def _prove(self, machine: Machine) -> Proof:
        return prove(machine, self._kit.reports(machine))

    @property
    def _evaluation(self) -> Machine:
        holds = self.machine.holds
        held = (holds[state] for state in sorted(holds, key=lambda state: state is not State.VALIDATE))
        return next((m for m in held if State.LOSS in m.states and not m.gradients), EVALUATION)

    @property
    def _kit(self) -> Kit:
        wanted = ((self.compile, self._compiled), (self.prefetch, Prefetch(self._cuda)))
        faster, capture = [does for want, does in wanted if want], self._cuda if self.capture else None
        kit = Kit(self.machine, self.actions, self.optimizer, self.checked, faster, capture)
        return evolve(kit, precision=self._precision, timings=self._timings)

    def _device_now(self) -> torch.device:
        parameter = next(self.model.parameters(), None)
        return torch.device(self.device or "cpu") if parameter is None else parameter.device

    def _check_training(self, max_updates: int | None, *, computes: bool, validates: bool) -> None:
        """Refuse a training without what its actions need; where *computes*, the engine's own compute the loss."""
        check_max_updates(self.machine, self.actions, max_updates)
        held = self.machine.within if validates else ()
        computing, machines = (self.machine, *held) if computes else held, (self.machine, *held)
        check_forward(computing, self.model, self.actions)
        check_loss(computing, self.loss_fn, self.actions)
        if uses_optimizer(machines, self.actions):
            check_optimizer(self.model, self.optimizer)
        stepping = steps(machines, self.actions)
        if self.scaler is not None:
            check_scaled(self.optimizer, self._registry.arranged(), steps=stepping)
        if stepping:
            check_closures(self.optimizer)
        if self.optimizer is not None:
            check_writers(self._registry.arranged(), self.optimizer.param_groups)

    def _run(self, make: Callable[..., AnyRun], machine: Machine, loader: Loader) -> AnyRun:
        device = self._device_now()
        if self.prefetch:
            check_prefetch(self.actions, device, self._cuda)
        return make(
            machine=machine,
            model=self.model,
            device=device,
            one_device=device.type == "cpu" and not torch.accelerator.is_available(),
            loss_fn=self.loss_fn,
            optimizer=self.optimizer,
            scaler=self.scaler,
            loader=loader,
            state=machine.initial,
            pairs_only=State.FORWARD not in self.actions and machine is not PREDICTION,
            callbacks={listener.name: listener.source for listener in self._registry.arranged()},
        )

    def _go(self, run: Run, *more: object, trains: bool = False) -> Run:
        """Run a machine from its initial state to the end."""
        ready = self._prepared(run, *more, trains=trains)
        with self._turns.taken(run), self._compiled.watched() if self.compile else nullcontext():
            ready.drive(run)
        return run

    def _prepared(self, run: Run, *more: object, trains: bool = False) -> Preparation:
        """All that a run needs; what fails in here has not begun."""
        extra = [listen(callback, self._registry.vocabulary, ()) for callback in more]
        ready = Preparation(self._kit, self._registry.arranged(*extra), run.tallies, trains=trains)
        for machine in (run.machine, *(() if run.valid_loader is None else run.machine.within)):
            ready.prepared(machine)
        return ready

    def _opening(self, held: Iterable[Machine], mine: Collection[Enum]) -> Callable[..., OpenRun]:
        """What makes a run that is taken forward from outside; what fails in here has not begun."""
        tallies: list[Tally] = []
        ready = Preparation(self._kit, self._registry.arranged(), tallies, trains=True)
        linked = ready.opened(self.machine, mine)
        for machine in held:
            ready.prepared(machine)
        return partial(
            OpenRun,
            linked=linked,
            here=linked.start,
            turns=self._turns,
            opening=self._turns.taken,
            tally=ready.asker.tally,
            tallies=tallies,
            given=self.actions,
        )
