"""Does the stateful test of a machine pass where all is well, and fail by a short program where something is broken?"""

import re
import unittest
from collections.abc import Callable

import pytest
from hypothesis import Phase, settings

from engine.errors import ArgumentRefused
from engine.ownloop.openrun import OpenRun
from engine.ownloop.reports import ReportedRun
from engine.running.steps import SteppedRun
from engine.testing.walked import reference
from engine.testing.walked.extensions import Drawn
from engine.testing.walked.stateful import stateful_test
from states import EVALUATION, PREDICTION, TRAINING, Machine, State
from states.walk import walk


EXTENDED = TRAINING.insert(
    Drawn.PUT_0, before=State.FETCH, holds=EVALUATION, skip=Drawn.SKIP_PUT_0, name="training that evaluates"
).insert(Drawn.PUT_1, Drawn.DONE_PUT_1, before=State.STEP, events=(Drawn.PUT_1_BEGIN, Drawn.PUT_1_END))


def result_of(test: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(test).run(result)
    return result


def failed(*, shrinks: bool = False) -> str:
    """How the test of a training fails; made short only where that is looked at, since it takes its time."""
    test = stateful_test(TRAINING, max_examples=100)
    phases = [Phase.generate, Phase.shrink] if shrinks else [Phase.generate]
    test.settings = settings(test.settings, derandomize=True, database=None, report_multiple_bugs=False, phases=phases)
    result = result_of(test)
    assert len(result.failures) + len(result.errors) == 1
    return (result.failures + result.errors)[0][1]


@pytest.mark.parametrize("machine", [TRAINING, EVALUATION, PREDICTION, EXTENDED], ids=lambda machine: machine.name)
def test_a_machine_on_our_engine_passes(machine: Machine) -> None:
    result = result_of(stateful_test(machine, max_examples=15))
    assert result.wasSuccessful(), result.failures + result.errors
    assert result.testsRun == 1


def test_nearly_every_row_is_taken_in_a_few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = set()

    def watched(*given):
        for step in walk(*given):
            taken.add(step.row)
            yield step

    monkeypatch.setattr(reference, "walk", watched)
    test = stateful_test(TRAINING, max_examples=30)
    test.settings = settings(test.settings, derandomize=True, database=None)
    assert result_of(test).wasSuccessful()
    rows = {*TRAINING.rows, *EVALUATION.rows}
    assert len(rows & taken) > 0.75 * len(rows)


# --- Broken engines ---------------------------------------------------------------------------------------------------


def taking(monkeypatch: pytest.MonkeyPatch, change: Callable) -> None:
    """Break what happens when a row is taken."""
    take = SteppedRun._take
    monkeypatch.setattr(SteppedRun, "_take", lambda run, row: change(run, row, take))


def forgets_the_state(run, row, take):
    before = run.state
    taken = take(run, row)
    if taken.transition.source is State.BATCH:
        run.state = before
    return taken


def counts_twice(run, row, take):
    run.updates += row.transition.source is State.STEP
    return take(run, row)


def hears_twice(run, row, take):
    taken = take(run, row)
    for happening in taken.heard if taken.transition.source is State.LOSS else ():
        happening.do(run)
    return taken


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (forgets_the_state, "the table:"),
        (counts_twice, "updates 2"),
        (hears_twice, "backward_begin is heard in backward"),
    ],
)
def test_a_stepper_that_takes_rows_wrongly_is_found(
    monkeypatch: pytest.MonkeyPatch, change: Callable, text: str
) -> None:
    taking(monkeypatch, change)
    assert text in failed()


def test_a_stepper_that_asks_no_guard_but_the_last_is_found_by_the_shortest_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SteppedRun, "_choose", lambda run, group: run._take(group.choices[-1]))
    text = failed(shrinks=True)
    steps = re.findall(r"state\.(\w+)\(", text)
    assert steps[0] == "begin"
    assert len(steps) <= 5, text


def test_a_report_that_is_not_refused_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    due = ReportedRun._due

    def lenient(run: OpenRun, trigger):
        try:
            return due(run, trigger)
        except Exception:  # noqa: BLE001  # whatever is refused is let pass
            return run.here.groups[0] if run.here.groups else None

    monkeypatch.setattr(ReportedRun, "_due", lenient)
    text = failed()
    assert "was not refused" in text
    assert "state.refused(trigger=" in text


def test_a_refusal_that_changes_something_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    due = ReportedRun._due

    def touching(run: OpenRun, trigger):
        run.loss, before = trigger, run.loss
        group = due(run, trigger)
        run.loss = before
        return group

    monkeypatch.setattr(ReportedRun, "_due", touching)
    assert "was refused, and something has changed" in failed()


def test_a_death_that_is_silent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SteppedRun, "_die", lambda run, error: run._end(run.here))
    text = failed()
    assert "state.die(" in text


def test_a_latched_stop_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk is the judge: one that asks again where a stop was granted differs from the engine."""
    monkeypatch.setattr(reference.Reference, "_answer", lambda self, guard, counters: False)
    assert "the run:" in failed()


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: stateful_test("training"), "stateful_test was given 'training'"),
        (lambda: stateful_test(TRAINING, max_examples=0), "max_examples is 0"),
        (lambda: stateful_test(TRAINING, steps=0), "steps is 0"),
    ],
)
def test_what_cannot_be_tested_is_refused(make: Callable, phrase: str) -> None:
    with pytest.raises(ArgumentRefused, match=phrase):
        make()
