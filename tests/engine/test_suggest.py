"""Is a fused step suggested where it would be faster, and only there?"""

from collections.abc import Callable

import pytest
import torch
from torch import nn, optim

from engine import Engine
from engine.faster.suggest import suggestions
from tests.engine.tools import small_engine, small_model


Making = Callable[[list[nn.Parameter]], optim.Optimizer]

FUSED: list[Making] = [
    lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    optim.Adam,
    optim.AdamW,
    optim.Adagrad,
]


@pytest.mark.parametrize("make", FUSED)
def test_what_is_suggested_can_be_written_and_then_nothing_more_is_suggested(make: Making) -> None:
    parameters = list(small_model().parameters())
    optimizer = make(parameters)
    (sentence,) = suggestions(optimizer)
    name = type(optimizer).__name__
    assert f"{name}(..., fused=True)" in sentence
    assert "not switched on for you" in sentence
    fused = type(optimizer)(parameters, lr=0.1, fused=True)
    small_model()(torch.ones(1, 2)).sum().backward()
    fused.step()
    assert suggestions(fused) == ()


class Own(optim.Adam):
    """What a user made of it may not have a fused step."""


NOTHING: dict[str, Making] = {
    "plain SGD on a CPU": lambda parameters: optim.SGD(parameters, lr=0.1),
    "the user chose the loop": lambda parameters: optim.Adam(parameters, fused=False),
    "the user chose foreach": lambda parameters: optim.Adam(parameters, foreach=True),
    "the user differentiates": lambda parameters: optim.Adam(parameters, differentiable=True),
    "one group is fused": lambda p: optim.Adam([{"params": p[:1], "fused": True}, {"params": p[1:]}]),
    "torch has none": optim.RMSprop,
    "another class": Own,
    "another dtype": lambda parameters: optim.Adam([nn.Parameter(torch.zeros(1, dtype=torch.complex64))]),
    "another device": lambda parameters: optim.Adam([nn.Parameter(torch.zeros(1, device="meta"))]),
    "two devices": lambda p: optim.Adam([*p, nn.Parameter(torch.zeros(1, device="meta"))]),
}


@pytest.mark.parametrize("why", NOTHING)
def test_nothing_is_suggested_where_it_would_not_help(why: str) -> None:
    assert suggestions(NOTHING[why](list(small_model().parameters()))) == ()


def test_an_engine_without_an_optimizer_has_nothing_to_suggest() -> None:
    engine = Engine(small_model())
    assert engine.suggestions() == ()
    assert "faster" not in str(engine.dry_run())


def test_a_dry_run_ends_with_what_is_suggested() -> None:
    engine = small_engine()
    listing = engine.dry_run()
    assert listing.suggestions == engine.suggestions() != ()
    assert str(listing).endswith(f"\n\nfaster: {engine.suggestions()[0]}")
