"""How fast does the ordering kit test?  CPU time of one core: walks, Hypothesis, small trainings, a proof, a check."""

import json
from collections.abc import Callable
from pathlib import Path
from time import process_time

import torch
from attrs import asdict, frozen
from hypothesis import HealthCheck, Phase, given, settings
from torch import nn

from engine import Callback, Engine, Run
from engine.testing.check import report_of
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import EVALUATION, PREDICTION, TRAINING
from states.explore import Listening, explore
from states.grammar import TRAINING_ORDER
from states.names import name_of
from states.proof import examine
from states.walk import Plan, walk
from tests.bench.results import ROOT


JSON = ROOT / "docs" / "kit.json"
BATCHES = [(torch.rand(4, 2), torch.rand(4, 1)) for _ in range(3)]
# Two epochs of three batches, each validated: 4,091 states and 9,725 transitions in the prototype.
BOUNDED = Plan(epochs=2, batches=3, valid_batches=1)


@frozen
class Kit:
    """What was measured.

    Attributes:
        strides: Things that may happen in two epochs of three batches, walked in a second with the grammar listening.
        spots: How many places of machine and grammar they begin at.
        walks: Runs of the bare machine that Hypothesis draws, walks and judges in a second.
        trainings: Trainings of two weights, two epochs of three batches and a validation, in a second; the engine is
            made anew for each.
        prove: Milliseconds to prove the slowest built-in machine.
        check: Seconds of `stateloop check` with its default of 100 random runs, for two callbacks.
        runs: How many trainings that check took.
    """

    strides: float
    spots: int
    walks: float
    trainings: float
    prove: float
    check: float
    runs: int


class Listens(Callback):
    """Hears a batch and an epoch."""

    def on_batch_end(self, run: Run) -> None:
        self.last = run.batch_index

    def on_epoch_end(self, run: Run) -> None:
        self.epoch = run.epoch


class Patient(Callback):
    """Answers a guard."""

    def stop_training(self, run: Run) -> bool:
        return run.epoch > 5


def factory() -> tuple[Engine, dict[str, object]]:
    """Two weights, two callbacks."""
    model = nn.Linear(2, 1)
    engine = Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), [Listens(), Patient()])
    return engine, {"train_loader": BATCHES, "valid_loader": BATCHES[:1]}


def measured() -> Kit:
    """Measure everything; about half a minute."""
    order = Listening(TRAINING_ORDER.order)
    walked = explore(TRAINING, {"grammar": order}, plan=BOUNDED)
    walking = seconds(lambda: explore(TRAINING, {"grammar": order}, plan=BOUNDED), 5)
    proving = max(
        seconds(lambda machine=machine: examine(machine), 50) for machine in (TRAINING, EVALUATION, PREDICTION)
    )
    trainings: list[int] = []
    begun = process_time()
    report_of(factory, seed=1, progress=trainings.append)
    check = process_time() - begun
    return Kit(
        strides=walked.strides / walking,
        spots=walked.states,
        walks=1000 / seconds(drawn(1000), 1),
        trainings=1 / seconds(trained, 100),
        prove=1000 * proving,
        check=check,
        runs=trainings[-1],
    )


def drawn(number: int) -> Callable[[], None]:
    """Hypothesis draws so many runs of the bare machine; each is walked, and judged by the grammar."""

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(plans(max_epochs=2, max_batches=3), scripts(max_askings=4, max_yes=2, max_guards=3))
    def run(plan: Plan, script: Script) -> None:
        steps = walk(TRAINING, plan, script.answers())
        assert TRAINING_ORDER.judge([name_of(h.event) for step in steps for h in (*step.first, *step.heard)]).legal

    return run


def trained() -> None:
    """One small training."""
    engine, arguments = factory()
    engine.fit(**arguments, epochs=2)


def seconds(do: Callable[[], object], times: int) -> float:
    """CPU seconds of one call, the fastest of so many calls but for the first."""
    do()
    best = float("inf")
    for _ in range(times):
        begun = process_time()
        do()
        best = min(best, process_time() - begun)
    return best


GOALS = (
    ("strides walked a second", "strides", "{:,.0f}", "10,000"),
    ("Hypothesis runs of the bare machine a second", "walks", "{:,.0f}", "500"),
    ("small real trainings a second", "trainings", "{:,.0f}", "100"),
    ("milliseconds to prove a built-in machine", "prove", "{:.1f}", "under 5"),
    ("seconds of a check with default settings", "check", "{:.1f}", "under 30"),
)


def table(kit: Kit) -> str:
    """As Markdown."""
    rows = [f"| {what} | {form.format(getattr(kit, name))} | {goal} |" for what, name, form, goal in GOALS]
    return "\n".join(["| one core | measured | goal |", "|---|---|---|", *rows])


def save(kit: Kit, path: Path = JSON) -> None:
    """Keep it for the page."""
    path.write_text(json.dumps(asdict(kit), indent=1) + "\n")


def read(path: Path = JSON) -> Kit:
    """The reverse of `save`."""
    return Kit(**json.loads(path.read_text()))


def page(kit: Kit) -> str:
    """What the documentation says of it."""
    return "\n\n".join(
        [
            table(kit),
            "A stride is one thing that may happen: a row that is taken with these answers, or a fault on its way.",
            f"The check judged {kit.runs} runs, and made as many more to compare with. All is CPU time of one core, "
            "on the machine of [speed.md](speed.md); `python -m tests.bench kit` measures it anew.",
        ]
    )
