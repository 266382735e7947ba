"""Is what is measured of the kit what is said of it?"""

from tests.bench import kit


def test_the_page_has_each_figure_with_its_goal_and_meets_it() -> None:
    kept = kit.read()
    table = kit.table(kept)
    assert all(goal in table and what in table for what, _, _, goal in kit.GOALS)
    assert kept.strides > 10_000
    assert kept.walks > 500
    assert kept.trainings > 100
    assert kept.prove < 5
    assert kept.check < 30


def test_what_is_drawn_is_walked_and_judged() -> None:
    kit.drawn(5)()


def test_what_is_timed_trains() -> None:
    engine, arguments = kit.factory()
    run = engine.fit(**arguments, epochs=2)
    assert (run.updates, len(run.history)) == (6, 2)
    kit.trained()


def test_the_fastest_call_counts() -> None:
    calls = []
    assert kit.seconds(lambda: calls.append(1), 4) < 0.1
    assert len(calls) == 5
