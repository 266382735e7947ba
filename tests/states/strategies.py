"""Which runs do the property tests draw?  Plans, and answers for every guard."""

from collections.abc import Mapping

from attrs import frozen
from hypothesis import strategies as st

from states import EVALUATION, PREDICTION, TRAINING, Guard, Machine
from states.grammar import EVALUATION_ORDER, PREDICTION_ORDER, TRAINING_ORDER, Grammar
from states.names import name_of
from states.walk import Answers, Plan, script


@frozen
class Judged:
    """A built-in machine with the grammar that judges it."""

    machine: Machine
    order: Grammar

    def __str__(self) -> str:
        return self.machine.name


BUILT_IN = (
    Judged(TRAINING, TRAINING_ORDER),
    Judged(EVALUATION, EVALUATION_ORDER),
    Judged(PREDICTION, PREDICTION_ORDER),
)


@frozen
class Script:
    """To which askings of each guard the answer is yes; printed when a test fails, and replayed as often as wanted."""

    yes: Mapping[str, tuple[int, ...]]

    def answers(self) -> Answers:
        return script(self.yes)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Small plans; now and then one that goes on until its updates are spent."""
    batches = draw(st.integers(0, 6))
    max_updates = draw(st.none() | st.integers(1, 6))
    endless = batches > 0 and max_updates is not None and draw(st.booleans())
    return Plan(
        epochs=None if endless else draw(st.integers(0, 4)),
        batches=batches,
        valid_batches=draw(st.none() | st.integers(0, 3)),
        max_updates=max_updates,
    )


def scripts() -> st.SearchStrategy[Script]:
    """A script says yes finitely often, so that even an endless plan comes to its end."""
    askings = st.sets(st.integers(0, 11), max_size=4).map(lambda chosen: tuple(sorted(chosen)))
    return st.dictionaries(st.sampled_from([name_of(guard) for guard in Guard]), askings, max_size=5).map(Script)


def judged() -> st.SearchStrategy[Judged]:
    """Training most of all."""
    return st.sampled_from([BUILT_IN[0], BUILT_IN[0], *BUILT_IN])
