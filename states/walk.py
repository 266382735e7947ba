"""What would happen?  A walk over the table under a plan: no engine, no tensor, one step for each row taken.

This is the reference reading of the rules of `tables`: the dry run prints it, and the tests hold the engine's two
drivers against it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from attrs import define, field, frozen

from states.errors import StateloopError, TriggerRefused
from states.machine import Machine
from states.names import Counter, Guard, State, Trigger, name_of
from states.rows import Transition, When


Counters = Mapping[Counter, int]
# For states that can report several triggers: which one, given the counters at that moment.
Reporting = Mapping[Enum, Callable[[Counters], Enum]]
# What a guard answers, given the counters at that moment.
Answers = Callable[[Enum, Counters], bool]


# What states report that no plan tells of; now and then it is something else.
_USUAL: Mapping[Enum, Trigger] = {
    State.UNSCALE: Trigger.GRADS_UNSCALED,
    State.DESCALE: Trigger.GRADS_UNSCALED,
}


class PlanRefused(StateloopError):
    """A plan asks for something that no run could do."""


@frozen(kw_only=True)
class Plan:
    """How long a run is: what the actions of a real run would find out from its loaders.

    Attributes:
        epochs: How many epochs; `None` goes on until `max_updates`.
        batches: How many batches the training loader holds in each epoch (or the only loader, in an evaluation).
        valid_batches: How many the validation loader holds; `None` is no validation loader.
        max_updates: After how many optimizer steps the run is complete; `None` is no limit.
        reports: For states of the user's own that can report several triggers: which one, given the counters; and for
            others, where they report what they seldom do.

    Example:
        >>> Plan(epochs=2, batches=3)
        Plan(epochs=2, batches=3, valid_batches=None, max_updates=None)
    """

    epochs: int | None = 1
    batches: int = 2
    valid_batches: int | None = None
    max_updates: int | None = None
    reports: Reporting = field(factory=dict, repr=False, hash=False)

    def __attrs_post_init__(self) -> None:
        """Refuse what could not be walked."""
        for name in ("epochs", "batches", "valid_batches", "max_updates"):
            value = getattr(self, name)
            if value is None and name != "batches":
                continue
            if type(value) is not int or value < 0:
                msg = f"{name} is {value!r}; a whole number, 0 or more, is needed"
                raise PlanRefused(msg)
        if self.epochs is None and not (self.max_updates and self.batches):
            msg = "epochs is None, so the plan has no end: give epochs, or max_updates and at least one batch"
            raise PlanRefused(msg)

    def held(self) -> "Plan":
        """The plan of a machine that a state holds: its only loader is the validation loader."""
        batches = self.valid_batches or 0
        return Plan(epochs=1, batches=batches, valid_batches=self.valid_batches, reports=self.reports)


@frozen
class Hearing:
    """One event as callbacks hear it: the state that the run shows, and its counters."""

    event: Enum
    state: Enum
    counters: Counters = field(hash=False)


@frozen
class Step:
    """One row taken.

    Attributes:
        row: The row.
        asked: The guards that were asked, in order, with their answers; the last yes chose the row.
        first: What was heard before any guard was asked.
        heard: What was heard on the way.
        before: The counters before.
        counters: The counters afterwards.
        depth: 0 for the machine itself, 1 for one that a state holds.
    """

    row: Transition
    asked: tuple[tuple[Enum, bool], ...]
    first: tuple[Hearing, ...]
    heard: tuple[Hearing, ...]
    before: Counters = field(hash=False)
    counters: Counters = field(hash=False)
    depth: int = 0


def never(guard: Enum, counters: Counters) -> bool:
    """Answer no to every guard."""
    del guard, counters
    return False


def script(answers: Mapping[str, Sequence[int]]) -> Answers:
    """Answers by how often a guard was asked: `{"skip_step": [0, 2]}` says yes to the first and the third asking.

    Example:
        >>> from states import Guard
        >>> answer = script({"skip_step": [1]})
        >>> [answer(Guard.SKIP_STEP, {}) for _ in range(3)]
        [False, True, False]
    """
    asked: dict[str, int] = {}

    def answer(guard: Enum, counters: Counters) -> bool:
        del counters
        name = name_of(guard)
        asked[name] = asked.get(name, -1) + 1
        return asked[name] in answers.get(name, ())

    return answer


def walk(machine: Machine, plan: Plan, answers: Answers = never) -> Iterator[Step]:
    """Take one row after the other until a final state.

    Raises:
        StateloopError: a state of the user's own can report several triggers and the plan does not say which.
        TriggerRefused: the plan reports what no row takes.

    Example:
        >>> from states import TRAINING
        >>> steps = list(walk(TRAINING, Plan(epochs=1, batches=0)))
        >>> for step in steps:
        ...     print(step.row)
        idle fit_asked -> train: train_begin
        train epoch_due -> epoch: epoch_begin
        epoch -> fetch
        fetch loader_dry -> window
        window window_empty -> close
        close no_validation -> train: epoch_end
        train epochs_spent -> done: train_end
    """
    return _Walker(machine, plan, answers, dict.fromkeys(Counter, 0)).steps()


@define(eq=False)
class _Walker:
    """One machine being walked."""

    machine: Machine
    plan: Plan
    answers: Answers
    counters: dict[Counter, int]
    depth: int = 0
    # Whether `stop_training` was answered with yes: so it is from then on.
    stopped: bool = False

    def steps(self) -> Iterator[Step]:
        state = self.machine.initial
        while state not in self.machine.finals:
            held = None
            if inner := self.machine.holds.get(state):
                held = _Walker(inner, self.plan.held(), self.answers, {**self.counters}, self.depth + 1, self.stopped)
                yield from held.steps()
            trigger = None if self.machine.decides(state) else self._report(state, held)
            step = self._take(state, trigger)
            self.stopped = self.stopped or step.row.guard is Guard.STOP_TRAINING or (held is not None and held.stopped)
            state = step.row.dest
            yield step

    def _take(self, state: Enum, trigger: Enum | None) -> Step:
        before = {**self.counters}
        if trigger is not None:
            self._count(When.BEFORE, trigger)
        rows = self.machine.groups.get((state, trigger))
        if rows is None:
            msg = f"the plan reports {name_of(trigger)} in {name_of(state)}, and no row of {self.machine.name} takes it"
            raise TriggerRefused(msg)
        first = self._hear(rows[0].first, state)
        asked: list[tuple[Enum, bool]] = []
        for row in rows:
            if row.guard is None:
                break
            latched = self.stopped and row.guard is Guard.STOP_TRAINING
            asked.append((row.guard, latched or self.answers(row.guard, self.counters)))
            if asked[-1][1]:
                break
        heard = self._hear(row.heard, row.dest)
        return Step(row, tuple(asked), first, heard, before, {**self.counters}, self.depth)

    def _hear(self, events: Sequence[Enum], state: Enum) -> tuple[Hearing, ...]:
        heard: list[Hearing] = []
        for event in events:
            self._count(When.BEFORE, event)
            heard.append(Hearing(event, state, {**self.counters}))
            self._count(When.AFTER, event)
        return tuple(heard)

    def _count(self, when: When, what: Enum) -> None:
        for count in self.machine.counts:
            if count.when is when and count.what is what:
                self.counters[count.counter] = count.moved(self.counters[count.counter])

    def _report(self, state: Enum, held: "_Walker | None") -> Enum:
        triggers = {row.trigger for row in self.machine.rows_from(state)} - {None}
        if chosen := self.plan.reports.get(state):
            return chosen(self.counters)
        if held is not None:
            return Trigger.VALIDATION_STOPPED if held.stopped and not self.stopped else Trigger.VALIDATED
        if len(triggers) == 1:
            return next(iter(triggers - {None}))  # type: ignore[return-value]  # None was taken out
        if (found := planned(self.machine, plan=self.plan, state=state, counters=self.counters)) is not None:
            return found
        if (usual := _USUAL.get(state)) is not None:
            return usual
        msg = f"{name_of(state)} can report several triggers: say which with Plan(reports={{...}})"
        raise StateloopError(msg)


def planned(machine: Machine, *, plan: Plan, state: Enum, counters: Counters) -> Trigger | None:
    """What a built-in state with a choice reports under a plan; `None` where no plan tells."""
    spent = plan.max_updates is not None and counters[Counter.UPDATES] >= plan.max_updates
    if state is State.TRAIN:
        due = not spent and (plan.epochs is None or counters[Counter.EPOCH] < plan.epochs)
        return Trigger.EPOCH_DUE if due else Trigger.EPOCHS_SPENT
    if state is State.FETCH and spent and (state, Trigger.UPDATES_SPENT) in machine.groups:
        return Trigger.UPDATES_SPENT
    if state is State.FETCH:
        return Trigger.BATCH_READY if counters[Counter.BATCH_INDEX] < plan.batches else Trigger.LOADER_DRY
    if state is State.WINDOW:
        return Trigger.WINDOW_OPEN if counters[Counter.WINDOW] else Trigger.WINDOW_EMPTY
    if state is State.CLOSE:
        return Trigger.NO_VALIDATION if plan.valid_batches is None else Trigger.VALIDATION_DUE
    return None
