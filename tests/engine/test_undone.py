"""Is everything as it was behind a trial, however it ended, and is a training behind it what it would have been?"""

import random
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from attrs import define, field
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

from engine import Callback, Engine, Run, State, output_from
from engine.keeping.undone import undone


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models so small are many times slower on two, where others are at work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# One object of each kind that is put back, what is there to be seen of it, and what changes it.


class Net(nn.Module):
    """All that a module may hold: also what is no parameter and no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3))
        self.head = nn.Linear(8, 1)
        self.register_buffer("mean", torch.zeros(1))
        self.hidden, self.calls, self.seen = torch.ones(2), 0, [1.0]

    def forward(self, inputs: Tensor) -> Tensor:
        """A mean that is bound anew, numbers of all generators."""
        self.mean = 0.9 * self.mean + 0.1 * inputs.mean().detach()
        self.calls += 1
        self.seen.append(random.random() + np.random.rand())  # noqa: NPY002, S311  # which everybody shares
        return self.head(self.body(inputs)) + self.mean + self.seen[-1] + self.calls * 1e-3


class Loss(nn.Module):
    """A loss function with a weight that is trained, and a buffer that is written into."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, output: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return (output - targets).square().mean() * self.weight.exp() + self.calls * 1e-3


class Elsewhere:
    """What no one goes into."""

    def __init__(self) -> None:
        self.number = 0


class Keeper(Callback):
    """Takes part, and remembers in all ways."""

    in_trials = True
    __slots__ = ("slot",)

    def __init__(self) -> None:
        self.number, self.words, self.by_name, self.names = 0, ["a"], {"a": [1]}, {"a"}
        self.last, self.pair, self.tensor = deque([1], maxlen=3), ([1], torch.zeros(2)), torch.zeros(3)
        self.chance, self.python = torch.Generator().manual_seed(1), random.Random(1)  # noqa: S311  # as above
        self.numpy, self.old = np.random.default_rng(1), np.random.RandomState(1)
        self.slot = [1]
        self._elsewhere = Elsewhere()

    def on_batch_begin(self, run: Run) -> None:
        self.number += 1

    def state_dict(self) -> dict[str, Any]:
        return {"elsewhere": [self._elsewhere.number]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        (self._elsewhere.number,) = state["elsewhere"]
        self.was_loaded = True


@define(eq=False)
class World:
    """An engine with everything, trained a little, and gradients that wait."""

    keeper: Keeper = field(factory=Keeper)
    engine: Engine = field(init=False)
    loader: DataLoader[Any] = field(init=False)
    heard: Callable[[], tuple[int, ...]] = field(init=False)
    acted: list[int] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        torch.manual_seed(0)
        net, loss, acted = Net(), Loss(), self.acted
        groups = [{"params": net.body[0].parameters()}, {"params": net.body[1].parameters(), "lr": 0.2}]
        optimizers = {
            "one": optim.SGD(groups, lr=0.1, momentum=0.9),
            "other": optim.Adam([*net.head.parameters(), *loss.parameters()], lr=torch.tensor(0.01)),
        }

        def forward(run: Run) -> Tensor:
            acted.append(1)
            return run.model(run.inputs)

        actions = {State.FORWARD: output_from(forward)}
        self.engine = Engine(net, loss, optimizers, [self.keeper], actions=actions)
        count, empty = 0, None

        def hears(run: Run) -> None:
            nonlocal count, empty
            count, empty = count + 1, 1

        hears.in_trials = True
        self.engine.on("batch_end")(hears)
        self.heard = lambda: (count, *(len(str(cell)) for cell in hears.__closure__))  # an empty one says so
        data = TensorDataset(torch.randn(12, 4), torch.randn(12, 1))
        self.loader = DataLoader(data, 4, shuffle=True, generator=torch.Generator().manual_seed(3))
        self.engine.fit(self.loader)
        self.engine.loss_fn(self.engine.model(torch.randn(4, 4)), torch.zeros(4, 1)).backward()
        del empty  # now it is a cell that nobody has filled

    @property
    def net(self) -> Net:
        return self.engine.model

    @property
    def sgd(self) -> optim.Optimizer:
        return self.engine.optimizer["one"]

    @property
    def adam(self) -> optim.Optimizer:
        return self.engine.optimizer["other"]

    def seen(self) -> dict[str, object]:
        """All that can be seen: which objects there are, and what is in them; nothing that Kept has part in."""
        seen: dict[str, object] = {}
        for where, module in (("net", self.net), ("loss", self.engine.loss_fn)):
            for name, part in module.named_modules():
                seen[f"{where}.{name}"] = (id(part), part.training, len(part._forward_hooks))
            for name, value in (*module.named_parameters(), *module.named_buffers()):
                seen[f"{where}.{name}"] = (
                    id(value),
                    told(value),
                    value.requires_grad,
                    id(value.grad),
                    told(value.grad),
                )
        net = self.net
        seen["net.held"] = [(name, told(value)) for name, value in vars(net).items() if name[0] != "_"]
        for name, one in self.engine.optimizer.items():
            groups = [[id(group), *map(id, group["params"])] for group in one.param_groups]
            numbers = [
                [(key, id(value), told(value)) for key, value in group.items() if key != "params"]
                for group in one.param_groups
            ]
            state = [(id(key), [(k, id(v), told(v)) for k, v in value.items()]) for key, value in one.state.items()]
            seen[name] = (id(one), id(one.param_groups), id(one.state), groups, numbers, state, sorted(vars(one)))
        seen["keeper"] = {name: (id(value), told(value)) for name, value in vars(self.keeper).items()}
        seen["slot"], seen["elsewhere"] = (id(self.keeper.slot), list(self.keeper.slot)), self.keeper._elsewhere.number
        seen["functions"] = (self.heard(), list(self.acted))
        loader = self.loader
        seen["loader"] = (told(loader.generator), *map(id, vars(loader).values()), sorted(vars(loader.sampler)))
        seen["dice"] = (random.getstate(), told(torch.get_rng_state()), repr(np.random.get_state()))  # noqa: NPY002  # as above
        return seen


def told(value: object) -> object:  # noqa: PLR0911  # one for each kind
    """What is in a value, to be compared."""
    match value:
        case Tensor():
            return (str(value.dtype), value.tolist())
        case torch.Generator():
            return value.get_state().tolist()
        case random.Random():
            return value.getstate()
        case np.random.Generator():
            return repr(value.bit_generator.state)
        case np.random.RandomState():
            return repr(value.get_state())
        case list() | tuple() | deque():
            return [(id(item), told(item)) for item in value]
        case dict():
            return [(key, id(item), told(item)) for key, item in value.items()]
        case _:
            return set(value) if isinstance(value, set) else value


def writes(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor += 1


def binds_a_buffer(world: World) -> None:
    world.net.mean = world.net.mean + 1


def forgets_gradients(world: World) -> None:
    world.net.zero_grad(set_to_none=True)


def binds_gradients(world: World) -> None:
    for parameter in world.net.parameters():
        parameter.grad = torch.ones_like(parameter)


def adds_a_group(world: World) -> None:
    world.sgd.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})


def changes_numbers(world: World) -> None:
    world.sgd.param_groups[0]["momentum"] = 0.0


def binds_groups(world: World) -> None:
    world.sgd.param_groups = [{**group} for group in world.sgd.param_groups]


def loads_a_state(world: World) -> None:
    world.adam.load_state_dict(world.adam.state_dict())


def loses_a_state(world: World) -> None:
    world.sgd.state.clear()


def trains(world: World) -> None:
    world.engine.fit(world.loader, epochs=2)


def raises(world: World, what: BaseException) -> None:
    trains(world)
    raise what


def a_batch(world: World) -> None:
    next(iter(world.loader))


def hears(world: World) -> None:
    world.engine.callbacks[-1](None)


WRECKS: dict[str, Callable[[World], object]] = {
    "a parameter": lambda world: writes(world.net.head.weight),
    "a buffer": lambda world: writes(world.net.body[1].running_mean),
    "a buffer that is bound anew": binds_a_buffer,
    "a tensor of a module": lambda world: writes(world.net.hidden),
    "a number of a module": lambda world: setattr(world.net, "calls", 9),
    "a list of a module": lambda world: world.net.seen.append(2.0),
    "a new attribute of a module": lambda world: setattr(world.net, "more", 9),
    "a lost attribute of a module": lambda world: delattr(world.net, "calls"),
    "a module in place of another": lambda world: setattr(world.net, "head", nn.Linear(8, 1)),
    "a module's mode": lambda world: world.net.body[1].eval(),
    "a hook": lambda world: world.net.head.register_forward_hook(lambda *_: None),
    "whether a gradient is computed": lambda world: world.net.head.weight.requires_grad_(False),
    "the values of gradients": lambda world: writes(world.net.head.weight.grad),
    "no gradients": forgets_gradients,
    "other gradients": binds_gradients,
    "a weight of the loss function": lambda world: writes(world.engine.loss_fn.weight),
    "a buffer of the loss function": lambda world: writes(world.engine.loss_fn.calls),
    "the state of an optimizer": lambda world: writes(world.sgd.state[world.net.body[0].weight]["momentum_buffer"]),
    "the count of an optimizer": lambda world: writes(world.adam.state[world.engine.loss_fn.weight]["step"]),
    "no state": loses_a_state,
    "another state": loads_a_state,
    "a group more": adds_a_group,
    "a number of a group": changes_numbers,
    "a tensor of a group": lambda world: world.adam.param_groups[0]["lr"].fill_(3.0),
    "other groups": binds_groups,
    "Python's dice": lambda world: random.random(),  # noqa: S311  # as above
    "NumPy's dice": lambda world: np.random.rand(),  # noqa: NPY002  # as above
    "torch's dice": lambda world: torch.rand(1),
    "a loader's dice": a_batch,
    "a loader's attribute": lambda world: vars(world.loader).update(_iterator=object()),
    "a sampler's attribute": lambda world: setattr(world.loader.sampler, "epoch", 3),
    "a callback's number": lambda world: setattr(world.keeper, "number", 9),
    "a callback's list": lambda world: world.keeper.words.append("b"),
    "a callback's dict": lambda world: world.keeper.by_name.update(b=[]),
    "a list in a callback's dict": lambda world: world.keeper.by_name["a"].append(2),
    "a callback's set": lambda world: world.keeper.names.add("b"),
    "a callback's deque": lambda world: world.keeper.last.append(2),
    "a tensor in a callback's tuple": lambda world: writes(world.keeper.pair[1]),
    "a callback's tensor": lambda world: writes(world.keeper.tensor),
    "a callback's dice": lambda world: torch.rand(1, generator=world.keeper.chance),
    "a callback's dice of Python": lambda world: world.keeper.python.random(),
    "a callback's dice of NumPy": lambda world: world.keeper.numpy.random(),
    "a callback's old dice of NumPy": lambda world: world.keeper.old.rand(),
    "a callback's slot": lambda world: setattr(world.keeper, "slot", [2]),
    "a list in a callback's slot": lambda world: world.keeper.slot.append(2),
    "what a callback's state_dict() alone tells": lambda world: setattr(world.keeper._elsewhere, "number", 9),
    "what a function remembers": hears,
    "what an action remembers": lambda world: world.acted.append(2),
    "everything": trains,
}


@pytest.mark.parametrize("wreck", WRECKS)
def test_it_is_put_back_into_the_object_that_it_was_in(wreck: str) -> None:
    world = World()
    before = world.seen()

    with undone(world.engine, world.loader):
        WRECKS[wreck](world)
        changed = world.seen()

    assert changed != before
    assert world.seen() == before


def test_an_optimizer_that_had_no_state_has_none_again() -> None:
    model = nn.Linear(2, 1)
    engine = Engine(model, nn.MSELoss(), optim.Adam(model.parameters()))
    with undone(engine):
        engine.fit([(torch.ones(2, 2), torch.ones(2, 1))])
        assert engine.optimizer.state

    assert engine.optimizer.state == {}
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("what", [ValueError("broken"), KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_it_is_put_back_whatever_is_raised_and_that_is_raised(what: BaseException) -> None:
    world = World()
    before = world.seen()
    with pytest.raises(type(what)) as raised, undone(world.engine, world.loader):
        raises(world, what)

    assert raised.value is what
    assert world.seen() == before


def test_who_fails_to_load_is_told_and_keeps_nobody_from_it() -> None:
    world = World()
    before = world.seen()
    world.keeper.load_state_dict = lambda state: 1 / 0
    with pytest.raises(ExceptionGroup, match="not all could be put back") as raised, undone(world.engine, world.loader):
        trains(world)
    del world.keeper.load_state_dict

    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError]
    assert world.seen() == before


def test_a_ctrl_c_while_it_is_put_back_comes_behind_it() -> None:
    world = World()
    before, pressed = world.seen(), Elsewhere()  # a list would be put back, since the function remembers it

    def load(state: object) -> None:
        if pressed.number < 3:
            pressed.number += 1
            signal.raise_signal(signal.SIGINT)
        Keeper.load_state_dict(world.keeper, state)

    world.keeper.load_state_dict = load
    with pytest.raises(KeyboardInterrupt), undone(world.engine, world.loader):
        trains(world)
    del world.keeper.load_state_dict

    assert pressed.number == 3
    assert world.seen() == before


def test_it_is_put_back_wherever_in_there_a_ctrl_c_comes() -> None:
    """One is raised at a line in `_put_back` or below it: at another one each time, all over it."""
    world = World()
    before = world.seen()
    lines = lines_of(world, raising_at=None)
    for number in range(2, lines, max(lines // 40, 1)):
        with suppress(KeyboardInterrupt):
            assert lines_of(world, raising_at=number) == 0
        assert world.seen() == before, number


def lines_of(world: World, raising_at: int | None) -> int:
    """Wreck and put back; how many lines that takes.  At the line with that number, Ctrl-C is pressed once."""
    count = 0

    def line(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        if event == "line" and count == raising_at:
            raise KeyboardInterrupt
        return line

    def called(frame: FrameType, _: str, __: object) -> Any:
        if frame.f_code.co_name == "_put_back" or (
            count and frame.f_code.co_filename.endswith(("kept.py", "undone.py"))
        ):
            return line
        return None

    before = sys.gettrace()
    try:
        with undone(world.engine, world.loader):
            trains(world)
            sys.settrace(called)
    finally:
        sys.settrace(before)
    return count


def test_a_tensor_that_torch_does_not_let_anybody_write_into_is_left_alone() -> None:
    model = nn.Linear(2, 1)
    with torch.inference_mode():
        model.register_buffer("made", torch.ones(2))
    model.register_buffer("shared", torch.ones(1).expand(3))
    model.result = model(torch.ones(2))  # with a graph
    model.register_buffer("sparse", torch.eye(2).to_sparse())
    engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters()))
    with undone(engine):
        model.sparse.mul_(2)

    assert torch.equal(model.sparse.to_dense(), torch.eye(2))
    model.result.sum().backward()  # nobody has written into it


@pytest.mark.filterwarnings("ignore")  # torch has much to say of jit
def test_a_scripted_model_is_put_back() -> None:
    model = torch.jit.trace(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), torch.ones(3, 2))
    engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    before = [value.clone() for value in model.state_dict().values()]
    with undone(engine):
        engine.fit([(torch.randn(3, 2), torch.zeros(3, 2))])
        assert any(not torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))

    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))


def test_data_is_not_copied() -> None:
    class Loader:
        def __init__(self) -> None:
            self.data = torch.randn(100, 4), torch.randn(100, 1)

        def __iter__(self) -> Iterator[Any]:
            return iter([self.data])

    loader, copies = Loader(), []
    model = nn.Linear(4, 1)
    engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters()))

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            copies.extend(id(arg) for arg in args if func is torch.ops.aten.clone.default)
            return func(*args, **(kwargs or {}))

    with Watched(), undone(engine, loader, list(loader)):
        assert len(copies) == 2  # weight and bias
