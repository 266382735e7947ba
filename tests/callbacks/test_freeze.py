"""Does what is frozen stay as it is, until its time, and is all put back?"""

from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import Engine
from engine.callbacks.freeze import Freeze
from engine.errors import ArgumentRefused, LossRefused
from engine.testing import check_order
from tests.callbacks.test_progress import Fault


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 1))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """One that moves weights whose gradient is 0, too."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def batches(number: int = 3) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 3, generator=chance), torch.randn(4, 1, generator=chance)) for _ in range(number)]


def learns(model: nn.Module) -> list[bool]:
    return [parameter.requires_grad for parameter in model.parameters()]


@pytest.mark.parametrize("parts", [("0", "1", "2"), ("",)])
def test_a_model_of_which_nothing_is_left_to_learn_is_told(parts: tuple[str, ...]) -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [*map(Freeze, parts)])
    with pytest.raises(LossRefused) as caught:
        engine.fit(batches())
    said = "let a parameter of the model require a gradient: none does; look for Freeze, requires_grad_(False)"
    assert caught.value.instead == said
    assert all(learns(model))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@settings(max_examples=25)
@given(
    times=st.lists(st.tuples(st.sampled_from(["0", "1", "1.0", "2"]), st.sampled_from([1, 2, 3, None])), max_size=3),
    before=st.booleans(),
    start=st.integers(0, 2),
)
def test_it_is_the_loop_that_sets_requires_grad_before_each_epoch(
    times: list[tuple[str, int | None]], before: bool, start: int
) -> None:
    mine, wanted = model_of(), model_of()
    for model in (mine, wanted):
        model[0].bias.requires_grad_(not before)
    of_mine, by_hand = sgd(mine), sgd(wanted)
    own = learns(wanted)
    for epoch in range(start, 4):
        for parameter, learnt in zip(wanted.parameters(), own, strict=True):
            parameter.requires_grad_(learnt)
        for name, until in times:
            if until is None or epoch < until:
                wanted.get_submodule(name).requires_grad_(False)
        for inputs, targets in batches() if any(learns(wanted)) else []:
            by_hand.zero_grad()
            nn.functional.mse_loss(wanted(inputs), targets).backward()
            by_hand.step()
    engine = Engine(mine, nn.MSELoss(), of_mine, [Freeze(name, until=until) for name, until in times])
    engine.guard("skip_backward")(lambda run: not any(learns(mine)))
    engine.fit(batches(), epochs=4, start_epoch=start)

    assert same(mine, wanted)
    assert learns(mine) == own


def test_modules_and_names_freeze_the_same() -> None:
    models = [model_of(), model_of()]
    for model, parts in zip(models, (("0", "1.0"), (models[1][0], models[1][1])), strict=True):
        Engine(model, nn.MSELoss(), sgd(model), [Freeze(*parts)]).fit(batches())

    assert same(*models)
    assert torch.equal(models[0][0].weight, model_of()[0].weight)
    assert not torch.equal(models[0][2].weight, model_of()[2].weight)


def test_what_is_frozen_again_after_it_has_moved_stands_still_at_once_for_all_its_momentum() -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [Freeze("0")])
    optimizer = engine.optimizer
    Engine(model, nn.MSELoss(), optimizer).fit(batches())
    moved = model[0].weight.clone()
    engine.guard("skip_zero_grad")(lambda run: True)
    engine.fit(batches(), epochs=2)

    assert torch.equal(model[0].weight, moved)


def test_a_gradient_that_is_there_when_it_freezes_is_dropped() -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [Freeze("0")])
    engine.guard("skip_zero_grad")(lambda run: True)
    engine.on("batch_end", once=2, order=-100)(lambda run: model[0].requires_grad_(True))
    seen: list[Tensor] = []
    engine.on("epoch_begin")(lambda run: seen.append(model[0].weight.clone()))
    engine.fit(batches(), epochs=3)

    assert not torch.equal(seen[0], seen[1])  # somebody let it learn
    assert torch.equal(seen[1], seen[2])  # until the next epoch has begun


@pytest.mark.parametrize("where", ["train", "valid"])
@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
def test_all_is_put_back_however_a_run_ends(where: str, what: BaseException | None) -> None:
    model = model_of()
    model[2].bias.requires_grad_(False)
    freeze, other = Freeze("0", "2"), Freeze("0", until=3)
    engine = Engine(model, nn.MSELoss(), sgd(model), [freeze, other, Fault(where, what)])
    with suppress(ValueError, KeyboardInterrupt):
        engine.fit(batches(), batches(), epochs=3)

    assert learns(model) == [True] * 5 + [False]
    assert freeze._frozen == other._frozen == []


def test_a_second_training_freezes_anew_and_one_that_goes_on_later_does_not() -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [Freeze("0", until=2)])
    seen: list[bool] = []
    for event in ("train_begin", "epoch_begin"):
        engine.on(event)(lambda run: seen.append(model[0].weight.requires_grad))
    engine.fit(batches(), epochs=3)
    engine.fit(batches(), epochs=3)
    engine.fit(batches(), epochs=5, start_epoch=3)

    assert seen == [*[False, False, False, True] * 2, True, True, True]


@pytest.mark.parametrize(
    ("parts", "until", "message"),
    [
        ((), None, "Freeze was given no part\n  allowed:  submodules of the model, or their names"),
        (("0", 1), None, "a part is 1, an int"),
        (("0",), 0, "until is 0, an int\n  allowed:  a whole number, 1 or more"),
        (("0",), 1.5, "until is 1.5, a float"),
    ],
)
def test_what_is_no_part_and_no_epoch_is_refused_when_it_is_made(parts: Any, until: Any, message: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        Freeze(*parts, until=until)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("part", "instead"),
    [("1.00", "did you mean '1.0'?"), (nn.Linear(3, 4), "give a submodule of the very model, or its name")],
)
def test_what_the_model_does_not_have_is_refused_when_the_run_begins(part: Any, instead: str) -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [Freeze("0", part)])
    with pytest.raises(ArgumentRefused) as caught:
        engine.fit(batches())

    assert caught.value.what.endswith("and the model has no such part")
    assert caught.value.allowed == "0, 1, 1.0, 1.1, 2"
    assert caught.value.instead == instead
    assert learns(model) == [True] * 6
    assert same(model, model_of())


def factory() -> tuple[Engine, dict[str, Any]]:
    model = model_of()
    callbacks = [Freeze("0", until=1), Freeze("1", "0")]
    return Engine(model, nn.MSELoss(), sgd(model), callbacks), {"train_loader": batches(), "valid_loader": batches()}


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(factory, runs=20, seed=0)
