"""Does a hunt count what it finds, and does it find what is wrong?"""

from pathlib import Path

import pytest
import torch

from engine import Callback, Run
from tests import hunt
from tests.callbacks.every import EVERY


class Reseeds(Callback):
    """Draws from everybody's generator."""

    def on_batch_begin(self, run: Run) -> None:
        torch.rand(1)


def test_a_hunt_tells_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = list(hunt.hunt({"right": hunt.small(), "wrong": hunt.small(Reseeds)}, 3, seed=1))
    assert len(found) == 1
    assert found[0].startswith("wrong: Reseeds drew random numbers of torch without saying so, in batch_begin")
    assert capsys.readouterr().out.startswith("right: 81 simple cases, 2 random runs, 0 findings\n")


def test_stacks_are_others_for_another_seed_and_no_two_of_one_write_the_same(tmp_path: Path) -> None:
    stacks = hunt.random_stacks(6, seed=1)
    assert stacks == hunt.random_stacks(6, seed=1) != hunt.random_stacks(6, seed=2)
    assert not any({"MixUp", "CutMix"} <= {*stack} for stack in hunt.random_stacks(60, seed=3))
    assert all(len({*stack} & {"one_cycle", "Schedule by batch", "LRFinder"}) <= 1 for stack in stacks)
    assert all(stacked()[0].callbacks for stacked in hunt.stacked(1, tmp_path).values())


def test_what_was_kept_is_of_ten_thousand_runs_with_not_one_finding() -> None:
    kept = hunt.read()
    assert kept.runs >= hunt.RUNS
    assert (kept.subjects, kept.alone, kept.stacks) == ([*hunt.SUBJECTS], [*EVERY], hunt.STACKS)
    assert kept.findings == []
    assert "not one finding" in str(kept)
