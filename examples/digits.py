"""How does one train a real model?  Handwritten digits: 1797 pictures of 8 x 8 pixels that scikit-learn ships.

python examples/digits.py [folder]           train; leave the diagram, the history and a picture of the losses
stateloop dry-run examples.digits:factory    which callbacks would run, and when, without training
stateloop fit examples.digits:factory        just train
"""

import csv
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from engine import Engine, Run
from engine.callbacks import Progress


GOAL = 0.97  # of the validation's digits are recognised, or the example has failed
PATIENCE = 3  # epochs without a better validation, and training stops


def loaders() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Three quarters to learn from and one quarter to validate on, each digit as often in both."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16  # from 0, paper, to 1, ink
    learn, check = train_test_split(torch.arange(len(digits)), test_size=0.25, random_state=0, stratify=digits)
    train, valid = (TensorDataset(images[part], torch.tensor(digits)[part]) for part in (learn, check))
    return DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=64)


def accuracy(output: Tensor, digits: Tensor) -> Tensor:
    """The share of digits that the network recognised."""
    return (output.argmax(dim=1) == digits).float().mean()


def build() -> Engine:
    """A small convolutional network, what trains it, and everyone who listens."""
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 4 * 4, 10)),
    )
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    engine = Engine(model, nn.functional.cross_entropy, adam, [Progress()], metrics={"accuracy": accuracy})

    @engine.on("batch_begin")  # of the training alone: a validation has events of its own
    def shift(run: Run) -> None:
        run.inputs = run.inputs.roll(int(torch.randint(-1, 2, ())), dims=3)  # a pixel left, a pixel right, or none

    shift.uses_random = True  # `stateloop check` asks: it draws from the generator that everybody shares

    @engine.on("epoch_end", every=5)
    def halve_learning_rate(run: Run) -> None:  # noqa: ARG001  # the optimizer is at hand
        for group in adam.param_groups:
            group["lr"] /= 2

    @engine.guard("stop_training")
    def no_better(run: Run) -> bool:
        losses = [record["valid_loss"] for record in run.history if "valid_loss" in record]
        return len(losses) > PATIENCE and min(losses[-PATIENCE:]) > min(losses[:-PATIENCE])

    return engine


def factory() -> tuple[Engine, dict[str, Any]]:
    """What the command `stateloop` asks for: an engine, and what its `fit` is given."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network is fastest on one
    train_loader, valid_loader = loaders()
    return build(), {"train_loader": train_loader, "valid_loader": valid_loader, "epochs": 25}


def draw(history: list[dict[str, float]], path: Path) -> None:
    """A picture of the losses, epoch by epoch."""
    figure = Figure(figsize=(6.4, 4), layout="constrained", dpi=150)
    axes = figure.add_subplot(yscale="log", xlabel="epoch", ylabel="cross entropy")
    for name, colour in (("train", "#4c72b0"), ("valid", "#dd8452")):
        axes.plot([record[f"{name}_loss"] for record in history], color=colour, marker="o", markersize=4, label=name)
    axes.set_title(f"handwritten digits: {history[-1]['valid_accuracy']:.1%} of the validation recognised", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.savefig(path)


def main(folder: Path) -> int:
    """Train and leave the files; 0 if the goal was reached."""
    folder.mkdir(parents=True, exist_ok=True)
    engine, arguments = factory()
    engine.diagram("svg", folder / "diagram.svg")
    run = engine.fit(**arguments)
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, run.history[0])
        writer.writeheader()
        writer.writerows(run.history)
    draw(run.history, folder / "losses.png")
    reached = run.history[-1]["valid_accuracy"]
    print("\n".join([f"outcome:   {run.outcome.value}", *(f"           {stop}" for stop in run.stops)]))
    print(f"accuracy:  {reached:.1%} of the validation, after {run.epoch} epochs and {run.updates} updates")
    print(f"files:     diagram.svg, history.csv and losses.png in {folder}/")
    return 0 if reached >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits-run")))
