"""Does a machine keep what is promised whatever is reported, answered and raised?  A stateful test of any machine.

# Theory of operation
#
# Hypothesis fires rules at a run that `engine.start` gives: a report that the table takes, with drawn answers; the same
# by `run.advance`; a report that it does not take; a callback that fails.  No batch is drawn and nothing is computed:
# the actions report what the rule says.  After each rule, the run is compared with the reference walk.
"""

import re
from enum import Enum
from typing import Any, ClassVar
from unittest import TestCase

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from engine.outcome import Outcome
from engine.ownloop.openrun import OpenRun
from engine.testing.runs.described import Fault, Script
from engine.testing.strategies import PHASES, check_bound, check_machine, faults
from engine.testing.walked.player import Log, Player, counters_of, may_report
from engine.testing.walked.reference import Reference
from states import Machine, Trigger, TriggerRefused
from states.names import name_of


# One fit of two epochs with three batches is 62 transitions, and some rules take none.
STEPS = 100


def stateful_test(machine: Machine, *, max_examples: int | None = None, steps: int = STEPS) -> type[TestCase]:
    """A test case that tries whatever may happen to a run of a machine: legal and illegal reports, answers, deaths.

    Hypothesis draws a program of steps, runs it, and compares after each: the state, what was heard, asked and counted,
    the open scopes, the order of events.  A failing one is shown as a program, as short as it could be made.

    Args:
        machine: Any machine; states of your own need no action here.
        max_examples: How many programs are tried; by default as many as Hypothesis's profile says.
        steps: How long a program is at most.  Hypothesis's own 50 do not get through one training of two epochs.

    Returns:
        A `unittest.TestCase` class: give it a name in a test file, and pytest or unittest runs it.

    Raises:
        ArgumentRefused: what is no machine, or a bound below 1.

    Example:
        >>> import unittest
        >>> from states import PREDICTION
        >>> TestPrediction = stateful_test(PREDICTION, max_examples=5)
        >>> unittest.defaultTestLoader.loadTestsFromTestCase(TestPrediction).run(unittest.TestResult())
        <unittest.result.TestResult run=1 errors=0 failures=0>
    """
    check_machine(machine, "stateful_test")
    check_bound("steps", steps, 1)
    examples = settings().max_examples if max_examples is None else max_examples
    check_bound("max_examples", examples, 1)

    class MachineTest(Rules):
        """The rules for this machine."""

    # Seen where a program is shown; and by its name, what has failed before is found again.
    MachineTest.__name__ = f"{''.join(re.findall('[A-Za-z0-9]+', machine.name.title()))}Test"
    MachineTest.machine = machine
    test = MachineTest.TestCase
    test.settings = settings(max_examples=examples, stateful_step_count=steps, deadline=None, phases=PHASES)
    return test


# What may be drawn depends on where the run is.
LEGAL = st.runner().flatmap(lambda test: st.sampled_from(test.likely or [None]))
ILLEGAL = st.runner().flatmap(lambda test: st.sampled_from(test.illegal))
REPLIES = st.runner().flatmap(lambda test: _replies(test.askable))
FAULTS = faults(where=("callback",), errors=(ValueError, KeyboardInterrupt), max_at=9)


class Rules(RuleBasedStateMachine):
    """What is done to a run, and what holds behind it."""

    machine: ClassVar[Machine]

    @initialize(answered=st.booleans())
    def begin(self, answered: bool) -> None:
        """Make an engine, on which one run after the other is started; guards are answered in it or not."""
        self.answered, self.player = answered, Player()
        self.engine = self.player.engine(self.machine, answers=answered)
        self._start()

    @rule(trigger=LEGAL, yes=REPLIES)
    def report(self, trigger: Enum | None, yes: Script) -> None:
        """Report a trigger; guards say yes as the script has it."""
        self.player.plays(yes)
        _report(self.run, trigger)
        self._follow(trigger)

    @rule(trigger=LEGAL, yes=REPLIES)
    def advance(self, trigger: Enum | None, yes: Script) -> None:
        """Take one transition; if it is an action that is called, it reports the trigger."""
        self.player.plays(yes, trigger)
        self.run.advance()
        self._follow()

    @rule(trigger=ILLEGAL)
    def refused(self, trigger: Enum) -> None:
        """Report what the table does not take: it is refused, and nothing is changed."""
        before = self._seen
        try:
            _report(self.run, trigger)
        except TriggerRefused:
            assert self._seen == before, f"{name_of(trigger)} was refused, and something has changed"
        else:
            raise AssertionError(f"{name_of(trigger)} was reported in {self.run.where}, and it was not refused")

    @rule(trigger=LEGAL, yes=REPLIES, fault=FAULTS)
    def die(self, trigger: Enum | None, yes: Script, fault: Fault) -> None:
        """Report a trigger, and fail on the way if anybody is called that often."""
        error = fault.error("on purpose")
        self.player.plays(yes, at=fault.at, error=error)
        try:
            _report(self.run, trigger)
        except (ValueError, KeyboardInterrupt):
            self._died(error)
        else:
            self._follow(trigger)

    def _start(self) -> None:
        acting = {s for s in self.machine.states if not self.machine.decides(s) and s not in self.machine.finals}
        valid = [()] if self.machine.holds else None
        self.player.log = Log()
        self.run = self.engine.start(None, valid, None, mine=acting - {*self.machine.holds})
        self.reference = Reference(self.machine, self.player.log, self.answered)

    def _follow(self, trigger: Enum | None = None) -> None:
        """Compare the run with the reference; one that is over is followed by another on the same engine."""
        self.reference.follow(self.run.state, trigger)
        self._compare()
        if self.run.ended:
            judgement = self.machine.order.judge(self.player.log.events)
            assert judgement.legal, f"the run is over, and what was heard is not legal: {judgement}"
            self._start()

    def _compare(self) -> None:
        """Counters, open scopes and the order of events are those of the state, as it was proved."""
        events, due = self.player.log.events, self.reference.counters
        for counter, number in counters_of(self.run).items():
            assert number == due[counter], f"{name_of(counter)} is {number} and not {due[counter]} in {self.run.where}"
        scopes = self.machine.proof.scopes[self.run.state]
        assert _opened(events) == scopes, f"open in {self.run.where}: {_opened(events)}, and not {scopes}"
        assert self.run.ended == (self.run.state in self.machine.finals)
        judgement = self.machine.order.judge(events)
        assert judgement.prefix, str(judgement)

    def _died(self, error: BaseException) -> None:
        outcome = Outcome.INTERRUPTED if isinstance(error, KeyboardInterrupt) else Outcome.FAILED
        assert (self.run.outcome, self.run.errors) == (outcome, [error])
        assert self.run.ended, f"the run died in {self.run.where}, and has not ended"
        judgement = self.machine.order.judge(self.player.log.events)
        assert judgement.legal, f"the run died, and what was heard is not legal: {judgement}"
        self._start()

    def teardown(self) -> None:
        """Leave the last run, wherever it is."""
        if hasattr(self, "run"):
            self.player.plays(Script({}))
            self.run.close()
            assert self.run.ended

    @property
    def likely(self) -> list[Enum]:
        """What may be reported; what ends the run comes once, and all else thrice, or most runs were short.

        It is nothing where the engine is to go on first.
        """
        state = self.reference.acting
        legal = may_report(self.machine, state, self.reference.counters)
        on = [one for one in legal if self.machine.groups[state, one][-1].dest not in self.machine.finals]
        return [*legal, *on, *on]

    @property
    def askable(self) -> list[str]:
        """The guards that may be asked before the run waits again."""
        states = ahead(self.machine, self.reference.state)
        states |= {dest for row in self.machine.rows if row.source in states for dest in ahead(self.machine, row.dest)}
        held = [one for state in states if state in self.machine.holds for one in self.machine.holds[state].rows]
        rows = [row for row in self.machine.rows if row.source in states]
        return list(dict.fromkeys(name_of(row.guard) for row in (*rows, *held) if row.guard))

    @property
    def illegal(self) -> list[Enum]:
        """What no row takes that the run may come to before it waits for the next report."""
        states = ahead(self.machine, self.reference.state)
        taken = {row.trigger for row in self.machine.rows if row.source in states}
        return [trigger for trigger in dict.fromkeys((*self.machine.triggers, *Trigger)) if trigger not in taken]

    @property
    def _seen(self) -> tuple[object, ...]:
        """All that an illegal report may not change."""
        run, lines = self.run, len(self.player.log.lines)
        return run.state, run.outcome, run.begun, run.recent, counters_of(run), lines, id(run.inputs), id(run.loss)


def ahead(machine: Machine, state: Enum) -> set[Enum]:
    """The states that a run comes to if nobody says yes, until it waits for a report or asks for a stop."""
    found, queue = {state}, [state]
    for at in queue:
        if at is state and not machine.decides(at) and at not in machine.holds:
            break
        if at is not state and (at not in machine.holds and not machine.decides(at)):
            continue
        leads = {rows[-1].dest for (source, _), rows in machine.groups.items() if source is at} - found
        found |= leads
        queue.extend(leads)
    return found


def _replies(guards: list[str]) -> st.SearchStrategy[Script]:
    """A yes of a few guards at their first asking, or the second."""
    if not guards:
        return st.just(Script({}))
    return st.builds(Script, st.dictionaries(st.sampled_from(guards), st.tuples(st.integers(0, 1)), max_size=2))


def _report(run: OpenRun, trigger: Enum | None) -> None:
    """Report a trigger with what it brings; where nothing can be reported, let the engine go on."""
    if trigger is None:
        run.advance()
        return
    number = torch.zeros(())
    brings: dict[Enum, dict[str, Any]] = {
        Trigger.BATCH_READY: {"inputs": number},
        Trigger.OUTPUT_READY: {"output": number},
        Trigger.LOSS_READY: {"loss": number},
    }
    run.report(trigger, **brings.get(trigger, {}))


def _opened(events: list[Enum]) -> tuple[str, ...]:
    """The scopes that are open behind these events."""
    scopes: list[str] = []
    for event in events:
        scope, _, side = name_of(event).rpartition("_")
        if side == "begin":
            scopes.append(scope)
        elif side == "end" and scopes[-1:] == [scope]:
            scopes.pop()
    return tuple(scopes)
