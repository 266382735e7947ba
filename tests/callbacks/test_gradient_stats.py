"""Are gradients, weights and steps measured as torch measures them, when it is time to, and without a wait?"""

import io
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine import Engine
from engine.callbacks.clip_gradients import ClipGradients
from engine.callbacks.gradient_stats import COLUMNS, GradientStats
from engine.errors import ArgumentRefused
from engine.testing import check_order
from tests.callbacks.test_progress import Fault, HostReads
from tests.testing.subjects import subject


def model_of() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))


def batches(number: int = 4) -> list[tuple[Tensor, Tensor]]:
    chance = torch.Generator().manual_seed(1)
    return [(torch.randn(4, 3, generator=chance), torch.randn(4, 1, generator=chance)) for _ in range(number)]


def engine_of(model: nn.Module, *callbacks: object) -> Engine:
    return Engine(model, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=0.1), callbacks)


def by_hand(every: int, epochs: int, near_zero: float) -> tuple[list[int], list[list[list[float]]]]:
    model = model_of()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    steps, rows = [], []
    for step, (inputs, targets) in enumerate(batches() * epochs, 1):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.step()
        if step % every == 0:
            steps.append(step)
            rows.append(
                [_row(p.grad, old, p.detach(), near_zero) for p, old in zip(model.parameters(), before, strict=True)]
            )
    return steps, rows


def _row(gradient: Tensor | None, old: Tensor, new: Tensor, near_zero: float) -> list[float]:
    assert gradient is not None
    numbers, weights = gradient.flatten().tolist(), old.flatten().tolist()
    mean, other = sum(numbers) / len(numbers), sum(weights) / len(weights)
    return [
        mean,
        math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers)),
        sum(abs(number) <= near_zero for number in numbers) / len(numbers),
        math.hypot(*numbers),
        other,
        math.sqrt(sum((weight - other) ** 2 for weight in weights) / len(weights)),
        math.hypot(*weights),
        math.hypot(*(new - old).flatten().tolist()) / math.hypot(*weights),
    ]


@settings(max_examples=12)
@given(every=st.integers(1, 9), near_zero=st.sampled_from([0, 1e-8, 0.1]))
def test_the_numbers_are_those_of_the_loop_by_hand(every: int, near_zero: float) -> None:
    stats, model = GradientStats(every=every, near_zero=near_zero), model_of()
    engine_of(model, stats, ClipGradients(norm=1e6)).fit(batches(), epochs=2)
    steps, rows = by_hand(every, 2, near_zero)

    assert stats.names == [name for name, _ in model.named_parameters()]
    assert stats.steps == steps
    measured = torch.stack([stats.stats[column] for column in COLUMNS], dim=2)
    assert measured.dtype is torch.float32
    if rows:
        torch.testing.assert_close(measured, torch.tensor(rows), rtol=1e-4, atol=1e-6)
    else:
        assert measured.shape == (0, 4, len(COLUMNS))


def test_it_changes_nothing_and_looks_before_clipping() -> None:
    plain, watched, stats = model_of(), model_of(), GradientStats(every=1)
    engine_of(plain, ClipGradients(norm=1e-3)).fit(batches())
    engine_of(watched, ClipGradients(norm=1e-3), stats).fit(batches())

    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert stats.stats["grad_norm"].square().sum(1).sqrt().min() > 0.01


def test_what_has_no_gradient_has_nan_and_its_weights_are_measured_all_the_same() -> None:
    model, stats = model_of(), GradientStats(every=1)
    model[0].bias.requires_grad_(False)
    engine_of(model, stats).fit(batches(1))
    of_bias = {column: values[0, 1].item() for column, values in stats.stats.items()}

    assert [column for column, value in of_bias.items() if math.isnan(value)] == list(COLUMNS[:4])
    assert of_bias["norm"] == pytest.approx(model[0].bias.norm().item())
    assert of_bias["update_ratio"] == 0


def test_sparse_complex_and_half_numbers_are_measured() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 2, sparse=True)
            self.wave = nn.Parameter(torch.tensor([3 + 4j]))
            self.short = nn.Parameter(torch.full((2,), 300.0, dtype=torch.float16))

        def forward(self, index: Tensor) -> Tensor:
            return self.table(index).sum(1) * self.wave.abs() + self.short.float().sum()

    model, stats = Odd(), GradientStats(every=1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    Engine(model, nn.L1Loss(), sgd, [stats]).fit([(torch.tensor([1, 1]), torch.full((2,), 1e6))])

    assert stats.names == ["wave", "short", "table.weight"]
    assert stats.stats["grad_near_zero"][0].tolist() == pytest.approx([0, 0, 0.8])
    assert stats.stats["norm"][0].tolist()[:2] == pytest.approx([5, 300 * math.sqrt(2)])


@pytest.mark.parametrize("what", [None, ValueError("broken"), KeyboardInterrupt()], ids=["stop", "error", "interrupt"])
def test_the_numbers_of_an_epoch_that_was_cut_are_there_and_no_weights_are_held(what: Any) -> None:
    stats = GradientStats(every=1)
    with suppress(ValueError, KeyboardInterrupt):
        engine_of(model_of(), stats, Fault("train", what)).fit(batches(), epochs=3)

    assert stats.steps == [1, 2, 3, 4, 5, 6]
    assert len(stats.stats["norm"]) == 6
    assert stats._open is None


def test_a_step_that_dies_leaves_no_half_of_a_measurement() -> None:
    stats = GradientStats(every=2)
    engine = engine_of(model_of(), stats)

    @engine.on("step_begin", once=2, order=100)
    def fail(run: Any) -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # it says nothing
        engine.fit(batches())
    assert stats._open is None
    assert stats.steps == []


def test_a_training_that_goes_on_from_a_state_goes_on_with_its_steps() -> None:
    whole, first, second = (GradientStats(every=3) for _ in range(3))
    engine_of(model_of(), whole).fit(batches(), epochs=4)

    model = model_of()
    engine = engine_of(model, first)
    engine.fit(batches(), epochs=2)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    engine.remove(first)
    engine.add(second)
    engine.fit(batches(), epochs=4, start_epoch=2)

    assert second.steps == whole.steps == [3, 6, 9, 12, 15]
    assert all(torch.equal(second.stats[column], whole.stats[column]) for column in COLUMNS[:7])
    assert first.steps == [3, 6]


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt(), None], ids=["error", "interrupt", "whole"])
def test_the_steps_of_an_epoch_that_is_trained_again_on_the_same_engine_are_forgotten(what: Any) -> None:
    def die(run: Any) -> None:
        if run.epoch == 2 and run.batch_index == 2 and what is not None:
            raise what

    stats = GradientStats(every=3)
    engine = engine_of(model_of(), stats)
    engine.on("batch_end")(die)
    with suppress(ValueError, KeyboardInterrupt):
        engine.fit(batches(), epochs=4)
    before = stats.stats["grad_norm"][:2]
    engine.remove(die)
    engine.fit(batches(), epochs=4, start_epoch=2)

    assert stats.steps == [3, 6, 9, 12, 15]
    assert torch.equal(stats.stats["grad_norm"][:2], before)


@settings(max_examples=15, deadline=None)
@given(number=st.integers(1, 40), every=st.integers(1, 3), points=st.integers(2, 9))
def test_what_is_kept_is_every_nth_step_of_the_whole_training_and_never_more_than_there_is_room_for(
    number: int, every: int, points: int
) -> None:
    whole, stats = GradientStats(every=1), GradientStats(every=every, points=points)
    engine_of(model_of(), whole, stats).fit(batches(number))

    stride = every
    while number // stride > points:
        stride *= 2
    assert stats.steps == list(range(stride, number + 1, stride))
    kept = [step - 1 for step in stats.steps]
    assert torch.equal(stats.stats["grad_norm"], whole.stats["grad_norm"][kept])


def test_a_second_training_begins_anew() -> None:
    stats = GradientStats(every=3)
    engine = engine_of(model_of(), stats)
    for _ in range(2):
        engine.fit(batches(), epochs=2)

        assert stats.steps == [3, 6]
        assert len(stats.stats["norm"]) == 2


def test_going_on_with_another_model_is_refused() -> None:
    stats = GradientStats(every=1)
    engine_of(model_of(), stats).fit(batches())
    with pytest.raises(ArgumentRefused, match="GradientStats goes on in epoch 1 with other parameters"):
        engine_of(nn.Linear(3, 1), stats).fit(batches(), epochs=2, start_epoch=1)


def test_nothing_is_read_on_the_host_per_batch() -> None:
    counts = []
    for callbacks in ([], [GradientStats(every=1)]):
        with HostReads() as reads:
            engine_of(model_of(), *callbacks).fit(batches(30), epochs=2)
        counts.append(reads.count)

    assert counts[0] == counts[1]


def test_the_table_has_a_line_for_each_parameter() -> None:
    stats = GradientStats(every=3)
    engine_of(model_of(), stats).fit(batches(), epochs=2)
    head, *lines = stats.table().split("\n")

    assert head.split() == ["step", "6", *COLUMNS]
    assert [line.split()[0] for line in lines] == stats.names
    assert [float(text) for text in lines[1].split()[1:]] == pytest.approx(
        [stats.stats[column][-1, 1].item() for column in COLUMNS], rel=1e-2
    )
    assert len({len(line) for line in (head, *lines)}) == 1


def test_the_plot_is_a_figure_and_a_file(tmp_path: Path) -> None:
    stats = GradientStats(every=2)
    engine_of(model_of(), stats).fit(batches(), epochs=2)
    figure = stats.plot(tmp_path / "stats.png")

    assert (tmp_path / "stats.png").stat().st_size > 1000
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == 2
    for axes, column in zip(panels, ("grad_norm", "update_ratio"), strict=True):
        assert torch.equal(torch.tensor(axes.collections[0].get_array().reshape(4, 4)), stats.stats[column].T)


def test_a_plot_of_gradients_that_are_all_zero_is_one(tmp_path: Path) -> None:
    model, stats = model_of(), GradientStats(every=1)
    Engine(model, lambda output, targets: 0 * output.sum(), torch.optim.SGD(model.parameters()), [stats]).fit(
        batches(2)
    )

    assert len(stats.plot(tmp_path / "zero.png").axes) == 2  # without a scale for nothing


@pytest.mark.parametrize("what", ["table", "plot"])
def test_what_was_not_measured_cannot_be_shown(what: str) -> None:
    with pytest.raises(ArgumentRefused, match=f"{what} was asked for, and nothing was measured yet"):
        getattr(GradientStats(), what)()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, "every is 0, an int\n  allowed:  a whole number, 1 or more"),
        ({"points": 1}, "points is 1, an int\n  allowed:  a whole number, 2 or more"),
        ({"near_zero": -1}, "near_zero is -1, an int\n  allowed:  a number, 0 or more"),
        ({"near_zero": float("nan")}, "near_zero is nan, a float"),
        ({"near_zero": True}, "near_zero is True, a bool"),
    ],
)
def test_what_is_no_number_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        GradientStats(**given)

    assert str(caught.value).startswith(message)


def test_the_ordering_kit_finds_nothing() -> None:
    check_order(subject(lambda: GradientStats(every=2)), runs=20, seed=0)
