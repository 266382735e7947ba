"""Does one of torch's schedules step when a careful loop would step it, whatever is skipped, stopped or resumed?"""

import io
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from engine import Callback, Engine, Run
from engine.callbacks.schedule import Schedule
from engine.callbacks.torch_schedule import TorchSchedule
from engine.errors import ArgumentRefused, CallbackRefused, OptimizerRefused
from engine.schedules.curves import Constant
from engine.testing import check_order
from tests.engine.recording import batches


def optimizer_of(model: nn.Module, kind: Any = torch.optim.SGD) -> torch.optim.Optimizer:
    return kind(model.parameters(), lr=0.1)


def engine_with(
    make: Callable[[Any], lr_scheduler.LRScheduler], *callbacks: object, kind: Any = torch.optim.SGD, **given: Any
) -> Engine:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    sgd = optimizer_of(model, kind)
    return Engine(model, nn.MSELoss(), sgd, [TorchSchedule(make(sgd), **given), *callbacks])


def weights(model: nn.Module) -> list[float]:
    return [number for p in model.parameters() for number in p.flatten().tolist()]


def rates_of(engine: Engine) -> list[float]:
    """The learning rate of each optimizer step, in a list that fills."""
    rates: list[float] = []
    engine.on("step_begin")(lambda run: rates.append(run.optimizer.param_groups[0]["lr"]))
    return rates


SCHEDULES = {
    "one cycle": lambda sgd: lr_scheduler.OneCycleLR(sgd, 0.5, total_steps=50),
    "cyclic": lambda sgd: lr_scheduler.CyclicLR(sgd, 0.01, 0.5, step_size_up=3),
    "step": lambda sgd: lr_scheduler.StepLR(sgd, 3, 0.5),
    "milestones": lambda sgd: lr_scheduler.MultiStepLR(sgd, [2, 5], 0.5),
    "cosine": lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, T_max=10),
    "restarts": lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, 3),
    "exponential": lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.9),
    "chained": lambda sgd: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(sgd, 0.1, 3), lr_scheduler.ExponentialLR(sgd, 0.9)]
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.sampled_from(["epoch", "batch", "update"]),
    st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 3)),
)
@settings(max_examples=60, deadline=None)
def test_a_training_is_that_of_a_plain_loop_bit_for_bit(name: str, by: Any, plan: tuple[int, int, int]) -> None:
    epochs, number, window = plan
    engine = engine_with(SCHEDULES[name], by=by)
    engine.guard("accumulate")(lambda run: (run.batch_index + 1) % window != 0)
    rates = rates_of(engine)
    engine.fit(batches(number), epochs=epochs)

    torch.manual_seed(0)
    model, plain_rates = nn.Linear(1, 1), []
    sgd = optimizer_of(model)
    schedule = SCHEDULES[name](sgd)
    for _ in range(epochs):
        open_window = 0
        for index, (inputs, targets) in enumerate(batches(number)):
            nn.functional.mse_loss(model(inputs), targets).backward()
            open_window += 1
            if stepping := (index + 1) % window == 0 or index + 1 == number:
                for p in model.parameters():
                    assert p.grad is not None
                    p.grad.div_(open_window)
                plain_rates.append(sgd.param_groups[0]["lr"])
                sgd.step()
                sgd.zero_grad()
                open_window = 0
            if by == "batch" or (by == "update" and stepping):
                _quietly(schedule)
        if by == "epoch":
            schedule.step()
    assert rates == plain_rates
    assert weights(engine.model) == weights(model)
    assert engine.optimizer.param_groups[0]["lr"] == sgd.param_groups[0]["lr"]


def _quietly(schedule: lr_scheduler.LRScheduler) -> None:
    """Step, before the optimizer has, perhaps."""
    schedule.optimizer._opt_called = True
    schedule.step()


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@given(
    st.sampled_from(sorted({*SCHEDULES, "one after the other"})),
    st.sampled_from(["epoch", "batch", "update"]),
    st.sampled_from([torch.optim.SGD, torch.optim.Adam]),
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 5)),
)
@settings(max_examples=60, deadline=None)
def test_what_is_foreseen_is_what_a_training_then_writes(
    name: str, by: Any, kind: Any, plan: tuple[int, int, int]
) -> None:
    before, epochs, number = plan
    engine = engine_with({**SCHEDULES, "one after the other": in_turn}[name], by=by, kind=kind)
    engine.fit(batches(number), epochs=before)
    (schedule,) = (one for one in engine.callbacks if isinstance(one, TorchSchedule))
    state = repr((schedule.state_dict(), engine.optimizer.state_dict()["param_groups"]))
    foreseen = schedule.values(epochs, number)

    assert repr((schedule.state_dict(), engine.optimizer.state_dict()["param_groups"])) == state
    engine.fit(batches(number), epochs=epochs)
    assert engine.recorder is not None
    recorded = {"lr": "lr", "momentum": "momentum", "beta1": "betas.0"}
    assert foreseen == {name: engine.recorder.hyper(recorded[name]) for name in foreseen}
    assert "lr" in foreseen


def in_turn(sgd: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.SequentialLR(
        sgd, [lr_scheduler.ConstantLR(sgd, 0.1, 3), lr_scheduler.ExponentialLR(sgd, 0.9)], [3]
    )


def test_a_preview_has_a_line_for_each_group_and_copies_no_weights(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    sgd = torch.optim.SGD([{"params": [model.weight]}, {"params": [model.bias], "lr": 0.3}], lr=0.1)
    schedule = TorchSchedule(lr_scheduler.StepLR(sgd, 1, 0.5))
    assert schedule.values(2, 1) == {"lr of group 0": [0.1, 0.05], "lr of group 1": [0.3, 0.15]}
    figure = schedule.preview(2, 3, tmp_path / "lr.png")
    assert [line.get_label() for line in figure.axes[0].lines[:2]] == ["group 0", "group 1"]
    assert (tmp_path / "lr.png").exists()


class Held:
    """What cannot be copied."""

    def __init__(self) -> None:
        self.lock = Lock()

    def rate(self, epoch: int) -> float:
        return 0.5**epoch

    def __call__(self, epoch: int) -> float:
        return self.rate(epoch)


@pytest.mark.parametrize("rate", [Held().rate, Held()], ids=["method", "object"])
def test_functions_that_a_schedule_was_given_are_not_copied(rate: Any) -> None:
    sgd = optimizer_of(nn.Linear(1, 1))
    assert TorchSchedule(lr_scheduler.LambdaLR(sgd, rate)).values(3, 1)["lr"] == [0.1, 0.05, 0.025]
    cyclic = lr_scheduler.CyclicLR(sgd, 0.1, 0.2, step_size_up=1, scale_fn=rate, scale_mode="iterations")
    assert TorchSchedule(cyclic, by="batch").values(1, 3)["lr"][0] == 0.1


class Rated(torch.optim.SGD):
    """An optimizer whose method says the rate."""

    def rate(self, epoch: int) -> float:
        return 0.5**epoch


def test_an_optimizer_whose_method_is_the_function_stays_as_it_is() -> None:
    sgd = optimizer_of(nn.Linear(1, 1), Rated)
    assert TorchSchedule(lr_scheduler.LambdaLR(sgd, sgd.rate)).values(2, 1)["lr"] == [0.1, 0.05]
    assert sgd.param_groups[0]["lr"] == 0.1


def test_a_schedule_that_ends_before_is_told() -> None:
    schedule = TorchSchedule(lr_scheduler.OneCycleLR(optimizer_of(nn.Linear(1, 1)), 0.5, total_steps=4), by="batch")
    assert len(schedule.values(1, 5)["lr"]) == 5
    with pytest.raises(ArgumentRefused, match="OneCycleLR cannot be stepped so often: Tried to step 5 times"):
        schedule.values(1, 6)


def test_what_follows_from_numbers_to_come_is_not_foreseen() -> None:
    sgd = optimizer_of(nn.Linear(1, 1))
    plateau = TorchSchedule(lr_scheduler.ReduceLROnPlateau(sgd), monitor="train_loss")
    with pytest.raises(ArgumentRefused, match="ReduceLROnPlateau was asked what it will write"):
        plateau.values(1, 1)
    with pytest.raises(ArgumentRefused, match="epochs is 0"):
        TorchSchedule(lr_scheduler.StepLR(sgd, 1)).preview(0, 1)


@pytest.mark.parametrize("guard", ["skip_batch", "skip_backward", "skip_step"])
@pytest.mark.parametrize(("by", "wanted"), [("batch", 0.1 / 4), ("update", 0.1), ("epoch", 0.1)])
def test_where_the_first_steps_are_skipped_nobody_is_warned(guard: str, by: str, wanted: float) -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5), by=by)
    engine.guard(guard)(lambda run: run.batches_done < 2)
    rates = rates_of(engine)
    engine.fit(batches(3))

    assert rates == pytest.approx([wanted])


def test_where_all_are_skipped_nobody_is_warned_either() -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5))
    engine.guard("skip_step")(lambda run: True)
    engine.fit(batches(3), epochs=2)

    assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 4)


def test_other_warnings_of_a_schedule_come_through() -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5))
    engine.guard("skip_step")(lambda run: True)
    del engine.optimizer.step  # as one who replaces it: torch's own mark is gone

    with pytest.raises(UserWarning, match="has been overridden after learning rate scheduler"):
        engine.fit(batches(3))


@pytest.mark.parametrize("by", ["epoch", "batch", "update"])
def test_an_epoch_that_was_stopped_does_not_count_and_its_batches_do(by: str) -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5), by=by)
    engine.on("batch_end")(lambda run: run.stop("enough") if (run.epoch, run.batch_index) == (1, 1) else None)
    engine.fit(batches(3), epochs=3)

    assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5 ** (1 if by == "epoch" else 5))


def test_one_epoch_that_is_left_early_counts() -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5))
    engine.guard("stop_epoch")(lambda run: run.batch_index == 1)
    engine.fit(batches(3), epochs=3)

    assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 8)


# By a metric.


class Pretend(Callback):
    """A metric that a test makes up, epoch by epoch."""

    def __init__(self, values: list[float], name: str = "score") -> None:
        self.values, self.name = values, name

    def on_epoch_end(self, run: Run) -> None:
        run.metrics[self.name] = self.values[run.epoch]


def plateau(sgd: Any) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=1)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_a_plateau_is_seen_as_a_plain_loop_sees_it(values: list[float]) -> None:
    engine, rates = engine_with(plateau, Pretend(values), monitor="score"), []
    engine.on("epoch_end", order=201)(lambda run: rates.append(run.optimizer.param_groups[0]["lr"]))
    engine.fit(batches(1), epochs=len(values))

    sgd, plain_rates = optimizer_of(nn.Linear(1, 1)), []
    schedule = plateau(sgd)
    for value in values:
        schedule.step(value)  # a metric
        plain_rates.append(sgd.param_groups[0]["lr"])
    assert rates == plain_rates


def test_an_epoch_whose_validation_was_skipped_is_not_looked_at() -> None:
    engine = engine_with(plateau, monitor="valid_loss")
    engine.guard("skip_validate")(lambda run: run.epoch != 2)
    engine.fit(batches(2), batches(1), epochs=5)

    (schedule,) = (one for one in engine.callbacks if isinstance(one, TorchSchedule))
    assert schedule.scheduler.last_epoch == 1


@pytest.mark.parametrize(
    ("monitor", "valid", "allowed", "instead"),
    [
        ("valid_los", True, "train_loss, valid_loss", "did you mean 'valid_loss'?"),
        ("valid_loss", False, "train_loss", "pass valid_loader to fit, or monitor what the training measures"),
    ],
)
def test_a_metric_that_nobody_measures_is_an_error(monitor: str, valid: bool, allowed: str, instead: str) -> None:
    engine = engine_with(plateau, monitor=monitor)
    engine.on("epoch_end")(lambda run: None)  # it might have given it

    with pytest.raises(ArgumentRefused, match=f"monitor is '{monitor}', and nobody had measured that") as caught:
        engine.fit(batches(2), batches(1) if valid else None)
    assert (caught.value.allowed, caught.value.instead) == (allowed, instead)


def test_a_metric_is_looked_for_where_none_is_measured() -> None:
    model = nn.Linear(1, 1)
    sgd = optimizer_of(model)
    engine = Engine(model, nn.MSELoss(), sgd, [TorchSchedule(plateau(sgd), monitor="valid_loss")], metrics=None)

    engine.on("epoch_end")(lambda run: None)  # it might have given it
    with pytest.raises(ArgumentRefused, match="nothing: the engine was made with metrics=None"):
        engine.fit(batches(2), batches(1))


# Continuing.


@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
@pytest.mark.parametrize("by", ["epoch", "batch", "update"])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_training_in_two_parts_is_that_in_one(name: str, by: str) -> None:
    def fit(epochs: int, start: int, state: Any) -> tuple[list[float], list[float], Any]:
        engine = engine_with(SCHEDULES[name], by=by)
        engine.guard("accumulate")(lambda run: run.batch_index % 2 == 0)
        schedule = engine._registry.arranged()[2].source
        if state is not None:
            file = io.BytesIO()
            torch.save(state, file)
            file.seek(0)
            model, sgd, own = torch.load(file, weights_only=True)
            engine.model.load_state_dict(model)
            engine.optimizer.load_state_dict(sgd)
            for _ in range(2):  # a state is not used up
                schedule.load_state_dict(own)
        rates = rates_of(engine)
        engine.fit(batches(3), epochs=epochs, start_epoch=start)
        parts = [engine.model.state_dict(), engine.optimizer.state_dict(), schedule.state_dict()]
        return rates, weights(engine.model), parts

    first, _, state = fit(1, 0, None)
    second, resumed, _ = fit(3, 1, state)
    whole, straight, _ = fit(3, 0, None)
    assert first + second == whole
    assert resumed == straight


def test_a_state_taken_between_two_batches_knows_of_the_step_that_is_due() -> None:
    states: list[Any] = []
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5), by="batch")
    schedule = engine._registry.arranged()[2].source
    engine.on("batch_end", once=2, order=300)(lambda run: states.append(schedule.state_dict()))
    engine.fit(batches(3))
    other = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5), by="batch")
    resumed = other._registry.arranged()[2].source
    resumed.load_state_dict(states[0])
    other.optimizer.param_groups[0]["lr"] = 0.1 / 2  # as the optimizer's own state has it, with the last step due
    rates = rates_of(other)
    other.fit(batches(3), epochs=2, start_epoch=1)

    assert rates == pytest.approx([0.1 / 4, 0.1 / 8, 0.1 / 16])


@pytest.mark.parametrize(("by", "steps"), [("epoch", 4), ("batch", 16), ("update", 8)])
def test_a_second_training_goes_on_where_the_first_has_ended(by: str, steps: int) -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5), by=by)
    engine.guard("accumulate")(lambda run: run.batch_index % 2 == 0)
    for _ in range(2):
        engine.fit(batches(4), epochs=2)

    assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 2**steps)


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_a_step_that_was_due_when_a_run_died_is_not_taken_in_the_next(what: BaseException) -> None:
    engine = engine_with(lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.5), by="batch")

    @engine.on("batch_end", once=1)
    def fail(run: Run) -> None:
        raise what

    with pytest.raises(type(what)):
        engine.fit(batches(2))
    engine.remove(fail)
    rates = rates_of(engine)
    engine.fit(batches(2))
    assert rates == pytest.approx([0.1, 0.05])


# What is written, and refused.


@pytest.mark.parametrize(
    ("kind", "make", "names"),
    [
        (torch.optim.SGD, SCHEDULES["step"], ["lr"]),
        (torch.optim.SGD, SCHEDULES["one cycle"], ["lr", "momentum"]),
        (torch.optim.Adam, SCHEDULES["one cycle"], ["beta1", "lr"]),
        (torch.optim.SGD, lambda sgd: lr_scheduler.OneCycleLR(sgd, 0.5, 9, cycle_momentum=False), ["lr"]),
        (torch.optim.Adam, SCHEDULES["cyclic"], ["beta1", "lr"]),
        (
            torch.optim.Adam,
            lambda sgd: lr_scheduler.ChainedScheduler([SCHEDULES["step"](sgd), SCHEDULES["cyclic"](sgd)]),
            ["beta1", "lr"],
        ),
    ],
)
def test_it_says_what_the_schedule_writes(kind: Any, make: Any, names: list[str]) -> None:
    sgd = optimizer_of(nn.Linear(1, 1), kind)
    before, others = dict(sgd.param_groups[0]), [{"params": [], "lr": 0.1}, *sgd.param_groups]
    schedule = make(sgd)
    sgd.step()
    for _ in range(4):
        schedule.step()
    moved = {name for name, value in sgd.param_groups[0].items() if name in before and before[name] is not value}

    assert TorchSchedule(schedule).writes(others) == [(1, name) for name in names]
    assert moved == {"betas" if name == "beta1" else name for name in names}


def test_one_of_several_optimizers_is_scheduled_and_the_other_left_alone() -> None:
    model = nn.Linear(1, 1)
    optimizers = {name: torch.optim.SGD([p], lr=0.1) for name, p in model.named_parameters()}
    step = TorchSchedule(lr_scheduler.ExponentialLR(optimizers["bias"], 0.5))
    Engine(model, nn.MSELoss(), optimizers, [step, Schedule({"lr": Constant(0.3)}, groups=0)]).fit(batches(2))

    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers.values()] == [0.3, 0.05]


def test_two_that_write_the_same_are_refused() -> None:
    engine = engine_with(SCHEDULES["step"])
    engine.add(TorchSchedule(SCHEDULES["cosine"](engine.optimizer)))

    with pytest.raises(CallbackRefused, match="TorchSchedule and TorchSchedule#2 both write lr of group 0"):
        engine.fit(batches(2))


def test_a_schedule_of_another_optimizer_is_refused() -> None:
    engine = engine_with(SCHEDULES["step"])
    engine.optimizer = optimizer_of(engine.model)

    with pytest.raises(OptimizerRefused, match="StepLR was made for another SGD than the engine steps"):
        engine.fit(batches(2))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (TorchSchedule, "TorchSchedule was given SGD"),
        (lambda sgd: TorchSchedule(lr_scheduler.StepLR), "TorchSchedule was given <class"),
        (lambda sgd: TorchSchedule(SCHEDULES["step"](sgd), by="step"), "by is 'step'"),
        (
            lambda sgd: TorchSchedule(SCHEDULES["step"](sgd), monitor="loss"),
            "StepLR was given with monitor='loss'",
        ),
        (lambda sgd: TorchSchedule(plateau(sgd)), "ReduceLROnPlateau was given with monitor=None and by='epoch'"),
        (
            lambda sgd: TorchSchedule(plateau(sgd), by="batch", monitor="a"),
            "ReduceLROnPlateau was given with monitor='a'",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(make: Any, what: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        make(optimizer_of(nn.Linear(1, 1)))

    assert caught.value.what.startswith(what)


@pytest.mark.parametrize("by", ["batch", "epoch"])
def test_the_ordering_kit_finds_nothing(by: str) -> None:
    def factory() -> tuple[Engine, dict[str, Any]]:
        engine = engine_with(
            (lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.9)) if by == "batch" else plateau,
            by=by,
            monitor=None if by == "batch" else "train_loss",
        )
        return engine, {"train_loader": batches(3), "valid_loader": batches(2), "epochs": 2}

    check_order(factory, runs=20, seed=0)
