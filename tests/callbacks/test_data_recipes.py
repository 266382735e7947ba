"""Do torch's own ways to smooth labels and to draw rare samples more often do in an engine what they do in a loop?"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from engine import Engine
from engine.callbacks import MixUp


def dataset() -> TensorDataset:
    """A rare class and a common one."""
    chance = torch.Generator().manual_seed(1)
    return TensorDataset(torch.rand(60, 3, generator=chance), (torch.arange(60) % 10 == 0).long())


def oversampled(data: TensorDataset) -> DataLoader[Any]:
    """Each class as often as the other, drawn by weights."""
    targets = data.tensors[1]
    weights = 1.0 / torch.bincount(targets)[targets]
    sampler = WeightedRandomSampler(weights.tolist(), len(targets), generator=torch.Generator().manual_seed(2))
    return DataLoader(data, batch_size=12, sampler=sampler)


def parts() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, nn.CrossEntropyLoss(label_smoothing=0.1), torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize("mixing", [False, True])
def test_smoothed_labels_and_rare_samples_train_as_in_a_loop_by_hand(mixing: bool) -> None:
    model, loss_fn, sgd = parts()
    torch.manual_seed(7)
    Engine(model, loss_fn, sgd, [MixUp(0.4)] if mixing else []).fit(oversampled(dataset()), epochs=2)

    by_hand, loss_fn, sgd = parts()
    torch.manual_seed(7)
    loader = oversampled(dataset())
    for _ in range(2):
        for inputs, targets in loader:
            loss: Tensor
            if mixing:
                partner = torch.randperm(len(inputs))
                share = torch.distributions.Beta(0.4, 0.4).sample().item()
                output = by_hand(torch.lerp(inputs[partner], inputs, share))
                loss = share * loss_fn(output, targets) + (1 - share) * loss_fn(output, targets[partner])
            else:
                loss = loss_fn(by_hand(inputs), targets)
            loss.backward()
            sgd.step()
            sgd.zero_grad()

    assert all(map(torch.equal, model.parameters(), by_hand.parameters()))


def test_a_rare_class_is_drawn_as_often_as_the_others() -> None:
    model, loss_fn, sgd = parts()
    rare: list[Tensor] = []
    engine = Engine(model, loss_fn, sgd)
    engine.on("batch_begin")(lambda run: rare.append(run.targets))
    engine.fit(oversampled(dataset()), epochs=20)

    assert torch.cat(rare).float().mean().item() == pytest.approx(0.5, abs=0.05)
