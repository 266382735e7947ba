"""What is done otherwise where there are several optimizers?  A gradient that two of them step is averaged once.

STEP and ZERO_GRAD are what they are for one: `Optimizers` steps and clears each of its own, in the order given.
"""

from collections.abc import Mapping
from enum import Enum

from attrs import evolve

from engine.actions import Action
from engine.run import Run, held
from states import State, Trigger


def each(actions: Mapping[Enum, Action]) -> dict[Enum, Action]:
    """What is done instead of the engine's own actions of a machine."""
    averaging = (State.AVERAGE, State.SETTLE)
    return {state: evolve(actions[state], do=average) for state in averaging if state in actions}


def average(run: Run) -> Enum:
    """Turn the window's summed gradients into their mean over its batches, each gradient once.

    Cost: nothing for a window of one batch; a look and one division per parameter otherwise.
    """
    if run.window > 1:
        assert run.optimizer is not None, "there are several"
        for parameter in dict.fromkeys(held(run.optimizer)):
            if (gradient := parameter.grad) is not None:
                gradient.div_(run.window)
    return Trigger.GRADS_AVERAGED
