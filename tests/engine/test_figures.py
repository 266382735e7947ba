"""Is whatever can be drawn saved where it should be, and refused where it cannot be drawn?  Are epochs marked?"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.callbacks import ActivationStats, GradientStats, one_cycle
from engine.layout.figures import MARKS, mark_epochs, new_figure
from states.svg import PicturesMissing
from tests.engine.tools import batches, small_engine


def trained() -> dict[str, Callable]:
    """All methods that draw, of what has something to draw."""
    activations, gradients, schedule = ActivationStats(), GradientStats(every=1), one_cycle(0.1)
    engine = small_engine(activations, gradients, schedule)
    found = engine.lr_find(batches(4), num_it=4)
    engine.fit(batches(4), batches(1), epochs=2)
    drawn = {name: getattr(engine.recorder, f"plot_{name}") for name in ("loss", "lr", "metrics", "schedule")}
    drawn |= {"activations": activations.plot, "gradients": gradients.plot, "found": found.plot}
    return drawn | {"preview": lambda path=None: schedule.preview(2, 4, path)}


def test_whatever_draws_makes_the_folders_of_its_file(tmp_path: Path) -> None:
    for name, draw in trained().items():
        draw(tmp_path / name / "new" / "drawn.png")
        draw(f"{tmp_path}/{name}/new/drawn.png")  # over what is there
        assert (tmp_path / name / "new" / "drawn.png").stat().st_size > 1000


def test_without_matplotlib_whatever_draws_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    every = trained()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in every.values():
        with pytest.raises(PicturesMissing, match=r"pip install 'stateloop\[pictures\]'"):
            draw(tmp_path / "new" / "drawn.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("epochs", [0, 1, MARKS, MARKS + 1, 10 * MARKS + 1])
def test_epochs_are_marked_evenly_and_not_too_many(epochs: int) -> None:
    panels = new_figure(6, 4).subplots(2)
    mark_epochs(panels, [(epoch + 3, 7 * epoch) for epoch in range(epochs)])

    (above,) = panels[0].child_axes
    numbers = [int(text.get_text()) for text in above.get_xticklabels()]
    assert len(numbers) <= MARKS
    assert numbers == list(range(3, epochs + 3, -(-epochs // MARKS) or 1))
    assert [[line.get_xdata()[0] for line in axes.lines] for axes in panels] == [[7 * (n - 3) for n in numbers]] * 2
    assert not panels[1].child_axes
