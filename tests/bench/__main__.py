"""What does a batch cost?  `python -m tests.bench` prints the table; `python -m tests.bench memory` counts bytes.

Rounds are interleaved and every run is paired with its own baseline beside it, so that the ratios hold on a machine
whose speed drifts.  Time is CPU time of this process, with one torch thread.
"""

import platform
import resource
import sys
import time
from enum import Enum
from statistics import median, quantiles

import torch
from torch import nn

from engine import Engine
from engine.run import Run
from states import State, Trigger
from tests.bench.contenders import CONTENDERS, Batches, Contender, data


BATCHES, ROUNDS = 2000, 20


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}")
    if sys.argv[1:] == ["memory"]:
        memory()
    else:
        speed()


def speed() -> None:
    """MLP 16-32-1, batches of 32 in a list, SGD: what a batch costs, all that a run costs once included.

    `once` is the time of a run of one batch: making the model, preparing, and what the first batch warms up.
    """
    batches, seconds = data(BATCHES), {name: [] for name in CONTENDERS}
    losses = {name: run(batches) for name, (run, _) in CONTENDERS.items()}
    assert len(set(losses.values())) == 1, losses
    for _ in range(ROUNDS):
        for name, (run, _) in CONTENDERS.items():
            seconds[name].append(spent(run, batches))
    once = {name: median(spent(run, batches[:1]) for _ in range(20)) for name, (run, _) in CONTENDERS.items()}
    print(f"{'contender':<32} {'us/batch':>9} {'ratio':>7} {'(quartiles)':>16} {'once, ms':>9}   against")
    for name, (_, baseline) in CONTENDERS.items():
        ratios = [mine / base for mine, base in zip(seconds[name], seconds[baseline], strict=True)]
        low, _, high = quantiles(ratios, n=4)
        micros, spread = median(seconds[name]) / BATCHES * 1e6, f"({low:.3f}..{high:.3f})"
        print(f"{name:<32} {micros:>9.1f} {median(ratios):>7.3f} {spread:>16} {once[name] * 1e3:>9.1f}   {baseline}")


def spent(run: Contender, batches: Batches) -> float:
    """CPU seconds of one run."""
    begun = time.process_time()
    run(batches)
    return time.process_time() - begun


def memory(number: int = 1_000_000) -> None:
    """Fake work: what does a million batches leave behind, and what does the dispatch of one cost?"""
    engine = fake_engine()
    engine.fit([0] * 1000)
    grown = []
    for _ in range(2):
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        engine.fit(range(number // 2), max_updates=None)
        spent = time.process_time() - begun
        grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(f"{number} batches of fake work: {spent / number * 2e6:.2f} us each; peak memory grew by {grown} KiB")


def fake_engine() -> Engine:
    """An engine whose actions compute nothing: what is left is the machine."""
    model, loss = nn.Linear(1, 1), torch.zeros(())

    def report(trigger: Enum):
        def act(run: Run) -> Enum:
            return trigger

        return act

    def forward(run: Run) -> Enum:
        run.output = None
        return Trigger.OUTPUT_READY

    def fake_loss(run: Run) -> Enum:
        run.loss = loss
        return Trigger.LOSS_READY

    actions = {
        State.FORWARD: forward,
        State.LOSS: fake_loss,
        State.BACKWARD: report(Trigger.GRADS_READY),
        State.STEP: report(Trigger.WEIGHTS_MOVED),
        State.ZERO_GRAD: report(Trigger.GRADS_CLEARED),
    }
    return Engine(model, None, torch.optim.SGD(model.parameters(), lr=0.1), actions=actions)


if __name__ == "__main__":
    main()
