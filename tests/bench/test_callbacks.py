"""Is what is measured of the callbacks what is said of them?"""

from tests.bench import callbacks
from tests.callbacks.every import EVERY


def test_the_default_stack_costs_at_most_a_twentieth_of_the_plain_loop_and_each_callback_has_a_row() -> None:
    kept = callbacks.read()
    stack = {cost.name: cost.times for cost in kept.stack}
    assert stack["fit with Progress"] <= 1.05
    assert {cost.name for cost in kept.callbacks} == set(EVERY)
    assert all(f"| {name} |" in callbacks.table(kept) for name in (*stack, *EVERY))


def test_what_is_kept_is_what_was_measured(tmp_path) -> None:
    callbacks.save(callbacks.read(), tmp_path / "costs.json")
    assert callbacks.read(tmp_path / "costs.json") == callbacks.read()


def test_what_is_timed_trains() -> None:
    data = callbacks.batches()[:2]
    assert callbacks.plain(data)() > 0
    assert callbacks.fit(data, [EVERY["MixUp"]])() > 0
