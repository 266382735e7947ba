"""Is a training in bf16 or fp16 the one that torch's documentation writes?  Bit for bit, and whatever goes wrong."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import pytest
import torch
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.amp import GradScaler

from engine import PLAIN, Action, Callback, Engine, Outcome, Run, State, Trigger, loss_from, output_from
from engine.errors import ArgumentRefused, LossRefused, OptimizerRefused, OutOfOrder
from engine.testing import check_order
from engine.testing.runs.described import Script
from engine.testing.strategies import scripts
from states import TRAINING, Event, Guard, Machine, MachineRefused, scaled
from states.errors import ExtensionRefused
from states.scaled import UNSCALING
from states.walk import Plan, walk
from tests.engine.recording import Heard, answers_by, hearings, hears_everything
from tests.engine.tools import Count, answers, hears, refuses, same, weights_of
from tests.states.strategies import SCALED_ORDER


SCALED = scaled(TRAINING)
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def loader(number: int, spoilt: Sequence[int] = ()) -> list[tuple[Tensor, Tensor]]:
    """Batches; the loss of the spoilt ones is infinite."""
    chance = torch.Generator().manual_seed(1)
    made = [(torch.rand(5, 3, generator=chance), torch.rand(5, 1, generator=chance)) for _ in range(number)]
    for at in spoilt:
        if at < number:
            made[at][1][0] = torch.inf
    return made


@define(eq=False)
class Hand:
    """The loop of torch's documentation on mixed precision, with a window, and with clipping where that belongs."""

    dtype: torch.dtype
    scaler: GradScaler | None
    window: int = 1
    clip: float | None = None
    model: nn.Module = field(factory=model)
    losses: list[float] = field(factory=list)
    # Whether each step was dropped.
    dropped: list[bool] = field(factory=list)

    def train(self, batches: list[tuple[Tensor, Tensor]], epochs: int) -> None:
        optimizer = optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(epochs):
            summed = 0
            for number, (inputs, targets) in enumerate(batches, 1):
                with torch.autocast("cpu", dtype=self.dtype):
                    output = self.model(inputs)
                    loss = nn.functional.mse_loss(output, targets)
                self.losses.append(loss.item())
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
                summed += 1
                if summed == self.window or number == len(batches):
                    self.step(optimizer, summed)
                    summed = 0

    def step(self, optimizer: optim.Optimizer, summed: int) -> None:
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        for parameter in self.model.parameters():
            if summed > 1:
                parameter.grad /= summed
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if self.scaler is None:
            optimizer.step()
        else:
            before = self.scaler.get_scale()
            self.scaler.step(optimizer)
            self.scaler.update()
            self.dropped.append(self.scaler.get_scale() < before)
        optimizer.zero_grad()


def low() -> GradScaler:
    """A scale with which nothing overflows here by itself."""
    return GradScaler("cpu", init_scale=256.0)


class Window(Callback):
    """Steps once for so many batches."""

    def __init__(self, size: int) -> None:
        self.size = size

    def accumulate(self, run: Run) -> bool:
        return run.window < self.size


class Clip(Callback):
    def __init__(self, norm: float) -> None:
        self.norm = norm

    def on_step_begin(self, run: Run) -> None:
        nn.utils.clip_grad_norm_(run.model.parameters(), self.norm)


def engine_of(*callbacks: object, **more: Any) -> Engine:
    made = model()
    optimizer = optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    return Engine(made, nn.functional.mse_loss, optimizer, callbacks, **more)


def fitted(engine: Engine, batches: list, valid: list | None, epochs: int) -> Run:
    return engine.fit(batches, valid, epochs)


def advanced(engine: Engine, batches: list, valid: list | None, epochs: int) -> Run:
    run = engine.start(batches, valid, epochs)
    while run.advance() is not None:
        pass
    return run


def looped(engine: Engine, batches: list, valid: list | None, epochs: int) -> Run:
    """A loop of one's own, with all but what scales and unscales."""
    kind = TYPES.get(engine.precision, torch.float16)
    with engine.start(None, None, epochs, mine=PLAIN - {State.BACKWARD}) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches):
                with torch.autocast("cpu", kind):
                    output = engine.model(inputs)
                    run.report(Trigger.OUTPUT_READY, output=output)
                    loss = engine.loss_fn(run.output, targets)
                if run.report(Trigger.LOSS_READY, loss=loss) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)
            if valid is not None:
                run.validate(valid)
    return run


WAYS = {"fit": fitted, "advance": advanced, "own loop": looped}
scalers = st.builds(
    dict,
    init_scale=st.sampled_from([2.0**4, 2.0**16, 2.0**24, 2.0**40]),
    growth_interval=st.integers(1, 4),
    backoff_factor=st.sampled_from([0.5, 0.125]),
)


@given(
    way=st.sampled_from([*WAYS]),
    number=st.integers(1, 7),
    epochs=st.integers(1, 3),
    window=st.integers(1, 4),
    clip=st.sampled_from([None, 0.1]),
    spoilt=st.sets(st.integers(0, 6), max_size=2),
    given_scaler=scalers,
    checked=st.booleans(),
)
def test_fp16_is_the_loop_of_torchs_documentation(  # noqa: PLR0917  # what a training has
    way: str,
    number: int,
    epochs: int,
    window: int,
    clip: float | None,
    spoilt: set[int],
    given_scaler: dict[str, float],
    checked: bool,
) -> None:
    """Weights, losses, scale and overflows; and what is heard is what the table says of these overflows."""
    hand = Hand(torch.float16, GradScaler("cpu", **given_scaler), window, clip)
    hand.train(loader(number, spoilt), epochs)
    log: list[Heard] = []
    losses: list[float] = []
    engine = engine_of(
        Window(window),
        *([] if clip is None else [Clip(clip)]),
        hears_everything("Ear", log)(),
        hears("backward_end", lambda run: losses.append(run.loss.item())),
        precision=GradScaler("cpu", **given_scaler),
        checked=checked,
    )
    run = WAYS[way](engine, loader(number, spoilt), None, epochs)
    assert same(weights_of(engine.model), weights_of(hand.model))
    assert torch.equal(torch.tensor(losses), torch.tensor(hand.losses))
    assert engine.scaler.state_dict() == hand.scaler.state_dict()
    assert (run.overflows, run.updates) == (sum(hand.dropped), len(hand.dropped) - sum(hand.dropped))
    dropped = iter(hand.dropped)

    def report(counters: object) -> Trigger:
        return Trigger.OVERFLOWED if next(dropped) else Trigger.GRADS_UNSCALED

    plan = Plan(epochs=epochs, batches=number, reports=dict.fromkeys(UNSCALING, report))
    steps = walk(SCALED, plan, lambda guard, counters: guard is Guard.ACCUMULATE and waits(counters, window))
    told = [(one.event, one.state, one.counters) for one in hearings(list(steps))]
    assert [(one.event, one.state, one.counters) for one in log] == told


def waits(counters: Any, window: int) -> bool:
    return next(count for counter, count in counters.items() if counter.name == "WINDOW") < window


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.sampled_from([None, 0.1]), st.sampled_from([*WAYS]))
def test_bf16_is_the_loop_of_torchs_documentation(
    number: int, epochs: int, window: int, clip: float | None, way: str
) -> None:
    hand = Hand(torch.bfloat16, None, window, clip)
    hand.train(loader(number), epochs)
    losses: list[float] = []
    engine = engine_of(
        Window(window),
        *([] if clip is None else [Clip(clip)]),
        hears("loss_end", lambda run: losses.append(run.loss.item())),
        precision="bf16",
    )
    run = WAYS[way](engine, loader(number), None, epochs)
    assert same(weights_of(engine.model), weights_of(hand.model))
    assert losses == hand.losses
    assert engine.machine is TRAINING
    assert engine.scaler is run.scaler is None
    assert run.overflows == 0


ASKED = (*SCALED.guards, Guard.STOP_VALIDATE)


@given(scripts(SCALED), st.integers(1, 4), st.sampled_from([None, 2]), st.sets(st.integers(0, 3), max_size=2))
def test_whatever_guards_answer_all_ways_leave_one_trace_and_the_same_weights(
    script: Script, number: int, valid: int | None, spoilt: set[int]
) -> None:
    left = []
    for checked, way in [(False, "fit"), (True, "fit"), (False, "advance"), (False, "own loop")]:
        log: list[Heard] = []
        engine = engine_of(
            hears_everything("Ear", log)(),
            answers_by(script.answers(), ASKED),
            precision=GradScaler("cpu", init_scale=2.0**20),
            checked=checked,
        )
        run = WAYS[way](engine, loader(number, spoilt), None if valid is None else loader(valid), 2)
        trace = [one.event for one in log]
        assert SCALED_ORDER.judge(trace).legal
        assert engine.machine.order.judge(trace).legal
        assert trace.count(Event.OVERFLOW) == run.overflows
        heard = [(one.event, one.state, one.counters) for one in log]
        left.append((heard, [p.tolist() for p in weights_of(engine.model)], engine.scaler.state_dict(), str(run.skips)))
    assert str(left[1:]) == str(left[:1] * 3)  # which has nan equal to itself


# --- What callbacks and actions see -----------------------------------------------------------------------------------


def see(run: Run, key: str) -> dict[str, float]:
    return {key: run.model[2].bias.grad.item(), f"{key} loss": run.loss.item()}


def test_the_loss_is_never_scaled_gradients_are_until_the_step_is_due() -> None:
    seen: dict[str, float] = {}
    engine = engine_of(precision=GradScaler("cpu", init_scale=1024.0))
    plain = engine_of(precision="bf16")
    for one, events in ((engine, ("backward_end", "step_begin")), (plain, ("step_begin",))):
        for event in events:
            key = event if one is engine else "plain"
            one.on(event)(lambda run, key=key: seen.update(see(run, key)))
        one.fit(loader(1))
    assert seen["backward_end"] == 1024 * seen["step_begin"]
    assert seen["step_begin"] == pytest.approx(seen["plain"], rel=0.05)
    assert seen["backward_end loss"] == seen["step_begin loss"] == pytest.approx(seen["plain loss"], rel=0.05)


def test_an_overflow_is_heard_where_the_gradients_still_are_and_the_scale_is_lowered_already() -> None:
    heard: list[tuple[State, bool, float, int]] = []
    engine = engine_of(precision=GradScaler("cpu", init_scale=64.0))

    @engine.on("overflow")
    def look(run: Run) -> None:
        finite = all(bool(p.grad.isfinite().all()) for p in run.model.parameters())
        heard.append((run.state, finite, run.scaler.get_scale(), run.overflows))

    before = weights_of(engine.model)
    run = engine.fit(loader(1, [0]))
    assert heard == [(State.UNSCALE, False, 32.0, 1)]
    assert same(before, weights_of(engine.model))
    assert (run.updates, run.overflows, run.batches_done, run.outcome) == (0, 1, 1, Outcome.COMPLETED)
    assert all(parameter.grad is None for parameter in engine.model.parameters())


def test_a_window_that_is_part_filled_overflows_in_a_state_of_its_own() -> None:
    heard: list[State] = []
    engine = engine_of(Window(4), hears("overflow", lambda run: heard.append(run.state)), precision=low())
    run = engine.fit(loader(6, [5]), epochs=2)
    assert heard == [State.DESCALE, State.DESCALE]
    assert (run.updates, run.overflows, run.window) == (2, 2, 0)


def test_a_step_that_is_skipped_leaves_the_scale_alone() -> None:
    engine = engine_of(answers("skip_step", lambda run: True), precision=GradScaler("cpu", growth_interval=1))
    assert engine.fit(loader(3, [1])).overflows == 0
    assert engine.scaler.get_scale() == 2.0**16


def test_a_scale_that_has_come_to_nothing_moves_no_weight() -> None:
    """Torch finds no infinity in gradients that are 0, divides them by 0, and would step with what is no number."""
    engine = engine_of(precision=GradScaler("cpu", init_scale=2.0**-148))
    before = weights_of(engine.model)
    run = engine.fit(loader(2, [0, 1]), epochs=4)
    assert engine.scaler.get_scale() == 0.0
    assert (run.overflows, run.updates) == (8, 0)
    assert same(before, weights_of(engine.model))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_forward_and_loss_are_cast_in_each_machine_and_so_are_those_of_the_user(precision: str) -> None:
    kinds: dict[str, object] = {}

    def forward(run: Run) -> Tensor:
        kinds[run.machine.name] = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        return run.model(run.inputs)

    def loss(run: Run) -> Tensor:
        kinds[f"{run.machine.name} loss"] = torch.is_autocast_enabled("cpu")
        return nn.functional.mse_loss(run.output, run.targets)

    engine = engine_of(precision=precision, actions={State.FORWARD: output_from(forward), State.LOSS: loss_from(loss)})
    engine.on("forward_end")(lambda run: kinds.update(event=torch.is_autocast_enabled("cpu")))
    engine.fit(loader(1), loader(1))
    engine.evaluate(loader(1))
    assert engine.predict(loader(2)).dtype is TYPES[precision]
    name = engine.machine.name
    assert kinds == {
        **dict.fromkeys((name, "evaluation", "prediction"), TYPES[precision]),
        **dict.fromkeys((f"{name} loss", "evaluation loss"), True),
        "event": False,
    }
    own = engine_of(precision=precision)
    own.fit(loader(1), loader(1))
    assert same(weights_of(engine.model), weights_of(own.model))
    assert own.predict(loader(2)).dtype is TYPES[precision]


def test_a_step_of_the_users_own_is_as_good() -> None:
    def step(run: Run) -> Enum:
        run.optimizer.step()
        return Trigger.WEIGHTS_MOVED

    engines = [engine_of(precision="fp16", actions=own) for own in ({}, {State.STEP: step, State.FLUSH: step})]
    for engine in engines:
        engine.fit(loader(4, [2]), epochs=2)
    assert same(*(weights_of(engine.model) for engine in engines))


def test_the_program_the_dry_run_and_the_proof_are_those_of_what_runs() -> None:
    engine = engine_of(precision="fp16")
    assert (engine.machine, engine.machine.name) == (SCALED, "training in fp16")
    text = engine.source()
    for line in (
        "forward(run)  # run.output = run.model(run.inputs), in fp16",
        "backward(run)  # run.scaler.scale(run.loss).backward()",
        "trigger = unscale(run)  # run.scaler.unscale_(run.optimizer); run.scaler.update()",
        "run.overflows += 1",
    ):
        assert line in text
    assert "in fp16" in engine.source(next(iter(engine.machine.within)))
    assert "overflow" in engine.diagram("mermaid")
    assert State.DESCALE in engine.prove().states
    assert "overflow" not in str(engine.dry_run())
    dry = str(engine.dry_run(reports={State.UNSCALE: lambda counters: Trigger.OVERFLOWED}))
    assert dry.count("overflow") == 2
    assert "step_begin" not in dry


def test_a_callback_that_hears_overflows_may_be_in_any_training() -> None:
    for precision in (None, "bf16"):
        assert engine_of(hears("overflow", print), precision=precision).fit(loader(1)).overflows == 0


def test_a_machine_that_unscales_needs_to_be_told_how() -> None:
    with pytest.raises(MachineRefused, match=r"unscale has no action.*Engine\(precision='fp16'\) gives it one"):
        engine_of(machine=SCALED)
    with pytest.raises(MachineRefused, match="unscale has no action"):
        engine_of(machine=SCALED, precision="bf16")


# --- Machines, optimizers, loops of one's own -------------------------------------------------------------------------


def clipping(base: Machine, **where: Enum) -> Machine:
    return base.insert(Clipping.CLIP, Clipping.CLIPPED, **where)


Clipping = Enum("Clipping", "CLIP CLIPPED")


def clip(run: Run) -> Enum:
    nn.utils.clip_grad_norm_(run.model.parameters(), 0.1)
    return Clipping.CLIPPED


@pytest.mark.parametrize(
    "machine",
    [
        clipping(TRAINING, before=State.STEP),
        clipping(SCALED, before=State.STEP),
        clipping(TRAINING, before=State.AVERAGE),
        clipping(TRAINING, after=State.AVERAGE),
    ],
    ids=lambda machine: machine.name,
)
def test_a_state_that_clips_sees_gradients_that_are_unscaled(machine: Machine) -> None:
    own = engine_of(
        machine=machine, precision="fp16", actions={Clipping.CLIP: Action(clip, reports=(Clipping.CLIPPED,))}
    )
    heard = engine_of(Clip(0.1), precision="fp16")
    for engine in (own, heard):
        engine.fit(loader(4, [1]), epochs=2)
    assert same(weights_of(own.model), weights_of(heard.model))


def test_a_machine_that_cannot_be_scaled_is_refused() -> None:
    with pytest.raises(ExtensionRefused, match="so its loss cannot be scaled"):
        engine_of(machine=TRAINING.without(State.ZERO_GRAD), precision="fp16")


def test_several_optimizers_are_unscaled_one_by_one_and_an_overflow_drops_all() -> None:
    made, hand = model(), model()
    parts = [{"first": m[0].parameters(), "second": m[2].parameters()} for m in (made, hand)]
    optimizers = [{name: optim.SGD(ps, lr=0.1) for name, ps in part.items()} for part in parts]
    engine = Engine(made, nn.functional.mse_loss, optimizers[0], precision=GradScaler("cpu", init_scale=2.0**20))
    run = engine.fit(loader(5, [2]), epochs=2)
    scaler, dropped = GradScaler("cpu", init_scale=2.0**20), 0
    for inputs, targets in loader(5, [2]) * 2:
        with torch.autocast("cpu", torch.float16):
            loss = nn.functional.mse_loss(hand(inputs), targets)
        scaler.scale(loss).backward()
        for optimizer in optimizers[1].values():
            scaler.unscale_(optimizer)
        if all(bool(parameter.grad.isfinite().all()) for parameter in hand.parameters()):
            for optimizer in optimizers[1].values():
                scaler.step(optimizer)
        else:
            dropped += 1
        scaler.update()
        hand.zero_grad()
    assert same(weights_of(made), weights_of(hand))
    assert (run.overflows, engine.scaler.state_dict()) == (dropped, scaler.state_dict())
    assert 2 < dropped < 10


def test_without_any_gradient_a_step_does_what_it_does_without() -> None:
    engine = engine_of(hears("backward_end", lambda run: run.model.zero_grad()), precision="fp16")
    before = weights_of(engine.model)
    assert engine.fit(loader(2)).updates == 2
    assert same(before, weights_of(engine.model))


def test_gradients_of_ones_own_loop_would_be_divided_by_a_scale_that_they_do_not_have() -> None:
    engine = engine_of(precision="fp16")
    before = weights_of(engine.model)
    with engine.start() as run:
        next(run.each_epoch())
        inputs, targets = next(run.each_batch(loader(1)))
        run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
        run.report(Trigger.LOSS_READY, loss=nn.functional.mse_loss(run.output, targets))
        run.loss.backward()
        with refuses(OutOfOrder, "with fp16 the engine would divide them", "mine=PLAIN - {State.BACKWARD}"):
            run.report(Trigger.GRADS_READY)
    assert same(before, weights_of(engine.model))


def test_a_loop_of_ones_own_may_scale_and_unscale() -> None:
    engine, heard = engine_of(precision=low()), []
    engine.on("overflow")(lambda run: heard.append(run.batch_index))
    with engine.start(mine=PLAIN | UNSCALING) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(loader(3, [1])):
                with torch.autocast("cpu", torch.float16):
                    loss = nn.functional.mse_loss(engine.model(inputs), targets)
                run.report(Trigger.OUTPUT_READY, output=None)
                run.report(Trigger.LOSS_READY, loss=loss)
                run.scaler.scale(loss).backward()
                assert run.report(Trigger.GRADS_READY) is State.UNSCALE
                before = run.scaler.get_scale()
                run.scaler.unscale_(engine.optimizer)
                run.scaler.update()
                overflowed = run.scaler.get_scale() < before
                if run.report(Trigger.OVERFLOWED if overflowed else Trigger.GRADS_UNSCALED) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)
    fit = engine_of(precision=low())
    fit.fit(loader(3, [1]))
    assert heard == [1]
    assert same(weights_of(engine.model), weights_of(fit.model))


# --- What goes wrong --------------------------------------------------------------------------------------------------


def failing(where: str) -> Callable[..., Tensor]:
    def fail(*args: object) -> Tensor:
        raise ValueError(where)

    return fail


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("around", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("where", ["forward", "loss"])
def test_autocast_is_as_it_was_whatever_is_raised(where: str, around: torch.dtype | None, precision: str) -> None:
    engine = engine_of(precision=precision)
    if where == "forward":
        engine.model[0].forward = failing(where)
    else:
        engine.loss_fn = failing(where)
    with torch.autocast("cpu", around or torch.bfloat16, enabled=around is not None):
        before = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()
        with pytest.raises(ValueError, match=where):
            engine.fit(loader(1))
        now = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()
    assert now == before


class Interrupted(GradScaler):
    """Ctrl-C comes between two calls of the engine's, once."""

    left = 1

    def update(self, new_scale: float | None = None) -> None:
        if new_scale is None and self.left:
            self.left -= 1
            raise KeyboardInterrupt
        super().update(new_scale)


def test_a_run_that_died_while_it_unscaled_leaves_an_engine_that_trains() -> None:
    engine = engine_of(precision=Interrupted("cpu"))
    with pytest.raises(KeyboardInterrupt):
        engine.fit(loader(2))
    before = weights_of(engine.model)
    run = engine.fit(loader(4), epochs=3)
    fresh = engine_of(precision="fp16")
    fresh.fit(loader(4), epochs=3)
    assert run.outcome is Outcome.COMPLETED
    assert not same(before, weights_of(engine.model))
    assert same(weights_of(engine.model), weights_of(fresh.model))


@pytest.mark.parametrize("event", ["backward_end", "step_begin", "step_end", "overflow"])
def test_a_run_that_died_at_an_event_leaves_an_engine_that_trains(event: str) -> None:
    left = [ValueError("on purpose")]

    def fail(run: Run) -> None:
        if left:
            raise left.pop()

    engine = engine_of(hears(event, fail), precision=GradScaler("cpu", init_scale=2.0**40))
    with pytest.raises(ValueError, match="on purpose"):
        engine.fit(loader(30))
    run = engine.fit(loader(30))
    assert run.outcome is Outcome.COMPLETED
    assert run.updates + run.overflows == 30


def test_the_scale_goes_on_in_a_second_fit_and_in_a_scaler_that_was_loaded() -> None:
    whole, parts = engine_of(precision=GradScaler("cpu", growth_interval=3)), engine_of(precision="fp16")
    whole.fit(loader(4, [1]), epochs=2)
    states: list[dict] = [GradScaler("cpu", growth_interval=3).state_dict()]
    for epoch in range(2):
        engine = Engine(parts.model, parts.loss_fn, parts.optimizer, precision="fp16")
        engine.on("train_begin")(lambda run: run.scaler.load_state_dict(states[-1]))
        engine.on("train_end")(lambda run: states.append(run.scaler.state_dict()))
        engine.fit(loader(4, [1]), epochs=epoch + 1, start_epoch=epoch)
    assert states[-1] == whole.scaler.state_dict()
    assert same(weights_of(whole.model), weights_of(parts.model))


def test_a_loss_that_cannot_be_trained_on_is_explained_as_without() -> None:
    engine = engine_of(precision="fp16", metrics=None)
    for bad, what in (
        (lambda output, targets: output.detach().sum(), "a tensor without a graph"),
        (lambda output, targets: 3.0, "3.0|float"),
        (lambda output, targets: output, "a tensor of shape"),
    ):
        engine.loss_fn = bad
        with pytest.raises(LossRefused, match=what):
            engine.fit(loader(1))


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_precision", "meant"),
    [
        ("float16", "fp16"),
        ("16-mixed", "fp16"),
        (torch.bfloat16, "bf16"),
        ("bf16-mixed", "bf16"),
        (True, "fp16"),
        ([], "fp16"),
    ],
)
def test_another_precision_is_refused_with_the_one_that_was_meant(given_precision: object, meant: str) -> None:
    with refuses(ArgumentRefused, "precision is ", "None, 'bf16' or 'fp16'", f"say precision={meant!r}"):
        engine_of(precision=given_precision)


def test_what_could_not_work_is_refused_before_anything_is_changed() -> None:
    with refuses(ArgumentRefused, "switched off"):
        engine_of(precision=GradScaler("cpu", enabled=False))
    with refuses(ArgumentRefused, "no autocast on meta"):
        Engine(nn.Linear(1, 1, device="meta"), precision="bf16")
    with refuses(ArgumentRefused, "capture is True, and precision is bf16"):
        engine_of(precision="bf16", capture=True).fit(loader(1))
    with refuses(ArgumentRefused, "capture is True, and precision is fp16"):
        engine_of(precision="fp16", capture=True).fit(loader(1))
    with refuses(ArgumentRefused, "replaces backward, not unscale", "State.DESCALE"):
        engine_of(precision="fp16", actions={State.BACKWARD: lambda run: Trigger.GRADS_READY})
    with refuses(ArgumentRefused, "answers skip_zero_grad", "accumulate"):
        engine_of(answers("skip_zero_grad", lambda run: False), precision="fp16").fit(loader(1))
    assert engine_of(answers("skip_zero_grad", lambda run: True), precision="bf16").fit(loader(1)).updates == 1
    with pytest.raises(AttributeError):
        engine_of().precision = "bf16"


def test_optimizers_that_cannot_be_unscaled_are_refused() -> None:
    made = model()
    closing = Engine(made, nn.functional.mse_loss, optim.LBFGS(made.parameters()), precision="fp16")
    with refuses(OptimizerRefused, "LBFGS evaluates the loss anew", "bf16"):
        closing.fit(loader(1))
    twice = {name: optim.SGD(made.parameters()) for name in ("one", "other")}
    with refuses(OptimizerRefused, "two optimizers hold one parameter"):
        Engine(made, nn.functional.mse_loss, twice, precision="fp16").fit(loader(1))
    half = model().half()
    with refuses(OptimizerRefused, "the weights are float16 themselves", "model.float()"):
        Engine(half, nn.functional.mse_loss, optim.SGD(half.parameters()), precision="fp16").fit(loader(1))
    with refuses(OptimizerRefused, "the optimizer is None"):
        Engine(made, nn.functional.mse_loss, precision="fp16").fit(loader(1))


def test_a_backward_and_what_unscales_may_both_be_the_users() -> None:
    def backward(run: Run) -> Enum:
        (run.loss * 8.0).backward()
        return Trigger.GRADS_READY

    def unscale(run: Run) -> Enum:
        for parameter in run.model.parameters():
            parameter.grad /= 8.0
        return Trigger.GRADS_UNSCALED

    own = {State.BACKWARD: backward, **dict.fromkeys(UNSCALING, unscale)}
    engine, other = engine_of(precision="fp16", actions=own), engine_of(precision=GradScaler("cpu", init_scale=8.0))
    for one in (engine, other):
        one.fit(loader(3))
    assert same(weights_of(engine.model), weights_of(other.model))


def test_a_closure_is_evaluated_in_bf16() -> None:
    made = model()
    kinds: list[torch.dtype] = []
    made.register_forward_hook(lambda module, args, output: kinds.append(output.dtype))
    engine = Engine(made, nn.functional.mse_loss, optim.LBFGS(made.parameters(), max_iter=3), precision="bf16")
    before = weights_of(made)
    engine.fit(loader(1))
    assert len(kinds) > 1
    assert {*kinds} == {torch.bfloat16}
    assert not same(before, weights_of(made))


# --- What it costs, and who else looks at it --------------------------------------------------------------------------


def test_bf16_reads_nothing_on_the_host_and_fp16_does_where_it_unscales_alone() -> None:
    for precision in ("bf16", low()):
        engine, counted = engine_of(precision=precision), []
        modes: list[Count] = []

        def begin(run: Run, modes: list[Count] = modes) -> None:
            modes.append(Count())
            modes[-1].__enter__()

        def end(run: Run, modes: list[Count] = modes, counted: list[int] = counted) -> None:
            modes[-1].__exit__(None, None, None)
            counted.append(modes[-1].host_reads)

        for pair in (("batch_begin", "backward_end"), ("step_begin", "batch_end")):
            engine.on(pair[0])(begin)
            engine.on(pair[1])(end)
        engine.fit(loader(3))
        assert counted == [0] * 6


def subject() -> tuple[Engine, dict[str, Any]]:
    """One in which a step of each epoch overflows, whatever the scale: a second training hears what the first heard."""
    engine = engine_of(Window(2), Clip(1.0), precision=low())
    return engine, {"train_loader": loader(3, [1]), "valid_loader": loader(1), "epochs": 2}


def test_the_ordering_kit_finds_nothing() -> None:
    engine, given = subject()
    assert engine.fit(**given).overflows == 2
    check_order(subject, runs=20, seed=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_what_is_compiled_is_cast_as_well() -> None:
    compiled, plain = engine_of(precision="bf16", compile=True), engine_of(precision="bf16")
    kinds: list[torch.dtype] = []
    compiled.on("forward_end")(lambda run: kinds.append(run.output.dtype))
    for engine in (compiled, plain):
        engine.fit(loader(3), loader(1), epochs=2)
    assert {*kinds} == {torch.bfloat16}
    torch.testing.assert_close(compiled.model.state_dict(), plain.model.state_dict(), rtol=0.05, atol=0.01)
    assert "compiled, in bf16" in compiled.source()
