"""Who acts, listens and answers when a bare machine is tested?  One who does as the test says, and writes it down."""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum

import torch
from attrs import define, field
from torch import nn

from engine.actions import Action
from engine.engine import Engine
from engine.listeners import Callback
from engine.run import Run
from engine.testing.runs.described import Script
from states import Counter, Machine, Trigger
from states.names import name_of
from states.walk import Answers, Counters, Hearing


# What was done, asked or heard: the word, what was said to it, and the counters where it was heard.
Line = tuple[str, Enum, object, tuple[int, ...]]


@define(eq=False)
class Log:
    """What a run has done: written by the actions and callbacks of a test."""

    lines: list[Line] = field(factory=list)
    does: deque[tuple[Enum, Enum]] = field(factory=deque)
    asks: deque[bool] = field(factory=deque)

    def did(self, state: Enum, trigger: Enum) -> None:
        """An action was called, and reports a trigger."""
        self.lines.append(did(state, trigger))
        self.does.append((state, trigger))

    def asked(self, guard: Enum, yes: bool) -> None:
        """A guard was asked."""
        self.lines.append(asked(guard, yes))
        self.asks.append(yes)

    def heard(self, event: Enum, state: Enum, counters: Counters) -> None:
        """An event was heard."""
        self.lines.append(heard(Hearing(event, state, counters)))

    @property
    def events(self) -> list[Enum]:
        """What was heard."""
        return [word for kind, word, *_ in self.lines if kind == "hears"]


def did(state: Enum, trigger: Enum) -> Line:
    """The line of an action."""
    return "does", state, trigger, ()


def asked(guard: Enum, yes: bool) -> Line:
    """The line of a guard."""
    return "asks", guard, yes, ()


def heard(hearing: Hearing) -> Line:
    """The line of an event."""
    return "hears", hearing.event, hearing.state, tuple(hearing.counters[counter] for counter in Counter)


def first_difference(one: Sequence[Line], other: Sequence[Line]) -> int | None:
    """The index of the first line that differs; `None` where none does."""
    both = enumerate(zip(one, other, strict=False))
    shorter = min(len(one), len(other)) if len(one) != len(other) else None
    return next((number for number, (line, twin) in both if line != twin), shorter)


def told(lines: Sequence[Line], at: int) -> str:
    """What comes at an index, for people."""
    return words(lines[at]) if at < len(lines) else "nothing more"


def before(lines: Sequence[Line], at: int) -> str:
    """The last lines before an index, for people."""
    return "".join(f"\n    {words(line)}" for line in lines[max(0, at - 5) : at]) or " nothing"


def words(line: Line) -> str:
    """A line for people."""
    kind, word, said, counters = line
    if kind == "does":
        return f"{name_of(word)} reports {name_of(said)}"
    if kind == "asks":
        return f"{name_of(word)} is answered with {'yes' if said else 'no'}"
    counted = ", ".join(f"{name_of(counter)} {count}" for counter, count in zip(Counter, counters, strict=True))
    return f"{name_of(word)} is heard in {name_of(said)} ({counted})"


@define(eq=False)
class Player:
    """Acts, listens and answers in the runs of one engine, as each rule of a test says."""

    log: Log = field(factory=Log)
    # What the rule says: the answers, what an action reports, and after how many calls a callback fails with what.
    answers: Answers = field(init=False)
    trigger: Enum | None = field(init=False, default=None)
    left: int = field(init=False, default=-1)
    error: BaseException | None = field(init=False, default=None)
    # How often each state of a held machine has acted.
    turns: dict[Enum, int] = field(init=False, factory=dict)

    def plays(
        self, script: Script, trigger: Enum | None = None, at: int = -1, error: BaseException | None = None
    ) -> None:
        """From now on, answer by a script, report a trigger, fail at a call."""
        self.answers, self.trigger, self.left, self.error, self.turns = script.answers(), trigger, at, error, {}

    def act(self, run: Run) -> Enum:
        """The action of every state; a machine that is held reports all that it can in turn."""
        triggers = may_report(run.machine, run.state, counters_of(run))
        turn = self.turns[run.state] = self.turns.get(run.state, -1) + 1
        trigger = self.trigger if run.parent is None and self.trigger else triggers[turn % len(triggers)]
        self.log.did(run.state, trigger)
        return trigger

    def hear(self, event: Enum, run: Run) -> None:
        """Listen to an event."""
        self.log.heard(event, run.state, counters_of(run))
        self._fail()

    def answer(self, guard: Enum, run: Run) -> bool:
        """Answer a guard."""
        yes = self.answers(guard, counters_of(run))
        self.log.asked(guard, yes)
        self._fail()
        return yes

    def _fail(self) -> None:
        self.left -= 1
        if self.left == -1 and self.error is not None:
            raise self.error

    def listener(self, machine: Machine, guards: Collection[str]) -> Callback:
        """A callback that hears all events of a machine, and answers these guards; it is the last to be called."""
        inside = (machine, *machine.within)
        methods: dict[str, object] = {f"on_{name_of(e)}": _method(self.hear, e) for one in inside for e in one.events}
        words = {name_of(guard): guard for one in inside for guard in one.guards}
        methods |= {name: _method(self.answer, words[name]) for name in guards}
        listener: Callback = type("Player", (Callback,), {**methods, "order": 10**9})()
        return listener

    def engine(self, machine: Machine, *, answers: bool) -> Engine:
        """An engine of a machine in which nothing is computed, and nobody else listens."""
        guards = [name_of(guard) for one in (machine, *machine.within) for guard in one.guards if answers]
        model = nn.Linear(1, 1)
        for parameter in model.parameters():  # gradients, as a run that was told of some expects them
            parameter.grad = torch.zeros_like(parameter)
        return Engine(
            model,
            nn.MSELoss(),
            torch.optim.SGD(model.parameters()),
            [self.listener(machine, guards)],
            machine=machine,
            actions=self._actions(machine),
            metrics=None,
            recorder=None,
        )

    def _actions(self, machine: Machine) -> Mapping[Enum, Action]:
        """For each state that acts, and holds nothing: this one.  The first of a held machine is the engine's own."""
        reports: dict[Enum, tuple[Enum, ...]] = {}
        for one in (machine, *machine.within):
            for source, trigger in one.groups:
                own = source not in one.holds and (source is not one.initial or one is machine)
                if own and trigger is not None:
                    reports[source] = (*reports.get(source, ()), trigger)
        return {state: Action(self.act, tuple(dict.fromkeys(triggers))) for state, triggers in reports.items()}


def counters_of(run: Run) -> dict[Counter, int]:
    """The counters of a run."""
    return {counter: getattr(run, name_of(counter)) for counter in Counter}


def may_report(machine: Machine, state: Enum, counters: Counters) -> list[Enum]:
    """What a state may report: by its rows, and for a window by what waits in it."""
    never = Trigger.WINDOW_EMPTY if counters[Counter.WINDOW] else Trigger.WINDOW_OPEN
    triggers = dict.fromkeys(row.trigger for row in machine.rows_from(state))
    return [trigger for trigger in triggers if trigger is not None and trigger is not never]


def _method(do: Callable[[Enum, Run], object], word: Enum) -> Callable[[object, Run], object]:
    def method(self: object, run: Run) -> object:
        del self
        return do(word, run)

    return method
