"""Does a training whose loss is scaled go as it should?  Its language, every run, what comes of other machines."""

from collections.abc import Iterator
from enum import Enum

import pytest
from attrs import define, evolve

from states import EVALUATION, TRAINING, Counter, Event, Guard, Machine, State, Transition, Trigger, prove, scaled
from states.checked import Checked
from states.errors import ExtensionRefused
from states.explore import Listening, explore
from states.grammar import TRAINING_ORDER
from states.names import name_of
from states.scaled import UNSCALING
from states.walk import Plan, walk
from tests.states.observed import Observed, Replies, every_run, observe
from tests.states.plain_loop import PlainLoop
from tests.states.strategies import SCALED, SCALED_ORDER
from tests.states.test_grammar import differences


MACHINE = SCALED.machine
Own = Enum("Own", "CLIP CLIPPED CLIP_BEGIN CLIP_END SKIP_CLIP LOOK LOOKED SUB")


def rows_of(machine: Machine, *states: Enum) -> list[str]:
    return [str(row) for state in states for row in machine.rows_from(state)]


def test_the_table_and_the_grammar_written_by_hand_are_one_language() -> None:
    assert SCALED_ORDER.text != TRAINING_ORDER.text
    found, pairs = differences(MACHINE.order, SCALED_ORDER.order)
    assert found == {}
    assert pairs >= len(SCALED_ORDER.order.moves)


def test_whatever_happens_is_legal_and_every_row_is_taken() -> None:
    found = explore(MACHINE, {"grammar": Listening(SCALED_ORDER.order), "rows": Listening(MACHINE.order)})
    assert found.broken == ()
    assert found.rows >= {*MACHINE.rows}


@define(eq=False)
class ScaledLoop(PlainLoop):
    """The hand-written loop with a scaled loss; whether gradients overflow is one more of the replies."""

    def steps(self, state: str) -> None:
        if not self.asks("skip_step"):
            self.does("unscale")
            if self.replies(None, {}):  # as in PlainLoop
                self.overflows += 1
                self.hears("overflow", {"step": "unscale", "flush": "descale"}[state])
            else:
                self.update(state)
        self.does("zero_grad")
        self.window = 0


def overflowing(replies: Replies) -> dict[Enum, object]:
    def report(counters: object) -> Trigger:
        return Trigger.OVERFLOWED if replies(None, {}) else Trigger.GRADS_UNSCALED  # as above

    return dict.fromkeys(UNSCALING, report)


def table(plan: Plan, replies: Replies) -> Observed:
    return observe(MACHINE, evolve(plan, reports=overflowing(replies)), replies)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(epochs=0),
        Plan(epochs=1, batches=1, valid_batches=2),
        Plan(epochs=1, batches=3),
        Plan(epochs=2, batches=1),
        Plan(epochs=2, batches=1, max_updates=1),
    ],
    ids=str,
)
def test_every_run_does_asks_and_hears_what_a_loop_written_by_hand_does(plan: Plan) -> None:
    overflowed = 0
    for answers, expected in every_run(lambda replies: ScaledLoop(plan, replies).train()):
        replies = Replies(answers)
        assert table(plan, replies) == expected
        assert tuple(replies.asked) == answers
        overflowed += any(line[:2] == ("hears", "overflow") for line in expected)
    assert overflowed or plan.epochs == 0


def test_a_walk_overflows_only_where_it_is_told_to() -> None:
    def last(counters: object) -> Trigger:
        return Trigger.OVERFLOWED if counters[Counter.BATCH_INDEX] == 1 else Trigger.GRADS_UNSCALED

    usual = list(walk(MACHINE, Plan(batches=3)))
    assert (usual[-1].counters[Counter.UPDATES], usual[-1].counters[Counter.OVERFLOWS]) == (3, 0)
    told = list(walk(MACHINE, Plan(batches=3, reports={State.UNSCALE: last})))
    assert (told[-1].counters[Counter.UPDATES], told[-1].counters[Counter.OVERFLOWS]) == (2, 1)


def test_pytransitions_takes_the_same_rows() -> None:
    for row in MACHINE.rows:
        assert Checked(MACHINE).choose(*row.group, lambda guard, row=row: guard is row.guard) is row


def test_training_itself_has_none_of_it() -> None:
    words = {*TRAINING.states, *TRAINING.triggers, *TRAINING.events}
    assert words.isdisjoint({*UNSCALING, Trigger.GRADS_UNSCALED, Trigger.OVERFLOWED, Event.OVERFLOW})
    assert {*MACHINE.guards} == {*TRAINING.guards} - {Guard.SKIP_ZERO_GRAD}
    assert len(MACHINE.rows) == len(TRAINING.rows) + 4 - 2


def test_a_machine_that_unscales_is_given_back() -> None:
    assert scaled(MACHINE) is MACHINE
    clipping = MACHINE.insert(Own.CLIP, Own.CLIPPED, before=State.STEP)
    assert scaled(clipping) is clipping
    assert scaled(TRAINING, name="mine").name == "mine"


# --- Machines of the user's own ---------------------------------------------------------------------------------------


def clipped(**where: Enum) -> Machine:
    return TRAINING.insert(Own.CLIP, Own.CLIPPED, events=(Own.CLIP_BEGIN, Own.CLIP_END), **where)


def test_a_state_before_step_comes_behind_the_mean() -> None:
    machine = scaled(
        TRAINING.insert(
            Own.CLIP, Own.CLIPPED, before=State.STEP, events=(Own.CLIP_BEGIN, Own.CLIP_END), skip=Own.SKIP_CLIP
        )
    )
    assert rows_of(machine, State.UNSCALE, State.AVERAGE, Own.CLIP) == [
        "unscale grads_unscaled -> average",
        "unscale overflowed -> zero_grad: overflow",
        "average grads_averaged [skip_clip] -> step: step_begin",
        "average grads_averaged -> clip: clip_begin",
        "clip clipped -> step: clip_end, step_begin",
    ]


def test_a_state_before_average_sees_what_is_unscaled_and_its_begin_is_heard_then() -> None:
    machine = scaled(clipped(before=State.AVERAGE))
    assert rows_of(machine, State.UNSCALE) == [
        "unscale grads_unscaled -> clip: clip_begin",
        "unscale overflowed -> zero_grad: overflow",
    ]
    assert str(machine.row(State.BACKWARD, Trigger.GRADS_READY)) == "backward grads_ready -> unscale: backward_end"


def test_a_state_behind_backward_comes_before_unscale_as_the_window_may_stay_open_there() -> None:
    machine = scaled(TRAINING.insert(Own.LOOK, Own.LOOKED, after=State.BACKWARD))
    assert rows_of(machine, State.BACKWARD, Own.LOOK) == [
        "backward grads_ready -> look: backward_end",
        "look looked [accumulate] -> epoch: batch_end",
        "look looked [skip_step] -> zero_grad",
        "look looked -> unscale",
    ]


def test_a_state_before_zero_grad_is_on_the_way_of_an_overflow() -> None:
    machine = scaled(clipped(before=State.ZERO_GRAD))
    assert str(machine.row(State.UNSCALE, Trigger.OVERFLOWED)) == "unscale overflowed -> clip: overflow, clip_begin"


@pytest.mark.parametrize(
    "machine",
    [
        TRAINING.without(Guard.ACCUMULATE),
        TRAINING.without(Guard.SKIP_STEP),
        TRAINING.without(Guard.SKIP_ZERO_GRAD),
        TRAINING.without(State.AVERAGE, State.SETTLE),
        TRAINING.without(State.VALIDATE, Event.STEP_BEGIN, Event.STEP_END),
        TRAINING.without(Trigger.WINDOW_OPEN),
    ],
    ids=lambda machine: machine.name,
)
def test_what_is_left_of_training_can_be_scaled(machine: Machine) -> None:
    result = scaled(machine)
    assert prove(result).machine == f"{machine.name} in fp16"
    assert State.UNSCALE in result.states
    assert (State.DESCALE in result.states) == (State.FLUSH in machine.states)
    assert str(result.row(State.UNSCALE, Trigger.OVERFLOWED)) == "unscale overflowed -> zero_grad: overflow"


def refused() -> Iterator[tuple[str, Machine]]:
    yield "evaluation has no row for grads_ready in backward", EVALUATION
    yield "has no state zero_grad", TRAINING.without(State.ZERO_GRAD, Guard.SKIP_STEP, Guard.SKIP_ZERO_GRAD)
    yield "comes back to backward with gradients that are unscaled already", TRAINING.without(State.ZERO_GRAD)
    around = TRAINING.row(State.LOSS, Trigger.LOSS_READY, Guard.SKIP_BACKWARD)
    stepping = evolve(around, dest=State.STEP, heard=(Event.STEP_BEGIN,))
    yield "comes to step with gradients that are scaled, by 'loss loss_ready", TRAINING.replace({around: stepping})
    sub = Transition(Own.SUB, Trigger.VALIDATED, None, State.FETCH)
    last = TRAINING.rows_from(State.EPOCH)[-1]
    inner = TRAINING.without(State.VALIDATE, Guard.STOP_TRAINING, name="inner")
    holding = TRAINING.replace({last: (evolve(last, dest=Own.SUB), sub)}, holds={Own.SUB: inner})
    yield "holds inner, which computes gradients, too", holding


def test_machines_that_cannot_be_scaled_are_refused_in_words() -> None:
    for phrase, machine in refused():
        with pytest.raises(ExtensionRefused) as raised:
            scaled(machine)
        assert phrase in str(raised.value)
        assert "so its loss cannot be scaled" in str(raised.value)
        assert "train in bf16" in str(raised.value)


def test_the_names_say_what_is_done() -> None:
    assert MACHINE.name == "training in fp16"
    assert [name_of(state) for state in MACHINE.states if state in UNSCALING] == ["unscale", "descale"]
