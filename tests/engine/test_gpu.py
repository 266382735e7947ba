"""Does it hold on a GPU?  Skipped where there is none."""

import pytest
import torch
from torch import nn

from engine import Engine


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


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
