"""Does an optimizer that evaluates the loss anew train as in a plain closure loop, and refuse what it could not see?"""

from collections.abc import Callable, Iterator
from enum import Enum

import pytest
import torch
from torch import Tensor, nn, optim
from torch.nn.functional import mse_loss

from engine import Engine, Run, loss_from, output_from
from engine.errors import ArgumentRefused, OptimizerRefused
from states import Event, Guard, Machine, State, Transition, Trigger
from tests.engine.tools import (
    Batch,
    Recorder,
    answers,
    batches,
    hears,
    refuses,
    same,
    small_engine,
    small_model,
    weights_of,
)


# --- As in the plain loop ---------------------------------------------------------------------------------------------


def noisy_model() -> nn.Module:
    """Dropout draws random numbers in each forward: one too many or too few would show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def closure_loop(model: nn.Module, optimizer: optim.Optimizer, loader: list[Batch], epochs: int) -> list[float]:
    """The loop that torch's documentation shows; gives the loss of the first evaluation in each batch."""
    losses = []
    for _ in range(epochs):
        for inputs, targets in loader:

            def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                optimizer.zero_grad()
                loss = mse_loss(model(inputs), targets)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    return losses


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("make", [small_model, noisy_model])
def test_lbfgs_is_bit_identical_to_the_plain_closure_loop(
    make: Callable[[], nn.Module], search: str | None, checked: bool
) -> None:
    def lbfgs(model: nn.Module) -> optim.Optimizer:
        return optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, history_size=5, line_search_fn=search)

    plain, model = make(), make()
    torch.manual_seed(3)
    losses = closure_loop(plain, lbfgs(plain), batches(3), epochs=3)
    recorder, seen = Recorder(), list[float]()
    batch_end = hears("batch_end", lambda run: seen.append(run.loss.item()))
    engine = small_engine(recorder, batch_end, model=model, optimizer=lbfgs(model), checked=checked)
    torch.manual_seed(3)
    run = engine.fit(batches(3), epochs=3)
    assert same(weights_of(plain), weights_of(model))
    assert seen == losses
    assert run.updates == 9
    for event in ("forward_begin", "loss_end", "backward_begin", "backward_end", "step_begin", "step_end"):
        assert recorder.events.count(event) == 9


def test_after_a_step_with_a_closure_loss_and_output_are_those_that_were_heard() -> None:
    heard: list[tuple[Tensor, Tensor]] = []
    model = small_model()
    engine = small_engine(model=model, optimizer=optim.LBFGS(model.parameters()))
    engine.on("loss_end")(lambda run: heard.append((run.output, run.loss)))
    engine.on("step_end")(lambda run: heard.append((run.output, run.loss)))
    engine.fit(batches(1))
    assert all(one is other for one, other in zip(*heard, strict=True))


def test_a_replaced_forward_is_what_the_closure_evaluates() -> None:
    calls: list[int] = []

    def twice(run: Run) -> Tensor:
        calls.append(run.updates)
        return 2 * run.model(run.inputs)

    model = small_model()
    optimizer = optim.LBFGS(model.parameters(), max_iter=3)
    small_engine(model=model, optimizer=optimizer, actions={State.FORWARD: output_from(twice)}).fit(batches(1))
    assert len(calls) > 1


# --- What later evaluations would not have ----------------------------------------------------------------------------


def with_lbfgs(*callbacks: object, **more: object) -> Engine:
    model = small_model()
    return small_engine(*callbacks, model=model, optimizer=optim.LBFGS(model.parameters(), max_iter=4), **more)


@pytest.mark.parametrize(
    ("event", "what"),
    [("loss_end", "loss"), ("backward_begin", "loss"), ("forward_end", "output"), ("loss_begin", "output")],
)
def test_an_optimizer_with_a_closure_refuses_a_loss_that_it_could_not_evaluate_anew(event: str, what: str) -> None:
    """The closure's later calls know the actions alone: half of the objective would be another."""

    def put(run: Run) -> None:
        setattr(run, what, getattr(run, what) * 2)

    engine = with_lbfgs(hears(event, put))
    before = weights_of(engine.model)
    with refuses(
        OptimizerRefused, f"run.{what} changed behind the action", "LBFGS evaluates the loss anew", f"{what}_from"
    ):
        engine.fit(batches(2))
    assert same(before, weights_of(engine.model))


def _in_place(run: Run) -> None:
    run.loss /= 4


def _clip(run: Run) -> None:
    nn.utils.clip_grad_norm_(run.model.parameters(), 1e-3)


def _swap(run: Run) -> None:
    run.model.weight.grad = torch.ones(1, 2)


@pytest.mark.parametrize(
    ("event", "change", "what"),
    [
        ("loss_end", _in_place, "run.loss"),
        ("forward_end", lambda run: run.output.mul_(2), "run.output"),
        ("forward_end", lambda run: setattr(run, "inputs", run.inputs * 2), "run.inputs"),
        ("loss_end", lambda run: setattr(run, "targets", run.targets * 2), "run.targets"),
        ("loss_end", lambda run: run.targets.mul_(2), "run.targets"),
        ("step_begin", lambda run: run.model.weight.grad.data.clamp_(-1e-3, 1e-3), "gradients"),
        ("step_begin", _clip, "gradients"),
        ("backward_end", _swap, "gradients"),
        ("step_begin", lambda run: run.optimizer.zero_grad(), "gradients"),
    ],
)
def test_an_optimizer_with_a_closure_refuses_what_was_changed_in_place_too(
    event: str, change: Callable[[Run], object], what: str
) -> None:
    engine = with_lbfgs(hears(event, change))
    before = weights_of(engine.model)
    with refuses(OptimizerRefused, f"{what} changed behind the action", "LBFGS evaluates the loss anew without that"):
        engine.fit(batches(2))
    assert same(before, weights_of(engine.model))


def test_an_optimizer_with_a_closure_allows_what_changes_nothing_and_what_an_action_does() -> None:
    """The norm of the gradients is often read by a clip that clips nothing; a penalty may be added by BACKWARD."""
    engine = with_lbfgs()
    engine.on("step_begin")(lambda run: nn.utils.clip_grad_norm_(run.model.parameters(), float("inf")))
    assert engine.fit(batches(3)).updates == 3

    def penalised(run: Run) -> Trigger:
        run.loss = run.loss + run.model.weight.pow(2).sum()
        run.loss.backward()
        return Trigger.GRADS_READY

    own = with_lbfgs(actions={State.BACKWARD: penalised})
    by_loss = with_lbfgs(
        actions={State.LOSS: loss_from(lambda run: mse_loss(run.output, run.targets) + run.model.weight.pow(2).sum())}
    )
    assert own.fit(batches(3)).updates == by_loss.fit(batches(3)).updates == 3
    assert same(weights_of(own.model), weights_of(by_loss.model))


@pytest.mark.parametrize("to_none", [False, True])
def test_an_optimizer_with_a_closure_takes_sparse_gradients(to_none: bool) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(10, 2, sparse=True), nn.Flatten(), nn.Linear(4, 1))

    def clear(run: Run) -> Trigger:
        run.optimizer.zero_grad(set_to_none=to_none)
        return Trigger.GRADS_CLEARED

    loader = [(torch.tensor([[1, 2], [3, 4]]), torch.ones(2, 1)), (torch.tensor([[1, 5], [6, 4]]), torch.zeros(2, 1))]
    plain, mine = model(), model()
    closure_loop(plain, optim.LBFGS(plain.parameters(), max_iter=4), loader, epochs=2)
    optimizer = optim.LBFGS(mine.parameters(), max_iter=4)
    small_engine(model=mine, optimizer=optimizer, actions={State.ZERO_GRAD: clear}).fit(loader, epochs=2)
    assert same(weights_of(plain), weights_of(mine))


class LookAhead(optim.Optimizer):
    """Moves the weights before it evaluates the loss."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        parameters = self.param_groups[0]["params"]
        for parameter in parameters:
            parameter.mul_(0.5)
        with torch.enable_grad():
            loss = closure()
        for parameter in parameters:
            parameter.sub_(parameter.grad)
        return loss


def test_an_optimizer_with_a_closure_takes_targets_that_were_made_in_inference_mode() -> None:
    """They have no version that could be compared."""
    with torch.inference_mode():
        targets = torch.ones(3, 1)
    engine = with_lbfgs(loss_fn=lambda output, targets: (output - targets).pow(2).mean())
    assert engine.fit([(torch.ones(3, 2), targets)]).updates == 1


def test_an_optimizer_that_moves_before_it_calls_its_closure_is_given_the_loss_of_where_it_is() -> None:
    plain, model = small_model(), small_model()
    closure_loop(plain, LookAhead(plain.parameters()), batches(3), epochs=1)
    small_engine(model=model, optimizer=LookAhead(model.parameters())).fit(batches(3))
    assert same(weights_of(plain), weights_of(model))


def test_a_hook_of_a_parameter_changes_the_gradients_of_every_evaluation() -> None:
    engine = with_lbfgs()
    engine.model.weight.register_hook(lambda gradient: gradient * 0.5)
    engine.fit(batches(2))
    model = small_model()
    model.weight.register_hook(lambda gradient: gradient * 0.5)
    closure_loop(model, optim.LBFGS(model.parameters(), max_iter=4), batches(2), epochs=1)
    assert same(weights_of(model), weights_of(engine.model))


def test_gradients_that_somebody_has_dropped_were_not_kept() -> None:
    """By a callback, or by a backward pass of the user's own that begins anew."""
    engine = with_lbfgs(answers("skip_zero_grad", lambda run: True))
    engine.on("batch_end")(lambda run: run.optimizer.zero_grad())
    assert engine.fit(batches(3)).updates == 3

    def anew(run: Run) -> Trigger:
        run.optimizer.zero_grad()
        run.loss.backward()
        return Trigger.GRADS_READY

    other = with_lbfgs(answers("skip_zero_grad", lambda run: True), actions={State.BACKWARD: anew})
    assert other.fit(batches(3)).updates == 3


@pytest.mark.parametrize("own", [State.STEP, State.AVERAGE])
def test_a_window_left_open_is_refused_by_an_optimizer_with_a_closure_unless_its_flush_is_the_users(own: State) -> None:
    def step(run: Run) -> Trigger:
        run.optimizer.step(lambda: run.loss)
        return Trigger.WEIGHTS_MOVED

    actions = {State.STEP: step} if own is State.STEP else {}
    engine = with_lbfgs(answers("accumulate", lambda run: run.window < 2), actions=actions)
    with refuses(OptimizerRefused, "a batch was accumulated when the loader was left", "replace the actions that step"):
        engine.fit(batches(1))


def test_a_penalty_in_the_loss_action_is_evaluated_anew_as_in_a_plain_closure() -> None:
    def penalised(run: Run) -> Tensor:
        return nn.functional.mse_loss(run.output, run.targets) + 10 * run.model.weight.pow(2).sum()

    engine = with_lbfgs(actions={State.LOSS: loss_from(penalised)})
    engine.fit(batches(3))
    model = small_model()
    optimizer = optim.LBFGS(model.parameters(), max_iter=4)
    for inputs, targets in batches(3):

        def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets) + 10 * model.weight.pow(2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert same(weights_of(model), weights_of(engine.model))


# --- Gradients of one batch -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("yes", [[0], [1]], ids=["then a step", "then the end of the epoch"])
def test_an_optimizer_with_a_closure_refuses_an_accumulated_window(yes: list[int]) -> None:
    model = small_model()
    engine = small_engine(
        answers("accumulate", lambda run: run.batch_index in yes),
        model=model,
        optimizer=optim.LBFGS(model.parameters()),
    )
    with refuses(
        OptimizerRefused, "LBFGS evaluates the loss anew", "gradients of one batch", "take the guard `accumulate`"
    ):
        engine.fit(batches(2))
    assert engine.last_run.updates == yes[0]
    assert engine.last_run.state is State.FAILED


def test_an_optimizer_with_a_closure_refuses_gradients_that_were_kept() -> None:
    """The closure's first call would have them in its gradients, and the later calls would not."""
    model = small_model()
    keep = answers("skip_zero_grad", lambda run: run.batches_done == 0)
    engine = small_engine(keep, model=model, optimizer=optim.LBFGS(model.parameters()))
    with refuses(OptimizerRefused, "gradients were left from before this batch", "take the guard `skip_zero_grad`"):
        engine.fit(batches(3))
    assert engine.last_run.updates == 1
    drop = answers("skip_step", lambda run: run.batches_done == 1)  # ... unless they are dropped before the next step
    again = small_engine(keep, drop, model=model, optimizer=optim.LBFGS(model.parameters()))
    assert again.fit(batches(3)).updates == 2


def test_an_optimizer_with_a_closure_may_be_stepped_by_actions_of_ones_own() -> None:
    model = small_model()
    optimizer = optim.LBFGS(model.parameters())

    def step(run: Run) -> Enum:
        optimizer.step(lambda: run.loss)
        return Trigger.WEIGHTS_MOVED

    engine = small_engine(
        answers("accumulate", lambda run: True),
        model=model,
        optimizer=optimizer,
        actions={State.STEP: step, State.FLUSH: step},
    )
    assert engine.fit(batches(2)).updates == 1


def test_an_optimizer_with_a_closure_needs_the_states_that_it_evaluates_anew() -> None:
    rows = (
        Transition(State.IDLE, Trigger.FIT_ASKED, None, State.STEP, (Event.TRAIN_BEGIN,)),
        Transition(State.STEP, Trigger.WEIGHTS_MOVED, Guard.STOP_TRAINING, State.DONE, (Event.TRAIN_END,)),
        Transition(State.STEP, Trigger.WEIGHTS_MOVED, None, State.STEP),
    )
    machine = Machine(name="steps", initial=State.IDLE, finals=(State.DONE,), rows=rows)
    model = small_model()
    with refuses(ArgumentRefused, "the machine 'steps' has no forward, loss, backward"):
        Engine(model, nn.MSELoss(), optim.LBFGS(model.parameters()), machine=machine)
