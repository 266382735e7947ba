"""What could anybody see of a run?  Runs of a bare engine: its own walk, three callbacks, actions that do nothing."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from operator import attrgetter

import torch
from attrs import define, evolve, field

from engine.actions import Action, close, train, window
from engine.batches import fetch
from engine.listeners import Listener
from engine.outcome import Tally
from engine.run import Do, Run
from engine.running.drive import drive, follow
from engine.running.prepare import Kit, Preparation
from engine.testing.mutation.mutants import Mutant, unchanged
from engine.testing.mutation.mutate import Watch, mutated
from engine.testing.mutation.seen import Course, Line, Seen
from states import Counter, Machine, State, Trigger
from states.names import name_of
from states.walk import Plan


# How many transitions a bare run may take, and how many runs of a plan with all that guards may answer are looked at.
ROWS, RUNS = 300, 150
PLANS = (
    Plan(batches=1, valid_batches=1),
    Plan(epochs=2, batches=2, valid_batches=1),
    Plan(epochs=2, batches=3, max_updates=2),
)
_COUNTERS = attrgetter(*(name_of(counter) for counter in Counter))
_T = Trigger
# The actions of the engine's own that choose, and what they may report.
_CHOOSING: Mapping[Enum, tuple[Do, set[Enum]]] = {
    State.TRAIN: (train, {_T.EPOCH_DUE, _T.EPOCHS_SPENT}),
    State.FETCH: (fetch, {_T.BATCH_READY, _T.LOADER_DRY}),
    State.WINDOW: (window, {_T.WINDOW_OPEN, _T.WINDOW_EMPTY}),
    State.CLOSE: (close, {_T.VALIDATION_DUE, _T.NO_VALIDATION}),
}
# They only look at what others do, so that nobody could tell whether they were done.
_QUIET = (State.TRAIN, State.WINDOW, State.CLOSE)


class _Fault(Exception):
    """What is raised on purpose."""


@define(eq=False)
class _Record:
    """What a run does, written down; it answers, and does what is to be done at a moment."""

    course: Course
    lines: list[Line] = field(factory=list)
    choices: list[tuple[int, int]] = field(factory=list)
    words: list[str] = field(factory=list)
    calls: int = 0

    def note(self, run: Run, sentence: str) -> None:
        self.lines.append((sentence, run.state, *_COUNTERS(run), run.stopping, run.model.training))
        self.calls += 1
        if self.calls - 1 == self.course.moment:
            self.words.append(f"{'an exception' if self.course.fault else 'run.stop'} when {sentence}")
            if self.course.fault:
                raise _Fault
            run.stop("on purpose")

    def choose(self, many: int) -> int:
        number = len(self.choices)
        chosen = self.course.choices[number] if number < len(self.course.choices) else 0
        self.choices.append((min(chosen, many - 1), many))
        return self.choices[-1][0]

    def answer(self, guard: Enum, who: str) -> bool:
        """The second callback answers as it likes, the two others with no."""
        yes = who == "the second callback" and bool(self.choose(2))
        if yes:
            self.words.append(f"{name_of(guard)} answered with yes")
        return yes


@define(eq=False)
class Bare:
    """A bare engine of a machine, which is linked once for all its runs."""

    machine: Machine
    watch: Watch
    record: _Record = field(init=False, factory=lambda: _Record(Course(Plan())))
    tallies: list[Tally] = field(init=False, factory=list)
    ready: Preparation = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Link the machine and those that it holds."""
        kit = Kit(self.machine, dict(self._actions()), None, checked=False)
        three = [self._listener(f"the {who} callback") for who in ("first", "second", "third")]
        self.ready = Preparation(kit, three, self.tallies, trains=True)
        for machine in (self.machine, *self.machine.within):
            linked = self.ready.linked(machine)
            self.ready.ready[machine] = linked, partial(follow, linked=linked)

    def run(self, course: Course) -> Seen:
        """Run it once."""
        self.record, self.watch.taken = _Record(course), 0
        for tally in self.tallies:
            tally.count = 0
        run, plan = self._run(course.plan), course.plan
        run.valid_loader = None if plan.valid_batches is None else [(0, 0)] * plan.valid_batches
        run.epochs, run.max_updates = plan.epochs, plan.max_updates
        try:
            drive(run, *self.ready.prepared(self.machine))
        except Exception as error:  # noqa: BLE001  # whatever a broken walk comes to is written down
            self.record.note(run, f"{type(error).__name__} is raised")
        skips = sum(tally.count for tally in self.tallies)
        self.record.note(run, f"the run is {run.outcome.name}, with {len(run.stops)} stops and {skips} skips")
        return Seen(course, tuple(self.record.lines), tuple(self.record.choices), tuple(self.record.words))

    def _run(self, plan: Plan) -> Run:
        return Run(
            machine=self.machine,
            model=torch.nn.Identity().eval(),  # so that a training has to put it in training mode
            device=torch.device("cpu"),
            loader=[(0, 0)] * plan.batches,
            state=self.machine.initial,
            tallies=self.tallies,
        )

    def _listener(self, who: str) -> Listener:
        machines = (self.machine, *self.machine.within)
        events = dict.fromkeys(event for machine in machines for event in machine.events)
        guards = dict.fromkeys(guard for machine in machines for guard in machine.guards)

        def hear(run: Run, sentence: str) -> None:
            self.record.note(run, sentence)

        def answer(run: Run, guard: Enum) -> bool:
            self.record.note(run, f"{who} is asked {name_of(guard)}")
            return self.record.answer(guard, who)

        hears = {event: partial(hear, sentence=f"{who} hears {name_of(event)}") for event in events}
        return Listener(who, None, hears, {guard: partial(answer, guard=guard) for guard in guards})

    def _actions(self) -> Iterator[tuple[Enum, Action]]:
        """For each state that acts, an action that is written down, and reports."""
        for machine in (self.machine, *self.machine.within):
            for state in machine.states:
                triggers = tuple(trigger for source, trigger in machine.groups if source is state and trigger)
                if triggers and state is not machine.initial and state not in machine.holds:
                    yield state, Action(partial(self._act, state=state), triggers, sure=True)

    def _act(self, run: Run, state: Enum) -> Enum:
        if state not in _QUIET:
            self.record.note(run, f"{name_of(state)} is done")
        triggers = [trigger for source, trigger in run.machine.groups if source is state and trigger]
        do, reports = _CHOOSING.get(state, (None, set()))
        if do is not None and reports <= {*triggers}:
            return do(run)
        return triggers[0] if len(triggers) == 1 else triggers[self.record.choose(len(triggers))]


def right_runs(machine: Machine) -> list[Seen]:
    """What is seen of a machine that nobody broke, in many cases, simple ones first."""
    with mutated(unchanged(machine), most=ROWS) as watch:
        bare = Bare(machine, watch)
        seen = [one for plan in PLANS for one in _answered(bare, plan)]
        (first,) = [one for one in seen if one.course == Course(PLANS[0])]
        moments = [
            evolve(first.course, moment=at, fault=fault)
            for at in range(len(first.lines) - 1)
            for fault in (False, True)
        ]
        seen += map(bare.run, moments)
    return sorted(seen, key=lambda one: (one.course.odd, len(one.lines)))


def _answered(bare: Bare, plan: Plan) -> Iterator[Seen]:
    """The runs of a plan, with more and more that is not answered with no."""
    pending: deque[tuple[int, ...]] = deque([()])
    for _ in range(RUNS):
        if not pending:
            return
        choices = pending.popleft()
        seen = bare.run(Course(plan, choices))
        taken = [choice for choice, _ in seen.choices]
        for number in range(len(choices), len(taken)):
            pending.extend((*taken[:number], other) for other in range(1, seen.choices[number][1]))
        yield seen


def difference(mutant: Mutant, machine: Machine, right: Iterable[Seen]) -> str:
    """In which run of a machine anybody could see a mutant, and how, in one line; nothing if in none."""
    with mutated(mutant, most=ROWS) as watch:
        bare = Bare(machine, watch)
        return next(filter(None, (bare.run(one.course).differs(one) for one in right)), "")
