"""What stands between a training and its validation?  A machine that does nothing but hold another."""

from states import EVALUATION, Machine, State, Transition, Trigger


BETWEEN = Machine(
    name="between",
    initial=State.IDLE,
    finals=(State.DONE,),
    rows=(
        Transition(State.IDLE, Trigger.EVALUATION_ASKED, None, State.VALIDATE),
        Transition(State.VALIDATE, Trigger.VALIDATED, None, State.DONE),
        Transition(State.VALIDATE, Trigger.VALIDATION_STOPPED, None, State.DONE),
    ),
    holds={State.VALIDATE: EVALUATION},
    gradients=False,
)
