"""Does `stateloop check` say what does not hold, with the right code; and `--mutate`, what nobody would notice?"""

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from engine.testing.runs.judges import INVARIANTS
from tests.engine.test_cli import ROOT, Stateloop, python, read_on, read_until
from tests.engine.test_cli import stateloop as stateloop  # noqa: PLC0414  # a fixture
from tests.testing.apps import APP, STRONG, WEAK
from tests.testing.apps import few_mutants as few_mutants  # noqa: PLC0414  # a fixture
from tests.testing.apps import quick as quick  # noqa: PLC0414  # a fixture


@pytest.fixture(autouse=True)
def app(stateloop: Stateloop, tmp_path: Path) -> None:
    """The folder that the command runs in holds a module."""
    (tmp_path / "otherapp.py").write_text(APP)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Hypothesis keeps what failed in a folder of the test; this forgets it."""
    before, kept = settings.default, DirectoryBasedExampleDatabase(tmp_path / "kept")
    settings.register_profile("here", before, database=kept, derandomize=False)
    settings.load_profile("here")
    yield lambda: [path.unlink() for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    settings.register_profile("here", before)
    settings.load_profile("here")


# The verdict


@pytest.mark.usefixtures("quick")
def test_what_holds_is_told_by_invariant(stateloop: Stateloop) -> None:
    result = stateloop("check", "otherapp:factory", "--runs", "3", "--seed", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    head, *verdicts, runs = result.stdout.splitlines()
    assert head == "otherapp:factory, a training; the order is judged by the grammar written by hand"
    assert [line.split()[0] for line in verdicts] == ["holds"] * len(verdicts)
    assert {line.split()[1] for line in verdicts} == {*INVARIANTS, "machine", "commute"} - {"claims"}
    assert runs.endswith(" simple cases, 3 random runs, seed 1")


@pytest.mark.usefixtures("quick")
def test_what_fails_is_told_with_its_simplest_case_and_again_with_the_same_seed(stateloop: Stateloop) -> None:
    one, other = (stateloop("check", "otherapp:careless", "--runs", "5", "--seed", "7") for _ in range(2))
    assert (one.exit_code, one.stderr) == (1, "")
    assert "FAILS (1)       callbacks" in one.stdout
    assert "1. Careless raises AttributeError: 'NoneType' object has no attribute 'item' in batch_end" in one.stdout
    assert "answers  skip_batch: yes at the 1st asking" in one.stdout
    assert "from otherapp import careless" in one.stdout
    assert one.stdout == other.stdout


@pytest.mark.usefixtures("quick")
def test_what_failed_once_is_tried_first_the_next_time(stateloop: Stateloop, database: Callable[[], None]) -> None:
    found = stateloop("check", "otherapp:rare", "--runs", "60", "--seed", "1")
    assert (found.exit_code, "complete after 3 updates" in found.stdout) == (1, True)
    assert stateloop("check", "otherapp:rare", "--runs", "1", "--seed", "2").exit_code == 1
    database()
    assert stateloop("check", "otherapp:rare", "--runs", "1", "--seed", "2").exit_code == 0


# Claims


@pytest.mark.usefixtures("quick")
def test_a_claim_is_proved_or_broken(stateloop: Stateloop) -> None:
    proved, broken = 'before("loss_end", "backward_begin")', 'each("batch_begin").followed_by("batch_end")'
    result = stateloop("check", "otherapp:factory", "--runs", "1", "--claim", proved, "--claim", broken)
    assert result.exit_code == 1
    assert "holds           claim      before('loss_end', 'backward_begin'): proved over " in result.stdout
    assert "1. each('batch_begin').followed_by('batch_end') does not hold: " in result.stdout


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("before(", "it is no Python"),
        ("", "it is no Python"),
        ("1", "it is no call"),
        ('before("step_end")', "before() missing 1 required positional argument: 'then'"),
        ("before(step_end, batch_end)", "step_end is no event in quotes"),
        ('never("step_end", between="batch_end")', "'batch_end' is no pair of events in quotes"),
        ('never("step_end", within="batch")', "never() got an unexpected keyword argument 'within'"),
        ('each("step_end")', "say what each step_end is followed by"),
        ('each("step_end").followed_by()', "names no event"),
        ('before("step_end", "step_end")', "they have to be different events"),
        ('never("bacth_end")', "'bacth_end' is never heard here (did you mean 'batch_end'?)"),
        ("__import__('os').remove('otherapp.py')", "__import__('os').remove(...) is none"),
        ("never(open('ran', 'w').name)", "open('ran', 'w').name is no event in quotes"),
    ],
)
def test_a_claim_that_is_none_is_wrong_usage(claim: str, why: str, stateloop: Stateloop, tmp_path: Path) -> None:
    result = stateloop("check", "otherapp:factory", "--claim", claim)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr
    assert not (tmp_path / "ran").exists()


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["otherwise:factory"], "no module is called 'otherwise'"),
        (["otherapp:factoy"], "did you mean 'factory'?"),
        (["otherapp:READY"], "write a function: each run needs a new engine"),
        (["otherapp:idle"], "otherapp:idle gives no train_loader"),
        (["states:TRAINING"], "states:TRAINING is "),
        (["otherapp:factory", "--runs", "0"], "0 is not in the range x>=1"),
        (["otherapp:factory", "--tests", "tests"], "--tests are given without --mutate"),
        (["otherapp:factory", "--mutate", "--seed", "1"], "--runs or --seed is given with --mutate"),
        (["otherapp:factory", "--mutate", "--tests", "t", "--claim", "c"], "--claim is given with --tests"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], message: str, stateloop: Stateloop) -> None:
    result = stateloop("check", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_what_a_factory_raises_is_not_disguised(stateloop: Stateloop) -> None:
    result = stateloop("check", "otherapp:missing")
    assert (result.exit_code, type(result.exception)) == (1, LookupError)


def test_the_help_shows_examples_and_the_exit_codes(stateloop: Stateloop) -> None:
    result = stateloop("check", "--help")
    assert "stateloop check " in result.output.partition("Examples:")[2]
    assert "130  interrupted from the keyboard" in result.output


def test_no_torch_is_imported_for_the_help() -> None:
    code = "import sys; from engine.commands.main import main; main(['check', '-h'], standalone_mode=False)\n"
    assert python("-c", f"{code}assert not {{'torch', 'pytest'}} & sys.modules.keys()").returncode == 0


def test_ctrl_c_on_a_terminal_leaves_it_clean(tmp_path: Path) -> None:
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "check", "otherapp:factory", "--runs", "100000"],
        stdout=inside,
        stderr=inside,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(inside)
    for _ in range(2):  # as it is drawn at first, and behind some run
        read_until(outside, b"runs/s")
    process.send_signal(signal.SIGINT)
    left = read_until(outside, b"interrupted\r\n")
    code = process.wait(timeout=60)
    left += read_on(outside)
    os.close(outside)
    assert code == 130
    assert left.endswith("\r\x1b[Kinterrupted\r\n")


# Mutants


@pytest.mark.usefixtures("few_mutants")
def test_only_what_is_the_users_own_notices_a_broken_machine(stateloop: Stateloop) -> None:
    weak, strong = (stateloop("check", f"otherapp:{name}", "--mutate") for name in ("factory", "counting"))
    assert (weak.exit_code, weak.stdout.splitlines()[0]) == (1, "0 of 3 broken machines were noticed")
    assert "  - double an event: zero_grad grads_cleared -> epoch: batch_end + batch_end\n" in weak.stdout
    assert (strong.exit_code, strong.stdout) == (0, "3 of 3 broken machines were noticed\n")


@pytest.mark.usefixtures("few_mutants")
def test_a_claim_notices_a_broken_machine(stateloop: Stateloop) -> None:
    claim = 'each("batch_begin").followed_by("batch_end", "forward_begin")'
    told = stateloop("check", "otherapp:factory", "--mutate", "--claim", claim)
    assert told.stdout.splitlines()[0] == "1 of 3 broken machines were noticed"
    false = stateloop("check", "otherapp:factory", "--mutate", "--claim", 'never("batch_begin")')
    assert (false.exit_code, "fails without any mutant" in false.stderr) == (1, True)


@pytest.mark.usefixtures("few_mutants")
@pytest.mark.parametrize(("name", "text", "noticed"), [("weak", WEAK, 0), ("strong", STRONG, 3)])
def test_tests_are_run_by_pytest(name: str, text: str, noticed: int, stateloop: Stateloop, tmp_path: Path) -> None:
    (tmp_path / f"test_other_{name}.py").write_text(text)
    result = stateloop("check", "otherapp:factory", "--mutate", "--tests", f"test_other_{name}.py")
    assert f"\n{noticed} of 3 broken machines were noticed" in result.stdout
    assert result.exit_code == (noticed < 3)


@pytest.mark.parametrize(("path", "code"), [("missing.py", 2), ("empty.py", 2), ("test_other_torn.py", 1)])
def test_paths_that_give_no_tests(path: str, code: int, stateloop: Stateloop, tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "test_other_torn.py").write_text("import nowhere")
    assert stateloop("check", "otherapp:factory", "--mutate", "--tests", path).exit_code == code
