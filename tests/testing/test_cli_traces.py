"""Do the commands that read traces say what is in them, and end with the right code?"""

import json
from pathlib import Path

import pytest

from engine.testing.runs.described import Script
from states.trace import write
from tests.engine.test_cli import Stateloop, python
from tests.engine.test_cli import stateloop as stateloop  # noqa: PLC0414  # a fixture
from tests.testing.test_trace import SHORT, recorded


@pytest.fixture
def files(stateloop: Stateloop, tmp_path: Path) -> Path:
    """The folder that the command runs in, with two traces."""
    for name, chosen in (("one.jsonl", Script({})), ("other.jsonl", Script({"skip_step": [0]}))):
        with (tmp_path / name).open("w") as file:
            write(recorded(SHORT, chosen), file)
    return tmp_path


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def without(files: Path, number: int) -> Path:
    """The first trace, written anew without one of its lines, counted from 1."""
    lines = lines_of(files / "one.jsonl")
    (files / "bad.jsonl").write_text("".join([*lines[: number - 1], *lines[number:]]))
    return files / "bad.jsonl"


# verify


def test_a_legal_trace_is_told_so(stateloop: Stateloop, files: Path) -> None:
    result = stateloop("verify", "one.jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "one.jsonl: legal and complete (32 events, 30 calls)\n"


def test_a_verdict_has_three_lines(stateloop: Stateloop, files: Path) -> None:
    without(files, 20)
    result = stateloop("verify", "bad.jsonl")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "bad.jsonl, line 20: step_end is not legal there\n"
        "  heard:  step_end in step, after loss_end, backward_begin, backward_end\n"
        "  legal:  step_begin in step, exception in failed or interrupted, train_end in left\n"
    )


def test_of_a_torn_trace_what_is_whole_is_judged(stateloop: Stateloop, files: Path) -> None:
    lines = lines_of(files / "one.jsonl")
    (files / "torn.jsonl").write_text("".join(lines[:7]) + lines[7][:30])
    result = stateloop("verify", "torn.jsonl")
    assert result.exit_code == 1
    assert result.stderr == "torn.jsonl, line 8: torn and left out, as a process that was killed leaves it\n"
    assert result.stdout.splitlines()[0] == "torn.jsonl: legal so far (2 events, 4 calls), and the run has not ended"


def test_a_trace_of_nothing_has_not_begun(stateloop: Stateloop, files: Path) -> None:
    (files / "none.jsonl").write_text(lines_of(files / "one.jsonl")[0])
    result = stateloop("verify", "none.jsonl")
    assert result.exit_code == 1
    assert result.stdout == (
        "none.jsonl: legal so far (0 events, 0 calls), and the run has not ended\n"
        "  heard:  nothing more, at the beginning\n"
        "  legal:  train_begin in train\n"
    )


@pytest.mark.parametrize("command", [["verify", "foreign"], ["diff", "one.jsonl", "foreign"]])
def test_a_file_that_holds_no_trace_is_wrong_usage(command: list[str], stateloop: Stateloop, files: Path) -> None:
    (files / "foreign").write_bytes(b"\x89PNG\r\n\x00\xff")
    result = stateloop(*command)
    assert result.exit_code == 2
    assert "Error: foreign, line 1: no trace begins with " in result.stderr
    assert "\n  instead:  record one: " in result.stderr


@pytest.mark.parametrize("command", [["verify", "missing"], ["verify"], ["diff", "one.jsonl"]])
def test_files_that_are_missing_are_wrong_usage(command: list[str], stateloop: Stateloop, files: Path) -> None:
    assert stateloop(*command).exit_code == 2


@pytest.mark.parametrize("target", ["states:TRAINING", "userapp:factory", "userapp:ENGINE"])
def test_the_machine_may_be_named(target: str, stateloop: Stateloop, files: Path) -> None:
    assert stateloop("verify", "one.jsonl", target).exit_code == 0


def test_a_trace_of_another_machine_is_refused(stateloop: Stateloop, files: Path) -> None:
    result = stateloop("verify", "one.jsonl", "states:EVALUATION")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "Error: one.jsonl was recorded from the machine 'training', not from 'evaluation': it has the row training: "
        "idle fit_asked -> train: train_begin\n"
    )


def test_a_machine_of_ones_own_has_to_be_named(stateloop: Stateloop, files: Path) -> None:
    head, *lines = lines_of(files / "one.jsonl")
    (files / "mine.jsonl").write_text("".join([json.dumps({**json.loads(head), "machine": "mine"}) + "\n", *lines]))
    result = stateloop("verify", "mine.jsonl")
    assert result.exit_code == 2
    assert "from the machine 'mine', which is none of the built-in ones" in result.stderr


# diff


def test_traces_that_tell_the_same_are_told_so(stateloop: Stateloop, files: Path) -> None:
    with (files / "again.jsonl").open("w") as file:
        write(recorded(SHORT), file)
    result = stateloop("diff", "one.jsonl", "again.jsonl")
    assert (result.exit_code, result.stdout) == (0, "one.jsonl and again.jsonl tell the same (62 lines)\n")


def test_where_two_traces_part_is_shown(stateloop: Stateloop, files: Path) -> None:
    result = stateloop("diff", "one.jsonl", "other.jsonl", "--context", "1")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines() == [
        "one.jsonl (-) and other.jsonl (+) part at line 19, in backward (epoch 0, batch 0, update 0): in answer",
        "    line  event           callback  state     window  row",
        "      18  accumulate: no  Script    backward       1",
        "> -   19  skip_step: no   Script    backward       1",
        "  -   20  step_begin                step           1  average grads_averaged -> step: step_begin",
        "> +   19  skip_step: yes  Script    backward       1",
        "  +   20  batch_end                 epoch          0  zero_grad grads_cleared -> epoch: batch_end",
    ]


def test_traces_of_two_machines_are_no_two_of_the_same(stateloop: Stateloop, files: Path) -> None:
    head, *lines = lines_of(files / "one.jsonl")
    (files / "mine.jsonl").write_text("".join([json.dumps({**json.loads(head), "machine": "mine"}) + "\n", *lines]))
    result = stateloop("diff", "one.jsonl", "mine.jsonl")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout == (
        "one.jsonl (-) and mine.jsonl (+) are of another machine: 'training' and 'mine'; the first has the same rows\n"
    )


# Both


@pytest.mark.parametrize("command", ["verify", "diff"])
def test_the_help_shows_examples_and_the_exit_codes(command: str, stateloop: Stateloop) -> None:
    result = stateloop(command, "--help")
    assert result.exit_code == 0
    assert f"stateloop {command} " in result.output.partition("Examples:")[2]
    assert "130  interrupted from the keyboard" in result.output


@pytest.mark.parametrize("command", [["verify", "one.jsonl"], ["diff", "one.jsonl", "one.jsonl"]])
def test_no_torch_is_imported_to_read_traces(command: list[str], files: Path) -> None:
    code = (
        "import sys\n"
        "from engine.commands.main import main\n"
        "try:\n"
        f"    main({command!r})\n"
        "finally:\n"
        "    assert not {'torch', 'tqdm', 'transitions'} & sys.modules.keys()\n"
    )
    done = python("-c", code, cwd=files)
    assert (done.returncode, done.stderr) == (0, "")
