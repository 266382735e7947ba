"""Does the plugin test an engine without a test file, and tests themselves; and is it light if nobody does?"""

from collections.abc import Callable

import pytest

from engine.testing.runs.judges import INVARIANTS
from tests.engine.test_cli import python
from tests.testing.apps import APP, CHOSEN, STRONG, WEAK
from tests.testing.apps import few_mutants as few_mutants  # noqa: PLC0414  # a fixture
from tests.testing.apps import quick as quick  # noqa: PLC0414  # a fixture


Pytest = Callable[..., pytest.RunResult]
ITEMS = len(INVARIANTS) - 1 + 2  # nothing is claimed; the machine, and callbacks that change places
STRICT = """
[pytest]
pythonpath = .
addopts = --strict-markers --strict-config --import-mode=importlib -p no:cacheprovider
filterwarnings =
    error
    ignore::pytest.PytestAssertRewriteWarning
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Pytest:
    """Run pytest in a folder that holds a module and is as strict as can be."""
    pytester.makefile(".ini", pytest=STRICT)
    pytester.makepyfile(otherapp=APP)
    return pytester.runpytest_inprocess


def test_where_nobody_uses_it_nothing_is_loaded() -> None:
    heavy = {"torch", "hypothesis", "attrs", "states", "click"}
    code = f"import sys, engine.testing.plugin\nassert not {heavy} & sys.modules.keys(), sys.modules.keys()"
    assert python("-c", code).stderr == ""


# --stateloop


@pytest.mark.usefixtures("quick")
def test_an_engine_is_tested_without_a_test_file(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_no(): assert False")
    result = run("--stateloop", "otherapp:factory", "--stateloop-runs=2", "--stateloop-seed=5", "-v")
    result.assert_outcomes(passed=ITEMS)
    result.stdout.fnmatch_lines(
        [
            "stateloop: otherapp:factory, --stateloop-runs=2 --stateloop-seed=5",
            f"*collected {ITEMS} items",
            "otherapp:factory::machine PASSED*",
            "otherapp:factory::callbacks PASSED*",
            "otherapp:factory::commute PASSED*",
        ]
    )


@pytest.mark.usefixtures("quick")
def test_what_fails_is_shown_without_the_way_to_it_and_again_with_one_seed(run: Pytest) -> None:
    asked = ("-q", "--stateloop", "otherapp:careless", "--stateloop-runs=2", "--stateloop-seed=5", "--no-header")
    one, other = run(*asked, "-x"), run(*asked, "-k", "callbacks or order")
    one.assert_outcomes(passed=1, failed=1)
    other.assert_outcomes(passed=1, failed=1, deselected=ITEMS - 2)
    one.stdout.fnmatch_lines(
        [
            "Careless raises AttributeError: 'NoneType' object has no attribute 'item' in batch_end",
            "*from otherapp import careless",
            "drawn with --stateloop-runs=2 --stateloop-seed=5",
            "FAILED otherapp:careless::callbacks*",
        ]
    )
    one.stdout.no_fnmatch_line("*Traceback*")
    found = [result.stdout.str().partition("Careless raises")[2].partition("drawn with")[0] for result in (one, other)]
    assert found[0] == found[1]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("typed", "passed"), [(["test_other.py"], ITEMS + 1), (["-k", "test_yes"], 0)])
def test_paths_are_collected_as_well(typed: list[str], passed: int, run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_yes(): pass")
    result = run("--stateloop=otherapp:factory", "--stateloop-runs=1", *typed)
    result.assert_outcomes(passed=passed, deselected=0 if passed else ITEMS)


@pytest.mark.usefixtures("quick")
def test_in_addopts_it_comes_to_all_that_is_collected(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makefile(".ini", pytest=STRICT.replace("addopts = ", "addopts = --stateloop otherapp:factory "))
    pytester.makepyfile(test_other="def test_yes(): pass")
    run("--stateloop-runs=1", "-k", "test_yes or machine").assert_outcomes(passed=2, deselected=ITEMS - 1)


@pytest.mark.usefixtures("quick")
def test_a_claim_has_an_item(run: Pytest) -> None:
    claim = 'each("batch_begin").followed_by("batch_end")'
    result = run("--stateloop", "otherapp:factory", "--stateloop-runs=1", "--stateloop-claim", claim, "-k", "claims")
    result.assert_outcomes(failed=1, deselected=ITEMS)
    result.stdout.fnmatch_lines("each('batch_begin').followed_by('batch_end') does not hold: *")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("otherwise:factory", "no module is called 'otherwise'"),
        ("otherapp:READY", "  instead:  write a function: each run needs a new engine"),
    ],
)
def test_what_cannot_be_tested_is_an_error_in_words(target: str, said: str, run: Pytest) -> None:
    result = run("--stateloop", target)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*ERROR collecting {target}*", said])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.slow
def test_workers_of_xdist_draw_the_same(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from pathlib import Path
        from types import SimpleNamespace as Some
        from engine.testing.front.items import Examined

        def checked(self):
            with Path(__file__).with_name("seeds").open("a") as file:
                print(self.config.option.stateloop_seed, file=file)
            return Some(machine_broken="", orders=Some(conflicts=()), runs=Some(findings=()))

        Examined._check = checked
        """
    )
    pytester.runpytest_subprocess("--stateloop", "otherapp:factory", "-n2").assert_outcomes(passed=ITEMS)
    one, other = (pytester.path / "seeds").read_text().split()
    assert one == other


# The fixtures and the marker

TESTS = """
    import pytest
    from otherapp import careless, factory
    from engine.testing import before, each

    @pytest.fixture
    def ready():
        return factory()

    def test_trace(trace, ready):
        heard = trace(ready[0])
        run = ready[0].fit(**ready[1])
        heard.assert_legal()
        assert heard.events[:3] == ["train_begin", "epoch_begin", "batch_begin"]
        assert [line.counters["updates"] for line in heard.heard("step_end")] == [1, 2]
        assert heard.calls("Last") == ["batch_end", "batch_end"]
        same = trace(ready[0])
        ready[0].fit(**ready[1])
        assert same.events == heard.events[len(same.events):]

    def test_unlike(trace):
        one, other = factory(), factory()
        heard = trace(one[0]), trace(other[0])
        one[0].fit(**one[1])
        other[0].fit(**other[1], epochs=0)
        heard[0].assert_like(heard[1])

    def test_torn(trace, ready):
        heard = trace(ready[0])
        ready[0].start(**ready[1]).advance()
        heard.assert_legal()

    def test_ordering(ordering):
        (proof,) = ordering(factory, before("loss_end", "backward_begin"))
        assert proof.counter is None
        assert (ordering.runs, ordering.seed) == (3, 5)

    @pytest.mark.stateloop(runs=2)
    class TestMarked:
        @pytest.mark.stateloop(seed=9)
        def test_marked(self, ordering):
            assert (ordering.runs, ordering.seed) == (2, 9)
            ordering.check(careless)

    @pytest.mark.stateloop(run=2)
    def test_misspelt(ordering):
        pass
"""


@pytest.mark.usefixtures("quick")
def test_fixtures_follow_an_engine_and_judge_it(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other=TESTS)
    result = run("--stateloop-runs=3", "--stateloop-seed=5", "test_other.py")
    result.assert_outcomes(passed=2, failed=3, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "E*AssertionError: this one (-) and the other (+) part at line 4*",
            "E*AssertionError: the trace: legal so far*",
            "E*OrderBroken: Careless raises AttributeError*",
            "E*drawn with --stateloop-runs=2 --stateloop-seed=9",
            "*@pytest.mark.stateloop takes runs= and seed=*",
        ]
    )


# --stateloop-mutate


@pytest.mark.usefixtures("few_mutants")
def test_weak_tests_do_not_notice_what_strong_ones_do(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other_weak=WEAK, test_other_strong=STRONG)
    weak, both = (run("--stateloop-mutate", "otherapp:factory", *paths) for paths in (["test_other_weak.py"], ["."]))
    assert (weak.ret, both.ret) == (1, 0)
    weak.assert_outcomes(passed=1)
    both.assert_outcomes(passed=2)
    weak.stdout.fnmatch_lines(["* broken machines of otherapp:factory *", "0 of 3 broken machines were noticed"])
    weak.stdout.fnmatch_lines_random([f"  - {change}" for change in CHOSEN])
    both.stdout.fnmatch_lines("3 of 3 broken machines were noticed")


@pytest.mark.usefixtures("few_mutants")
def test_all_fixtures_are_made_anew_and_only_tests_that_train_run_again(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_other="""
            import warnings, pytest
            from pathlib import Path
            from hypothesis import given, strategies
            from otherapp import factory

            @pytest.fixture(scope="session")
            def ran():
                made, arguments = factory()
                return made.fit(**arguments)

            def test_idle():
                with Path("idle").open("a") as file:
                    file.write("once more ")

            def test_ran(ran):
                assert ran.updates == 2

            @pytest.mark.filterwarnings("default")
            @given(strategies.integers(1, 2))
            def test_drawn(number):
                warnings.warn("once")
                made, arguments = factory()
                assert made.fit(**arguments, epochs=number).epoch == number
        """
    )
    result = run("--stateloop-mutate", "otherapp:factory")
    assert result.ret == 1
    result.assert_outcomes(passed=3, warnings=1)
    result.stdout.fnmatch_lines("1 of 3 broken machines were noticed")
    assert (pytester.path / "idle").read_text() == "once more " * 2


def test_where_a_test_fails_already_nothing_is_broken(run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other="def test_no(): assert False")
    result = run("--stateloop-mutate", "otherapp:factory")
    assert result.ret == 1
    result.stdout.fnmatch_lines("no machine was broken: a test fails already")


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("def test_it(): pass", "the test runs no machine that is the training it was to be tried on"),
        ("def test_it(seen=[]): seen.append(1); assert len(seen) < 2", "*::test_it has passed, and fails when *"),
    ],
)
def test_what_cannot_be_tried_is_told(test: str, said: str, run: Pytest, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other=test)
    result = run("--stateloop-mutate", "otherapp:factory")
    assert result.ret == 1
    result.stdout.fnmatch_lines(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [(["otherapp:factoy"], "ERROR: --stateloop-mutate: otherapp has no 'factoy'*"), (["a:b", "-n2"], "*with -n 0*")],
)
def test_what_could_not_be_mutated_is_wrong_usage(options: list[str], said: str, run: Pytest) -> None:
    result = run("--stateloop-mutate", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(said)
