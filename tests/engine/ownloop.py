"""How is one training written in each way?  By `fit`, step by step, with the run's own loops, by bare reports."""

from collections.abc import Callable

from engine import Engine, OpenRun, Run, State, Trigger
from states.walk import Plan
from tests.engine.recording import batches
from tests.engine.tools import batches as small_batches


def loaders(plan: Plan) -> tuple[list, list | None]:
    return batches(plan.batches), None if plan.valid_batches is None else batches(plan.valid_batches)


def fitted(engine: Engine, plan: Plan) -> Run:
    train, valid = loaders(plan)
    return engine.fit(train, valid, plan.epochs, max_updates=plan.max_updates)


def advanced(engine: Engine, plan: Plan) -> Run:
    train, valid = loaders(plan)
    run = engine.start(train, valid, plan.epochs, max_updates=plan.max_updates)
    while run.advance() is not None:
        pass
    return run


def looped(engine: Engine, plan: Plan) -> Run:
    train, valid = loaders(plan)
    elsewhere = valid if engine.machine.holds.keys() - {State.VALIDATE} else None  # other states that hold a machine
    with engine.start(None, elsewhere, plan.epochs, max_updates=plan.max_updates) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(train):
                batch(engine, run, inputs, targets)
            if valid is not None:
                run.validate(valid)
    return run


def reported(engine: Engine, plan: Plan) -> Run:
    train, valid = loaders(plan)
    run = engine.start(None, valid, plan.epochs, max_updates=plan.max_updates)
    run.advance()
    while not run.ended:
        if spent(run) or run.epoch >= run.epochs:
            run.report(Trigger.EPOCHS_SPENT)
        elif run.report(Trigger.EPOCH_DUE) is State.EPOCH:
            epoch(engine, run, train)
    return run


def epoch(engine: Engine, run: OpenRun, train: list) -> None:
    """The batches of an epoch and its end, reported one by one."""
    waiting = iter(train)
    while run.state is State.EPOCH:
        if spent(run):
            run.report(Trigger.UPDATES_SPENT)
        elif (drawn := next(waiting, None)) is None:
            run.report(Trigger.LOADER_DRY)
        elif run.report(Trigger.BATCH_READY, inputs=drawn[0], targets=drawn[1]) in (State.BATCH, State.FORWARD):
            batch(engine, run, *drawn)
    if run.state is State.CLOSE:
        run.report(Trigger.NO_VALIDATION if run.valid_loader is None else Trigger.VALIDATION_DUE)


def batch(engine: Engine, run: OpenRun, inputs: object, targets: object) -> None:
    """What a plain script does with a batch, and what it says of it."""
    output = engine.model(inputs)
    if run.report(Trigger.OUTPUT_READY, output=output) is not State.LOSS:
        return  # it was stopped in a state in between
    loss = engine.loss_fn(output, targets)
    if run.report(Trigger.LOSS_READY, loss=loss) is not State.BACKWARD:
        return
    loss.backward()
    if run.report(Trigger.GRADS_READY) is State.STEP:
        engine.optimizer.step()
        run.report(Trigger.WEIGHTS_MOVED)


def trained(engine: Engine, run: OpenRun) -> None:
    """One whole epoch of three batches, for a model of `small_engine`."""
    for inputs, targets in run.each_batch(small_batches(3)):
        batch(engine, run, inputs, targets)


def spent(run: Run) -> bool:
    return run.max_updates is not None and run.updates >= run.max_updates


WAYS: dict[str, Callable[[Engine, Plan], Run]] = {"advanced": advanced, "looped": looped, "reported": reported}
