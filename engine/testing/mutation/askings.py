"""How can the asking of a guard be broken?  Nobody is asked, others are, or what is answered is not what counts."""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from attrs import evolve, field, frozen

from engine.listeners import Listener
from engine.run import Run
from engine.running.asking import Ask, Asker
from engine.running.link import Linked
from engine.testing.mutation.change import goes_round
from engine.testing.mutation.linking import Broken, Linking, Put
from states import Machine, Transition
from states.names import name_of


def broken_askings(machine: Machine, guard: Enum) -> Iterator[Broken]:
    """All of them for a guard of a machine."""
    name = name_of(guard)
    if not goes_round(machine.rows, unasked=guard):
        yield "a guard is not asked", name, _asked(guard, lambda _, __: None), guard
    for family, bend in _ANSWERS.items():
        yield family, name, _asked(guard, _answers(bend)), guard
    yield "a guard is asked in reverse order", name, _asked_of(guard, lambda answer: answer[::-1]), guard
    yield "a guard is asked of the first callback alone", name, _asked_of(guard, lambda answer: answer[:1]), guard
    if any(row.guard is guard for row in machine.stops):
        yield "a stop is not kept", name, _asked(guard, _answers(_not_kept)), guard


@frozen(eq=False)
class _Bent(Asker):
    """Asks as another asker does, but for one thing."""

    original: Asker = field(kw_only=True)
    bend: Callable[[Transition, Ask], Ask | None] = field(kw_only=True)

    def ask(self, row: Transition) -> Ask | None:
        ask = self.original.ask(row)
        return None if ask is None else self.bend(row, ask)


def _asked(guard: Enum, bend: Callable[[Transition, Ask], Ask | None]) -> Put:
    """A guard is asked in another way."""

    def bent(row: Transition, ask: Ask) -> Ask | None:
        return bend(row, ask) if row.guard is guard else ask

    def put(given: Linking) -> Linked:
        asker = given.asker
        around = _Bent(asker.listeners, asker.tallies, asker.trains, original=asker, bend=bent)
        return evolve(given, asker=around).link()

    return put


def _asked_of(guard: Enum, choose: Callable[[list[Listener]], list[Listener]]) -> Put:
    """A guard is asked of others, or in another order."""

    def put(given: Linking) -> Linked:
        asker = given.asker
        answer = [listener for listener in asker.listeners if guard in listener.answers]
        other = Asker(choose(answer), asker.tallies, asker.trains)
        return _asked(guard, lambda row, _: other.ask(row))(given)

    return put


Answered = Callable[[Ask, Run], bool]


def _answers(bend: Answered) -> Callable[[Transition, Ask], Ask]:
    """An asking that is replaced by another one; it is made whether or not `run.stop` was called."""
    return lambda _, ask: evolve(ask, do=lambda run: bend(ask, run), wish="")


def _ignored(ask: Ask, run: Run) -> bool:
    ask.do(run)
    return False


def _turned(ask: Ask, run: Run) -> bool:
    return not ask.do(run)


def _twice(ask: Ask, run: Run) -> bool:
    return ask.do(run) and ask.do(run)


def _not_recorded(ask: Ask, run: Run) -> bool:
    stops, counts = len(run.stops), [(tally, tally.count) for tally in run.tallies]
    answer = ask.do(run)
    del run.stops[stops:]
    for tally, count in counts:
        tally.count = count
    return answer


def _not_kept(ask: Ask, run: Run) -> bool:
    answer = ask.do(run)
    if answer:
        for held in (run, *run.around):
            held.stopping, held.wish.reason = False, None
    return answer


_ANSWERS: Mapping[str, Answered] = {
    "a yes is ignored": _ignored,
    "an answer is turned round": _turned,
    "a guard is asked again after its yes": _twice,
    "a yes is not recorded": _not_recorded,
}
