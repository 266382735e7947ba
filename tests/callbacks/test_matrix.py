"""Do all callbacks go together?  Every pair trains; after success, an error and Ctrl-C nothing is left behind."""

import contextlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import engine.callbacks
from engine import Callback, Engine, Outcome, Run
from engine.errors import CallbackRefused
from engine.testing.left.leaks import left_behind
from engine.testing.left.stock import take_stock
from tests.callbacks.every import EVERY, engine_of, pictures, written


class Oops(Exception):
    """What goes wrong on purpose."""


def nothing(run: Run) -> None:
    """All goes well."""


def error(run: Run) -> None:
    raise Oops


def ctrl_c(run: Run) -> None:
    raise KeyboardInterrupt


# How a training ends: what happens in the third batch, what its caller gets, and how the run says that it went.
ENDINGS = {
    "success": (nothing, (), Outcome.COMPLETED),
    "error": (error, (Oops,), Outcome.FAILED),
    "Ctrl-C": (ctrl_c, (KeyboardInterrupt,), Outcome.INTERRUPTED),
}
# Where it happens: in the training, and in the validation of the first epoch.
PLACES = (("backward_end", 3), ("validate_loss_end", 1))


def trained(made: Engine, caught: tuple[Any, ...]) -> Run:
    """Two epochs, with validation."""
    with contextlib.suppress(*caught):
        made.fit(pictures(4), pictures(2, seed=2), epochs=2)
    assert made.last_run is not None
    return made.last_run


def validates(callback: object) -> bool:
    return not hasattr(callback, "skip_validate")


def test_every_callback_that_is_public_is_tested_here(tmp_path: Path) -> None:
    here = engine_of([*EVERY.values()], tmp_path)
    public = {
        name
        for name, thing in vars(engine.callbacks).items()
        if inspect.isclass(thing) and issubclass(thing, Callback) and not name.startswith("_")
    }
    assert public - {type(callback).__name__ for callback in here.callbacks} == set()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", EVERY)
def test_it_trains_with_each_other_and_nothing_is_left(name: str, ending: str, tmp_path: Path) -> None:
    does, caught, outcome = ENDINGS[ending]
    others = list(EVERY)[list(EVERY).index(name) + 1 :]
    for number, makes in enumerate([[EVERY[name]], *([EVERY[name], EVERY[other]] for other in others)]):
        made = engine_of(makes, tmp_path / str(number))
        event, once = PLACES[number % 2 and all(validates(callback) for callback in made.callbacks)]
        made.on(event, once=once, order=1000)(does)
        before, modes = take_stock(made), [module.training for module in made.model.modules()]
        if len(set(written(made))) < len(written(made)):
            with pytest.raises(CallbackRefused, match="both write"):
                made.fit(pictures(4))
            continue
        run = trained(made, caught)

        assert run.outcome is outcome, made.callbacks
        assert left_behind(before, take_stock(made)) == (), made.callbacks
        assert [module.training for module in made.model.modules()] == modes, made.callbacks
        assert all(parameter.requires_grad for parameter in made.model.parameters()), made.callbacks


def test_what_is_left_would_be_seen(tmp_path: Path) -> None:
    made = engine_of([], tmp_path)
    made.on("train_begin")(lambda run: run.model.register_forward_hook(lambda *_: None))
    before = take_stock(made)
    trained(made, ())
    assert [leak.what.split(" (")[0] for leak in left_behind(before, take_stock(made))] == [
        "left a forward hook on model"
    ]
