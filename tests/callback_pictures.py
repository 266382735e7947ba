"""What do the plots of callbacks look like?  python -m tests.callback_pictures draws those of docs/callbacks.md.

They are kept and not compared: what is learned from the digits differs in the last bits from machine to machine.
"""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from engine.callbacks import ActivationStats, GradientStats, one_cycle
from examples.digits import factory


DOCS = Path(__file__).parent.parent / "docs"


def draw(folder: Path = DOCS) -> None:
    """Search a learning rate for the digits, then train on them for five epochs, and look at layers and gradients."""
    engine, arguments = factory()
    found = engine.lr_find(arguments["train_loader"])
    activations, gradients = ActivationStats("2", "5", "9"), GradientStats(every=5)
    engine.add(activations)
    engine.add(gradients)
    engine.fit(**arguments | {"epochs": 5})
    assert engine.recorder is not None
    _write(found.plot(), folder / "lr_find.svg")
    _write(engine.recorder.plot_loss(), folder / "recorder.svg")
    _write(one_cycle(0.1).preview(epochs=5, batches=40), folder / "schedule.svg")
    _write(activations.plot(), folder / "activations.svg")
    _write(gradients.plot(), folder / "gradients.svg")


def _write(figure: Figure, path: Path) -> None:
    """As SVG whose texts are texts, the same bytes for the same picture."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "stateloop"}):
        figure.savefig(path, metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


if __name__ == "__main__":
    draw()
