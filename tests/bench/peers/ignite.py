"""How does Ignite train it?  The step is the user's, in an `Engine`; events are fired where the user fires them.

Not equal: nothing in `tiny`, where the step is the plain loop's.  In `calls` the four events inside the step are custom
ones, fired by hand, which is how Ignite's documentation has it.  In `digits` its own metrics average loss and accuracy;
both passes pay for them.
"""

import ignite.engine
import torch
from ignite.engine import EventEnum, Events
from ignite.metrics import Accuracy, Loss

from tests.bench.workloads import EVENTS, Job, Trained


DISTRIBUTION = "pytorch-ignite"
HEARS = EVENTS
NOTE = "the user writes the step, so less of it is the library's; in `digits` its own metrics measure loss and accuracy"
# By workload, how far the final loss may be from the plain loop's; exact where nothing is said.
LOSS_OFF: dict[str, float] = {}


class Inside(EventEnum):
    """The events inside the step."""

    LOSS_BEGIN = "loss_begin"
    BACKWARD_BEGIN = "backward_begin"
    BACKWARD_END = "backward_end"
    STEP_END = "step_end"


class Counts:
    def __init__(self) -> None:
        self.count = 0

    def hear(self, engine: ignite.engine.Engine) -> None:
        self.count += 1


def train(job: Job) -> Trained:
    if job.callbacks:
        return _with_calls(job)
    return _plain(job) if job.valid is None else _with_validation(job)


def _plain(job: Job) -> Trained:
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer

    def step(engine, batch):
        inputs, targets = batch
        loss = loss_fn(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    ignite.engine.Engine(step).run(job.train, max_epochs=job.epochs)
    return Trained()


def _with_calls(job: Job) -> Trained:
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer
    loss_begin, backward_begin, backward_end, step_end = Inside

    def step(engine, batch):
        inputs, targets = batch
        output = model(inputs)
        engine.fire_event(loss_begin)
        loss = loss_fn(output, targets)
        engine.fire_event(backward_begin)
        loss.backward()
        engine.fire_event(backward_end)
        optimizer.step()
        engine.fire_event(step_end)
        optimizer.zero_grad()

    trainer, callbacks = ignite.engine.Engine(step), [Counts() for _ in range(job.callbacks)]
    trainer.register_events(*Inside)
    events = (Events.ITERATION_STARTED, *Inside, Events.ITERATION_COMPLETED)
    for callback in callbacks:
        for event in events:
            trainer.add_event_handler(event, callback.hear)
    model.train()
    trainer.run(job.train, max_epochs=job.epochs)
    return Trained(sum(callback.count for callback in callbacks))


def _with_validation(job: Job) -> Trained:
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer

    def step(engine, batch):
        model.train()
        inputs, targets = batch
        output = model(inputs)
        loss = loss_fn(output, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return output.detach(), targets

    def measure(engine, batch):
        model.eval()
        with torch.no_grad():
            inputs, targets = batch
            return model(inputs), targets

    trainer, evaluator = ignite.engine.Engine(step), ignite.engine.Engine(measure)
    for engine in (trainer, evaluator):
        Accuracy().attach(engine, "accuracy")
        Loss(loss_fn).attach(engine, "loss")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(job.valid))
    trainer.run(job.train, max_epochs=job.epochs)
    return Trained(accuracy=evaluator.state.metrics["accuracy"])
