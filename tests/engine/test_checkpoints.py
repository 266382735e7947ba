"""Is a checkpoint whole or not there, does it run no code, and does a training go on from it as if nothing had been?"""

import os
import random
import signal
from collections import OrderedDict
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from engine import Callback, Engine, Outcome, Run
from engine.callbacks.checkpoint import Checkpoint
from engine.callbacks.early_stopping import EarlyStopping
from engine.callbacks.reduce_on_plateau import ReduceLROnPlateau
from engine.errors import ArgumentRefused, CallbackRefused, EngineBusy
from engine.keeping.checkpoints import Parts, _foreign, restore
from engine.keeping.files import FORMAT, read, write
from engine.testing.pairs.values import leaves
from tests.engine.tools import batches, hears, nothing_changes, refuses, same, small_engine, small_model, weights_of


class Counts(Callback):
    """Has a state, and may fail to take another one."""

    fails = False

    def __init__(self) -> None:
        self.heard = 0

    def on_batch_end(self, run: Run) -> None:
        self.heard += 1

    def state_dict(self) -> dict[str, Any]:
        return {"heard": self.heard}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.heard = state["heard"]
        if self.fails:
            raise ValueError("no")


def saved(folder: Path, *callbacks: object, **more: Any) -> Path:
    small_engine(*callbacks, Checkpoint(folder), **more).fit(batches(2), epochs=2)
    return folder / "last.pt"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading sets the shared generators: what comes behind draws as before.  The disk is waited for in one test."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tensors of a few numbers
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002  # the generator that everybody shares
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(kept[0])
    random.setstate(kept[1])
    np.random.set_state(kept[2])  # noqa: NPY002  # the generator that everybody shares


# -- a file -----------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.pt"
    write(path, {"format": FORMAT, "w": torch.arange(3)})
    assert torch.equal(read(path)["w"], torch.arange(3))
    assert [file.name for file in path.parent.iterdir()] == ["x.pt"]


@pytest.mark.parametrize("fault", [OSError("the disk is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [False, True])
def test_a_write_that_fails_half_way_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, there: bool
) -> None:
    path = tmp_path / "x.pt"
    if there:
        write(path, {"format": FORMAT, "n": 1})
    sync = os.fsync

    def fails(descriptor: int) -> None:
        sync(descriptor)
        assert (tmp_path / ".x.pt.tmp").stat().st_size > 4_000_000  # nearly all of it is there
        raise fault

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(type(fault)):
        write(path, {"format": FORMAT, "n": 2, "w": torch.zeros(1_000_000)})
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"] * there
    assert not there or read(path)["n"] == 1


def test_what_cannot_be_pickled_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "x.pt", {"format": FORMAT, "n": 1})
    with pytest.raises(Exception, match="pickle"):
        write(tmp_path / "x.pt", {"format": FORMAT, "w": torch.zeros(1000), "f": lambda: None})
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt"]
    assert read(tmp_path / "x.pt")["n"] == 1


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("sync"), sync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (done.append("replace"), replace(self, to)))
    write(tmp_path / "x.pt", {"format": FORMAT})
    assert done == ["sync", "replace", "sync"]  # the file, its name, the folder


def writes_for_ever(path: Path, start: int) -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    for number in count(start):
        write(path, {"format": FORMAT, "n": number, "w": torch.full((200_000,), number)})
        (path.parent / f"begun-{start}").touch()


def test_a_sigkill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    chance, path = random.Random(4), tmp_path / "x.pt"  # noqa: S311  # moments, no secrets
    for start in range(0, 10_000, 1_000):
        process = get_context("fork").Process(target=writes_for_ever, args=(path, start))
        process.start()
        limit = monotonic() + 10
        while not (tmp_path / f"begun-{start}").exists() and monotonic() < limit:
            sleep(0.001)
        sleep(chance.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        content = read(path)
        assert content["n"] >= start
        assert torch.equal(content["w"], torch.full((200_000,), content["n"]))
    left = {file.name for file in tmp_path.iterdir() if not file.name.startswith("begun")}
    assert left <= {"x.pt", ".x.pt.tmp"}


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    write(path, {"format": FORMAT, "n": 5, "w": torch.arange(50.0)})
    whole, chance, found = path.read_bytes(), random.Random(1), 0  # noqa: S311  # places, no secrets
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            content = read(path)
        except ArgumentRefused:
            found += 1
        else:  # a bit that nobody reads, of the padding
            assert (content["n"], content["w"].tolist()) == (5, list(range(50)))
    assert found > 200


@pytest.mark.parametrize("length", [0, 1, 500, -1])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "x.pt"
    write(path, {"format": FORMAT})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ArgumentRefused, match=r"x\.pt is damaged, or no checkpoint"):
        read(path)


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"format": FORMAT, "x": Payload(tmp_path / "ran")}, tmp_path / "x.pt")
    with pytest.raises(ArgumentRefused, match="no checkpoint"):
        read(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "what", "instead"),
    [
        (small_model().state_dict(), "it has the weights of a model alone, its state_dict()", '"cpu"))'),
        ({"epoch": 1, "weights": {}}, "it has a dict with ['epoch', 'weights']", '"cpu")[...])'),
        ({}, "it has a dict with []", "for the weights alone"),
    ],
    ids=["weights", "more", "nothing"],
)
def test_what_another_has_saved_is_told_how_to_be_loaded(
    tmp_path: Path, content: object, what: str, instead: str
) -> None:
    torch.save(content, tmp_path / "x.pt")
    engine = small_engine()
    with (
        nothing_changes(engine.model, engine.optimizer),
        refuses(ArgumentRefused, "x.pt is no checkpoint", what, instead),
    ):
        engine.load(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [{"format": FORMAT + 1}, {"format": None}, [1]])
def test_another_file_of_torch_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ArgumentRefused, match=f"has the format .*, and this version reads {FORMAT}"):
        read(tmp_path / "x.pt")


def test_a_file_that_is_not_there_is_told_as_python_tells_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        small_engine().load(tmp_path / "x.pt")


plain_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers()
tensors = st.sampled_from([torch.ones(2), nn.Parameter(torch.ones(2)), torch.float16, torch.Size([2]), torch.zeros(())])
foreign_values = st.sampled_from([np.float64(1.0), np.ones(2), np.int64(3), Fraction(1, 2), Outcome.FAILED, object])
nested = st.recursive(
    plain_values | tensors | foreign_values,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=6,
)


@given(nested)
def test_what_is_not_refused_can_be_loaded(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    if not list(_foreign("value", value)):
        path = tmp_path_factory.getbasetemp() / "nested.pt"
        write(path, {"format": FORMAT, "value": value})
        read(path)


@pytest.mark.parametrize("value", [np.float64(1.0), np.ones(1), Fraction(1, 2), Outcome.FAILED, object()])
def test_what_could_not_be_loaded_is_refused_with_its_place(tmp_path: Path, value: object) -> None:
    sets = hears("epoch_end", lambda run: run.optimizer.param_groups[0].update(lr=value), order=200)
    with pytest.raises(ArgumentRefused, match=r"^optimizer\['param_groups'\]\[0\]\['lr'\] is .* in epoch 0"):
        saved(tmp_path, sets)
    assert list(tmp_path.iterdir()) == []


# -- a training -------------------------------------------------------------------------------------------------------


def net() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.ReLU(), nn.Linear(8, 1))


def engine_in(folder: Path, make: Callable[..., Any], patience: int) -> Engine:
    """A training with all that has a state: batch norm, dropout, the optimizer, callbacks."""
    model = net()
    callbacks = [
        EarlyStopping(monitor="valid_loss", mode="max", patience=patience),  # it does not: the loss falls
        ReduceLROnPlateau(monitor="valid_loss", mode="max", patience=2, factor=0.5, cooldown=1),
        Checkpoint(folder, monitor="valid_loss", mode="min", keep=2),
        Counts(),
    ]
    return Engine(model, nn.MSELoss(), make(model.parameters()), callbacks, recorder=None)  # which keeps the time


def shuffled() -> DataLoader[Any]:
    inputs, targets = zip(*batches(8), strict=True)
    return DataLoader(TensorDataset(torch.cat(inputs), torch.cat(targets)), batch_size=6, shuffle=True)


def states_of(engine: Engine) -> dict[str, Any]:
    """What each callback remembers, as values that can be compared: tensors are their bytes."""
    states = {type(c).__name__: c.state_dict() for c in engine.callbacks if hasattr(c, "state_dict")}
    return dict(leaves("states", states, full=True))


OPTIMIZERS = [
    lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9),
    lambda parameters: optim.AdamW(parameters, lr=torch.tensor(0.01), weight_decay=0.1),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize(("cut", "patience"), [(1, 9), (3, 4), (5, 4)])
def test_a_training_in_two_parts_is_like_one(tmp_path: Path, make: Callable[..., Any], cut: int, patience: int) -> None:
    valid = batches(2, seed=9)
    whole = engine_in(tmp_path / "whole", make, patience)
    expected = whole.fit(shuffled(), valid, epochs=6)

    engine_in(tmp_path / "parts", make, patience).fit(shuffled(), valid, epochs=cut)
    torch.rand(100), random.random(), np.random.random()  # noqa: NPY002, S311  # another process stands anywhere
    engine = engine_in(tmp_path / "parts", make, patience)
    run = engine.fit(shuffled(), valid, epochs=6, start_epoch=engine.load(tmp_path / "parts" / "last.pt"))

    assert same(engine.model.state_dict().values(), whole.model.state_dict().values())
    assert (run.epoch, run.outcome) == (expected.epoch, expected.outcome)
    assert states_of(engine) == states_of(whole)
    tail = [{**record, "updates": record["updates"] + expected.history[cut - 1]["updates"]} for record in run.history]
    assert tail == expected.history[cut:]
    names = [sorted(file.name for file in (tmp_path / folder).iterdir()) for folder in ("whole", "parts")]
    assert names[0] == names[1]
    one, other = (read(tmp_path / folder / "last.pt") for folder in ("whole", "parts"))
    assert same(one["model"].values(), other["model"].values())
    assert torch.equal(one["random"]["torch"], other["random"]["torch"])


def test_random_numbers_go_on_where_they_stood(tmp_path: Path) -> None:
    path = saved(tmp_path)
    small_engine(Checkpoint(tmp_path)).load(path)
    drawn = torch.rand(3), random.random(), np.random.random()  # noqa: NPY002, S311  # the shared ones are meant
    torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002  # the generator that everybody shares
    small_engine(Checkpoint(tmp_path)).load(path)
    assert torch.equal(torch.rand(3), drawn[0])
    assert (random.random(), np.random.random()) == drawn[1:]  # noqa: NPY002, S311  # as above


def several() -> Engine:
    models = {"one": small_model(), "other": nn.Linear(2, 1)}
    optimizers = {
        "one": optim.SGD(models["one"].parameters(), lr=0.1),
        "other": optim.Adam(models["other"].parameters()),
    }
    return Engine(models, nn.MSELoss(), optimizers, recorder=None)


def test_several_models_and_optimizers_are_kept_by_name(tmp_path: Path) -> None:
    before, after, path = several(), several(), tmp_path / "x.pt"
    for optimizer in before.optimizer.values():
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
    before.optimizer.step()
    write(path, {"format": FORMAT, "epoch": 3, **Parts(before.model, before.optimizer, {}).states()})
    after.add(hears("train_begin", lambda run: None))
    assert after.load(path) == 3
    assert same(weights_of(before.model), weights_of(after.model))
    assert (
        after.optimizer["other"].state_dict()["state"].keys() == before.optimizer["other"].state_dict()["state"].keys()
    )


class Scaler:
    """What a scaler of the loss has to do with checkpoints."""

    scale = 1.0

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale = state["scale"]


def test_the_scaler_of_a_run_is_kept(tmp_path: Path) -> None:
    scaler, model, sgd = Scaler(), small_model(), optim.SGD(small_model().parameters(), lr=0.1)
    scaler.scale = 8.0
    write(tmp_path / "x.pt", {"format": FORMAT, "epoch": 3, **Parts(model, sgd, {}, scaler).states()})
    fresh = Scaler()
    restore(tmp_path / "x.pt", Parts(model, sgd, {}, fresh))
    assert fresh.scale == 8.0
    with pytest.raises(ArgumentRefused, match="has the state of a scaler of the loss, and the engine has no scaler"):
        restore(tmp_path / "x.pt", Parts(model, sgd, {}))


def untouched(engine: Engine, path: Path, error: type[Exception], message: str) -> None:
    """Loading is refused, and changes nothing: no weight, no state, no random number."""
    before = states_of(engine)
    with nothing_changes(engine.model, engine.optimizer), pytest.raises(error, match=message) as caught:
        engine.load(path)
    assert states_of(engine) == before
    if not isinstance(caught.value, ArgumentRefused):
        assert caught.value.__notes__ == [f"while {path} was loaded; all is as it was before"]


def test_callbacks_too_many_or_too_few_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    path = saved(tmp_path, Counts())
    untouched(
        small_engine(Checkpoint(tmp_path)), path, ArgumentRefused, "has the state of Counts, and the engine has no"
    )
    engine = small_engine(Checkpoint(tmp_path), Counts(), Counts())
    untouched(engine, path, ArgumentRefused, "has no state of Counts#2")
    untouched(small_engine(Counts()), path, ArgumentRefused, "the state of Checkpoint, and the engine has no such")


def test_another_optimizer_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path, model = saved(tmp_path), small_model()
    engine = small_engine(Checkpoint(tmp_path), model=model, optimizer=optim.Adam(model.parameters()))
    untouched(engine, path, ArgumentRefused, "has the state of the optimizer SGD, and the engine has Adam")


@pytest.mark.parametrize("model", [nn.Linear(2, 3), nn.Sequential(nn.Linear(2, 1))])
def test_another_model_is_refused_by_torch_and_nothing_is_changed(tmp_path: Path, model: nn.Module) -> None:
    path = saved(tmp_path)
    untouched(small_engine(Checkpoint(tmp_path), model=model), path, RuntimeError, "Error.* in loading state_dict")


def test_an_optimizer_of_other_parameters_is_refused_by_torch_and_nothing_is_changed(tmp_path: Path) -> None:
    path, model = saved(tmp_path), small_model()
    engine = small_engine(Checkpoint(tmp_path), model=model, optimizer=optim.SGD([model.weight], lr=0.1))
    untouched(engine, path, ValueError, "doesn't match the size")


def test_what_fails_last_puts_all_back(tmp_path: Path) -> None:
    path = saved(tmp_path, Counts())

    class Fails(Counts):
        def load_state_dict(self, state: dict[str, Any]) -> None:
            super().load_state_dict(state)
            if state["heard"]:
                raise ValueError("no")

    Fails.__name__ = "Counts"
    untouched(small_engine(Fails(), Checkpoint(tmp_path)), path, ValueError, "no")


def test_a_callback_with_half_a_state_is_refused_before_the_first_batch(tmp_path: Path) -> None:
    class Half(Callback):
        def on_batch_end(self, run: Run) -> None:
            raise AssertionError

        def state_dict(self) -> dict[str, Any]:
            return {}

    with pytest.raises(CallbackRefused, match="Half has state_dict and no load_state_dict"):
        saved(tmp_path, Half())


def test_nothing_is_loaded_while_a_run_goes_on(tmp_path: Path) -> None:
    engine = small_engine()

    def loads(run: Run) -> None:
        with pytest.raises(EngineBusy, match="load was called while"):
            engine.load(tmp_path / "last.pt")

    engine.add(hears("batch_end", loads))
    engine.fit(batches(1))
