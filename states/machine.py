"""What is a machine?  Rows with an initial and final states, proved when they are put together."""

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cached_property, partial
from types import MappingProxyType

from attrs import evolve, field, frozen

from states.names import OF_THE_EPOCH, Event, State, Trigger, is_stop, name_of
from states.proof import Proof, examine
from states.rows import Count, Transition


def _states(states: Iterable[Enum]) -> tuple[Enum, ...]:
    return tuple(states)


def _rows(rows: Iterable[Transition]) -> tuple[Transition, ...]:
    return tuple(rows)


def _counts(counts: Iterable[Count]) -> tuple[Count, ...]:
    return tuple(counts)


def _read_only(holds: Mapping[Enum, "Machine"]) -> Mapping[Enum, "Machine"]:
    return MappingProxyType(dict(holds))


@frozen(slots=False, kw_only=True)
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
