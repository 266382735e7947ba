"""Are the hyperparameters what the curve says at the place of the run, whatever was skipped, stopped or resumed?"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Callback, Engine
from engine.callbacks.schedule import Schedule
from engine.callbacks.schedule_presets import flat_cosine, one_cycle, sgdr, warm_up
from engine.callbacks.short_epochs import ShortEpochs
from engine.callbacks.torch_schedule import TorchSchedule
from engine.errors import ArgumentRefused, CallbackRefused, OptimizerRefused
from engine.schedules.curves import Constant, Cosine, Exponential, Linear
from engine.schedules.phases import combine, repeat
from engine.testing import check_order
from states import State, Trigger
from tests.engine.recording import batches
from tests.testing.subjects import subject


class Stream:
    """A loader without a length."""

    def __init__(self, number: int) -> None:
        self.batches = batches(number)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class Log(Callback):
    """What the optimizer's first group holds at each optimizer step and each batch."""

    def __init__(self, name: str = "lr") -> None:
        self.name = name
        self.batches: dict[tuple[int, int], float] = {}
        self.steps: list[float] = []

    def on_forward_begin(self, run: Any) -> None:
        self.batches[run.epoch, run.batch_index] = self._value(run)

    def on_step_begin(self, run: Any) -> None:
        self.steps.append(self._value(run))

    def _value(self, run: Any) -> float:
        group = run.optimizer.param_groups[0]
        return group["betas"][int(self.name[-1]) - 1] if self.name.startswith("beta") else group[self.name]


SGD: Callable[..., torch.optim.Optimizer] = torch.optim.SGD


def engine_with(*callbacks: object, optimizer: Any = SGD, groups: bool = False, **parts: Any) -> Engine:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    parameters: Any = [{"params": [p]} for p in model.parameters()] if groups else model.parameters()
    return Engine(model, nn.MSELoss(), optimizer(parameters, lr=0.1, **parts), list(callbacks))


def weights(engine: Engine) -> list[float]:
    return [number for p in engine.model.parameters() for number in p.flatten().tolist()]


def along(curve: Any, steps: int) -> list[float]:
    return [curve.at(step, steps) for step in range(steps)]


# A curve's place in a run.


@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([Linear(0.1, 0), Cosine(0.2, 0.01), Exponential(0.1, 1)]))
@settings(max_examples=25, deadline=None)
def test_a_training_is_that_of_a_plain_loop_with_torchs_lambda_schedule_bit_for_bit(
    epochs: int, number: int, curve: Any
) -> None:
    engine = engine_with(Schedule({"lr": curve}))
    engine.fit(batches(number), epochs=epochs)

    plain = engine_with()
    for group in plain.optimizer.param_groups:
        group["lr"] = 1.0
    schedule = lr_scheduler.LambdaLR(plain.optimizer, lambda step: curve.at(step, epochs * number))
    for inputs, targets in batches(number) * epochs:
        plain.optimizer.zero_grad()
        nn.functional.mse_loss(plain.model(inputs), targets).backward()
        plain.optimizer.step()
        schedule.step()
    assert weights(engine) == weights(plain)


@given(st.data(), st.integers(2, 4), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_skips_and_stopped_epochs_put_nothing_out_of_step(data: Any, epochs: int, number: int) -> None:
    skipped = data.draw(st.sets(st.tuples(st.integers(0, epochs - 1), st.integers(0, number - 1))))
    left = data.draw(st.dictionaries(st.integers(0, epochs - 1), st.integers(1, number)))
    start = data.draw(st.integers(0, epochs - 1))
    log = Log()
    engine = engine_with(Schedule({"lr": Linear(0.1, 0.0)}), log)
    engine.guard("skip_batch")(lambda run: (run.epoch, run.batch_index) in skipped)
    engine.guard("stop_epoch")(lambda run: left.get(run.epoch) == run.batch_index)
    engine.guard("accumulate")(lambda run: run.batch_index % 2 == 0)
    engine.fit(batches(number), epochs=epochs, start_epoch=start)

    wanted = along(Linear(0.1, 0.0), epochs * number)
    places = [(e, b) for e in range(start, epochs) for b in range(left.get(e, number)) if (e, b) not in skipped]
    assert log.batches == {(epoch, batch): wanted[epoch * number + batch] for epoch, batch in places}


@settings(max_examples=20, deadline=None)
@given(drawn=st.integers(1, 5), epochs=st.integers(1, 4), start=st.integers(0, 3))
def test_epochs_that_draw_fewer_batches_go_through_the_whole_curve_if_it_is_told_how_many(
    drawn: int, epochs: int, start: int
) -> None:
    log, schedule = Log(), Schedule({"lr": Linear(1.0, 0.0)}, steps_per_epoch=drawn)
    run = {"epochs": start + epochs, "start_epoch": start}
    engine_with(schedule, log, ShortEpochs(drawn)).fit(batches(10), **run)

    steps = drawn * (start + epochs)
    assert list(log.batches.values()) == along(Linear(1.0, 0.0), steps)[drawn * start :]
    assert schedule.values(start + epochs, drawn)["lr"] == along(Linear(1.0, 0.0), steps)


def test_a_loader_whose_length_changes_and_one_without_a_length_go_by_what_the_schedule_was_told() -> None:
    class Growing:
        def __init__(self) -> None:
            self.number = 1

        def __len__(self) -> int:
            return self.number

        def __iter__(self) -> Iterator[Any]:
            self.number += 1
            return iter(batches(self.number))

    for loader, values in ((Growing(), [0, 1, 3, 4, 5, 6, 7, 8, 8]), (Stream(3), range(9))):
        log, schedule = Log(), Schedule({"lr": Linear(0.0, 8.0)}, steps_per_epoch=3)
        engine_with(schedule, log).fit(loader, epochs=3)

        assert list(log.batches.values()) == list(values)


@pytest.mark.parametrize(
    "preset",
    [
        lambda **given: one_cycle(0.1, **given),
        lambda **given: flat_cosine(0.1, **given),
        lambda **given: warm_up(0.1, share=0.3, end=0.0, **given),
        lambda **given: sgdr(0.1, 2, **given),
    ],
)
def test_a_preset_goes_through_short_epochs_too(preset: Callable[..., Schedule]) -> None:
    log = Log()
    engine_with(preset(steps_per_epoch=3), log, ShortEpochs(3)).fit(batches(10), epochs=2)

    assert list(log.batches.values()) == preset().values(2, 3)["lr"]


def test_by_epoch_a_value_holds_for_an_epoch() -> None:
    log = Log()
    engine_with(Schedule({"lr": Linear(0.3, 0.1)}, by="epoch"), log).fit(Stream(2), epochs=3)

    assert list(log.batches.values()) == pytest.approx([0.3, 0.3, 0.2, 0.2, 0.1, 0.1])


@pytest.mark.parametrize("sized", [True, False])
def test_behind_its_steps_the_last_value_stays(sized: bool) -> None:
    log = Log()
    engine_with(Schedule({"lr": repeat(Linear(0.4, 0.0), 1)}, steps=4), log).fit(
        batches(3) if sized else Stream(3), epochs=None, max_updates=6
    )

    assert list(log.batches.values()) == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.1, 0.1])


def test_a_run_without_an_end_that_is_known_needs_steps() -> None:
    engine = engine_with(Schedule({"lr": Linear(1, 0)}))
    before = weights(engine)

    with pytest.raises(ArgumentRefused, match="does not know how long the run is: epochs is None") as caught:
        engine.fit(batches(3), epochs=None, max_updates=6)
    assert caught.value.instead == "write Schedule(..., steps=...), counted in batches"
    with pytest.raises(ArgumentRefused, match="the train_loader has no length"):
        engine.fit(Stream(3), epochs=2)
    with pytest.raises(ArgumentRefused, match="counted in epochs"):
        engine_with(Schedule({"lr": Linear(1, 0)}, by="epoch")).fit(batches(3), epochs=None, max_updates=6)
    assert weights(engine) == before
    assert engine.optimizer.param_groups[0]["lr"] == 0.1


def test_the_batches_of_a_loader_without_a_length_are_counted_on_in_the_next_part_of_a_training() -> None:
    whole, first, second = Log(), Log(), Log()
    engine_with(Schedule({"lr": Linear(1.0, 0.0)}, steps=9), whole).fit(Stream(3), epochs=3)
    schedule, resumed = (Schedule({"lr": Linear(1.0, 0.0)}, steps=9) for _ in range(2))
    engine_with(schedule, first).fit(Stream(3), epochs=1)
    file = io.BytesIO()
    torch.save(schedule.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    engine_with(resumed, second).fit(Stream(3), epochs=3, start_epoch=1)

    assert first.batches | second.batches == whole.batches
    assert list(whole.batches.values()) == along(Linear(1.0, 0.0), 9)


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt(), None], ids=["error", "interrupt", "whole"])
def test_an_epoch_that_is_trained_again_has_its_places_again_without_a_length(what: BaseException | None) -> None:
    def die(run: Any) -> None:
        if run.epoch == 1 and run.batch_index == 1 and what is not None:
            raise what

    log = Log()
    engine = engine_with(Schedule({"lr": Linear(1.0, 0.0)}, steps=9), log)
    engine.on("batch_end")(die)
    with suppress(ValueError, KeyboardInterrupt):
        engine.fit(Stream(3), epochs=3)
    engine.remove(die)
    engine.fit(Stream(3), epochs=3, start_epoch=1)

    assert list(log.batches.values()) == along(Linear(1.0, 0.0), 9)


def test_the_batches_of_an_epoch_that_was_stopped_count_without_a_length() -> None:
    log = Log()
    engine = engine_with(Schedule({"lr": Linear(1.0, 0.0)}, steps=8), log)
    engine.on("batch_end", once=5)(lambda run: run.stop("enough"))
    start = engine.fit(Stream(3), epochs=3).epoch
    engine.fit(Stream(3), epochs=3, start_epoch=start)

    assert start == 2
    assert list(log.batches.values()) == along(Linear(1.0, 0.0), 8)


def test_without_the_count_a_later_part_is_refused() -> None:
    engine = engine_with(Schedule({"lr": Linear(1.0, 0.0)}, steps=9))

    with pytest.raises(ArgumentRefused, match="the run starts in epoch 1, and nobody knows how many batches"):
        engine.fit(Stream(3), epochs=3, start_epoch=1)


@pytest.mark.parametrize("loader", [batches(3), Stream(3)])
def test_a_second_training_begins_anew(loader: Any) -> None:
    log = Log()
    engine = engine_with(Schedule({"lr": Linear(1.0, 0.0)}, steps=6), log)
    engine.fit(loader, epochs=2)
    first, log.batches = log.batches, {}
    engine.fit(loader, epochs=2)

    assert log.batches == first


def test_in_a_loop_of_ones_own_the_values_are_the_same() -> None:
    log, engine = [], engine_with(Schedule({"lr": Linear(1.0, 0.0)}))
    with engine.start(batches(3), epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch():
                log.append(engine.optimizer.param_groups[0]["lr"])
                output = engine.model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = nn.functional.mse_loss(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)

    assert log == along(Linear(1.0, 0.0), 6)


class Fault(Callback):
    """Stops or raises at the second batch."""

    def __init__(self, what: BaseException | None) -> None:
        self.what = what

    def on_forward_end(self, run: Any) -> None:
        if run.batch_index == 1:
            if self.what is not None:
                raise self.what
            run.stop("enough")


@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
def test_however_a_run_ends_the_optimizer_keeps_the_last_values(what: BaseException | None) -> None:
    engine = engine_with(Schedule({"lr": Linear(0.4, 0.0), "weight_decay": Constant(0.01)}), Fault(what))
    if what is None:
        engine.fit(batches(5))
    else:
        with pytest.raises(type(what)):
            engine.fit(batches(5))

    assert engine.optimizer.param_groups[0]["lr"] == pytest.approx(0.3)
    assert engine.optimizer.param_groups[0]["weight_decay"] == 0.01


# What is written where.


def test_each_group_may_have_a_curve_of_its_own_and_several_may_share_one() -> None:
    engine = engine_with(Schedule({"lr": [Constant(0.3), Constant(0.4)], "momentum": Constant(0.5)}), groups=True)
    engine.fit(batches(2))

    assert [(group["lr"], group["momentum"]) for group in engine.optimizer.param_groups] == [(0.3, 0.5), (0.4, 0.5)]


@pytest.mark.parametrize("groups", [1, [1]])
def test_the_groups_that_are_not_meant_are_left_alone(groups: Any) -> None:
    engine = engine_with(Schedule({"lr": Constant(0.3)}, groups=groups), groups=True)
    engine.fit(batches(2))

    assert [group["lr"] for group in engine.optimizer.param_groups] == [0.1, 0.3]


def test_the_groups_of_several_optimizers_are_counted_through() -> None:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizers = {
        "weight": torch.optim.SGD([model.weight], lr=0.1),
        "bias": torch.optim.Adam([model.bias], lr=0.1, betas=(0.9, 0.99)),
    }
    schedules = [Schedule({"lr": Constant(0.3)}, groups=1), Schedule({"momentum": Constant(0.6)})]
    Engine(model, nn.MSELoss(), optimizers, schedules).fit(batches(2))

    assert optimizers["weight"].param_groups[0]["lr"] == 0.1
    assert optimizers["weight"].param_groups[0]["momentum"] == 0.6
    assert optimizers["bias"].param_groups[0]["lr"] == 0.3
    assert optimizers["bias"].param_groups[0]["betas"] == (0.6, 0.99)


def test_the_betas_are_written_one_by_one() -> None:
    callbacks = [Schedule({"beta2": Linear(0.9, 0.99)}), Schedule({"beta1": Constant(0.5)})]
    engine = engine_with(*callbacks, optimizer=torch.optim.AdamW)
    engine.fit(batches(3))

    assert engine.optimizer.param_groups[0]["betas"] == (0.5, 0.99)


class HostReads(TorchDispatchMode):
    """Counts how often a tensor is read on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_tensor_is_filled_in_place_and_never_read() -> None:
    def adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
        betas = (torch.tensor(0.9), torch.tensor(0.999))
        return torch.optim.Adam(parameters, lr=torch.tensor(lr), betas=betas, foreach=False)

    counts = []
    for callbacks in ([], [one_cycle(0.5)]):
        engine = engine_with(*callbacks, optimizer=adam)
        group = engine.optimizer.param_groups[0]
        held = [group["lr"], *group["betas"]]
        with HostReads() as reads:
            engine.fit(batches(4))
        counts.append(reads.count)
        assert all(one is other for one, other in zip(held, (group["lr"], *group["betas"]), strict=True))

    assert counts[0] == counts[1]
    assert held[0].item() == pytest.approx(0.5 / 25 / 1e4)
    assert held[1].item() == pytest.approx(0.95)


def test_one_cycle_of_an_optimizer_without_momentum_says_how_to_leave_it_alone() -> None:
    with pytest.raises(ArgumentRefused, match=r"(?s)Schedule writes 'momentum'.*one_cycle, say momentum=None"):
        engine_with(one_cycle(0.1), optimizer=torch.optim.Adagrad).fit(batches(2))
    engine_with(one_cycle(0.1, momentum=None), optimizer=torch.optim.Adagrad).fit(batches(2))


def test_a_tensor_that_groups_share_is_refused_unless_one_curve_writes_all_of_it() -> None:
    def adam(parameters: Any, lr: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=torch.tensor(lr), foreach=False)

    for schedule in (Schedule({"lr": Constant(0.3)}, groups=0), one_cycle([0.1, 0.2])):
        with pytest.raises(ArgumentRefused, match="writes lr of group 0, and group 1 holds the very same tensor"):
            engine_with(schedule, optimizer=adam, groups=True).fit(batches(2))
    engine = engine_with(Schedule({"lr": Constant(0.3)}), optimizer=adam, groups=True)
    engine.fit(batches(2))

    assert [group["lr"].item() for group in engine.optimizer.param_groups] == pytest.approx([0.3, 0.3])


def test_the_optimizer_may_load_a_state_or_get_a_group_while_a_run_goes_on() -> None:
    engine = engine_with(Schedule({"lr": Linear(0.5, 0.0)}))
    state, extra = engine.optimizer.state_dict(), nn.Parameter(torch.zeros(1))

    @engine.on("batch_end")
    def change(run: Any) -> None:
        if run.batch_index == 1:
            run.optimizer.load_state_dict(state)
        if run.batch_index == 2:
            run.optimizer.add_param_group({"params": [extra], "lr": 7.0})

    seen = []
    engine.on("step_begin")(lambda run: seen.append([group["lr"] for group in run.optimizer.param_groups]))
    engine.fit(batches(6))

    assert seen == [pytest.approx(lrs) for lrs in ([0.5], [0.4], [0.3], [0.2, 0.2], [0.1, 0.1], [0.0, 0.0])]


# Conflicts and refusals.


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda _: [Schedule({"lr": Constant(1)}), one_cycle(0.1)], "Schedule and Schedule#2 both write lr of group 0"),
        (
            lambda adam: [Schedule({"lr": Constant(1)}), TorchSchedule(lr_scheduler.StepLR(adam, 1))],
            "Schedule and TorchSchedule both write lr of group 0",
        ),
        (
            lambda adam: [Schedule({"momentum": Constant(0.9)}), TorchSchedule(lr_scheduler.OneCycleLR(adam, 0.1, 9))],
            "Schedule and TorchSchedule both write beta1 of group 0",
        ),
        (
            lambda _: [Schedule({"momentum": Constant(0.9)}), Schedule({"beta1": Constant(0.9)}, groups=1)],
            "Schedule and Schedule#2 both write beta1 of group 1",
        ),
    ],
)
def test_two_that_write_the_same_are_refused(make: Any, what: str) -> None:
    engine = engine_with(optimizer=torch.optim.Adam, groups=True)
    for callback in make(engine.optimizer):
        engine.add(callback)

    with pytest.raises(CallbackRefused) as caught:
        engine.fit(batches(3))
    assert caught.value.what == what


def test_two_that_write_different_things_or_groups_are_not() -> None:
    schedules = [Schedule({"lr": Constant(float(group))}, groups=group) for group in (0, 1)]
    engine = engine_with(*schedules, Schedule({"momentum": Constant(0.5)}), groups=True)
    engine.fit(batches(3))

    assert [(group["lr"], group["momentum"]) for group in engine.optimizer.param_groups] == [(0.0, 0.5), (1.0, 0.5)]


@pytest.mark.parametrize(
    ("make", "what", "instead"),
    [
        (lambda: Schedule({"lrr": Constant(1)}), "Schedule writes 'lrr', and group 0 of", "did you mean 'lr'?"),
        (lambda: Schedule({"beta1": Constant(1)}), "Schedule writes 'beta1', and group 0 of", "take one of these"),
        (lambda: Schedule({"nesterov": Constant(1)}), "Schedule writes 'nesterov', and", "take one of these"),
        (lambda: Schedule({"lr": Constant(1)}, groups=1), "Schedule writes lr of group 1, and the", "leave groups out"),
        (lambda: one_cycle([0.1, 0.2]), "Schedule has 2 curves for lr, and writes 1 groups", "give as many curves"),
    ],
)
def test_what_the_optimizer_does_not_have_is_refused_when_a_run_starts(make: Any, what: str, instead: str) -> None:
    engine = engine_with(make())

    with pytest.raises(ArgumentRefused) as caught:
        engine.fit(batches(3))
    assert caught.value.what.startswith(what)
    assert caught.value.instead.startswith(instead)
    if "writes '" in what:
        assert caught.value.allowed == "lr, momentum, dampening, weight_decay"


def test_an_engine_that_has_no_optimizer_is_refused() -> None:
    def step(run: Any) -> Trigger:
        return Trigger.WEIGHTS_MOVED if run.state is State.STEP else Trigger.GRADS_CLEARED

    stepping = dict.fromkeys((State.STEP, State.ZERO_GRAD, State.FLUSH, State.CLEAR), step)
    engine = Engine(nn.Linear(1, 1), nn.MSELoss(), None, [Schedule({"lr": Constant(1)})], actions=stepping)

    with pytest.raises(OptimizerRefused, match="Schedule was given to an engine without an optimizer"):
        engine.fit(batches(1))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Schedule(Constant(1)), "Schedule was given Constant(value=1), an engine.schedules.curves.Constant"),
        (lambda: Schedule({}), "Schedule was given {}, a dict"),
        (lambda: Schedule({"lr": 0.1}), "Schedule was given 0.1, a float"),
        (lambda: Schedule({"lr": [Constant(1), 2]}), "Schedule was given 2, an int"),
        (lambda: Schedule({"lr": Constant(1)}, by="update"), "by is 'update'"),
        (lambda: Schedule({"lr": Constant(1)}, steps=0), "steps is 0, an int"),
        (lambda: Schedule({"lr": Constant(1)}, groups=[]), "groups is [], a list"),
        (lambda: Schedule({"lr": Constant(1)}, groups=-1), "groups is -1, an int"),
        (lambda: Schedule({"lr": Constant(1)}, groups=[1, 1]), "groups is [1, 1], a list"),
        (lambda: Schedule({"lr": Constant(1)}, groups=True), "groups is True, a bool"),
        (lambda: Schedule({"lr": Constant(1)}, steps_per_epoch=0), "steps_per_epoch is 0, an int"),
        (
            lambda: Schedule({"lr": Constant(1)}, by="epoch", steps_per_epoch=3),
            "steps_per_epoch is 3 and by is 'epoch'",
        ),
        (lambda: Schedule({"lr": Constant(1)}).values(0, 3), "epochs is 0, an int"),
        (lambda: Schedule({"lr": Constant(1)}).preview(1, 0), "batches is 0, an int"),
        (lambda: one_cycle("0.1"), "the learning rate is '0.1', a str"),
        (lambda: one_cycle(-0.1), "the learning rate is -0.1, a float"),
        (lambda: sgdr([0.1, -1], cycles=2), "the learning rate is [0.1, -1], a list"),
        (lambda: one_cycle([]), "the learning rate is [], a list"),
        (lambda: one_cycle(1, pct_start=1), "pct_start is 1, an int"),
        (lambda: one_cycle(1, pct_start=0.6, three_phase=True), "pct_start is 0.6, a float"),
        (lambda: one_cycle(1, div_factor=0), "div_factor is 0, an int"),
        (lambda: one_cycle(1, final_div_factor=-1), "final_div_factor is -1, an int"),
        (lambda: one_cycle(1, anneal="cosine"), "anneal is 'cosine'"),
        (lambda: one_cycle(1, momentum=0.9), "momentum is 0.9"),
        (lambda: flat_cosine(0.1, start=0), "start is 0, an int"),
        (lambda: warm_up(0.1), "warm_up was given share None and batches None"),
        (lambda: warm_up(0.1, share=0.1, batches=3), "warm_up was given share 0.1 and batches 3"),
        (lambda: warm_up(0.1, batches=0), "batches is 0, an int"),
        (lambda: sgdr(0.1, 0), "cycles is 0, an int"),
    ],
)
def test_what_has_no_meaning_is_refused_when_a_schedule_is_made(make: Any, what: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        make()

    assert caught.value.what == what


# Schedules with a name.


def torchs_one_cycle(engine: Engine, steps: int, **given: Any) -> list[list[tuple[float, float]]]:
    """What torch's own writes into each group, lr and momentum or beta1, at each step."""
    schedule, seen = lr_scheduler.OneCycleLR(engine.optimizer, total_steps=steps, **given), []
    for _ in range(steps):
        seen.append(
            [(group["lr"], group.get("momentum", group.get("betas"))) for group in engine.optimizer.param_groups]
        )
        engine.optimizer.step()
        schedule.step()
    return seen


@given(
    st.sampled_from([torch.optim.SGD, torch.optim.AdamW]),
    st.tuples(st.integers(1, 4), st.integers(1, 25)),
    st.one_of(st.floats(1e-4, 2), st.lists(st.floats(1e-4, 2), min_size=2, max_size=2)),
    st.tuples(st.booleans(), st.floats(0.02, 0.49)),
    st.fixed_dictionaries(
        {
            "div_factor": st.floats(1, 100),
            "final_div_factor": st.floats(1, 1e5),
            "momentum": st.one_of(st.none(), st.tuples(st.floats(0, 0.9), st.floats(0, 0.99))),
            "anneal": st.sampled_from(["cos", "linear"]),
        }
    ),
)
@settings(max_examples=120, deadline=None)
def test_one_cycle_is_torchs_at_every_step(optimizer: Any, plan: Any, max_lr: Any, phases: Any, options: Any) -> None:
    (epochs, number), (three, pct_start) = plan, phases
    schedule = one_cycle(max_lr, pct_start=pct_start, three_phase=three, **options)
    low, high = options.pop("momentum") or (None, None)
    anneal = options.pop("anneal")
    cycled = {"cycle_momentum": False} if low is None else {"base_momentum": low, "max_momentum": high}
    given = {"max_lr": max_lr, "pct_start": pct_start, "three_phase": three, "anneal_strategy": anneal}
    try:
        wanted = torchs_one_cycle(
            engine_with(optimizer=optimizer, groups=True), epochs * number, **given, **options, **cycled
        )
    except ZeroDivisionError:  # torch's, where a phase ends at its first step: two steps, say, and a half of them
        return

    seen: list[Any] = []
    engine = engine_with(schedule, optimizer=optimizer, groups=True)
    engine.on("forward_begin")(
        lambda run: seen.append([(g["lr"], g.get("momentum", g.get("betas"))) for g in run.optimizer.param_groups])
    )
    engine.fit(batches(number), epochs=epochs)
    for at, by_torch in zip(seen, wanted, strict=True):
        for (lr, momentum), (torchs_lr, torchs_momentum) in zip(at, by_torch, strict=True):
            assert lr == pytest.approx(torchs_lr, rel=0, abs=1e-12)
            assert momentum == pytest.approx(torchs_momentum, rel=0, abs=1e-12)


def test_a_first_phase_of_one_step_at_which_torch_divides_by_zero_is_its_start() -> None:
    assert one_cycle(1.0, pct_start=0.25).values(1, 4)["lr"][0] == 1.0 / 25


def test_flat_cosine_stays_and_then_falls() -> None:
    values = flat_cosine(0.1, start=0.5, end=0.01).values(2, 10)["lr"]

    assert values[:10] == [0.1] * 10
    assert values[10:] == pytest.approx(along(Cosine(0.1, 0.01), 11)[1:])
    assert values == along(combine([0.5, 0.5], [Constant(0.1), Cosine(0.1, 0.01)]), 20)


@pytest.mark.parametrize("end", [None, 0.0])
def test_a_warm_up_takes_as_many_batches_or_as_large_a_share_as_it_says(end: float | None) -> None:
    then = Constant(0.1) if end is None else Cosine(0.1, end)

    in_batches = warm_up(0.1, batches=5, end=end, div_factor=10).values(2, 10)["lr"]
    assert in_batches[:6] == pytest.approx([0.01, 0.028, 0.046, 0.064, 0.082, 0.1])
    assert in_batches[5:] == along(then, 15)
    share = warm_up(0.1, share=0.3, end=end, div_factor=10).values(2, 10)["lr"]
    assert share[:6] == pytest.approx([0.01, 0.028, 0.046, 0.064, 0.082, 0.1])
    assert share[5:] == pytest.approx(along(then, 15))


def test_sgdr_is_torchs_warm_restarts() -> None:
    engine = engine_with()
    schedule, wanted = lr_scheduler.CosineAnnealingWarmRestarts(engine.optimizer, 3, 2, 0.01), []
    for _ in range(21):
        wanted.append(engine.optimizer.param_groups[0]["lr"])
        schedule.step()

    assert sgdr(0.1, 3, grow=2, end=0.01).values(3, 7)["lr"] == pytest.approx(wanted, rel=0, abs=1e-12)


# Looked at before the first batch.


@pytest.mark.parametrize(
    "make",
    [
        lambda: one_cycle(0.5),
        lambda: Schedule({"lr": Linear(1, 0), "momentum": Constant(0.3)}, by="epoch"),
        lambda: Schedule({"lr": Linear(1, 0), "momentum": Cosine(0.9, 0.5)}, steps=5),
        lambda: sgdr([0.1], 2),
    ],
)
def test_the_values_are_those_of_the_run(make: Any) -> None:
    for name in ("lr", "momentum"):
        schedule, log = make(), Log(name)
        values = schedule.values(3, 4)
        engine_with(schedule, log).fit(batches(4), epochs=3)

        if name in schedule.curves:
            assert list(log.batches.values()) == values.get(name, values.get(f"{name} of group 0"))


def test_the_values_of_several_groups_are_told_apart() -> None:
    curves = {"lr": [Constant(1), Constant(2)], "momentum": Constant(0.5)}

    assert Schedule(curves).values(1, 2) == {
        "lr of group 0": [1.0, 1.0],
        "lr of group 1": [2.0, 2.0],
        "momentum": [0.5, 0.5],
    }
    assert list(Schedule(curves, groups=[3, 1]).values(1, 2))[:2] == ["lr of group 3", "lr of group 1"]


def test_a_preview_shows_each_hyperparameter_over_the_batches(tmp_path: Any) -> None:
    figure = one_cycle([0.1, 0.2]).preview(3, 10, tmp_path / "schedule.png")
    upper, lower = figure.axes

    assert (upper.get_ylabel(), lower.get_ylabel(), lower.get_xlabel()) == ("lr", "momentum", "batch")
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["group 0", "group 1"]
    drawn = upper.lines[1].get_ydata()
    assert list(drawn[:-1]) == one_cycle([0.1, 0.2]).values(3, 10)["lr of group 1"]
    assert drawn[-1] == drawn[-2]
    assert [line.get_xdata()[0] for line in lower.lines[1:]] == [0, 10, 20]
    assert (tmp_path / "schedule.png").stat().st_size > 1000


# With others, and what it costs.


@pytest.mark.parametrize(
    "makers",
    [
        [
            lambda: one_cycle(0.1, momentum=None),
            lambda: Schedule({"momentum": Linear(0.9, 0.5), "dampening": Constant(0.1)}, by="epoch"),
            lambda: Schedule({"weight_decay": Linear(0.0, 0.1)}, steps=3),
        ]
    ],
)
def test_the_ordering_kit_finds_nothing(makers: Sequence[Callable[[], object]]) -> None:
    def factory() -> tuple[Engine, dict[str, Any]]:
        engine, arguments = subject(*makers)()
        return engine, {**arguments, "epochs": 2}

    check_order(factory, runs=20, seed=0)


def test_a_batch_pays_a_few_microseconds() -> None:
    schedule, engine = Schedule({"lr": Cosine(0.1, 0.0)}), engine_with()
    run = engine.fit(batches(5))
    run.epoch = 0
    schedule.on_train_begin(run)
    began = time.perf_counter()
    for _ in range(1000):
        schedule.on_batch_begin(run)

    assert (time.perf_counter() - began) / 1000 < 100e-6  # about two, on a machine that does nothing else
