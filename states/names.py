"""Which words does the machine speak?  The built-in states, triggers, events, guards and counters.

A user's machine adds words in enum classes of its own (plain `enum.Enum`); within one machine a word means one thing.
"""

from enum import Enum, unique


@unique
class State(Enum):
    """What the run is doing now."""

    IDLE = "idle"  # nothing yet; its action prepares the model
    TRAIN = "train"  # between two epochs
    EPOCH = "epoch"  # between two batches: the place where stops are answered
    FETCH = "fetch"  # drawing a batch, moving it to the device
    BATCH = "batch"  # a batch is there, nothing is computed yet
    FORWARD = "forward"  # inputs -> output
    LOSS = "loss"  # output, targets -> loss
    BACKWARD = "backward"  # loss -> gradients, added to those of the open window
    UNSCALE = "unscale"  # with a scaled loss: the gradients of the window are divided by the scale
    AVERAGE = "average"  # the summed gradients of the window become their mean
    STEP = "step"  # the optimizer moves the weights
    ZERO_GRAD = "zero_grad"  # the gradients are dropped
    WINDOW = "window"  # the loader is left: are gradients still waiting for a step?
    DESCALE = "descale"  # UNSCALE for the part-filled last window
    SETTLE = "settle"  # AVERAGE for the part-filled last window
    FLUSH = "flush"  # STEP for the part-filled last window
    CLEAR = "clear"  # ZERO_GRAD for the part-filled last window
    CLOSE = "close"  # training of the epoch is over: is validation due?
    VALIDATE = "validate"  # a whole EVALUATION machine runs in here
    STOPPING = "stopping"  # a stop was granted; only ends are heard from here on
    EVALUATE = "evaluate"  # EVALUATION: between two batches
    PREDICT = "predict"  # PREDICTION: between two batches
    DONE = "done"  # ended in order
    FAILED = "failed"  # ended by an exception
    INTERRUPTED = "interrupted"  # ended by Ctrl-C
    LEFT = "left"  # ended early by the code around it, with a batch open


@unique
class Trigger(Enum):
    """What just happened; reported by the action of a state, or by the user's own code."""

    FIT_ASKED = "fit_asked"
    EVALUATION_ASKED = "evaluation_asked"
    PREDICTION_ASKED = "prediction_asked"
    EPOCH_DUE = "epoch_due"  # fewer epochs have ended than were asked for
    EPOCHS_SPENT = "epochs_spent"
    BATCH_READY = "batch_ready"
    LOADER_DRY = "loader_dry"
    UPDATES_SPENT = "updates_spent"  # `max_updates` optimizer steps were taken
    OUTPUT_READY = "output_ready"
    LOSS_READY = "loss_ready"
    GRADS_READY = "grads_ready"
    GRADS_UNSCALED = "grads_unscaled"  # all are finite
    OVERFLOWED = "overflowed"  # some are not: the scale was too large
    GRADS_AVERAGED = "grads_averaged"
    WEIGHTS_MOVED = "weights_moved"
    GRADS_CLEARED = "grads_cleared"
    WINDOW_OPEN = "window_open"  # gradients wait for a step that never came
    WINDOW_EMPTY = "window_empty"
    VALIDATION_DUE = "validation_due"
    NO_VALIDATION = "no_validation"  # no validation loader was given
    VALIDATED = "validated"
    VALIDATION_STOPPED = "validation_stopped"  # the whole run was asked to stop in there
    ERROR_RAISED = "error_raised"  # by an action, a callback, a guard or the loader
    INTERRUPT = "interrupt"  # Ctrl-C
    RUN_LEFT = "run_left"  # the user's own code leaves a run that it takes forward itself, with a batch open


@unique
class Event(Enum):
    """What callbacks hear: a callback's method is `on_<event>(run)`."""

    TRAIN_BEGIN = "train_begin"  # the model is in training mode, gradients are clear
    EPOCH_BEGIN = "epoch_begin"  # batch_index is 0, no batch is drawn yet
    BATCH_BEGIN = "batch_begin"  # inputs and targets are there, on the device
    FORWARD_BEGIN = "forward_begin"  # the last word on the inputs
    FORWARD_END = "forward_end"  # the output is there
    LOSS_BEGIN = "loss_begin"  # the last word on output and targets
    LOSS_END = "loss_end"  # the loss is there, no gradient of this batch yet
    BACKWARD_BEGIN = "backward_begin"  # the last word on the loss
    BACKWARD_END = "backward_end"  # gradients of the window so far, summed (and scaled, with fp16); before the step
    OVERFLOW = "overflow"  # with fp16: gradients are not finite; they are dropped, the scale was lowered
    STEP_BEGIN = "step_begin"  # gradients are the mean over the window: clip here
    STEP_END = "step_end"  # the weights have moved, the gradients are not zeroed yet
    BATCH_END = "batch_end"  # this batch ended in order, skipped or not
    EPOCH_END = "epoch_end"  # after validation
    TRAIN_END = "train_end"  # always comes, once, last
    VALIDATE_BEGIN = "validate_begin"  # the model is in evaluation mode
    VALIDATE_BATCH_BEGIN = "validate_batch_begin"  # as batch_begin; `run.parent` is the training, if one goes on
    VALIDATE_FORWARD_BEGIN = "validate_forward_begin"  # as forward_begin
    VALIDATE_FORWARD_END = "validate_forward_end"  # as forward_end
    VALIDATE_LOSS_BEGIN = "validate_loss_begin"  # as loss_begin
    VALIDATE_LOSS_END = "validate_loss_end"  # as loss_end
    VALIDATE_BATCH_END = "validate_batch_end"  # as batch_end
    VALIDATE_END = "validate_end"  # metrics are computed, the mode is not put back yet
    PREDICT_BEGIN = "predict_begin"  # the model is in evaluation mode
    PREDICT_BATCH_BEGIN = "predict_batch_begin"  # the inputs are there, on the device
    PREDICT_FORWARD_BEGIN = "predict_forward_begin"  # as forward_begin
    PREDICT_FORWARD_END = "predict_forward_end"  # as forward_end
    PREDICT_BATCH_END = "predict_batch_end"  # the last word on the output that is kept
    PREDICT_END = "predict_end"  # the mode is not put back yet
    STOP = "stop"  # a stop of the whole run was granted; heard before any end
    EXCEPTION = "exception"  # the run dies; only the outermost end follows


@unique
class Guard(Enum):
    """What a callback may decide: stop or skip.  A name that begins with `stop_` is a stop guard."""

    STOP_TRAINING = "stop_training"  # end the whole run, in order; an open window is not stepped
    STOP_EPOCH = "stop_epoch"  # leave the loader, then flush and validate as ever
    STOP_VALIDATE = "stop_validate"  # end this validation; training goes on
    STOP_PREDICT = "stop_predict"  # end this prediction
    SKIP_BATCH = "skip_batch"  # nothing is computed for this batch
    SKIP_BACKWARD = "skip_backward"  # the loss is computed, no gradient is
    ACCUMULATE = "accumulate"  # the window stays open: keep the gradients, go on with the next batch
    SKIP_STEP = "skip_step"  # drop the gradients of the window, do not move the weights; asked where a step is due
    SKIP_ZERO_GRAD = "skip_zero_grad"  # keep the gradients after the step: the next window adds to them
    SKIP_VALIDATE = "skip_validate"  # no validation in this epoch


# Stop guards that end a pass over the loader, and no more than that.
OF_THE_EPOCH = (Guard.STOP_EPOCH, Guard.STOP_VALIDATE)


@unique
class Counter(Enum):
    """What the run counts.  Counters move where the machine says, and nowhere else."""

    EPOCH = "epoch"  # epochs ended
    BATCH_INDEX = "batch_index"  # batches ended since the loader was last begun
    BATCHES_DONE = "batches_done"  # training batches ended in the whole run, skipped ones too
    UPDATES = "updates"  # optimizer steps taken in the whole run
    WINDOW = "window"  # batches whose gradients wait for a step
    OVERFLOWS = "overflows"  # windows whose gradients were dropped since they were not finite (with fp16)


def name_of(word: object) -> str:
    """The one name of a word: what methods, tables and pictures call it.

    What is no member of an enum is no word; it is shown as it is, so that a refusal can name it.

    Example:
        >>> name_of(Event.TRAIN_BEGIN)
        'train_begin'
    """
    return word.name.lower() if isinstance(word, Enum) else repr(word)


def is_stop(guard: Enum) -> bool:
    """Whether a guard stops (rather than skips): by its name.

    Example:
        >>> is_stop(Guard.STOP_EPOCH), is_stop(Guard.SKIP_STEP)
        (True, False)
    """
    return name_of(guard).startswith("stop_")
