"""Who is timed of our own?  Plain loops, as a careful engineer writes them, and the engine, also checked."""

import torch

from engine import Callback, Engine, State, Trigger
from engine.callbacks import Recorder
from engine.run import Run
from tests.bench.workloads import Job, Trained, accuracy


class Counts(Callback):
    """Hears six events of a batch, and only counts."""

    def __init__(self) -> None:
        self.count = 0

    def on_batch_begin(self, run: Run | None) -> None:
        self.count += 1

    def on_loss_begin(self, run: Run | None) -> None:
        self.count += 1

    def on_backward_begin(self, run: Run | None) -> None:
        self.count += 1

    def on_backward_end(self, run: Run | None) -> None:
        self.count += 1

    def on_step_end(self, run: Run | None) -> None:
        self.count += 1

    def on_batch_end(self, run: Run | None) -> None:
        self.count += 1


def plain(job: Job) -> Trained:
    """Nobody listens, nothing is measured."""
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer
    model.train()
    for _ in range(job.epochs):
        for inputs, targets in job.train:
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return Trained()


def plain_dropping(job: Job) -> Trained:
    """Gradients are dropped by hand, as the engine does: without the record for the profiler that `zero_grad` makes."""
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer
    model.train()
    for _ in range(job.epochs):
        for inputs, targets in job.train:
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
    return Trained()


def plain_with_calls(job: Job) -> Trained:
    """Counting callbacks, called by hand at the six places."""
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer
    callbacks, run = [Counts() for _ in range(job.callbacks)], None
    model.train()
    for _ in range(job.epochs):
        for inputs, targets in job.train:
            for callback in callbacks:
                callback.on_batch_begin(run)
            output = model(inputs)
            for callback in callbacks:
                callback.on_loss_begin(run)
            loss = loss_fn(output, targets)
            for callback in callbacks:
                callback.on_backward_begin(run)
            loss.backward()
            for callback in callbacks:
                callback.on_backward_end(run)
            optimizer.step()
            for callback in callbacks:
                callback.on_step_end(run)
            optimizer.zero_grad()
            for callback in callbacks:
                callback.on_batch_end(run)
    return Trained(sum(callback.count for callback in callbacks))


def plain_with_validation(job: Job) -> Trained:
    """Loss and accuracy of both passes: summed as tensors, read once for each pass."""
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer
    history = []
    for _ in range(job.epochs):
        model.train()
        train_loss, train_correct, seen = torch.zeros(()), torch.zeros(()), 0
        for inputs, targets in job.train:
            output = model(inputs)
            loss = loss_fn(output, targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                train_loss += loss * len(targets)
                train_correct += (output.argmax(1) == targets).sum()
            seen += len(targets)
        model.eval()
        valid_loss, valid_correct, valid_seen = torch.zeros(()), torch.zeros(()), 0
        with torch.no_grad():
            for inputs, targets in job.valid:
                output = model(inputs)
                valid_loss += loss_fn(output, targets) * len(targets)
                valid_correct += (output.argmax(1) == targets).sum()
                valid_seen += len(targets)
        means = (train_loss / seen, train_correct / seen, valid_loss / valid_seen, valid_correct / valid_seen)
        history.append([mean.item() for mean in means])
    return Trained(accuracy=history[-1][3])


def fit(job: Job) -> Trained:
    """The engine."""
    return _fit(job)


def fit_checked(job: Job) -> Trained:
    """The engine; pytransitions decides where each report leads."""
    return _fit(job, checked=True)


def fit_unmeasured(job: Job) -> Trained:
    """The engine, which keeps no mean loss and records none, as the plain loop keeps none."""
    return _fit(job, measured=False)


def stepper(job: Job) -> Trained:
    """The engine, one transition at a time."""
    engine = Engine(job.model, job.loss_fn, job.optimizer)
    run = engine.start(job.train, epochs=job.epochs)
    while run.advance() is not None:
        pass
    return Trained()


def own_loop(job: Job) -> Trained:
    """The plain loop, which reports to the engine what it does; dropping the gradients is left to the engine."""
    model, loss_fn, optimizer = job.model, job.loss_fn, job.optimizer
    with Engine(model, loss_fn, optimizer).start(epochs=job.epochs) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(job.train):
                output = model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = loss_fn(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)
    return Trained()


def _fit(job: Job, *, checked: bool = False, measured: bool = True) -> Trained:
    callbacks = [Counts() for _ in range(job.callbacks)]
    metrics = None if not measured else {} if job.valid is None else {"accuracy": accuracy}
    recorder = Recorder() if measured else None
    engine = Engine(
        job.model, job.loss_fn, job.optimizer, callbacks, metrics=metrics, recorder=recorder, checked=checked
    )
    run = engine.fit(job.train, job.valid, epochs=job.epochs)
    return Trained(sum(callback.count for callback in callbacks), run.metrics.get("valid_accuracy"))
