"""Is the first line found in which two traces part, and shown as a person would look for it?"""

from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.testing.runs.described import Script
from engine.testing.strategies import plans, scripts
from states.difference import difference
from states.trace import Trace
from states.walk import Plan
from tests.testing.test_trace import SHORT, recorded


def named(trace: Trace, name: str) -> Trace:
    return evolve(trace, name=name)


@given(plans(max_epochs=2, max_batches=3), scripts())
def test_a_run_that_is_done_again_tells_the_same(plan: Plan, chosen: Script) -> None:
    one, other = recorded(plan, chosen), recorded(plan, chosen)
    assert difference(one, one) is None
    assert difference(one, other) is None
    later = evolve(one, lines=tuple(evolve(line, seconds=line.seconds + 1) for line in one.lines))
    assert difference(one, later) is None


@given(plans(max_epochs=2, max_batches=3), scripts(), st.data())
def test_a_line_that_was_changed_is_the_one(plan: Plan, chosen: Script, data: st.DataObject) -> None:
    one = recorded(plan, chosen)
    at = data.draw(st.integers(0, len(one.lines) - 1))
    line = one.lines[at]
    changed = data.draw(
        st.sampled_from(
            [
                ("state", evolve(line, state="elsewhere")),
                ("row", evolve(line, row="a -> b")),
                ("updates", evolve(line, counters={**line.counters, "updates": 99})),
                ("machine", evolve(line, machine="another")),
                ("raised", evolve(line, raised="ValueError")),
                ("callback", evolve(line, callback="Somebody")),
            ]
        )
    )
    assume(changed[1] != line)
    other = evolve(one, lines=(*one.lines[:at], changed[1], *one.lines[at + 1 :]))
    for pair in ((one, other), (other, one)):
        found = difference(*pair)
        assert found is not None
        assert (found.at, found.told) == (at, (changed[0],))
        marked = [row for row in str(found).splitlines() if row.startswith("> ")]
        assert [row.split()[1:3] for row in marked] == [["-", str(at + 2)], ["+", str(at + 2)]]


@given(plans(max_epochs=2, max_batches=3), st.integers(0, 5), st.data())
def test_one_that_ends_earlier_parts_where_it_ends(plan: Plan, context: int, data: st.DataObject) -> None:
    one = named(recorded(plan), "one")
    length = data.draw(st.integers(0, len(one.lines) - 1))
    other = named(evolve(one, lines=one.lines[:length]), "other")
    for pair in ((one, other), (other, one)):
        found = difference(*pair, context)
        assert found is not None
        assert (found.at, found.told) == (length, ())
        sentence, _, *rows = str(found).splitlines()
        assert sentence.endswith(": other ends there")
        assert len(rows) == min(length, context) + min(len(one.lines) - length, context + 1)


@given(plans(max_epochs=2, max_batches=3), st.data())
def test_traces_of_two_machines_differ_whatever_they_tell(plan: Plan, data: st.DataObject) -> None:
    one = named(recorded(plan), "one")
    rows = one.rows["training"]
    header, words = data.draw(
        st.sampled_from(
            [
                ({"machine": "mine"}, "'training' and 'mine'; the first has the same rows"),
                (
                    {"rows": {**one.rows, "training": rows[1:]}},
                    f"'training'; the first has the row training: {rows[0]}",
                ),
                ({"rows": {**one.rows, "mine": ("a -> b",)}}, "'training'; the first lacks the row mine: a -> b"),
                ({"rows": {**one.rows, "training": rows[::-1]}}, "'training'; the first has its rows in another order"),
            ]
        )
    )
    other = evolve(one, name="other", **header)
    found = difference(one, other)
    assert found is not None
    assert (found.at, found.told) == (None, ())
    assert str(found) == f"one (-) and other (+) are of another machine: {words}"
    shorter = difference(one, evolve(other, lines=one.lines[:-1]))
    assert shorter is not None
    assert shorter.at == len(one.lines) - 1
    assert str(shorter).splitlines()[0] == str(found)
    assert "part at line" in str(shorter).splitlines()[1]


def test_a_guard_that_answers_otherwise_is_shown_with_what_comes_of_it() -> None:
    one, other = named(recorded(SHORT), "one.jsonl"), named(recorded(SHORT, Script({"skip_step": [0]})), "other.jsonl")
    assert str(difference(one, other, context=2)) == PARTED


# fmt: off
PARTED = """\
one.jsonl (-) and other.jsonl (+) part at line 19, in backward (epoch 0, batch 0, update 0): in answer
    line  event              callback  state     batch_index  batches_done  updates  window  row
      17  backward_end                 backward            0             0        0       1
      18  accumulate: no     Script    backward            0             0        0       1
> -   19  skip_step: no      Script    backward            0             0        0       1
  -   20  step_begin                   step                0             0        0       1  average grads_averaged -> step: step_begin
  -   21  step_end                     step                0             0        1       1
> +   19  skip_step: yes     Script    backward            0             0        0       1
  +   20  batch_end                    epoch               0             0        0       0  zero_grad grads_cleared -> epoch: batch_end
  +   21  stop_training: no  Script    epoch               1             1        0       0"""  # noqa: E501  # a table's row is a line
# fmt: on
