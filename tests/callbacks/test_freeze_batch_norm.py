"""Do batch norms keep their statistics, whoever calls model.train()?"""

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from engine import Engine, Trigger
from engine.callbacks.freeze_batch_norm import FreezeBatchNorm
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.callbacks.test_progress import Fault


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(2), nn.InstanceNorm1d(2, track_running_stats=True))
    model = nn.Sequential(inner, nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 1))
    Engine(model, nn.MSELoss(), sgd(model)).fit(batches())  # so that there are statistics to keep
    return model


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)


def batches(number: int = 3) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 2, 4, generator=chance), torch.randn(4, 1, generator=chance)) for _ in range(number)]


def norm_of(model: nn.Sequential) -> nn.BatchNorm1d:
    return model[0][1]


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, wanted = one.state_dict(), other.state_dict()
    return all(torch.equal(value, wanted[name]) for name, value in mine.items())


@pytest.mark.parametrize("train_affine", [True, False])
@pytest.mark.parametrize("meddles", [None, "epoch_begin", "batch_begin", "validate_end", "batch_end"])
def test_it_is_the_loop_with_eval_behind_each_train(train_affine: bool, meddles: str | None) -> None:
    mine, wanted = model_of(), model_of()
    kept = {name: value.clone() for name, value in norm_of(mine).state_dict().items()}
    by_hand = sgd(wanted)
    torch.manual_seed(1)
    for parameter in norm_of(wanted).parameters():
        parameter.requires_grad_(train_affine)
    for _ in range(2):
        wanted.train()
        norm_of(wanted).eval()
        for inputs, targets in batches():
            by_hand.zero_grad()
            nn.functional.mse_loss(wanted(inputs), targets).backward()
            by_hand.step()
    engine = Engine(mine, nn.MSELoss(), sgd(mine), [FreezeBatchNorm(train_affine=train_affine)])
    if meddles is not None:
        engine.on(meddles, order=1000)(lambda run: run.model.train())
    torch.manual_seed(1)
    engine.fit(batches(), batches(), epochs=2)

    assert same(mine, wanted)
    assert torch.equal(norm_of(mine).running_var, kept["running_var"])
    assert torch.equal(norm_of(mine).weight, kept["weight"]) is not train_affine


@pytest.mark.parametrize("where", ["train", "valid"])
@pytest.mark.parametrize(
    "what", ["ended", None, ValueError("broken"), KeyboardInterrupt()], ids=["success", "stop", "error", "interrupt"]
)
def test_modes_and_gradients_are_put_back_however_a_run_ends(where: str, what: Any) -> None:
    model = model_of()
    norm_of(model).bias.requires_grad_(False)
    model[2].eval()
    modes = [module.training for module in model.modules()]
    frozen = FreezeBatchNorm(train_affine=False)
    callbacks = [frozen] if what == "ended" else [frozen, Fault(where, what)]
    with suppress(ValueError, KeyboardInterrupt):
        Engine(model, nn.MSELoss(), sgd(model), callbacks).fit(batches(), batches(), epochs=3)

    assert [module.training for module in model.modules()] == modes
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert [name for name, learnt in learns.items() if not learnt] == ["0.1.bias"]
    assert frozen._norms == frozen._frozen == frozen._hooks == []
    assert not norm_of(model)._forward_pre_hooks


@pytest.mark.parametrize("each", ["epoch", "batch"])
def test_a_loop_of_ones_own_that_calls_train_unfreezes_nothing(each: str) -> None:
    model = model_of()
    before = norm_of(model).running_mean.clone()
    optimizer = sgd(model)
    with Engine(model, nn.MSELoss(), optimizer, [FreezeBatchNorm()]).start(epochs=2) as run:
        for _ in run.each_epoch():
            model.train()
            for inputs, targets in run.each_batch(batches()):
                if each == "batch":
                    model.train()
                run.report(Trigger.OUTPUT_READY, output=model(inputs))
                run.report(Trigger.LOSS_READY, loss=nn.functional.mse_loss(run.output, targets))
                run.loss.backward()
                run.report(Trigger.GRADS_READY)
                optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)

    assert run.updates == 6
    assert torch.equal(norm_of(model).running_mean, before)
    assert not norm_of(model)._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own compiler looks at it
def test_a_model_that_was_compiled_and_trained_before_keeps_its_statistics() -> None:
    models = [model_of(), model_of()]
    models[1].compile(backend="eager")
    for model in models:
        torch.manual_seed(1)
        Engine(model, nn.MSELoss(), sgd(model)).fit(batches(), batches())
        engine = Engine(model, nn.MSELoss(), sgd(model), [FreezeBatchNorm()])
        engine.on("batch_begin")(lambda run: run.model.train())
        torch.manual_seed(1)
        engine.fit(batches(), batches(), epochs=2)

    assert same(*models)
    assert norm_of(models[1]).num_batches_tracked == 6


def test_a_second_training_freezes_anew() -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [FreezeBatchNorm()])
    before = norm_of(model).running_mean.clone()
    engine.fit(batches())
    engine.fit(batches(), epochs=3, start_epoch=2)

    assert torch.equal(norm_of(model).running_mean, before)


def test_weights_that_somebody_unfreezes_are_frozen_again_by_the_next_epoch() -> None:
    model = model_of()
    engine = Engine(model, nn.MSELoss(), sgd(model), [FreezeBatchNorm(train_affine=False)])
    engine.guard("skip_zero_grad")(lambda run: True)
    engine.on("batch_end", once=2)(lambda run: norm_of(model).requires_grad_(True))
    seen: list[Tensor] = []
    engine.on("epoch_begin")(lambda run: seen.append(norm_of(model).weight.clone()))
    engine.fit(batches(), epochs=3)

    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])


def test_a_mode_that_is_no_bool_is_refused() -> None:
    with pytest.raises(ArgumentRefused, match=r"train_affine is 'no', a str\n  allowed:  True, False"):
        FreezeBatchNorm(train_affine="no")


def factory() -> tuple[Engine, dict[str, Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    chance = torch.Generator().manual_seed(1)
    some = [(torch.rand(4, 2, generator=chance), torch.rand(4, 1, generator=chance)) for _ in range(3)]
    engine = Engine(model, nn.MSELoss(), sgd(model), [FreezeBatchNorm(train_affine=False)])
    return engine, {"train_loader": some, "valid_loader": some[:2]}


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(factory, runs=20, seed=0)
