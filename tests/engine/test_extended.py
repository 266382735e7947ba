"""Does a machine that comes out of another run as the built-in ones do?  The invariants, for random extensions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

import pytest
from attrs import evolve, frozen
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import PLAIN, Action, Callback, Engine, Run, Trigger
from engine.errors import CallbackRefused
from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from engine.testing.walked.extensions import Drawn, insertions
from states import EVALUATION, TRAINING, Event, Guard, Machine, MachineRefused, State, accepts
from states.errors import ExtensionRefused
from states.grammar import TRAINING_ORDER
from states.names import name_of
from states.walk import Plan
from tests.engine.ownloop import WAYS, fitted
from tests.engine.recording import Heard, Tiny, answers_by, batches, expected, hearings, hears_everything
from tests.engine.test_invariants import Fault, faulty, raised_by


LOST = [(State.VALIDATE,), *((guard,) for guard in TRAINING.guards), (Event.FORWARD_BEGIN, Event.FORWARD_END)]


@st.composite
def trainings(draw: st.DrawFn) -> Machine:
    """A training with up to three new states, some of which hold an evaluation, and perhaps without a word."""
    machine = TRAINING
    for _ in range(draw(st.integers(1, 3))):
        try:
            machine = draw(insertions(machine))(machine)
        except (ExtensionRefused, MachineRefused):  # tests/states/test_extend.py looks at these
            continue
    for words in draw(st.lists(st.sampled_from(LOST), max_size=1)):
        machine = machine.without(*words)
    return machine


@st.composite
def trained(draw: st.DrawFn) -> tuple[Machine, Plan]:
    """An extended training, and a plan with something to evaluate on where a new state asks for it."""
    machine, plan = draw(trainings()), draw(plans())
    if any(isinstance(state, Drawn) for state in machine.holds):
        return machine, evolve(plan, valid_batches=plan.valid_batches or 1)
    return machine, plan if machine.holds else evolve(plan, valid_batches=None)


def words(machine: Machine) -> tuple[list[Enum], list[Enum]]:
    """The events and the guards of a machine and of those that it holds."""
    inside = (machine, *machine.within)
    events = dict.fromkeys(event for one in inside for event in one.events)
    return list(events), list(dict.fromkeys(guard for one in inside for guard in one.guards))


def done(trigger: Enum) -> Callable[[Run], Enum]:
    return lambda run: trigger


def actions_of(machine: Machine) -> Mapping[Enum, Action]:
    """For each new state that holds nothing, an action that does nothing."""
    mine = [state for state in machine.states if isinstance(state, Drawn) and state not in machine.holds]
    reported = {state: machine.rows_from(state)[0].trigger for state in mine}
    return {state: Action(done(trigger), (trigger,)) for state, trigger in reported.items() if trigger}


def tiny(machine: Machine, plan: Plan, callbacks: Sequence[object], *, checked: bool = False) -> Tiny:
    return Tiny(plan, callbacks, checked, actions_of(machine), machine)


@frozen
class Told:
    """What a training leaves behind."""

    heard: list[tuple]
    weights: list
    stops: list[str]
    skips: list[str]


def told(
    machine: Machine, plan: Plan, script: Script, way: Callable[[Engine, Plan], Run] = fitted, *, checked: bool = False
) -> Told:
    log: list[Heard] = []
    events, known = words(machine)
    guards = [guard for guard in known if name_of(guard) in script.yes]  # others are answered by nobody
    ear = hears_everything("Ear", log, events=events)()
    ran = tiny(machine, plan, [ear, *([answers_by(script.answers(), guards)] if guards else [])], checked=checked)
    run = way(ran.engine, plan)
    weights = [weight.tolist() for weight in ran.weights]
    heard = [(heard.event, heard.state, heard.counters) for heard in log]
    return Told(heard, weights, list(map(str, run.stops)), list(map(str, run.skips)))


@given(trained(), st.data())
def test_an_extended_training_is_heard_as_its_table_says_by_whatever_drives_it(
    drawn: tuple[Machine, Plan], data: st.DataObject
) -> None:
    """Invariants 2, 3, 4, 6 and 7: the loop, pytransitions, the stepper and the reference walk, one by one."""
    machine, plan = drawn
    script = data.draw(scripts(machine, max_askings=6))
    said = hearings(expected(plan, script.answers(), machine))
    fit = told(machine, plan, script)
    assert fit.heard == [(hearing.event, hearing.state, hearing.counters) for hearing in said]
    assert told(machine, plan, script, checked=True) == fit
    for way in WAYS.values():
        assert told(machine, plan, script, way) == fit


@given(trained(), st.data())
def test_what_an_extended_training_lets_hear_is_legal_and_so_is_what_it_was_before(
    drawn: tuple[Machine, Plan], data: st.DataObject
) -> None:
    """Invariant 1, by the order read off its rows; and, new words left out, by the grammar written for TRAINING."""
    machine, plan = drawn
    trace = [event for event, *_ in told(machine, plan, data.draw(scripts(machine, max_askings=6))).heard]
    assert machine.order.judge(trace).legal
    assert all(machine.order.judge(trace[:length]).prefix for length in range(len(trace)))
    if any(isinstance(state, Drawn) for state in machine.holds):
        return  # a second validation is no new word, and TRAINING has no place for it
    assume({Event.FORWARD_BEGIN, Event.FORWARD_END} <= {*machine.events})
    assert accepts([event for event in trace if isinstance(event, Event)], TRAINING_ORDER)


@given(trained(), st.data(), st.integers(0, 120), st.sampled_from(["event", "guard"]), st.booleans())
def test_an_extended_training_dies_in_the_one_way(
    drawn: tuple[Machine, Plan], data: st.DataObject, at: int, where: str, checked: bool
) -> None:
    """Invariant 8."""
    machine, plan = drawn
    log: list[Heard] = []
    (events, guards), script = words(machine), data.draw(scripts(machine, max_askings=6))
    fault = failing(at, where, events, guards)
    ear = hears_everything("first", log, order=-1, events=events)()
    dying = tiny(machine, plan, [ear, fault, answers_by(script.answers(), guards)], checked=checked)
    raised = raised_by(dying)
    heard = [one.event for one in log]
    assert machine.order.judge(heard).legal
    assert (raised is None) == (fault.left >= 0)
    if Event.EXCEPTION in heard:
        assert heard[-2:] == [Event.EXCEPTION, Event.TRAIN_END]
    fault.left = -1
    assert dying.fit().errors == []


def failing(at: int, where: str, events: Iterable[Enum], guards: Iterable[Enum]) -> Fault:
    """A callback that fails once, at the n-th thing that it hears or is asked, new words among them."""

    def hear(self: Fault, run: Run) -> None:
        self.tick()

    def answer(self: Fault, run: Run) -> bool:
        self.tick()
        return False

    fault = faulty(at, ValueError("on purpose"), 0, where)
    mine = {f"on_{name_of(event)}": hear for event in events if not isinstance(event, Event)}
    asked = {name_of(guard): answer for guard in guards if not isinstance(guard, Guard)}
    return type("FaultyToo", (type(fault),), mine if where == "event" else asked)(at, fault.error, 0)


def clipping() -> Machine:
    clip = Enum("Clip", "CLIP CLIPPED CLIP_BEGIN CLIP_END SKIP_CLIP")
    return TRAINING.insert(
        clip.CLIP, clip.CLIPPED, before=State.STEP, events=(clip.CLIP_BEGIN, clip.CLIP_END), skip=clip.SKIP_CLIP
    )


@pytest.mark.parametrize(
    ("method", "meant"), [("on_clip_begn", "on_clip_begin"), ("skip_clap", "skip_clip"), ("on_clip", "on_clip_")]
)
def test_a_misspelt_method_of_a_new_word_is_refused_with_the_word_that_was_meant(method: str, meant: str) -> None:
    machine = clipping()
    small = Tiny(Plan(), machine=machine, actions=new_action(machine))
    callback = type("Misspelt", (Callback,), {method: lambda self, run: None})()
    with pytest.raises(CallbackRefused, match=meant):
        small.engine.add(callback)


def new_action(machine: Machine) -> Mapping[Enum, Callable[[Run], Enum]]:
    row = next(row for row in machine.rows if not isinstance(row.source, State))
    assert row.trigger is not None
    return {row.source: Action(done(row.trigger), (row.trigger,))}


def test_the_dry_run_the_picture_and_the_program_have_the_new_words() -> None:
    machine = clipping()
    small = Tiny(Plan(), machine=machine, actions=new_action(machine))

    class Ear(Callback):
        def on_clip_end(self, run: Run) -> None: ...
        def skip_clip(self, run: Run) -> bool:
            return False

    small.engine.add(Ear())
    dry = str(small.engine.dry_run(epochs=1, batches=1))
    assert "clip_begin" in dry
    assert "Ear" in next(line for line in dry.splitlines() if "clip_end" in line)
    for kind in ("mermaid", "dot", "svg"):
        assert "skip_clip" in small.engine.diagram(kind)
    assert "clip" in small.engine.source()


def test_an_evaluation_with_a_new_state_is_what_a_training_that_holds_it_runs() -> None:
    tta = Enum("Tta", "FLIP FLIPPED FLIP_BEGIN FLIP_END")
    flipping = EVALUATION.insert(tta.FLIP, tta.FLIPPED, before=State.LOSS, events=(tta.FLIP_BEGIN, tta.FLIP_END))
    machine = TRAINING.replace({}, holds={State.VALIDATE: flipping})
    log: list[Heard] = []
    plan = Plan(epochs=1, batches=1, valid_batches=2)
    ear = hears_everything("Ear", log, events=words(machine)[0])()
    Tiny(plan, [ear], actions={tta.FLIP: Action(done(tta.FLIPPED), (tta.FLIPPED,))}, machine=machine).fit()
    heard = [one.event for one in log]
    assert heard.count(tta.FLIP_BEGIN) == 2
    assert machine.order.judge(heard).legal


def test_a_state_of_ones_own_is_done_by_the_loop_where_mine_names_it() -> None:
    machine = clipping()
    new = next(state for state in machine.states if not isinstance(state, State))
    asked: list[str] = []

    def never(run: Run) -> Enum:
        raise AssertionError(asked)

    clipped = machine.rows_from(new)[0].trigger
    engine = Tiny(Plan(), machine=machine, actions={new: Action(never, (clipped,))}).engine
    with engine.start(mine=PLAIN | {new}) as run:
        for _ in run.each_epoch():
            for inputs, targets in run.each_batch(batches(2)):
                run.report(Trigger.OUTPUT_READY, output=engine.model(inputs))
                run.report(Trigger.LOSS_READY, loss=engine.loss_fn(run.output, targets))
                run.loss.backward()
                assert run.report(Trigger.GRADS_READY) is new
                assert run.report(clipped) is State.STEP
                engine.optimizer.step()
                run.report(Trigger.WEIGHTS_MOVED)
    assert run.updates == 2


PLACES = [(side, state) for state in TRAINING.states for side in ("before", "after")]


@pytest.mark.parametrize("holds", [None, EVALUATION], ids=["acts", "holds"])
@pytest.mark.parametrize(("side", "at"), PLACES, ids=[f"{side} {name_of(state)}" for side, state in PLACES])
def test_a_new_state_may_be_anywhere_and_each_way_of_writing_the_training_goes_through_it(
    side: str, at: State, holds: Machine | None
) -> None:
    try:
        machine = TRAINING.insert(Drawn.PUT_0, None if holds else Drawn.DONE_PUT_0, holds=holds, **{side: at})
    except (ExtensionRefused, MachineRefused):
        return  # tests/states/test_extend.py looks at these
    plan = Plan(epochs=2, batches=3, valid_batches=1)
    for guard in ("", "accumulate", "skip_batch", "skip_step", "stop_epoch", "stop_training"):
        script = Script({guard: (1,)} if guard else {})
        fit = told(machine, plan, script)
        assert {name: told(machine, plan, script, way) == fit for name, way in WAYS.items()} == dict.fromkeys(
            WAYS, True
        )


@given(trained(), st.data())
def test_what_is_skipped_or_stopped_in_an_extended_training_is_not_done(
    drawn: tuple[Machine, Plan], data: st.DataObject
) -> None:
    """Invariants 4 and 5: new actions run as often as the table says; ears hear in order; behind a stop come ends."""
    machine, plan = drawn
    script, log, done_in = data.draw(scripts(machine, max_askings=6)), [], []
    events, guards = words(machine)
    ears = [hears_everything(str(order), log, order=order, events=events)() for order in (1, -1, 0)]
    counting = {
        state: Action(lambda run, state=state, do=action.do: (done_in.append(state), do(run))[1], action.reports)
        for state, action in actions_of(machine).items()
    }
    Tiny(plan, [*ears, answers_by(script.answers(), guards)], False, counting, machine).fit()
    steps = expected(plan, script.answers(), machine)
    assert done_in == [step.row.source for step in steps if step.row.source in counting]
    said = [hearing.event for hearing in hearings(steps)]
    assert [(one.who, one.event) for one in log] == [(who, event) for event in said for who in ("-1", "0", "1")]
    behind = said[said.index(Event.STOP) + 1 :] if Event.STOP in said else []
    assert all(name_of(event).endswith("_end") for event in behind if isinstance(event, Event))  # but for new states


@given(trained(), st.data())
def test_new_states_that_do_nothing_leave_the_weights_of_the_training_that_they_are_in(
    drawn: tuple[Machine, Plan], data: st.DataObject
) -> None:
    """Invariant 7, by way of TRAINING, whose weights are those of the plain loop (tests/oracle)."""
    machine, plan = drawn
    assume({*TRAINING.states, *TRAINING.guards} <= {*machine.states, *machine.guards})
    assume(machine.holds == TRAINING.holds)
    script = data.draw(scripts(max_askings=6))
    assert told(machine, plan, script).weights == told(TRAINING, plan, script).weights
