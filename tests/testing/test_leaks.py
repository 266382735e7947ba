"""Is everything found that a callback left behind, with its name, however the run ended, and nothing else?"""

import io
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR

from engine import Callback, Engine, Run
from engine.callbacks import Progress
from engine.testing.left.leaks import consumed, judge_leaks, left_behind, watch_modes
from engine.testing.left.stock import take_stock
from tests.engine.tools import answers, batches, hears, small_engine


Undo = Callable[[], object]


def quiet(*given: Any) -> None:
    """A hook that does nothing."""


class Leaves(Callback):
    """Does something when the training begins; a tidy one undoes it at its end."""

    def __init__(self, do: Callable[[Run], Undo], *, tidy: bool) -> None:
        self._do, self._tidy = do, tidy
        self._undo: Undo = quiet

    def on_train_begin(self, run: Run) -> None:
        self._undo = self._do(run)

    def on_train_end(self, run: Run) -> None:
        if self._tidy:
            self._undo()


def sets(owner: Any, name: str, value: object) -> Undo:
    """Put a value there; what undoes it puts the old one back, or none."""
    there, old = name in vars(owner), getattr(owner, name, None)
    setattr(owner, name, value)
    return lambda: setattr(owner, name, old) if there else delattr(owner, name)


def calls(setting: Callable[[Any], object], new: object, old: object) -> Callable[[Run], Undo]:
    """Change a setting that has a function."""

    def do(run: Run) -> Undo:
        setting(new)
        return lambda: setting(old)

    return do


def sets_part(model: Any, at: int, part: nn.Module) -> Undo:
    old, model[at] = model[at], part
    return lambda: model.__setitem__(at, old)


def opens(run: Run) -> Undo:
    file = Path(tempfile.gettempdir(), f"left-open-{os.getpid()}").open("w")  # noqa: SIM115  # it is the point
    KEPT.append(file.close)
    return file.close


def starts(run: Run) -> Undo:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, args=(10,), name="prefetcher", daemon=True)
    thread.start()
    KEPT.append(end.set)
    return lambda: (end.set(), thread.join())


def handles(run: Run) -> Undo:
    logger, handler = logging.getLogger("somebody"), logging.NullHandler()
    logger.addHandler(handler)
    return lambda: logger.removeHandler(handler)


def grows(run: Run) -> Undo:
    part = run.model[0]
    part.register_parameter("scale", nn.Parameter(torch.ones(1)))
    return lambda: part._parameters.pop("scale")


KEPT: list[Undo] = []
GRAD, NEW_DTYPE, OLD_DTYPE = torch.set_grad_enabled, torch.float64, torch.float32
# For each leak: what is done, and what is said of it.
LEAKS: dict[str, tuple[Callable[[Run], Undo], str]] = {
    "forward hook": (lambda r: r.model[0].register_forward_hook(quiet).remove, "a forward hook on model.0 ("),
    "forward pre-hook": (lambda r: r.model.register_forward_pre_hook(quiet).remove, "a forward pre-hook on model ("),
    "backward hook": (lambda r: r.model[1].register_full_backward_hook(quiet).remove, "a backward hook on model.1 ("),
    "state_dict hook": (lambda r: r.model.register_state_dict_post_hook(quiet).remove, "a state_dict hook on model ("),
    "gradient hook": (lambda r: r.model[0].bias.register_hook(quiet).remove, "a gradient hook on model.0.bias ("),
    "post-accumulate": (
        lambda r: r.model[0].bias.register_post_accumulate_grad_hook(quiet).remove,
        "a post-accumulate hook on model.0.bias (",
    ),
    "step hook": (lambda r: r.optimizer.register_step_post_hook(quiet).remove, "a step post-hook on optimizer ("),
    "every module": (
        lambda r: nn.modules.module.register_module_forward_hook(quiet).remove,
        "a forward hook on every module (tests.testing.test_leaks.quiet)",
    ),
    "forward replaced": (
        lambda r: sets(r.model[0], "forward", r.model[0].forward),
        "model.0.forward as torch.nn.modules.linear.Linear.forward; it was not there",
    ),
    "step replaced": (lambda r: sets(r.optimizer, "step", quiet), "optimizer.step as tests.testing.test_leaks.quiet; "),
    "part replaced": (
        lambda r: sets_part(r.model, 1, nn.Tanh()),
        "model.1 as a torch.nn.modules.activation.Tanh; it was a torch.nn.modules.activation.ReLU",
    ),
    "parameter added": (grows, "model.0.scale as "),
    "file": (opens, "open the file "),
    "thread": (starts, "the thread prefetcher running"),
    "handler": (handles, "a handler on the logger 'somebody' (a logging.NullHandler)"),
    "signal": (
        calls(partial(signal.signal, signal.SIGTERM), quiet, signal.getsignal(signal.SIGTERM)),
        "the handler of SIGTERM as tests.testing.test_leaks.quiet; it was ",
    ),
    "stdout": (lambda r: sets(sys, "stdout", io.StringIO()), "sys.stdout as a _io.StringIO; it was "),
    "excepthook": (
        lambda r: sets(sys, "excepthook", quiet),
        "sys.excepthook as tests.testing.test_leaks.quiet; it was",
    ),
    "showwarning": (lambda r: sets(warnings, "showwarning", quiet), "warnings.showwarning as "),
    "grad mode": (calls(GRAD, False, True), "torch.is_grad_enabled() as False; it was True"),
    "dtype": (calls(torch.set_default_dtype, NEW_DTYPE, OLD_DTYPE), "torch.get_default_dtype() as torch.float64; it"),
    "anomaly": (calls(torch.autograd.set_detect_anomaly, True, False), "torch.is_anomaly_enabled() as True; it was F"),
    "deterministic": (
        calls(torch.use_deterministic_algorithms, True, False),
        "torch.are_deterministic_algorithms_enabled() as True; it was False",
    ),
}


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """What a broken callback has opened or begun is ended; all else, the kit itself puts back."""
    yield
    while KEPT:
        KEPT.pop()()


def engine_of(*callbacks: object) -> Engine:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    return small_engine(*callbacks, model=model)


def fails(run: Run) -> None:
    msg = "as planned"
    raise RuntimeError(msg)


def interrupts(run: Run) -> None:
    raise KeyboardInterrupt


ENDS: dict[str, Callable[[], object]] = {
    "completed": lambda: hears("batch_end", lambda run: None),
    "stopped": lambda: answers("stop_training", lambda run: run.updates > 0),
    "failed": lambda: hears("forward_end", fails),
    "interrupted": lambda: hears("forward_end", interrupts),
}


def makes(*kinds: Callable[[], object]) -> Callable[[], tuple[Engine, Callable[[], object]]]:
    def make() -> tuple[Engine, Callable[[], object]]:
        engine = engine_of(*(kind() for kind in kinds))
        return engine, lambda: engine.fit(batches(2), batches(1), epochs=2)

    return make


# --- What is left -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LEAKS)
def test_what_is_left_is_found_with_its_name_and_of_a_tidy_twin_nothing_is(kind: str) -> None:
    do, told = LEAKS[kind]
    if kind == "file" and not Path("/proc/self/fd").exists():
        pytest.skip("this system does not list open files")
    assert judge_leaks(makes(lambda: Leaves(do, tidy=True))) == ()
    found = judge_leaks(makes(lambda: hears("epoch_end", quiet), lambda: Leaves(do, tidy=False)))
    assert found
    assert all((leak.who, leak.word, leak.epoch, leak.batch) == ("Leaves", "train_begin", 0, 0) for leak in found)
    assert any(leak.what.startswith(f"left {told}") for leak in found), found


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["forward hook", "thread", "grad mode"])
def test_however_the_run_ends(kind: str, end: str) -> None:
    do, told = LEAKS[kind]
    assert judge_leaks(makes(lambda: Leaves(do, tidy=True), ENDS[end])) == ()
    found = judge_leaks(makes(lambda: Leaves(do, tidy=False), ENDS[end]))
    assert any(leak.who == "Leaves" and leak.what.startswith(f"left {told}") for leak in found)


def test_a_leak_says_whose_it_is_where_it_is_and_what_to_do() -> None:
    class Probe(Callback):
        def on_batch_begin(self, run: Run) -> None:
            if run.updates == 1:
                run.model[2].register_forward_hook(quiet)

    (found,) = judge_leaks(makes(Probe))
    assert str(found) == (
        "Probe left a forward hook on model.2 (tests.testing.test_leaks.quiet), in batch_begin (epoch 0, batch 1)\n"
        "  instead:  keep the handle, and remove it in on_train_end, which always comes: handle.remove()"
    )


def test_without_a_second_run_the_leak_is_told_without_a_name() -> None:
    engine = engine_of(hears("train_begin", lambda run: setattr(run.model, "forward", run.model.forward)))
    before = take_stock(engine)
    engine.fit(batches(1))
    (found,) = left_behind(before, take_stock(engine))
    assert str(found).startswith("a run left model.forward as ")
    del engine.model.forward
    assert left_behind(before, take_stock(engine)) == ()


def test_what_is_frozen_or_thawed_for_good_is_no_leak() -> None:
    engine = engine_of(hears("train_begin", lambda run: run.model[0].bias.requires_grad_(False)))
    before = take_stock(engine)
    engine.fit(batches(1))
    assert left_behind(before, take_stock(engine)) == ()


def test_a_callback_that_registers_another_is_found() -> None:
    def make() -> tuple[Engine, Callable[[], object]]:
        engine = engine_of()
        engine.add(hears("train_begin", lambda run: engine.add(Progress())))
        return engine, lambda: engine.fit(batches(1))

    with pytest.warns(UserWarning, match="takes effect at the next run"):
        found = judge_leaks(make)
    assert [leak.what for leak in found] == ["left a callback on the engine (an engine.callbacks.progress.Progress)"]


def test_what_a_model_keeps_for_itself_is_not_a_callbacks() -> None:
    class Keeps(nn.Linear):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            self.last = given
            return super().forward(given)

    def make() -> tuple[Engine, Callable[[], object]]:
        engine = small_engine(hears("batch_end", quiet), model=Keeps(2, 1))
        return engine, lambda: engine.fit(batches(1))

    engine, go = make()
    before = take_stock(engine)
    go()
    assert left_behind(before, take_stock(engine)) == ()


def test_what_the_loader_or_the_model_leaves_is_not_a_callbacks() -> None:
    class Hooks(nn.Linear):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            self.register_forward_hook(quiet)
            return super().forward(given)

    def make() -> tuple[Engine, Callable[[], object]]:
        engine = small_engine(hears("batch_end", quiet), model=Hooks(2, 1))
        return engine, lambda: engine.fit(batches(1))

    assert judge_leaks(make) == ()


def test_the_counter_that_torchs_schedules_put_over_step_is_not_a_leak() -> None:
    class Schedules(Callback):
        def on_train_begin(self, run: Run) -> None:
            self.schedule = ConstantLR(run.optimizer)

        def on_epoch_end(self, run: Run) -> None:
            self.schedule.step()

    assert judge_leaks(makes(Schedules)) == ()


# --- What is drawn, and modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("torch", lambda run: torch.rand(1)),
        ("python", lambda run: random.random()),  # noqa: S311  # a die
        ("numpy", lambda run: np.random.rand()),  # noqa: NPY002  # the one that all share
    ],
)
def test_a_draw_is_found_unless_it_is_claimed_or_from_a_generator_of_its_own(
    name: str, draw: Callable[[Run], object]
) -> None:
    (found,) = judge_leaks(
        makes(
            lambda: hears("epoch_end", quiet),
            type("Draws", (Callback,), {"on_batch_end": staticmethod(draw)}),
        )
    )
    assert str(found).startswith(
        f"Draws drew random numbers of {name} without saying so, in batch_end (epoch 0, batch 0)"
    )
    assert judge_leaks(makes(lambda: hears("batch_end", draw, uses_random=True))) == ()
    own = torch.Generator()
    assert judge_leaks(makes(lambda: hears("batch_end", lambda run: torch.rand(1, generator=own)))) == ()


def test_a_function_claims_its_draws_too() -> None:
    def draws(run: Run) -> None:
        torch.rand(1)

    for claim, number in ((False, 1), (True, 0)):
        draws.uses_random = claim
        engine = engine_of()
        engine.on("batch_end")(draws)
        found = consumed(engine)
        engine.fit(batches(3))
        assert len(found) == number


def test_what_the_model_and_the_loader_draw_is_not_a_callbacks() -> None:
    def make() -> tuple[Engine, Callable[[], object]]:
        engine = small_engine(hears("batch_end", quiet), Progress(), model=nn.Sequential(nn.Linear(2, 1), nn.Dropout()))
        loader = torch.utils.data.DataLoader(list(zip(torch.rand(4, 2), torch.rand(4, 1), strict=True)), shuffle=True)
        return engine, lambda: engine.fit(loader)

    assert judge_leaks(make) == ()


def test_a_model_left_in_evaluation_mode_is_found_though_the_engine_puts_it_back() -> None:
    class Samples(Callback):
        def __init__(self, tidy: bool = False) -> None:
            self.tidy = tidy

        def on_epoch_begin(self, run: Run) -> None:
            run.model.eval()
            if self.tidy:
                run.model.train()

    (found,) = judge_leaks(makes(Samples))
    assert str(found).startswith("Samples left the model in evaluation mode, in epoch_begin (epoch 0, batch 0)\n")
    assert judge_leaks(makes(lambda: Samples(tidy=True))) == ()


def test_a_frozen_part_is_no_other_mode_of_the_model() -> None:
    engine = engine_of(hears("epoch_begin", lambda run: run.model[0].eval()))
    found = watch_modes(engine)
    engine.fit(batches(1), epochs=2)
    assert found == []


# --- No false alarm ---------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("end", ENDS)
def test_our_own_callbacks_leave_nothing(end: str) -> None:
    assert judge_leaks(makes(lambda: Progress(stream=Terminal(), refresh_seconds=1e-9), Progress, ENDS[end])) == ()


@pytest.mark.parametrize("name", ["accumulation", "clipping", "distillation", "mid_epoch", "sam", "tbptt"])
def test_the_examples_callbacks_leave_nothing_and_claim_what_they_draw(name: str) -> None:
    def make() -> tuple[Engine, Callable[[], object]]:
        engine, given = import_module(f"examples.{name}").factory()
        return engine, lambda: engine.fit(**given)

    assert judge_leaks(make) == ()
