"""Does an epoch draw as many batches as it should, not one more, and is all else as in a training on so many?"""

from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from engine import Engine, Outcome, State, Trigger
from engine.callbacks import ShortEpochs
from engine.errors import ArgumentRefused, LoaderRefused
from engine.testing import check_order
from tests.engine.recording import batches
from tests.testing.subjects import subject


def engine_with(*callbacks: object, **parts: Any) -> Engine:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    return Engine(model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1), callbacks, **parts)


def weights(engine: Engine) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in engine.model.parameters()])


class Counted:
    """A loader that counts what is drawn from it, with or without a length."""

    def __init__(self, number: int) -> None:
        self.batches, self.drawn = batches(number), 0

    def __iter__(self) -> Any:
        for batch in self.batches:
            self.drawn += 1
            yield batch


class Sized(Counted):
    def __len__(self) -> int:
        return len(self.batches)


@settings(max_examples=40, deadline=None)
@given(most=st.integers(1, 6), train=st.integers(1, 5), valid=st.integers(1, 5), window=st.integers(1, 3))
def test_a_training_is_that_on_so_many_batches(most: int, train: int, valid: int, window: int) -> None:
    trained = []
    for short in (True, False):
        engine = engine_with(*([ShortEpochs(most)] if short else []))
        engine.guard("accumulate")(lambda run: (run.batch_index + 1) % window != 0)
        loaders = [Counted(train), Counted(valid)] if short else [batches(train)[:most], batches(valid)[:most]]
        run = engine.fit(*loaders, epochs=2)
        assert run.outcome is Outcome.COMPLETED
        if short:
            assert [loader.drawn for loader in loaders] == [2 * min(most, train), 2 * min(most, valid)]
        trained.append((weights(engine).tolist(), run.history, run.batches_done, run.updates, run.epoch))

    assert trained[0] == trained[1]


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0.01, 1), train=st.integers(1, 9), valid=st.integers(1, 9))
def test_a_share_is_that_of_each_loader_rounded_up(share: float, train: int, valid: int) -> None:
    loaders = Sized(train), Sized(valid)
    engine_with(ShortEpochs(share=share)).fit(*loaders)

    assert [loader.drawn for loader in loaders] == [ceil(share * train), ceil(share * valid)]


def test_validations_are_whole_where_that_is_said_and_where_nothing_is_trained() -> None:
    engine, valid = engine_with(ShortEpochs(1, valid=False)), Counted(4)
    engine.fit(batches(3), valid)
    assert valid.drawn == 4

    engine, valid = engine_with(ShortEpochs(1)), Counted(4)
    engine.fit(batches(3), batches(2))
    assert engine.evaluate(valid).outcome is Outcome.COMPLETED
    assert valid.drawn == 4


def test_a_validation_within_an_epoch_does_not_change_how_long_that_is() -> None:
    from examples.mid_epoch import MACHINE, EveryThird  # noqa: PLC0415  # a program

    train, valid = Sized(8), Sized(4)
    run = engine_with(ShortEpochs(share=0.75), EveryThird(), machine=MACHINE).fit(train, valid, epochs=2)

    assert (train.drawn, run.batches_done) == (12, 12)
    assert valid.drawn == 2 * 2 * 3  # two epochs, each with one in its middle and one at its end


def test_a_loop_of_ones_own_is_as_short() -> None:
    engine = engine_with(ShortEpochs(2))
    with engine.start(epochs=2) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(5)):
                output = engine.model(inputs)
                run.report(Trigger.OUTPUT_READY, output=output)
                loss = engine.loss_fn(output, targets)
                run.report(Trigger.LOSS_READY, loss=loss)
                loss.backward()
                if run.report(Trigger.GRADS_READY) is State.STEP:
                    engine.optimizer.step()
                    run.report(Trigger.WEIGHTS_MOVED)

    assert (run.batches_done, run.updates, run.outcome) == (4, 4, Outcome.COMPLETED)


def test_an_epoch_that_begins_later_and_a_second_training_are_as_short() -> None:
    engine = engine_with(ShortEpochs(2))
    for _ in range(2):
        assert engine.fit(batches(5), epochs=4, start_epoch=2).batches_done == 4


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.ones(1), torch.ones(1))] * 9)


@pytest.mark.parametrize("loader", [Counted(3), DataLoader(Stream())], ids=["generator", "stream"])
def test_a_share_of_a_loader_without_a_length_is_refused(loader: Any) -> None:
    with pytest.raises(LoaderRefused, match=r"share is 0.5, and the loader, .*, has no length, in ") as caught:
        engine_with(ShortEpochs(share=0.5)).fit(loader)

    assert caught.value.instead == "say how many batches: ShortEpochs(10)"


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, "one of them"),
        ({"batches": 1, "share": 0.5}, "one of them"),
        ({"batches": 0}, "a whole number, 1 or more"),
        ({"batches": True}, "a whole number, 1 or more"),
        ({"batches": 2.0}, "a whole number, 1 or more"),
        ({"share": 0}, "a number above 0 and up to 1"),
        ({"share": 1.1}, "a number above 0 and up to 1"),
        ({"share": float("nan")}, "a number above 0 and up to 1"),
        ({"share": "half"}, "a number above 0 and up to 1"),
    ],
)
def test_what_says_no_length_is_refused(given: Any, allowed: str) -> None:
    with pytest.raises(ArgumentRefused) as caught:
        ShortEpochs(**given)

    assert caught.value.allowed == allowed


@pytest.mark.parametrize("make", [lambda: ShortEpochs(1), lambda: ShortEpochs(share=0.5)], ids=["batches", "share"])
def test_the_ordering_kit_finds_nothing(make: Any) -> None:
    check_order(subject(make), runs=20, seed=0)
