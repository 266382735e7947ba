"""Is it the same training?  Losses and weights, bit for bit, against loops that were written by hand.

The loops below know nothing of tables: they are what a careful engineer writes.
"""

from collections.abc import Callable, Mapping

import pytest
import torch
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from engine import Callback, Engine
from engine.run import Run


Batch = tuple[Tensor, Tensor]

OPTIMIZERS: Mapping[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "adamw fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
}


@frozen
class Setup:
    """One training: what it trains with, for how long, and what it skips."""

    optimizer: str
    epochs: int
    batches: int
    valid_batches: int
    window: int  # batches that are accumulated for a step
    skip_batches: frozenset[int]  # by their number in the epoch
    skip_steps: frozenset[int]  # likewise; the number of all batches is the flush of a part-filled window

    def make(self) -> tuple[nn.Module, torch.optim.Optimizer, list[Batch], list[Batch]]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
        optimizer = OPTIMIZERS[self.optimizer](list(model.parameters()))
        data = [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(self.batches + self.valid_batches)]
        return model, optimizer, data[: self.batches], data[self.batches :]


@define
class Result:
    """What is compared."""

    losses: list[float] = field(factory=list)
    valid_losses: list[float] = field(factory=list)
    weights: dict[str, Tensor] = field(factory=dict)
    next_random: float = 0.0


def plain(setup: Setup) -> Result:
    """The loop by hand."""
    model, optimizer, train, valid = setup.make()
    loss_fn, result = nn.MSELoss(), Result()
    model.train()
    for _ in range(setup.epochs):
        summed = 0
        for index, (inputs, targets) in enumerate(train):
            if index in setup.skip_batches:
                continue
            loss = loss_fn(model(inputs), targets)
            result.losses.append(loss.item())
            loss.backward()
            summed += 1
            if summed < setup.window:
                continue
            if index not in setup.skip_steps:
                mean_gradients(model, summed)
                optimizer.step()
            optimizer.zero_grad()
            summed = 0
        if summed:
            if len(train) not in setup.skip_steps:
                mean_gradients(model, summed)
                optimizer.step()
            optimizer.zero_grad()
        if valid:
            model.eval()
            with torch.no_grad():
                result.valid_losses += [loss_fn(model(inputs), targets).item() for inputs, targets in valid]
            model.train()
    result.weights, result.next_random = model.state_dict(), torch.rand(()).item()
    return result


def mean_gradients(model: nn.Module, number: int) -> None:
    for parameter in model.parameters():
        if number > 1:
            parameter.grad.div_(number)


class Losses(Callback):
    def __init__(self, result: Result) -> None:
        self.result = result

    def on_loss_end(self, run: Run) -> None:
        self.result.losses.append(run.loss.item())

    def on_validate_loss_end(self, run: Run) -> None:
        self.result.valid_losses.append(run.loss.item())


class Skips(Callback):
    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def skip_batch(self, run: Run) -> bool:
        return run.batch_index in self.setup.skip_batches

    def accumulate(self, run: Run) -> bool:
        return run.window < self.setup.window

    def skip_step(self, run: Run) -> bool:
        return run.batch_index in self.setup.skip_steps


def by_engine(setup: Setup, *, checked: bool) -> Result:
    model, optimizer, train, valid = setup.make()
    result = Result()
    engine = Engine(model, nn.MSELoss(), optimizer, [Losses(result), Skips(setup)], checked=checked)
    engine.fit(train, valid or None, setup.epochs)
    result.weights, result.next_random = model.state_dict(), torch.rand(()).item()
    return result


def same(one: Result, other: Result) -> bool:
    """Bit for bit: no tolerance anywhere."""
    return (
        one.losses == other.losses
        and one.valid_losses == other.valid_losses
        and one.next_random == other.next_random
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    )


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    batches = draw(st.integers(1, 6))
    numbers = st.frozensets(st.integers(0, batches), max_size=2)
    return Setup(
        optimizer=draw(st.sampled_from(list(OPTIMIZERS))),
        epochs=draw(st.integers(0, 3)),
        batches=batches,
        valid_batches=draw(st.integers(0, 2)),
        window=draw(st.sampled_from([1, 1, 2, 3, 4])),
        skip_batches=draw(st.just(frozenset()) | numbers),
        skip_steps=draw(st.just(frozenset()) | numbers),
    )


@given(setups(), st.booleans())
def test_losses_and_weights_equal_the_plain_loop_bit_for_bit(setup: Setup, checked: bool) -> None:
    """Invariant 7: with dropout, batch norm and validation, with and without accumulation, skips and a flush."""
    assert same(by_engine(setup, checked=checked), plain(setup))


@pytest.mark.parametrize("window", [2, 4])
def test_the_mean_of_a_full_window_is_the_usual_loss_divided_by_its_size(window: int) -> None:
    """Dividing each loss by a power of two, as is often written, is exact, and so gives the same bits."""
    setup = Setup("sgd", 2, 8, 0, window, frozenset(), frozenset())
    model, optimizer, train, _ = setup.make()
    for _ in range(setup.epochs):
        for index, (inputs, targets) in enumerate(train):
            (nn.MSELoss()(model(inputs), targets) / window).backward()
            if (index + 1) % window == 0:
                optimizer.step()
                optimizer.zero_grad()
    ours = by_engine(setup, checked=False).weights
    assert all(torch.equal(value, ours[name]) for name, value in model.state_dict().items())


def test_a_part_filled_window_weighs_each_of_its_batches_fully() -> None:
    """Five batches by four: the last step is that of a window of one, not of a quarter of one."""
    setup = Setup("sgd", 1, 5, 0, 4, frozenset(), frozenset())
    assert same(by_engine(setup, checked=False), plain(setup))
    alone = Setup("sgd", 1, 4, 0, 4, frozenset(), frozenset())
    assert not torch.equal(
        by_engine(setup, checked=False).weights["0.weight"], by_engine(alone, checked=False).weights["0.weight"]
    )


def test_a_shuffling_data_loader_draws_the_same_batches_as_in_a_plain_loop() -> None:
    """The engine consumes no random number of its own, and begins the loader once per epoch."""
    data = TensorDataset(torch.arange(12.0).unsqueeze(1), torch.zeros(12, 1))
    torch.manual_seed(5)
    by_hand = [batch[0].flatten().tolist() for _ in range(3) for batch in DataLoader(data, 5, shuffle=True)]
    seen: list[list[float]] = []
    model = nn.Linear(1, 1)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.0))
    engine.on("batch_begin")(lambda run: seen.append(run.inputs.flatten().tolist()))
    torch.manual_seed(5)
    engine.fit(DataLoader(data, 5, shuffle=True), epochs=3)
    assert seen == by_hand
