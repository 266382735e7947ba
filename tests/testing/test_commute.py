"""Is each pair of callbacks found whose order matters, by what differs first, and no other?"""

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from engine import Callback, Engine, Run
from engine.callbacks import Progress
from engine.errors import Refused
from engine.testing.pairs.commute import Conflict, commuting, try_orders
from engine.testing.pairs.snapshot import first_difference, listeners_of, snapshot
from states.walk import Plan
from tests.engine.tools import batches, hears, small_engine


Given = tuple[Engine, dict[str, Any]]


def made(*kinds: Callable[[], object], listen: Callable[[Engine], None] = lambda engine: None) -> Callable[[], Given]:
    """A factory of a small training with these callbacks, and functions that *listen* registers."""

    def factory() -> Given:
        engine = small_engine(*(kind() for kind in kinds), metrics={})
        listen(engine)
        return engine, {"train_loader": batches(3), "valid_loader": batches(2)}

    return factory


def only(conflicts: tuple[Conflict, ...]) -> Conflict:
    assert len(conflicts) == 1, conflicts
    return conflicts[0]


class Plateau(Callback):
    """Half the learning rate where the loss is no better."""

    def __init__(self) -> None:
        self.best = float("inf")

    def on_epoch_end(self, run: Run) -> None:
        loss = run.metrics["train_loss"]
        if loss > self.best * 0.999 or run.epoch == 1:
            run.optimizer.param_groups[0]["lr"] *= 0.5
        self.best = min(self.best, loss)


class OneCycle(Callback):
    """The learning rate as a share of the way."""

    def on_epoch_end(self, run: Run) -> None:
        run.optimizer.param_groups[0]["lr"] = 0.4 / (run.epoch + 1)


class Counter(Callback):
    def __init__(self) -> None:
        self.heard = 0

    def on_batch_end(self, run: Run) -> None:
        self.heard += 1

    def on_epoch_end(self, run: Run) -> None:
        self.heard += 1


class Computes(Callback):
    """A metric, as a callback."""

    def on_epoch_end(self, run: Run) -> None:
        run.metrics["weight"] = run.model.weight.detach().abs().sum().item()


class Logs(Callback):
    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_epoch_end(self, run: Run) -> None:
        self.lines.append(dict(run.metrics))


class Clock(Callback):
    """What it remembers is never the same twice."""

    def __init__(self) -> None:
        self.began, self.seen = 0.0, []

    def on_train_begin(self, run: Run) -> None:
        self.began = time.perf_counter()

    def on_batch_end(self, run: Run) -> None:
        self.seen.append(time.perf_counter() - self.began)


# --- What is found ----------------------------------------------------------------------------------------------------


def test_two_that_write_the_learning_rate_are_found_with_the_field_the_event_and_both_values() -> None:
    found = only(commuting(made(Plateau, Counter, OneCycle)))
    assert (found.one, found.other) == ("Plateau", "OneCycle")
    assert (found.field, found.word) == ("optimizer.param_groups[0]['lr']", "epoch_end")
    assert (found.epoch, found.first, found.second) == (1, "0.2", "0.1")
    assert str(found) == (
        "it matters which comes first, Plateau or OneCycle, and nothing says which\n"
        "  differs:  optimizer.param_groups[0]['lr'], after epoch_end (epoch 1, batch 3): "
        "0.2 with Plateau first, 0.1 with OneCycle first\n"
        "  instead:  give one of them an order of its own, or write runs_after = (Plateau,) in OneCycle, or the "
        "reverse; or let one of them alone write it"
    )


def test_a_logger_beside_what_computes_the_metric_is_found_in_what_it_logged() -> None:
    found = only(commuting(made(Computes, Counter, Logs)))
    assert (found.one, found.other, found.word, found.epoch) == ("Computes", "Logs", "epoch_end", 0)
    assert found.field == "Logs.lines[0]['weight']"
    assert found.second == "not there"


def test_functions_are_callbacks_too_and_so_is_what_they_took_from_around_them() -> None:
    def listen(engine: Engine) -> None:
        lines: list[float] = []

        @engine.on("epoch_end")
        def compute(run: Run) -> None:
            run.metrics["weight"] = 2.0

        @engine.on("epoch_end")
        def log(run: Run) -> None:
            lines.append(run.metrics.get("weight", 0.0))

    found = only(commuting(made(listen=listen)))
    assert (found.one, found.other, found.field) == ("compute", "log", "log: lines[0]")
    assert (found.first, found.second) == ("2.0", "0.0")
    assert found.instead == "give one of them an order of its own: order=1; or let one alone write it"


# Each of these pairs changes one tensor.
def scaled(run: Run) -> None:
    run.inputs = run.inputs * 2


def moved(run: Run) -> None:
    run.inputs = run.inputs + 1


def clipped(run: Run) -> None:
    nn.utils.clip_grad_norm_(run.model.parameters(), 0.01)


def decayed(run: Run) -> None:
    run.model.weight.grad.add_(run.model.weight.detach())


@pytest.mark.parametrize(
    ("event", "one", "other", "field"),
    [("batch_begin", scaled, moved, "run.inputs[0, 0]"), ("backward_end", clipped, decayed, "model.weight.grad[0, 0]")],
)
def test_what_differs_in_a_tensor_is_found_where_it_begins_and_not_at_the_epochs_end(event, one, other, field) -> None:
    def listen(engine: Engine) -> None:
        engine.on(event)(one)
        engine.on(event)(other)

    found = only(commuting(made(listen=listen)))
    assert (found.field, found.word, found.epoch, found.batch) == (field, event, 0, 0)


def test_two_that_draw_from_one_generator_are_found() -> None:
    def draws(name: str) -> Callable[[], object]:
        def on_batch_end(self: Any, run: Run) -> None:
            self.drawn = random.random()  # noqa: S311  # a die

        return type(name, (Callback,), {"on_batch_end": on_batch_end})

    found = only(commuting(made(draws("One"), draws("Two"))))
    assert (found.field, found.word) == ("One.drawn", "batch_end")


def test_a_guard_that_depends_on_what_another_one_did_is_found() -> None:
    class Patience(Callback):
        def __init__(self) -> None:
            self.asked = 0

        def skip_step(self, run: Run) -> bool:
            self.asked += 1
            return self.asked % 2 == 0

    def listen(engine: Engine) -> None:
        engine.guard("skip_step")(lambda run: run.batch_index == 1)

    found = only(commuting(made(Patience, listen=listen)))
    assert (found.one, found.word, found.field) == ("Patience", "skip_step", "Patience.asked")


def test_one_that_dies_in_one_order_alone_is_found() -> None:
    class Needs(Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.metrics["twice"] = run.metrics["weight"] * 2

    found = only(commuting(made(Computes, Needs)))
    assert (found.one, found.other, found.word, found.epoch) == ("Computes", "Needs", "epoch_end", 0)
    assert (found.field, found.first, found.second) == ("what the run raises", "nothing", "KeyError: 'weight'")


def test_what_differs_for_a_while_is_found() -> None:
    class Clears(Callback):
        order = -101  # before the record of the epoch is written

        def on_epoch_end(self, run: Run) -> None:
            run.metrics.pop("n")

    def listen(engine: Engine) -> None:
        engine.on("batch_end")(moved_on)
        engine.on("batch_end")(doubled)

    found = only(commuting(made(Clears, listen=listen)))
    assert (found.field, found.word, found.batch) == ("run.metrics['n']", "batch_end", 0)


def test_two_of_one_class_are_a_pair() -> None:
    found = only(commuting(made(lambda: hears("epoch_end", moved_on), lambda: hears("epoch_end", doubled))))
    assert (found.one, found.other) == ("Hears", "Hears#2")


def moved_on(run: Run) -> None:
    run.metrics["n"] = run.metrics.get("n", 1.0) + 1


def doubled(run: Run) -> None:
    run.metrics["n"] = run.metrics.get("n", 1.0) * 2


def test_each_pair_is_told_once_and_no_other_pair_is_blamed() -> None:
    found = try_orders(made(Plateau, Computes, OneCycle, Counter, Logs))
    assert {(one.one, one.other) for one in found.conflicts} == {("Plateau", "OneCycle"), ("Computes", "Logs")}
    assert len(found.conflicts) == 2
    assert len(found.pairs) == 10


def test_what_one_of_a_pair_needs_from_a_third_is_there() -> None:
    class Needs(Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.optimizer.param_groups[0]["lr"] = run.metrics["weight"] / 10

    class Third(Counter):
        def on_epoch_end(self, run: Run) -> None:
            self.heard = run.metrics["weight"]
            run.metrics["third"] = 0.1

    class Last(Counter):
        def on_epoch_end(self, run: Run) -> None:
            self.heard = run.metrics["third"]

    found = commuting(made(Counter, OneCycle, Computes, Needs))
    assert [(one.one, one.other) for one in found] == [("OneCycle", "Needs"), ("Computes", "Needs")]
    assert (found[0].field, found[0].word) == ("optimizer.param_groups[0]['lr']", "epoch_end")
    chained = commuting(made(Computes, Third, Last))
    assert [(one.one, one.other) for one in chained] == [("Computes", "Third"), ("Third", "Last")]
    around = commuting(made(Computes, Third, Logs))
    assert ("Computes", "Logs") in [(one.one, one.other) for one in around]


# --- What is not ------------------------------------------------------------------------------------------------------


def test_those_who_do_not_meet_are_not_found() -> None:
    class Another(Counter): ...

    found = try_orders(made(Counter, Another, Logs))
    assert found.conflicts == found.unsteady == ()
    assert found.pairs == (("Counter", "Another"), ("Counter", "Logs"), ("Another", "Logs"))
    assert str(found) == "3 pairs of callbacks in both orders: none of them minds"


@pytest.mark.parametrize(
    "declared", [{"order": 1}, {"runs_after": (Plateau,)}, {"runs_after": (Counter,), "order": -1}]
)
def test_an_order_that_is_declared_is_not_tried_directly_or_through_others(declared) -> None:
    class CounterBehind(Counter):
        runs_after = (Plateau,)

    behind = type("Behind", (OneCycle,), declared)
    found = try_orders(made(behind, CounterBehind, Plateau))
    assert found.conflicts == ()
    assert not any({"Behind", "Plateau"} == {*pair} for pair in found.pairs)


def test_a_clock_is_no_conflict_and_is_said_to_be_left_out() -> None:
    class Other(Clock): ...

    found = try_orders(made(Clock, Other, Counter))
    assert found.conflicts == ()
    assert len(found.pairs) == 3
    assert found.unsteady == ("Clock.began", "Clock.seen[]", "Other.began", "Other.seen[]")
    assert str(found).endswith("two equal runs differ: Clock.began, Clock.seen[], Other.began, Other.seen[]")


def test_beside_a_clock_a_conflict_is_found_all_the_same() -> None:
    assert only(commuting(made(Plateau, Clock, OneCycle))).field == "optimizer.param_groups[0]['lr']"


def test_two_who_both_say_yes_to_a_stop_do_not_mind_which_of_them_is_named() -> None:
    def listen(engine: Engine) -> None:
        engine.guard("stop_training")(lambda run: run.updates == 2)
        engine.guard("stop_training")(lambda run: run.updates >= 2)

    found = try_orders(made(listen=listen))
    assert found.conflicts == ()
    assert len(found.pairs) == 1


def test_our_own_callbacks_do_not_mind() -> None:
    class Early(Counter):
        order = -100

    found = try_orders(made(Progress, Progress, Counter, Early))
    assert found.conflicts == ()
    assert ("Progress", "Progress#2") in found.pairs
    assert ("Metrics", "Early") in found.pairs


def test_each_training_has_its_own_batches() -> None:
    def adds(run: Run) -> None:
        run.inputs.add_(1)

    found = try_orders(made(Counter, lambda: hears("batch_begin", adds), lambda: hears("batch_begin", adds)))
    assert found.conflicts == found.unsteady == ()


def test_filters_do_not_make_a_pair_meet_where_only_one_is_called() -> None:
    def listen(engine: Engine) -> None:
        seen: list[int] = []
        engine.on("batch_end", every=2)(lambda run: seen.append(run.batches_done))
        engine.on("batch_end", every=3)(lambda run: run.metrics.update(n=run.batches_done))

    assert commuting(made(listen=listen)) == ()


# --- How --------------------------------------------------------------------------------------------------------------


def test_the_generators_stand_afterwards_where_they_stood() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state(), random.getstate()
    commuting(made(Plateau, OneCycle))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_where_the_training_fails_as_it_is_no_pair_is_tried_and_that_is_said() -> None:
    def fails(run: Run) -> None:
        msg = "as it is"
        raise RuntimeError(msg)

    orders = try_orders(made(lambda: hears("epoch_end", fails)))
    assert (orders.conflicts, orders.pairs) == ((), ())
    assert str(orders) == "no pair of callbacks was tried in both orders: the training raises RuntimeError: as it is"


@pytest.mark.parametrize(("factory", "says"), [(small_engine, "gives no train_loader"), (lambda: 3, "gives 3, an int")])
def test_without_a_training_there_is_a_refusal(factory, says: str) -> None:
    with pytest.raises(Refused, match=says):
        commuting(factory)


def test_a_longer_plan_finds_what_comes_late() -> None:
    class Late(Callback):
        def on_epoch_end(self, run: Run) -> None:
            if run.epoch == 4:
                run.optimizer.param_groups[0]["lr"] *= 0.5

    assert commuting(made(Late, OneCycle)) == ()
    found = only(commuting(made(Late, OneCycle), plan=Plan(epochs=6, batches=1)))
    assert (found.epoch, found.batch) == (4, 1)


# --- Snapshots --------------------------------------------------------------------------------------------------------


def test_equal_trainings_have_equal_snapshots_and_nan_is_nan() -> None:
    def trained() -> Engine:
        engine = small_engine(hears("epoch_end", lambda run: run.metrics.update(bad=float("nan"))))
        engine.fit(batches(2), batches(1), epochs=2)
        return engine

    one, other = trained(), trained()
    assert "run.metrics['bad']" in snapshot(one).fields
    assert first_difference(snapshot(one), snapshot(other)) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda e: e.model.weight.data[0, 1].neg_(), "model.weight[0, 1] is "),
        (lambda e: e.model.weight.requires_grad_(False), "model.weight.requires_grad is True in one and False"),
        (lambda e: e.model.eval(), "model.training is True in one and False in the other"),
        (lambda e: e.optimizer.state[e.model.bias]["momentum_buffer"].add_(1), "optimizer.state['model.bias']['momen"),
        (lambda e: e.last_run.history.pop(), "run.history[0]['epoch'] is 0 in one and not there in the other"),
        (lambda e: torch.rand(1), "the random generator of torch is "),
        (lambda e: e.callbacks[-1].seen.append(torch.zeros(2)), "Sees.seen[0] is not there in one and [0.0, 0.0] in"),
        (lambda e: e.callbacks[-1].zero.neg_(), "Sees.zero is 0.0 in one and -0.0 in the other"),
        (lambda e: e.callbacks[-1].big[0].add_(1), "Sees.big is torch.float32 (5000,) with the digest "),
    ],
)
def test_each_part_of_a_training_is_compared(change, told) -> None:
    class Sees(Callback):
        def __init__(self) -> None:
            self.seen, self.zero, self.big = [], torch.zeros(()), torch.zeros(5000)

        def on_stop(self, run: Run) -> None: ...

    engines = [small_engine(Sees()) for _ in range(2)]
    for engine in engines:
        engine.fit(batches(1))
    one = snapshot(engines[0])
    change(engines[1])
    assert (first_difference(one, snapshot(engines[1])) or "").startswith(told)
    assert listeners_of(engines[0])[-1].name == "Sees"


def test_a_state_dict_speaks_for_its_callback_and_nan_beside_a_number_is_not_what_differs() -> None:
    class Keeps(Callback):
        def __init__(self, last: float, cache: int) -> None:
            self.last, self.cache = torch.tensor([float("nan"), last]), cache

        def on_stop(self, run: Run) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {"last": self.last}

    engines = (small_engine(Keeps(last, cache)) for last, cache in ((1, 0), (1, 5), (2, 0)))
    one, like, other = (snapshot(engine, full=False) for engine in engines)
    assert first_difference(one, like) is None
    assert first_difference(one, other) == "Keeps.state_dict()['last'][1] is 1.0 in one and 2.0 in the other"
