"""Is a captured training the one that it would have been, also after a fault?  What is refused is in `test_captured`.

A stand-in records and replays on the CPU; what only a GPU shows is in `test_gpu`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from engine import Callback, Engine, Outcome, Run
from engine.errors import ArgumentRefused, BatchRefused, OptimizerRefused
from engine.faster.capture import SHAPES, WARM
from engine.measuring.metrics import Metrics
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import Event, Guard
from states.names import name_of
from states.walk import Plan
from tests.engine.recording import Heard, counters_of, expected, hearings
from tests.engine.standin import NO_EVENT, NO_GUARD, Standin, engine_of, noisy_model, sgd
from tests.engine.tools import Batch, batches, hears, refuses, same, small_model, weights_of


def drawing_model() -> nn.Module:
    """Dropout draws: one time too many would show."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.3), nn.Linear(2, 1))


def both(work: Callable[[Engine], Any], *make: Callable[[], object], model: Callable[[], nn.Module]) -> list[Engine]:
    """The plain engine and the one that captures, after the same work; all that they hold must be the same bits."""
    engines = []
    for capture in (False, True):
        engine = engine_of(*(callback() for callback in make), capture=capture, model=model())
        torch.manual_seed(7)
        work(engine)
        engines.append(engine)
    one, other = engines
    assert same(one.model.state_dict().values(), other.model.state_dict().values())
    assert one.last_run.history == other.last_run.history
    assert torch.equal(one.last_run.loss, other.last_run.loss)
    return engines


# --- As without -------------------------------------------------------------------------------------------------------


def ears(log: list[Heard], chosen: Script) -> list[object]:
    """Callbacks that hear and answer all that may be heard and answered."""

    def ear(event: Event) -> Callable[[object, Run], None]:
        return lambda _, run: log.append(Heard("Ear", event, run.state, counters_of(run)))

    def answer(guard: Guard) -> Callable[[object, Run], bool]:
        return lambda _, run: said(guard, counters_of(run))

    said = chosen.answers()
    hear = {f"on_{name_of(event)}": ear(event) for event in Event if event not in NO_EVENT}
    return [type("Ear", (Callback,), hear)(), type("Say", (Callback,), {name_of(g): answer(g) for g in outside()})()]


def outside() -> list[Guard]:
    return [guard for guard in Guard if guard not in NO_GUARD]


@given(plans(), scripts(), st.booleans())
def test_what_is_heard_and_what_comes_of_it_is_as_without(plan: Plan, chosen: Script, checked: bool) -> None:
    yes = Script({guard: times for guard, times in chosen.yes.items() if guard not in map(name_of, NO_GUARD)})
    log: list[Heard] = []
    runs, weights = [], []
    for capture in (False, True):
        log.clear()
        engine = engine_of(*ears(log, yes), capture=capture, model=drawing_model(), checked=checked)
        valid = None if plan.valid_batches is None else batches(plan.valid_batches)
        torch.manual_seed(3)
        runs.append(engine.fit(batches(plan.batches), valid, plan.epochs, max_updates=plan.max_updates))
        weights.append([*engine.model.state_dict().values(), torch.rand(2)])
    said = [hearing for hearing in hearings(expected(plan, yes.answers())) if hearing.event not in NO_EVENT]
    assert [(h.event, h.state, h.counters) for h in log] == [(h.event, h.state, h.counters) for h in said]
    assert same(*weights)
    assert str(runs[0].history) == str(runs[1].history)
    assert runs[0].outcome is runs[1].outcome


@pytest.mark.parametrize("model", [small_model, noisy_model])
def test_a_step_is_recorded_after_three_and_replayed_from_there_on(model: Callable[[], nn.Module]) -> None:
    _, engine = both(lambda engine: engine.fit(batches(3), batches(2), epochs=3), model=model)
    assert engine._cuda.log == [*["beside", "join"] * WARM, "record", *["replay"] * (9 - WARM)]


def test_a_schedule_moves_lr_without_a_new_recording() -> None:
    schedules = []

    def work(engine: Engine) -> None:
        schedules.append(optim.lr_scheduler.StepLR(engine.optimizer, 1, gamma=0.5))
        engine.on("batch_end")(lambda run: schedules[-1].step())
        engine.fit(batches(8))

    _, engine = both(work, model=small_model)
    assert engine._cuda.log.count("record") == 1
    assert float(engine.optimizer.param_groups[0]["lr"]) == pytest.approx(0.1 * 0.5**8)


def test_each_shape_has_a_recording_of_its_own_and_a_shape_too_many_none() -> None:
    sizes = [batch for size in range(2, 2 + SHAPES + 1) for batch in batches(1, size=size)]
    _, engine = both(lambda engine: engine.fit(sizes, epochs=5), model=small_model)
    log = engine._cuda.log
    assert log.count("record") == SHAPES
    assert log.count("beside") == SHAPES * WARM + 5
    assert log.count("replay") == SHAPES * (5 - WARM)
    assert engine.last_run.updates == 5 * (SHAPES + 1)


def freeze(run: Run) -> None:
    run.model[0].bias.requires_grad_(requires_grad=False)


def still(run: Run) -> None:
    run.model[1].eval()


def heavier(run: Run) -> None:
    run.optimizer.param_groups[0]["weight_decay"] = 0.5


def another_rate(run: Run) -> None:
    run.optimizer.param_groups[0]["lr"] = run.optimizer.param_groups[0]["lr"] * 2


def moved(run: Run) -> None:
    run.model[0].weight.data = run.model[0].weight.data.clone()


def reloaded(run: Run) -> None:
    run.optimizer.load_state_dict(run.optimizer.state_dict())


def restarted(run: Run) -> None:
    run.optimizer.state.clear()


def another_model(run: Run) -> None:
    run.model = nn.Sequential(*run.model, nn.Tanh())


class Twice(optim.SGD):
    """Takes each step twice."""

    def step(self) -> None:
        super().step()
        super().step()


def another_optimizer(run: Run) -> None:
    (group,), state = run.optimizer.param_groups, run.optimizer.state
    run.optimizer = Twice(run.model.parameters(), lr=group["lr"], momentum=0.5, fused=True)
    run.optimizer.state = state


def another_loss(run: Run) -> None:
    run.loss_fn = nn.L1Loss()


def another_layer(run: Run) -> None:
    run.model[0] = nn.Sequential(run.model[0], nn.Tanh())


def hooked(run: Run) -> None:
    run.model[0].register_forward_hook(lambda module, inputs, output: output * 2)


def remade(run: Run) -> None:
    """The state of the optimizer made anew, where its memory may be the same."""
    for state in run.optimizer.state.values():
        shape = state["momentum_buffer"].shape
        state["momentum_buffer"] = None
        state["momentum_buffer"] = torch.zeros(shape)


def hooked_inside(run: Run) -> None:
    run.model[0].weight.register_hook(lambda gradient: gradient * 2)


def hooked_step(run: Run) -> None:
    run.optimizer.register_step_pre_hook(lambda optimizer, given, named: None)


CHANGES = [
    hooked_inside,
    hooked_step,
    another_layer,
    hooked,
    remade,
    freeze,
    still,
    heavier,
    another_rate,
    moved,
    reloaded,
    restarted,
    another_model,
    another_optimizer,
    another_loss,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("event", ["forward_begin", "epoch_end"])
def test_what_a_recording_kept_and_a_callback_changes_is_recorded_anew(
    event: str, change: Callable[[Run], None]
) -> None:
    def at_five(run: Run) -> None:
        if run.batches_done == 5:
            change(run)

    _, engine = both(
        lambda engine: engine.fit(batches(5), batches(1), epochs=3), lambda: hears(event, at_five), model=noisy_model
    )
    assert engine._cuda.log.count("record") == 2
    assert engine._cuda.log.count("beside") == 2 * WARM


def test_batches_that_differ_in_type_or_layout_have_recordings_of_their_own() -> None:
    given = batches(1, size=2)[0]
    alike = [given, (given[0], given[1].double()), (given[0].T.contiguous().T, given[1])]
    _, engine = both(lambda engine: engine.fit(alike, epochs=5), model=small_model)
    assert engine._cuda.log.count("record") == 3


def test_what_callbacks_see_at_the_end_of_a_batch_is_as_without() -> None:
    seen: list[list[Any]] = []

    def look(run: Run) -> None:
        seen[-1].append((run.inputs.tolist(), run.targets.tolist(), run.output.tolist()))
        losses[-1].append(run.loss.detach())
        assert all(parameter.grad is None for parameter in run.model.parameters())

    losses: list[list[Tensor]] = []

    def work(engine: Engine) -> None:
        seen.append([])
        losses.append([])
        engine.fit(batches(6))

    both(work, lambda: hears("batch_end", look), model=small_model)
    assert seen[0] == seen[1]
    assert same(*losses)  # each is a tensor of its own


def test_what_a_step_leaves_has_no_graph_whether_it_was_replayed_or_failed() -> None:
    """A graph that is kept adds gradients up on the stream where it was made."""
    graphs = []
    engine = engine_of(hears("batch_end", lambda run: graphs.append((run.output.grad_fn, run.loss.grad_fn))))
    engine.fit(batches(6))
    assert graphs == [(None, None)] * 6
    engine.loss_fn = Fails(1)
    with pytest.raises(ValueError, match="on purpose"):
        engine.fit(batches(1))
    assert engine.last_run.output.grad_fn is None


def test_a_callback_may_change_the_inputs_before_the_step() -> None:
    def double(run: Run) -> None:
        run.inputs = run.inputs * 2

    both(lambda engine: engine.fit(batches(6)), lambda: hears("forward_begin", double), model=small_model)


def test_metrics_of_the_engine_are_computed_and_a_second_metrics_of_its_kind_is_let_in() -> None:
    model = small_model()
    engine = engine_of(Metrics({"zero": lambda output, _: output.mean() * 0}), model=model)
    run = engine.fit(batches(6))
    assert run.metrics["train_zero"] == 0.0
    assert run.metrics["train_loss"] > 0


def test_what_is_captured_may_be_copied_ahead() -> None:
    def ahead(engine: Engine) -> None:
        engine.prefetch = True
        engine.fit(batches(6), batches(2), epochs=2)

    _, engine = both(ahead, model=noisy_model)
    assert engine._cuda.log.count("replay") == 2 * 6 - WARM


def test_evaluation_and_prediction_are_not_captured() -> None:
    engine = engine_of()
    engine.evaluate(batches(5))
    engine.predict(batches(5))
    assert engine._cuda.log == []


def test_the_outputs_that_somebody_keeps_stay_as_they_were() -> None:
    """Metrics that keep outputs, and callbacks, in whatever the model gives."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_model()

        def forward(self, inputs: Tensor) -> dict[str, Any]:
            output = self.inner(inputs)
            return {"output": output, "all": [output * 2]}

    kept: list[Any] = []
    model = Both()
    engine = Engine(model, lambda output, targets: (output["output"] - targets).square().mean(), sgd(model))
    engine.capture, engine._cuda = True, Standin(model, engine.optimizer)

    @engine.on("batch_end")
    def keep(run: Run) -> None:
        kept.append((run.output["output"], run.output["output"].clone(), run.output.pop("all")[0]))

    engine.fit(batches(8))
    assert "replay" in engine._cuda.log
    assert all(torch.equal(output, copy) and torch.equal(output * 2, twice) for output, copy, twice in kept)
    assert len({output.data_ptr() for output, _, _ in kept}) == 8


# --- After a fault ----------------------------------------------------------------------------------------------------


class Fails(nn.Module):
    """A loss that fails the n-th time."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def forward(self, output: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            msg = "on purpose"
            raise ValueError(msg)
        return nn.functional.mse_loss(output, targets)


@pytest.mark.parametrize("at", [1, WARM, WARM + 1, WARM + 2])
def test_a_fault_in_a_step_while_it_is_recorded_too_leaves_the_engine_as_good_as_new(at: int) -> None:
    """The stand-in calls the loss once a step, once more to record: the fourth call is in the recording."""
    engine = engine_of()
    engine.loss_fn = Fails(at)
    with pytest.raises(ValueError, match="on purpose") as raised:
        engine.fit(batches(9))
    run = engine.last_run
    assert "while training was in forward" in raised.value.__notes__[0]
    assert run.outcome is Outcome.FAILED
    assert run.updates == run.batches_done == min(at - 1, WARM)
    before = weights_of(engine.model)
    assert engine.fit(batches(6)).updates == 6
    assert not same(before, weights_of(engine.model))


class FailsOnce(optim.SGD):
    """A step that fails when it is recorded."""

    left = WARM + 1

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            msg = "on purpose"
            raise ValueError(msg)
        super().step()


def test_gradients_of_a_recording_that_failed_are_cleared_for_nothing_ever_computed_them() -> None:
    model = small_model()
    engine = engine_of(model=model, optimizer=FailsOnce(model.parameters(), lr=torch.tensor(0.1), fused=True))
    with pytest.raises(ValueError, match="on purpose"):
        engine.fit(batches(9))
    assert engine.last_run.updates == WARM
    assert all(parameter.grad is None for parameter in model.parameters())
    assert engine.fit(batches(6)).updates == 6


def test_the_current_stream_waits_for_a_first_step_that_fails_too() -> None:
    def fail(output: Tensor, targets: Tensor) -> Tensor:
        raise KeyboardInterrupt

    engine = engine_of()
    engine.loss_fn = fail
    with pytest.raises(KeyboardInterrupt):
        engine.fit(batches(1))
    assert engine._cuda.log == ["beside", "join"]


# --- Refused when it is seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "phrase"),
    [
        (({"x": torch.ones(2, 2)}, torch.ones(2, 1)), "run.inputs is a dict"),
        ((torch.ones(2, 2), [torch.ones(2, 1)]), "run.targets is a list"),
        ((torch.ones(2, 2, requires_grad=True), torch.ones(2, 1)), "run.inputs is a tensor that requires a gradient"),
    ],
)
def test_a_batch_that_cannot_be_copied_into_a_recording_is_refused(batch: Batch, phrase: str) -> None:
    engine = engine_of()
    before = weights_of(engine.model)
    with refuses(BatchRefused, phrase, "batch 0"):
        engine.fit([batch])
    assert same(before, weights_of(engine.model))


def test_gradients_of_something_else_are_refused() -> None:
    def compute(run: Run) -> None:
        if run.batch_index == 4:
            run.model(run.inputs).sum().backward()

    engine = engine_of(hears("batch_begin", compute))
    with refuses(OptimizerRefused, "there are gradients before the step", "batch 4"):
        engine.fit(batches(6))


def test_an_output_of_which_no_copy_can_be_made_is_refused() -> None:
    class Wrapped:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

    class Wrapping(nn.Linear):
        def forward(self, inputs: Tensor) -> Any:
            return Wrapped(super().forward(inputs))

    model = Wrapping(2, 1)
    engine = Engine(model, lambda output, targets: (output.logits - targets).square().mean(), sgd(model), capture=True)
    engine._cuda = Standin(model, engine.optimizer)
    with refuses(ArgumentRefused, "the model gives", "Wrapped", "capture is True", "tensors and numbers"):
        engine.fit(batches(8))
    assert engine.last_run.updates == WARM
