"""Are the averages torch's own, does a validation look at them, and do the weights always come back?"""

import io
from contextlib import suppress
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from engine import Engine
from engine.callbacks.averaged_weights import AveragedWeights
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.callbacks.test_progress import Fault, HostReads
from tests.testing.subjects import subject


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))


def batches(number: int = 4) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 3, generator=chance), torch.randn(4, 1, generator=chance)) for _ in range(number)]


def engine_of(model: nn.Module, *callbacks: object) -> Engine:
    return Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), callbacks)


def floats(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def by_hand(decay: float, start: int, every: int, epochs: int) -> tuple[nn.Module, AveragedModel, list[float]]:
    """Torch's own class in a plain loop, and the loss of each validation."""
    model = model_of()
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps, losses = 0, []
    for epoch in range(epochs):
        model.train()
        for inputs, targets in batches():
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
            steps += epoch >= start
            if steps and steps % every == 0 and epoch >= start:
                averaged.update_parameters(model)
        looked_at = averaged.eval() if averaged.n_averaged else model.eval()
        with torch.no_grad():
            losses.append(sum(nn.functional.mse_loss(looked_at(x), y).item() for x, y in batches(2)) / 2)
    return model, averaged, losses


@settings(max_examples=12)
@given(
    decay=st.floats(0, 0.99),
    start=st.integers(0, 3),
    every=st.integers(1, 5),
)
def test_the_average_and_the_validations_are_those_of_the_loop_by_hand(decay: float, start: int, every: int) -> None:
    model, callback = model_of(), AveragedWeights(decay=decay, start_epoch=start, every=every)
    run = engine_of(model, callback).fit(batches(), batches(2), epochs=3)
    wanted, averaged, losses = by_hand(decay, start, every, 3)

    assert same(floats(model), floats(wanted))
    assert [record["valid_loss"] for record in run.history] == pytest.approx(losses, rel=1e-12)
    if averaged.n_averaged:
        assert same(callback.weights, floats(averaged.module))
    else:
        assert callback.weights == {}


@pytest.mark.parametrize("every", [1, 3])
def test_the_equal_average_is_torchs_and_about_the_mean_of_all(every: int) -> None:
    model, callback = model_of(), AveragedWeights(decay=None, every=every)
    wanted = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    taken: list[dict[str, Tensor]] = []
    engine = engine_of(model, callback)

    @engine.on("step_end", every=every)
    def take_in(run: Any) -> None:
        wanted.update_parameters(model)
        taken.append(floats(model))

    engine.fit(batches(), epochs=3)

    assert len(taken) == 12 // every
    for name, _ in model.named_parameters():
        assert torch.equal(callback.weights[name], wanted.module.state_dict()[name])
    for name, value in callback.weights.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in taken]).mean(0))


def test_a_model_of_the_averages_can_be_made_and_its_batch_norms_measured_anew() -> None:
    model, callback = model_of(), AveragedWeights(decay=0.5)
    engine_of(model, callback).fit(batches(), epochs=2)
    before = floats(model)
    mean_model = callback.copy_to(deepcopy(model))

    assert same(floats(mean_model), callback.weights)
    assert same(floats(model), before)
    update_bn(batches(), mean_model)
    assert torch.equal(mean_model[0].weight, callback.weights["0.weight"])
    assert not torch.equal(mean_model[1].running_mean, callback.weights["1.running_mean"])


def test_an_evaluation_by_itself_and_a_validation_that_was_asked_to_looks_at_the_weights_themselves() -> None:
    losses = []
    for callbacks in ([], [AveragedWeights(decay=0.9, in_validation=False)], [AveragedWeights(decay=0.9)]):
        model = model_of()
        engine = engine_of(model, *callbacks)
        run = engine.fit(batches(), batches(2), epochs=2)
        losses.append((engine.evaluate(batches(2)).metrics["valid_loss"], run.history[-1]["valid_loss"]))

    assert losses[0] == losses[1]
    assert losses[2][0] == losses[0][0]
    assert losses[2][1] != losses[0][1]


@pytest.mark.parametrize("where", ["train", "valid"])
@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
def test_the_weights_are_back_however_a_run_ends_and_before_a_checkpoint_is_taken(where: str, what: Any) -> None:
    ends = []
    for callbacks in ([], [AveragedWeights(decay=0.9)]):
        model = model_of()
        engine = engine_of(model, *callbacks, Fault(where, what))
        taken: list[dict[str, Tensor]] = []
        for event in ("stop", "exception", "validate_end"):
            engine.on(event, order=290)(lambda run, model=model, taken=taken: taken.append(floats(model)))
        with suppress(ValueError, KeyboardInterrupt):
            engine.fit(batches(), batches(2), epochs=3)
        ends.append([*taken, floats(model)])

    assert len(ends[0]) == len(ends[1]) > 2
    assert all(map(same, *ends))


@pytest.mark.parametrize("what", [None, ValueError("broken")], ids=["stop", "error"])
def test_those_before_it_still_see_the_averages_where_a_validation_breaks_off(what: Any) -> None:
    averaged, seen = AveragedWeights(decay=0.9), list[bool]()
    engine = engine_of(model_of(), averaged, Fault("valid", what))
    for order in (79, 81):
        engine.on("exception" if what else "stop", order=order)(
            lambda run: seen.append(same(floats(run.model), averaged.weights))
        )
    with suppress(ValueError):
        engine.fit(batches(), batches(2), epochs=3)
    assert seen[:2] == [True, False]


@pytest.mark.parametrize("copies", range(1, 14))
def test_an_interrupt_while_the_weights_are_exchanged_leaves_them_as_they_were(
    copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of()
    engine = engine_of(model, AveragedWeights(decay=0.9))
    before: list[dict[str, Tensor]] = []
    engine.on("validate_begin", order=-1)(lambda run: before.append(floats(model)))
    copy, left = Tensor.copy_, copies

    def interrupted(place: Tensor, *args: Any) -> Tensor:
        nonlocal left
        left -= bool(before) and place.data_ptr() in places
        if left == 0:
            left = -1
            raise KeyboardInterrupt
        return copy(place, *args)

    places = {value.data_ptr() for value in model.state_dict().values()}
    monkeypatch.setattr(Tensor, "copy_", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.fit(batches(), batches(2))
    monkeypatch.undo()

    assert same(floats(model), before[0])


def test_a_second_interrupt_while_the_weights_are_put_back_leaves_them_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = []
    for callbacks in ([], [AveragedWeights(decay=0.9)]):
        model = model_of()
        engine = engine_of(model, *callbacks, Fault("valid", KeyboardInterrupt()))

        def interrupted(place: Tensor, *args: Any) -> Tensor:
            monkeypatch.undo()
            raise KeyboardInterrupt

        engine.on("exception", order=-1)(lambda run, copy_=interrupted: monkeypatch.setattr(Tensor, "copy_", copy_))
        with pytest.raises(KeyboardInterrupt):
            engine.fit(batches(), batches(2), epochs=3)
        monkeypatch.undo()
        ends.append(floats(model))

    assert same(*ends)


def test_a_training_that_goes_on_from_a_state_is_the_one_that_was_not_interrupted() -> None:
    model, callback = model_of(), AveragedWeights(decay=0.9, every=3)
    whole = engine_of(model, callback).fit(batches(), batches(2), epochs=4)

    first, half = model_of(), AveragedWeights(decay=0.9, every=3)
    engine_of(first, half).fit(batches(), batches(2), epochs=2)
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "averaged": half.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second, other_half = model_of(), AveragedWeights(decay=0.9, every=3)
    second.load_state_dict(state["model"])
    other_half.load_state_dict(state["averaged"])
    rest = engine_of(second, other_half).fit(batches(), batches(2), epochs=4, start_epoch=2)

    assert same(other_half.weights, callback.weights)
    assert [r["valid_loss"] for r in rest.history] == [r["valid_loss"] for r in whole.history[2:]]
    assert same(half.weights, state["averaged"]["weights"])  # what was loaded is a copy


def test_a_second_training_begins_anew() -> None:
    model, callback = model_of(), AveragedWeights(decay=0.9, every=3)
    start = deepcopy(model.state_dict())
    engine = engine_of(model, callback)
    engine.fit(batches(), epochs=2)
    first = deepcopy(callback.weights)
    model.load_state_dict(start)
    engine.fit(batches(), epochs=2)

    assert same(first, callback.weights)


def test_a_buffer_that_the_model_replaces_is_averaged_and_put_back_all_the_same() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, inputs: Tensor) -> Tensor:
            if self.training:
                self.seen = self.seen + 1
            return self.linear(inputs) + 0 * self.seen

    model, callback = Counts(), AveragedWeights(decay=0.5)
    engine_of(model, callback).fit(batches(3), batches(2))

    assert callback.weights["seen"].item() == 0.5 * (0.5 * 1 + 0.5 * 2) + 0.5 * 3
    assert model.seen.item() == 3


def test_a_hook_on_the_model_is_no_hindrance() -> None:
    model, callback = model_of(), AveragedWeights()
    engine = engine_of(model, callback)
    engine.on("train_begin")(lambda run: model.register_forward_hook(lambda *_: iter(run.loader) and None))
    engine.fit(batches(), batches(2))

    assert callback.weights


def test_nothing_is_read_on_the_host() -> None:
    counts = []
    for callbacks in ([], [AveragedWeights()], [AveragedWeights(decay=None)]):
        with HostReads() as reads:
            engine_of(model_of(), *callbacks).fit(batches(30), batches(2), epochs=2)
        counts.append(reads.count)

    assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"decay": 1.0}, "decay is 1.0, a float\n  allowed:  a number from 0 to below 1; None for the equal average"),
        ({"decay": -0.1}, "decay is -0.1, a float"),
        ({"decay": "0.9"}, "decay is '0.9', a str"),
        ({"decay": False}, "decay is False, a bool"),
        ({"decay": Fraction(1, 2)}, "decay is Fraction(1, 2)"),  # torch could not compute with it
        ({"decay": 10**400}, "decay is 1000"),
        ({"in_validation": "no"}, "in_validation is 'no', a str\n  allowed:  True, False"),
        ({"start_epoch": -1}, "start_epoch is -1, an int\n  allowed:  a whole number, 0 or more"),
        ({"every": 0}, "every is 0, an int\n  allowed:  a whole number, 1 or more"),
    ],
)
def test_what_is_no_decay_and_no_number_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        AveragedWeights(**given)

    assert str(caught.value).startswith(message)


def test_averages_that_are_not_there_or_of_another_model_are_refused_and_nothing_is_written() -> None:
    model, callback, other = model_of(), AveragedWeights(), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5))
    with pytest.raises(ArgumentRefused, match="copy_to was called, and no weights were averaged"):
        callback.copy_to(model)
    engine_of(model, callback).fit(batches())
    before = floats(other)
    wrong = r"the averages have shape \(4,\) for '1.weight', and the model has shape \(5,\)"
    with pytest.raises(ArgumentRefused, match=wrong):
        callback.copy_to(other)
    with pytest.raises(ArgumentRefused, match=wrong):
        engine_of(other, callback).fit(batches(), epochs=2, start_epoch=1)
    with pytest.raises(ArgumentRefused, match=r"the averages have shape .* for '1.weight', and the model has nothing"):
        callback.copy_to(nn.Sequential(nn.Linear(3, 4)))

    assert same(floats(other), before)


# A hearing that an exception cuts short reaches the kit's last listener never, and its two counts of writes are one
# apart from there on: what is written in `exception` looks as if it were written before.
@pytest.mark.parametrize("in_validation", [False, True])
def test_the_ordering_kit_finds_nothing(in_validation: bool) -> None:
    check_order(subject(lambda: AveragedWeights(decay=0.5, in_validation=in_validation)), runs=20, seed=0)
