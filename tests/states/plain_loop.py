"""What would one have written by hand?  The three runs as nested loops, without a table: what they do, ask and hear."""

from attrs import define, field

from states.walk import Plan
from tests.states.observed import Line, Observed, Replies


# What a callback sees in `run.state`: a begin is heard in the state that it opens, the end of what an action did in the
# state of the action, and the end of a scope where the run goes on.
SHOWN = {
    "train_begin": "train",
    "epoch_begin": "epoch",
    "batch_begin": "batch",
    "forward_begin": "forward",
    "forward_end": "forward",
    "loss_begin": "loss",
    "loss_end": "loss",
    "backward_begin": "backward",
    "backward_end": "backward",
    "batch_end": "epoch",
    "train_end": "done",
    "validate_begin": "evaluate",
    "validate_batch_begin": "batch",
    "validate_forward_begin": "forward",
    "validate_forward_end": "forward",
    "validate_loss_begin": "loss",
    "validate_loss_end": "loss",
    "validate_batch_end": "evaluate",
    "validate_end": "done",
    "predict_begin": "predict",
    "predict_batch_begin": "batch",
    "predict_forward_begin": "forward",
    "predict_forward_end": "forward",
    "predict_batch_end": "predict",
    "predict_end": "done",
    "stop": "stopping",
}


@define(eq=False)
class PlainLoop:
    """Nested loops over epochs and batches; the counters are moved where a careful engineer would move them."""

    plan: Plan
    replies: Replies
    epoch: int = 0
    batch_index: int = 0
    batches_done: int = 0
    updates: int = 0
    window: int = 0
    overflows: int = 0
    lines: list[Line] = field(factory=list)

    def does(self, what: str) -> None:
        self.lines.append(("does", what))

    def asks(self, guard: str) -> bool:
        answer = self.replies(None, {})  # answers go by number here
        self.lines.append(("asks", guard, answer))
        return answer

    def hears(self, event: str, state: str = "") -> None:
        counters = (self.epoch, self.batch_index, self.batches_done, self.updates, self.window, self.overflows)
        self.lines.append(("hears", event, state or SHOWN[event], counters))

    def train(self) -> Observed:
        self.hears("train_begin")
        going_on = True
        while going_on and not self.spent() and (self.plan.epochs is None or self.epoch < self.plan.epochs):
            if self.asks("stop_training"):
                self.hears("stop")
                break
            self.batch_index = 0
            self.hears("epoch_begin")
            going_on = self.one_epoch()
            self.hears("epoch_end", "train" if going_on else "stopping")
            self.epoch += 1
        self.hears("train_end")
        return (*self.lines, ("ends",))

    def spent(self) -> bool:
        return self.plan.max_updates is not None and self.updates >= self.plan.max_updates

    def one_epoch(self) -> bool:
        """Whether training goes on."""
        while True:
            if self.stops():
                return False
            if self.asks("stop_epoch"):
                break
            self.does("fetch")
            if self.spent() or self.batch_index == self.plan.batches:
                break
            self.one_batch()
        if self.window:
            self.steps("flush")
        if self.plan.valid_batches is None:
            return True
        if self.stops():
            return False
        if self.asks("skip_validate"):
            return True
        return self.validates()

    def steps(self, state: str) -> None:
        """The end of a window: in its last batch, or, part-filled, when the loader is left."""
        if not self.asks("skip_step"):
            self.update(state)
            if self.asks("skip_zero_grad"):
                return
        self.does("zero_grad")
        self.window = 0

    def stops(self) -> bool:
        if self.asks("stop_training"):
            self.hears("stop")
            return True
        return False

    def one_batch(self) -> None:
        self.hears("batch_begin")
        if not self.asks("skip_batch"):
            self.compute()
        self.hears("batch_end")
        self.batches_done += 1
        self.batch_index += 1

    def compute(self) -> None:
        self.part("forward", "forward")
        self.part("loss", "loss")
        if self.asks("skip_backward"):
            return
        self.hears("backward_begin")
        self.does("backward")
        self.window += 1
        self.hears("backward_end")
        if self.asks("accumulate"):
            return
        self.steps("step")

    def update(self, state: str) -> None:
        self.does("average")
        self.hears("step_begin", state)
        self.does("step")
        self.updates += 1
        self.hears("step_end", state)
        self.window = 0

    def part(self, what: str, event: str) -> None:
        self.hears(f"{event}_begin")
        self.does(what)
        self.hears(f"{event}_end")

    def validates(self) -> bool:
        """Whether training goes on; the batches of a validation are counted apart."""
        outside, self.batch_index = self.batch_index, 0
        self.hears("validate_begin")
        stopped = self.valid_batches(self.plan.valid_batches or 0)
        self.hears("validate_end")
        self.batch_index = outside
        return not stopped

    def valid_batches(self, batches: int) -> bool:
        """Whether the whole run was asked to stop."""
        while True:
            if self.stops():
                return True
            if self.asks("stop_validate"):
                return False
            self.does("fetch")
            if self.batch_index == batches:
                return False
            self.hears("validate_batch_begin")
            self.part("forward", "validate_forward")
            self.part("loss", "validate_loss")
            self.hears("validate_batch_end")
            self.batch_index += 1

    def evaluate(self) -> Observed:
        self.hears("validate_begin")
        self.valid_batches(self.plan.batches)
        self.hears("validate_end")
        return (*self.lines, ("ends",))

    def predict(self) -> Observed:
        self.hears("predict_begin")
        while True:
            if self.asks("stop_predict"):
                self.hears("stop")
                break
            self.does("fetch")
            if self.batch_index == self.plan.batches:
                break
            self.hears("predict_batch_begin")
            self.part("forward", "predict_forward")
            self.hears("predict_batch_end")
            self.batch_index += 1
        self.hears("predict_end")
        return (*self.lines, ("ends",))


def plain_loop(machine: str, plan: Plan, replies: Replies) -> Observed:
    """The loop that stands for the built-in machine of this name."""
    loop = PlainLoop(plan, replies)
    return {"training": loop.train, "evaluation": loop.evaluate, "prediction": loop.predict}[machine]()
