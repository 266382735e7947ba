"""What does pytransitions make of a table?  The same rows as a real pytransitions machine, and one that is asked.

pytransitions is the judge of where a row leads, and of nothing else: no model, no callbacks, no queue.  It is imported
when the first machine is made, so that `import states` stays fast.
"""

from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import TYPE_CHECKING

from attrs import define, field

from states.errors import StateloopError, TriggerRefused
from states.machine import Machine
from states.names import name_of
from states.rows import Transition


if TYPE_CHECKING:
    import transitions

# What pytransitions calls the leaving of a state that decides: its rows have no trigger of their own.
DECIDE = "decide"

Ask = Callable[[Enum], bool]


def to_transitions(machine: Machine) -> "transitions.Machine":
    """The rows of a machine, its deaths included, as a pytransitions machine: its states are the members themselves.

    Guards are `conditions` by name, looked up on the model that is triggered: any object with a `state` and a method
    for each guard.  Rows without a trigger are triggered by "decide".  The machine has no model and keeps no state, so
    that several runs may share it.

    Raises:
        StateloopError: a guard is called `state`, as pytransitions calls the state of a model.

    Example:
        >>> from types import SimpleNamespace
        >>> from states import EVALUATION, State
        >>> chart = to_transitions(EVALUATION)
        >>> run = SimpleNamespace(state=State.EVALUATE, stop_training=lambda: False, stop_validate=lambda: True)
        >>> chart.events["decide"].trigger(run)
        True
        >>> run.state
        <State.DONE: 'done'>
    """
    from transitions import Machine as Chart  # noqa: PLC0415  # at first use: it costs more than all of `states`

    if named := [guard for guard in machine.guards if name_of(guard) == "state"]:
        msg = f"{machine.name} has the guard {named[0]}, and pytransitions keeps a model's state under that name"
        raise StateloopError(msg)
    rows = (*machine.rows, *machine.deaths)
    return Chart(
        model=None,
        states=list(dict.fromkeys((*machine.states, *(row.dest for row in rows)))),
        initial=machine.initial,
        transitions=[_row(row) for row in rows],
        auto_transitions=False,
        queued=False,
        send_event=False,
    )


def _row(row: Transition) -> dict[str, object]:
    conditions = [] if row.guard is None else [name_of(row.guard)]
    return {"trigger": _called(row.trigger), "source": row.source, "dest": row.dest, "conditions": conditions}


def _called(trigger: Enum | None) -> str:
    return DECIDE if trigger is None else name_of(trigger)


@define(eq=False)
class Checked:
    """A machine whose rows are chosen by pytransitions.  It keeps nothing of a run: several may use it.

    Example:
        >>> from states import TRAINING, Guard, State, Trigger
        >>> checked = Checked(TRAINING)
        >>> print(checked.choose(State.STEP, Trigger.WEIGHTS_MOVED, lambda guard: False))
        step weights_moved -> zero_grad: step_end
        >>> print(checked.choose(State.EPOCH, None, lambda guard: guard is Guard.STOP_EPOCH))
        epoch [stop_epoch] -> window
    """

    machine: Machine
    chart: "transitions.Machine" = field(init=False, repr=False)
    _rows: tuple[Transition, ...] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Make the pytransitions machine once."""
        self.chart = to_transitions(self.machine)
        self._rows = (*self.machine.rows, *self.machine.deaths)

    def choose(self, state: Enum, trigger: Enum | None, ask: Ask) -> Transition:
        """The row that pytransitions takes.

        Args:
            state: Where the run is.
            trigger: What was reported; `None` in a state that decides.
            ask: Answers a guard; asked by pytransitions, in row order, until the first yes.

        Raises:
            TriggerRefused: no row takes the trigger in this state.
        """
        if not self.chart.get_transitions(_called(trigger), state):
            raise TriggerRefused(self._refusal(state, trigger))
        yes: list[Enum] = []
        model = self._model(state, ask, yes)
        moved = self.chart.events[_called(trigger)].trigger(model)
        assert moved, f"pytransitions took no row of {name_of(state)} / {_called(trigger)}"
        way = ((state, trigger), yes[-1] if yes else None, model.state)
        taken = [row for row in self._rows if (row.group, row.guard, row.dest) == way]
        assert len(taken) == 1, (
            f"{len(taken)} rows lead from {name_of(state)} to {name_of(model.state)} as was answered"
        )
        return taken[0]

    def _model(self, state: Enum, ask: Ask, yes: list[Enum]) -> SimpleNamespace:
        """What pytransitions moves: a state, and a method for each guard that notes a yes."""

        def answerer(guard: Enum) -> Callable[[], bool]:
            def answer() -> bool:
                said = bool(ask(guard))  # pytransitions compares with True: a truthy answer would be a no
                if said:
                    yes.append(guard)
                return said

            return answer

        model = SimpleNamespace(state=state)
        for guard in self.machine.guards:
            setattr(model, name_of(guard), answerer(guard))
        return model

    def _refusal(self, state: Enum, trigger: Enum | None) -> str:
        said = "nothing" if trigger is None else name_of(trigger)
        rows = self.machine.rows
        here = dict.fromkeys(name_of(row.trigger) for row in rows if row.source is state and row.trigger)
        takers = dict.fromkeys(name_of(row.source) for row in rows if row.trigger is trigger)
        nothing = "nothing is reported, it decides" if self.machine.decides(state) else "nothing"
        return (
            f"{said} was reported in {name_of(state)}, and no row of the machine {self.machine.name!r} takes it there\n"
            f"  possible here:  {', '.join(here) or nothing}\n"
            f"  taken in:       {', '.join(takers) or 'no state'}"
        )
