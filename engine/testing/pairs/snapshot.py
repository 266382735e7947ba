"""What can be compared of a training?  Named fields, whose values are the same only where they are bit for bit."""

import random
import sys
from collections.abc import Iterator, Mapping
from inspect import isfunction, ismethod
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, optim

from engine.engine import Engine
from engine.listeners import Listener
from engine.run import Run
from engine.several import Optimizers
from engine.testing.pairs.values import MISSING, Difference, Value, difference, leaves, raw_bytes
from states.names import Counter, name_of


@frozen(eq=False)
class Snapshot:
    """The fields of a training at one moment, by name, in the order in which they are compared."""

    fields: Mapping[str, Value]


def snapshot(engine: Engine, run: Run | None = None, *, full: bool = True) -> Snapshot:
    """Keep what can be compared of a training.

    Hyperparameters, metrics, history, counters, stops and skips; if *full*, weights, buffers, gradients, the batch in
    hand, the optimizer's state, and where the random generators stand; and of each callback its `state_dict()`, or,
    where it has none, its public attributes; of a function what it took from the function around it.  What is neither a
    number, a text, a tensor nor a list, dict or set of these is compared by its type.  Who said yes to a stop or a skip
    is left out: of two who would have, the first is asked.  So is the engine's recorder: it keeps the time, and else
    what is compared here.

    Args:
        engine: The engine.
        run: The run that is looked at; by default the one that began last.
        full: Without, large tensors are left out, and what a callback rarely changes.

    Example:
        >>> import torch
        >>> def trained(lr):
        ...     model = torch.nn.Linear(1, 1)
        ...     engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=lr))
        ...     engine.fit([(torch.ones(2, 1), torch.zeros(2, 1))])
        ...     return snapshot(engine)
        >>> print(first_difference(trained(0.05), trained(0.1)))
        optimizer.param_groups[0]['lr'] is 0.05 in one and 0.1 in the other
    """
    run = engine.last_run if run is None else run
    fields: dict[str, Value] = {}
    for name, value in _fields(engine, run, full=full):
        fields.update(leaves(name, value, full=full))
    return Snapshot(fields)


def differences(one: Snapshot, other: Snapshot) -> Iterator[Difference]:
    """Each field that differs, in order; of a tensor, its first number that does."""
    for name, value in one.fields.items():
        if (against := other.fields.get(name, MISSING)) != value:
            yield difference(name, value, against)
    for name, value in other.fields.items():
        if name not in one.fields:
            yield difference(name, MISSING, value)


def first_difference(one: Snapshot, other: Snapshot) -> str | None:
    """The first field that differs, in words; `None` where all are the same."""
    return next(map(str, differences(one, other)), None)


def listeners_of(engine: Engine) -> list[Listener]:
    """Everyone who is registered with an engine, in that order: the very list."""
    return engine._registry.listeners  # noqa: SLF001  # names go with their callbacks only there


def own_of(engine: Engine) -> list[Listener]:
    """The engine's own, which were registered before all others: its metrics, and its recorder where it has one."""
    listeners = listeners_of(engine)
    return listeners[: 1 + any(listener.source is engine.recorder for listener in listeners)]


def dice() -> dict[str, int]:
    """Where the random generators stand: of torch on the CPU, of Python, and of NumPy where it is imported."""
    stand = {"torch": hash(raw_bytes(torch.get_rng_state())), "python": hash(random.getstate())}
    if (numpy := sys.modules.get("numpy")) is not None:
        _, keys, *rest = numpy.random.get_state(legacy=True)
        stand["numpy"] = hash((keys.tobytes(), *rest))
    return stand


def optimizers_of(engine: Engine) -> dict[str, optim.Optimizer]:
    """The optimizers of an engine, each under the expression that says which it is."""
    if isinstance(engine.optimizer, Optimizers):
        return {f"optimizer[{name!r}]": one for name, one in engine.optimizer.items()}
    return {} if engine.optimizer is None else {"optimizer": engine.optimizer}


def _fields(engine: Engine, run: Run | None, *, full: bool) -> Iterator[tuple[str, object]]:
    """What is compared, from what explains most to what explains least."""
    for name, optimizer in optimizers_of(engine).items():
        groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        yield f"{name}.param_groups", groups
    if run is not None:
        yield from (("run.metrics", run.metrics), ("run.history", run.history))
        yield from _trace(run)
    if full:
        yield from _tensors(engine, run)
    for listener in listeners_of(engine):
        if listener.source is not engine.recorder:
            yield from _belonging(listener)
    if full:
        yield from ((f"the random generator of {name}", hex(stand)) for name, stand in dice().items())


def _trace(run: Run) -> Iterator[tuple[str, object]]:
    yield from ((f"run.{name_of(counter)}", getattr(run, name_of(counter))) for counter in Counter)
    yield from (("run.state", run.state), ("run.stopping", run.stopping), ("run.outcome", run.outcome))
    stops = [f"{name_of(one.guard)} on {one.transition}, update {one.updates}" for one in run.stops]
    skips: dict[str, int] = {}
    for tally in run.skips:
        skips[name_of(tally.guard)] = skips.get(name_of(tally.guard), 0) + tally.count
    yield from (("run.stops", stops), ("run.skips", skips))


def _tensors(engine: Engine, run: Run | None) -> Iterator[tuple[str, object]]:
    if run is not None:
        yield from ((f"run.{name}", getattr(run, name)) for name in ("inputs", "targets", "output", "loss"))
    names: dict[Tensor, str] = {parameter: f"model.{name}" for name, parameter in engine.model.named_parameters()}
    for parameter, name in names.items():
        yield from ((name, parameter), (f"{name}.grad", parameter.grad))
        yield f"{name}.requires_grad", parameter.requires_grad
    yield from ((f"model.{name}", value) for name, value in engine.model.named_buffers())
    modes = ((f"model.{name}.training".replace("..", "."), part) for name, part in engine.model.named_modules())
    yield from ((name, part.training) for name, part in modes)
    for name, optimizer in optimizers_of(engine).items():
        yield from (
            (f"{name}.state[{names.get(parameter, 'another')!r}]", state)
            for parameter, state in optimizer.state.items()
        )


def _belonging(listener: Listener) -> Iterator[tuple[str, object]]:
    """What a callback remembers."""
    source = listener.source.__self__ if ismethod(listener.source) else listener.source
    if isfunction(source):
        cells = zip(source.__code__.co_freevars, source.__closure__ or (), strict=True)
        yield from ((f"{listener.name}: {name}", _content(cell)) for name, cell in cells)
    elif callable(state_dict := getattr(source, "state_dict", None)):
        yield f"{listener.name}.state_dict()", state_dict()
    else:
        slots = (name for kind in type(source).__mro__ for name in getattr(kind, "__slots__", ()))
        for name in (*getattr(source, "__dict__", ()), *slots):
            if not name.startswith("_") and hasattr(source, name):
                yield f"{listener.name}.{name}", getattr(source, name)


def _content(cell: Any) -> object:  # noqa: ANN401  # types.CellType says nothing of what is in it
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
