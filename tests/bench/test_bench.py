"""Does the benchmark measure what it says?  Contenders do equal work, the arithmetic is right.  No time is judged."""

import re
from collections.abc import Iterator
from itertools import chain, repeat

import pytest
import torch
from attrs import evolve

from engine.running.loop import source
from engine.running.prepare import Preparation
from states import TRAINING
from tests.bench import fake, page, picture
from tests.bench.__main__ import NAMES, parsed
from tests.bench.contenders import (
    BASELINES,
    CHECKED,
    DROPPING,
    FIT,
    OWN_LOOP,
    STEPPER,
    UNMEASURED,
    Contender,
    installed,
)
from tests.bench.measure import Differs, Extent, judge_of, measure
from tests.bench.parts import LINES, parts, texts
from tests.bench.results import JSON, Measured, Memory, Part, Results, Startup, Table, read, written
from tests.bench.table import aligned, bar, markdown, report
from tests.bench.timing import Pair, Spread, beyond, interleave, noise, ratios, seconds, spread
from tests.bench.workloads import EVENTS, WORKLOADS, Trained


def short(workload, batches=3):
    return judge_of(workload, lambda: workload.job(batches, 2))


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
@pytest.mark.parametrize("contender", [FIT, CHECKED], ids=["fit", "checked"])
def test_the_engine_ends_with_the_bits_of_the_plain_loop(workload, contender) -> None:
    judge = short(workload)
    judge.timed(contender)()
    assert judge.off == {contender.name: 0.0}


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_the_plain_loop_learns_and_every_job_is_made_anew(workload) -> None:
    before, judge, again = workload.job(3, 2).final_loss(), short(workload), short(workload)
    assert judge.loss < before
    assert (judge.loss, judge.accuracy) == (again.loss, again.accuracy)


@pytest.mark.parametrize("contender", [STEPPER, OWN_LOOP, UNMEASURED, DROPPING], ids=lambda one: one.train.__name__)
def test_other_ways_to_do_the_same_end_with_the_same_bits(contender) -> None:
    judge = short(WORKLOADS["tiny"])
    judge.timed(contender)()
    assert judge.off == {contender.name: 0.0}


def test_the_callbacks_hear_thirty_calls_a_batch() -> None:
    trained = BASELINES["calls"].train(WORKLOADS["calls"].job(3, 2))
    assert trained.calls == 30 * 3 * 2


def nearly(job) -> Trained:
    """The last bit of one weight is another; so far from 0 the probe cannot tell."""
    trained = FIT.train(job)
    with torch.no_grad():
        job.model[0].bias[0] = torch.nextafter(job.model[0].bias[0], torch.tensor(1.0))
    return trained


def untrained(job) -> Trained:
    return Trained()


def deaf(job) -> Trained:
    return evolve(FIT.train(job), calls=0)


def boastful(job) -> Trained:
    return evolve(FIT.train(job), accuracy=1.0)


@pytest.mark.parametrize(
    ("workload", "train", "words"),
    [
        ("tiny", nearly, "off|weights"),
        ("tiny", untrained, "the final loss is off"),
        ("calls", deaf, "0 calls"),
        ("digits", boastful, "accuracy"),
    ],
)
def test_a_contender_that_did_other_work_is_refused(workload, train, words) -> None:
    with pytest.raises(Differs, match=words):
        short(WORKLOADS[workload]).timed(Contender("cheat", train))()


def test_a_loss_may_be_off_only_as_far_as_its_contender_says() -> None:
    judge = short(WORKLOADS["tiny"])
    judge.timed(Contender("near", untrained, loss_off={"tiny": 1.0}))()
    assert 0 < judge.off["near"] < 1
    with pytest.raises(Differs):
        judge.timed(Contender("far", untrained, loss_off={"tiny": 1e-9}))()


def ticks(*times: float) -> Iterator[float]:
    return chain(times, repeat(times[-1]))


def test_each_run_is_paired_with_the_mean_of_the_baselines_beside_it() -> None:
    base, slow, fast = ticks(1, 2, 3, 4, 5), ticks(10, 20), ticks(7, 8)
    pairs, floor = interleave({"slow": slow.__next__, "fast": fast.__next__}, base.__next__, rounds=2)
    assert pairs == {"slow": [Pair(10, 1.5), Pair(20, 3.5)], "fast": [Pair(7, 2.5), Pair(8, 4.5)]}
    assert floor == [Pair(2, 2), Pair(3, 3), Pair(4, 4)]


def test_no_round_begins_that_would_end_beyond_the_budget() -> None:
    wall = ticks(0, 10, 20, 30)
    pairs, _ = interleave({"one": lambda: 1.0}, lambda: 1.0, rounds=9, budget=25, wall=wall.__next__)
    assert len(pairs["one"]) == 2


def test_the_time_of_a_run_is_what_the_clock_went_on() -> None:
    assert seconds(lambda: None, ticks(5.0, 7.5).__next__) == 2.5


def test_ratios_and_overheads_are_taken_pair_by_pair() -> None:
    pairs = [Pair(2, 1), Pair(6, 2), Pair(40, 10), Pair(5, 1), Pair(60, 10)]
    assert ratios(pairs) == Spread(3, 4, 5)
    assert beyond(pairs, batches=1_000_000) == Spread(4, 4, 30)
    assert spread([3.0]) == Spread(3, 3, 3)
    assert noise([1.0, 2.0]) == []


def test_fake_work_is_all_done() -> None:
    for checked in (False, True):
        fake.fit(5, fake.engine(checked=checked))
    table = fake.dispatch(rounds=3, number=20, slow_number=5)
    assert [(one.name, one.batches, len(one.pairs)) for one in table.contenders] == [
        ("fit, metrics=None", 20, 3),
        ("fit", 20, 3),
        ("fit, 8 states more", 20, 3),
        ("fit, checked", 5, 3),
    ]


def test_memory_that_is_kept_raises_the_peak(monkeypatch) -> None:
    """In each half, a hundred MiB more."""
    kept = []
    quiet = fake.engine(measured=True)
    quiet.on("train_end")(lambda run: kept.append(b"x" * (100 << 20)))
    monkeypatch.setattr("tests.bench.fake.engine", lambda **given: quiet)
    assert min(fake.grown(10)) > 0.9 * (100 << 10)
    monkeypatch.undo()
    assert fake.memory(10).batches == 10


def test_the_parts_of_the_loop_add_up_and_each_has_lines_of_its_own() -> None:
    """Each text is the loop without some lines, and still trains on every batch."""
    table = fake.dispatch(rounds=3, number=200, slow_number=5)
    found = {part.name: part.micros for part in parts(table, rounds=3, number=200)}
    assert len(found) == len(LINES) + 2
    costs = {one.name: beyond(one.pairs, one.batches).median for one in table.contenders}
    assert sum(list(found.values())[:-1]) == pytest.approx(costs["fit, metrics=None"])
    assert sum(found.values()) == pytest.approx(costs["fit"])
    ready = Preparation(fake.engine()._kit, (), [], trains=True)
    (_, whole), *others = texts(source(ready.linked(TRAINING)))
    assert len({text.text for _, text in others} - {whole.text}) == len(LINES)


def test_a_peer_that_is_not_installed_is_reported(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "skorch", None)
    peers, absent = installed(["skorch_net"])
    assert peers == []
    assert list(absent) == ["skorch"]
    assert "skorch: not installed" in report(evolve(made_up(), absent=absent))
    assert "**skorch** was not timed: not installed" in page.made(evolve(made_up(), absent=absent))


def made_up() -> Results:
    """Results with a contender below the noise, one without it, one that hears less."""

    def one(name, version, mine, calls) -> Measured:
        pairs = [Pair(mine + k / 500, 1.0) for k in range(3)]
        return Measured(name, version, "a note" if version else "", 1000, pairs, pairs, 1e-5 if version else 0.0, calls)

    tables = [
        Table(
            name, "some work", 30, one("plain loop", "", 0.998, 30), [one("fit", "", 0.99, 30), one("P", "1.0", 2, 9)]
        )
        for name in ("tiny", "calls", "digits")
    ]
    startup, parts = Startup(1.0, 0.01, 0.05, 0.02, 7), [Part("doing this", 0.125), Part("doing that", 1.5)]
    return Results("2026-01-01", "a machine", {"torch": "2"}, {}, tables, Memory(10, 3, 0), startup, parts)


def test_results_survive_being_written() -> None:
    assert read(written(made_up())) == made_up()
    without = evolve(made_up(), memory=None, startup=None)
    assert read(written(without)) == without
    assert "Startup" not in page.made(without)
    assert "| doing that | 1.50 |" in page.made(made_up())
    assert "doing" not in page.made(evolve(made_up(), parts=[]))


def test_a_table_says_ratios_microseconds_calls_and_rounds() -> None:
    fit, peer = markdown(made_up().tables[0]).splitlines()[3:]
    times = "| -8.0 | -9.0 .. -7.0 | 0.992 | 0.991 .. 0.993 | 992.0 | -8.0 |"
    assert fit == f"| fit {times} 30 of 30 | 3 x 1000 | equal |"
    times = "| 1002.0 | 1001.0 .. 1003.0 | 2.002 | 2.001 .. 2.003 | 2002.0 | 1002.0 |"
    assert peer == f"| P 1.0 {times} 9 of 30 | 3 x 1000 | off by 1e-05 |"


def test_a_table_is_aligned_and_its_bars_grow_with_each_doubling() -> None:
    head, rule, *lines = aligned(made_up().tables[0]).splitlines()[2:]
    assert {len(line.rstrip("▪ ")) for line in lines} == {len(head), len(rule)} == {len(rule)}
    assert lines[-1].endswith("  " + "▪" * 11)
    assert [bar(micros) for micros in (-1, 0.5, 2, 4, 5)] == ["", "▪", "▪▪", "▪▪▪", "▪▪▪▪"]


def test_the_picture_is_the_same_each_time_and_small() -> None:
    first, second = picture.made(made_up()), picture.made(read(written(made_up())))
    assert first == second
    assert len(first) < 60_000
    words = re.findall(r"<text[^>]*>(.*?)</text>", first)
    assert {"tiny", "calls", "Stateloop fit", "P", "1002 µs · 9 of 30 calls", "-8.0 µs"} <= set(words)
    assert "digits" in words
    assert "dispatch" not in words


def test_nothing_in_the_picture_is_left_or_right_of_it() -> None:
    places = [float(x) for x in re.findall(r' x="([\d.-]+)"', picture.made(made_up()))]
    assert all(0 <= x <= picture.WIDTH for x in places)
    assert picture.place(0) == picture.place(-5) == picture.LEFT
    assert picture.place(1000) == picture.RIGHT


def test_the_page_and_the_picture_are_those_of_the_results() -> None:
    """When this fails: `python -m tests.bench draw`."""
    results = read(JSON.read_text())
    assert written(results) == JSON.read_text()
    assert page.PATH.read_text() == page.made(results)
    assert picture.PATH.read_text() == picture.made(results)


def test_the_results_that_are_kept_are_whole() -> None:
    results = read(JSON.read_text())
    assert [table.name for table in results.tables] == list(NAMES)
    assert all({"fit", "fit, checked"} <= {one.name for one in table.contenders} for table in results.tables)
    assert {UNMEASURED.name, DROPPING.name} <= {one.name for one in results.tables[0].contenders}
    assert not results.absent
    assert results.startup.collected
    assert len(results.parts) == len(LINES) + 2


def test_a_table_knows_whom_it_has_timed() -> None:
    given = WORKLOADS["calls"]
    short = evolve(given, batches=3, job=lambda batches, epochs: given.job(batches or 3, epochs))
    table = measure(short, [FIT, CHECKED], Extent(rounds=2, once=1, epochs=2, budget=60))
    assert (table.name, table.calls, table.noise.name) == ("calls", 5 * len(EVENTS), "plain loop, calls by hand")
    assert [
        (one.name, one.batches, one.calls, one.loss_off, len(one.pairs), len(one.once)) for one in table.contenders
    ] == [
        ("fit", 6, 30, 0.0, 2, 1),
        ("fit, checked", 6, 30, 0.0, 2, 1),
    ]


@pytest.mark.parametrize("arguments", [["tinny"], ["--rounds", "2"], ["tiny", "--save"], ["--own", "--save"]])
def test_what_cannot_be_measured_is_refused(arguments, capsys) -> None:
    with pytest.raises(SystemExit):
        parsed(arguments)
    assert "error:" in capsys.readouterr().err
    assert parsed([]).workloads == list(NAMES)
