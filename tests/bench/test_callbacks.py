"""Is what is measured of the callbacks what is said of them?"""

from tests.bench import callbacks
from tests.callbacks.every import EVERY


def test_the_default_stack_costs_at_most_a_twentieth_of_the_plain_loop_and_each_callback_has_a_row() -> None:
    kept = callbacks.read()
    stack = {cost.name: cost.times for cost in kept.stack}
    assert stack["fit with Progress"] <= 1.05
    assert {cost.name for cost in kept.callbacks} == {callbacks.AGAIN, *EVERY}
    assert all(f"| {name} |" in callbacks.table(kept) for name in (*stack, *EVERY))


def test_what_is_kept_is_what_was_measured(tmp_path) -> None:
    callbacks.save(callbacks.read(), tmp_path / "costs.json")
    assert callbacks.read(tmp_path / "costs.json") == callbacks.read()


def test_what_is_timed_trains() -> None:
    data = callbacks.batches()[:2]
    assert callbacks.plain(data)() > 0
    assert all(callbacks.fit(data, [{**EVERY, **callbacks.ALIKE}[name]])() > 0 for name in EVERY)


def test_a_cost_is_that_of_runs_which_nothing_has_disturbed() -> None:
    disturbed = [12.0, 11.0, 90.0, 11.0, 35.0, 12.0] * 5
    assert callbacks.cost("mine", disturbed, [one - 4.0 for one in disturbed]).beyond == 4.0
    assert callbacks.cost("mine", [3.0] * 10 + [5.0] * 10, [1.0] * 20).halves == [2.0, 4.0]


def test_every_contender_runs_once_in_a_round_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    runs = {name: lambda name=name: float(calls.append(name) or len(calls)) for name in "ab"}
    spent = callbacks.in_rounds(runs, 2)
    assert calls == [*"ababab"]
    assert [*spent["a"]] == [1e6 * number / (callbacks.BATCHES * callbacks.EPOCHS) for number in (3, 5)]
