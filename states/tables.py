"""What may happen in a training?  The three built-in machines, a screen each.

# Theory of operation
#
# A run is in one state at a time.  A state either *reports* (it has an action, which does one thing and returns the
# trigger that happened) or *decides* (its rows have no trigger).  When a trigger is reported, the events of `first`
# are heard in the source state; then the guards of the rows of that (state, trigger) are asked from top to bottom, and
# the first row whose guard says yes, or that has none, is taken: the state moves, and `heard` is heard there.
#
# Nothing about order lives outside this file.  The loop that runs, pytransitions, the dry run, the picture, the tables of
# the documentation, the proof and the tests all read these rows.  A new arrow is a new row.
#
# An exception or Ctrl-C is a transition too: `Machine.deaths` makes one row for each state that can die, to FAILED or
# INTERRUPTED.  They are not written here because there is nothing to decide about them.
"""

from states.machine import Machine
from states.names import Counter, Event, Guard, State, Trigger
from states.rows import Count, Transition, When


S, T, E, G, C = State, Trigger, Event, Guard, Counter
Row = Transition

# fmt: off
EVALUATION = Machine(
    name="evaluation",
    initial=S.IDLE,
    finals=(S.DONE,),
    gradients=False,
    rows=(
        #   in state     trigger              guard             goes to       heard on the way            heard first
        Row(S.IDLE,      T.EVALUATION_ASKED,  None,             S.EVALUATE,   (E.VALIDATE_BEGIN,)),
        Row(S.EVALUATE,  None,                G.STOP_TRAINING,  S.STOPPING,   (E.STOP,)),
        Row(S.EVALUATE,  None,                G.STOP_VALIDATE,  S.DONE,       (E.VALIDATE_END,)),
        Row(S.EVALUATE,  None,                None,             S.FETCH),
        Row(S.FETCH,     T.BATCH_READY,       None,             S.BATCH,      (E.VALIDATE_BATCH_BEGIN,)),
        Row(S.FETCH,     T.LOADER_DRY,        None,             S.DONE,       (E.VALIDATE_END,)),
        Row(S.BATCH,     None,                None,             S.FORWARD,    (E.VALIDATE_FORWARD_BEGIN,)),
        Row(S.FORWARD,   T.OUTPUT_READY,      None,             S.LOSS,       (E.VALIDATE_LOSS_BEGIN,),   (E.VALIDATE_FORWARD_END,)),
        Row(S.LOSS,      T.LOSS_READY,        None,             S.EVALUATE,   (E.VALIDATE_BATCH_END,),    (E.VALIDATE_LOSS_END,)),
        Row(S.STOPPING,  None,                None,             S.DONE,       (E.VALIDATE_END,)),
    ),
    counts=(
        Count(C.BATCH_INDEX,  None, When.BEFORE, E.VALIDATE_BEGIN),
        Count(C.BATCH_INDEX,  1,    When.AFTER,  E.VALIDATE_BATCH_END),
    ),
)

PREDICTION = Machine(
    name="prediction",
    initial=S.IDLE,
    finals=(S.DONE,),
    gradients=False,
    rows=(
        #   in state     trigger              guard             goes to       heard on the way            heard first
        Row(S.IDLE,      T.PREDICTION_ASKED,  None,             S.PREDICT,    (E.PREDICT_BEGIN,)),
        Row(S.PREDICT,   None,                G.STOP_PREDICT,   S.STOPPING,   (E.STOP,)),
        Row(S.PREDICT,   None,                None,             S.FETCH),
        Row(S.FETCH,     T.BATCH_READY,       None,             S.BATCH,      (E.PREDICT_BATCH_BEGIN,)),
        Row(S.FETCH,     T.LOADER_DRY,        None,             S.DONE,       (E.PREDICT_END,)),
        Row(S.BATCH,     None,                None,             S.FORWARD,    (E.PREDICT_FORWARD_BEGIN,)),
        Row(S.FORWARD,   T.OUTPUT_READY,      None,             S.PREDICT,    (E.PREDICT_BATCH_END,),     (E.PREDICT_FORWARD_END,)),
        Row(S.STOPPING,  None,                None,             S.DONE,       (E.PREDICT_END,)),
    ),
    counts=(
        Count(C.BATCH_INDEX,  None, When.BEFORE, E.PREDICT_BEGIN),
        Count(C.BATCH_INDEX,  1,    When.AFTER,  E.PREDICT_BATCH_END),
    ),
)

TRAINING = Machine(
    name="training",
    initial=S.IDLE,
    finals=(S.DONE,),
    holds={S.VALIDATE: EVALUATION},
    rows=(
        #   in state     trigger                guard              goes to       heard on the way           heard first
        Row(S.IDLE,      T.FIT_ASKED,           None,              S.TRAIN,      (E.TRAIN_BEGIN,)),
        Row(S.TRAIN,     T.EPOCH_DUE,           G.STOP_TRAINING,   S.STOPPING,   (E.STOP,)),
        Row(S.TRAIN,     T.EPOCH_DUE,           None,              S.EPOCH,      (E.EPOCH_BEGIN,)),
        Row(S.TRAIN,     T.EPOCHS_SPENT,        None,              S.DONE,       (E.TRAIN_END,)),
        Row(S.EPOCH,     None,                  G.STOP_TRAINING,   S.STOPPING,   (E.STOP, E.EPOCH_END)),
        Row(S.EPOCH,     None,                  G.STOP_EPOCH,      S.WINDOW),
        Row(S.EPOCH,     None,                  None,              S.FETCH),
        Row(S.FETCH,     T.BATCH_READY,         None,              S.BATCH,      (E.BATCH_BEGIN,)),
        Row(S.FETCH,     T.LOADER_DRY,          None,              S.WINDOW),
        Row(S.FETCH,     T.UPDATES_SPENT,       None,              S.WINDOW),
        Row(S.BATCH,     None,                  G.SKIP_BATCH,      S.EPOCH,      (E.BATCH_END,)),
        Row(S.BATCH,     None,                  None,              S.FORWARD,    (E.FORWARD_BEGIN,)),
        Row(S.FORWARD,   T.OUTPUT_READY,        None,              S.LOSS,       (E.LOSS_BEGIN,),           (E.FORWARD_END,)),
        Row(S.LOSS,      T.LOSS_READY,          G.SKIP_BACKWARD,   S.EPOCH,      (E.BATCH_END,),            (E.LOSS_END,)),
        Row(S.LOSS,      T.LOSS_READY,          None,              S.BACKWARD,   (E.BACKWARD_BEGIN,),       (E.LOSS_END,)),
        Row(S.BACKWARD,  T.GRADS_READY,         G.ACCUMULATE,      S.EPOCH,      (E.BATCH_END,),            (E.BACKWARD_END,)),
        Row(S.BACKWARD,  T.GRADS_READY,         G.SKIP_STEP,       S.ZERO_GRAD,  (),                        (E.BACKWARD_END,)),
        Row(S.BACKWARD,  T.GRADS_READY,         None,              S.AVERAGE,    (),                        (E.BACKWARD_END,)),
        Row(S.AVERAGE,   T.GRADS_AVERAGED,      None,              S.STEP,       (E.STEP_BEGIN,)),
        Row(S.STEP,      T.WEIGHTS_MOVED,       G.SKIP_ZERO_GRAD,  S.EPOCH,      (E.BATCH_END,),            (E.STEP_END,)),
        Row(S.STEP,      T.WEIGHTS_MOVED,       None,              S.ZERO_GRAD,  (),                        (E.STEP_END,)),
        Row(S.ZERO_GRAD, T.GRADS_CLEARED,       None,              S.EPOCH,      (E.BATCH_END,)),
        Row(S.WINDOW,    T.WINDOW_OPEN,         G.SKIP_STEP,       S.CLEAR),
        Row(S.WINDOW,    T.WINDOW_OPEN,         None,              S.SETTLE),
        Row(S.WINDOW,    T.WINDOW_EMPTY,        None,              S.CLOSE),
        Row(S.SETTLE,    T.GRADS_AVERAGED,      None,              S.FLUSH,      (E.STEP_BEGIN,)),
        Row(S.FLUSH,     T.WEIGHTS_MOVED,       G.SKIP_ZERO_GRAD,  S.CLOSE,      (),                        (E.STEP_END,)),
        Row(S.FLUSH,     T.WEIGHTS_MOVED,       None,              S.CLEAR,      (),                        (E.STEP_END,)),
        Row(S.CLEAR,     T.GRADS_CLEARED,       None,              S.CLOSE),
        Row(S.CLOSE,     T.VALIDATION_DUE,      G.STOP_TRAINING,   S.STOPPING,   (E.STOP, E.EPOCH_END)),
        Row(S.CLOSE,     T.VALIDATION_DUE,      G.SKIP_VALIDATE,   S.TRAIN,      (E.EPOCH_END,)),
        Row(S.CLOSE,     T.VALIDATION_DUE,      None,              S.VALIDATE),
        Row(S.CLOSE,     T.NO_VALIDATION,       None,              S.TRAIN,      (E.EPOCH_END,)),
        Row(S.VALIDATE,  T.VALIDATED,           None,              S.TRAIN,      (E.EPOCH_END,)),
        Row(S.VALIDATE,  T.VALIDATION_STOPPED,  None,              S.STOPPING,   (E.EPOCH_END,)),
        Row(S.STOPPING,  None,                  None,              S.DONE,       (E.TRAIN_END,)),
    ),
    counts=(
        Count(C.BATCH_INDEX,  None, When.BEFORE, E.EPOCH_BEGIN),
        Count(C.WINDOW,       1,    When.BEFORE, E.BACKWARD_END),
        Count(C.UPDATES,      1,    When.BEFORE, E.STEP_END),
        Count(C.WINDOW,       None, When.AFTER,  E.STEP_END),
        Count(C.WINDOW,       None, When.BEFORE, T.GRADS_CLEARED),
        Count(C.BATCHES_DONE, 1,    When.AFTER,  E.BATCH_END),
        Count(C.BATCH_INDEX,  1,    When.AFTER,  E.BATCH_END),
        Count(C.EPOCH,        1,    When.AFTER,  E.EPOCH_END),
    ),
)
# fmt: on
