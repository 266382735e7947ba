"""Which extensions do the property tests draw?  Chains of insert, without and replace, sensible ones and nonsense."""

from collections.abc import Callable
from enum import Enum

from attrs import evolve
from hypothesis import strategies as st

from states import EVALUATION, PREDICTION, TRAINING, Machine, MachineRefused
from states.errors import ExtensionRefused


Mine = Enum("Mine", [f"{word}_{n}" for n in range(3) for word in ("PUT", "DONE_PUT", "SKIP_PUT")])
Heard = Enum("Heard", [f"PUT_{n}_{side}" for n in range(3) for side in ("BEGIN", "END")])

Extend = Callable[[Machine], Machine]


@st.composite
def insertions(draw: st.DrawFn, machine: Machine, number: int) -> Extend:
    """A new state somewhere, heard or not, skipped or not, holding a machine or not."""
    side = draw(st.sampled_from(["before", "after"]))
    at = draw(st.sampled_from(machine.states))
    pair = (Heard[f"PUT_{number}_BEGIN"], Heard[f"PUT_{number}_END"])
    events = draw(st.sampled_from([(), pair, pair[::-1]]))
    skip = draw(st.sampled_from([None, Mine[f"SKIP_PUT_{number}"]]))
    holds = draw(st.sampled_from([None, None, EVALUATION])) if machine.name.startswith("training") else None
    trigger = None if holds else Mine[f"DONE_PUT_{number}"]
    return lambda machine: machine.insert(
        Mine[f"PUT_{number}"],
        trigger,
        before=at if side == "before" else None,
        after=at if side == "after" else None,
        events=events,
        skip=skip,
        holds=holds,
    )


@st.composite
def losses(draw: st.DrawFn, machine: Machine) -> Extend:
    """A word, or a row, that goes."""
    words = (*machine.states, *machine.triggers, *machine.guards, *machine.events[:-1], *machine.rows)
    word = draw(st.sampled_from(words))
    return lambda machine: machine.without(word)


@st.composite
def changes(draw: st.DrawFn, machine: Machine) -> Extend:
    """A row that leads elsewhere, or hears something else, or comes twice."""
    row = draw(st.sampled_from(machine.rows))
    dest = draw(st.sampled_from(machine.states))
    heard = draw(st.sampled_from([row.heard, row.heard[::-1], row.heard[1:], (), machine.events[:1]]))
    return lambda machine: machine.replace({row: evolve(row, dest=dest, heard=heard)})


@st.composite
def extensions(draw: st.DrawFn) -> tuple[Machine, MachineRefused | None]:
    """A machine after some changes that were accepted, and what refused the last one, if a rule of `prove` did."""
    machine = draw(st.sampled_from([TRAINING, TRAINING, EVALUATION, PREDICTION]))
    for number in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(
                [insertions(machine, number), insertions(machine, number), losses(machine), changes(machine)]
            )
        )
        try:
            machine = draw(kind)(machine)
        except MachineRefused as refused:
            return machine, refused
        except ExtensionRefused:  # test_extend.py has each by example
            continue
    return machine, None
