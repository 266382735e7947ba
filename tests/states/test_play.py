"""Can the table be driven into a corner?  A state machine test generated from the rows of each machine."""

from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from states import EVALUATION, PREDICTION, TRAINING, Machine
from states.checked import Checked
from states.grammar import EVALUATION_ORDER, PREDICTION_ORDER, TRAINING_ORDER, Grammar
from states.names import name_of
from states.places import begun, reports, taken
from tests.states.strategies import SCALED


class Play(RuleBasedStateMachine):
    """Anything that may be reported is, each guard answers as it likes; pytransitions says where that leads."""

    machine: ClassVar[Machine]
    order: ClassVar[Grammar]

    def __init__(self) -> None:
        super().__init__()
        self.place = begun(self.machine)
        self.checked = {m.name: Checked(m) for m in (self.machine, *self.machine.holds.values())}
        self.heard: list[str] = []
        self.scopes: list[str] = []

    @precondition(lambda self: self.place.over)
    @rule()
    def begin_another_run(self) -> None:
        self.place = begun(self.machine)
        self.heard.clear()

    @precondition(lambda self: not self.place.over)
    @rule(data=st.data())
    def fire(self, data: st.DataObject) -> None:
        machine, state = self.place.machine, self.place.state
        trigger = data.draw(st.sampled_from(reports(self.place)), label="reported")
        rows = machine.groups[state, trigger]
        guards = [row.guard for row in rows if row.guard is not None]
        yes = data.draw(st.sets(st.sampled_from(guards)) if guards else st.just(set()), label="yes")
        row = self.checked[machine.name].choose(state, trigger, lambda guard: guard in yes)
        assert row is next(row for row in rows if row.guard is None or row.guard in yes)
        for name in map(name_of, row.events):
            self._hear(name)
        self.place = taken(self.place, row)

    def _hear(self, name: str) -> None:
        self.heard.append(name)
        scope, _, side = name.rpartition("_")
        if side == "begin":
            self.scopes.append(scope)
        elif side == "end":
            assert self.scopes.pop() == scope

    @invariant()
    def what_is_open_was_proved_to_be(self) -> None:
        assert tuple(self.scopes) == self.place.scopes

    @invariant()
    def what_was_heard_is_legal_so_far(self) -> None:
        verdict = self.order.judge(self.heard)
        assert verdict.prefix, str(verdict)
        assert verdict.legal == self.place.over


class PlayTraining(Play):
    machine, order = TRAINING, TRAINING_ORDER


class PlayScaled(Play):
    machine, order = SCALED.machine, SCALED.order


class PlayEvaluation(Play):
    machine, order = EVALUATION, EVALUATION_ORDER


class PlayPrediction(Play):
    machine, order = PREDICTION, PREDICTION_ORDER


TestPlayTraining = PlayTraining.TestCase
TestPlayScaled = PlayScaled.TestCase
TestPlayEvaluation = PlayEvaluation.TestCase
TestPlayPrediction = PlayPrediction.TestCase
