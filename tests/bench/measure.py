"""How is a workload measured?  Our own contender in many rounds, the slow ones in as many as their time allows.

Every run is checked: the same final loss as the plain loop's, the calls that were due, the same accuracy.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from attrs import define, evolve, frozen

from tests.bench.contenders import BASELINES, CHECKED, DROPPING, FIT, OWN_LOOP, STEPPER, UNMEASURED, Contender
from tests.bench.results import Measured, Table
from tests.bench.timing import Seconds, interleave, seconds
from tests.bench.workloads import EVENTS, Job, Trained, Workload


# How often a run of one batch is timed; and what the slow ones may have of them.
ONCE, ONCE_SLOW = 15, 3
SLOW_ROUNDS = 5


class Differs(AssertionError):
    """A contender did not do the work that it is timed for."""


@define
class Judge:
    """Knows what the baseline gives for a job, and how far each contender was from it."""

    workload: str
    make: Callable[[], Job]
    loss: float
    weights: Sequence[torch.Tensor]
    accuracy: float | None
    off: dict[str, float]

    def timed(self, contender: Contender) -> Seconds:
        """One run as a function: it gives the CPU seconds, and raises `Differs` if the work was another."""

        def run() -> float:
            job, given = self.make(), []
            spent = seconds(lambda: given.append(contender.train(job)))
            self.judge(contender, job, given[0])
            return spent

        return run

    def judge(self, contender: Contender, job: Job, trained: Trained) -> None:
        """Compare what came out with the baseline's."""
        off, allowed = abs(job.final_loss() - self.loss), contender.loss_off.get(self.workload, 0.0)
        self.off[contender.name] = max(off, self.off.get(contender.name, 0.0))
        if not off <= allowed:
            raise Differs(f"{contender.name} in {self.workload}: the final loss is off by {off}; allowed: {allowed}")
        if not allowed and not all(map(torch.equal, job.model.state_dict().values(), self.weights)):
            raise Differs(f"{contender.name} in {self.workload}: the weights are not those of the plain loop")
        batches = len(job.train) * job.epochs
        if trained.calls != (due := len(contender.hears) * job.callbacks * batches):
            raise Differs(f"{contender.name} in {self.workload}: {trained.calls} calls were heard; due were {due}")
        if self.accuracy is not None and abs(trained.accuracy - self.accuracy) > (0.01 if allowed else 1e-6):
            raise Differs(f"{contender.name}: its accuracy is {trained.accuracy}; the baseline's: {self.accuracy}")
        if (threads := torch.get_num_threads()) != 1:
            raise Differs(f"{contender.name} runs on {threads} threads; all are timed on one")


def judge_of(workload: Workload, make: Callable[[], Job]) -> Judge:
    """Run the baseline once."""
    job = make()
    trained = BASELINES[workload.name].train(job)
    return Judge(workload.name, make, job.final_loss(), list(job.model.state_dict().values()), trained.accuracy, {})


@frozen
class Extent:
    """How much is run: rounds of whole runs, rounds of one batch, the epochs of a whole run, a limit in seconds."""

    rounds: int
    once: int
    epochs: int
    budget: float


def measure(workload: Workload, contenders: Sequence[Contender], extent: Extent) -> Table:
    """Time some contenders; the table's noise is that of these rounds."""
    baseline = BASELINES[workload.name]
    whole = judge_of(workload, lambda: workload.job(None, extent.epochs))
    shortest = judge_of(workload, lambda: workload.job(1, 1))
    pairs, noise = _times(whole, baseline, contenders, extent.rounds, extent.budget)
    firsts, first_noise = _times(shortest, baseline, contenders, extent.once, float("inf"))
    callbacks, batches = shortest.make().callbacks, workload.batches * extent.epochs

    def row(one: Contender, mine: list, first: list) -> Measured:
        calls = len(one.hears) * callbacks
        off = max(judge.off.get(one.name, 0.0) for judge in (whole, shortest))
        return Measured(one.name, one.version, one.note, batches, mine, first, off, calls)

    rows = [row(one, pairs[one.name], firsts[one.name]) for one in contenders]
    return Table(workload.name, workload.text, len(EVENTS) * callbacks, row(baseline, noise, first_noise), rows)


def _times(judge: Judge, baseline: Contender, contenders: Iterable[Contender], rounds: int, budget: float) -> tuple:
    runs = {contender.name: judge.timed(contender) for contender in contenders}
    return interleave(runs, judge.timed(baseline), rounds, budget)


def measure_own(workload: Workload, rounds: int) -> Table:
    """The engine, in many rounds; where only the loop is timed, also what it keeps and what it saves."""
    contenders = [FIT, STEPPER, OWN_LOOP, UNMEASURED, DROPPING] if workload.name == "tiny" else [FIT]
    return measure(workload, contenders, Extent(rounds, ONCE, workload.epochs, workload.own_budget))


def add_slow(table: Table, workload: Workload, peers: Sequence[Contender]) -> Table:
    """The engine checked, and the peers, in few rounds; the noise stays that of the many."""
    extent = Extent(SLOW_ROUNDS, ONCE_SLOW, workload.slow_epochs, workload.slow_budget)
    slow = measure(workload, [CHECKED, *peers], extent)
    return evolve(table, contenders=[*table.contenders, *slow.contenders])
