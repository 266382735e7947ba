"""What can be known before the first batch?  The checks of what a run is given; each refuses, and changes nothing."""

from collections.abc import Collection, Iterable, Sized

from torch import nn, optim

from engine.errors import ArgumentRefused, LoaderRefused, OptimizerRefused


def check_length(epochs: object, max_updates: object, start_epoch: object) -> None:
    """Refuse epochs and updates that are no whole numbers, and a run without an end."""
    check_count("epochs", epochs, may_be_none=True)
    check_count("max_updates", max_updates, may_be_none=True)
    check_count("start_epoch", start_epoch)
    if epochs is None and max_updates is None:
        raise ArgumentRefused(
            "epochs is None and max_updates is None: the run would have no end",
            allowed="a number for one of them",
            instead="say epochs=3, or epochs=None with max_updates=1000",
        )


def check_count(name: str, value: object, *, least: int = 0, may_be_none: bool = False) -> None:
    """Refuse what is no whole number, *least* or more."""
    if value is None and may_be_none:
        return
    if type(value) is not int or value < least:
        raise ArgumentRefused(
            f"{name} is {value!r}, a {type(value).__name__}",
            allowed=f"a whole number, {least} or more",
            instead=f"say {name}=1",
        )


def check_askings(guard: str, yes: object) -> None:
    """Refuse askings of a guard that are not a list of whole numbers."""
    if isinstance(yes, str) or not isinstance(yes, Collection) or any(type(n) is not int or n < 0 for n in yes):
        raise ArgumentRefused(
            f"the askings at which {guard} says yes are {yes!r}",
            allowed="a list of whole numbers, from 0",
            instead=f"write answers={{{guard!r}: [0, 2]}} for its first and third asking",
        )


def check_loader(name: str, loader: object) -> None:
    """Refuse what cannot be iterated, and a loader that says that it is empty."""
    if not isinstance(loader, Iterable):
        raise LoaderRefused(
            f"{name} is {loader!r}, a {type(loader).__name__}",
            allowed="any iterable of batches",
            instead="pass a DataLoader, or a list of (inputs, targets)",
        )
    if length(loader) == 0:
        raise LoaderRefused(
            f"{name} is a {type(loader).__name__} of length 0",
            allowed="at least one batch",
            instead="check the data set, batch_size and drop_last",
        )


def length(loader: object) -> int | None:
    """How many batches a loader says it has; `None` if it does not say."""
    if not isinstance(loader, Sized):
        return None
    try:
        return len(loader)
    except TypeError:  # a DataLoader over a stream has __len__ and cannot answer it
        return None


def check_optimizer(model: nn.Module, optimizer: object) -> None:
    """Refuse an optimizer that is missing, is a class, or holds none of the model's parameters."""
    if not isinstance(optimizer, optim.Optimizer):
        raise _no_optimizer(optimizer)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(p) in held for p in model.parameters()):
        raise OptimizerRefused(
            f"{type(optimizer).__name__} holds none of the parameters of {type(model).__name__}",
            allowed="an optimizer of this model's parameters",
            instead="make it from model.parameters(), after the model has its final layers",
        )


def _no_optimizer(given: object) -> OptimizerRefused:
    return OptimizerRefused(
        f"the optimizer is {given!r}",
        allowed="an instance of torch.optim.Optimizer",
        instead="pass for example torch.optim.SGD(model.parameters(), lr=0.1)",
    )


def check_parts(model: object, loss_fn: object, optimizer: object) -> None:
    """Refuse a model that is no module, a loss that cannot be called, and what is no optimizer at all."""
    if optimizer is not None and not isinstance(optimizer, optim.Optimizer):
        raise _no_optimizer(optimizer)
    if not isinstance(model, nn.Module):
        raise ArgumentRefused(
            f"the model is {model!r}",
            allowed="an instance of torch.nn.Module",
            instead="pass the module itself, not its class",
        )
    if loss_fn is not None and (isinstance(loss_fn, type) or not callable(loss_fn)):
        raise ArgumentRefused(
            f"the loss function is {loss_fn!r}",
            allowed="a function (output, targets) -> scalar tensor",
            instead="pass torch.nn.functional.cross_entropy, or an instance such as torch.nn.MSELoss()",
        )
