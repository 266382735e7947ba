"""Is a batch transformed where it should be, on the device, and nowhere else?"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine import Engine
from engine.callbacks import BatchTransform
from engine.errors import ArgumentRefused, BatchRefused
from engine.testing import check_order
from engine.testing.left.leaks import judge_leaks
from tests.engine.recording import batches
from tests.testing.subjects import subject


def engine_with(*callbacks: object) -> Engine:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    return Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), callbacks)


def noisy(inputs: Tensor) -> Tensor:
    return inputs + torch.randn_like(inputs)


def test_weights_are_those_of_a_loop_by_hand_bit_for_bit() -> None:
    engine = engine_with(BatchTransform(noisy, uses_random=True))
    torch.manual_seed(7)
    engine.fit(batches(4), batches(2), epochs=2)

    by_hand = engine_with()
    model, sgd = by_hand.model, by_hand.optimizer
    torch.manual_seed(7)
    for _ in range(2):
        for inputs, targets in batches(4):
            nn.functional.mse_loss(model(noisy(inputs)), targets).backward()
            sgd.step()
            sgd.zero_grad()
    assert all(map(torch.equal, engine.model.parameters(), model.parameters()))


@pytest.mark.parametrize("on", ["train", "valid", "predict", ("train", "valid"), ["predict", "valid", "train"]])
def test_it_is_done_in_the_passes_that_were_named(on: Any) -> None:
    engine = engine_with(BatchTransform(lambda inputs: inputs * 0 + 3, on=on))
    seen: dict[str, list[float]] = {"train": [], "valid": [], "predict": []}
    for event, name in (("forward_begin", "train"), ("validate_forward_begin", "valid")):
        engine.on(event)(lambda run, name=name: seen[name].append(run.inputs.mean().item()))
    engine.on("predict_forward_begin")(lambda run: seen["predict"].append(run.inputs.mean().item()))
    engine.fit(batches(2), batches(1))
    engine.evaluate(batches(1))
    engine.predict(batches(1))

    assert {name for name, means in seen.items() if set(means) == {3.0}} == ({on} if isinstance(on, str) else {*on})
    assert [len(means) for means in seen.values()] == [2, 2, 1]


def test_targets_are_transformed_with_the_inputs_where_the_function_takes_both() -> None:
    engine = engine_with(BatchTransform(lambda inputs, targets: (inputs.flip(0), targets.flip(0)), targets=True))
    seen: list[tuple[Tensor, Tensor]] = []
    engine.on("forward_begin")(lambda run: seen.append((run.inputs, run.targets)))
    engine.fit(batches(1))

    ((inputs, targets),) = batches(1)
    assert torch.equal(seen[0][0], inputs.flip(0))
    assert torch.equal(seen[0][1], targets.flip(0))


def test_two_of_them_are_done_in_the_order_of_registration() -> None:
    engine = engine_with(BatchTransform(lambda inputs: inputs + 1), BatchTransform(lambda inputs: inputs * 2))
    seen: list[Tensor] = []
    engine.on("forward_begin")(lambda run: seen.append(run.inputs))
    engine.fit(batches(1))

    assert torch.equal(seen[0], (batches(1)[0][0] + 1) * 2)


@pytest.mark.parametrize(
    ("function", "targets", "what", "allowed"),
    [
        (lambda inputs: None, False, "a NoneType", "the inputs that the model is to see"),
        (lambda inputs, targets: inputs, True, "a torch.Tensor", "the pair (inputs, targets)"),
        (lambda inputs, targets: (inputs,), True, "a tuple", "the pair (inputs, targets)"),
    ],
)
def test_a_function_that_gives_nothing_or_no_pair_is_refused(
    function: Any, targets: bool, what: str, allowed: str
) -> None:
    engine = engine_with(BatchTransform(function, targets=targets))
    with pytest.raises(BatchRefused) as caught:
        engine.fit(batches(1))

    where = "in batch (epoch 0, batch 0, update 0)"
    assert caught.value.what == f"the function of BatchTransform returned {what} {where}"
    assert caught.value.allowed == allowed


@pytest.mark.parametrize("on", ["test", (), ("train", "test"), None, 3, ("train", 3)])
def test_another_pass_is_refused(on: Any) -> None:
    with pytest.raises(ArgumentRefused, match="on is ") as caught:
        BatchTransform(noisy, on=on)

    assert caught.value.allowed == "'train', 'valid', 'predict', or a tuple of them"


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(ArgumentRefused, match="function is a list"):
        BatchTransform([noisy])  # that is the point


def test_the_ordering_kit_finds_nothing() -> None:
    def halve(inputs: Tensor) -> Tensor:
        return inputs / 2

    check_order(subject(lambda: BatchTransform(halve, on=("train", "valid"))), runs=20, seed=0)


def test_one_that_draws_random_numbers_has_to_say_so() -> None:
    def made(uses_random: bool) -> Any:
        engine = engine_with(BatchTransform(noisy, uses_random=uses_random))
        return engine, lambda: engine.fit(batches(1))

    assert judge_leaks(lambda: made(uses_random=True)) == ()
    (leak,) = judge_leaks(lambda: made(uses_random=False))
    assert leak.what == "drew random numbers of torch without saying so"
