"""What can be known before the first batch?  The checks of what a run is given; each refuses, and changes nothing."""

from collections.abc import Collection, Iterable, Sized
from math import isfinite
from numbers import Integral, Rational, Real
from typing import Any, TypeGuard

from torch import Tensor, nn, optim

from engine.closure import needs_closure
from engine.errors import ArgumentRefused, LoaderRefused, OptimizerRefused
from engine.run import held
from engine.several import Optimizers
from states.errors import shown, typed


# A number that is offered instead of what was given is not longer than people write them.
MANY = 10**9


def check_length(epochs: int | None, max_updates: object, start_epoch: int, *, endless: bool = False) -> None:
    """Refuse what are no whole numbers, a run that is over already, and one without an end (it may be *endless*)."""
    check_count("epochs", epochs, may_be_none=True)
    check_count("max_updates", max_updates, may_be_none=True)
    check_count("start_epoch", start_epoch)
    if epochs is None and max_updates is None and not endless:
        raise ArgumentRefused(
            "epochs is None and max_updates is None: the run would have no end",
            allowed="a number for one of them",
            instead="say epochs=3, or epochs=None with max_updates=1000",
        )
    if epochs is not None and start_epoch > epochs:
        more = max(epochs, 1)
        raise ArgumentRefused(
            f"start_epoch is {start_epoch} and epochs is {epochs}: nothing would be trained",
            allowed="epochs that are start_epoch or more: they are counted from 0, over all parts of a training",
            instead=f"say epochs={start_epoch + more} to train {more} more",
        )


def check_count(name: str, value: object, *, least: int = 0, may_be_none: bool = False) -> None:
    """Refuse what is no whole number, *least* or more."""
    if value is None and may_be_none:
        return
    if type(value) is not int or value < least:
        raise ArgumentRefused(
            f"{name} is {shown(value)}, {typed(value)}",
            allowed=f"a whole number, {least} or more",
            instead=f"say {name}={max(_meant(value), least)}",
        )


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a finite number that torch can compute with; `True` is none, and no fraction."""
    fraction = isinstance(value, Rational) and not isinstance(value, Integral)
    if isinstance(value, bool) or fraction or not isinstance(value, Real):
        return False
    try:
        return isfinite(value)
    except OverflowError:  # a whole number that is larger than any float
        return False


def _meant(value: Any) -> int:  # noqa: ANN401  # it may be anything
    """The number that is written as 2.0, as "3", or as one of numpy's; 1 for all others."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's
        return 1
    return int(number) if number.is_integer() and 0 < number < MANY else 1


def check_askings(guard: str, yes: object) -> None:
    """Refuse askings of a guard that are not a list of whole numbers."""
    if isinstance(yes, str) or not isinstance(yes, Collection) or any(type(n) is not int or n < 0 for n in yes):
        raise ArgumentRefused(
            f"the askings at which {guard} says yes are {shown(yes)}",
            allowed="a list of whole numbers, from 0",
            instead=f"write answers={{{guard!r}: [0, 2]}} for its first and third asking",
        )


def check_loader(name: str, loader: object) -> None:
    """Refuse what cannot be iterated, and a loader that says that it is empty."""
    if not isinstance(loader, Iterable):
        raise LoaderRefused(
            f"{name} is {shown(loader)}, {typed(loader)}",
            allowed="any iterable of batches",
            instead=_iterable(name, loader),
        )
    if isinstance(loader, Tensor):
        raise LoaderRefused(
            f"{name} is a tensor of shape {tuple(loader.shape)}: its rows would be taken for batches",
            allowed="any iterable of batches",
            instead="pass tensor.split(32), or [tensor] for one batch; a list of pairs to train and evaluate",
        )
    if length(loader) == 0:
        raise LoaderRefused(
            f"{name} is {typed(loader)} of length 0",
            allowed="at least one batch",
            instead="check the data set, batch_size and drop_last",
        )


def _iterable(name: str, loader: object) -> str:
    """What to pass instead of a loader that cannot be iterated."""
    if name == "valid_loader" and type(loader) is int:
        return f"write epochs={loader}: the second argument is the loader for the validation"
    if hasattr(type(loader), "__getitem__"):
        return "it gives samples, not batches: pass torch.utils.data.DataLoader(dataset, batch_size=32)"
    return "pass a DataLoader, or a list of (inputs, targets)"


def length(loader: object) -> int | None:
    """How many batches a loader says it has; `None` if it does not say."""
    if not isinstance(loader, Sized):
        return None
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # a DataLoader over a stream has __len__ and cannot answer it
        return None


def check_optimizer(model: nn.Module, optimizer: object) -> None:
    """Refuse an optimizer that is missing, is a class, or holds none of the model's parameters; so each of several."""
    if isinstance(optimizer, Optimizers):
        for name, one in optimizer.items():
            _check_held(model, one, f"the optimizer {name!r}, {typed(one)},")
    elif isinstance(optimizer, optim.Optimizer):
        _check_held(model, optimizer, type(optimizer).__name__)
    else:
        raise _no_optimizer(optimizer)


def _check_held(model: nn.Module, optimizer: optim.Optimizer, who: str) -> None:
    stepped = set(map(id, held(optimizer)))
    if not any(id(p) in stepped for p in model.parameters()):
        raise OptimizerRefused(
            f"{who} holds none of the parameters of {type(model).__name__}",
            allowed="an optimizer of this model's parameters",
            instead="make it from model.parameters(), after the model has its final layers",
        )


def check_closures(optimizer: object) -> None:
    """Refuse several optimizers to be stepped one after the other, if one of them evaluates the loss anew."""
    several = optimizer if isinstance(optimizer, Optimizers) else {}
    for name, one in several.items():
        if needs_closure(one):
            raise OptimizerRefused(
                f"the optimizer {name!r}, {typed(one)}, evaluates the loss anew, and is one of {len(several)}",
                allowed="several optimizers that need no closure, or this one alone: optimizer=...",
                instead=f"step them in actions of your own for State.STEP and State.FLUSH, this one by "
                f"run.optimizer[{name!r}].step(closure)",
            )


def _no_optimizer(given: object) -> OptimizerRefused:
    return OptimizerRefused(
        f"the optimizer is {shown(given)}",
        allowed="an instance of torch.optim.Optimizer, or several in a dict, by name",
        instead="pass for example torch.optim.SGD(model.parameters(), lr=0.1)",
    )


def check_parts(model: object, loss_fn: object, optimizer: object) -> None:
    """Refuse a model that is no module, a loss that cannot be called, and what is no optimizer at all."""
    if isinstance(loss_fn, optim.Optimizer):
        raise _swapped(loss_fn, optimizer)
    if optimizer is not None and not isinstance(optimizer, optim.Optimizer | Optimizers):
        raise _no_optimizer(optimizer)
    if not isinstance(model, nn.Module):
        raise ArgumentRefused(
            f"the model is {shown(model)}",
            allowed="an instance of torch.nn.Module, or several in a dict, by name",
            instead="pass the module itself, not its class",
        )
    if loss_fn is not None and (isinstance(loss_fn, type) or not callable(loss_fn)):
        raise ArgumentRefused(
            f"the loss function is {shown(loss_fn)}",
            allowed="a function (output, targets) -> scalar tensor",
            instead="pass torch.nn.functional.cross_entropy, or an instance such as torch.nn.MSELoss()",
        )


def _swapped(optimizer: optim.Optimizer, other: object) -> ArgumentRefused:
    """The error for an optimizer in the place of the loss function."""
    what = f"the loss function is an optimizer, {type(optimizer).__name__}"
    if callable(other):
        what = f"{what}, and the optimizer is {shown(other)}: they are swapped"
    return ArgumentRefused(
        what,
        allowed="a function (output, targets) -> scalar tensor, then the optimizer",
        instead="write Engine(model, loss_fn, optimizer)",
    )
