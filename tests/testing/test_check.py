"""Does a check find what is wrong, tell it so that it can be seen again, and keep silent where nothing is?"""

import random
import signal
import sys
from collections.abc import Callable
from enum import Enum, unique
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import evolve
from torch.utils.data import DataLoader, TensorDataset

from engine import Callback, Engine, Run
from engine.callbacks import EarlyStopping
from engine.dryrun import DryRun
from engine.errors import Refused
from engine.testing import (
    Case,
    ClaimBroken,
    Fault,
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
from engine.testing.front.ordering import Ordering
from engine.testing.runs.judges import INVARIANTS
from engine.testing.runs.search import judged
from engine.testing.runs.standard import standard_of
from engine.testing.runs.subject import Subject
from engine.testing.runs.trial import trial
from examples import mid_epoch
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
  stack    Metrics, Recorder, Stale

     event        state   epoch  batch  update  callbacks
     train_begin  train   0      0      0       Recorder
     epoch_begin  epoch   0      0      0       Metrics, Recorder
     batch_begin  batch   0      0      0
  >  batch_end    epoch   0      0      0       Stale raises
     exception    failed  0      0      0
     train_end    failed  0      0      0       Recorder

  to see it again:
    from engine.testing import Case, Plan, Script, check_case
    from stale import factory

    # without Counts
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
    module.factory = factory  # it stands in for a file
    monkeypatch.setitem(sys.modules, "stale", module)
    _, _, program = found(factory, "callbacks")[0].partition("to see it again:\n")
    with pytest.raises(OrderBroken, match="Stale raises AttributeError"):
        exec("\n".join(line.strip() for line in program.splitlines()), {})  # noqa: S102  # our own text


def test_a_fault_that_takes_several_things_at_once_is_found_in_random_runs_and_shrunk() -> None:
    assert found(subject(Doubles, valid=False), "callbacks") == []
    # What a seed draws depends on what else is loaded: Hypothesis tries numbers that it finds in the code.
    draws = (found(subject(Doubles, valid=False), "callbacks", runs=300, seed=seed) for seed in range(6))
    (told,) = next(filter(None, draws))
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
    assert all(f"holds           {name}" in text for name in INVARIANTS if name != "claims")
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


class Hooks(Callback):
    """Takes its hooks away when the training ends."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def on_train_begin(self, run: Run) -> None:
        self.handles.append(run.model.register_forward_hook(lambda *_: None))

    def on_train_end(self, run: Run) -> None:
        while self.handles:
            self.handles.pop().remove()


def stopping() -> EarlyStopping:
    return EarlyStopping(monitor="valid_loss", mode="min", patience=1)


def test_who_monitors_a_validation_is_tried_in_trainings_that_have_one() -> None:
    factory = subject(stopping)
    assert Subject(factory).validates
    assert not Subject(subject(Stale)).validates
    check_order(factory, runs=30, seed=0)


@pytest.mark.parametrize("at", range(4))  # that of Recorder and its own, in train_begin and in train_end
def test_a_callback_is_not_blamed_for_what_a_fault_in_its_own_end_has_left(at: int) -> None:
    check_case(subject(Hooks), Case(Plan(epochs=0, batches=1), fault=Fault(ValueError, at, "callback")))


@unique
class Own(Enum):
    """Other words for the begin and the end of a run."""

    SEARCH_BEGIN = "search_begin"
    SEARCH_END = "search_end"


class Searches(Callback):
    """Takes its hooks away there."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    on_search_begin, on_search_end = Hooks.on_train_begin, Hooks.on_train_end


def test_nor_where_the_end_of_a_run_has_a_name_of_its_own() -> None:
    swap = {Event.TRAIN_BEGIN: Own.SEARCH_BEGIN, Event.TRAIN_END: Own.SEARCH_END}
    rows = tuple(
        evolve(row, first=[swap.get(event, event) for event in row.first], heard=[swap.get(e, e) for e in row.heard])
        for row in TRAINING.rows
    )
    factory = subject(Searches, machine=evolve(TRAINING, name="search", rows=rows), recorder=None)
    for at in range(2):
        check_case(factory, Case(Plan(epochs=0, batches=1), fault=Fault(ValueError, at, "callback")))


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


def test_a_guard_that_moves_weights_is_found_and_who_was_asked_is_said() -> None:
    class Meddles(Callback):
        def skip_step(self, run: Run) -> bool:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.mul_(0.9)
            return True

    (told,) = found(subject(Meddles), "skips")
    assert (
        "weights move between backward_end and batch_end, where no step is taken; asked between the two: Meddles"
        in told
    )


def test_a_callback_that_moves_weights_while_it_hears_is_let_be() -> None:
    class Averages(Callback):
        def on_step_end(self, run: Run) -> None:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.mul_(0.9)

    assert found(subject(Averages), "skips") == []


class StopsInValidation(Callback):
    def on_validate_batch_end(self, run: Run) -> None:
        run.stop("enough")


class AsksItsLoader(Callback):
    def on_batch_end(self, run: Run) -> None:
        self.samples = len(run.loader.dataset)


def shuffled(*makers: Callable[[], object]) -> Factory:
    """As `subject`, with a loader that shuffles."""

    def factory():
        engine, arguments = subject(*makers)()
        data = TensorDataset(torch.arange(8.0)[:, None], torch.zeros(8, 1))
        return engine, {**arguments, "train_loader": DataLoader(data, batch_size=2, shuffle=True)}

    return factory


def with_optimizer(make: Callable[..., torch.optim.Optimizer], **arguments: object) -> Factory:
    """As `subject`, with another optimizer and more arguments of `fit`."""

    def factory():
        engine, given = subject(Counts)()
        engine.optimizer = make(engine.model.parameters())
        return engine, {**given, **arguments}

    return factory


@pytest.mark.parametrize(
    "factory",
    [
        subject(StopsInValidation),
        shuffled(AsksItsLoader),
        with_optimizer(lambda parameters: torch.optim.SGD(parameters, lr=1e30)),
        with_optimizer(torch.optim.LBFGS),
        with_optimizer(lambda parameters: torch.optim.SGD(parameters, lr=0.1), start_epoch=2),
    ],
    ids=[
        "a stop in a validation",
        "a callback that looks at its loader",
        "weights that are nan",
        "LBFGS",
        "start_epoch",
    ],
)
def test_what_is_unusual_is_not_wrong(factory: Factory) -> None:
    assert found(factory) == []


def test_the_same_batches_are_drawn_from_a_loader_that_shuffles() -> None:
    one, other = (Subject(shuffled()).train for _ in range(2))
    assert all(torch.equal(mine, yours) for mine, yours in zip(one[0], other[0], strict=True))


def shares(part: str) -> Factory:
    """A factory that gives one thing again and again."""
    first, arguments = subject(Counts)()
    model = first.model

    def factory():
        if part == "engine":
            return first, arguments
        made, _ = subject()()
        if part == "model":
            return Engine(model, made.loss_fn, torch.optim.SGD(model.parameters(), lr=0.1)), arguments
        made.add(first.callbacks[1])
        return made, arguments

    return factory


@pytest.mark.parametrize("part", ["engine", "model", "callback"])
def test_a_factory_whose_engines_share_something_is_refused(part: str) -> None:
    with pytest.raises(Refused, match=f"gives the same {part} each time that it is called"):
        Subject(shares(part))


def test_a_program_names_the_claim_and_says_where_a_factory_cannot_be_imported() -> None:
    with pytest.raises(OrderBroken) as broken:
        order_of(named(subject(Skips), "skips"), before("step_end", "batch_end"), runs=0)
    text = str(broken.value)
    assert "from engine.testing import Case, Plan, before, check_case" in text
    assert "check_case(factory, Case(Plan(epochs=1, batches=2)), before('step_end', 'batch_end'))" in text
    told = found(subject(Stale), "callbacks")[0]
    assert "# factory = subject.<locals>.factory of tests.testing.subjects, which stands inside a function" in told


@pytest.mark.parametrize("case", [Case(Plan(), Script({"skip_bacth": [0]})), Case(Plan(), left_out={9})])
def test_a_case_that_names_what_is_not_there_is_refused(case: Case) -> None:
    with pytest.raises(Refused, match=r"asks no such guard|names the callback 9 of 1"):
        check_case(subject(Counts), case)


def checks(factory: Factory) -> None:
    check_order(factory, runs=0)


def checks_by_the_fixture(factory: Factory) -> None:
    Ordering(runs=0, seed=1).check(factory)


@pytest.mark.parametrize("check", [checks, checks_by_the_fixture])
def test_ctrl_c_ends_a_check_at_the_next_run(check: Callable[[Factory], None]) -> None:
    """Though its runs keep whatever is raised in them: here it comes in the middle of one."""
    pressed: list[None] = []

    class Presses(Callback):
        def on_train_begin(self, run: Run) -> None:
            pressed.append(None)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        check(subject(Presses))
    assert len(pressed) <= 3  # the case, that which it is held against, and one more of the same engine


def test_a_machine_that_needs_a_loader_for_validation_is_not_called_wrong_without_one() -> None:
    assert found(mid_epoch.factory, "deaths", "callbacks") == []
    case = Case(Plan(epochs=1, batches=3))  # its third batch is followed by a look at the validation
    assert judged(trial(standard_of(Subject(mid_epoch.factory), (), None), case), INVARIANTS.values()) == []


def test_a_dry_run_that_lists_other_calls_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(subject(Counts), "dry_run") == []
    monkeypatch.setattr(DryRun, "calls", lambda dry: tuple(call for call in calls(dry) if call[0] != "batch_end"))
    (told,) = found(subject(Counts), "dry_run")
    assert told.startswith("Counts hears batch_end, and the dry run says that Metrics hears epoch_end")


calls = DryRun.calls
