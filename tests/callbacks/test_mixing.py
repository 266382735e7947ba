"""Are inputs and loss mixed alike, as a loop written by hand mixes them, and is the loss function always put back?"""

from collections.abc import Callable
from enum import Enum
from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from engine import Callback, Engine, State, Trigger, loss_from
from engine.callbacks import CutMix, MixUp
from engine.callbacks.mixing import Mix, MixedLoss
from engine.errors import ArgumentRefused, BatchRefused, CallbackRefused, LossRefused
from engine.testing import check_order
from states import EVALUATION, TRAINING, Event


Pair = tuple[Tensor, Tensor]


def pictures(number: int, seed: int = 1, size: int = 6) -> list[Pair]:
    chance = torch.Generator().manual_seed(seed)
    return [
        (torch.rand(size, 2, 5, 7, generator=chance), torch.randint(4, (size,), generator=chance))
        for _ in range(number)
    ]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(70, 4))  # which draws random numbers, too


def engine_with(*callbacks: object, loss_fn: Any = nn.functional.cross_entropy, **parts: Any) -> Engine:
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Engine(model, loss_fn, sgd, callbacks, **parts)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def mixed_up(inputs: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """By hand, with the draws in the callback's order."""
    partner = torch.randperm(len(inputs))
    share = torch.distributions.Beta(alpha, alpha).sample().item()
    return torch.lerp(inputs[partner], inputs, share), partner, share


def cut_in(inputs: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """By hand, a pixel at a time: which of them lie in the box."""
    partner = torch.randperm(len(inputs))
    side = sqrt(1 - torch.distributions.Beta(alpha, alpha).sample().item())
    high, wide = inputs.shape[-2:]
    row, column = (int(length * place) for length, place in zip((high, wide), torch.rand(2).tolist(), strict=True))
    half_high, half_wide = int(high * side) // 2, int(wide * side) // 2
    mixed, cut = inputs.clone(), 0
    for i in range(high):
        for j in range(wide):
            if -half_high <= i - row < half_high and -half_wide <= j - column < half_wide:
                mixed[..., i, j] = inputs[partner, ..., i, j]
                cut += 1
    return mixed, partner, 1 - cut / (high * wide)


Mixer = Callable[[Tensor, float], tuple[Tensor, Tensor, float]]


def by_hand(batches: list[Pair], epochs: int, mix: Mixer, alpha: float, loss_fn: Any) -> Tensor:
    """The loop that one would have written."""
    model = network()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(7)
    for _ in range(epochs):
        for inputs, targets in batches:
            mixed, partner, share = mix(inputs, alpha)
            output = model(mixed)
            loss = share * loss_fn(output, targets) + (1 - share) * loss_fn(output, targets[partner])
            loss.backward()
            sgd.step()
            sgd.zero_grad()
    return weights(model)


LOSSES = {
    "plain": nn.functional.cross_entropy,
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "floats": lambda output, targets: nn.functional.mse_loss(output, nn.functional.one_hot(targets, 4).float()),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("make", "mix", "alpha"), [(MixUp, mixed_up, 0.4), (CutMix, cut_in, 1.0)])
def test_weights_are_those_of_a_loop_by_hand_bit_for_bit(make: Any, mix: Mixer, alpha: float, loss: str) -> None:
    engine = engine_with(make(alpha), loss_fn=LOSSES[loss])
    torch.manual_seed(7)
    engine.fit(pictures(5), pictures(2, seed=2), epochs=2)

    assert torch.equal(weights(engine.model), by_hand(pictures(5), 2, mix, alpha, LOSSES[loss]))


@settings(max_examples=60, deadline=None)
@given(
    alpha=st.floats(0.05, 5),
    size=st.integers(1, 5),
    high=st.integers(1, 9),
    wide=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_a_cut_picture_has_each_pixel_of_one_of_two_and_the_share_is_that_of_the_pixels(
    alpha: float, size: int, high: int, wide: int, seed: int
) -> None:
    own = torch.arange(float(size)).view(size, 1, 1, 1).expand(size, 3, high, wide).contiguous()
    kept = own.clone()
    torch.manual_seed(seed)
    partner = torch.randperm(size)
    mixed, share = CutMix(alpha)._mixed(own, partner, torch.rand(()).item())

    assert torch.equal(own, kept)
    assert bool(((mixed == own) | (mixed == own[partner])).all())
    for sample, other in enumerate(partner.tolist()):
        if sample != other:
            assert (mixed[sample] == sample).float().mean().item() == pytest.approx(share)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_mixed_samples_and_losses_are_those_of_the_papers_formula(share: float, seed: int) -> None:
    torch.manual_seed(seed)
    inputs, partner = torch.rand(5, 3, dtype=torch.float64), torch.randperm(5)
    mixed, same = MixUp()._mixed(inputs, partner, share)

    assert same == share
    torch.testing.assert_close(mixed, share * inputs + (1 - share) * inputs[partner])


class Watch(Callback):
    """Notes what the loss function is, at each event that it hears, behind all others."""

    order = 999

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {}

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(f"on_{event.name.lower()}" for event in Event)]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def note(run: Any) -> None:
            self.seen.setdefault(name[3:], []).append(run.loss_fn)

        return note


@pytest.mark.parametrize("make", [MixUp, CutMix])
def test_the_loss_function_is_the_mixed_one_within_a_training_batch_alone(make: Any) -> None:
    watch = Watch()
    engine = engine_with(make(), watch)
    run = engine.fit(pictures(3), pictures(2), epochs=2)

    within = {"batch_begin", "forward_begin", "forward_end", "loss_begin", "loss_end", "backward_begin"}
    within |= {"backward_end", "step_begin", "step_end"}
    for event, functions in watch.seen.items():
        kinds = {isinstance(function, MixedLoss) for function in functions}
        assert kinds == {event in within}, event
        assert event in within or set(functions) == {nn.functional.cross_entropy}
    assert run.loss_fn is engine.loss_fn is nn.functional.cross_entropy


def test_validation_is_untouched() -> None:
    plain, mixing = engine_with(), engine_with(MixUp())
    measured = [engine.evaluate(pictures(2)).metrics for engine in (plain, mixing)]
    assert measured[0] == measured[1]

    run = mixing.fit(pictures(3), pictures(2))
    assert run.metrics["valid_loss"] == mixing.evaluate(pictures(2)).metrics["valid_loss"]


class Peek(Enum):
    PEEK = "peek"  # a validation before each step
    SKIP_PEEK = "skip_peek"


def test_a_validation_within_a_batch_has_the_loss_function_that_was_there() -> None:
    watch, machine = Watch(), TRAINING.insert(Peek.PEEK, before=State.STEP, holds=EVALUATION, skip=Peek.SKIP_PEEK)
    engine = engine_with(MixUp(), watch, machine=machine)
    torch.manual_seed(7)
    run = engine.fit(pictures(3), pictures(1), epochs=1)

    assert set(watch.seen["validate_loss_end"]) == {nn.functional.cross_entropy}
    assert all(isinstance(function, MixedLoss) for function in watch.seen["step_begin"])
    assert run.loss_fn is nn.functional.cross_entropy
    assert torch.equal(weights(engine.model), by_hand(pictures(3), 1, mixed_up, 0.4, nn.functional.cross_entropy))


@pytest.mark.parametrize("where", ["batch_begin", "forward_end", "loss_begin", "loss_end", "step_end", "batch_end"])
@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt()], ids=["error", "interrupt"])
@pytest.mark.parametrize("order", [0, 20])
def test_nothing_is_left_behind_by_a_run_that_dies(where: str, what: BaseException, order: int) -> None:
    engine = engine_with(MixUp())

    def fault(run: Any) -> None:
        if run.batches_done == 1:
            raise what

    engine.on(where, order=order)(fault)
    with pytest.raises(type(what)):
        engine.fit(pictures(3))

    assert engine.loss_fn is nn.functional.cross_entropy
    assert engine.last_run is not None
    assert engine.last_run.loss_fn is nn.functional.cross_entropy


@pytest.mark.parametrize("guard", ["skip_batch", "skip_backward", "accumulate", "skip_step", "stop_epoch"])
def test_nothing_is_left_behind_by_a_batch_that_is_skipped_or_the_last_one(guard: str) -> None:
    watch = Watch()
    engine = engine_with(MixUp(), watch)
    engine.guard(guard)(lambda run: run.batch_index == 1)
    run = engine.fit(pictures(3), pictures(1), epochs=2)

    assert set(watch.seen["batch_end"]) == set(watch.seen["validate_begin"]) == {nn.functional.cross_entropy}
    assert run.loss_fn is nn.functional.cross_entropy


def test_the_loaders_own_batches_are_not_written_into() -> None:
    batches = pictures(2)
    for make in (MixUp, CutMix):
        engine_with(make()).fit(batches)

    assert all(torch.equal(one[0], other[0]) for one, other in zip(batches, pictures(2), strict=True))


def test_two_in_one_engine_mix_one_behind_the_other_and_the_loss_alike() -> None:
    engine = engine_with(MixUp(), CutMix())
    seen: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    engine.on("loss_end")(lambda run: seen.append((run.inputs, run.targets, run.output.detach(), run.loss.detach())))
    torch.manual_seed(7)
    (batch,) = pictures(1)
    engine.fit([batch])

    torch.manual_seed(7)
    first, p, s = mixed_up(batch[0], 0.4)
    second, q, r = cut_in(first, 1.0)
    (inputs, targets, output, loss) = seen[0]
    assert torch.equal(inputs, second)
    assert torch.equal(targets, batch[1])
    labels, ids = nn.functional.one_hot(batch[1], 4).float(), range(len(p))
    weighed = torch.stack(
        [
            r * (s * labels[i] + (1 - s) * labels[p[i]])
            + (1 - r) * (s * labels[q[i]] + (1 - s) * labels[p[q[i]]])  # the partner's partner
            for i in ids
        ]
    )
    torch.testing.assert_close(loss, nn.functional.cross_entropy(output, weighed))


def test_metrics_are_computed_with_the_targets_of_the_loader() -> None:
    seen: list[Tensor] = []

    def note(output: Tensor, targets: Tensor) -> Tensor:
        seen.append(targets)
        return output.mean()

    engine_with(MixUp(), metrics={"note": note}).fit(pictures(2))
    assert all(torch.equal(one, other) for one, (_, other) in zip(seen, pictures(2), strict=True))


def test_a_loop_of_ones_own_with_the_runs_loss_function_is_the_same_training() -> None:
    engine = engine_with(MixUp())
    torch.manual_seed(7)
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(pictures(3)):
                output = engine.model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = run.loss_fn(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)

    assert torch.equal(weights(engine.model), by_hand(pictures(3), 2, mixed_up, 0.4, nn.functional.cross_entropy))


def test_a_loop_of_ones_own_with_another_loss_function_is_refused() -> None:
    engine = engine_with(CutMix())
    before = weights(engine.model)
    run = engine.start()
    next(run.each_epoch())
    inputs, targets = next(run.each_batch(pictures(3)))
    output = engine.model(inputs)
    run.report(Trigger.OUTPUT_READY, output=output)
    loss = engine.loss_fn(output, targets)
    with pytest.raises(LossRefused, match="CutMix mixed the inputs") as caught:
        run.report(Trigger.LOSS_READY, loss=loss)

    assert "run.loss_fn, not engine.loss_fn" in caught.value.instead
    assert torch.equal(before, weights(engine.model))
    assert run.loss_fn is engine.loss_fn


@pytest.mark.parametrize("its_own", [True, False])
def test_a_loss_action_has_to_call_the_runs_loss_function(its_own: bool) -> None:
    def compute(run: Any) -> Tensor:
        return run.loss_fn(run.output, run.targets) if its_own else nn.functional.cross_entropy(run.output, run.targets)

    engine = engine_with(MixUp(), actions={State.LOSS: loss_from(compute)})
    torch.manual_seed(7)
    if its_own:
        engine.fit(pictures(3))
        assert torch.equal(weights(engine.model), by_hand(pictures(3), 1, mixed_up, 0.4, nn.functional.cross_entropy))
        return
    before = weights(engine.model)
    with pytest.raises(LossRefused, match=r"without run.loss_fn in loss \(epoch 0, batch 0, update 0\)"):
        engine.fit(pictures(3))
    assert torch.equal(before, weights(engine.model))


def test_what_evaluates_a_batch_anew_evaluates_the_mixed_loss() -> None:
    losses: list[list[Tensor]] = []
    for _ in range(2):
        seen: list[Tensor] = []

        def loss_fn(output: Tensor, targets: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(targets)
            return nn.functional.cross_entropy(output, targets)

        model = nn.Sequential(nn.Flatten(), nn.Linear(70, 4))
        engine = Engine(model, loss_fn, torch.optim.LBFGS(model.parameters(), max_iter=3), [MixUp()])
        torch.manual_seed(7)
        engine.fit(pictures(1))
        losses.append(seen)

    (own, partners), further = losses[0][:2], losses[0][2:]
    assert len(further) >= 2
    assert not torch.equal(own, partners)
    assert all(torch.equal(targets, (own, partners)[index % 2]) for index, targets in enumerate(further))


def test_a_compiled_loss_is_not_compiled_anew_for_each_batch_and_gives_the_same() -> None:
    from torch._dynamo.testing import CompileCounter  # noqa: PLC0415  # it takes seconds to import

    counter = CompileCounter()
    compiled = torch.compile(lambda loss_fn, output, targets: loss_fn(output, targets), backend=counter)
    output, targets = torch.rand(6, 4), torch.randint(4, (6,))
    for share in torch.rand(8).tolist():
        mixes = [Mix(share, torch.randperm(6)), Mix(1 - share / 2, torch.randperm(6))]
        mixed = MixedLoss(nn.functional.cross_entropy, mixes)
        loss = compiled(mixed, output, targets)
        assert mixed.called
        assert torch.equal(loss, MixedLoss(nn.functional.cross_entropy, mixes)(output, targets))

    assert 1 <= counter.frame_count <= 2  # and once more when it is seen that shares change


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), "much", None, True])
@pytest.mark.parametrize("make", [MixUp, CutMix])
def test_an_alpha_that_is_no_number_above_zero_is_refused(make: Any, alpha: Any) -> None:
    with pytest.raises(ArgumentRefused, match="alpha is ") as caught:
        make(alpha)

    assert caught.value.what.startswith(f"alpha is {alpha!r}, ")
    assert caught.value.allowed.startswith("a number above 0")


ONES = torch.ones(4, 3)


@pytest.mark.parametrize(
    ("callback", "batch", "what", "allowed"),
    [
        (
            MixUp(),
            ([1.0, 2.0], ONES),
            "MixUp cannot mix run.inputs, a list",
            "a tensor of floats, of shape (batch, ...)",
        ),
        (MixUp(), (ONES.int(), ONES), "MixUp cannot mix run.inputs, torch.int32 of shape (4, 3)", "a tensor of floats"),
        (MixUp(), (torch.tensor(1.0), ONES), "MixUp cannot mix run.inputs, torch.float32 of shape ()", "a tensor of"),
        (
            MixUp(),
            (ONES, ONES[:3]),
            "MixUp cannot mix run.targets, torch.float32 of shape (3, 3)",
            "one target for each",
        ),
        (MixUp(), (ONES, {"a": ONES}), "MixUp cannot mix run.targets, a dict", "one target for each"),
        (CutMix(), (ONES, ONES), "CutMix cannot mix run.inputs, torch.float32 of shape (4, 3)", "a tensor of pictures"),
    ],
)
def test_a_batch_that_cannot_be_mixed_is_refused(callback: Any, batch: Any, what: str, allowed: str) -> None:
    engine = engine_with(callback)
    before = weights(engine.model)
    with pytest.raises(BatchRefused) as caught:
        engine.fit([batch])

    assert caught.value.what == f"{what}, in batch (epoch 0, batch 0, update 0)"
    assert allowed in caught.value.allowed
    assert torch.equal(before, weights(engine.model))
    assert engine.last_run is not None
    assert engine.last_run.loss_fn is nn.functional.cross_entropy


def test_an_engine_without_a_loss_function_is_refused() -> None:
    action = loss_from(lambda run: nn.functional.cross_entropy(run.output, run.targets))
    with pytest.raises(CallbackRefused, match="MixUp mixes the loss, and the engine has no loss function"):
        engine_with(MixUp(), loss_fn=None, actions={State.LOSS: action}).fit(pictures(1))


def test_a_machine_that_does_not_announce_its_losses_is_refused() -> None:
    machine = TRAINING.without(Event.LOSS_BEGIN, Event.LOSS_END)
    with pytest.raises(CallbackRefused, match="CutMix needs loss_end, and the machine"):
        engine_with(CutMix(), machine=machine).fit(pictures(1))


class HostReads(TorchDispatchMode):
    """Counts how often a tensor is read on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_one_number_is_read_for_each_batch_and_that_was_drawn_on_the_host() -> None:
    counts = []
    for callbacks in ((), (MixUp(),), (CutMix(),)):
        with HostReads() as reads:
            engine_with(*callbacks).fit(pictures(20))
        counts.append(reads.count)

    assert [count - counts[0] for count in counts] == [0, 20, 20]


def test_it_is_used_in_a_second_training_as_in_the_first_and_takes_part_in_trials() -> None:
    callback = MixUp()
    trained = []
    for _ in range(2):
        engine = engine_with(callback)
        torch.manual_seed(7)
        engine.fit(pictures(3), start_epoch=1, epochs=2)
        trained.append(weights(engine.model))

    assert torch.equal(*trained)
    assert callback.in_trials
    assert callback.uses_random


def test_the_ordering_kit_finds_nothing() -> None:
    def factory() -> tuple[Engine, dict[str, Any]]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
        engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [MixUp(), CutMix()])
        batches = [(torch.rand(2, 1, 2, 2), torch.rand(2, 1)) for _ in range(3)]
        return engine, {"train_loader": batches, "valid_loader": batches[:2], "epochs": 2}

    check_order(factory, runs=20, seed=0)
