"""Is the grammar right, and does it read like one?  It is compared with the tables as a language, word for word."""

from enum import Enum
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states import TRAINING, Event
from states.expressions import GrammarRefused
from states.grammar import EVALUATION_ORDER, PREDICTION_ORDER, TRAINING_ORDER, Grammar, accepts
from states.language import language
from states.names import name_of
from states.order import Order
from states.places import begun, moves
from states.walk import Plan, walk
from tests.states.strategies import BUILT_IN, Judged, judged


Word = tuple[str, ...]
SHAPE = "a rule reads: name = event (rule | event)* event?"
EXCEPTION = name_of(Event.EXCEPTION)
BATCH = "batch_begin forward_begin forward_end loss_begin loss_end backward_begin backward_end batch_end"
VALID_BATCH = (
    "validate_batch_begin validate_forward_begin validate_forward_end validate_loss_begin validate_loss_end "
    "validate_batch_end"
)


def differences(table: Order, grammar: Order) -> tuple[dict[Word, str], int]:
    """Where two orders part, by the shortest word to each place; and how many pairs of places there are."""
    found: dict[Word, str] = {}
    pairs = {(table.start, grammar.start): Word()}
    for here, there in (queue := list(pairs)):
        word = pairs[here, there]
        rows, rules = table.moves[here], grammar.moves[there]
        found |= {(*word, event): "only the table" for event in rows.keys() - rules.keys()}
        found |= {(*word, event): "only the grammar" for event in rules.keys() - rows.keys()}
        if (here in table.ends) != (there in grammar.ends):
            found[word] = "ends for one of them"
        new = {(rows[e], rules[e]): (*word, e) for e in sorted(rows.keys() & rules.keys())}
        queue.extend(pair for pair in new if pair not in pairs)
        pairs = {**new, **pairs}
    return found, len(pairs)


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_table_and_grammar_are_one_language(built_in: Judged) -> None:
    # Not up to a length: the automata are walked side by side until no new pair of places is met.
    found, pairs = differences(built_in.machine.order, built_in.order.order)
    assert found == {}
    assert pairs >= len(built_in.order.order.moves)  # all places of the grammar


def test_only_the_window_and_the_held_run_keep_the_bare_rows_from_more_words() -> None:
    # Actions that report at random: an update though no gradient waits, training that goes on after a stop in
    # validation, training that stops after a validation which ended in order.  Nothing else.
    found, _ = differences(language(TRAINING, counted=False), TRAINING_ORDER.order)
    assert set(found.values()) == {"only the table"}
    validation = ("epoch_begin", "validate_begin")
    stopped = ("train_begin", *validation, "stop", "validate_end")
    flushed = {word for word in found if word[-1] == "step_begin"}
    went_on = {word for word in found if word[-1] in {"epoch_begin", "stop"} and "stop" in word[:-1]}
    assert ("train_begin", "epoch_begin", "step_begin") in flushed
    assert (*stopped, "epoch_end", "epoch_begin") in went_on
    assert set(found) == flushed | went_on


def test_the_comparison_sees_a_rule_that_is_too_loose_and_one_that_is_too_tight() -> None:
    loose = Grammar(TRAINING_ORDER.text.replace("(unstepped small* update)?", "update?"), Event.TRAIN_END)
    tight = Grammar(TRAINING_ORDER.text.replace("epoch* (stop", "epoch+ (stop"), Event.TRAIN_END)
    assert "only the grammar" in differences(TRAINING.order, loose.order)[0].values()
    assert ("train_begin", "train_end") in differences(TRAINING.order, tight.order)[0]


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_every_row_is_heard_in_the_comparison(built_in: Judged) -> None:
    places, rows = [begun(built_in.machine)], set()
    for place in places:
        for row, there in moves(place):
            rows.add(row)
            if there not in places:
                places.append(there)
    assert rows >= set(built_in.machine.rows)


@pytest.mark.parametrize("built_in", BUILT_IN, ids=str)
def test_a_run_that_has_begun_and_is_not_over_may_die_and_then_hears_its_outermost_end_only(built_in: Judged) -> None:
    moves_from, end = built_in.order.order.moves, name_of(built_in.order.outermost)
    living = [place for place, moves in moves_from.items() if EXCEPTION in moves]
    assert set(moves_from) - set(living) == {
        built_in.order.order.start,  # not begun
        moves_from[living[0]][EXCEPTION],  # dying already
        *(place for place, moves in moves_from.items() if not moves),  # over
    }
    for place in living:
        dying = moves_from[place][EXCEPTION]
        assert list(moves_from[dying]) == [end]
        assert moves_from[moves_from[dying][end]] == {}
        assert moves_from[dying][end] in built_in.order.order.ends
        assert dying not in built_in.order.order.ends


@given(judged(), plans(min_batches=0, endless=True), scripts(), st.data())
def test_a_trace_that_is_cut_off_by_death_is_legal(
    what: Judged, plan: Plan, script: Script, data: st.DataObject
) -> None:
    trace = [event for step in walk(what.machine, plan, script.answers()) for event in step.row.events]
    cut = data.draw(st.integers(0, len(trace)))
    dead = accepts([*trace[:cut], Event.EXCEPTION, what.order.outermost], what.order)
    assert dead.legal == (0 < cut < len(trace))


@given(judged(), plans(min_batches=0, endless=True), scripts(), st.data())
def test_a_wrong_event_is_found_where_it_stands(what: Judged, plan: Plan, script: Script, data: st.DataObject) -> None:
    trace = [name_of(event) for step in walk(what.machine, plan, script.answers()) for event in step.row.events]
    cut = data.draw(st.integers(0, len(trace)))
    expected = accepts(trace[:cut], what.order).expected
    wrong = data.draw(st.sampled_from([name_of(e) for e in Event if name_of(e) not in expected]))
    verdict = accepts([*trace[:cut], wrong, *trace[cut:]], what.order)
    assert (verdict.legal, verdict.prefix, verdict.at, verdict.expected) == (False, False, cut, expected)
    assert repr(wrong) in str(verdict)


@pytest.mark.parametrize(
    ("inside", "legal"),
    [
        ("", True),
        ("stop", True),
        ("epoch_begin epoch_end", True),
        ("epoch_begin stop epoch_end", True),
        ("epoch_begin batch_begin batch_end epoch_end epoch_begin epoch_end", True),
        (f"epoch_begin {BATCH} step_begin step_end epoch_end", True),
        (f"epoch_begin {BATCH} batch_begin batch_end step_begin step_end stop epoch_end", True),
        (f"epoch_begin validate_begin {VALID_BATCH} validate_end epoch_end", True),
        (f"epoch_begin validate_begin {VALID_BATCH} {VALID_BATCH} stop validate_end epoch_end", True),
        ("epoch_begin validate_begin validate_end epoch_end stop", True),
        ("epoch_begin validate_begin validate_end stop epoch_end", False),
        ("stop stop", False),
        ("epoch_begin epoch_end stop epoch_begin epoch_end", False),
        ("epoch_begin epoch_end stop epoch_end", False),
        ("epoch_begin stop epoch_end epoch_begin epoch_end", False),
        ("epoch_begin stop epoch_end stop", False),
        ("epoch_begin epoch_begin epoch_end epoch_end", False),
        ("epoch_begin step_begin step_end epoch_end", False),
        (f"epoch_begin {BATCH} step_begin step_end step_begin step_end epoch_end", False),
        (f"epoch_begin {BATCH} stop step_begin step_end epoch_end", False),
        ("epoch_begin batch_begin stop batch_end epoch_end", False),
        ("epoch_begin batch_begin epoch_end batch_end", False),
        ("epoch_begin validate_begin stop validate_end stop epoch_end", False),
        ("epoch_begin validate_begin validate_end batch_begin batch_end epoch_end", False),
        ("validate_begin validate_end", False),
    ],
)
def test_the_order_of_a_training_by_example(inside: str, legal: bool) -> None:
    assert accepts(["train_begin", *inside.split(), "train_end"]).legal is legal


def test_a_whole_run_is_true_a_part_is_a_prefix_and_anything_else_is_neither() -> None:
    whole, part, wrong = accepts(["train_begin", "train_end"]), accepts([Event.TRAIN_BEGIN]), accepts(["train_end"])
    assert (bool(whole), whole.prefix, whole.at, whole.expected) == (True, True, None, ())
    assert (bool(part), part.prefix, part.at) == (False, True, None)
    assert part.expected == ("epoch_begin", "exception", "stop", "train_end")
    assert (bool(wrong), wrong.prefix, wrong.at, wrong.expected) == (False, False, 0, ("train_begin",))
    assert str(whole) == "legal and complete (2 events)"
    assert str(part) == "legal so far (1 events); legal after train_begin: epoch_begin, exception, stop, train_end"
    assert str(wrong) == "event 0, 'train_end', is not legal at the beginning; legal there: train_begin"


def test_nothing_may_follow_the_end_and_a_name_that_nobody_knows_is_an_illegal_event() -> None:
    late = accepts(["predict_begin", "predict_end", "exception"], PREDICTION_ORDER)
    assert (late.at, late.expected) == (2, ())
    assert str(late).endswith("legal there: nothing")
    assert accepts(["validate_begin", "valdate_end"], EVALUATION_ORDER).at == 1


class Mine(Enum):
    """Events of a user's own."""

    SANITY_BEGIN = "sanity_begin"
    SANITY_END = "sanity_end"


def test_a_grammar_of_the_users_own_may_name_events_of_the_users_own() -> None:
    text = "run = train_begin sanity? train_end\nsanity = sanity_begin validation? sanity_end # once\n"
    text += "validation = validate_begin\n    validate_end"
    order = Grammar(text, Event.TRAIN_END, events=[*Event, *Mine])
    assert order.judge([Event.TRAIN_BEGIN, Mine.SANITY_BEGIN, Mine.SANITY_END, Event.TRAIN_END])
    assert order.judge(["train_begin", "sanity_begin", "validate_begin", "validate_end", "sanity_end", "train_end"])
    assert order.judge([Event.TRAIN_BEGIN, Mine.SANITY_BEGIN, Event.TRAIN_END]).at == 2


def test_every_sign_of_a_rule_means_what_it_says() -> None:
    order = Grammar("run = train_begin (stop | epoch_begin+ epoch_end*)? train_end", Event.TRAIN_END)
    letters = {"s": "stop", "b": "epoch_begin", "e": "epoch_end"}
    legal = {"", "s", "b", "bb", "bbb", "be", "bee", "bbe"}
    words = {"".join(word) for length in range(4) for word in product(letters, repeat=length)}
    accepted = {w for w in words if order.judge(["train_begin", *(letters[letter] for letter in w), "train_end"])}
    assert accepted == legal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"the grammar has no rule; {SHAPE}"),
        ("# run = train_begin", f"the grammar has no rule; {SHAPE}"),
        ("run =", "line 1 of the grammar: a name or a bracket is missing at the end of 'run'"),
        ("run = train_begin |", "line 1 of the grammar: a name or a bracket is missing at the end of 'run'"),
        ("run = (| stop)", "line 1 of the grammar: a name or a bracket is missing before '|' of 'run'"),
        ("run = ()", "line 1 of the grammar: a name or a bracket is missing before ')' of 'run'"),
        ("run = train_begin\n (stop", "line 2 of the grammar: '(' is never closed"),
        ("run = train_begin\n stop)", "line 2 of the grammar: ')' closes nothing"),
        ("run = *stop", "line 1 of the grammar: '*' follows nothing that it could repeat"),
        ("run = a\na = b\nb = a", "line 2 of the grammar: rules go in a ring: run -> a -> b -> a"),
        ("run = stop\nrest = stop", "line 2 of the grammar: the first rule leads nowhere to 'rest'"),
        ("run = stop\nrun = stop", "line 2 of the grammar: 'run' is a rule already"),
        ("stop = stop", "line 1 of the grammar: 'stop' is an event"),
        (
            "run = bacth_end",
            "line 1 of the grammar: 'bacth_end' is neither an event nor a rule (did you mean 'batch_end'?)",
        ),
        ("run = stop; stop", f"line 1 of the grammar: ';' is not understood; {SHAPE}"),
        ("stop stop", f"line 1 of the grammar: 'stop' is not understood; {SHAPE}"),
        ("1 = stop", f"line 1 of the grammar: '1' is not understood; {SHAPE}"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(GrammarRefused) as refused:
        Grammar(text, Event.TRAIN_END)
    assert str(refused.value) == message


def test_death_is_no_matter_of_rules() -> None:
    with pytest.raises(GrammarRefused, match="'exception' is neither an event nor a rule"):
        Grammar("run = train_begin exception train_end", Event.TRAIN_END)


def test_what_is_heard_in_a_validation_is_what_is_heard_in_an_evaluation_alone() -> None:
    # Both are written by hand; their places are walked side by side from validate_begin to validate_end.
    training, evaluation = TRAINING_ORDER.order, EVALUATION_ORDER.order
    inside, alone = training.moves, evaluation.moves
    begun_inside = inside[inside[training.start]["train_begin"]]["epoch_begin"]
    pairs = [(inside[begun_inside]["validate_begin"], alone[evaluation.start]["validate_begin"])]
    for here, there in pairs:
        assert inside[here].keys() == alone[there].keys()
        ways = ((inside[here][event], alone[there][event]) for event in alone[there].keys() - {EXCEPTION})
        pairs.extend(pair for pair in ways if pair not in pairs and pair[1] not in evaluation.ends)
    assert len(pairs) == len([place for place, moves in alone.items() if EXCEPTION in moves])
