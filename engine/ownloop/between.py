"""Where is a run of the user's own loop: between two batches, or within one?  Told from the linked rows."""

from collections.abc import Iterator

from engine.running.link import LinkedState
from states import Trigger
from states.names import OF_THE_EPOCH


def inside_of(between: LinkedState) -> frozenset[LinkedState]:
    """The states in which a batch is open, told from where a run is between two of them."""
    ready, other = ({*_beyond(between, batch=batch)} for batch in (True, False))
    return frozenset(ready - other - {between})


def _beyond(between: LinkedState, *, batch: bool) -> Iterator[LinkedState]:
    """What is reached from between two batches before the next, by a batch that was drawn, or without one."""
    ways, seen = [(between, not batch)], {(between, not batch)}
    for state, counted in ways:
        if counted:
            yield state
        for group in state.groups:
            drawn = group.trigger is Trigger.BATCH_READY
            if drawn and not batch:
                continue
            for row in group.rows:
                way = (row.dest, counted or drawn)
                if row.dest is not between and way not in seen:
                    seen.add(way)
                    ways.append(way)


def stops_epoch(here: LinkedState) -> bool:
    """Whether it is asked there whether to end the pass over the loader."""
    return any(row.transition.guard in OF_THE_EPOCH for group in here.groups for row in group.rows)


def ahead(start: LinkedState) -> Iterator[LinkedState]:
    """The states of the user's code that come next where every guard says no, through those of the engine."""
    ways, seen = [start], {start.state}
    while ways:
        state = ways.pop()
        if state is not start and state.waits:
            if state.action is not None:
                yield state
            continue
        for row in (group.rows[-1] for group in state.groups):
            if row.dest.state not in seen:
                seen.add(row.dest.state)
                ways.append(row.dest)
