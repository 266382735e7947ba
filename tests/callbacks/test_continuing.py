"""Does a training that was left after an epoch go on as if it had not been?  Asked of every callback."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import Engine, Run
from engine.callbacks import Checkpoint
from engine.testing.pairs.values import leaves
from tests.callbacks.every import EVERY, Make, engine_of, pictures


EPOCHS = 4


class PowerFailure(Exception):
    """What ends the first part."""


def power_fails(run: Run) -> None:
    raise PowerFailure


def made(name: str, folder: Path) -> tuple[Engine, tuple[object, ...]]:
    """An engine with a callback and checkpoints; each epoch draws random numbers of its own, whenever it comes."""
    saving: list[Make] = [] if name == "Checkpoint" else [lambda inside, _: Checkpoint(inside)]
    engine = engine_of([EVERY[name], *saving], folder)
    engine.on("epoch_begin", order=-1000)(lambda run: torch.manual_seed(run.epoch))
    return engine, engine.callbacks


def trained(engine: Engine, **given: Any) -> Run:
    return engine.fit(pictures(4), pictures(2, seed=2), **given)


def kept(folder: Path) -> Path:
    return next(folder.rglob("last.pt"))


def state(callback: object) -> Mapping[str, object]:
    """What a callback remembers, but for what clock and memory say."""
    found = dict(leaves("state", getattr(callback, "state_dict", dict)(), full=True))
    return {
        name: value
        for name, value in found.items()
        if not any(word in name for word in ("seconds", "started", "peak_mib"))
    }


@pytest.mark.parametrize("name", [name for name in EVERY if name != "LRFinder"])  # each fit is a new search
def test_two_parts_of_a_training_come_to_the_whole(name: str, tmp_path: Path) -> None:
    whole, at_once = made(name, tmp_path / "whole")
    expected = trained(whole, epochs=EPOCHS)

    first, _ = made(name, tmp_path / "first")
    first.on("epoch_begin", once=3)(power_fails)
    with pytest.raises(PowerFailure):
        trained(first, epochs=EPOCHS)
    second, in_parts = made(name, tmp_path / "second")
    start = second.load(kept(tmp_path / "first"))
    run = trained(second, epochs=EPOCHS, start_epoch=start)

    assert start == 2
    assert run.outcome is expected.outcome
    assert [*first.last_run.history, *run.history][-1].keys() == expected.history[-1].keys()
    for weights, wanted in zip(second.model.state_dict().values(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(weights, wanted)
    assert [*map(state, in_parts)] == [*map(state, at_once)]
    assert second.recorder.losses == whole.recorder.losses
    assert [record["epoch"] for record in second.recorder.epochs] == list(range(EPOCHS))
