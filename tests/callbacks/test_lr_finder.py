"""Is a search the sweep that was asked for, and is a training behind it bit for bit what it would have been without?"""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import inf, isfinite, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve, field, frozen
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset

from engine import Callback, Engine, Outcome, Run, State, loss_from, output_from
from engine.callbacks.freeze import Freeze
from engine.callbacks.lr_finder import LRFinder
from engine.callbacks.schedule import Schedule
from engine.errors import ArgumentRefused, EngineBusy, LoaderRefused, OptimizerRefused
from engine.schedules.curves import Constant
from engine.searching.found import LRFound
from engine.testing import check_order
from states import TRAINING, Event
from tests.engine.standin import engine_of, noisy_model
from tests.engine.tools import Count, batches, refuses, same
from tests.testing.subjects import subject


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models so small are many times slower on two, where others are at work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def line(number: int = 1, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Batches of points on a line, always the same."""
    chance = torch.Generator().manual_seed(1)
    inputs = torch.randn(number, size, 4, generator=chance)
    return [(x, x.sum(1, keepdim=True)) for x in inputs]


def linear(*callbacks: object, **parts: Any) -> Engine:
    """An engine with four weights, all 0 at first."""
    model = nn.Linear(4, 1)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    parts.setdefault("optimizer", optim.SGD(model.parameters(), lr=0.1))
    return Engine(model, nn.MSELoss(), callbacks=callbacks, **parts)


# The sweep.


def by_hand(
    start: float, end: float, number: int, stop_at: float | None
) -> tuple[list[float], list[float], list[float]]:
    """A loop without an engine: rates, losses, smoothed losses."""
    model, ((inputs, targets),) = nn.Linear(4, 1), line()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    rates, losses, smooth = [], [], []
    mean, best = 0.0, inf
    for i in range(number):
        sgd.param_groups[0]["lr"] = start ** (1 - i / (number - 1)) * end ** (i / (number - 1))
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        rates.append(sgd.param_groups[0]["lr"])
        losses.append(loss.item())
        mean = 0.98 * mean + (1 - 0.98) * losses[-1]
        smooth.append(mean / (1 - 0.98 ** (i + 1)))
        best = min(best, smooth[-1])
        if not isfinite(losses[-1]) or (stop_at is not None and smooth[-1] > stop_at * best):
            break
    return rates, losses, smooth


@pytest.mark.parametrize("stop_at", [None, 1.5, 4.0])
@pytest.mark.parametrize(("start", "end", "number"), [(1e-7, 10.0, 100), (1e-3, 1e6, 60), (0.1, 0.2, 2)])
def test_it_is_the_loop_written_by_hand(start: float, end: float, number: int, stop_at: float | None) -> None:
    found = linear().lr_find(line(), start_lr=start, end_lr=end, num_it=number, stop_at=stop_at)
    rates, losses, smooth = by_hand(start, end, number, stop_at)

    assert list(found.rates) == rates
    assert found.raw_losses == pytest.approx(losses, rel=0, abs=0, nan_ok=True)
    assert found.losses == pytest.approx(smooth, rel=1e-12, nan_ok=True)


@given(start=st.floats(1e-9, 1e-2), factor=st.floats(2, 1e8), number=st.integers(2, 40))
def test_the_rates_are_a_geometric_row_with_both_ends(start: float, factor: float, number: int) -> None:
    found = given_losses([1.0] * number, start_lr=start, end_lr=start * factor)

    assert (found.rates[0], found.rates[-1], len(found.rates)) == (start, start * factor, number)
    assert found.stopped == "all of them were tried"
    wanted = factor ** (1 / (number - 1))
    assert all(after / before == pytest.approx(wanted) for before, after in pairwise(found.rates))


def seen_rates(engine: Engine) -> list[list[float]]:
    """The rates of the groups in each batch of a trial; in a list that the function does not hold."""
    kept = type("Kept", (), {"rates": []})()

    def looks(run: Run) -> None:
        kept.rates.append([float(group["lr"]) for group in run.optimizer.param_groups])

    looks.in_trials = True
    engine.on("step_begin")(looks)
    return kept.rates


@pytest.mark.parametrize("tensors", [False, True])
def test_groups_keep_their_ratios_and_the_largest_goes_through_the_rates(tensors: bool) -> None:
    model, wrap = nn.Linear(4, 1), (torch.tensor if tensors else float)
    groups = [{"params": [model.weight], "lr": wrap(0.01)}, {"params": [model.bias], "lr": wrap(0.04)}]
    engine = linear(optimizer=(sgd := optim.SGD(groups)))
    engine.model = model
    given_rates, rates = [group["lr"] for group in sgd.param_groups], seen_rates(engine)
    found = engine.lr_find(line(), start_lr=1e-3, end_lr=1e-1, num_it=5)

    assert found.rates == pytest.approx([1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1])
    assert rates == [pytest.approx([rate / 4, rate], rel=1e-6) for rate in found.rates]
    assert all(group["lr"] is rate for group, rate in zip(sgd.param_groups, given_rates, strict=True))
    assert [float(rate) for rate in given_rates] == pytest.approx([0.01, 0.04])


def test_only_the_groups_that_are_named_are_searched_and_rates_of_zero_go_alike() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1))
    optimizers = {
        "one": optim.SGD([{"params": model[0].weight}, {"params": model[0].bias}], lr=0.0),
        "other": optim.SGD(model[1].parameters(), lr=0.5),
    }
    engine = Engine(model, nn.MSELoss(), optimizers)
    rates = seen_rates(engine)
    engine.lr_find(line(), start_lr=0.1, end_lr=0.2, num_it=2, groups=[1, 0])

    assert rates == [[0.1, 0.1, 0.5], [0.2, 0.2, 0.5]]
    assert [group["lr"] for group in engine.optimizer.param_groups] == [0.0, 0.0, 0.5]


@pytest.mark.parametrize("kind", [list, tuple, set, lambda numbers: numbers, lambda _: 1])
def test_a_group_or_several_are_named_as_for_a_schedule(kind: Callable[[range], Any]) -> None:
    groups = kind(range(1, 2))
    made = [{"lr": 0.1}, {"lr": 0.2}]

    assert LRFinder(groups=groups).writes(made) == Schedule({"lr": Constant(1)}, groups=groups).writes(made)
    assert LRFinder(groups=groups).writes(made) == [(1, "lr")]


def test_a_tensor_that_groups_share_is_refused_unless_all_of_them_are_searched() -> None:
    model = nn.Linear(4, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias]}]
    engine = Engine(model, nn.MSELoss(), optim.Adam(groups, lr=(rate := torch.tensor(0.1)), foreach=False))
    with refuses(ArgumentRefused, "LRFinder writes lr of group 1, and group 0 holds the very same tensor"):
        engine.lr_find(line(), num_it=3, groups=1)
    assert rate.item() == pytest.approx(0.1)
    assert len(engine.lr_find(line(), num_it=3).rates) == 3


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.floats(1.01, 10))
def test_it_stops_at_the_first_loss_too_far_above_the_best_also_where_losses_are_below_zero(
    losses: list[float], stop_at: float
) -> None:
    found = given_losses(losses, stop_at=stop_at)
    smooth, mean = [], 0.0
    for number, loss in enumerate(map(float, torch.tensor(losses)), 1):
        mean = 0.98 * mean + (1 - 0.98) * loss
        smooth.append(mean / (1 - 0.98**number))
        best = min(smooth)
        if smooth[-1] - best > (stop_at - 1) * abs(best) * (1 + 1e-12):
            break

    assert len(found.losses) == len(smooth)
    early = f"the smoothed loss was more than {stop_at:g} times its best"
    assert found.stopped in ("all of them were tried", early)
    assert (found.stopped == early) == (smooth[-1] - best > (stop_at - 1) * abs(best) * (1 + 1e-12))


def given_losses(losses: list[float], **more: Any) -> LRFound:
    """A search in which the loss of each batch is what is said."""
    model = nn.Linear(1, 1)

    def said(run: Run) -> Tensor:
        return run.model(run.inputs).sum() * 0 + run.targets

    engine = Engine(model, optimizer=optim.SGD(model.parameters()), actions={State.LOSS: loss_from(said)})
    loader = [(torch.ones(1, 1), torch.tensor(loss)) for loss in losses]
    return engine.lr_find(loader, num_it=len(losses), **more)


@pytest.mark.parametrize("bad", [nan, inf, -inf])
@pytest.mark.parametrize("stop_at", [4.0, None])
def test_it_stops_where_a_loss_is_not_finite_which_is_the_last_point(bad: float, stop_at: float | None) -> None:
    found = given_losses([1.0, 1.0, bad, 1.0, 1.0], stop_at=stop_at)

    assert len(found.rates) == len(found.losses) == len(found.raw_losses) == 3
    assert found.raw_losses[-1] == bad or isnan(bad)
    assert found.stopped == f"the loss was {bad}"


def test_a_loader_that_is_shorter_is_begun_anew_and_one_that_is_longer_is_left() -> None:
    class Counted(list[Any]):
        begun = drawn = 0

        def __iter__(self) -> Iterator[Any]:
            type(self).begun += 1
            for batch in super().__iter__():
                type(self).drawn += 1
                yield batch

    assert len(linear().lr_find(Counted(line(3)), num_it=7, end_lr=0.1).rates) == 7
    assert (Counted.begun, Counted.drawn) == (3, 7)
    assert len(linear().lr_find(line(20), num_it=7, end_lr=0.1).rates) == 7


def test_what_waits_for_an_epoch_waits_in_a_search_however_short_the_loader_is() -> None:
    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 1))
    engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1), [Freeze("0", until=1)])
    kept = type("Kept", (), {"seen": []})()

    def looks(run: Run) -> None:
        kept.seen.append((run.epoch, run.batch_index, model[0].weight.requires_grad))

    looks.in_trials = True
    engine.on("step_begin")(looks)
    engine.lr_find(line(3), num_it=7, end_lr=0.1)

    assert kept.seen == [(0, number, False) for number in range(7)]


def test_a_sampler_that_shuffles_by_epoch_is_told_each_pass_of_a_search() -> None:
    told_epochs: list[int] = []

    class Told(list[Any]):
        def set_epoch(self, epoch: int) -> None:
            told_epochs.append(epoch)

    class Sampled(list[Any]):
        sampler = Told()

    linear().lr_find(Sampled(line(2)), num_it=5, end_lr=0.1)

    assert told_epochs == [0, 1, 2]


def test_an_epoch_that_is_stopped_in_a_search_is_followed_by_the_next_and_a_loader_that_runs_dry_is_refused() -> None:
    def stops(run: Run) -> bool:
        return run.batch_index == 2

    stops.in_trials = True
    engine = linear()
    engine.guard("stop_epoch")(stops)
    assert len(engine.lr_find(line(3), num_it=7, end_lr=0.1).rates) == 7

    class Once(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            while self:
                yield self.pop()

    with refuses(LoaderRefused, "gave no batch in"):
        linear().lr_find(Once(line(3)), num_it=7, end_lr=0.1)


def test_a_batch_that_is_skipped_has_no_point_and_those_whose_step_is_skipped_have() -> None:
    def odd(run: Run) -> bool:
        return run.batch_index % 2 == 1

    for guard, points in (("skip_batch", 5), ("skip_backward", 10), ("skip_step", 10), ("accumulate", 10)):
        odd.in_trials = True
        engine = linear()
        engine.guard(guard)(odd)
        found = engine.lr_find(line(4), num_it=10, end_lr=0.1)
        assert (len(found.rates), found.stopped) == (points, "all of them were tried")


@pytest.mark.parametrize("guard", ["skip_batch", "stop_epoch", "stop_training"])
def test_a_search_in_which_nothing_can_be_found_has_an_end(guard: str) -> None:
    def yes(run: Run) -> bool:
        return True

    yes.in_trials = True
    engine = linear()
    engine.guard(guard)(yes)
    found = engine.lr_find(line(2), num_it=10)

    assert found.rates == ()
    assert found.stopped.startswith("all of them" if guard == "skip_batch" else "the run ended first")
    assert set(found.suggestions.values()) == {None}
    assert "valley    none" in str(found)
    found.plot()


def test_who_else_stops_it_is_named() -> None:
    def stops(run: Run) -> None:
        if run.batch_index == 2:
            run.stop("enough")

    stops.in_trials = True
    engine = linear()
    engine.on("batch_end")(stops)
    found = engine.lr_find(line(5), num_it=10, end_lr=0.1)

    assert len(found.rates) == 3
    assert found.stopped == "the run ended first, by stop_training by run.stop (epoch 0, batch 3, update 3): enough"


# Who takes part.


class Part(Callback):
    """Counts what it hears, of all of its kind."""

    heard: dict[str, int] = {}  # noqa: RUF012  # of all, and not an attribute that is put back

    def __init__(self, name: str, *, in_trials: bool) -> None:
        self.name, self.in_trials = name, in_trials
        self.heard[name] = 0

    def on_batch_begin(self, run: Run) -> None:
        self.heard[self.name] += 1


def test_only_those_take_part_that_say_so_with_their_filters() -> None:
    engine = linear(Part("in", in_trials=True), Part("out", in_trials=False), metrics={"broken": lambda *_: 1 / 0})
    third = Part("third", in_trials=True)

    def hears(run: Run) -> None:
        third.on_batch_begin(run)

    hears.in_trials = True
    engine.on("batch_end", every=3)(hears)
    engine.lr_find(line(4), num_it=9, end_lr=0.1)

    assert Part.heard == {"in": 9, "out": 0, "third": 3}


def test_the_engine_does_not_know_of_the_search() -> None:
    engine = linear(Part("in", in_trials=True))
    first = engine.fit(line(2))
    listening, optimizer = engine.callbacks, engine.optimizer
    engine.lr_find(line(2), num_it=4)

    assert engine.last_run is first
    assert engine.callbacks == listening
    assert engine.optimizer is optimizer
    assert len(engine.fit(line(2), epochs=2).history) == 2


def test_a_search_is_timed_as_a_training_is() -> None:
    engine = linear(Part("in", in_trials=True))
    with engine.timed() as timings:
        engine.lr_find(line(2), num_it=5, end_lr=0.1)

    assert timings.states["training", "forward"].calls == 5
    assert timings.callbacks["LRFinder", "batch_end"].calls == timings.callbacks["Part", "batch_begin"].calls == 5


def test_nothing_is_validated_and_a_machine_that_says_so_is_led_round() -> None:
    engine = linear()
    engine.on("validate_begin")(boom := lambda run: 1 / 0)
    boom.in_trials = True

    assert len(engine.lr_find(line(2), num_it=4).rates) == 4


def test_two_optimizers_in_a_machine_of_ones_own_are_searched() -> None:
    from examples.gan import factory  # noqa: PLC0415  # what it needs is needed here alone

    engine, given_parts = factory()
    found = engine.lr_find(given_parts["train_loader"], num_it=20, groups=[0])

    assert len(found.rates) > 10


# What is refused.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start_lr": 0}, "start_lr is 0, an int"),
        ({"start_lr": "1e-3"}, "start_lr is '1e-3', a str"),
        ({"start_lr": nan}, "start_lr is nan"),
        ({"start_lr": 1.0, "end_lr": 1.0}, "start_lr is 1 and end_lr is 1.0\n  allowed:  a finite end_lr above"),
        ({"end_lr": inf}, "end_lr is inf"),
        ({"end_lr": True}, "end_lr is True"),
        ({"num_it": 1}, "num_it is 1, an int\n  allowed:  a whole number, 2 or more\n  instead:  say num_it=2"),
        ({"num_it": 10.0}, "num_it is 10.0"),
        ({"stop_at": 1}, "stop_at is 1, an int\n  allowed:  a finite number above 1"),
        ({"groups": []}, "groups is []"),
        ({"groups": "0"}, "groups is '0'"),
        ({"groups": [-1]}, "groups is [-1]"),
        ({"groups": -1}, "groups is -1, an int"),
        ({"groups": True}, "groups is True, a bool"),
        (
            {"groups": [0, 0]},
            "groups is [0, 0], a list\n  allowed:  the number of a group, from 0, or a list of several",
        ),
        ({"groups": [0, 3]}, "LRFinder writes lr of group 3, and the optimizer has 1 of them"),
    ],
)
def test_numbers_of_which_no_search_can_be_made_are_refused_and_nothing_has_happened(
    wrong: dict[str, Any], message: str
) -> None:
    engine = linear(Part("in", in_trials=True))
    with refuses(ArgumentRefused, message):
        engine.lr_find(line(2), **wrong)

    assert Part.heard["in"] == 0
    if wrong != {"groups": [0, 3]}:
        with refuses(ArgumentRefused, message):
            LRFinder(**wrong)


def test_loaders_that_could_not_be_put_back_are_refused() -> None:
    for loader in (iter(line(2)), (batch for batch in line(2))):
        with refuses(LoaderRefused, "train_loader is", "an iterator: what a search draws from it is gone"):
            linear().lr_find(loader)
        assert len(list(loader)) == 2
    for loader in ([], 3, torch.zeros(2)):
        with pytest.raises(LoaderRefused):
            linear().lr_find(loader)


def test_an_engine_that_trains_is_not_searched() -> None:
    engine = linear()
    engine.on("batch_begin")(lambda run: engine.lr_find(line(2)))
    with refuses(EngineBusy, "lr_find was called while the engine is in batch (epoch 0, batch 0, update 0)"):
        engine.fit(line(2))

    with linear().start(line(2)) as run:
        run.advance()
        run.advance()


def test_an_engine_without_an_optimizer_or_without_the_events_of_a_search_is_refused() -> None:
    with pytest.raises(OptimizerRefused, match="the optimizer is None"):
        Engine(nn.Linear(4, 1), nn.MSELoss()).lr_find(line(2))

    silent = (Event.BATCH_BEGIN, Event.BATCH_END)
    rows = tuple(evolve(row, heard=tuple(event for event in row.heard if event not in silent)) for row in TRAINING.rows)
    counts = tuple(evolve(count, what=Event.LOSS_END) if count.what in silent else count for count in TRAINING.counts)
    engine = linear(machine=evolve(TRAINING, rows=rows, counts=counts, name="quiet"))
    with pytest.raises(ArgumentRefused, match="the machine 'quiet' never announces batch_begin"):
        engine.lr_find(line(2))


# The finder by itself.


def test_in_a_fit_by_itself_it_trains_for_real_and_puts_the_rates_back() -> None:
    finder = LRFinder(start_lr=1e-3, end_lr=1e-1, num_it=6)
    engine = linear(finder)
    engine.on("validate_begin")(lambda run: pytest.fail("it validated"))
    found = linear().lr_find(line(4), start_lr=1e-3, end_lr=1e-1, num_it=6)
    for _ in range(2):
        before = engine.model.weight.clone()
        run = engine.fit(line(4), line(1), epochs=9)
        assert (run.outcome, run.batches_done) == (Outcome.STOPPED, 6)
        assert [stop.reason for stop in run.stops] == ["the learning rate search is over: all of them were tried"]
        assert engine.optimizer.param_groups[0]["lr"] == 0.1
        assert not torch.equal(engine.model.weight, before)
        assert finder.found.rates == found.rates
    assert finder.found.losses[0] < found.losses[0]  # it went on with what it had learnt


def test_a_training_that_goes_on_at_a_later_epoch_is_a_new_search() -> None:
    finder = LRFinder(start_lr=1e-3, end_lr=1e-1, num_it=6)
    engine = linear(finder)
    engine.fit(line(4), epochs=1)
    assert finder.found.stopped == "the run ended first"
    engine.fit(line(4), epochs=9, start_epoch=1)

    assert finder.found.rates[0] == 1e-3
    assert finder.found.stopped == "all of them were tried"


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt(), None])
def test_the_rates_are_put_back_however_a_run_ends(what: BaseException | None) -> None:
    finder = LRFinder(num_it=6)
    engine = linear(finder)

    @engine.on("batch_end")
    def ends(run: Run) -> None:
        if run.batch_index == 2 and what is not None:
            raise what
        if run.batch_index == 2:
            run.stop("enough")

    if what is None:
        engine.fit(line(4))
    else:
        with pytest.raises(type(what)):
            engine.fit(line(4))
    assert engine.optimizer.param_groups[0]["lr"] == 0.1
    assert len(finder.found.rates) == 3
    assert finder.found.stopped.startswith("the run ended first")


def test_before_a_run_and_in_it_it_says_that_the_search_is_not_over() -> None:
    finder = LRFinder(num_it=3)
    said = [finder.found.stopped]
    engine = linear(finder)
    engine.on("batch_begin")(lambda run: said.append(finder.found.stopped))
    engine.fit(line(2))

    assert set(said) == {"the search is not over"}
    assert repr(finder.found) == "<LRFound: 2 of 3 learning rates; the run ended first>"


def test_it_writes_the_learning_rates_that_it_says_and_another_who_does_is_refused() -> None:
    groups = [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.3}]

    assert LRFinder().writes(groups) == [(0, "lr"), (1, "lr"), (2, "lr")]
    assert LRFinder(groups={2, 0}).writes(groups) == [(0, "lr"), (2, "lr")]
    with pytest.raises(Exception, match="LRFinder and LRFinder#2 both write lr of group 0"):
        linear(LRFinder(), LRFinder()).fit(line(2))


def test_the_loss_is_read_on_the_host_once_a_batch() -> None:
    counts = []
    for callbacks in ((), (LRFinder(num_it=99, end_lr=1e-3),)):
        with Count() as ops:
            linear(*callbacks).fit(line(50), epochs=1)
        counts.append(ops)

    without, with_finder = counts
    assert with_finder.host_reads - without.host_reads == 50
    assert with_finder.total - without.total == 50


def test_no_order_of_events_is_broken() -> None:
    check_order(subject(lambda: LRFinder(num_it=4)), runs=20, seed=0)


# The training behind a search.


class Faulty(Dataset[Any]):
    """Points; one that is drawn while a fault is due there raises."""

    def __init__(self, due: dict[str, Any], number: int) -> None:
        chance = torch.Generator().manual_seed(5)
        self.inputs, self.due = torch.randn(number, 4, generator=chance), due

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        fault(self.due, "loader")
        return self.inputs[index], self.inputs[index].sum(0, keepdim=True)


class Net(nn.Module):
    """Dropout, batch norm, a buffer that is bound anew, and the numbers of Python and NumPy."""

    def __init__(self, due: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))
        self.head, self.due = nn.Linear(6, 1), due
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        fault(self.due, "model")
        self.mean = 0.9 * self.mean + 0.1 * inputs.mean()
        noise = random.random() + np.random.rand()  # noqa: NPY002, S311  # which everybody shares
        return self.head(self.body(inputs)) + self.mean + noise


class Broken(Exception):
    """What a fault raises."""


class Due:
    """Where a fault is due, and after how many calls; nothing that is put back."""

    where, calls = "", 0


def fault(due: Due, where: str) -> None:
    """Raise, press Ctrl-C or ask for a stop, when it is time to."""
    if due.where == where:
        due.calls -= 1
        if due.calls < 0:
            due.where = ""
            if where == "interrupt":
                signal.raise_signal(signal.SIGINT)
            raise Broken


class Shaping(Callback):
    """Takes part, draws, freezes and counts: everything that must be as before."""

    in_trials = uses_random = True

    def __init__(self, due: Due) -> None:
        self.due, self.batches, self.chance = due, 0, torch.Generator().manual_seed(7)

    def on_batch_begin(self, run: Run) -> None:
        fault(self.due, "interrupt")
        fault(self.due, "callback")
        self.batches += 1
        run.inputs = run.inputs + 0.1 * torch.randn(4, generator=self.chance) * (self.batches % 3)
        run.model.head.bias.requires_grad_(self.batches % 2 == 0)

    def skip_step(self, run: Run) -> bool:
        return self.batches % 5 == 0


@frozen
class Setting:
    """One search, and the training behind it."""

    optimizer: str
    own_generator: bool
    trained_before: bool
    batches: int
    num_it: int
    ends: str
    after: int
    loss_module: bool = field(default=False)


OPTIMIZERS: dict[str, Callable[[Net], Any]] = {
    "sgd": lambda net: optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
    "adam": lambda net: optim.Adam(net.parameters(), lr=0.01),
    "amsgrad with a tensor": lambda net: optim.Adam(net.parameters(), lr=torch.tensor(0.01), amsgrad=True),
    "two": lambda net: {
        "body": optim.SGD(net.body.parameters(), lr=0.05, momentum=0.9, nesterov=True),
        "head": optim.Adam(net.head.parameters(), lr=0.01),
    },
}


def trained(setting: Setting, *, searched: bool) -> dict[str, Any]:
    """All that is to be seen of a training, behind a search or without one."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # which everybody shares
    due = Due()
    net = Net(due)
    generator = torch.Generator().manual_seed(2) if setting.own_generator else None
    loader = DataLoader(Faulty(due, 3 * setting.batches), 3, shuffle=True, generator=generator)
    count = 0

    def accumulates(run: Run) -> bool:
        nonlocal count
        count += 1
        return count % 3 == 0

    accumulates.in_trials = True
    engine = Engine(net, nn.HuberLoss(), OPTIMIZERS[setting.optimizer](net), [Shaping(due)])
    engine.guard("accumulate")(accumulates)
    seen: list[Any] = []
    engine.on("batch_end")(lambda run: seen.append((run.inputs.tolist(), run.loss.item())))
    if setting.trained_before:
        engine.fit(loader)
        nn.functional.mse_loss(net(torch.ones(2, 4)), torch.zeros(2, 1)).backward()
    if searched:
        search(engine, loader, setting, due)
    gradients = [
        parameter.grad if parameter.grad is None else parameter.grad.tolist() for parameter in net.parameters()
    ]
    run = engine.fit(loader, line(2, 3), epochs=2)
    return {
        "gradients before": gradients,
        "batches and losses": seen,
        "history": run.history,
        "weights": {name: value.tolist() for name, value in net.state_dict().items()},
        "optimizer": told(engine.optimizer.state_dict()),
        "requires_grad": [parameter.requires_grad for parameter in net.parameters()],
        "dice": (torch.rand(1).item(), random.random(), np.random.rand()),  # noqa: NPY002, S311  # as above
        "runs": run is engine.last_run,
    }


def search(engine: Engine, loader: Any, setting: Setting, due: Due) -> None:
    """A search that ends as the setting says."""
    due.where, due.calls = setting.ends, setting.after
    raised: type[BaseException] | None = None
    try:
        engine.lr_find(loader, start_lr=1e-3, end_lr=1.0, num_it=setting.num_it, stop_at=None)
    except (Broken, KeyboardInterrupt) as error:
        raised = type(error)
    due_then = setting.ends != "success" and (due.where == "")
    assert raised is ((KeyboardInterrupt if setting.ends == "interrupt" else Broken) if due_then else None)
    due.where = ""


def told(value: Any) -> Any:
    """A state of an optimizer, to be compared."""
    if isinstance(value, dict):
        return {key: told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    return value.tolist() if isinstance(value, Tensor) else value


SETTINGS = st.builds(
    Setting,
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    own_generator=st.booleans(),
    trained_before=st.booleans(),
    batches=st.integers(1, 4),
    num_it=st.integers(2, 9),
    ends=st.sampled_from(["success", "loader", "model", "callback", "interrupt"]),
    after=st.integers(0, 9),
)


@given(SETTINGS)
@example(Setting("two", own_generator=False, trained_before=True, batches=3, num_it=8, ends="interrupt", after=4))
@example(Setting("two", own_generator=True, trained_before=False, batches=3, num_it=8, ends="loader", after=11))
@example(Setting("sgd", own_generator=True, trained_before=True, batches=3, num_it=8, ends="model", after=4))
@example(Setting("adam", own_generator=False, trained_before=False, batches=2, num_it=9, ends="success", after=0))
def test_a_training_behind_a_search_is_bit_for_bit_what_it_would_have_been(setting: Setting) -> None:
    with_search, without = trained(setting, searched=True), trained(setting, searched=False)

    for name, value in without.items():
        assert with_search[name] == value, name


def test_a_search_with_workers_that_stay_leaves_the_order_of_the_batches() -> None:
    orders = []
    for searched in (False, True):
        torch.manual_seed(0)
        loader = DataLoader(Faulty(Due(), 12), 3, shuffle=True, num_workers=1, persistent_workers=True)
        engine = linear()
        if searched:
            engine.lr_find(loader, num_it=6, end_lr=0.1)
            assert loader._iterator is None
        order: list[Any] = []
        engine.on("batch_begin")(lambda run, order=order: order.append(run.inputs.tolist()))
        engine.fit(loader, epochs=2)
        orders.append(order)

    assert orders[0] == orders[1]


def test_the_scale_of_a_loss_is_that_of_the_engine_and_is_put_back() -> None:
    """The first scale is too large: each training lowers it, and so would the search."""
    found = {}
    for searched in (True, False):
        engine = linear(precision=torch.amp.GradScaler("cpu", init_scale=2.0**127))
        first = engine.fit(line(3))
        assert engine.scaler is not None
        scale = engine.scaler.get_scale()
        if searched:
            assert len(engine.lr_find(line(3), start_lr=0.001, end_lr=0.1, num_it=8).losses) == 8
        assert engine.scaler.get_scale() == scale
        run = engine.fit(line(20))
        found[searched] = [
            first.overflows,
            run.overflows,
            engine.scaler.get_scale(),
            *map(told, run.model.parameters()),
        ]
    assert found[True] == found[False]
    assert found[True][0] > 0


@pytest.mark.parametrize("searched", [False, True])
def test_captured_steps_are_searched_as_others_are(searched: bool) -> None:
    founds, trainings = [], []
    for capture in (False, True):
        engine = engine_of(capture=capture, model=noisy_model())
        torch.manual_seed(4)
        if searched:
            founds.append(engine.lr_find(batches(3), num_it=20, start_lr=1e-3, end_lr=1.0))
            assert engine._cuda.log.count("record") == capture
        engine.fit(batches(8))
        trainings.append([*engine.model.state_dict().values()])

    assert founds[:1] == founds[1:]
    plain = engine_of(capture=False, model=noisy_model())
    torch.manual_seed(4)
    plain.fit(batches(8))
    for training in trainings:
        assert same(training, plain.model.state_dict().values())


# What is found.


def a_valley() -> LRFound:
    rates = tuple(float(rate) for rate in np.geomspace(1e-7, 10, 100))
    losses = tuple(2.0 - min(max(i - 40, 0), 40) / 40 + max(i - 80, 0) / 4 for i in range(100))
    return LRFound(rates, losses, losses, 100, "all of them were tried")


def test_the_table_has_a_line_for_each_suggestion() -> None:
    found = a_valley()

    assert str(found).splitlines() == [
        "100 of 100 learning rates, from 1.00e-07 to 1.00e+01: all of them were tried",
        f"  valley    {found.rates[58]:.2e}  in the middle of the longest fall of the loss",
        f"  slide     {found.slide:.2e}  before the loss begins to slide up",
        f"  minimum   {found.rates[80] / 10:.2e}  a tenth of the rate with the lowest loss",
        f"  steep     {found.steep:.2e}  where the loss falls fastest",
    ]
    assert found.suggestions == {
        "valley": found.valley,
        "slide": found.slide,
        "minimum": found.minimum,
        "steep": found.steep,
    }


def test_the_first_tenth_of_the_rates_and_the_last_five_are_not_looked_at() -> None:
    found = a_valley()
    odd = list(found.losses)
    odd[3], odd[97] = -9.0, -10.0

    assert evolve(found, losses=tuple(odd)).suggestions == found.suggestions


def test_the_picture_has_the_curve_and_a_point_on_it_for_each_suggestion(tmp_path: Path) -> None:
    found = a_valley()
    figure = found.plot(tmp_path / "found.png")
    (axes,) = figure.axes
    whole, part, *points = axes.get_lines()

    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    assert axes.get_xscale() == "log"
    assert list(whole.get_ydata()) == list(found.losses)
    assert list(part.get_xdata()) == list(found.rates[10:95])
    assert whole.get_alpha() < 1
    names = {name: f"{name}  {rate:.1e}" for name, rate in found.suggestions.items()}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(names.values())
    for point in points:
        ((x,), (y,)) = point.get_data()
        assert y == pytest.approx(np.interp(np.log(x), np.log(found.rates), found.losses))
    low, high = axes.get_ylim()
    assert (low, high) == (1 - 1 / 8, 2.25)  # a valley from 2 to 1, with some room


def test_a_loss_that_runs_away_leaves_the_picture_and_its_fall_is_seen_as_before() -> None:
    found = a_valley()
    far = evolve(found, losses=(*found.losses[:90], *(1e30 * i for i in range(1, 9)), inf, nan))

    assert far.plot().axes[0].get_ylim() == found.plot().axes[0].get_ylim()


@pytest.mark.parametrize("losses", [(), (1.0,), (nan,), (1.0, nan), (1.0, 2.0), (2.0, 1.0, inf)])
def test_what_is_no_curve_can_be_drawn_and_told(losses: tuple[float, ...]) -> None:
    found = LRFound(tuple(float(i + 1) for i in range(len(losses))), losses, losses, 100, "the loss was nan")
    found.plot()

    assert str(found).startswith(f"{len(losses)} of 100 learning rates")


def test_the_digits_of_the_example_have_a_valley() -> None:
    from examples.digits import factory  # noqa: PLC0415  # it loads scikit-learn

    engine, arguments = factory()
    found = engine.lr_find(arguments["train_loader"])

    assert found.valley is not None
    assert 1e-4 < found.valley < 1e-2
    assert engine.optimizer.state == {}


def test_a_search_in_another_thread_does_no_harm() -> None:
    founds: list[LRFound] = []
    thread = threading.Thread(target=lambda: founds.append(linear().lr_find(line(2), num_it=5, end_lr=0.1)))
    thread.start()
    thread.join()

    assert len(founds[0].rates) == 5


def test_an_output_that_is_an_action_of_ones_own_takes_part() -> None:
    engine = linear(actions={State.FORWARD: output_from(lambda run: run.model(run.inputs))})

    assert len(engine.lr_find(line(2), num_it=5, end_lr=0.1).rates) == 5
