"""Which of our events is which of theirs?  The tables of docs/coming-from.md: fastai 2, Ignite, Lightning, Keras.

Read down a column in the order of ORDER, and the names are those that the library calls, in its own order:
test_coming.py asks the libraries.
"""

from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve, frozen

from states import Event
from states.names import name_of


@frozen
class Place:
    """Where one library calls at a point: the names, in its order, and what is otherwise there."""

    names: tuple[str, ...] = ()
    note: str = ""

    def but(self, note: str) -> "Place":
        """The same, with what is otherwise."""
        return evolve(self, note=note)


def at(*names: str) -> Place:
    """A place with these names; a dash without any."""
    return Place(names)


YOUR_STEP = "The step is a function that you write: it fires events of your own, with `engine.fire_event`."
ONE_PIECE = "A batch is one piece, which may be compiled: nothing is called within it."
TRAINING_STEP = "Forward and loss both happen in `training_step`, which you write."
SANITY = (
    "`on_fit_start` comes first; between the two, Lightning validates two batches to see that it can, and calls the "
    "hooks of a validation. Here nothing is tried out."
)
DIVIDED = (
    "With `accumulate_grad_batches=n` the loss is divided by n by then. Here it is whole, and before `step_begin` the "
    "gradients become the mean over the window."
)
CANCELLED = "Called also when it was cancelled. Here: only when it was done."
CANCELLED_BATCH = "Called also when the batch was cancelled, as `batch_end` is when it was skipped."
ACCUMULATION = (
    "`GradientAccumulation` cancels the batch here: callbacks that come before it hear `before_step` for each batch, "
    "those behind it only where a step is taken."
)
CLIPPING = (
    "Before `Trainer(gradient_clip_val=...)` clips. Here nobody clips but your callbacks: what comes earlier in the "
    "order sees the gradients as they were."
)
ONCE_PER_STEP = (
    "Once for each step of the optimizer: not in a batch that `accumulate` keeps open, and once more behind the last "
    "batch if gradients still wait for their step."
)
BEFORE_BACKWARD = (
    "Nothing is called right behind the step. Gradients are cleared in the next batch, between `training_step` and "
    "`on_before_backward`; `on_before_zero_grad` comes just before."
)
SAME_NAMES = "The names of a training; `self.training` tells which it is, and `run_valid = False` keeps a callback out."
SECOND_ENGINE = "On an `Engine` of its own, which you run in a handler of the first."
ALONE = "In `engine.evaluate`, too: `run.parent` is `None` there, and the training's run in a validation of `fit`."
AFTER_VALIDATION = (
    "After validation, with its numbers in `run.metrics`; so in fastai, Lightning and Keras. In Ignite it depends on "
    "the order of your handlers."
)
ALWAYS = (
    "Always comes, once, last; after an exception or Ctrl-C, too. Theirs do not come where an exception ends the "
    "training."
)
FP16 = 'Only with `precision="fp16"`, where gradients are not finite: they are dropped, and no step follows.'
CANCELS_STEP = "`MixedPrecision` cancels the step: `after_cancel_step` is called."
BEHIND = (
    "Called when all was left: the ends of the batch, of the training part and of the epoch are not called. Here "
    "`stop` comes first, then each end, innermost first."
)
NO_EPOCH_COMPLETED = "`COMPLETED` follows; `EPOCH_COMPLETED` does not."
ONLY_A_FLAG = "Validation and all ends follow. Here an epoch that is stopped in the middle is not validated."
SWALLOWED = "A handler that does not raise it again swallows it, and training goes on. Here the caller always gets it."
GET_PREDS = (
    "`get_preds` calls `before_fit` and `before_epoch` first, `after_loss` where there are targets, `after_epoch` and "
    "`after_fit` last."
)
OWN_ENGINE = "On an `Engine` of its own."

E = Event
NONE = at()
YOURS, PIECE, THEIR_STEP = NONE.but(YOUR_STEP), NONE.but(ONE_PIECE), NONE.but(TRAINING_STEP)

# A training with its validation, as our machine has it; then what may come at any time, and a prediction.
ORDER = (
    *(E.TRAIN_BEGIN, E.EPOCH_BEGIN, E.BATCH_BEGIN, E.FORWARD_BEGIN, E.FORWARD_END, E.LOSS_BEGIN, E.LOSS_END),
    *(E.BACKWARD_BEGIN, E.BACKWARD_END, E.OVERFLOW, E.STEP_BEGIN, E.STEP_END, E.BATCH_END),
    *(E.VALIDATE_BEGIN, E.VALIDATE_BATCH_BEGIN, E.VALIDATE_FORWARD_BEGIN, E.VALIDATE_FORWARD_END),
    *(E.VALIDATE_LOSS_BEGIN, E.VALIDATE_LOSS_END, E.VALIDATE_BATCH_END, E.VALIDATE_END),
    *(E.EPOCH_END, E.TRAIN_END),
    *(E.STOP, E.EXCEPTION),
    *(E.PREDICT_BEGIN, E.PREDICT_BATCH_BEGIN, E.PREDICT_FORWARD_BEGIN, E.PREDICT_FORWARD_END),
    *(E.PREDICT_BATCH_END, E.PREDICT_END),
)

# What is to be said of an event of ours beside all of theirs.
OURS: Mapping[Event, str] = {
    E.OVERFLOW: FP16,
    E.STEP_BEGIN: ONCE_PER_STEP,
    E.STEP_END: ONCE_PER_STEP,
    E.VALIDATE_BEGIN: ALONE,
    E.EPOCH_END: AFTER_VALIDATION,
    E.TRAIN_END: ALWAYS,
}

FASTAI: Mapping[Event, Place] = {
    E.TRAIN_BEGIN: at("before_fit"),
    E.EPOCH_BEGIN: at("before_epoch", "before_train"),
    E.BATCH_BEGIN: at("before_batch"),
    E.FORWARD_BEGIN: NONE,
    E.FORWARD_END: at("after_pred"),
    E.LOSS_BEGIN: NONE,
    E.LOSS_END: at("after_loss"),
    E.BACKWARD_BEGIN: at("before_backward"),
    E.BACKWARD_END: at("after_backward").but(CANCELLED),
    E.OVERFLOW: NONE.but(CANCELS_STEP),
    E.STEP_BEGIN: at("before_step").but(ACCUMULATION),
    E.STEP_END: at("after_step").but(CANCELLED),
    E.BATCH_END: at("after_batch").but(CANCELLED_BATCH),
    E.VALIDATE_BEGIN: at("before_validate"),
    E.VALIDATE_BATCH_BEGIN: at("before_batch").but(SAME_NAMES),
    E.VALIDATE_FORWARD_BEGIN: NONE,
    E.VALIDATE_FORWARD_END: at("after_pred").but(SAME_NAMES),
    E.VALIDATE_LOSS_BEGIN: NONE,
    E.VALIDATE_LOSS_END: at("after_loss").but(SAME_NAMES),
    E.VALIDATE_BATCH_END: at("after_batch").but(SAME_NAMES),
    E.VALIDATE_END: at("after_validate"),
    E.EPOCH_END: at("after_epoch"),
    E.TRAIN_END: at("after_fit"),
    E.STOP: at("after_cancel_fit").but(BEHIND),
    E.EXCEPTION: NONE,
    E.PREDICT_BEGIN: at("before_validate").but(GET_PREDS),
    E.PREDICT_BATCH_BEGIN: at("before_batch"),
    E.PREDICT_FORWARD_BEGIN: NONE,
    E.PREDICT_FORWARD_END: at("after_pred"),
    E.PREDICT_BATCH_END: at("after_batch"),
    E.PREDICT_END: at("after_validate"),
}

# What is called within a batch: nothing, in three of them.
_IN_BATCH = (E.FORWARD_BEGIN, E.FORWARD_END, E.LOSS_BEGIN, E.LOSS_END)
_IN_UPDATE = (E.BACKWARD_BEGIN, E.BACKWARD_END, E.OVERFLOW, E.STEP_BEGIN, E.STEP_END)
_IN_OTHER_BATCHES = (
    *(E.VALIDATE_FORWARD_BEGIN, E.VALIDATE_FORWARD_END, E.VALIDATE_LOSS_BEGIN, E.VALIDATE_LOSS_END),
    *(E.PREDICT_FORWARD_BEGIN, E.PREDICT_FORWARD_END),
)

IGNITE: Mapping[Event, Place] = {
    **dict.fromkeys((*_IN_BATCH, *_IN_UPDATE, *_IN_OTHER_BATCHES), YOURS),
    E.TRAIN_BEGIN: at("STARTED"),
    E.EPOCH_BEGIN: at("EPOCH_STARTED"),
    E.BATCH_BEGIN: at("ITERATION_STARTED"),
    E.BATCH_END: at("ITERATION_COMPLETED"),
    E.VALIDATE_BEGIN: at("STARTED", "EPOCH_STARTED").but(SECOND_ENGINE),
    E.VALIDATE_BATCH_BEGIN: at("ITERATION_STARTED").but(SECOND_ENGINE),
    E.VALIDATE_BATCH_END: at("ITERATION_COMPLETED").but(SECOND_ENGINE),
    E.VALIDATE_END: at("EPOCH_COMPLETED", "COMPLETED").but(SECOND_ENGINE),
    E.EPOCH_END: at("EPOCH_COMPLETED"),
    E.TRAIN_END: at("COMPLETED"),
    E.STOP: at("TERMINATE").but(NO_EPOCH_COMPLETED),
    E.EXCEPTION: at("EXCEPTION_RAISED").but(SWALLOWED),
    E.PREDICT_BEGIN: at("STARTED", "EPOCH_STARTED").but(OWN_ENGINE),
    E.PREDICT_BATCH_BEGIN: at("ITERATION_STARTED").but(OWN_ENGINE),
    E.PREDICT_BATCH_END: at("ITERATION_COMPLETED").but(OWN_ENGINE),
    E.PREDICT_END: at("EPOCH_COMPLETED", "COMPLETED").but(OWN_ENGINE),
}

LIGHTNING: Mapping[Event, Place] = {
    **dict.fromkeys(_IN_BATCH, THEIR_STEP),
    **dict.fromkeys(_IN_OTHER_BATCHES, NONE),
    E.TRAIN_BEGIN: at("on_train_start").but(SANITY),
    E.EPOCH_BEGIN: at("on_train_epoch_start"),
    E.BATCH_BEGIN: at("on_train_batch_start"),
    E.BACKWARD_BEGIN: at("on_before_backward").but(DIVIDED),
    E.BACKWARD_END: at("on_after_backward"),
    E.OVERFLOW: NONE,
    E.STEP_BEGIN: at("on_before_optimizer_step").but(CLIPPING),
    E.STEP_END: NONE.but(BEFORE_BACKWARD),
    E.BATCH_END: at("on_train_batch_end"),
    E.VALIDATE_BEGIN: at("on_validation_start", "on_validation_epoch_start"),
    E.VALIDATE_BATCH_BEGIN: at("on_validation_batch_start"),
    E.VALIDATE_BATCH_END: at("on_validation_batch_end"),
    E.VALIDATE_END: at("on_validation_epoch_end", "on_validation_end"),
    E.EPOCH_END: at("on_train_epoch_end"),
    E.TRAIN_END: at("on_train_end"),
    E.STOP: NONE.but(ONLY_A_FLAG),
    E.EXCEPTION: at("on_exception"),
    E.PREDICT_BEGIN: at("on_predict_start", "on_predict_epoch_start"),
    E.PREDICT_BATCH_BEGIN: at("on_predict_batch_start"),
    E.PREDICT_BATCH_END: at("on_predict_batch_end"),
    E.PREDICT_END: at("on_predict_epoch_end", "on_predict_end"),
}

KERAS: Mapping[Event, Place] = {
    **dict.fromkeys((*_IN_BATCH, *_IN_UPDATE), PIECE),
    **dict.fromkeys(_IN_OTHER_BATCHES, PIECE),
    E.TRAIN_BEGIN: at("on_train_begin"),
    E.EPOCH_BEGIN: at("on_epoch_begin"),
    E.BATCH_BEGIN: at("on_train_batch_begin"),
    E.BATCH_END: at("on_train_batch_end"),
    E.VALIDATE_BEGIN: at("on_test_begin"),
    E.VALIDATE_BATCH_BEGIN: at("on_test_batch_begin"),
    E.VALIDATE_BATCH_END: at("on_test_batch_end"),
    E.VALIDATE_END: at("on_test_end"),
    E.EPOCH_END: at("on_epoch_end"),
    E.TRAIN_END: at("on_train_end"),
    E.STOP: NONE.but(ONLY_A_FLAG),
    E.EXCEPTION: NONE,
    E.PREDICT_BEGIN: at("on_predict_begin"),
    E.PREDICT_BATCH_BEGIN: at("on_predict_batch_begin"),
    E.PREDICT_BATCH_END: at("on_predict_batch_end"),
    E.PREDICT_END: at("on_predict_end"),
}

COLUMNS: Mapping[str, Mapping[Event, Place]] = {
    "fastai 2": FASTAI,
    "Ignite": IGNITE,
    "Lightning": LIGHTNING,
    "Keras": KERAS,
}

# What they call and we do not: by library, their names and what to do here.
OTHERS: Mapping[str, Mapping[tuple[str, ...], str]] = {
    "fastai 2": {
        ("after_create",): "do it where you make the `Engine`",
        ("after_train",): "no event: the last `batch_end` is before it, `validate_begin` or `epoch_end` behind it",
        (
            *("after_cancel_batch", "after_cancel_backward", "after_cancel_step"),
            *("after_cancel_train", "after_cancel_validate", "after_cancel_epoch"),
        ): "no event: `run.skips` counts what was skipped, and `run.stops` says who stopped what",
    },
    "Ignite": {
        ("GET_BATCH_STARTED",): "no event: `epoch_begin` or the last `batch_end` is before it",
        ("GET_BATCH_COMPLETED",): "`batch_begin`, where the batch is on the device already",
        ("DATALOADER_STOP_ITERATION",): "no event: `validate_begin` or `epoch_end` is behind it",
        ("TERMINATE_SINGLE_EPOCH",): "no event: `run.stops` says who stopped the epoch, and it ends as ever",
        ("INTERRUPT",): "no event",
    },
    "Lightning": {
        ("setup", "on_fit_start"): "`train_begin`",
        ("teardown", "on_fit_end"): "`train_end`",
        ("on_sanity_check_start", "on_sanity_check_end"): "call `engine.evaluate(loader)` before `fit`",
        ("on_before_zero_grad",): "`step_end`: the gradients are still there, and are cleared next",
        ("on_test_start", "on_test_epoch_start"): "`validate_begin`, in `engine.evaluate`",
        ("on_test_batch_start",): "`validate_batch_begin`, in `engine.evaluate`",
        ("on_test_batch_end",): "`validate_batch_end`, in `engine.evaluate`",
        ("on_test_epoch_end", "on_test_end"): "`validate_end`, in `engine.evaluate`",
        (
            *("state_dict", "load_state_dict"),
            *("on_save_checkpoint", "on_load_checkpoint"),
        ): "`state_dict` and `load_state_dict(state)`, which `Checkpoint` asks for in `epoch_end`",
    },
    "Keras": {("on_batch_begin",): "`batch_begin`", ("on_batch_end",): "`batch_end`"},
}


def column(library: str, events: Iterable[Event]) -> list[str]:
    """The names of one library at some of our events.

    Example:
        >>> column("Keras", ORDER[:3])
        ['on_train_begin', 'on_epoch_begin', 'on_train_batch_begin']
    """
    return [name for event in events for name in COLUMNS[library][event].names]


def events() -> str:
    """The table of events, with its notes numbered below."""
    notes = {note: number for number, note in enumerate(dict.fromkeys(_notes()), 1)}
    rows = [f"| ours | {' | '.join(COLUMNS)} |", f"|{'---|' * (1 + len(COLUMNS))}"]
    rows += [f"| {' | '.join(_cell(place, notes) for place in _row(event))} |" for event in ORDER]
    return "\n".join([*rows, "", *(f"{number}. {note}" for note, number in notes.items())])


def others() -> str:
    """The table of what only they call."""
    rows = [
        f"| {library} | {', '.join(f'`{name}`' for name in names)} | {here} |"
        for library, only_theirs in OTHERS.items()
        for names, here in only_theirs.items()
    ]
    return "\n".join(["| | theirs | here |", "|---|---|---|", *rows])


def _row(event: Event) -> tuple[Place, ...]:
    """Our event and the same point in each library."""
    return at(name_of(event)).but(OURS.get(event, "")), *(places[event] for places in COLUMNS.values())


def _notes() -> Iterator[str]:
    """Every note, in the order in which a reader meets it."""
    return (place.note for event in ORDER for place in _row(event) if place.note)


def _cell(place: Place, notes: Mapping[str, int]) -> str:
    mark = f" <sup>{notes[place.note]}</sup>" if place.note else ""
    return (", ".join(f"`{name}`" for name in place.names) or "-") + mark
