"""Do claims say what they say?  Each against a look at the whole trace, and proved or broken over the machines."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from states import EVALUATION, TRAINING, Event
from states.claims import Claim, ClaimRefused, at_most_once, before, each, never
from states.explore import Listening, explore, heard_in, stops


WORDS = ["a_begin", "a_end", "b", "c", "exception"]
traces = st.lists(st.sampled_from(WORDS), max_size=9)
Slow = Callable[[Sequence[str]], bool]


def precedes(trace: Sequence[str]) -> bool:
    """Each b has a c since the b before."""
    places = [-1, *(number for number, word in enumerate(trace) if word == "b")]
    return all("c" in trace[one + 1 : other] for one, other in pairwise(places))


def outside(trace: Sequence[str]) -> bool:
    """No b between a_begin and the next a_end or exception."""
    inside = False
    for word in trace:
        if word == "b" and inside:
            return False
        inside = word == "a_begin" or (inside and word not in ("a_end", "exception"))
    return True


def once_within(trace: Sequence[str]) -> bool:
    parts, count = [], 0
    for word in trace:
        if word == "a_begin":
            parts.append(count)
            count = 0
        count += word == "b"
    return all(part <= 1 for part in [*parts, count])


def directly(trace: Sequence[str]) -> bool:
    return all(trace[number + 1 : number + 2] in (["b"], ["exception"]) for number in places(trace, "c"))


def later(trace: Sequence[str]) -> bool:
    return all({"b", "exception"} & {*trace[number + 1 :]} for number in places(trace, "c"))


def places(trace: Sequence[str], word: str) -> list[int]:
    return [number for number, one in enumerate(trace) if one == word]


CLAIMS: list[tuple[Claim, Slow]] = [
    (before("c", "b"), precedes),
    (never("b", between=("a_begin", "a_end")), outside),
    (never("b"), lambda trace: "b" not in trace),
    (at_most_once("b"), lambda trace: trace.count("b") <= 1),
    (at_most_once("b", within="a"), once_within),
    (each("c").followed_by("b"), directly),
    (each("c").followed_later_by("b"), later),
]


@pytest.mark.parametrize(("claim", "holds"), CLAIMS, ids=[claim.code for claim, _ in CLAIMS])
@given(trace=traces)
def test_a_claim_holds_of_a_trace_where_a_look_at_all_of_it_says_so(
    claim: Claim, holds: Slow, trace: list[str]
) -> None:
    assert bool(claim.order(WORDS).judge(trace)) == holds(trace)


@pytest.mark.parametrize(("claim", "holds"), CLAIMS, ids=[claim.code for claim, _ in CLAIMS])
@given(trace=traces)
def test_the_first_event_that_breaks_a_claim_is_named(claim: Claim, holds: Slow, trace: list[str]) -> None:
    at = claim.order(WORDS).judge(trace).at
    if at is not None:
        assert claim.order(WORDS).judge(trace[:at]).prefix
        assert not any(holds([*trace[: at + 1], *more]) for more in ([], ["b"], ["exception"], ["c", "b"]))


@pytest.mark.parametrize("claim", [claim for claim, _ in CLAIMS], ids=lambda claim: claim.code)
def test_a_claim_is_written_as_it_is_shown(claim: Claim) -> None:
    names = {"before": before, "never": never, "each": each, "at_most_once": at_most_once}
    assert eval(repr(claim), names) == claim  # noqa: S307  # our own text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: before("step_end", "step_end"), "before was given step_end, step_end: they have to be different"),
        (lambda: each("stop").followed_by(), "each('stop').followed_by() names no event"),
        (lambda: before("step_ende", "batch_end").order(Event), "did you mean 'step_end'?"),
    ],
)
def test_a_claim_that_says_nothing_is_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ClaimRefused) as refused:
        make()
    assert says in str(refused.value)


def broken(claim: Claim, *, answered: bool) -> tuple[str, ...] | None:
    """The shortest trace that breaks a claim in TRAINING."""
    monitor = Listening(claim.order(heard_in(TRAINING)))
    answering = None if answered else stops(TRAINING)
    found = explore(TRAINING, {"claim": monitor}, answering=answering)
    return found.broken[0].trace if found.broken else None


def test_what_is_claimed_of_training_is_proved_or_broken_by_a_shortest_trace() -> None:
    assert broken(each("backward_end").followed_by("step_begin", "batch_end"), answered=True) is None
    assert broken(never("step_begin", between=("backward_begin", "backward_end")), answered=True) is None
    assert broken(at_most_once("exception"), answered=True) is None
    assert broken(at_most_once("stop"), answered=True) is None
    skipped = ("train_begin", "epoch_begin", "batch_begin", "batch_end")
    assert broken(before("step_end", "batch_end"), answered=True) == skipped
    assert broken(before("step_end", "batch_end"), answered=False) is None
    assert broken(never("stop"), answered=False) == ("train_begin", "stop")
    assert broken(each("train_begin").followed_by("epoch_begin"), answered=False) == ("train_begin", "stop")


def test_what_a_held_machine_lets_hear_may_be_claimed() -> None:
    assert broken(before("validate_begin", "validate_end"), answered=True) is None
    assert {*EVALUATION.events} <= {*heard_in(TRAINING)}
