"""Does a test notice a broken machine?  Mutants are in force, and put back; a strong test sees what a weak does not."""

from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache

import pytest
import torch
from attrs import frozen

from engine import Action, Callback, Engine, Run
from engine.errors import ArgumentRefused
from engine.running import prepare
from engine.running.link import link
from engine.testing.mutation.bare import difference, right_runs
from engine.testing.mutation.mutants import Mutant, machine_mutants, mutants_of, unchanged, walk_mutants
from engine.testing.mutation.mutate import Endless, mutated
from engine.testing.mutation.survivors import notices, survivors
from states import EVALUATION, PREDICTION, TRAINING, Event, Guard, Machine, State
from states.names import name_of
from states.walk import Plan, script
from tests.engine.ownloop import WAYS, fitted
from tests.engine.recording import Heard, Tiny, answers_by, expected, hearings, hears_everything


MUTANTS = (*machine_mutants(TRAINING), *walk_mutants(TRAINING), *machine_mutants(EVALUATION), *walk_mutants(EVALUATION))

# Nobody can tell these from the machine itself, and why.
AGAIN = "what is 0 already is put to 0 again"
LATCHED = "a stop that was granted is not to be stopped any more, or is granted again without a word"
REPORTED = "the trigger is reported, and the event heard, with nothing in between"
ALIKE = {
    "add a guard: validate validation_stopped -> stopping: epoch_end + [stop_training]": LATCHED,
    "add a guard: stopping -> done: train_end + [stop_training]": LATCHED,
    "add a guard: stopping -> done: validate_end + [stop_training]": LATCHED,
    "a guard is asked again after its yes: stop_training": LATCHED,
    "change a count: again: batch_index = 0 before epoch_begin": AGAIN,
    "change a count: again: window = 0 after step_end": AGAIN,
    "change a count: again: window = 0 before grads_cleared": AGAIN,
    "change a count: window + 1 before backward_end => window + 1 before grads_ready": REPORTED,
    "change a count: updates + 1 before step_end => updates + 1 before weights_moved": REPORTED,
    "redirect a row: fetch updates_spent -> window => close": "the update that was the last one emptied the window",
}


def named(change: str, machine: Machine = TRAINING) -> Mutant:
    (mutant,) = [mutant for mutant in MUTANTS if str(mutant) == change and mutant.machine is machine]
    return mutant


@cache
def right() -> list:
    return right_runs(TRAINING)


# What is heard, asked and done in a few trainings, against the reference walk and what they came to without a mutant.


@frozen
class Told:
    """All that a training tells."""

    heard: list
    asked: list
    done: list
    ending: tuple


CASES: list[tuple[Plan, dict[str, list[int]]]] = [
    (Plan(epochs=2, batches=2, valid_batches=1), {}),
    (Plan(epochs=2, batches=2, valid_batches=1), {"accumulate": [0, 1]}),
    (Plan(epochs=2, batches=3), {"accumulate": [0, 2], "skip_step": [0, 1]}),
    (Plan(epochs=1, batches=3), {"accumulate": [0, 2], "skip_zero_grad": [0, 1]}),
    (Plan(epochs=2, batches=2, max_updates=2), {"skip_batch": [1], "skip_backward": [0]}),
    (Plan(epochs=2, batches=2, valid_batches=2), {"skip_validate": [0], "stop_epoch": [1], "stop_validate": [1]}),
    *((Plan(epochs=2, batches=1, valid_batches=1), {"stop_training": [at]}) for at in range(6)),
]


def told(plan: Plan, yes: dict[str, list[int]], *, stop: int = -1, fault: int = -1) -> Told:
    """Two who hear everything, three who answer, and a stop or a fault at a hearing in between."""
    log: list[Heard] = []
    asked: list[tuple] = []
    done: list[object] = []
    answers = script(yes)

    class Odd(Callback):
        calls = 0

    def act(self: Odd, run: Run) -> None:
        done.append(run.stopping)
        self.calls += 1
        if self.calls - 1 == stop:
            run.stop("on purpose")
        if self.calls - 1 == fault:
            raise ValueError

    def says(who: str, guard: Guard, run: Run) -> bool:
        asked.append((who, guard, run.state, run.epoch, run.batch_index, len(log)))
        return who == "b" and answers(guard, {})

    odd = type("Acts", (Odd,), {f"on_{name_of(event)}": act for event in Event if event is not Event.EXCEPTION})()
    answering = [
        type(who, (Callback,), {name_of(g): lambda self, run, w=who, g=g: says(w, g, run) for g in Guard})()
        for who in "abc"
    ]
    ears = [hears_everything("first", log)(), odd, hears_everything("last", log)()]
    tiny = Tiny(plan, [*ears, *answering])
    tiny.engine.model.eval().register_forward_hook(lambda module, inputs, output: done.append(module.training))
    tiny.engine.loss_fn.register_forward_hook(lambda module, inputs, output: done.append("loss"))
    try:
        tiny.fit()
    except ValueError:
        assert fault >= 0
    run = tiny.engine.last_run
    skips = [(tally.guard, tally.who, tally.count) for tally in run.skips]
    ending = (run.outcome, run.state, run.stopping, len(run.errors), len(run.stops), skips, run.history)
    return Told(log, asked, [done, *(weight.tolist() for weight in tiny.weights)], ending)


def cases() -> Iterator[Callable[[], Told]]:
    for plan, yes in CASES:
        yield lambda plan=plan, yes=yes: told(plan, yes)
    for at in (0, 1, 3, 17, 40):
        yield lambda at=at: told(CASES[0][0], {}, stop=at)
        yield lambda at=at: told(CASES[0][0], {}, fault=at)


@cache
def golden() -> tuple[Told, ...]:
    """What all cases tell without a mutant; what is heard is what the reference walk says."""
    right_ones = tuple(case() for case in cases())
    for (plan, yes), right_one in zip(CASES, right_ones, strict=False):
        heard = [(h.event, h.state, h.counters) for h in right_one.heard if h.who == "last"]
        assert heard == [(h.event, h.state, h.counters) for h in hearings(expected(plan, script(yes)))]
    return right_ones


def strong() -> None:
    assert all(case() == right_one for case, right_one in zip(cases(), golden(), strict=True))


def weak() -> None:
    assert Tiny(Plan(epochs=2, batches=2, valid_batches=1)).fit().outcome.name == "COMPLETED"


@pytest.mark.slow
def test_a_strong_test_notices_every_mutant_but_those_that_nobody_could() -> None:
    golden()
    report = survivors(TRAINING, strong)
    assert report.unnoticed == ()
    assert len(report.noticed) >= 55
    assert {str(mutant) for mutant in report.alike} <= set(ALIKE)


@pytest.mark.slow
def test_a_strong_test_notices_every_fault_of_the_walk() -> None:
    golden()
    tried = (*walk_mutants(TRAINING), *(mutant for mutant in walk_mutants(EVALUATION) if not mutant.alone))
    report = survivors(TRAINING, strong, tried)
    assert list(map(str, report.unnoticed)) == []
    assert {str(mutant) for mutant in report.alike} == {"a guard is asked again after its yes: stop_training"}


def test_a_weak_test_leaves_many_and_is_told_what_it_could_look_for() -> None:
    seen: list[tuple[int, int]] = []
    report = survivors(TRAINING, weak, progress=lambda done, of: seen.append((done, of)))
    assert len(report.unnoticed) > len(report.noticed) > 3
    assert seen == [(number, 60) for number in range(1, 61)]
    text = str(report)
    assert text.startswith(f"{len(report.noticed)} of {len(report.noticed) + len(report.unnoticed)} broken machines")
    drop = "drop an event: idle fit_asked"
    assert all(one.shows.startswith("with epochs=") for one in report.unnoticed)
    assert drop not in text or "hears train_begin" in text


def test_only_what_comes_into_the_runs_of_the_test_is_tried() -> None:
    """Who has no callback that answers `skip_step` cannot notice that it is asked in reverse order."""
    report = survivors(TRAINING, weak)
    names = [str(mutant) for mutant in (*report.noticed, *(one.mutant for one in report.unnoticed), *report.alike)]
    assert not [name for name in names if name.endswith((": skip_step", ": batch_begin", "reverse order: train_end"))]


@pytest.mark.parametrize("mutant", mutants_of(TRAINING, most=150), ids=str)
def test_each_mutant_shows_in_some_run_or_it_is_known_why_not(mutant: Mutant) -> None:
    shows = difference(mutant, TRAINING, right())
    assert bool(shows) == (str(mutant) not in ALIKE)
    assert "\n" not in shows


def test_how_a_held_run_dies_shows_where_it_runs_alone() -> None:
    alone = [mutant for mutant in walk_mutants(EVALUATION) if mutant.alone]
    runs = right_runs(EVALUATION)
    assert all(difference(mutant, EVALUATION, runs) for mutant in alone)
    assert not any(difference(mutant, TRAINING, right()) for mutant in alone)
    assert not {*alone} & {*mutants_of(TRAINING, most=3000)}


def test_the_machine_that_nobody_changed_shows_nothing() -> None:
    for machine in (TRAINING, EVALUATION, PREDICTION):
        runs = right_runs(machine)
        assert difference(unchanged(machine), machine, runs) == ""
        assert len(runs) > 50


def test_the_selection_is_always_the_same_and_has_all_families() -> None:
    chosen = mutants_of(TRAINING)
    assert list(map(str, chosen)) == list(map(str, mutants_of(TRAINING)))
    families = {mutant.family for mutant in MUTANTS}
    assert {mutant.family for mutant in chosen} == families
    assert len(families) > 25
    assert {mutant.machine.name for mutant in chosen} == {"training", "evaluation"}
    assert len(mutants_of(TRAINING, most=7)) == 7


# In force, and put back.


def heard_in(way: Callable[[Engine, Plan], Run], checked: bool) -> tuple[list, list]:
    log: list[Heard] = []
    asked: list[tuple] = []

    def answer(guard: Guard, counters: object) -> bool:
        asked.append((guard, len(log)))
        return False

    ears = [hears_everything("first", log)(), hears_everything("last", log)()]
    plan = Plan(epochs=2, batches=2, valid_batches=1)
    try:
        way(Tiny(plan, [*ears, answers_by(answer)], checked=checked).engine, plan)
    except Exception as error:  # noqa: BLE001  # a broken machine may come to anything
        log.append(type(error))
    return log, asked


EVERYWHERE = [
    "drop an event: zero_grad grads_cleared -> epoch: batch_end - batch_end",
    "double an event: average grads_averaged -> step: step_begin + step_begin",
    "change a count: drop: epoch + 1 after epoch_end",
    "change a count: updates + 1 before step_end => updates + 1 after step_end",
    "callbacks hear in reverse order: step_end",
    "the last callback does not hear: epoch_begin",
    "the last callback hears twice: batch_begin",
    "heard before the state moves: fetch batch_ready -> batch: batch_begin",
    "a guard is asked of the first callback alone: skip_zero_grad",
    "an answer is turned round: stop_training",
    "an answer is turned round: skip_validate",
    "a guard is not asked: skip_step",
    "nothing is done: validate",
    "done twice: validate",
]


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("way", [fitted, *WAYS.values()])
def test_a_mutant_is_in_force_however_a_training_is_written(way: Callable, checked: bool) -> None:
    whole = heard_in(way, checked)
    for name in EVERYWHERE:
        with mutated(named(name), most=500):
            broken = heard_in(way, checked)
        if name != "a guard is asked of the first callback alone: skip_zero_grad":  # there is but one who answers
            assert broken != whole, name
    assert heard_in(way, checked) == whole


@pytest.mark.parametrize("change", ["exception is not heard", "the outermost end is not heard"])
def test_a_run_dies_in_another_way(change: str) -> None:
    with mutated(named(f"how a run dies: {change}")):
        log = told(Plan(epochs=1, batches=1), {}, fault=3).heard
    end = {heard.event for heard in log[-2:]}
    assert (Event.EXCEPTION in end, Event.TRAIN_END in end) == ("end is not" in change, "exception is not" in change)


def test_what_is_in_force_is_put_back_whatever_happens() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert vars(prepare)["link"] is link
    second = mutated(MUTANTS[1])
    with mutated(MUTANTS[0]), pytest.raises(ArgumentRefused, match="while another one is"):
        second.__enter__()
    assert vars(prepare)["link"] is link
    with pytest.raises(KeyboardInterrupt):
        survivors(TRAINING, interrupted_later())
    assert vars(prepare)["link"] is link


def interrupted() -> None:
    with mutated(MUTANTS[0]):
        assert vars(prepare)["link"] is not link
        raise KeyboardInterrupt


def interrupted_later() -> Callable[[], None]:
    left = iter([None, KeyboardInterrupt()])

    def test() -> None:
        weak()
        if (error := next(left)) is not None:
            raise error

    return test


def test_only_runs_of_its_machine_that_begin_meanwhile_have_a_fault() -> None:
    tiny = Tiny(Plan(epochs=1, batches=1))
    started = tiny.engine.start([(torch.ones(1, 1), torch.ones(1, 1))])
    with mutated(named("change a count: drop: updates + 1 before step_end")):
        assert [*started][-1].dest is State.DONE
        other = Tiny(Plan(epochs=1, batches=1), machine=TRAINING.without(State.VALIDATE))
        assert (other.fit().updates, tiny.fit().updates) == (1, 0)
    assert started.updates == tiny.fit().updates == 1


# No mutant goes round for ever.


@pytest.mark.parametrize("way", [fitted, WAYS["advanced"], WAYS["looped"]])
def test_no_mutant_hangs(way: Callable) -> None:
    plan = Plan(epochs=2, batches=2, valid_batches=1)
    endless = 0
    for mutant in MUTANTS[::17]:
        with mutated(mutant, most=200) as watch:
            try:
                way(Tiny(plan).engine, plan)
            except Exception as error:  # noqa: BLE001  # a broken machine may come to anything
                endless += isinstance(error, Endless)
        assert watch.taken <= 200 + 2  # nobody goes on behind it
    assert endless > 1


def test_what_has_no_end_is_noticed_by_a_test_that_catches_everything() -> None:
    def careless() -> None:
        try:
            Tiny(Plan(epochs=2, batches=2)).fit()
        except Exception:  # noqa: BLE001  # as such tests do
            return

    assert notices(careless, named("change a count: drop: epoch + 1 after epoch_end"), most=500)
    assert not notices(careless, named("change a count: drop: updates + 1 before step_end"), most=500)


def test_a_plain_failure_of_pytest_is_noticed() -> None:
    assert notices(lambda: pytest.fail("no"), unchanged(TRAINING))


# What is refused.


def test_a_test_that_fails_anyway_is_refused() -> None:
    with pytest.raises(ArgumentRefused, match="fails without any mutant"):
        survivors(TRAINING, lambda: pytest.fail("always"))


def test_a_test_that_runs_another_machine_is_refused() -> None:
    with pytest.raises(ArgumentRefused, match="allowed:  the machines that it runs: none"):
        survivors(TRAINING, lambda: None)
    with pytest.raises(ArgumentRefused, match="allowed:  the machines that it runs: training, evaluation"):
        survivors(PREDICTION, weak)


# Machines of one's own.


def test_a_machine_of_ones_own_has_mutants_too() -> None:
    clip = Enum("Clip", "CLIP CLIPPED CLIP_BEGIN CLIP_END")
    machine = TRAINING.without(State.VALIDATE).insert(
        clip.CLIP, clip.CLIPPED, before=State.FORWARD, events=(clip.CLIP_BEGIN, clip.CLIP_END)
    )
    plan = Plan(batches=2)

    def test() -> None:
        log: list[Heard] = []
        actions = {clip.CLIP: Action(lambda run: clip.CLIPPED, (clip.CLIPPED,))}
        Tiny(plan, [hears_everything("Ear", log, events=machine.events)()], machine=machine, actions=actions).fit()
        said = hearings(expected(plan, script({}), machine))
        assert [(heard.event, heard.counters) for heard in log] == [(h.event, h.counters) for h in said]

    report = survivors(machine, test, [mutant for mutant in machine_mutants(machine) if "clip_end" in str(mutant)][::3])
    assert len(report.noticed) > len(report.unnoticed) > 0
    assert report.alike == ()
