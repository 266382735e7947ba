"""What is a machine?  Rows with an initial and final states, proved when they are put together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cached_property, partial
from types import MappingProxyType

from attrs import evolve, field, frozen

from states.errors import ExtensionRefused
from states.extend import found, inserted_after, inserted_before, insertion, replaced
from states.language import language
from states.names import OF_THE_EPOCH, Event, State, Trigger, is_stop, name_of
from states.order import Order
from states.proof import Proof, examine
from states.rows import Count, Transition
from states.without import without


def _states(states: Iterable[Enum]) -> tuple[Enum, ...]:
    return tuple(states)


def _rows(rows: Iterable[Transition]) -> tuple[Transition, ...]:
    return tuple(rows)


def _counts(counts: Iterable[Count]) -> tuple[Count, ...]:
    return tuple(counts)


def _read_only(holds: Mapping[Enum, "Machine"]) -> Mapping[Enum, "Machine"]:
    return MappingProxyType(dict(holds))


@frozen(slots=False, kw_only=True, cache_hash=True)
class Machine:
    """A table with its initial and final states.

    `holds` gives the machine that runs inside a state; `gradients` says whether forward and loss record gradients
    (and whether the model is in training or evaluation mode).  Building a machine proves it.

    Raises:
        MachineRefused: with all the rules that it breaks, each with the shortest path that shows it.

    Example:
        >>> from states import TRAINING, State
        >>> for row in TRAINING.rows_from(State.STOPPING):
        ...     print(row)
        stopping -> done: train_end
    """

    name: str
    initial: Enum
    finals: tuple[Enum, ...] = field(converter=_states)
    rows: tuple[Transition, ...] = field(converter=_rows, repr=False)
    counts: tuple[Count, ...] = field(default=(), converter=_counts, repr=False)
    holds: Mapping[Enum, "Machine"] = field(factory=dict, converter=_read_only, repr=False, hash=False)
    gradients: bool = True

    # What was proved when the machine was built.
    proof: Proof = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Prove the machine; a refused one never exists."""
        object.__setattr__(self, "proof", examine(self))

    @cached_property
    def states(self) -> tuple[Enum, ...]:
        """Every state, in the order of the rows; the deaths' states are not among them."""
        return tuple(dict.fromkeys((self.initial, *(s for row in self.rows for s in (row.source, row.dest)))))

    @cached_property
    def triggers(self) -> tuple[Enum, ...]:
        """Every trigger, in the order of the rows."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows if row.trigger))

    @cached_property
    def guards(self) -> tuple[Enum, ...]:
        """Every guard, in the order of the rows."""
        return tuple(dict.fromkeys(row.guard for row in self.rows if row.guard))

    @cached_property
    def events(self) -> tuple[Enum, ...]:
        """Every event, in the order of the rows; `exception` last, since any state can die."""
        return tuple(dict.fromkeys((*(event for row in self.rows for event in row.events), Event.EXCEPTION)))

    @cached_property
    def groups(self) -> Mapping[tuple[Enum, Enum | None], tuple[Transition, ...]]:
        """The rows that compete, by (source, trigger), in row order."""
        groups: dict[tuple[Enum, Enum | None], tuple[Transition, ...]] = {}
        for row in self.rows:
            groups[row.group] = (*groups.get(row.group, ()), row)
        return MappingProxyType(groups)

    @cached_property
    def stops(self) -> frozenset[Transition]:
        """The rows that stop a run for good: those of a stop guard, to where no cycle can be reached any more.

        What ends a pass over the loader stops a run if it leads to its end at once: where something is still to be
        done behind it, a validation say, the run is not stopped.
        """
        quiet = set(self.finals)
        while more := {s for s in self.states if all(row.dest in quiet for row in self.rows_from(s))} - quiet:
            quiet |= more
        stops = (row for row in self.rows if row.guard and is_stop(row.guard))
        return frozenset(row for row in stops if row.dest in (self.finals if row.guard in OF_THE_EPOCH else quiet))

    @property
    def within(self) -> "tuple[Machine, ...]":
        """The machines that its states hold, and those that they hold, at any depth."""
        return tuple(machine for held in self.holds.values() for machine in (held, *held.within))

    def __reduce__(self) -> tuple[Callable[[], "Machine"], tuple[()]]:
        """Copy and pickle a machine by its parts; it is proved again."""
        parts = {name: getattr(self, name) for name in ("name", "initial", "finals", "rows", "counts", "gradients")}
        return partial(Machine, holds=dict(self.holds), **parts), ()

    def rows_from(self, state: Enum) -> tuple[Transition, ...]:
        """The rows of one state."""
        return tuple(row for row in self.rows if row.source is state)

    def decides(self, state: Enum) -> bool:
        """Whether a state decides (its rows have no trigger) rather than reports."""
        return (state, None) in self.groups

    def outermost_end(self, state: Enum) -> Enum | None:
        """The event that ends the outermost scope open in `state`, if one is open."""
        scopes = self.proof.scopes.get(state, ())
        return next((e for e in self.events if scopes and name_of(e) == f"{scopes[0]}_end"), None)

    @cached_property
    def deaths(self) -> tuple[Transition, ...]:
        """The rows of an exception and of Ctrl-C: from every state but the initial and the final ones."""
        ways = ((Trigger.ERROR_RAISED, State.FAILED), (Trigger.INTERRUPT, State.INTERRUPTED))
        return tuple(
            Transition(state, trigger, None, dest, heard=(Event.EXCEPTION, end) if end else (Event.EXCEPTION,))
            for state in self.states
            if state is not self.initial and state not in self.finals
            for end in (self.outermost_end(state),)
            for trigger, dest in ways
        )

    @cached_property
    def departures(self) -> tuple[Transition, ...]:
        """The rows of a run that is left early by the code around it, where no stop can be asked for.

        Whatever is open is abandoned, as in a death; only the outermost end is heard.
        """
        return tuple(
            evolve(row, trigger=Trigger.RUN_LEFT, dest=State.LEFT, heard=row.heard[1:])
            for row in self.deaths
            if row.trigger is Trigger.ERROR_RAISED
        )

    @cached_property
    def order(self) -> Order:
        """The order in which its events may be heard, read off the rows: whatever is reported, answered and raised.

        It follows an extension by itself.  It is no independent judge of them: a `Grammar` is, written by hand.

        Example:
            >>> from states import TRAINING, State
            >>> print(TRAINING.without(State.VALIDATE).order.judge(["train_begin", "epoch_begin", "validate_begin"]))
            ... # doctest: +NORMALIZE_WHITESPACE
            event 2, 'validate_begin', is not legal after train_begin, epoch_begin;
            legal there: batch_begin, epoch_end, exception, stop
        """
        return language(self)

    def row(self, source: Enum, trigger: Enum | None = None, guard: Enum | None = None) -> Transition:
        """The one row of a state, a trigger and a guard; what stands in no column is `None`.

        Raises:
            ExtensionRefused: there is no such row; lists the rows of the state.

        Example:
            >>> from states import TRAINING, Guard, State, Trigger
            >>> print(TRAINING.row(State.BACKWARD, Trigger.GRADS_READY, Guard.ACCUMULATE))
            backward grads_ready [accumulate] -> epoch: backward_end, batch_end
        """
        return found(self, source, trigger, guard)

    def insert(
        self,
        state: Enum,
        trigger: Enum | None = None,
        *,
        before: Enum | None = None,
        after: Enum | None = None,
        events: Sequence[Enum] = (),
        skip: Enum | None = None,
        holds: "Machine | None" = None,
        name: str | None = None,
    ) -> "Machine":
        """This machine with a new state on the way: its action runs, reports `trigger`, and the way goes on.

        Before a state, every row that led there leads to the new one.  What was heard on entering the old state is
        heard between the two; ends and `stop` are heard where they were, on the way into the new one.  After a state,
        the guards that were asked there are asked behind the new one.

        Args:
            state: A member of an enum of your own.
            trigger: What its action reports; of a state that holds a machine, *validated* if nothing else is said.
            before: The state that it comes before; or
            after: the state, with one trigger, that it comes after.
            events: None, or a pair: heard when the state is entered, and when it has reported.
            skip: A guard; at a yes, the state is passed over.
            holds: The machine that runs in it.  If that one can stop the whole run, a row takes the stop to where the
                other stops lead.
            name: What the new machine is called.

        Raises:
            ExtensionRefused: it cannot be put there, or not in this way.
            MachineRefused: the new table breaks a rule.

        Example:
            >>> from enum import Enum
            >>> from states import EVALUATION, TRAINING, State
            >>> Mine = Enum("Mine", "CLIP CLIPPED SKIP_CLIP PEEK SKIP_PEEK")
            >>> clipping = TRAINING.insert(Mine.CLIP, Mine.CLIPPED, before=State.STEP, skip=Mine.SKIP_CLIP)
            >>> for row in (*clipping.rows_from(State.AVERAGE), *clipping.rows_from(Mine.CLIP)):
            ...     print(row)
            average grads_averaged [skip_clip] -> step: step_begin
            average grads_averaged -> clip
            clip clipped -> step: step_begin
            >>> peeking = TRAINING.insert(Mine.PEEK, before=State.FETCH, holds=EVALUATION, skip=Mine.SKIP_PEEK)
            >>> for row in peeking.rows_from(Mine.PEEK):
            ...     print(row)
            peek validated -> fetch
            peek validation_stopped -> stopping: epoch_end
        """
        new = insertion(self, state, trigger, events=events, skip=skip, holds=holds)
        if before is not None and after is None:
            return inserted_before(self, new, before, name)
        if after is not None and before is None:
            return inserted_after(self, new, after, name)
        raise ExtensionRefused(
            f"{name_of(state)} is to be inserted, with {'neither' if before is None else 'both'} of before and after",
            allowed="one of the two",
            instead="say before=... or after=...",
        )

    def replace(
        self,
        rows: Mapping[Transition, Transition | Iterable[Transition]],
        *,
        counts: Iterable[Count] = (),
        holds: "Mapping[Enum, Machine] | None" = None,
        name: str | None = None,
    ) -> "Machine":
        """This machine with other rows at the places of some, all at once: half of a change may break a rule.

        Args:
            rows: For each row that goes, the row or rows that come instead; none drops it.
            counts: Counts to add.
            holds: Machines to add, by the state that holds them.
            name: What the new machine is called.

        Raises:
            ExtensionRefused: a row is none of this machine.
            MachineRefused: the new table breaks a rule.

        Example:
            >>> from attrs import evolve
            >>> from states import TRAINING, Guard, State
            >>> skipping = TRAINING.row(State.BATCH, guard=Guard.SKIP_BATCH)
            >>> heard = evolve(skipping, heard=())
            >>> TRAINING.replace({skipping: heard})
            Traceback (most recent call last):
                ...
            states.errors.MachineRefused: the machine 'training with other rows' breaks 1 rule(s):
              1. a state has a second stack of open scopes: epoch is reached with train > epoch > batch open, ...
        """
        return replaced(self, rows, counts, holds or {}, name)

    def without(self, *words: Enum | Transition, name: str | None = None) -> "Machine":
        """This machine without some words, and without what nothing leads to any more.

        A guard or a trigger goes with its rows, a row by itself.  An event is heard no more; the rows stay.  A state is
        passed over: the rows into it lead to where it led, and what was heard before and behind it is heard there; a
        begin that meets its own end is heard no more.  Counts of what is gone go, too.

        Raises:
            ExtensionRefused: this machine has no such word, or a state is left in several ways.
            MachineRefused: the new table breaks a rule.

        Example:
            >>> from states import TRAINING, Guard, State
            >>> short = TRAINING.without(State.VALIDATE, Guard.ACCUMULATE)
            >>> len(TRAINING.rows) - len(short.rows), short.name
            (4, 'training without validate, accumulate')
        """
        return without(self, words, name)
