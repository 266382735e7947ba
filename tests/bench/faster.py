"""What do `compile=True` and a fused step gain?  Each against the same without it, on three models."""

from collections.abc import Callable, Iterator, Mapping

import torch
from attrs import frozen
from torch import nn, optim

from engine import Engine
from tests.bench.timing import Spread, interleave, ratios, seconds


BATCHES, STEPS, ROUNDS, WIDTH = 300, 2000, 11, 256


@frozen
class Gain:
    """How many times the time of the plain one."""

    what: str
    model: str
    ratio: Spread


def tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))


def wide() -> nn.Module:
    return nn.Sequential(nn.Linear(16, WIDTH), *_layers(nn.ReLU), nn.Linear(WIDTH, 1))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(16, WIDTH), *_layers(lambda: nn.LayerNorm(WIDTH), nn.GELU), nn.Linear(WIDTH, 1))


def _layers(*between: Callable[[], nn.Module]) -> Iterator[nn.Module]:
    for _ in range(3):
        yield from (make() for make in between)
        yield nn.Linear(WIDTH, WIDTH)


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "MLP 16-32-1": tiny,
    "four layers of 256": wide,
    "the same, with LayerNorm and GELU": normed,
}
OPTIMIZERS: Mapping[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda parameters, fused: optim.SGD(parameters, lr=1e-4, fused=fused),
    "SGD with momentum": lambda parameters, fused: optim.SGD(parameters, lr=1e-4, momentum=0.9, fused=fused),
    "Adam": lambda parameters, fused: optim.Adam(parameters, lr=1e-4, fused=fused),
}


def gains() -> Iterator[Gain]:
    """All of them, one after the other, once whatever is compiled is compiled."""
    for name, model in MODELS.items():
        yield Gain("compile=True", name, _compared(_training(model(), compile=False), _training(model(), compile=True)))
    for name, model in list(MODELS.items())[:2]:
        for optimizer, make in OPTIMIZERS.items():
            yield Gain(
                f"{optimizer}(fused=True)", name, _compared(_steps(model(), make, None), _steps(model(), make, True))
            )


def _compared(plain: Callable[[], object], other: Callable[[], object]) -> Spread:
    plain()
    other()
    pairs, _ = interleave({"other": lambda: seconds(other)}, lambda: seconds(plain), ROUNDS)
    return ratios(pairs["other"])


def _training(model: nn.Module, *, compile: bool) -> Callable[[], object]:  # noqa: A002  # as the engine calls it
    data = [(torch.randn(32, 16), torch.randn(32, 1)) for _ in range(BATCHES)]
    engine = Engine(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=1e-4), compile=compile)
    return lambda: engine.fit(data)


def _steps(model: nn.Module, make: Callable[..., optim.Optimizer], fused: bool | None) -> Callable[[], object]:
    optimizer = make(model.parameters(), fused)
    model(torch.randn(32, 16)).sum().backward()

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.step()

    return steps


def gain_line(gain: Gain) -> str:
    """One line."""
    ratio = gain.ratio
    return f"{gain.what:<32} {gain.model:<34} {ratio.median:.2f}  ({ratio.low:.2f} .. {ratio.high:.2f})"
