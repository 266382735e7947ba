"""Which machines have a grammar that judges them?  The built-in ones."""

from attrs import frozen
from hypothesis import strategies as st

from states import EVALUATION, PREDICTION, TRAINING, Event, Machine, scaled
from states.grammar import EVALUATION_ORDER, PREDICTION_ORDER, TRAINING_ORDER, Grammar


@frozen
class Judged:
    """A built-in machine with the grammar that judges it."""

    machine: Machine
    order: Grammar

    def __str__(self) -> str:
        return self.machine.name


# What is heard of an update where the loss is scaled: it may be dropped as a whole.
SCALED_ORDER = Grammar(
    TRAINING_ORDER.text.replace("update       = step_begin", "update       = overflow | step_begin"),
    outermost=Event.TRAIN_END,
)
SCALED = Judged(scaled(TRAINING), SCALED_ORDER)

BUILT_IN = (
    Judged(TRAINING, TRAINING_ORDER),
    Judged(EVALUATION, EVALUATION_ORDER),
    Judged(PREDICTION, PREDICTION_ORDER),
)


def judged() -> st.SearchStrategy[Judged]:
    """Training most of all."""
    return st.sampled_from([BUILT_IN[0], BUILT_IN[0], *BUILT_IN])
