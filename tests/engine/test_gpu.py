"""Does it hold on a GPU?  Skipped where there is none."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn, optim

from engine import Engine, Run
from engine.errors import OptimizerRefused
from engine.faster.capture import WARM
from tests.engine.tools import refuses


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    # Torch's own: steps before the recording, and those of the plain twin, are not captured.
    pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True:UserWarning"),
    # Torch's own, of `set_sync_debug_mode`.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning"),
]


@pytest.fixture(autouse=True)
def _sync_mode() -> Iterator[None]:
    """What fails while waiting is forbidden must not forbid it to the next test."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def test_batches_move_to_the_model_and_no_batch_waits_for_the_device() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), device="cuda")
    loader = [(torch.randn(8, 4).pin_memory(), torch.randn(8, 1).pin_memory()) for _ in range(70)]
    devices = set()

    @engine.on("batch_begin")
    def watch(run) -> None:
        torch.cuda.set_sync_debug_mode("error")
        devices.update({run.inputs.device.type, run.targets.device.type})

    @engine.on("batch_end")
    def let_go(run) -> None:
        torch.cuda.set_sync_debug_mode("default")

    run = engine.fit(loader, loader[:2], epochs=2)
    assert devices == {"cuda"}
    assert run.updates == 140
    assert run.metrics["valid_loss"] > 0


# --- Captured steps ---------------------------------------------------------------------------------------------------


def net() -> nn.Module:
    """Always the same weights; no dropout, so that two trainings can be compared."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4)).cuda()


def loader(number: int, size: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 16, generator=chance).pin_memory(), torch.randn(size, 4, generator=chance).pin_memory())
        for _ in range(number)
    ]


OPTIMIZERS: dict[str, Callable[[nn.Module], optim.Optimizer]] = {
    "sgd": lambda model: optim.SGD(model.parameters(), lr=rate(), momentum=0.9, fused=True),
    "plain sgd": lambda model: optim.SGD(model.parameters(), lr=rate(), fused=True),
    "adam": lambda model: optim.Adam(model.parameters(), lr=rate(), capturable=True),
    "adamw fused": lambda model: optim.AdamW(model.parameters(), lr=rate(), capturable=True, fused=True),
    "rmsprop": lambda model: optim.RMSprop(model.parameters(), lr=rate(), capturable=True),
}


def rate() -> torch.Tensor:
    return torch.tensor(0.01, device="cuda")


def engine_of(name: str, **more: Any) -> Engine:
    model = net()
    return Engine(model, nn.MSELoss(), OPTIMIZERS[name](model), **more)


def check_same(one: Engine, other: Engine) -> None:
    """The kernels of a replay are those of the plain loop; cuBLAS alone may choose others on another stream."""
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(one.model.state_dict(), other.model.state_dict(), **close)
    for mine, record in zip(one.last_run.history, other.last_run.history, strict=True):
        assert mine == pytest.approx(record, rel=1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_captured_training_is_the_plain_one_with_validation_a_schedule_and_a_new_shape(name: str) -> None:
    engines = []
    for capture in (False, True):
        engine = engine_of(name, capture=capture)
        schedule = optim.lr_scheduler.ExponentialLR(engine.optimizer, 0.9)
        engine.on("batch_end")(lambda run, schedule=schedule: schedule.step())
        run = engine.fit([*loader(6), *loader(1, size=20)], loader(2), epochs=5)
        assert run.updates == 35
        assert run.loss.device.type == "cuda"
        assert float(engine.optimizer.param_groups[0]["lr"]) == pytest.approx(0.01 * 0.9**35, rel=1e-4)
        engines.append(engine)
    check_same(*engines)


def test_more_shapes_than_are_recorded_and_a_change_that_calls_for_new_recordings() -> None:
    engines = []
    for capture in (False, True):
        engine = engine_of("adam", capture=capture)

        @engine.on("epoch_end")
        def freeze(run: Run) -> None:
            if run.epoch == 4:
                run.model[0].weight.requires_grad_(requires_grad=False)

        engine.fit([batch for size in range(8, 14) for batch in loader(1, size=size)], epochs=10)
        engines.append(engine)
    check_same(*engines)


def test_a_shape_too_many_between_a_replay_and_a_recording() -> None:
    """It leaves nothing that would have gradients added up on the stream of its step."""
    engines = []
    for capture in (False, True):
        engine = engine_of("adam", capture=capture)
        sizes = [8] * (WARM + 1) + [9] * WARM + [10, 11] + [8, 12, 9]
        assert engine.fit([batch for size in sizes for batch in loader(1, size=size)]).updates == len(sizes)
        engines.append(engine)
    check_same(*engines)


def test_an_older_recording_that_nobody_holds_is_not_freed_while_another_is_made() -> None:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.ones(1, device="cuda")
    older = [graph]
    del graph

    def loss(output: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if older and torch.cuda.is_current_stream_capturing():
            cycle: list[object] = [older.pop()]
            cycle.append(cycle)
            del cycle
            assert len([[] for _ in range(10_000)]) == 10_000  # Python would collect garbage by now
        return nn.functional.mse_loss(output, targets)

    engine = engine_of("adam", capture=True)
    engine.loss_fn = loss
    assert engine.fit(loader(WARM + 2)).updates == WARM + 2
    assert not older


def test_trainings_that_end_before_or_after_a_recording_are_followed_by_more() -> None:
    engines = []
    for capture in (False, True):
        engine = engine_of("adam", capture=capture)
        for number in (WARM - 1, WARM + 2, WARM + 1):
            assert engine.fit(loader(number), loader(1)).updates == number
        engines.append(engine)
    check_same(*engines)


def test_a_captured_batch_does_not_wait_for_the_device() -> None:
    engine = engine_of("adam", capture=True)

    @engine.on("batch_begin")
    def watch(run: Run) -> None:
        if run.batch_index > WARM:  # recorded by now
            torch.cuda.set_sync_debug_mode("error")

    @engine.on("batch_end")
    def let_go(run: Run) -> None:
        torch.cuda.set_sync_debug_mode("default")

    assert engine.fit(loader(70)).updates == 70


def test_dropout_draws_anew_in_each_replay() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)).cuda()
    optimizer = optim.SGD(model.parameters(), lr=rate() * 0, fused=True)
    engine, outputs = Engine(model, nn.MSELoss(), optimizer, capture=True), []
    engine.on("batch_end")(lambda run: outputs.append(run.output.clone()))
    ones = torch.ones(256, 1)
    engine.fit([(ones, ones)] * (WARM + 3))
    first, second, third = outputs[WARM:]
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_a_loss_that_reads_a_number_cannot_be_captured_and_the_engine_can_be_used_after_it() -> None:
    engine = engine_of("adam", capture=True)
    good = engine.loss_fn
    engine.loss_fn = lambda output, targets: good(output, targets) * float(output.detach().sum() < 1e9)
    with pytest.raises(Exception, match=r"(?i)captur"):
        engine.fit(loader(6))
    torch.cuda.synchronize()
    assert engine.last_run.updates == WARM
    assert all(parameter.grad is None for parameter in engine.model.parameters())
    engine.loss_fn = good
    assert engine.fit(loader(6)).updates == 6


def test_an_optimizer_whose_lr_lies_on_the_host_is_refused() -> None:
    model = net()
    with refuses(OptimizerRefused, "capture is True, and lr is tensor(0.1000)", "device='cuda:0'"):
        Engine(
            model,
            nn.MSELoss(),
            optim.Adam(model.parameters(), lr=torch.tensor(0.1), capturable=True),
            capture=True,
        ).fit(loader(1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_step_can_be_captured() -> None:
    plain, both = engine_of("adam"), engine_of("adam", compile=True, capture=True)
    for engine in (plain, both):
        engine.fit(loader(8), epochs=2)
    torch.testing.assert_close(both.model.state_dict(), plain.model.state_dict(), rtol=1e-3, atol=1e-4)


# --- Batches that are copied ahead ------------------------------------------------------------------------------------


@pytest.mark.parametrize("capture", [False, True])
def test_batches_that_are_copied_ahead_are_those_of_the_loader(capture: bool) -> None:
    """Each has a number of its own in all its places: a copy that came too early or too late would mix two."""
    model = nn.Linear(1 << 16, 1).cuda()
    engine = Engine(
        model, nn.MSELoss(), optim.SGD(model.parameters(), lr=rate() * 0, fused=True), capture=capture, prefetch=True
    )
    spread = []

    @engine.on("batch_end")
    def look(run: Run) -> None:
        torch.cuda._sleep(5_000_000)  # the device is busy for longer than a copy takes
        spread.append(torch.stack([run.inputs.min(), run.inputs.max(), run.targets.min()]))

    batches = [
        (torch.full((64, 1 << 16), float(n)).pin_memory(), torch.full((64, 1), float(n)).pin_memory())
        for n in range(12)
    ]
    engine.fit(batches, batches[:2])
    assert torch.stack(spread).tolist() == [[float(n)] * 3 for n in range(12)]


def test_a_batch_that_is_copied_ahead_does_not_wait_for_the_device() -> None:
    engine = engine_of("adam", prefetch=True)
    engine.on("batch_begin")(lambda run: torch.cuda.set_sync_debug_mode("error"))
    engine.on("batch_end")(lambda run: torch.cuda.set_sync_debug_mode("default" if run.batch_index == 39 else "error"))
    assert engine.fit(loader(40)).updates == 40


# --- Mixed precision --------------------------------------------------------------------------------------------------


def test_fp16_is_the_loop_of_torchs_documentation() -> None:
    """With a scale that overflows at first, grows again, and meets a loss that is infinite."""
    batches = loader(12)
    batches[7][1][0] = torch.inf
    given = {"init_scale": 2.0**30, "growth_interval": 3}
    hand, scaler, overflows = net(), torch.amp.GradScaler("cuda", **given), 0
    optimizer = optim.SGD(hand.parameters(), lr=0.1, momentum=0.9)
    for inputs, targets in batches * 2:
        with torch.autocast("cuda", torch.float16):
            loss = nn.functional.mse_loss(hand(inputs.cuda()), targets.cuda())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(hand.parameters(), 1.0)
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        overflows += scaler.get_scale() < before
        optimizer.zero_grad()
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    engine = Engine(model, nn.functional.mse_loss, optimizer, precision=torch.amp.GradScaler("cuda", **given))
    engine.on("step_begin")(lambda run: nn.utils.clip_grad_norm_(run.model.parameters(), 1.0))
    run = engine.fit(batches, epochs=2)
    assert (run.overflows, run.updates) == (overflows, 24 - overflows)
    assert engine.scaler.state_dict() == scaler.state_dict()
    torch.testing.assert_close(model.state_dict(), hand.state_dict(), equal_nan=True)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cast_batch_waits_for_the_device_where_it_unscales_alone(precision: str) -> None:
    engine = engine_of("adam", precision=precision)
    for event in ("batch_begin", "step_begin", "overflow"):
        engine.on(event)(lambda run: torch.cuda.set_sync_debug_mode("error"))
    waits = "backward_end" if precision == "fp16" else "batch_end"
    for event in (waits, "batch_end"):
        engine.on(event)(lambda run: torch.cuda.set_sync_debug_mode("default"))
    run = engine.fit(loader(40))
    assert run.updates + run.overflows == 40
    assert engine.predict(loader(1)).dtype in (torch.float16, torch.bfloat16)
