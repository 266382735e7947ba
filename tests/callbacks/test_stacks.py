"""Does the order hold in any company?  Random stacks of callbacks in random trainings, judged by the ordering kit."""

from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine import Callback, Engine, Run
from engine.testing import Case, Fault, OrderBroken, Plan, Script, check_case, faults, plans, scripts, stacks
from states import TRAINING, scaled
from tests.callbacks.every import EVERY, Make, engine_of, go_together, pictures


# At most five, some of them twice.
STACKS = (
    stacks(*(partial(EVERY.__getitem__, name) for name in EVERY), max_size=5)
    .map(lambda stack: [make() for make in stack])
    .filter(go_together)
)

# A precision, and answers to guards of the machine that trains in it.
PRECISIONS = st.sampled_from([(None, TRAINING), ("bf16", TRAINING), ("fp16", scaled(TRAINING))]).flatmap(
    lambda drawn: st.tuples(st.just(drawn[0]), scripts(drawn[1], max_askings=4, max_yes=2, max_guards=2))
)


def carry_out(stack: Sequence[Make], precision: str | None, case: Case) -> None:
    """Carry a case out with these callbacks, and raise what is wrong with it."""
    with TemporaryDirectory() as folder:
        numbers = count()

        def factory() -> tuple[Engine, dict[str, Any]]:
            made = engine_of(stack, Path(folder) / str(next(numbers)), precision=precision)
            return made, {"train_loader": pictures(3), "valid_loader": pictures(2, seed=2)}

        check_case(factory, case)


@given(
    stack=STACKS,
    answered=PRECISIONS,
    plan=plans(max_epochs=3, max_batches=4, max_valid_batches=2, max_updates=5),
    fault=st.none() | faults(where=("event", "callback", "guard"), max_at=60),
)
def test_the_order_holds_in_any_stack(
    stack: list[Make], answered: tuple[str | None, Script], plan: Plan, fault: Fault | None
) -> None:
    precision, script = answered
    carry_out(stack, precision, Case(plan, script, fault))


class Meddles(Callback):
    """Draws from everybody's generator without saying so."""

    def on_step_begin(self, run: Run) -> None:
        run.loss = run.loss * torch.rand(())


def test_one_that_meddles_is_found_among_others() -> None:
    stack = [EVERY["MixUp"], lambda *_: Meddles(), EVERY["Progress"]]
    with pytest.raises(OrderBroken, match="Meddles drew random numbers"):
        carry_out(stack, None, Case(Plan(epochs=1, batches=1)))
