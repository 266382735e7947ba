"""What do the counters have to be, by the events alone?  Tallied by name, without a look at the table's counts."""

import collections

from attrs import define, field

from states import Counter, Event, Trigger
from states.names import name_of
from states.walk import Counters, Hearing, Step


# Callbacks of these still see the old value: the batch, or the epoch, is only counted once its end was heard.
LATE = ("batch_end", "epoch_end")
# A loader is begun.
LOADER = ("epoch_begin", "validate_begin", "predict_begin")


@define(eq=False)
class Told:
    """Follows one run, step by step, and objects where a counter is not what the events tell."""

    heard: collections.Counter[str] = field(factory=collections.Counter)
    in_loader: list[int] = field(factory=lambda: [0, 0])  # by depth: a held run has a loader of its own
    window: int = 0

    def objection(self, step: Step) -> str:
        """The first counter of a step that is wrong, at a hearing or afterwards; empty if none is."""
        if step.row.trigger is Trigger.GRADS_CLEARED:
            self.window = 0
        wrong = [self._hearing(step.depth, hearing) for hearing in (*step.first, *step.heard)]
        return next(filter(None, [*wrong, self._wrong(step.depth, step.counters, f"after {step.row}")]), "")

    def _hearing(self, depth: int, hearing: Hearing) -> str:
        name = name_of(hearing.event)
        late = name.removeprefix("validate_").removeprefix("predict_") in LATE
        if not late:
            self._note(depth, name)
        wrong = self._wrong(depth, hearing.counters, f"at {name}")
        if late:
            self._note(depth, name)
        if hearing.event is Event.STEP_END:
            self.window = 0
        return wrong

    def _note(self, depth: int, name: str) -> None:
        self.heard[name] += 1
        self.window += name == "backward_end"
        if name in LOADER:
            self.in_loader[depth] = 0
        elif name.endswith("batch_end"):
            self.in_loader[depth] += 1

    def _wrong(self, depth: int, shown: Counters, where: str) -> str:
        right = self._right(depth)
        wrong = [f"{name_of(c)} is {shown[c]}, not {right[c]}, {where}" for c in Counter if shown[c] != right[c]]
        return "; ".join(wrong)

    def _right(self, depth: int) -> Counters:
        return {
            Counter.EPOCH: self.heard["epoch_end"],
            Counter.BATCH_INDEX: self.in_loader[depth],
            Counter.BATCHES_DONE: self.heard["batch_end"],
            Counter.UPDATES: self.heard["step_end"],
            Counter.WINDOW: self.window,
            Counter.OVERFLOWS: self.heard["overflow"],
        }
