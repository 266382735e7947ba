"""Are the statistics those of hooks written by hand, kept in bounded memory, and are the hooks gone at the end?"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import Engine, Outcome, Run
from engine.callbacks import ActivationStats
from engine.errors import ArgumentRefused
from engine.testing import check_order, judge_leaks
from states import State, Trigger
from tests.engine.tools import Count, answers, batches, hears, refuses, same, small_engine, weights_of
from tests.testing.subjects import subject


def layered() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))


def engine_with(*callbacks: object, model: nn.Module | None = None, **more: Any) -> Engine:
    return small_engine(*callbacks, model=layered() if model is None else model, recorder=None, **more)


def by_hand(epochs: int, number: int, near_zero: float) -> dict[str, list[tuple[float, float, float]]]:
    """Mean, deviation and share near zero of each layer, by hooks in a plain loop."""
    model = layered()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name, _ in model.named_children()}

    def hook(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def look(module: nn.Module, args: Any, output: Tensor) -> None:
            near = (output.abs() <= near_zero).float().mean()
            seen[name].append((output.mean().item(), output.std(correction=0).item(), near.item()))

        return look

    for name, module in model.named_children():
        module.register_forward_hook(hook(name))
    torch.manual_seed(5)
    for _ in range(epochs):
        for inputs, targets in batches(number):
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    return seen


@pytest.mark.parametrize(("how", "near_zero"), [({}, 0.05), ({"near_zero": 1e-8}, 1e-8)])
def test_each_number_is_that_of_hooks_written_by_hand_in_a_plain_loop_and_validation_is_passed_over(
    how: dict[str, float], near_zero: float
) -> None:
    stats = ActivationStats(**how)
    engine = engine_with(stats)
    torch.manual_seed(5)
    engine.fit(batches(4), batches(2, seed=9), epochs=3)

    expected = by_hand(3, 4, near_zero)
    assert list(stats.stats) == list(expected)
    assert stats.batches == tuple(range(12))
    for name, rows in expected.items():
        one = stats.stats[name]
        assert one.kind == type(engine.model.get_submodule(name)).__name__
        torch.testing.assert_close(torch.stack((one.mean, one.std, one.near_zero), 1), torch.tensor(rows))


def test_in_a_loop_of_ones_own_the_numbers_are_the_same() -> None:
    stats = ActivationStats(every=2)
    engine = engine_with(stats, model=nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).apply(filled))
    engine.fit(batches(5), epochs=2)
    expected = stats.stats["1"].mean

    stats = ActivationStats(every=2)
    engine = engine_with(stats, model=nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).apply(filled))
    with engine.start(batches(5), epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch():
                output = engine.model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = nn.functional.mse_loss(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)
                    engine.optimizer.zero_grad()

    assert expected.isfinite().all()
    assert torch.equal(stats.stats["1"].mean, expected)


def test_a_validation_or_a_prediction_before_the_batch_has_ended_is_passed_over_too() -> None:
    means = []
    for inside in (False, True):
        stats = ActivationStats()
        engine = engine_with(stats, model=nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).apply(filled))
        engine.on("loss_end")(partial(look_elsewhere, engine) if inside else id)
        engine.fit(batches(3))
        means.append(stats.stats["1"].mean)

    assert torch.equal(*means)
    assert means[0].shape == (3,)


def filled(module: nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        nn.init.constant_(parameter, 0.3)


def look_elsewhere(engine: Engine, run: Run) -> None:
    engine.evaluate(batches(1, seed=9))
    engine.predict(batches(1, seed=8))


@settings(max_examples=30, deadline=None)
@given(
    number=st.integers(0, 40), every=st.integers(1, 4), points=st.integers(2, 9), skipped=st.sets(st.integers(0, 40))
)
def test_what_is_kept_is_every_nth_batch_of_the_whole_training_and_never_more_than_there_is_room_for(
    number: int, every: int, points: int, skipped: set[int]
) -> None:
    whole, stats = ActivationStats("1", points=1000), ActivationStats("1", every=every, points=points)
    engine = engine_with(whole, stats, answers("skip_batch", lambda run: run.batches_done in skipped))
    if number:
        engine.fit(batches(number))

    kept = stats.batches
    assert len(kept) <= points
    assert stats._kept._table.shape[0] <= points
    stride = stats._kept.stride
    assert stride % every == 0
    assert kept == tuple(n for n in range(0, number, stride) if n not in skipped)
    assert stride == every or len([n for n in range(0, number, stride // 2) if n not in skipped]) > points
    all_means = dict(zip(whole.batches, whole.stats["1"].mean.tolist(), strict=True)) if number else {}
    assert [all_means[n] for n in kept] == (stats.stats["1"].mean.tolist() if number else [])


class Odd(nn.Module):
    """Its layers give what layers may give."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.numbers, self.nothing, self.short = (
            nn.LSTM(2, 4),
            nn.Identity(),
            nn.Identity(),
            nn.Identity(),
        )
        self.unused, self.last = nn.ReLU(), nn.Linear(4, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        output, _ = self.recurrent(inputs)
        self.numbers(torch.ones(2, dtype=torch.int64))
        self.nothing(torch.empty(0))
        self.short(torch.tensor([2048.0, 2050.0], dtype=torch.float16))
        self.last(output * 0)
        return self.last(output)


def test_of_a_tuple_the_first_counts_the_last_call_counts_and_what_has_no_mean_is_nan() -> None:
    stats = ActivationStats()
    outputs: list[Tensor] = []
    engine = engine_with(stats, hears("forward_end", lambda run: outputs.append(run.output.detach())), model=Odd())
    engine.fit(batches(3))

    assert stats.stats["last"].mean.tolist() == pytest.approx([float(output.mean()) for output in outputs])
    assert not stats.stats["recurrent"].std.isnan().any()
    assert stats.stats["short"].mean.tolist() == [2049.0] * 3  # float16 has no such number
    assert all(stats.stats[name].mean.isnan().all() for name in ("numbers", "nothing", "unused"))


def test_layers_are_chosen_by_name_or_as_themselves_and_come_in_the_order_of_the_model() -> None:
    model = layered()
    stats = ActivationStats("3", model[0], "")
    engine_with(stats, model=model).fit(batches(2))

    assert list(stats.stats) == ["", "0", "3"]
    assert torch.equal(stats.stats[""].mean, stats.stats["3"].mean)
    assert "(the model)  Sequential" in stats.table()


def test_no_number_is_read_on_the_host_in_a_batch() -> None:
    reads, written = [], []
    for callbacks in ((), (ActivationStats(points=8),)):
        with Count() as count:
            engine_with(*callbacks).fit(batches(50), batches(5), epochs=2)
        reads.append(count.host_reads)
        written.append(count.total)

    assert reads[0] == reads[1]
    assert written[0] < written[1]


@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
@pytest.mark.parametrize("event", ["train_begin", "forward_end", "batch_end", "validate_batch_end", "epoch_end"])
def test_no_hook_is_left_however_a_training_ends_and_what_was_seen_can_be_read(
    event: str, what: BaseException | None
) -> None:
    def end(run: Any) -> None:
        if what is not None:
            raise what
        run.stop("enough")

    def make() -> tuple[Engine, Callable[[], object]]:
        engine = engine_with(ActivationStats(), hears(event, end))
        return engine, lambda: engine.fit(batches(3), batches(2))

    assert judge_leaks(make) == ()
    engine, go = make()
    with nullcontext() if what is None else pytest.raises(type(what)):
        go()
    assert not any(module._forward_hooks for module in engine.model.modules())
    (stats,) = (one for one in engine.callbacks if isinstance(one, ActivationStats))
    ended = what is None  # a batch that is stopped ends in order
    assert len(stats.batches) == {"train_begin": 0, "forward_end": ended, "batch_end": ended}.get(event, 3)
    assert all(one.mean.isfinite().all() for one in stats.stats.values())


def test_a_second_training_begins_anew_and_one_that_goes_on_ends_with_the_table_of_the_whole() -> None:
    stats = ActivationStats(points=4)
    engine = engine_with(stats)
    engine.fit(batches(5))
    first = stats.batches
    engine.fit(batches(5))
    assert stats.batches == first

    def trained(parts: list[tuple[int, int]]) -> ActivationStats:
        engine = engine_with(
            ActivationStats(points=4), model=nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).apply(filled)
        )
        for start, end in parts:
            kept = engine.callbacks[1]
            assert isinstance(kept, ActivationStats)
            fresh = ActivationStats(points=4)
            fresh.load_state_dict(kept.state_dict())
            engine.remove(kept)
            engine.add(fresh)
            engine.fit(batches(5), epochs=end, start_epoch=start)
        last = engine.callbacks[1]
        assert isinstance(last, ActivationStats)
        return last

    whole, cut = trained([(0, 3)]), trained([(0, 1), (1, 3)])
    assert whole.batches == cut.batches
    assert len(whole.batches) == 4
    assert all(torch.equal(whole.stats[name].std, cut.stats[name].std) for name in whole.stats)


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt(), None], ids=["error", "interrupt", "whole"])
def test_the_batches_of_an_epoch_that_is_trained_again_on_the_same_engine_are_forgotten(
    what: BaseException | None,
) -> None:
    def die(run: Run) -> None:
        if run.epoch == 2 and run.batch_index == 3 and what is not None:
            raise what

    stats, once = ActivationStats(), hears("batch_end", die)
    engine = engine_with(stats, once, model=nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).apply(filled))
    with nullcontext() if what is None else pytest.raises(type(what)):
        engine.fit(batches(5), epochs=4)
    before = stats.stats["1"].mean[:10]
    engine.remove(once)
    engine.fit(batches(5), epochs=4, start_epoch=2)

    assert stats.batches == tuple(range(20))
    assert torch.equal(stats.stats["1"].mean[:10], before)


def test_its_state_is_loaded_from_a_file_by_weights_alone_and_has_room_where_there_is_less(tmp_path: Any) -> None:
    stats = ActivationStats()
    engine_with(stats).fit(batches(7))
    torch.save(stats.state_dict(), tmp_path / "state.pt")
    smaller = ActivationStats(points=2)
    smaller.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    engine_with(smaller).fit(batches(1), epochs=2, start_epoch=1)

    assert smaller.batches == (0, 4)


def test_a_training_that_goes_on_with_other_layers_begins_anew() -> None:
    stats = ActivationStats()
    kept = {"table": torch.ones(2, 1, 3), "numbers": [0, 1], "stride": 1}
    stats.load_state_dict({"kinds": {"x": "ReLU"}, "kept": kept, "batches": {0: 2}})
    engine_with(stats).fit(batches(3), epochs=2, start_epoch=1)

    assert stats.batches == (0, 1, 2)


def test_the_training_is_the_same_to_the_last_bit() -> None:
    weights = []
    for callbacks in ((), (ActivationStats(),)):
        engine = engine_with(*callbacks)
        torch.manual_seed(1)
        engine.fit(batches(6), epochs=2)
        weights.append(weights_of(engine.model))

    assert same(*weights)


def test_two_of_them_watch_side_by_side() -> None:
    one, other = ActivationStats("0"), ActivationStats("3", every=2)
    engine_with(one, other).fit(batches(4))

    assert (one.batches, other.batches) == ((0, 1, 2, 3), (0, 2))


@pytest.mark.parametrize(
    ("arguments", "keywords", "what"),
    [
        ((3,), {}, "a layer is 3, an int"),
        ((), {"every": 0}, "every is 0"),
        ((), {"every": True}, "every is True"),
        ((), {"points": 1}, "points is 1"),
        ((), {"near_zero": -1}, "near_zero is -1"),
        ((), {"near_zero": float("nan")}, "near_zero is nan"),
        ((), {"near_zero": True}, "near_zero is True"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: Any, keywords: Any, what: str) -> None:
    with refuses(ArgumentRefused, what):
        ActivationStats(*arguments, **keywords)


@pytest.mark.parametrize(("layer", "phrase"), [("00", "did you mean '0'?"), (nn.ReLU(), "no such layer: ReLU()")])
def test_a_layer_that_the_model_does_not_have_is_refused_before_the_first_batch(layer: Any, phrase: str) -> None:
    engine = engine_with(ActivationStats("3", layer))
    with refuses(ArgumentRefused, phrase):
        engine.fit(batches(1))

    assert not any(module._forward_hooks for module in engine.model.modules())
    assert engine.last_run is not None
    assert engine.last_run.outcome is Outcome.FAILED


def test_the_table_says_what_the_last_batch_gave() -> None:
    stats = ActivationStats()
    assert stats.table() == "layer  type  mean  std  near zero"
    engine_with(stats).fit(batches(3))

    head, *lines = stats.table().splitlines()
    assert head.split() == ["layer", "type", "mean", "std", "near", "zero"]
    one = stats.stats["1"]
    assert lines[1].split() == ["1", "Tanh", f"{one.mean[-1]:.4g}", f"{one.std[-1]:.4g}", f"{one.near_zero[-1]:.1%}"]
    assert [line.split()[1] for line in lines] == ["Linear", "Tanh", "Dropout", "Linear"]


def test_the_picture_has_a_panel_for_each_layer_and_is_saved(tmp_path: Any) -> None:
    stats = ActivationStats()
    engine_with(stats, model=nn.Sequential(*layered(), nn.Identity())).fit(batches(3))
    figure = stats.plot(tmp_path / "stats.png")

    drawn = [axes for axes in figure.axes if axes.lines]
    titles = [axes.get_title(loc="left").split(",")[0] for axes in drawn]
    assert titles == [f"{name}\n{one.kind}" for name, one in stats.stats.items()]
    assert drawn[1].lines[0].get_ydata() == pytest.approx(stats.stats["1"].mean)
    assert (tmp_path / "stats.png").stat().st_size > 1000
    assert not any(axes.lines for axes in ActivationStats().plot().axes)


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(subject(lambda: ActivationStats(every=2, points=2)), runs=20, seed=0)
