"""How is a guard asked?  One function for all who answer it, which records who said yes."""

from collections.abc import Sequence
from enum import Enum

from attrs import field, frozen

from engine.errors import GuardRefused
from engine.listeners import Answer, Listener
from engine.outcome import ASKED, Tally, Verdict
from engine.run import Run, Wish
from states import Guard, Transition
from states.errors import shown, typed
from states.names import OF_THE_EPOCH, is_stop, name_of


@frozen(eq=False)
class Ask:
    """The guard of one row, with all who answer it.

    Attributes:
        do: Asks them in order, until the first yes.
        name: The guard's name.
        who: Those who are asked, for people; `run.stop`, if nobody else is.
        wish: The field of the run that `run.stop` fills, where nobody else answers: unless it did, the answer is no.
    """

    do: Answer
    name: str
    who: tuple[str, ...] = ()
    wish: str = ""


@frozen(eq=False)
class Asker:
    """Makes an `Ask` for each guarded row of a run and of those it holds.

    Attributes:
        listeners: Everyone, in order.
        tallies: Where skips are counted.
        trains: Where nothing trains, callbacks are not asked `stop_training`: what stopped a training must not stop
            its test.
    """

    listeners: Sequence[Listener]
    tallies: list[Tally]
    trains: bool
    # One tally for each guard and callback, however many rows ask it.
    _tallied: dict[tuple[Enum, str], Tally] = field(init=False, factory=dict)

    def ask(self, row: Transition) -> Ask | None:
        """What asks all who answer the guard of a row, until the first yes; `None` if it has none, or nobody does."""
        guard = row.guard
        if guard is None:
            return None
        answers = [
            (listener.label, listener.answers[guard]) for listener in self.listeners if guard in listener.answers
        ]
        if is_stop(guard):
            return _ask_stop(row, guard, answers if self.trains or guard is not Guard.STOP_TRAINING else ())
        return self._ask_skip(row, guard, answers) if answers else None

    def _ask_skip(self, row: Transition, guard: Enum, answers: Sequence[tuple[str, Answer]]) -> Ask:
        tallied = [(answer, self.tally(guard, who, row)) for who, answer in answers]

        def ask(run: Run) -> bool:
            for answer, tally in tallied:
                verdict = answer(run)
                if verdict is True:
                    tally.note(row, run.epoch, run.batch_index, run.updates)
                    return True
                if verdict is not False:
                    raise _no_bool(tally.who, guard, verdict)
            return False

        return Ask(ask, name_of(guard), tuple(who for who, _ in answers))

    def tally(self, guard: Enum, who: str, row: Transition) -> Tally:
        """Where the skips of one callback by one guard are counted."""
        if (guard, who) not in self._tallied:
            self._tallied[guard, who] = Tally(guard, who, row)
            self.tallies.append(self._tallied[guard, who])
        return self._tallied[guard, who]


def _ask_stop(row: Transition, guard: Enum, answers: Sequence[tuple[str, Answer]]) -> Ask:
    """`run.stop` is the first to answer, and a yes is recorded in full.

    A wish that was granted stays, and answers `stop_training` again; not the guards of a user's own, which may be asked
    in what comes behind a stop.
    """
    wish, latched = "epoch_wish" if guard in OF_THE_EPOCH else "wish", guard is Guard.STOP_TRAINING

    def ask(run: Run) -> bool:
        asked: Wish = getattr(run, wish)
        if asked.reason is not None and asked.epoch in (-1, run.epoch) and (latched or not run.stopping):
            return _granted(run, row, guard, ASKED, asked.reason)
        for who, answer in answers:
            verdict = answer(run)
            if verdict is True:
                return _granted(run, row, guard, who, f"{who} answered {name_of(guard)}")
            if verdict is not False:
                raise _no_bool(who, guard, verdict)
        return False

    who = tuple(who for who, _ in answers)
    return Ask(ask, name_of(guard), who or (ASKED,), "" if answers else wish)


def _granted(run: Run, row: Transition, guard: Enum, who: str, reason: str) -> bool:
    """Record a stop.  One of the whole run is latched, and recorded once; any other is done with."""
    latched = guard is Guard.STOP_TRAINING
    run.stopping = run.stopping or latched or row in run.machine.stops
    if latched and any(verdict.guard is guard for verdict in run.stops):
        return True
    run.stops.append(Verdict(guard, who, row, reason, run.epoch, run.batch_index, run.updates))
    if guard in OF_THE_EPOCH:
        run.epoch_wish.reason = None
    if latched:
        run.wish.reason = reason
        for outer in run.around:  # it is one of theirs too: `prove` has asked for a row that takes it
            outer.stopping = True
    elif run.stopping and run.parent is None:  # what comes behind is asked for, and not to be stopped
        run.wish.reason = None
    return True


def _no_bool(who: str, guard: Enum, verdict: object) -> GuardRefused:
    return GuardRefused(
        f"{who} answered the guard {name_of(guard)} with {shown(verdict)}, {typed(verdict)}",
        allowed="True, False",
        instead="wrap what numpy or another library compares in bool(...); a branch without a return gives None; a "
        "tensor is better not asked at all: reading it waits for its device",
    )
