"""Is the loop the table?  The compiled loop against the walk over the same rows, on machines of every shape."""

import gc
import linecache
import traceback
from collections.abc import Callable, Iterator, Sequence
from enum import Enum

import pytest
import torch
from attrs import evolve, field, frozen
from hypothesis import assume, event, given
from hypothesis import strategies as st
from torch import nn

from engine import Action, Callback, Run
from engine.errors import NotNested
from engine.listeners import Listener
from engine.running.asking import Asker
from engine.running.code import Code, choice
from engine.running.drive import drive, follow
from engine.running.link import Linked, ears_of, link
from engine.running.loop import source
from engine.running.prepare import Preparation
from engine.testing.mutation.changes import changes
from states import EVALUATION, PREDICTION, TRAINING, Count, Counter, Event, Machine, State, Transition, When
from states.errors import MachineRefused, TriggerRefused
from tests.engine.tools import Recorder, batches, hears, small_engine


Trail = list[object]


@frozen
class Script:
    """What every action reports and every guard answers, by how often it was asked; the stops say yes in the end."""

    choices: Sequence[int]
    patience: int
    fault: int  # at which asking of an action it raises; never if negative
    sure: bool = False  # whether the loop takes the word of the actions

    def asked(self) -> Callable[[], int]:
        """A number for each asking."""
        numbers = iter([*self.choices * self.patience][: self.patience])
        return lambda: next(numbers, -1)


@frozen(eq=False)
class Played:
    """A machine with actions and guards that only follow a script, and write down what happens."""

    machine: Machine
    script: Script
    trail: Trail = field(factory=list)

    def linked(self, *, checked: bool = False) -> Linked:
        asked, left = self.script.asked(), [self.script.fault]

        def act(state: Enum, triggers: Sequence[Enum]) -> Callable[[Run], Enum]:
            def action(run: Run) -> Enum:
                self.trail.append(run.state)
                left[0] -= 1
                if left[0] == -1:
                    raise RuntimeError(state)
                return triggers[asked() % len(triggers)]

            return action

        def answer(guard: Enum) -> Callable[[Run], bool]:
            def said(run: Run) -> bool:
                self.trail.append((guard, run.state))
                number = asked()
                return number % 3 == 0 if number >= 0 else guard.name.startswith("STOP")

            return said

        def hear(event: Enum) -> Callable[[Run], None]:
            return lambda run: self.trail.append(
                (event, run.state, run.epoch, run.batch_index, run.updates, run.recent)
            )

        machine = self.machine
        reported = {s: [t for source, t in machine.groups if source is s] for s in machine.states}
        acts = {
            state: Action(act(state, triggers), tuple(triggers), sure=self.script.sure)
            for state, triggers in reported.items()
            if triggers and None not in triggers
        }
        listener = Listener(
            "Ear", None, {e: hear(e) for e in machine.events}, {guard: answer(guard) for guard in machine.guards}
        )
        return link(machine, acts, ears_of([listener]), Asker([listener], [], trains=True), checked=checked)

    def run(self) -> Run:
        model = nn.Linear(1, 1)
        return Run(
            machine=self.machine,
            model=model,
            device=torch.device("cpu"),
            loss_fn=None,
            optimizer=None,
            loader=[],
            state=self.machine.initial,
        )

    def by(
        self, loop_of: Callable[[Linked], Callable[[Run], None]], *, checked: bool = False
    ) -> tuple[Trail, str, list[Transition]]:
        linked, run = self.linked(checked=checked), self.run()
        error = ""
        try:
            drive(run, linked, loop_of(linked))
        except RuntimeError as raised:
            error = str(raised)
        return [*self.trail, run.outcome, run.state, run.stopping], error, list(run.recent)


def walked(machine: Machine, script: Script, *, checked: bool = False) -> tuple[Trail, str, list[Transition]]:
    return Played(machine, script).by(lambda linked: lambda run: follow(run, linked), checked=checked)


def looped(machine: Machine, script: Script) -> tuple[Trail, str, list[Transition]]:
    return Played(machine, script).by(lambda linked: source(linked).compiled())


scripts = st.builds(
    Script,
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.integers(1, 40),
    st.integers(-1, 30),
    st.booleans(),
)

S = Enum("S", [f"S{n}" for n in range(7)])
T = Enum("T", ["A", "B", "C"])
G = Enum("G", ["STOP_HERE", "SKIP_ONE", "SKIP_TWO"])


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Any shape: every state leads anywhere, cycles are entered where it happens; a stop leads out of each group."""
    states = list(S)[: draw(st.integers(1, 7))]
    rows = [Transition(State.IDLE, T.A, None, states[0])]
    for state in states:
        triggers = draw(st.just([None]) | st.lists(st.sampled_from(list(T)), min_size=1, unique=True))
        for trigger in triggers:
            guards = draw(st.lists(st.sampled_from([G.SKIP_ONE, G.SKIP_TWO]), unique=True))
            dests = draw(st.lists(st.sampled_from([*states, State.DONE]), min_size=3, max_size=3))
            rows.append(Transition(state, trigger, G.STOP_HERE, State.DONE))
            rows += [
                Transition(state, trigger, guard, dest) for guard, dest in zip([*guards, None], dests, strict=False)
            ]
    try:
        return Machine(name="any shape", initial=State.IDLE, finals=(State.DONE,), rows=rows)
    except MachineRefused:
        assume(False)  # a cycle without an action, or a state that no row leads to
        raise


@given(machines(), scripts)
def test_the_loop_of_any_machine_does_what_its_walk_does(machine: Machine, script: Script) -> None:
    """Irreducible shapes have no loop; all others take the same rows, ask the same guards and end in the same way."""
    compare(machine, script)


def compare(machine: Machine, script: Script) -> None:
    """The walk, the walk that asks pytransitions, and the loop where there is one: what is heard, seen and taken."""
    assert walked(machine, script) == walked(machine, script, checked=True)
    try:
        found = looped(machine, script)
    except NotNested:
        event("not nested")
        return
    event("nested")
    assert found == walked(machine, script)


def accepted(machine: Machine) -> Iterator[Machine]:
    for mutant in changes(machine):
        try:
            yield mutant.build()
        except MachineRefused:
            continue


MUTANTS = [machine for built_in in (TRAINING, EVALUATION, PREDICTION) for machine in accepted(built_in)]


@given(st.sampled_from([TRAINING, EVALUATION, PREDICTION, *MUTANTS]), scripts)
def test_the_loop_of_a_changed_table_does_what_its_walk_does(machine: Machine, script: Script) -> None:
    """Scopes, counters and what is heard first come in here."""
    compare(machine, script)


def test_nearly_all_changed_tables_nest() -> None:
    """What the property above compares is not a handful of machines."""
    nested = 0
    for machine in MUTANTS:
        try:
            source(Played(machine, Script([0], 1, -1)).linked())
            nested += 1
        except NotNested:
            continue
    assert nested > 0.9 * len(MUTANTS) > 500


@pytest.mark.parametrize("machine", [TRAINING, EVALUATION, PREDICTION], ids=lambda machine: machine.name)
def test_a_loop_in_which_everyone_answers_has_every_row_and_a_while_for_every_cycle(machine: Machine) -> None:
    text = source(Played(machine, Script([0], 1, -1)).linked()).text
    assert all(f"# {row}\n" in text for row in machine.rows)
    assert text.count("while True:") == {"training": 2}.get(machine.name, 1)


def test_a_guard_that_nobody_answers_and_an_event_that_nobody_hears_leave_no_line() -> None:
    text = small_engine().source()
    assert "skip_batch" not in text
    assert "on_batch_begin" not in text
    answered = small_engine(type("Skips", (Callback,), {"skip_batch": lambda self, run: False})()).source()
    assert "            if skip_batch(run):  # asks Skips\n" in answered


def test_the_loop_shows_who_listens_by_name_and_filter() -> None:
    engine = small_engine(Recorder())
    engine.on("epoch_end", every=2)(report)
    text = engine.source()
    assert "Recorder_2_on_batch_begin(run)\n" in text
    assert "report_on_epoch_end(run)  # every 2\n" in text


def report(run: Run) -> None:
    """A function that listens."""


def test_a_traceback_leads_through_the_lines_of_the_loop() -> None:
    def fail(run: Run) -> None:
        message = "on purpose"
        raise ValueError(message)

    engine = small_engine(hears("step_end", fail))
    with pytest.raises(ValueError, match="on purpose") as raised:
        engine.fit(batches(1))
    frames = traceback.extract_tb(raised.value.__traceback__)
    lines = [frame.line for frame in frames if frame.filename.startswith("<stateloop: training")]
    assert lines == ["Hears_on_step_end(run)"]
    assert ", at Hears_on_step_end(run); its last" in raised.value.__notes__[0]


def test_the_note_of_a_death_in_a_validation_names_a_line_of_each_loop() -> None:
    def fail(run: Run) -> None:
        message = "on purpose"
        raise ValueError(message)

    with pytest.raises(ValueError, match="on purpose") as raised:
        small_engine(hears("validate_loss_end", fail)).fit(batches(1), batches(1))
    inner, outer = raised.value.__notes__
    assert ", at Hears_on_validate_loss_end(run); its last" in inner
    assert ", at trigger = validate(run); its last" in outer


def test_the_note_of_a_run_that_follows_its_table_names_no_line_of_another_loop() -> None:
    inner = small_engine(hears("loss_end", lambda run: 1 / 0))
    engine = small_engine(hears("batch_begin", lambda run: inner.fit(batches(1))), checked=True)
    with pytest.raises(ZeroDivisionError) as raised:
        engine.fit(batches(1))
    assert [", at " in note for note in raised.value.__notes__] == [True, False]


@pytest.mark.parametrize("checked", [False, True])
def test_what_a_failed_run_did_last_is_kept(checked: bool) -> None:
    """Those of its way that it had not come to are not among them."""

    def fail(run: Run) -> None:
        seen.extend(map(str, run.recent))
        raise KeyboardInterrupt

    seen: list[str] = []
    engine = small_engine(hears("loss_end", fail), checked=checked)
    with pytest.raises(KeyboardInterrupt) as raised:
        engine.fit(batches(1))
    assert list(map(str, engine.last_run.recent)) == seen
    assert raised.value.__notes__[0].split("\n    ")[1:] == seen
    assert seen[-1] == "forward output_ready -> loss: forward_end, loss_begin"
    assert len(seen) == 6


def test_one_text_is_kept_once_however_often_it_runs() -> None:
    engine = small_engine()
    engine.fit(batches(1), batches(1), epochs=2)
    before = len(linecache.cache)
    for _ in range(3):
        engine.fit(batches(1), batches(1), epochs=2)
    assert len(linecache.cache) == before


def test_lines_that_somebody_has_cleared_are_there_again_with_the_next_run() -> None:
    engine = small_engine()
    engine.fit(batches(1))
    linecache.clearcache()
    engine.fit(batches(1))
    assert any(name.startswith("<stateloop: training") for name in linecache.cache)


def test_texts_that_nobody_runs_any_more_are_let_go() -> None:
    """As many as there may be: a debugger needs the lines of the loops that can still run."""
    for number in range(100):
        engine = small_engine(machine=evolve(TRAINING, name=f"passing {number}"))
        loop = source(Preparation(engine._kit, (), [], trains=True).linked(engine.machine)).compiled()
    del engine
    gc.collect()
    kept = [name for name in linecache.cache if name.startswith("<stateloop: passing_")]
    assert len(kept) <= 64
    assert linecache.getlines(loop.__code__.co_filename)[0] == "def passing_99(run):\n"


ODD = Enum("ODD", {"a b": 1, "c\nraise SystemExit": 2, "class": 3, "1": 4, "run": 5, "remember": 6, "Größe": 7})


def test_names_that_are_no_identifiers_become_some_and_nothing_of_them_is_run() -> None:
    odd = list(ODD)
    rows = [
        Transition(odd[0], odd[4], G.STOP_HERE, State.DONE),
        Transition(odd[0], odd[4], odd[6], odd[1]),
        Transition(odd[0], odd[4], None, odd[2]),
        Transition(odd[1], odd[5], None, odd[0]),
        Transition(odd[2], odd[3], None, odd[0]),
    ]
    machine = Machine(name="import os\nos.abort()", initial=odd[0], finals=(State.DONE,), rows=rows)
    script = Script([0, 1, 2, 4, 5], 30, -1)
    assert looped(machine, script) == walked(machine, script)

    def odd_one(run: Run) -> None:
        """Has a name that would end the line that it stands in."""

    odd_one.__name__ = "x(run)\nraise SystemExit  #"
    engine = small_engine()
    engine.on("batch_end")(odd_one)
    assert engine.fit(batches(2)).batches_done == 2


def test_two_callbacks_of_one_name_are_two_names_in_the_loop() -> None:
    heard: list[str] = []

    def make(name: str) -> Callable[[Run], None]:
        def listener(run: Run) -> None:
            heard.append(name)

        return listener

    engine = small_engine()
    for name in ("first", "second"):
        engine.on("epoch_end")(make(name))
    engine.fit(batches(1))
    assert heard == ["first", "second"]


# Two states that lead into each other, entered at both: no nested loops come to that.
CROSSED = Machine(
    name="crossed",
    initial=S.S0,
    finals=(State.DONE,),
    rows=[
        Transition(S.S0, T.A, None, S.S1),
        Transition(S.S0, T.B, None, S.S2),
        Transition(S.S1, T.A, G.STOP_HERE, State.DONE),
        Transition(S.S1, T.A, None, S.S2),
        Transition(S.S2, T.A, G.STOP_HERE, State.DONE),
        Transition(S.S2, T.A, None, S.S1),
    ],
)


def test_a_cycle_that_is_entered_at_two_states_has_no_loop() -> None:
    with pytest.raises(
        NotNested, match=r"the machine 'crossed' goes from .* back to .*, round a cycle that is entered elsewhere"
    ):
        source(Played(CROSSED, Script([0], 1, -1)).linked())


class Abort(Enum):
    """A guard of the user's own."""

    SKIP_REST = "skip_rest"


def test_a_machine_that_does_not_nest_is_walked_to_the_same_end() -> None:
    """From inside the batch loop straight to the next epoch: a jump that Python's loops do not have."""
    out = Transition(State.STEP, None, Abort.SKIP_REST, State.TRAIN, (Event.BATCH_END, Event.EPOCH_END))
    rows = []
    for row in TRAINING.rows:
        if row.source is State.STEP and not any(r.guard is Abort.SKIP_REST for r in rows):
            rows.append(Transition(out.source, row.trigger, out.guard, out.dest, out.heard, row.first))
        rows.append(row)
    machine = Machine(
        name="restless",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=rows,
        counts=TRAINING.counts,
        holds=TRAINING.holds,
    )
    recorder = Recorder()
    engine = small_engine(recorder, type("Rests", (Callback,), {"skip_rest": _on_the_third})(), machine=machine)
    with pytest.raises(NotNested, match="the machine 'restless' goes back to train from inside another loop"):
        engine.source()
    run = engine.fit(batches(4), epochs=2)
    assert (run.epoch, run.batches_done) == (2, 6)
    assert recorder.events.count("epoch_end") == 2


def _on_the_third(_: object, run: Run) -> bool:
    return run.batch_index == 2


def test_a_report_that_no_row_takes_is_refused_in_the_loop_and_in_the_walk() -> None:
    for checked in (False, True):
        engine = small_engine(actions={State.FORWARD: lambda run: State.LOSS}, checked=checked)
        with pytest.raises(TriggerRefused, match="the action of forward reported loss in forward"):
            engine.fit(batches(1))


def test_a_choice_of_conditions_reads_as_one_would_write_it() -> None:
    jump, work, nothing = Code(("return",), falls=False), Code(("work()",)), Code()
    assert choice([("a:", work)], nothing).lines == ("if a:", "    work()")
    assert choice([("a:", nothing)], work).lines == ("if a:", "    pass", "else:", "    work()")
    assert choice([("a:", jump), ("b:", jump)], jump).falls is False
    mixed = choice([("a:", work), ("b:", jump)], work)
    assert mixed.lines == ("if a:", "    work()", "else:", "    if b:", "        return", "    work()")


def test_a_counter_that_a_run_has_not_is_refused() -> None:
    for counter, by in ((Event.STOP, 1), (Counter.EPOCH, "1\nraise SystemExit")):
        with pytest.raises(MachineRefused, match="a word is unknown"):
            Machine(
                name="odd",
                initial=S.S0,
                finals=(State.DONE,),
                rows=[Transition(S.S0, T.A, None, State.DONE)],
                counts=[Count(counter, by, When.BEFORE, T.A)],
            )


def chain(length: int, *, back: bool) -> Machine:
    """States one after the other; with `back`, each also leads back to itself and to the one before: loops in loops."""
    states = list(Enum("Link", [f"L{n}" for n in range(length)]))
    rows = [Transition(State.IDLE, T.A, None, states[0])]
    for before, state, after in zip([None, *states], states, [*states[1:], State.DONE], strict=False):
        rows.append(Transition(state, T.A, G.STOP_HERE, State.DONE))
        if back and before is not None:
            rows.append(Transition(state, T.A, G.SKIP_ONE, before))
        rows.append(Transition(state, T.A, None, after))
    return Machine(name="chain", initial=State.IDLE, finals=(State.DONE,), rows=rows)


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("length", [3, 15, 25, 90, 95, 98, 150])
def test_a_long_or_deep_machine_has_a_loop_that_python_takes_or_none(length: int, back: bool) -> None:
    """Python allows twenty loops in each other and a hundred indents; the writer itself must not run out of stack."""
    machine, script = chain(length, back=back), Script([1, 2, 4], 60, -1)
    try:
        found = looped(machine, script)
    except NotNested:
        assert length > 60 or back
    else:
        assert found == walked(machine, script)
