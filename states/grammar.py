"""Which order of events is legal?  Written by hand as a grammar, a second notation beside the tables.

A table says what a machine does; a grammar says what anybody may hear who only listens.  The three grammars below were
not derived from the rows and must never be: each judges the other.
"""

from collections.abc import Hashable, Iterable, Sequence
from enum import Enum
from functools import cached_property

from attrs import field, frozen

from states.expressions import EMPTY, Expression, Then, Word, after, firsts, may_end, read
from states.names import Event, name_of
from states.order import Judgement, Order


def _events(events: Iterable[Enum]) -> tuple[Enum, ...]:
    return tuple(events)


@frozen(slots=False)
class Grammar:
    """A legal order of events, read from a text: the first rule is the whole run, the others are its parts.

    A rule reads `name = event (rule | event)* event?`; a line without `=` goes on with the rule above, `#` begins a
    comment.  Death needs no rule: while a run has begun and is not over, `exception` and then `outermost` are legal.

    Attributes:
        text: The rules.
        outermost: The event that a run which dies still hears, last.
        events: The events that the rules may name; a machine with events of its own lists them here as well.

    Raises:
        GrammarRefused: the text cannot be read; says which line, and why.

    Example:
        >>> order = Grammar("run = train_begin (epoch_begin epoch_end)* train_end", Event.TRAIN_END)
        >>> print(order.judge(["train_begin", "epoch_begin", "train_end"]))
        event 2, 'train_end', is not legal after train_begin, epoch_begin; legal there: epoch_end, exception
        >>> bool(order.judge([Event.TRAIN_BEGIN, Event.EXCEPTION, Event.TRAIN_END]))
        True
    """

    text: str = field(repr=False)
    outermost: Enum
    events: tuple[Enum, ...] = field(default=tuple(Event), converter=_events, repr=False)

    # What may be heard from the first event on, deaths aside.
    whole: Expression = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Read the text; one that cannot be read never becomes a grammar."""
        words = {name_of(event) for event in self.events if event is not Event.EXCEPTION}
        object.__setattr__(self, "whole", read(self.text, words))

    @cached_property
    def order(self) -> Order:
        """Every place of the grammar, named by what may still follow there, with its moves by event."""
        # A sequence of one: the same language as the place of a living run that only waits for its end, not the same
        # place, because the living one may still die.
        dying = Then((Word(name_of(self.outermost)),))
        moves: dict[Hashable, dict[str, Hashable]] = {dying: {name_of(self.outermost): EMPTY}, EMPTY: {}}
        queue = [self.whole]
        for place in queue:
            if place in moves:
                continue
            ways = {word: after(place, word) for word in sorted(firsts(place))}
            queue.extend(ways.values())
            living = place is not self.whole and ways
            moves[place] = {**ways, name_of(Event.EXCEPTION): dying} if living else {**ways}
        ends = (place for place in (*queue, dying, EMPTY) if may_end(place))
        return Order(self.whole, moves, frozenset(ends))

    def judge(self, trace: Sequence[Enum | str]) -> Judgement:
        """Say whether a trace is legal, whether it is so far, and if it is not, where it goes wrong."""
        return self.order.judge(trace)


def accepts(trace: Sequence[Enum | str], order: Grammar | Order | None = None) -> Judgement:
    """Judge a trace of events, members or their names, by a grammar or a machine's order: else by `TRAINING_ORDER`.

    Example:
        >>> print(accepts(["train_begin", "epoch_begin", "batch_begin", "loss_begin"]))
        ... # doctest: +NORMALIZE_WHITESPACE
        event 3, 'loss_begin', is not legal after train_begin, epoch_begin, batch_begin;
        legal there: batch_end, exception, forward_begin
    """
    return (order or TRAINING_ORDER).judge(trace)


EVALUATION_ORDER = Grammar(
    """
    evaluation = validate_begin batch* stop? validate_end
    batch      = validate_batch_begin
                     validate_forward_begin validate_forward_end
                     validate_loss_begin validate_loss_end
                 validate_batch_end
    """,
    outermost=Event.VALIDATE_END,
)

PREDICTION_ORDER = Grammar(
    """
    prediction = predict_begin batch* stop? predict_end
    batch      = predict_batch_begin predict_forward_begin predict_forward_end predict_batch_end
    """,
    outermost=Event.PREDICT_END,
)

TRAINING_ORDER = Grammar(
    """
    training     = train_begin epoch* (stop | last_epoch)? train_end
    epoch        = epoch_begin batches validation? epoch_end

    # The epoch in which the run is asked to stop: between two batches, after them, or while it validates.  One that was
    # validated whole is an epoch like any other.
    last_epoch   = epoch_begin batches (stop | cut_short) epoch_end

    # The last update belongs to a window that was part-filled when the loader was left: one of the batches before it
    # has computed gradients that no step has used, so that nothing after that batch has moved the weights.
    batches      = batch* (unstepped small* update)?
    batch        = small | stepped
    small        = skipped | looked_at | unstepped

    skipped      = batch_begin batch_end
    looked_at    = batch_begin forward loss batch_end
    unstepped    = batch_begin forward loss backward batch_end
    stepped      = batch_begin forward loss backward update batch_end

    forward      = forward_begin forward_end
    loss         = loss_begin loss_end
    backward     = backward_begin backward_end
    update       = step_begin step_end

    validation   = validate_begin valid_batch* validate_end
    cut_short    = validate_begin valid_batch* stop validate_end
    valid_batch  = validate_batch_begin
                       validate_forward_begin validate_forward_end
                       validate_loss_begin validate_loss_end
                   validate_batch_end
    """,
    outermost=Event.TRAIN_END,
)
