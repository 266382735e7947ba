"""Do weights decay as AdamW's do, with any optimizer, and never twice?"""

from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import Engine
from engine.callbacks.schedule import Schedule
from engine.callbacks.weight_decay import WeightDecay
from engine.errors import ArgumentRefused, CallbackRefused, OptimizerRefused
from engine.schedules.curves import Constant
from engine.testing import check_order
from tests.callbacks.test_progress import Fault, HostReads
from tests.testing.subjects import subject


def model_of() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))


def batches(number: int = 5) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 3, generator=chance), torch.randn(4, 1, generator=chance)) for _ in range(number)]


def groups_of(model: nn.Module, lr: Any) -> list[dict[str, Any]]:
    """Two groups, the second with a tenth of the first one's lr."""
    first, second = list(model[0].parameters()), list(model[1:].parameters())
    return [{"params": first, "lr": lr}, {"params": second, "lr": lr / 10}]


def halve(engine: Engine) -> None:
    """A schedule: lr changes between two epochs."""

    @engine.on("epoch_end")
    def halve_lr(run: Any) -> None:
        for group in run.optimizer.param_groups:
            group["lr"] = group["lr"] / 2


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(  # torch takes a tensor with foreach on an accelerator alone
    ("lr", "foreach"), [(0.03, True), (0.03, False), (torch.tensor(0.03), False)], ids=["foreach", "single", "tensor"]
)
@settings(max_examples=10)
@given(rate=st.floats(0, 2), amsgrad=st.booleans())
def test_adam_with_it_is_adamw_bit_for_bit(lr: Any, foreach: bool, rate: float, amsgrad: bool) -> None:
    models = [model_of(), model_of()]
    adamw = torch.optim.AdamW(groups_of(models[0], lr), weight_decay=rate, amsgrad=amsgrad, foreach=foreach)
    adam = torch.optim.Adam(groups_of(models[1], lr), amsgrad=amsgrad, foreach=foreach)
    for model, optimizer, callbacks in ((models[0], adamw, []), (models[1], adam, [WeightDecay(rate)])):
        engine = Engine(model, nn.MSELoss(), optimizer, callbacks)
        halve(engine)
        engine.fit(batches(), epochs=3)

    assert same(*models)


def test_sgd_with_it_is_the_loop_by_hand_and_what_has_no_gradient_does_not_decay() -> None:
    mine, wanted = model_of(), model_of()
    for model in (mine, wanted):
        model[0].bias.requires_grad_(False)
    by_hand = torch.optim.SGD(groups_of(wanted, 0.1), momentum=0.9)
    for inputs, targets in batches() * 2:
        by_hand.zero_grad()
        nn.functional.mse_loss(wanted(inputs), targets).backward()
        for group in by_hand.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data *= 1 - group["lr"] * 0.3
        by_hand.step()
    Engine(mine, nn.MSELoss(), torch.optim.SGD(groups_of(mine, 0.1), momentum=0.9), [WeightDecay(0.3)]).fit(
        batches(), epochs=2
    )

    assert same(mine, wanted)
    assert torch.equal(mine[0].bias, model_of()[0].bias)


def test_only_what_was_chosen_decays_as_in_groups_of_adamw() -> None:
    mine, wanted = model_of(), model_of()
    spared = [parameter for parameter in wanted.parameters() if parameter.ndim < 2]
    others = [parameter for parameter in wanted.parameters() if parameter.ndim > 1]
    adamw = torch.optim.AdamW([{"params": others}, {"params": spared, "weight_decay": 0}], lr=0.03, weight_decay=0.5)
    asked: list[str] = []

    def only(name: str, parameter: Tensor) -> bool:
        asked.append(name)
        return parameter.ndim > 1

    Engine(wanted, nn.MSELoss(), adamw).fit(batches(), epochs=2)
    adam = torch.optim.Adam(mine.parameters(), lr=0.03)
    Engine(mine, nn.MSELoss(), adam, [WeightDecay(0.5, only=only)]).fit(batches(), epochs=2)

    assert same(mine, wanted)
    assert asked == [name for name, _ in mine.named_parameters()]  # once each


def test_a_step_that_is_skipped_decays_nothing() -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [WeightDecay(0.5)])
    engine.guard("skip_step")(lambda run: True)
    engine.fit(batches())

    assert same(model, model_of())


@pytest.mark.parametrize("own", [torch.optim.AdamW, lambda groups: torch.optim.SGD(groups, weight_decay=0.01)])
def test_an_optimizer_that_decays_weights_itself_is_refused_before_anything_is_changed(own: Any) -> None:
    model = model_of()
    optimizer = own([{"params": model[0].parameters(), "weight_decay": 0}, {"params": model[3].parameters()}])
    engine = Engine(model, nn.MSELoss(), optimizer, [WeightDecay(0.5)])

    with pytest.raises(
        OptimizerRefused, match=r"the optimizer has weight_decay=0.01 in group 1, and WeightDecay would"
    ):
        engine.fit(batches())
    assert same(model, model_of())


@pytest.mark.parametrize("first", [True, False])
def test_a_schedule_of_the_optimizers_own_decay_is_refused_before_anything_is_changed(first: bool) -> None:
    model = model_of()
    optimizer = torch.optim.SGD(groups_of(model, 0.1))
    callbacks = [WeightDecay(0.5), Schedule({"weight_decay": Constant(0.1)}, groups=1)][:: 1 if first else -1]
    with pytest.raises(CallbackRefused, match="Schedule writes weight_decay of group 1, and WeightDecay would decay"):
        Engine(model, nn.MSELoss(), optimizer, callbacks).fit(batches())
    assert same(model, model_of())
    assert optimizer.param_groups[1]["weight_decay"] == 0
    Engine(model, nn.MSELoss(), optimizer, [WeightDecay(0.5), Schedule({"lr": Constant(0.1)})]).fit(batches())


@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
def test_it_holds_no_parameter_beyond_the_run_however_that_ends(what: Any) -> None:
    model, decay = model_of(), WeightDecay(0.5, only=lambda name, parameter: "weight" in name)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [decay, Fault("train", what)])
    with suppress(ValueError, KeyboardInterrupt):
        engine.fit(batches(), epochs=3)

    assert decay._chosen is None


@pytest.mark.parametrize("lr", [0.03, torch.tensor(0.03)], ids=["number", "tensor"])
def test_nothing_is_read_on_the_host(lr: Any) -> None:
    counts = []
    for callbacks in ([], [WeightDecay(0.1)]):
        model = model_of()
        with HostReads() as reads:
            engine = Engine(model, nn.MSELoss(), torch.optim.SGD(groups_of(model, lr), foreach=False), callbacks)
            engine.fit(batches(30))
        counts.append(reads.count)

    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("rate", "only", "message"),
    [
        (-0.1, None, "rate is -0.1, a float\n  allowed:  a number, 0 or more"),
        (float("inf"), None, "rate is inf, a float"),
        (True, None, "rate is True, a bool"),
        ("0.1", None, "rate is '0.1', a str"),
        (0.1, "weight", "only is 'weight', a str\n  allowed:  a function (name, parameter) -> bool"),
    ],
)
def test_what_is_no_rate_and_no_choice_is_refused(rate: Any, only: Any, message: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        WeightDecay(rate, only=only)

    assert str(caught.value).startswith(message)


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(
        subject(lambda: WeightDecay(0.1), lambda: WeightDecay(0.1, only=lambda name, _: name == "bias")),
        runs=20,
        seed=0,
    )
