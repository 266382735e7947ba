"""Does a check find what is wrong, tell it so that it can be seen again, and keep silent where nothing is?"""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine import Callback, Engine, Run
from engine.errors import Refused
from engine.testing import (
    Case,
    ClaimBroken,
    OrderBroken,
    Plan,
    Script,
    at_most_once,
    before,
    check_case,
    check_order,
    each,
    never,
    order_of,
)
from engine.testing.check import look_at, report_of
from engine.testing.runs.judges import INVARIANTS
from engine.testing.runs.standard import standard_of
from engine.testing.runs.subject import Subject
from states import TRAINING, Event, Grammar, State
from tests.testing.subjects import Factory, subject


class Stale(Callback):
    """Takes the loss of a batch that may have been skipped."""

    def on_batch_end(self, run: Run) -> None:
        self.last = run.loss.item()


class Counts(Callback):
    """Counts, and does nothing else."""

    def on_train_begin(self, run: Run) -> None:
        self.batches = 0

    def on_batch_end(self, run: Run) -> None:
        self.batches += 1


class Doubles(Callback):
    """Holds for two batches at most: a random case is needed."""

    def on_train_begin(self, run: Run) -> None:
        self.skipped = 0

    def on_batch_end(self, run: Run) -> None:
        self.skipped += run.output is None
        assert self.skipped < 2, "two batches without an output"


TOLD = """\
Stale raises AttributeError: 'NoneType' object has no attribute 'item' in batch_end
  plan     1 epoch of 1 batch
  answers  skip_batch: yes at the 1st asking
  stack    Metrics, Stale

     event        state   epoch  batch  update  callbacks
     train_begin  train   0      0      0
     epoch_begin  epoch   0      0      0       Metrics
     batch_begin  batch   0      0      0
  >  batch_end    epoch   0      0      0       Stale raises
     exception    failed  0      0      0
     train_end    failed  0      0      0

  to see it again:
    from engine.testing import Case, Plan, Script, check_case
    from stale import factory

    check_case(factory, Case(Plan(epochs=1, batches=1), Script({'skip_batch': (0,)}), left_out={0}))"""


def named(factory: Factory, name: str) -> Factory:
    """The factory, as if it stood in a module."""
    factory.__module__, factory.__qualname__ = name, "factory"
    return factory


def found(factory: Factory, *names: str, runs: int = 0, seed: int = 0) -> list[str]:
    """What is found against some invariants, or all."""
    seen = look_at(standard_of(Subject(factory), (), None), names or tuple(INVARIANTS), runs=runs, seed=seed)
    return [str(finding) for finding in seen.findings]


def test_a_fault_is_told_with_its_plan_its_trace_and_a_program() -> None:
    told = found(named(subject(Counts, Stale, valid=False), "stale"), "callbacks")
    assert told == [TOLD]


def test_the_program_shows_the_fault_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory = named(subject(Counts, Stale, valid=False), "stale")
    module = type(sys)("stale")
    module.factory = factory  # type: ignore[attr-defined]  # it stands in for a file
    monkeypatch.setitem(sys.modules, "stale", module)
    _, _, program = found(factory, "callbacks")[0].partition("to see it again:\n")
    with pytest.raises(OrderBroken, match="Stale raises AttributeError"):
        exec("\n".join(line.strip() for line in program.splitlines()), {})  # noqa: S102  # our own text


def test_a_fault_that_takes_several_things_at_once_is_found_in_random_runs_and_shrunk() -> None:
    assert found(subject(Doubles, valid=False), "callbacks") == []
    (told,) = found(subject(Doubles, valid=False), "callbacks", runs=300, seed=1)
    assert "plan     1 epoch of 2 batches" in told or "plan     2 epochs of 1 batch" in told
    assert "answers  skip_batch: yes at the 1st and 2nd asking" in told


def test_one_seed_gives_one_report() -> None:
    reports = [found(subject(Doubles, valid=False), "callbacks", runs=60, seed=seed) for seed in (5, 5)]
    assert reports[0] == reports[1]


def test_nothing_is_found_where_nothing_is_wrong_and_the_report_says_so() -> None:
    report = report_of(subject(Counts), at_most_once("stop"), runs=10, seed=1)
    assert report.holds
    text = str(report)
    assert "the order is judged by the grammar written by hand" in text
    assert "at_most_once('stop'): proved over" in text
    assert all(f"holds      {name}" in text for name in INVARIANTS if name != "claims")
    assert "10 random runs, seed 1" in text


def test_a_check_leaves_the_random_numbers_and_the_factory_alone(capsys: pytest.CaptureFixture[str]) -> None:
    class Prints(Callback):
        def on_train_end(self, run: Run) -> None:
            print("loud")  # noqa: T201  # that is what is tested

    before_it = random.getstate(), torch.get_rng_state()
    found(subject(Prints), "order")
    assert random.getstate() == before_it[0]
    assert torch.equal(torch.get_rng_state(), before_it[1])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        (3, "the factory is an int"),
        (lambda: TRAINING, "gives a Machine"),
        (lambda: Engine(torch.nn.Linear(1, 1)), "gives no train_loader"),
        (lambda: 3, "gives 3, an int"),
    ],
)
def test_what_cannot_be_checked_is_refused(factory: Callable[[], object], says: str) -> None:
    with pytest.raises(Refused, match=says):
        check_order(factory)


def test_a_case_alone_can_be_checked() -> None:
    check_case(subject(Stale), Case(Plan(epochs=1, batches=1)))
    with pytest.raises(OrderBroken, match="Stale raises"):
        check_case(subject(Stale), Case(Plan(epochs=1, batches=1), Script({"skip_batch": [0]})))


SILENT = Grammar("run = train_begin epoch* train_end\nepoch = epoch_begin epoch_end", Event.TRAIN_END)


def test_the_users_own_grammar_is_the_judge_where_it_is_given() -> None:
    with pytest.raises(OrderBroken) as broken:
        check_order(subject(Counts), runs=0, grammar=SILENT)
    text = str(broken.value)
    assert "training lets be heard what is not legal, by the grammar that was given" in text
    assert "    > fetch batch_ready -> batch: batch_begin" in text or "stop" in text
    assert "is not legal here, by the grammar that was given" in text


def test_an_order_that_is_read_off_the_rows_is_said_to_be_no_judge() -> None:
    report = report_of(subject(Counts, machine=TRAINING.without(State.VALIDATE), valid=False), runs=0)
    assert "the order read off the machine's own rows, which is no independent judge" in str(report)
    assert report.holds


class Skips(Callback):
    """Skips the second batch of each epoch."""

    def skip_batch(self, run: Run) -> bool:
        return run.batch_index == 1


def test_a_claim_is_proved_for_the_guards_that_somebody_answers() -> None:
    (verdict,) = order_of(subject(Counts), before("step_end", "batch_end"))
    assert str(verdict).startswith("before('step_end', 'batch_end'): proved over ")
    assert "skip_batch" not in str(verdict)


def test_a_claim_that_the_callbacks_break_is_told_with_the_run_that_does() -> None:
    with pytest.raises(OrderBroken, match=r"before\('step_end', 'batch_end'\) does not hold") as broken:
        order_of(subject(Skips), before("step_end", "batch_end"), runs=0)
    assert "1 epoch of 2 batches" in str(broken.value)


def test_a_claim_that_only_their_code_keeps_is_held_in_runs_and_not_proved() -> None:
    class Never(Callback):
        def skip_batch(self, run: Run) -> bool:
            return False

    (verdict,) = order_of(subject(Never), before("step_end", "batch_end"), runs=20, seed=1)
    assert "runs, not proved: shortest way to break it:" in str(verdict)
    assert "> batch [skip_batch] -> epoch: batch_end" in str(verdict)


def test_a_claim_about_a_machine_is_proved_or_broken_by_a_shortest_way() -> None:
    order_of(TRAINING, each("backward_end").followed_by("step_begin", "batch_end"), at_most_once("exception"))
    with pytest.raises(ClaimBroken) as broken:
        order_of(TRAINING, never("step_begin", between=("batch_end", "batch_begin")))
    assert "    > settle grads_averaged -> flush: step_begin" in str(broken.value)
