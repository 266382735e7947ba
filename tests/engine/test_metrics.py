"""Are losses and metrics right, and are they read once per pass?  Against computations that share no code with them."""

import math
import threading
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.nn.functional import cross_entropy
from torchmetrics import MeanSquaredError, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassRecall

from engine import Engine, Outcome, Run, State, output_from
from engine.errors import ArgumentRefused, MetricRefused
from engine.measuring.meter import KEPT, Mean, batch_size
from tests.engine.tools import (
    Batch,
    Count,
    Recorder,
    answers,
    batches,
    hears,
    refuses,
    same,
    small_engine,
    small_model,
    weights_of,
)


def of_sizes(sizes: list[int]) -> list[Batch]:
    return [batches(1, size=size, seed=number)[0] for number, size in enumerate(sizes)]


def classes(sizes: list[int], seed: int) -> list[Batch]:
    """Batches of three classes."""
    chance = torch.Generator().manual_seed(seed)
    draw = [(torch.randn(size, 4, generator=chance), torch.randint(3, (size,), generator=chance)) for size in sizes]
    return [(inputs, targets) for inputs, targets in draw]


def classifier(metrics: dict[str, Any], lr: float = 0.1) -> Engine:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    return Engine(model, cross_entropy, optim.SGD(model.parameters(), lr=lr), metrics=metrics)


# --- Values -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_the_mean_loss_of_a_pass_is_that_of_its_samples_whatever_the_batches(
    train: list[int], valid: list[int]
) -> None:
    model = small_model()
    engine = small_engine(model=model, optimizer=optim.SGD(model.parameters(), lr=0.0))
    record = engine.fit(of_sizes(train), of_sizes(valid)).history[0]
    for name, sizes in (("train_loss", train), ("valid_loss", valid)):
        samples = [pair for inputs, targets in of_sizes(sizes) for pair in zip(inputs, targets, strict=True)]
        errors = [(float(model(x).detach().double()) - float(y.double())) ** 2 for x, y in samples]
        assert record[name] == pytest.approx(math.fsum(errors) / len(errors), rel=1e-5)


@pytest.mark.parametrize("number", [1, 2, 63, 200])
def test_the_losses_of_a_training_are_averaged_as_they_were_batch_by_batch(number: int) -> None:
    seen: list[tuple[float, int]] = []
    engine = small_engine(hears("loss_end", lambda run: seen.append((run.loss.item(), len(run.inputs)))))
    loader = [*batches(number, size=3), *batches(2, size=1, seed=5), *batches(1, size=4, seed=6)]
    run = engine.fit(loader, epochs=2)
    for record, losses in zip(run.history, (seen[: len(loader)], seen[len(loader) :]), strict=True):
        total = math.fsum(loss * size for loss, size in losses)
        assert record["train_loss"] == pytest.approx(total / sum(size for _, size in losses), rel=1e-12)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 9)), min_size=1, max_size=130))
def test_a_mean_is_weighted_by_size(values: list[tuple[float, int]]) -> None:
    mean = Mean("it")
    for value, size in values:
        mean.add(torch.tensor(value, dtype=torch.float64), size=size)
    wanted = math.fsum(value * size for value, size in values) / sum(size for _, size in values)
    assert mean.value() == pytest.approx(wanted, rel=1e-9, abs=1e-6)
    assert mean.value() == mean.value()


def test_a_mean_of_half_precision_values_does_not_overflow() -> None:
    mean = Mean("it")
    for _ in range(64):
        mean.add(torch.tensor(60000.0, dtype=torch.float16), size=100)
    assert mean.value() == pytest.approx(60000.0)


def test_metric_functions_and_torchmetrics_agree_with_a_computation_by_hand() -> None:
    def hits(output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(1) == target).float().mean()

    both = MetricCollection([MulticlassAccuracy(3, average="micro"), MulticlassRecall(3, average="micro")])
    engine = classifier({"hits": hits, "accuracy": MulticlassAccuracy(3, average="micro"), "both": both})
    rights: dict[str, list[bool]] = {"train": [], "valid": []}

    def compare(prefix: str) -> Callable[[Run], None]:
        return lambda run: rights[prefix].extend((run.output.argmax(1) == run.targets).tolist())

    engine.on("loss_end")(compare("train"))
    engine.on("validate_loss_end")(compare("valid"))
    train, valid = classes([4, 4, 1, 3], seed=1), classes([5, 2], seed=2)
    history = engine.fit(train, valid, epochs=2).history
    assert len(rights["train"]) == 24
    for prefix, each in (("train", 12), ("valid", 7)):
        for epoch, record in enumerate(history):
            right = rights[prefix][epoch * each : (epoch + 1) * each]
            names = ("hits", "accuracy", "both_MulticlassAccuracy", "both_MulticlassRecall")
            assert [record[f"{prefix}_{name}"] for name in names] == pytest.approx([sum(right) / each] * 4)
    assert list(history[0]) == ["epoch", "updates", *_names("train"), *_names("valid")]
    assert all(isinstance(value, (int, float)) for record in history for value in record.values())


def _names(prefix: str) -> list[str]:
    names = ("loss", "hits", "accuracy", "both_MulticlassAccuracy", "both_MulticlassRecall")
    return [f"{prefix}_{name}" for name in names]


def test_the_metric_object_that_was_given_is_left_alone() -> None:
    accuracy = MulticlassAccuracy(3)
    engine = classifier({"accuracy": accuracy})
    engine.fit(classes([4, 4], seed=1), classes([4], seed=2))
    assert accuracy.update_count == 0


def test_metrics_are_computed_without_gradients_from_what_callbacks_left() -> None:
    seen: list[bool] = []

    def metric(output: Tensor, target: Tensor) -> Tensor:
        seen.append(output.requires_grad or torch.is_grad_enabled())
        return output.mean()

    engine = small_engine(metrics={"it": metric})
    engine.on("forward_end")(lambda run: setattr(run, "output", run.output * 0 + 3))
    record = engine.fit(batches(2)).history[0]
    assert seen == [False, False]
    assert record["train_it"] == 3.0


def test_a_loss_of_one_element_is_as_good_as_a_scalar() -> None:
    engine = small_engine(loss_fn=lambda output, targets: (output - targets).pow(2).mean().reshape(1))
    plain = small_engine()
    assert engine.fit(batches(3), batches(2)).history == plain.fit(batches(3), batches(2)).history


# --- Which batches count ----------------------------------------------------------------------------------------------


def test_a_skipped_batch_has_no_loss_and_one_without_backward_has() -> None:
    model = small_model()
    engine = small_engine(
        answers("skip_batch", lambda run: run.batch_index == 0),
        answers("skip_backward", lambda run: run.batch_index == 1),
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.0),
    )
    train = batches(3)
    losses = [nn.functional.mse_loss(model(x), y).item() for x, y in train]
    assert engine.fit(train).history[0]["train_loss"] == pytest.approx(sum(losses[1:]) / 2)


def test_an_epoch_in_which_every_batch_is_skipped_has_no_loss_and_says_so() -> None:
    run = small_engine(answers("skip_batch", lambda run: True)).fit(batches(2))
    assert math.isnan(run.history[0]["train_loss"])


def test_a_batch_without_samples_does_not_break_the_mean() -> None:
    engine = small_engine(loss_fn=lambda output, targets: (output - targets).sum())
    assert math.isnan(engine.fit([(torch.ones(0, 2), torch.ones(0, 1))]).history[0]["train_loss"])


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        (torch.ones(5, 2), 5),
        (torch.tensor(1.0), 1),
        ((torch.ones(4), torch.ones(7)), 4),
        ({"text": ["a", "b", "c"], "pixels": torch.ones(6, 2)}, 6),
        ([{"id": 3}, [None, {"x": torch.ones(2)}]], 2),
        ([], 1),
        ({}, 1),
        ("text", 1),
        (None, 1),
    ],
)
def test_the_size_of_a_batch_is_the_length_of_the_first_tensor_in_it(inputs: Any, size: int) -> None:
    assert batch_size(inputs) == size


def test_batches_that_are_dicts_are_weighted_by_their_size_too() -> None:
    model = small_model()
    engine = small_engine(
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.0),
        actions={State.FORWARD: output_from(lambda run: run.model(run.inputs["x"]))},
    )
    loader = [({"name": "a batch", "x": x}, y) for x, y in of_sizes([1, 4])]
    plain = small_engine(optimizer=optim.SGD(small_model().parameters(), lr=0.0))
    plain.optimizer = optim.SGD(plain.model.parameters(), lr=0.0)
    assert engine.fit(loader).history == plain.fit(of_sizes([1, 4])).history


# --- History ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2))
def test_there_is_one_record_for_each_epoch(epochs: int, length: int, valid: bool, start: int) -> None:
    engine = small_engine()
    run = engine.fit(batches(length), batches(1) if valid else None, epochs=start + epochs, start_epoch=start)
    assert [record["epoch"] for record in run.history] == list(range(start, start + epochs))
    assert [record["updates"] for record in run.history] == [length * (number + 1) for number in range(epochs)]
    assert all(("valid_loss" in record) == valid for record in run.history)
    if epochs:
        assert run.metrics == {name: value for name, value in run.history[-1].items() if name[:5] in ("train", "valid")}


@pytest.mark.parametrize(
    ("event", "records"),
    [("epoch_begin", 1), ("batch_end", 1), ("validate_batch_end", 1), ("validate_end", 2), ("epoch_end", 2)],
)
def test_an_epoch_that_was_stopped_leaves_no_record(event: str, records: int) -> None:
    """One that was validated whole is not stopped: the run is, behind it."""
    engine = small_engine(hears(event, lambda run: run.epoch == 1 and run.stop("enough")))
    run = engine.fit(batches(2), batches(2), epochs=3)
    assert run.outcome is Outcome.STOPPED
    assert [record["epoch"] for record in run.history] == list(range(records))


def test_an_epoch_that_was_left_early_leaves_a_record_of_what_it_did() -> None:
    engine = small_engine(answers("stop_epoch", lambda run: run.batch_index == 1))
    run = engine.fit(batches(4), epochs=2)
    assert [record["updates"] for record in run.history] == [1, 2]


def test_an_engine_that_measures_nothing_still_keeps_its_records() -> None:
    """And what a callback puts into `run.metrics`; the loss may then be anything that has a `backward`."""

    class Backed:
        def __init__(self, loss: Tensor) -> None:
            self.backward = loss.backward

    engine = small_engine(metrics=None)
    engine.loss_fn = lambda output, targets: Backed(nn.functional.mse_loss(output, targets))
    engine.on("epoch_begin")(lambda run: run.metrics.update(mine=float(run.epoch)))
    run = engine.fit(batches(2), batches(1), epochs=2)
    assert run.history == [{"epoch": n, "updates": 2 * (n + 1), "mine": float(n)} for n in range(2)]
    assert run.metrics == {"mine": 1.0}
    assert engine.evaluate(batches(1)).metrics == {}
    assert "Metrics_on_loss_end(run)" not in engine.source()
    plain = small_engine()
    plain.fit(batches(2), batches(1), epochs=2)
    assert same(weights_of(engine.model), weights_of(plain.model))


def test_a_failed_epoch_leaves_no_record() -> None:
    def fail(run: Run) -> None:
        if run.epoch == 1:
            msg = "on purpose"
            raise ValueError(msg)

    engine = small_engine(hears("batch_end", fail))
    with pytest.raises(ValueError, match="on purpose"):
        engine.fit(batches(1), epochs=3)
    assert len(engine.last_run.history) == 1


def test_evaluate_gives_its_metrics_and_has_no_history() -> None:
    engine = classifier({"accuracy": MulticlassAccuracy(3, average="micro")})
    run = engine.evaluate(classes([4, 2], seed=1))
    assert sorted(run.metrics) == ["valid_accuracy", "valid_loss"]
    assert run.history == []


def test_the_metrics_of_a_validation_are_there_when_its_end_is_heard_and_then_in_the_training() -> None:
    seen: list[tuple[str, list[str]]] = []
    engine = small_engine()
    engine.on("validate_end")(lambda run: seen.append(("inside", sorted(run.metrics))))
    engine.on("validate_end")(lambda run: seen.append(("outside", sorted(run.parent.metrics))))
    engine.on("epoch_end")(lambda run: seen.append(("epoch_end", sorted(run.metrics))))
    engine.on("epoch_begin")(lambda run: seen.append(("epoch_begin", sorted(run.metrics))))
    engine.fit(batches(1), batches(1), epochs=2)
    once = [
        ("epoch_begin", []),
        ("inside", ["valid_loss"]),
        ("outside", ["valid_loss"]),
        ("epoch_end", ["train_loss", "valid_loss"]),
    ]
    assert seen == once * 2


@pytest.mark.parametrize("metrics", [{}, None])
def test_what_a_callback_puts_among_the_numbers_of_a_validation_is_one_of_the_epochs(metrics: Any) -> None:
    engine = small_engine(metrics=metrics)
    engine.on("validate_end")(lambda run: run.metrics.update(valid_f1=run.epoch + 0.5))
    run = engine.fit(batches(1), batches(1), epochs=2)
    assert [record["valid_f1"] for record in run.history] == [0.5, 1.5]
    assert list(run.history[0])[-1] == "valid_f1"

    engine.guard("skip_validate")(lambda run: run.epoch == 1)
    assert ["valid_f1" in record for record in engine.fit(batches(1), batches(1), epochs=2).history] == [True, False]
    engine.on("batch_end")(lambda run: engine.evaluate(batches(1)))
    assert ["valid_f1" in record for record in engine.fit(batches(1), epochs=1).history] == [False]


def test_an_evaluation_inside_a_callback_does_not_disturb_the_values_of_the_training() -> None:
    def histories(event: str | None) -> list[dict[str, float]]:
        engine = classifier({"accuracy": MulticlassAccuracy(3), "error": lambda output, target: output.mean()})
        if event is not None:
            engine.on(event, every=2)(lambda run: engine.evaluate(classes([3, 3], seed=9)))
        return engine.fit(classes([4, 4, 2], seed=1), classes([5], seed=2), epochs=2).history

    plain = histories(None)
    assert [histories(event) for event in ("batch_begin", "loss_end", "batch_end", "epoch_end")] == [plain] * 4


# --- Host reads -------------------------------------------------------------------------------------------------------


def plain_loop(model: nn.Module, optimizer: optim.Optimizer, loader: list[Batch]) -> None:
    for inputs, targets in loader:
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def host_reads(work: Callable[[], object]) -> int:
    with Count() as count:
        work()
    return count.host_reads


def test_the_counter_of_host_reads_sees_them() -> None:
    value = torch.ones(1)
    assert host_reads(value.item) >= 1
    assert host_reads(lambda: bool(value > 0)) >= 1
    assert host_reads(lambda: value + 1) == 0


@pytest.mark.parametrize("metrics", [{}, {"it": lambda o, t: (o - t).abs().mean(), "mse": MeanSquaredError()}])
def test_no_number_is_read_on_the_host_per_batch(metrics: dict[str, Any]) -> None:
    def reads(number: int) -> int:
        model = small_model()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        engine = small_engine(Recorder(), model=model, optimizer=optimizer, metrics=metrics)
        engine.guard("skip_step")(lambda run: run.batch_index == 1)
        return host_reads(lambda: engine.fit(batches(number), batches(number), epochs=1))

    few, many = reads(2), reads(130)
    assert few == many == 2 * (1 + len(metrics))  # each value, once for training and once for validation


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_there_are_as_many_host_reads_per_batch_as_in_the_plain_loop(kind: type[optim.Optimizer]) -> None:
    def by_hand(number: int) -> int:
        model = small_model()
        return host_reads(lambda: plain_loop(model, optimizer_of(model), batches(number)))

    def by_engine(number: int) -> int:
        model = small_model()
        return host_reads(lambda: small_engine(model=model, optimizer=optimizer_of(model)).fit(batches(number)))

    def optimizer_of(model: nn.Module) -> optim.Optimizer:
        return kind(model.parameters(), lr=0.1)

    assert by_engine(9) - by_engine(4) == by_hand(9) - by_hand(4)
    assert (by_hand(9) > 0) is (kind is optim.Adam)  # so that the counter is known to work


def test_an_engine_does_no_more_with_tensors_than_the_plain_loop_and_one_sum_now_and_then() -> None:
    def operations(work: Callable[[], object]) -> int:
        with Count() as count:
            work()
        return count.total

    plain, model = small_model(), small_model()
    loader = batches(2 * KEPT)
    optimizer, other = optim.SGD(plain.parameters(), lr=0.1), optim.SGD(model.parameters(), lr=0.1)
    by_hand = operations(lambda: plain_loop(plain, optimizer, loader))
    by_engine = operations(lambda: small_engine(model=model, optimizer=other, recorder=None).fit(loader))
    assert same(weights_of(plain), weights_of(model))
    assert by_engine - by_hand <= 2 * len(loader) + KEPT + 20  # a detach and a copy per batch, a place for each of KEPT
    model = small_model()
    other = optim.SGD(model.parameters(), lr=0.1)
    bare = operations(lambda: small_engine(model=model, optimizer=other, metrics=None, recorder=None).fit(loader))
    assert bare - by_hand <= 1  # the last loss is detached


def test_an_error_of_the_device_is_not_blamed_on_the_metric() -> None:
    class Broken(Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func is Tensor.detach:
                msg = "the device is lost"
                raise RuntimeError(msg)
            return super().__torch_function__(func, types, args, kwargs or {})

    mean = Mean("it")
    mean.add(torch.tensor(1.0), size=1)
    with pytest.raises(RuntimeError, match="the device is lost"):
        mean.add(torch.tensor(1.0).as_subclass(Broken), size=1)


# --- What is added up late ------------------------------------------------------------------------------------------


@given(st.integers(0, 4 * KEPT), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_a_mean_that_is_added_up_in_parts_is_the_mean(number: int, sizes: list[int]) -> None:
    """However many values, and wherever the parts end; against exact fractions."""
    values = [torch.tensor(float(index % 17) / 8) for index in range(number)]
    weights = [sizes[index % len(sizes)] for index in range(number)]
    mean = Mean("loss")
    for value, weight in zip(values, weights, strict=True):
        mean.add(value, weight)
    exact = sum(Fraction(value.item()) * weight for value, weight in zip(values, weights, strict=True))
    if number:
        assert mean.value() == pytest.approx(float(exact / sum(weights)), rel=1e-15)
    else:
        assert math.isnan(mean.value())


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 9)), min_size=1, max_size=9), st.sampled_from(DTYPES))
def test_a_mean_of_any_type_is_that_of_its_values(drawn: list[tuple[int, int]], dtype: torch.dtype) -> None:
    """And what is written into a value later is not in it."""
    mean, values = Mean("it"), [torch.tensor(number / 8).to(dtype) for number, _ in drawn]
    exact = sum(Fraction(float(value)) * size for value, (_, size) in zip(values, drawn, strict=True))
    for value, (_, size) in zip(values, drawn, strict=True):
        mean.add(value, size)
        value.fill_(1)
    assert mean.value() == pytest.approx(float(exact / sum(size for _, size in drawn)), rel=1e-15)


def test_a_mean_of_values_of_several_types_rounds_none_of_them() -> None:
    small, large = torch.tensor(0.0), torch.tensor(1e39, dtype=torch.float64)
    whole, half = torch.tensor(2**24 + 1), torch.tensor(0.5, dtype=torch.bfloat16)
    for values in permutations([small, large, whole, half, small]):
        mean = Mean("it")
        for value in values:
            mean.add(value, 2)
        assert mean.value() == pytest.approx(1e39 / 5, rel=1e-15)
    mean = Mean("it")
    mean.add(small, 1)
    mean.add(whole, 1)
    assert mean.value() == (2**24 + 1) / 2


def test_a_complex_value_has_no_mean() -> None:
    with refuses(MetricRefused, "it is a tensor of torch.complex64 for each batch"):
        Mean("it").add(torch.tensor(1 + 2j), 1)


def test_a_batch_of_no_samples_is_not_in_the_mean() -> None:
    """Its loss is nan: of no samples there is no mean."""
    empty = (torch.zeros(0, 2), torch.zeros(0, 1))
    engine = small_engine(metrics={"same": lambda output, target: (output - target).mean()})
    with_it, without = engine.evaluate([*batches(2), empty]), engine.evaluate(batches(2))
    assert with_it.metrics == without.metrics
    assert math.isnan(engine.evaluate([empty]).metrics["valid_loss"])


def test_a_mean_keeps_few_values_however_many_come() -> None:
    """Bounded memory: what waits to be added up never grows beyond a fixed number of places, without graphs."""
    mean = Mean("loss")
    weight = torch.ones((), requires_grad=True)
    for _ in range(10 * KEPT + 3):
        mean.add(weight * 2, 1)
        assert len(mean._room._places) == len({id(place) for place in mean._room._places}) <= KEPT
        assert not any(place.requires_grad for place in mean._room._places)
    assert mean.value() == 2.0


@pytest.mark.parametrize(
    "stopping",
    [
        hears("epoch_begin", lambda run: run.stop("enough")),
        answers("skip_batch", lambda run: True),
        answers("stop_validate", lambda run: True),
    ],
    ids=["stopped before the first batch", "all batches skipped", "validation stopped at once"],
)
def test_a_metric_that_has_met_no_batch_is_not_asked_to_compute(stopping: object) -> None:
    """Many cannot: the run would fail of its bookkeeping."""
    engine = classifier({"auc": MulticlassAUROC(num_classes=3)})
    engine.add(stopping)
    run = engine.fit(classes([4, 4], 0), classes([9], 1))
    assert run.outcome in (Outcome.COMPLETED, Outcome.STOPPED)
    never = "valid_auc" if "stop_validate" in dir(stopping) else "train_auc"
    assert math.isnan({"valid_auc": math.nan, **run.metrics}[never])


class Locked(MeanSquaredError):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_a_metric_that_cannot_be_copied_is_refused_when_the_engine_is_made() -> None:
    with refuses(ArgumentRefused, "the metric 'locked' is", "cannot be copied", "keep locks, files and handles out"):
        classifier({"locked": Locked()})


def test_the_targets_tell_the_size_of_a_batch_whose_inputs_do_not() -> None:
    """Nine strings and one: the mean is that of ten samples."""
    batch = [(["a"] * 9, torch.zeros(9, 1)), (["b"], torch.ones(1, 1))]
    model = small_model()
    engine = Engine(
        model,
        lambda output, targets: targets.mean() + 0 * output,
        optim.SGD(model.parameters(), lr=0.0),
        actions={State.FORWARD: output_from(lambda run: run.model.weight.sum())},
    )
    assert engine.fit(batch).history[0]["train_loss"] == pytest.approx(0.1)
    assert batch_size({"t": torch.tensor(5.0), "x": torch.zeros(9, 1)}) == 9


def test_what_is_written_into_a_loss_later_does_not_change_its_mean() -> None:
    """A loss scaled in place before the backward pass, and a buffer that is used again for each batch."""
    plain = small_engine().fit(batches(3)).history[0]["train_loss"]
    model = small_model()
    scaled = small_engine(
        hears("backward_begin", lambda run: run.loss.mul_(2)),
        model=model,
        optimizer=optim.SGD(model.parameters(), lr=0.0),
    )
    still = small_model()
    wanted = small_engine(model=still, optimizer=optim.SGD(still.parameters(), lr=0.0)).fit(batches(3))
    assert scaled.fit(batches(3)).history[0]["train_loss"] == wanted.history[0]["train_loss"] != plain
    buffer, mean = torch.zeros(()), Mean("loss")
    for value in (1.0, 2.0, 6.0):
        mean.add(buffer.fill_(value), 1)
    assert mean.value() == 3.0
