"""How does a trial leave no trace?  What it may change is kept before it, and put back behind it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from engine.actions import Action
from engine.keeping.generators import generators_state, set_generators
from engine.keeping.kept import Back, Kept
from engine.several import Optimizers


if TYPE_CHECKING:
    from engine.engine import Engine


def takes_part(callback: object) -> bool:
    """Whether a callback or function says that it takes part in trials."""
    return bool(getattr(callback, "in_trials", False))


@contextmanager
def undone(engine: "Engine", *loaders: object) -> Iterator[None]:
    """While this is open, anything may be trained with an engine's parts; behind it all is as before, bit for bit.

    Whatever ends it: success, an exception, Ctrl-C.  Put back are, each into the object that it was in:

    - of the model: parameters, buffers, `requires_grad`, gradients, modes, hooks, and what else its modules hold;
    - of the optimizers: state and groups, with the tensors in them; of the scaler of the loss, its scale;
    - of the loss function, the actions, and the callbacks with `in_trials`: attributes, what a function remembers from
      the function around it, and what a callback's `state_dict()` gives;
    - of the loaders: their attributes and those of their samplers, with the generators among these;
    - the random generators of Python, NumPy (if it is imported) and torch, on the CPU and on CUDA devices.

    Attributes that are tensors, random generators, modules, optimizers or functions are put back with what is in them,
    and so are lists, dicts, sets and tuples of these; other objects are put back, and not gone into.

    Not put back: what a data set or a worker process keeps to itself (its random numbers), a stream that was read,
    data that is written into, global variables, and files.

    Args:
        engine: Whose parts are trained with, by whomever.
        loaders: What is drawn from meanwhile.

    A Ctrl-C that comes while things are put back waits until that is done.

    Cost: one copy of the parameters, gradients and the optimizer's state, where they lie, until it is over.

    Raises:
        ExceptionGroup: a callback's `load_state_dict` failed; all the rest is put back.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> before = model.weight.clone()
        >>> with undone(engine):
        ...     run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))])
        ...     moved = not torch.equal(model.weight, before)
        >>> moved, torch.equal(model.weight, before)
        (True, True)
    """
    kept = Kept()
    optimizers = engine.optimizer.values() if isinstance(engine.optimizer, Optimizers) else [engine.optimizer]
    actions = [action.do if isinstance(action, Action) else action for action in engine.actions.values()]
    for part in (engine.model, engine.loss_fn, *optimizers, engine.scaler, *actions):
        kept.open(part)
    for callback in filter(takes_part, engine.callbacks):
        kept.callback(callback)
    drawn = Kept(data=True)
    for loader in loaders:
        batches = getattr(loader, "batch_sampler", None)
        for part in (loader, getattr(loader, "sampler", None), batches, getattr(batches, "sampler", None)):
            drawn.open(part)
    dice: Back = partial(set_generators, generators_state())
    backs = [*kept.backs, *drawn.backs, dice]  # the dice last: nothing draws behind them
    try:
        yield
    finally:
        _put_back(backs)


def _put_back(backs: list[Back]) -> None:
    """Put everything back; who fails does not keep the others from it, and a Ctrl-C meanwhile comes behind it."""
    try:
        failed = [error for back in backs if (error := _tried(back)) is not None]
    except KeyboardInterrupt:
        _put_back(backs)  # from the start: what was put back already stays as it is
        raise
    if failed:
        raise ExceptionGroup("not all could be put back", failed)


def _tried(back: Back) -> Exception | None:
    try:
        back()
    except Exception as error:  # noqa: BLE001  # a callback's own; raised when the others are done
        return error
    return None
