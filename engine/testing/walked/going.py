"""How does a real engine go a way that was found?  A bare one: it reports, answers and raises what the way says.

Two callbacks hear and answer, so that who hears first and who is asked shows as well; the first one says no to all.
"""

from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import zip_longest

import torch
from attrs import define, evolve, field

from engine.actions import Action
from engine.engine import Engine
from engine.listeners import Callback
from engine.outcome import Outcome
from engine.run import Run
from engine.testing.runs.cases import Way
from engine.testing.runs.observer import counted
from states import Guard, Machine, Trigger
from states.explore import heard_in
from states.following import follow
from states.names import is_stop, name_of
from states.strides import Heard, Stride, Strides


# A bare run in which more is heard or asked goes round for ever.
MANY = 1000


class Raised(Exception):
    """What is raised on purpose."""


@define(eq=False)
class Going:
    """An engine that goes one way after the other."""

    machine: Machine
    how: Way
    engine: Engine = field(init=False)
    strides: Strides = field(init=False)
    # Of the way that is gone: what is still to be reported and answered.
    reports: deque[Enum] = field(init=False, factory=deque)
    answers: deque[bool] = field(init=False, factory=deque)
    # What was heard and asked, first and then.
    heard: list[Heard] = field(init=False, factory=list)
    heard_then: list[str] = field(init=False, factory=list)
    stopping: list[bool] = field(init=False, factory=list)
    asked: list[Enum] = field(init=False, factory=list)
    asked_then: list[tuple[Enum, bool]] = field(init=False, factory=list)
    # The word at which something raises, after so many events, with what.
    raises: Enum | None = field(init=False, default=None)
    after: int = field(init=False, default=0)
    error: type[BaseException] = field(init=False, default=Raised)

    def __attrs_post_init__(self) -> None:
        """Make the engine once."""
        first = self._listener("First", self._hear, self._answer)
        second = self._listener("Second", self._hear_then, self._answer_then)
        model = torch.nn.ParameterDict({"weight": torch.zeros(1)})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        both = [first, second]
        self.engine = Engine(
            model, None, optimizer, both, machine=self.machine, actions=self._actions(), metrics=None, recorder=None
        )
        self.engine.checked = self.how is Way.CHECKED
        self.strides = Strides(self.machine, None, None, faults=True)

    def go(self, way: tuple[Stride, ...]) -> str:
        """Go a way that leads to the end of the run; say what was otherwise, if anything was."""
        self._set_out(way)
        death = way[-1].death
        try:
            self._run()
        except (Raised, KeyboardInterrupt) as error:
            if death is None or type(error) is not self.error:
                return f"{type(error).__name__} is raised"
        except Exception as error:  # noqa: BLE001  # whatever an engine that is wrong may raise
            return f"{type(error).__name__} is raised: {error}"
        else:
            if death is not None:
                return f"nothing is raised in {name_of(way[-1].raises)}"
        run = self.engine.last_run
        assert run is not None, "it has run"
        return self._told_otherwise(way) or self._recorded_otherwise(way, run)

    def may_go(self, stride: Stride) -> bool:
        """Whether we can bring a stride about: not a fault in the first action of a held machine."""
        return stride.raises is not stride.row.source or self._reports(stride)

    def _run(self) -> None:
        loaders: list[tuple[int, int]] = [(0, 0)]
        if self.how is not Way.ADVANCE:
            self.engine.fit(loaders, loaders)
            return
        run = self.engine.start(loaders, loaders)
        while run.advance() is not None:
            pass

    def _set_out(self, way: tuple[Stride, ...]) -> None:
        last = way[-1]
        self.reports = deque(stride.row.trigger for stride in way if self._reports(stride) and stride.row.trigger)
        self.answers = deque(answer for stride in way for _, answer in stride.asked)
        self.heard, self.heard_then, self.asked, self.asked_then = [], [], [], []
        self.raises, self.stopping = last.raises, []
        if last.death is not None:
            self.after = sum(len(stride.heard) for stride in way) - len(last.death.heard)
            self.error = KeyboardInterrupt if last.death.trigger is Trigger.INTERRUPT else Raised

    def _reports(self, stride: Stride) -> bool:
        """Whether the action of a stride is one of ours."""
        first = stride.depth > 0 and stride.row.source in {one.initial for one in self.machine.within}
        return stride.row.source in self.engine.actions and not first

    def _raise_at(self, word: Enum) -> None:
        """Raise, if it is time to."""
        if word is self.raises and len(self.heard) == self.after:
            self.raises = None
            raise self.error

    def _act(self, run: Run) -> Enum:
        if len(self.reports) <= 1:
            self._raise_at(run.state)
        assert self.reports, f"{name_of(run.state)} acts, where the way is at its end"
        return self.reports.popleft()

    def _hear(self, event: Enum, run: Run) -> None:
        assert len(self.heard) < MANY, "it goes round for ever"
        depth = sum(1 for _ in run.around)
        self.heard.append(Heard(name_of(event), run.state, depth, counted(run)))
        self.stopping.append(run.stopping)

    def _hear_then(self, event: Enum, _: Run) -> None:
        self.heard_then.append(name_of(event))
        self._raise_at(event)

    def _answer(self, guard: Enum, _: Run) -> bool:
        assert len(self.asked) < MANY, "it goes round for ever"
        self.asked.append(guard)
        return False

    def _answer_then(self, guard: Enum, _: Run) -> bool:
        if not self.answers:
            self._raise_at(guard)
        self.asked_then.append((guard, bool(self.answers) and self.answers.popleft()))
        return self.asked_then[-1][1]

    def _listener(
        self, name: str, hear: Callable[[Enum, Run], object], answer: Callable[[Enum, Run], bool]
    ) -> Callback:
        guards = {guard for one in (self.machine, *self.machine.within) for guard in one.guards}
        methods = {f"on_{name_of(event)}": _bound(hear, event) for event in heard_in(self.machine)}
        made: Callback = type(
            name, (Callback,), methods | {name_of(guard): _bound(answer, guard) for guard in guards}
        )()
        return made

    def _actions(self) -> dict[Enum, Action]:
        """One action for each state that acts, whichever machines have it."""
        triggers: dict[Enum, dict[Enum, None]] = {}
        for machine in (self.machine, *self.machine.within):
            for state, trigger in machine.groups:
                if trigger is not None and state not in machine.holds:
                    triggers.setdefault(state, {})[trigger] = None
        return {state: Action(self._act, tuple(reports)) for state, reports in triggers.items()}

    def _told_otherwise(self, way: tuple[Stride, ...]) -> str:
        """What was asked or heard otherwise than on a way; nothing, if nothing was."""
        asked = [pair for stride in way for pair in stride.asked]
        if self.asked_then != asked:
            return f"{_pairs(self.asked_then)} is asked, and not {_pairs(asked)}"
        raising = [way[-1].raises] if way[-1].raises in self.asked[-1:] and way[-1].death else []
        if self.asked != [guard for guard, _ in self.asked_then] + raising:
            return "the first callback is asked otherwise than the second"
        told = [heard for stride in way for heard in stride.heard]
        for heard, should in zip_longest(map(_uncounted, self.heard), map(_uncounted, told)):
            if heard != should:
                return f"{_said(heard)} is heard, and not {_said(should)}"
        if self.heard_then != [heard.name for heard in self.heard]:
            return "the second callback hears otherwise than the first"
        if self.stopping != list(_stopping(self.machine, way)):
            return "run.stopping does not say whether a stop was granted"
        return self._counted_otherwise()

    def _counted_otherwise(self) -> str:
        followed = follow(self.strides, self.heard, counted=True)
        if followed.at is not None:
            allowed = ", ".join(map(_said, followed.allowed))
            return f"{_said(self.heard[followed.at])} is heard, and the table has {allowed}"
        return "" if followed.over else "it ends too early"

    def _recorded_otherwise(self, way: tuple[Stride, ...], run: Run) -> str:
        """What the run says of itself otherwise than it went."""
        given = [guard for guard, answer in self.asked_then if answer]
        stops = [guard for guard in given if is_stop(guard)]
        if [stop.guard for stop in run.stops] != stops:
            return f"{_names(stop.guard for stop in run.stops)} is recorded as a stop, and not {_names(stops)}"
        skips = Tally(name_of(guard) for guard in given if not is_stop(guard))
        if (recorded := {name_of(tally.guard): tally.count for tally in run.skips}) != skips:
            return f"{recorded} is recorded as skips, and not {dict(skips)}"
        stopped = any(row.guard is Guard.STOP_TRAINING or row in self.machine.stops for row in (one.row for one in way))
        outcome = Outcome.STOPPED if stopped else Outcome.COMPLETED
        if (death := way[-1].death) is not None:
            outcome = Outcome.INTERRUPTED if death.trigger is Trigger.INTERRUPT else Outcome.FAILED
        return "" if run.outcome is outcome else f"the run says {run.outcome.name}, and not {outcome.name}"


def _stopping(machine: Machine, way: tuple[Stride, ...]) -> Iterator[bool]:
    """Whether the run is stopping at each event of a way."""
    stops = {row for held in machine.within for row in held.stops}
    for_good = inside = False
    for stride in way:
        row, ends = stride.row, len(stride.death.heard) if stride.death else 0
        own, first = len(stride.heard) - ends, len(stride.row.first)
        inside = inside and stride.depth > 0
        yield from [for_good or inside] * min(first, own)
        if (row.guard, True) in stride.asked:
            for_good |= row.guard is Guard.STOP_TRAINING or (stride.depth == 0 and row in machine.stops)
            inside |= stride.depth > 0 and row in stops
        yield from [for_good or inside] * (own - first)
        yield from [for_good] * ends


def _uncounted(heard: Heard) -> Heard:
    return evolve(heard, counters=())


def _said(heard: Heard | None) -> str:
    return "nothing" if heard is None else f"{heard.name} in {name_of(heard.state)} {heard.counters or ''}".rstrip()


def _pairs(asked: Sequence[tuple[Enum, bool]]) -> str:
    return ", ".join(f"{name_of(guard)} ({'yes' if answer else 'no'})" for guard, answer in asked) or "nobody"


def _names(words: Iterable[Enum]) -> str:
    return ", ".join(map(name_of, words)) or "nothing"


def _bound(do: Callable[[Enum, Run], object], word: Enum) -> Callable[[object, Run], object]:
    return lambda _, run: do(word, run)
