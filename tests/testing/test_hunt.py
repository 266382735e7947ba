"""Does a hunt count what it finds, and does it find what is wrong?"""

import pytest

from engine import Callback, Run
from tests import hunt


class Reseeds(Callback):
    """Draws from everybody's generator."""

    def on_batch_begin(self, run: Run) -> None:
        hunt.torch.rand(1)


def test_a_hunt_tells_how_many_runs_of_whom_and_what_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hunt, "SUBJECTS", {"right": hunt.small(), "wrong": hunt.small(Reseeds)})
    found = hunt.hunt(3, seed=1)
    assert str(found) == "3 random runs of 2 engines (right, wrong): 1 findings"
    assert found.findings[0].startswith("wrong: Reseeds drew random numbers of torch without saying so, in batch_begin")
    assert capsys.readouterr().out.startswith("right: 81 simple cases, 2 random runs, 0 findings\n")


def test_what_was_kept_is_of_ten_thousand_runs_with_not_one_finding() -> None:
    kept = hunt.read()
    assert kept.runs >= hunt.RUNS
    assert set(kept.subjects) == set(hunt.SUBJECTS)
    assert kept.findings == []
    assert "not one finding" in str(kept)
