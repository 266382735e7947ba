"""Who would notice, if a table were broken?  Every small change is made, and every one must be noticed or explained.

A mutant dies by the first judge that objects, in this order:

    proof      `prove` refuses it: it is never built
    reports    `prove` refuses what its actions declare
    crash      a report that no row takes any more
    endless    it does not end
    grammar    what is heard is not legal
    counters   a counter is not what the events tell
    loop       it does, asks or hears something else than the loop written by hand

The last judge has the last word: what asks the same, hears the same in the same state with the same counters, and does
the same to model and loader, in all runs of the plans below, is the same machine as far as anybody can tell.  Those are
listed one by one, with the reason.
"""

from collections.abc import Collection, Mapping
from enum import Enum
from functools import cache
from itertools import chain, islice

import pytest
from attrs import evolve, frozen

from engine.testing.mutation.change import Change
from engine.testing.mutation.changes import changes
from states import EVALUATION, PREDICTION, TRAINING, Machine, MachineRefused, State, Trigger, prove
from states.grammar import EVALUATION_ORDER, PREDICTION_ORDER, TRAINING_ORDER, Grammar
from states.walk import Plan, walk
from tests.states.observed import MANY_ROWS, Observed, Replies, every_run, observe
from tests.states.plain_loop import plain_loop
from tests.states.told import Told


# All their runs are walked, simple ones first: all answers of every guard at every asking.
PLANS: Mapping[str, list[Plan]] = {
    "training": [
        Plan(epochs=0),
        Plan(epochs=1, batches=1, valid_batches=1),
        Plan(epochs=1, batches=2),
        Plan(epochs=2, batches=0, valid_batches=0),
        Plan(epochs=2, batches=1),
        Plan(epochs=2, batches=1, max_updates=1),
    ],
    "evaluation": [Plan(batches=batches) for batches in range(4)],
    "prediction": [Plan(batches=batches) for batches in range(4)],
}
# What holds an evaluation is walked as well, once it has counted batches of its own.
HELD = Plan(epochs=1, batches=1, valid_batches=1)

ORDERS: Mapping[str, Grammar] = {
    "training": TRAINING_ORDER,
    "evaluation": EVALUATION_ORDER,
    "prediction": PREDICTION_ORDER,
}

S, T = State, Trigger
IN_ALL = {S.FETCH: [T.BATCH_READY, T.LOADER_DRY], S.FORWARD: [T.OUTPUT_READY], S.LOSS: [T.LOSS_READY]}
# What the action of each state may report.
REPORTS: Mapping[str, Mapping[Enum, Collection[Enum]]] = {
    "training": {
        **IN_ALL,
        S.IDLE: [T.FIT_ASKED],
        S.TRAIN: [T.EPOCH_DUE, T.EPOCHS_SPENT],
        S.FETCH: [T.BATCH_READY, T.LOADER_DRY, T.UPDATES_SPENT],
        S.BACKWARD: [T.GRADS_READY],
        S.AVERAGE: [T.GRADS_AVERAGED],
        S.STEP: [T.WEIGHTS_MOVED],
        S.ZERO_GRAD: [T.GRADS_CLEARED],
        S.WINDOW: [T.WINDOW_OPEN, T.WINDOW_EMPTY],
        S.SETTLE: [T.GRADS_AVERAGED],
        S.FLUSH: [T.WEIGHTS_MOVED],
        S.CLEAR: [T.GRADS_CLEARED],
        S.CLOSE: [T.VALIDATION_DUE, T.NO_VALIDATION],
        S.VALIDATE: [T.VALIDATED, T.VALIDATION_STOPPED],
    },
    "evaluation": {**IN_ALL, S.IDLE: [T.EVALUATION_ASKED]},
    "prediction": {**IN_ALL, S.IDLE: [T.PREDICTION_ASKED]},
}

# Nobody can tell these from the original, and why.  Anything that is not listed here has to die.
AGAIN = "what is 0 already is put to 0 again"
REPORTED = "the trigger is reported, and the event heard, with nothing in between; neither comes without the other"
ALONE = "a prediction is always a run of its own, and the counters of a run begin at 0"
EXPLAINED: Mapping[str, Mapping[str, str]] = {
    "training": {
        "redirect a row: fetch updates_spent -> window => close": "the update that was the last one emptied the window",
        "change a count: again: batch_index = 0 before epoch_begin": AGAIN,
        "change a count: again: window = 0 after step_end": AGAIN,
        "change a count: again: window = 0 before grads_cleared": AGAIN,
        "change a count: window + 1 before backward_end => window + 1 before grads_ready": REPORTED,
        "change a count: updates + 1 before step_end => updates + 1 before weights_moved": REPORTED,
    },
    "evaluation": {
        "change a count: again: batch_index = 0 before validate_begin": AGAIN,
        "change a count: batch_index = 0 before validate_begin => batch_index = 0 before evaluation_asked": REPORTED,
    },
    "prediction": {
        f"change a count: {change}": ALONE
        for change in (
            "drop: batch_index = 0 before predict_begin",
            "again: batch_index = 0 before predict_begin",
            "batch_index = 0 before predict_begin => batch_index = 0 after predict_begin",
            "batch_index = 0 before predict_begin => epoch = 0 before predict_begin",
            "batch_index = 0 before predict_begin => batches_done = 0 before predict_begin",
            "batch_index = 0 before predict_begin => updates = 0 before predict_begin",
            "batch_index = 0 before predict_begin => window = 0 before predict_begin",
            "batch_index = 0 before predict_begin => overflows = 0 before predict_begin",
            "batch_index = 0 before predict_begin => batch_index = 0 before exception",
            "batch_index = 0 before predict_begin => batch_index = 0 before prediction_asked",
        )
    },
}


@frozen
class RightRun:
    """One run of the loop that was written by hand."""

    plan: Plan
    answers: tuple[bool, ...]
    seen: Observed


@cache
def right_runs(name: str, *plans: Plan) -> list[RightRun]:
    """All runs of some plans, simple ones first: most mutants die early."""
    runs = [
        RightRun(plan, answers, seen)
        for plan in plans
        for answers, seen in every_run(lambda replies, plan=plan: plain_loop(name, plan, replies))
    ]
    return sorted(runs, key=lambda run: (sum(run.answers), len(run.seen)))


def killed_by(mutant: Change) -> str:
    """The judge that objects first; empty if nobody does."""
    try:
        machine = mutant.build()
    except MachineRefused:
        return "proof"
    try:
        prove(machine, REPORTS[machine.name])
    except MachineRefused:
        return "reports"
    alone = (objection(machine, run) for run in right_runs(machine.name, *PLANS[machine.name]))
    held: list[str] = []
    if machine.name == EVALUATION.name:
        try:
            holder = evolve(TRAINING, holds={S.VALIDATE: machine})
        except MachineRefused:
            return "proof"
        held = (objection(holder, run) for run in right_runs(holder.name, HELD))
    return next(filter(None, chain(alone, held)), "")


def objection(machine: Machine, run: RightRun) -> str:
    """Who objects to what a machine does where the hand-written loop does `run`."""
    replies = Replies(run.answers)
    seen = observe(machine, run.plan, replies)
    if (seen, tuple(replies.asked)) == (run.seen, run.answers):
        return ""
    how = str(seen[-1][0])
    if how != "ends":
        return how
    if not ORDERS[machine.name].judge([str(line[1]) for line in seen if line[0] == "hears"]):
        return "grammar"
    told = Told()
    if any(told.objection(step) for step in islice(walk(machine, run.plan, Replies(run.answers)), MANY_ROWS)):
        return "counters"
    return "loop"


@cache
def judged(name: str) -> dict[str, list[Change]]:
    """All mutants of a machine, by the judge that they died of."""
    deaths: dict[str, list[Change]] = {}
    for mutant in changes({machine.name: machine for machine in (TRAINING, EVALUATION, PREDICTION)}[name]):
        deaths.setdefault(killed_by(mutant), []).append(mutant)
    return deaths


@pytest.mark.parametrize("name", PLANS)
def test_every_small_change_of_a_table_is_noticed_or_explained(name: str) -> None:
    deaths = judged(name)
    print(f"{name}:", {judge or "nobody can tell": len(dead) for judge, dead in deaths.items()})  # noqa: T201  # pytest -s
    assert {str(mutant) for mutant in deaths.get("", [])} == set(EXPLAINED[name])


@pytest.mark.parametrize("name", PLANS)
def test_no_judge_of_the_mutants_is_idle(name: str) -> None:
    deaths = judged(name)
    judges = {"proof", "reports", "endless", "grammar", "counters", "loop"}
    assert judges - set(deaths) <= (set() if name == "training" else {"grammar"})  # their order is all the proof's
    assert len(deaths["proof"]) > len(list(chain(*deaths.values()))) / 2


@pytest.mark.parametrize("name", PLANS)
def test_the_machine_that_nobody_changed_is_innocent(name: str) -> None:
    (machine,) = [machine for machine in (TRAINING, EVALUATION, PREDICTION) if machine.name == name]
    assert killed_by(Change("no change", "none", machine, machine.rows, machine.counts)) == ""
    assert len(right_runs(name, *PLANS[name])) >= {"training": 800, "evaluation": 24, "prediction": 14}[name]


def test_every_row_and_every_count_is_changed_in_many_ways() -> None:
    changed = [str(mutant) for mutant in changes(TRAINING)]
    assert len(changed) > 3000
    for part in (*TRAINING.rows, *TRAINING.counts):
        assert sum(f": {part}" in change or f" {part}" in change for change in changed) > 10
    assert len({change.split(":")[0] for change in changed}) == 15
