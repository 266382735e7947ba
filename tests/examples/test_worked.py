"""Is each worked example the loop that one would write by hand?  The same weights, bit for bit."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from engine import Engine, State
from states import EVALUATION, Guard
from states.walk import Plan, script, walk
from tests.docs import difference


EXAMPLES = Path(__file__).parents[2] / "examples"
Weights = Mapping[str, torch.Tensor]


def load(name: str) -> ModuleType:
    """An example as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(example: ModuleType) -> tuple[Engine, Weights]:
    """By the engine."""
    engine, given = example.factory()
    engine.fit(**given)
    return engine, engine.model.state_dict()


def equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


def clipping(example: ModuleType) -> Weights:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = 0
    for _ in range(2):
        for inputs, targets in example.data():
            nn.functional.mse_loss(model(inputs), targets).backward()
            if steps >= 2:
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    return model.state_dict()


def accumulation(example: ModuleType) -> Weights:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        waiting = 0
        for index, (inputs, targets) in enumerate(example.data()):
            nn.functional.mse_loss(model(inputs), targets).backward()
            waiting += 1
            if waiting == 4 or index == 5:
                for parameter in model.parameters():
                    parameter.grad.div_(waiting)
                optimizer.step()
                optimizer.zero_grad()
                waiting = 0
    return model.state_dict()


def mid_epoch(example: ModuleType) -> Weights:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        for inputs, targets in example.data(8, 1):
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict()


def distillation(example: ModuleType) -> Weights:
    torch.manual_seed(0)
    teacher, student = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)), nn.Linear(8, 3)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    for _ in range(3):
        for batch in example.data():
            with torch.no_grad():
                taught = teacher(batch["pixels"])
            output = student(batch["pixels"])
            soft = functional.kl_div((output / 2).log_softmax(1), (taught / 2).softmax(1), reduction="batchmean") * 4
            ((functional.cross_entropy(output, batch["label"]) + soft) / 2).backward()
            optimizer.step()
            optimizer.zero_grad()
    return {**teacher.state_dict(prefix="teacher."), **student.state_dict(prefix="student.")}


def sam(example: ModuleType) -> Weights:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        for inputs, targets in example.data():
            nn.functional.mse_loss(model(inputs), targets).backward()
            kept = [parameter.detach().clone() for parameter in model.parameters()]
            norm = nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(parameter.grad * (0.05 / norm))
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            with torch.no_grad():
                for parameter, weight in zip(model.parameters(), kept, strict=True):
                    parameter.copy_(weight)
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict()


def gan(example: ModuleType) -> Weights:
    torch.manual_seed(0)
    generator, discriminator = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    first = torch.optim.Adam(discriminator.parameters(), lr=0.02)
    second = torch.optim.Adam(generator.parameters(), lr=0.02)
    for _ in range(40):
        for real in example.data():
            made = discriminator(generator(torch.randn(len(real), 2)).detach())
            said = discriminator(real)
            (bce(said, torch.ones_like(said)) + bce(made, torch.zeros_like(made))).backward()
            first.step()
            first.zero_grad()
            made = discriminator(generator(torch.randn(len(real), 2)))
            bce(made, torch.ones_like(made)).backward()
            second.step()
            first.zero_grad()
            second.zero_grad()
    return {**generator.state_dict(prefix="generator."), **discriminator.state_dict(prefix="discriminator.")}


def tbptt(example: ModuleType, chunks: int = 4, window: int = 1) -> Weights:
    torch.manual_seed(0)
    gru, head = nn.GRU(1, 8), nn.Linear(8, 1)
    optimizer = torch.optim.Adam([*gru.parameters(), *head.parameters()], lr=0.02)
    for _ in range(5):
        for inputs, targets in example.data():
            hidden = torch.zeros(1, inputs.shape[1], 8)
            for number, (chunk, wanted) in enumerate([*zip(inputs.split(5), targets.split(5), strict=True)][:chunks]):
                output, hidden = gru(chunk, hidden.detach())
                nn.functional.mse_loss(head(output), wanted).backward()
                if (number + 1) % window == 0:
                    for parameter in [*gru.parameters(), *head.parameters()] if window > 1 else []:
                        parameter.grad.div_(window)
                    optimizer.step()
                    optimizer.zero_grad()
    return {**gru.state_dict(prefix="gru."), **head.state_dict(prefix="head.")}


PLAIN: dict[str, Callable[[ModuleType], Weights]] = {
    plain.__name__: plain for plain in (clipping, accumulation, mid_epoch, distillation, sam, gan, tbptt)
}


@pytest.mark.parametrize("name", PLAIN)
def test_an_example_ends_with_the_weights_of_the_loop_by_hand(name: str) -> None:
    example = load(name)
    _, weights = trained(example)
    assert equal(weights, PLAIN[name](example))


@pytest.mark.parametrize(
    ("guard", "says", "hand"),
    [
        ("stop_sequence", lambda run, chunks: chunks.start >= 10, {"chunks": 2}),
        ("accumulate", lambda run, chunks: run.window < 2, {"window": 2}),
    ],
)
def test_the_chunks_of_a_sequence_answer_to_the_guards(guard: str, says: Callable, hand: Mapping[str, int]) -> None:
    example = load("tbptt")
    engine, given = example.factory()
    (chunks,) = [callback for callback in engine.callbacks if isinstance(callback, example.Chunks)]
    engine.guard(guard)(lambda run: says(run, chunks))
    engine.fit(**given)
    assert equal(engine.model.state_dict(), tbptt(example, **hand))


@pytest.mark.parametrize("name", PLAIN)
def test_an_example_gives_the_same_when_it_is_taken_step_by_step(name: str) -> None:
    example = load(name)
    _, weights = trained(example)
    engine, given = example.factory()
    assert len(list(engine.start(**given))) > 20
    assert equal(weights, engine.model.state_dict())


@pytest.mark.parametrize("name", [*PLAIN, "own_loop", "plain_script"])
def test_an_example_is_a_program_that_says_something(name: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not done.stderr


def test_the_own_loop_is_the_plain_script_with_under_ten_lines_changed() -> None:
    plain, own = load("plain_script"), load("own_loop")
    assert equal(plain.model.state_dict(), own.model.state_dict())
    changed = [line for line in difference().splitlines() if line.startswith("+") and line.strip("+")]
    assert 0 < len(changed) < 10
    assert own.run.updates == 5 * 23


def test_a_window_that_is_open_at_the_end_of_an_epoch_is_flushed_where_the_table_says() -> None:
    engine, _ = load("accumulation").factory()
    yes = {"accumulate": [0, 1, 2, 4, 5]}
    states = [step.row.dest for step in walk(engine.machine, Plan(batches=6), script(yes))]
    assert states.count(State.STEP) == states.count(State.FLUSH) == 1
    assert Guard.ACCUMULATE in engine.machine.guards


def test_a_peek_comes_every_third_batch_and_not_before_the_first() -> None:
    example = load("mid_epoch")
    engine, _ = trained(example)
    (every_third,) = [callback for callback in engine.callbacks if isinstance(callback, example.EveryThird)]
    assert [batches for batches, _ in every_third.seen] == [3, 6, 11, 14]
    assert engine.machine.holds == {State.VALIDATE: EVALUATION, example.Peek.PEEK: EVALUATION}
