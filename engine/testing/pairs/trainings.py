"""How is one small training repeated, with its callbacks in another order?  Fresh, with the same seed and batches."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from itertools import zip_longest

from attrs import define, field, frozen

from engine.engine import Engine
from engine.listeners import Listener
from engine.run import Run
from engine.testing.pairs.snapshot import Snapshot, differences, listeners_of, snapshot
from engine.testing.pairs.values import Difference
from engine.testing.runs.quiet import quiet
from engine.testing.runs.subject import Subject
from engine.testing.watched import Call, watch
from states import Event
from states.names import name_of
from states.walk import Plan


# Names of callbacks, in the order of their registration.
Names = tuple[str, ...]
# Where something was looked at: the event or guard, the epoch, the batch.
Place = tuple[str, int, int]

# Behind everybody else: it looks at what they have all left.
LAST = 10**9
# What is said where two trainings do not even hear the same.
TRACE = "what is heard next"
RAISED = "what the run raises"


@frozen
class Look:
    """When a training is looked at: after each of these, if both of the pair were called; and where an epoch ends."""

    pair: frozenset[str] = frozenset()
    events: frozenset[Enum] = frozenset()
    guards: frozenset[Enum] = frozenset()
    # Whether at all, after every event that anybody hears; large tensors and generators are left out otherwise.
    full: bool = False

    @classmethod
    def at(cls, one: Listener, other: Listener) -> "Look":
        """What two callbacks both hear, and what they both answer."""
        events, guards = one.hears.keys() & other.hears, one.answers.keys() & other.answers
        return cls(frozenset((one.name, other.name)), frozenset(events), frozenset(guards))


@define(eq=False)
class Marks:
    """What a training was like, each time that it was looked at."""

    engine: Engine
    look: Look
    taken: list[tuple[Place, Snapshot]] = field(init=False, factory=list)
    # What ended it, if an exception did.
    error: str = ""
    # Which of the pair were called since the last look at this event or guard.
    called: dict[Enum, set[str]] = field(init=False, factory=dict)

    def listen(self) -> None:
        """Look at the calls of the pair, and at what all have left behind an event."""
        watch(self.engine, self._around)
        heard = {event for listener in listeners_of(self.engine) for event in listener.hears}
        for event in {*(heard if self.look.full else self.look.events), Event.EPOCH_END, Event.TRAIN_END}:
            self.engine.on(name_of(event), order=LAST)(partial(self._heard, event))

    def take(self, word: str, run: Run, *, full: bool, told: Mapping[str, str]) -> None:
        """Keep what the training is like now, and what else is told of it."""
        fields = {**told, **snapshot(self.engine, run, full=full).fields}
        self.taken.append(((word, run.epoch, run.batch_index), Snapshot(fields)))

    def _around(self, who: str, word: Enum, call: Call) -> Call:
        if who not in self.look.pair or word not in self.look.events | self.look.guards:
            return call

        def noted(run: Run) -> object:
            answer = call(run)
            called = self.called.setdefault(word, set())
            called.add(who)
            if word in self.look.guards and (answer is True or called == self.look.pair):
                called.clear()
                told = {f"the answer to {name_of(word)}": str(answer)}
                self.take(name_of(word), run, full=self.look.full, told=told)
            return answer

        return noted

    def _heard(self, event: Enum, run: Run) -> None:
        both, ends = self.called.pop(event, set()) == self.look.pair, event in (Event.EPOCH_END, Event.TRAIN_END)
        if both or ends or self.look.full:
            self.take(name_of(event), run, full=self.look.full or ends, told={})


@define(eq=False)
class Trainings:
    """One small training, again and again.

    Attributes:
        subject: Who is trained: a fresh engine each time, with the same batches and random numbers.
        plan: How long the training is.
    """

    subject: Subject
    plan: Plan

    def listeners(self) -> list[Listener]:
        """Everyone who is registered, as the engine is."""
        return list(listeners_of(self.subject.make()[0]))

    def run(self, names: Names, look: Look) -> Marks:
        """Train once, with the callbacks registered in this order; an exception is kept."""
        with quiet():
            engine, arguments = self.subject.make()
            by_name = {listener.name: listener for listener in listeners_of(engine)}
            listeners_of(engine)[:] = [by_name[name] for name in names]
            marks = Marks(engine, look)
            marks.listen()
            try:
                engine.fit(**self.subject.planned(self.plan, arguments))
            except Exception as error:
                if engine.last_run is None:
                    raise
                marks.error = re.sub(r"0x[0-9a-f]+", "0x...", f"{type(error).__name__}: {error}")
            if engine.last_run is not None:
                marks.take("the end", engine.last_run, full=True, told={RAISED: marks.error or "nothing"})
        return marks

    def twice(self) -> tuple[Marks, Marks]:
        """Two trainings in the order in which the engine is."""
        names = names_of(self.listeners())
        return self.run(names, Look(full=True)), self.run(names, Look(full=True))


def unsteady_in(one: Marks, other: Marks) -> frozenset[str]:
    """The fields that differ between two trainings that are the same, such as a clock's."""
    return frozenset(erased(differs.field) for _, differs in _all_that_differs(one, other))


def first_that_differs(one: Marks, other: Marks, unsteady: Collection[str]) -> tuple[Place, Difference] | None:
    """Where two trainings differ first, and in what."""
    found = _all_that_differs(one, other)
    return next(((place, differs) for place, differs in found if erased(differs.field) not in unsteady), None)


def _all_that_differs(one: Marks, other: Marks) -> Iterator[tuple[Place, Difference]]:
    """Every difference of two trainings, up to where one of them hears something else."""
    for mine, yours in zip_longest(one.taken, other.taken):
        if mine is None or yours is None or mine[0] != yours[0]:
            here, there = (("nothing", -1, -1) if mark is None else mark[0] for mark in (mine, yours))
            died = Difference(RAISED, one.error or "nothing", other.error or "nothing")
            yield here, Difference(TRACE, here[0], there[0]) if one.error == other.error else died
            return
        yield from ((mine[0], differs) for differs in differences(mine[1], yours[1]))


def names_of(listeners: Iterable[Listener]) -> Names:
    """The names of callbacks, in order."""
    return tuple(listener.name for listener in listeners)


def erased(name: str) -> str:
    """A field without its numbers: what is unsteady in one entry of a list is so in all.

    Example:
        >>> erased("Clock.seen[3][0, 1]"), erased("run.metrics['time']")
        ('Clock.seen[][]', "run.metrics['time']")
    """
    return re.sub(r"\[\d+(, \d+)*\]", "[]", name)
