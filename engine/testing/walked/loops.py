"""Does a loop of the user's own leave what `fit` leaves?  The same plan, the same answers, and the two compared."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import frozen
from hypothesis import given, settings

from engine.engine import Engine
from engine.errors import ArgumentRefused
from engine.testing.pairs.values import difference as first_number
from engine.testing.pairs.values import leaves
from engine.testing.runs.cases import worded
from engine.testing.runs.described import Script
from engine.testing.runs.quiet import quiet
from engine.testing.runs.subject import Factory, Subject
from engine.testing.strategies import PHASES, check_bound, plans, scripts
from engine.testing.walked.player import Line, Player, before, counters_of, first_difference, told
from engine.testing.walked.reference import Differs
from states.errors import shown
from states.names import name_of
from states.walk import Plan


# A training in the user's own way: the engine, the two loaders (None: no validation), how many epochs.
Loop = Callable[[Engine, list[Any], list[Any] | None, int], object]


@frozen
class Left:
    """What a training leaves behind: what was heard and asked, how it ended, the weights, what it raised."""

    lines: list[Line]
    ended: dict[str, str]
    weights: dict[str, torch.Tensor]
    raised: BaseException | None


def check_loop(factory: Factory, loop: Loop, *, weights: bool = True, max_examples: int | None = None) -> None:
    """Train by a loop of your own and by `fit`, under random plans and answers; what they leave must be the same.

    Compared are what callbacks hear and are asked, state and counters each time; how it ends: counters, outcome, stops,
    skips; and the weights, bit for bit.

    Args:
        factory: Gives an `Engine` and a dict of `fit`'s arguments, with a `train_loader`; called anew for each run.
        loop: `loop(engine, train_loader, valid_loader, epochs)` trains; `valid_loader` may be None.
        weights: Whether the weights must be the same; say no for a loop that computes otherwise.
        max_examples: How many cases are tried; by default as many as Hypothesis's profile says.

    Raises:
        Differs: with the smallest plan and the fewest answers that show it, and the first difference.
        ArgumentRefused: the factory gives no engine with its loader, or the loop cannot be called.

    Example:
        >>> from torch import nn, optim, ones, zeros
        >>> def factory():
        ...     model = nn.Linear(2, 1)
        ...     engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
        ...     return engine, {"train_loader": [(ones(4, 2), zeros(4, 1))]}
        >>> def step_by_step(engine, train_loader, valid_loader, epochs):
        ...     run = engine.start(train_loader, valid_loader, epochs)
        ...     while run.advance() is not None: ...
        >>> check_loop(factory, step_by_step, max_examples=20)
    """
    subject = Subject(factory)
    if not callable(loop):
        raise ArgumentRefused(
            f"the loop is {shown(loop)}",
            allowed="a function loop(engine, train_loader, valid_loader, epochs)",
            instead="pass the function itself",
        )
    examples = settings().max_examples if max_examples is None else max_examples
    check_bound("max_examples", examples, 1)
    valid = None if subject.valid is None else 2
    drawn = plans(max_epochs=2, max_batches=4, max_valid_batches=valid, max_updates=None)

    def compared(plan: Plan, script: Script, *, heard: bool = True) -> None:
        fitted, looped = (_left(subject, plan, script, way, heard=heard) for way in (_fit, loop))
        if difference := _difference(fitted, looped, weights=weights):
            case = f"  plan:        {worded(plan)}\n  answers:     {script}\n"
            raise Differs(f"the loop does not leave what engine.fit leaves\n{case}{difference}") from looped.raised

    for plan, script in _simple(subject):
        compared(plan, script)
        if not script.yes:
            compared(plan, script, heard=False)  # where nobody listens, a report goes a shorter way

    # Without a database: it tells tests apart by their source, and all loops have this one.
    @settings(max_examples=examples, deadline=None, database=None, phases=PHASES, report_multiple_bugs=False)
    @given(drawn, scripts(subject.machine, max_askings=6))
    def leaves_what_fit_leaves(plan: Plan, script: Script) -> None:
        compared(plan, script)

    leaves_what_fit_leaves()


def _simple(subject: Subject) -> Iterator[tuple[Plan, Script]]:
    """The smallest trainings, the smallest first; nobody says yes, or one guard does once."""
    valid = None if subject.valid is None else 1
    plans = [Plan(epochs=0, batches=1), Plan(epochs=1, batches=1), Plan(epochs=1, batches=2)]
    plans += [Plan(epochs=1, batches=1, valid_batches=valid), Plan(epochs=2, batches=2, valid_batches=valid)]
    guards = {name_of(guard) for one in (subject.machine, *subject.machine.within) for guard in one.guards}
    for plan in dict.fromkeys(plans):
        yield plan, Script({})
        yield from ((plan, Script({guard: [0]})) for guard in sorted(guards))


def _fit(engine: Engine, train_loader: list[Any], valid_loader: list[Any] | None, epochs: int) -> object:
    return engine.fit(train_loader, valid_loader, epochs)


def _left(subject: Subject, plan: Plan, script: Script, loop: Loop, *, heard: bool) -> Left:
    """Train once, on an engine of its own; who hears and answers all is there only where it is to be *heard*."""
    player, raised = Player(), None
    with quiet():
        engine, arguments = subject.make()
        if heard:
            engine.add(player.listener(engine.machine, script.yes.keys()))
            player.plays(script)
        given = subject.planned(plan, arguments)
        try:
            loop(engine, given["train_loader"], given["valid_loader"], plan.epochs or 0)
        except Exception as error:  # noqa: BLE001  # whatever a loop, or a callback in it, may raise
            raised = error
    return Left(player.log.lines, _ended(engine), engine.model.state_dict(), raised)


def _ended(engine: Engine) -> dict[str, str]:
    """How the last run of an engine has ended, in words."""
    if (run := engine.last_run) is None:
        return {"outcome": "no run was begun"}
    counters = {name_of(counter): str(value) for counter, value in counters_of(run).items()}
    listed = {"stops": "; ".join(map(str, run.stops)), "skips": "; ".join(map(str, run.skips))}
    return {"outcome": run.outcome.value, "state": name_of(run.state), **counters, **listed}


def _difference(fitted: Left, looped: Left, *, weights: bool) -> str:
    """The first difference, in words; empty if there is none."""
    if type(fitted.raised) is not type(looped.raised):
        return f"{_row(_raised(fitted), _raised(looped))}\n{looped.raised or fitted.raised}"
    if (at := first_difference(fitted.lines, looped.lines)) is not None:
        happened = _row(told(fitted.lines, at), told(looped.lines, at))
        return f"{happened}\n  before it:  {before(looped.lines, at)}"
    for name, value in fitted.ended.items():
        if value != (other := looped.ended.get(name, "")):
            return _row(f"{name}: {value or 'none'}", f"{name}: {other or 'none'}")
    for name, weight in fitted.weights.items() if weights else ():
        both = (weight, looped.weights[name])
        mine, yours = (value for tensor in both for _, value in leaves(name, tensor, full=True))
        if mine != yours:
            found = first_number(name, mine, yours)
            return _row(f"{found.field} is {found.one}", f"{found.field} is {found.other}")
    return ""


def _raised(left: Left) -> str:
    return "raised nothing" if left.raised is None else f"raised {type(left.raised).__name__}, as below"


def _row(fitted: str, looped: str) -> str:
    return f"  engine.fit:  {fitted}\n  the loop:    {looped}"
