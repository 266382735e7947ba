"""Who watches a run?  Callbacks that hear first and last of all, that answer by a script, and that raise on purpose."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from attrs import define, field

from engine.engine import Engine
from engine.listeners import Callback
from engine.run import Run
from engine.testing.runs.cases import Case, Way
from engine.testing.runs.observed import Called, Observed
from engine.testing.watched import Call
from states import Counter
from states.names import name_of
from states.strides import Counts, Heard
from states.walk import Answers, never


# The first to hear, and the last: nobody's order is beyond.
FIRST, LAST = -(10**9), 10**9


@define(eq=False)
class Observer:
    """Watches the runs of one engine, one after the other.

    Attributes:
        case: What the first run is given.
        engine: The engine.
        seen: What is seen of the run that goes on, or went last.
    """

    case: Case
    engine: Engine
    seen: Observed = field(init=False)
    # What the script answers.
    answers: Answers = field(init=False)
    # Those of the test, among the callbacks of the engine.
    ours: list[object] = field(init=False, factory=list)
    _moments: dict[str, int] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """Begin with a blank sheet."""
        self.seen, self.answers = Observed(self.case), self.case.script.answers()

    def join(self) -> None:
        """Register those who hear first and last, who answer, and who raises."""
        vocabulary = self.engine._registry.vocabulary  # noqa: SLF001  # the words of all machines that it can meet
        self.ours += [self.listening(FIRST, vocabulary.events), self.listening(LAST, vocabulary.events)]
        machines = (self.engine.machine, *self.engine.machine.within)
        self.ours += [self.answering({name_of(guard): guard for one in machines for guard in one.guards})]
        self.ours += [] if self.case.fault is None else [self.failing(vocabulary.events)]
        for callback in self.ours:
            self.engine.add(callback)

    def observe(self, arguments: Mapping[str, Any]) -> Observed:
        """Let a training go to its end, in the way that the case says, and keep whatever it raises."""
        seen, before = self.seen, self.engine.last_run
        seen.declared = tuple(self.engine._registry.arranged())  # noqa: SLF001  # as in `watched`
        self.engine.checked = self.case.way is Way.CHECKED
        try:
            if self.case.way is Way.ADVANCE:
                run = self.engine.start(**arguments)
                while run.advance() is not None:
                    pass
            else:
                self.engine.fit(**arguments)
        except BaseException as error:  # noqa: BLE001  # Ctrl-C on purpose, too
            seen.raised = error
        seen.run = self.engine.last_run if self.engine.last_run is not before else None
        seen.weights = {name: tensor.clone() for name, tensor in self.engine.model.state_dict().items()}
        return seen

    def observe_again(self, arguments: Mapping[str, Any]) -> Observed:
        """The same on a blank sheet: nothing is raised on purpose any more."""
        self.case = Case(self.case.plan, turns=self.case.turns, left_out=self.case.left_out, way=Way.ADVANCE)
        self.seen, self.answers = Observed(self.case), never
        return self.observe(arguments)

    def listening(self, order: int, events: Mapping[str, Enum]) -> Callback:
        """A callback that writes down what it hears, first or last of all."""

        def first(event: Enum) -> Callable[[object, Run], None]:
            name = name_of(event)

            def hear(_: object, run: Run) -> None:
                self.seen.heard.append(Heard(name, run.state, sum(1 for _ in run.around), counted(run)))
                self.seen.moved.append(_writes(run))
                self.seen.moved_then.append(None)

            return hear

        def last(_: object, run: Run) -> None:
            self.seen.moved_then[-1] = _writes(run)

        named = {f"on_{name}": first(event) if order < 0 else last for name, event in events.items()}
        return _callback("First" if order < 0 else "Last", order, named)

    def around(self, who: str, word: Enum, call: Call) -> Call:
        """Write down each call of a callback, and what it raised; in its moment, raise the fault in its place.

        At the end of the run the fault is raised behind the call: of what it would have put back there, nothing can be
        asked.
        """
        guards = self.engine._registry.vocabulary.guards.values()  # noqa: SLF001  # the words of all its machines
        hears, machine = word not in guards, self.engine.machine
        ends = word in {machine.outermost_end(state) for state in machine.states}

        def called(run: Run) -> Any:  # noqa: ANN401  # what the original gives
            at = len(self.seen.heard)
            try:
                due = self._due("callback")
                if due and not ends:
                    raise self.raise_now()  # noqa: TRY301  # it is raised in the place of the call
                answer = call(run)
                if due:
                    raise self.raise_now()  # noqa: TRY301  # and here behind it
            except BaseException as error:
                self.seen.calls.append(Called(who, word, at, hears, error))
                raise
            self.seen.calls.append(Called(who, word, at, hears))
            return answer

        return called

    def _due(self, where: str) -> bool:
        """Whether this moment is the one of the fault."""
        fault = self.case.fault
        if fault is None or fault.where != where or self.seen.fault is not None:
            return False
        number = self._moments[where] = self._moments.get(where, -1) + 1
        return number == fault.at

    def raise_now(self) -> BaseException:
        """The fault, made."""
        assert self.case.fault is not None, "only a case with a fault has a moment for one"
        self.seen.fault = self.case.fault.error("raised by the test")
        return self.seen.fault

    def failing(self, events: Mapping[str, Enum]) -> Callback:
        """A callback that raises the fault when an event is heard, before all others but the first."""

        def hear(_: object, __: Run) -> None:
            if self._due("event"):
                raise self.raise_now()

        return _callback("Fault", FIRST + 1, {f"on_{name}": hear for name in events if name != "exception"})

    def answering(self, guards: Mapping[str, Enum]) -> Callback:
        """A callback that answers every guard as the script says, before all others."""

        def answer(guard: Enum) -> Callable[[object, Run], bool]:
            def asked(_: object, __: Run) -> bool:
                if self._due("guard"):
                    raise self.raise_now()
                return self.answers(guard, {})

            return asked

        return _callback("Script", FIRST, {name: answer(guard) for name, guard in guards.items()})


def counted(run: Run) -> Counts:
    """The counters of a run, in the order of `Counter`."""
    return tuple(getattr(run, name_of(counter)) for counter in Counter)


def _writes(run: Run) -> int:
    """How often the weights of a run were written to, by torch's own count."""
    return sum(parameter._version for parameter in run.model.parameters())  # noqa: SLF001  # torch has no other name


def _callback(name: str, order: int, methods: Mapping[str, object]) -> Callback:
    made: Callback = type(name, (Callback,), {**methods, "order": order})()
    return made
