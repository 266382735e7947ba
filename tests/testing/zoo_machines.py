"""Which machines are in the zoo?  Tables with one real trap in them, and who must find it, by which shortest way."""

from collections.abc import Callable, Hashable, Mapping

from attrs import evolve, field, frozen

from states import TRAINING, Count, Counter, Event, Guard, Machine, State, Transition, Trigger, When
from states.claims import Claim, never
from states.errors import Rule
from states.names import name_of
from states.strides import Heard


S, T, E, G, C = State, Trigger, Event, Guard, Counter
ROW = TRAINING.row
EPOCH_STOPS = ROW(S.EPOCH, None, G.STOP_TRAINING)
BEGUN = ("idle fit_asked -> train: train_begin", "train epoch_due -> epoch: epoch_begin")
IN_A_BATCH = (*BEGUN, "epoch -> fetch", "fetch batch_ready -> batch: batch_begin")
COMPUTED = (
    "train_begin epoch_begin batch_begin forward_begin forward_end loss_begin loss_end backward_begin backward_end"
)


@frozen
class Refused:
    """A machine that `prove` refuses: by which rule, with the shortest path that shows it."""

    trap: str
    build: Callable[[], Machine]
    rule: Rule
    path: tuple[str, ...]


@frozen
class Accepted:
    """A machine whose structure is right, and that is not the one that was meant: who finds it, and the shortest trace.

    Attributes:
        trap: Who fell into it, and what it is.
        build: Builds it.
        found_by: A claim, or what counters must be; the grammar written by hand, where it is nothing.
        trace: What is heard on the shortest way, to the event that is wrong.
    """

    trap: str
    build: Callable[[], Machine]
    found_by: "Claim | Told | None"
    trace: str


@frozen
class Told:
    """A monitor that counts what it hears, and compares that with a counter.

    Attributes:
        counter: The counter.
        counts: By how much each event moves it, before it is heard; by nothing: back to 0.
        at: Where it is compared.
    """

    counter: Counter
    counts: Mapping[str, int | None] = field(hash=False)
    at: frozenset[str]
    start: int = 0

    def after(self, place: Hashable, heard: Heard) -> Hashable | None:
        by = self.counts.get(heard.name, 0)
        now = 0 if by is None else int(str(place)) + by
        counted = heard.counters[list(Counter).index(self.counter)]
        return None if heard.name in self.at and counted != now else now

    def over(self, place: Hashable) -> bool:
        return isinstance(place, int)


def changed(row: Transition, *others: Transition, **parts: object) -> Callable[[], Machine]:
    """TRAINING with other parts of one row, and without some others."""
    return lambda: TRAINING.replace({row: evolve(row, **parts), **dict.fromkeys(others, ())})


def counting(old: Count | None, *new: Count) -> Callable[[], Machine]:
    """TRAINING with other counts."""
    return lambda: evolve(TRAINING, counts=(*(count for count in TRAINING.counts if count != old), *new))


def backward_ends_late() -> Machine:
    """Backward ends when the batch does."""
    ends = {
        row for row in TRAINING.rows if row.source in {S.BACKWARD, S.STEP, S.ZERO_GRAD} and E.BATCH_END in row.heard
    }
    heard = [evolve(row, heard=(E.BACKWARD_END, *row.heard)) if row in ends else row for row in TRAINING.rows]
    rows = [evolve(row, first=()) if row.source is S.BACKWARD else row for row in heard]
    counts = [c if c.what is not E.BACKWARD_END else evolve(c, what=T.GRADS_READY) for c in TRAINING.counts]
    return evolve(TRAINING, rows=rows, counts=counts)


def validation_behind_the_epoch() -> Machine:
    """The epoch ends, and is validated then."""
    due, done = ROW(S.CLOSE, T.VALIDATION_DUE), ROW(S.VALIDATE, T.VALIDATED)
    stopped = ROW(S.VALIDATE, T.VALIDATION_STOPPED)
    late = {due: evolve(due, heard=(E.EPOCH_END,)), done: evolve(done, heard=()), stopped: evolve(stopped, heard=())}
    return TRAINING.replace(late)


def cleared_before_the_step() -> Machine:
    """Gradients are cleared between backward and the step."""
    ready, averaged = ROW(S.BACKWARD, T.GRADS_READY), ROW(S.AVERAGE, T.GRADS_AVERAGED)
    moved, cleared = ROW(S.STEP, T.WEIGHTS_MOVED), ROW(S.ZERO_GRAD, T.GRADS_CLEARED)
    skips = ROW(S.BACKWARD, T.GRADS_READY, G.SKIP_STEP)
    return TRAINING.replace(
        {
            skips: (),
            ready: evolve(ready, dest=S.ZERO_GRAD),
            cleared: evolve(cleared, dest=S.AVERAGE, heard=()),
            averaged: averaged,
            ROW(S.STEP, T.WEIGHTS_MOVED, G.SKIP_ZERO_GRAD): (),
            moved: evolve(moved, dest=S.EPOCH, heard=(E.BATCH_END,)),
        }
    )


def never_flushed() -> Machine:
    """A window that is open when the loader is dry stays open."""
    flushed = [row for row in TRAINING.rows if row.source in {S.SETTLE, S.FLUSH}]
    opened = ROW(S.WINDOW, T.WINDOW_OPEN)
    return TRAINING.replace({opened: evolve(opened, dest=S.CLOSE), **dict.fromkeys(flushed, ())})


REFUSED = (
    Refused(
        "Composer PR #1054: an end that is declared, and never heard",
        lambda: TRAINING.without(E.TRAIN_END),
        Rule.BEGIN_NEVER_ENDED,
        (BEGUN[0], "train epochs_spent -> done"),
    ),
    Refused(
        "fastai #3104: a skip that leaves its batch open",
        changed(ROW(S.BATCH, None, G.SKIP_BATCH), heard=()),
        Rule.SECOND_STACK,
        (*IN_A_BATCH, "batch [skip_batch] -> epoch"),
    ),
    Refused(
        "Ignite #3312: an epoch that is stopped does not end",
        changed(ROW(S.EPOCH, None, G.STOP_EPOCH), dest=S.TRAIN),
        Rule.SECOND_STACK,
        (*BEGUN, "epoch [stop_epoch] -> train"),
    ),
    Refused(
        "Ignite #1332: a batch ends once more behind a stop",
        changed(EPOCH_STOPS, heard=(E.BATCH_END, E.STOP, E.EPOCH_END)),
        Rule.END_WITHOUT_BEGIN,
        (*BEGUN, "epoch [stop_training] -> stopping: batch_end, stop, epoch_end"),
    ),
    Refused(
        "Ignite #3308: what ends a run is heard for the stop, and once more for the end",
        changed(ROW(S.STOPPING), heard=(E.TRAIN_END, E.TRAIN_END)),
        Rule.FINAL_HEARS_MORE,
        (BEGUN[0], "train epoch_due [stop_training] -> stopping: stop", "stopping -> done: train_end, train_end"),
    ),
    Refused(
        "fastai 2.2: a stop passes the outermost end over",
        changed(ROW(S.TRAIN, T.EPOCH_DUE, G.STOP_TRAINING), dest=S.DONE),
        Rule.BEGIN_NEVER_ENDED,
        (BEGUN[0], "train epoch_due [stop_training] -> done: stop"),
    ),
    Refused(
        "fastai #601: the only way to stop an epoch is to interrupt the kernel",
        changed(ROW(S.EPOCH), EPOCH_STOPS, ROW(S.EPOCH, None, G.STOP_EPOCH)),
        Rule.NO_STOP,
        (*IN_A_BATCH, "batch [skip_batch] -> epoch: batch_end"),
    ),
    Refused(
        "Lightning #6194: a stop that is asked for in a validation is lost behind it",
        changed(ROW(S.VALIDATE, T.VALIDATED), ROW(S.VALIDATE, T.VALIDATION_STOPPED)),
        Rule.HELD_STOP,
        (*BEGUN, "epoch [stop_epoch] -> window", "window window_empty -> close", "close validation_due -> validate"),
    ),
    Refused(
        "fastai 1.0.52: what was stopped is validated all the same",
        changed(EPOCH_STOPS, dest=S.WINDOW, heard=(E.STOP,)),
        Rule.STOP_TWICE,
        (*BEGUN, "epoch [stop_training] -> window: stop"),
    ),
    Refused(
        "Lightning #17187: an event that nobody knows",
        changed(ROW(S.FETCH, T.BATCH_READY), heard=("training_batch_begin",)),
        Rule.UNKNOWN_WORD,
        (),
    ),
)

ACCEPTED = (
    Accepted(
        "Lightning #2816: the epoch ends before it is validated",
        validation_behind_the_epoch,
        None,
        "train_begin epoch_begin epoch_end validate_begin",
    ),
    Accepted(
        "Lightning #6665: backward ends behind the step",
        backward_ends_late,
        never("step_begin", between=("backward_begin", "backward_end")),
        COMPUTED.replace("backward_end", "step_begin"),
    ),
    Accepted(
        "torchtitan #3575: gradients are cleared before the step",
        cleared_before_the_step,
        Told(C.WINDOW, {"backward_end": 1, "step_end": None}, frozenset({"step_begin"})),
        f"{COMPUTED} step_begin",
    ),
    Accepted(
        "HF PR #34191: the window that is open at the end of an epoch is not stepped",
        never_flushed,
        Told(C.WINDOW, {}, frozenset({"validate_begin"})),
        f"{COMPUTED} batch_end validate_begin",
    ),
    Accepted(
        "HF #22082: a step is counted with each gradient",
        counting(Count(C.UPDATES, 1, When.BEFORE, E.STEP_END), Count(C.UPDATES, 1, When.BEFORE, E.BACKWARD_END)),
        Told(C.UPDATES, {"step_end": 1}, frozenset(map(name_of, Event))),
        COMPUTED,
    ),
    Accepted(
        "TNT #864: the batches of an epoch are forgotten before its end is heard",
        counting(None, Count(C.BATCH_INDEX, None, When.BEFORE, E.EPOCH_END)),
        Told(C.BATCH_INDEX, {"epoch_begin": None, "batch_end": 1}, frozenset({"epoch_end"})),
        "train_begin epoch_begin batch_begin batch_end stop epoch_end",
    ),
    Accepted(
        "Lightning #15603: an epoch is counted twice, and the next one passed over",
        counting(None, Count(C.EPOCH, 1, When.AFTER, E.EPOCH_END)),
        Told(C.EPOCH, {"epoch_end": 1}, frozenset({"train_end"})),
        "train_begin epoch_begin stop epoch_end train_end",
    ),
)
