"""Does the command do what its help says, and say what is wrong when it cannot?"""

import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import states
from engine.commands.main import main
from states import TRAINING


ROOT = Path(__file__).parents[2]

APP = """
import time

import torch
from attrs import evolve
from engine import Engine
from engine.callbacks import Progress
from states import TRAINING, Event, Guard, State, Transition, Trigger

BATCHES = [(torch.ones(4, 2), torch.zeros(4, 1))] * 3
MACHINE = TRAINING


def engine(*callbacks, machine=TRAINING):
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = Engine(model, torch.nn.MSELoss(), sgd, callbacks, machine=machine)

    @engine.guard("skip_step")
    def first_of_all(run):
        return run.batches_done == 0

    return engine


def factory():
    return engine(), {"train_loader": BATCHES, "valid_loader": BATCHES, "epochs": 2}


ENGINE = engine()


def machine():
    return TRAINING


MADE = []


def barred():
    MADE.append(engine(Progress()))
    return MADE[-1], {"train_loader": BATCHES}


class Slow(list):
    def __iter__(self):
        return (time.sleep(0.01) or batch for batch in list.__iter__(self))


def slow():
    made = engine()
    made.remove(made.callbacks[-1])
    return made, {"train_loader": Slow(BATCHES * 100), "epochs": 1000}


def stopping():
    made, arguments = factory()
    made.on("batch_end", once=4)(lambda run: run.stop("that is enough"))
    return made, arguments


def refused():
    return engine(), {"train_loader": []}


def late():
    return engine(), {"train_loader": [(torch.ones(4, 2),)]}


def broken():
    raise LookupError("the user's own mistake")


def interrupted():
    made, arguments = factory()

    @made.on("batch_end", once=4)
    def ctrl_c(run):
        raise KeyboardInterrupt

    return made, arguments


def misnamed():
    return engine(), {"train_loader": BATCHES, "epoch": 2}


def nothing():
    return None


def demanding(size):
    return None


READY = engine()
PAIR = factory()


def restless():
    ends = (Event.BATCH_END, Event.EPOCH_END)
    out = Transition(State.STEP, Trigger.WEIGHTS_MOVED, Guard.SKIP_BATCH, State.TRAIN, ends, (Event.STEP_END,))
    at = next(at for at, row in enumerate(TRAINING.rows) if row.source is State.STEP)
    rows = (*TRAINING.rows[:at], out, *TRAINING.rows[at:])
    made = engine(machine=evolve(TRAINING, name="restless", rows=rows))
    made.guard("skip_batch")(lambda run: False)
    return made


def interrupted_while_made():
    raise KeyboardInterrupt


def logging_itself():
    import logging

    logging.basicConfig(format="%(message)s", force=True)
    return factory()


def spoken():
    made, arguments = factory()

    @made.on("epoch_end", order=-200)  # before the engine's own metrics, which put it into the history
    def speak(run):
        run.metrics.update(nothing=None, word="high", tensor=torch.zeros(100, 3), half=torch.tensor(0.5).numpy()[()])

    return made, arguments
"""

Stateloop = Callable[..., Result]


@pytest.fixture
def stateloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stateloop]:
    """The command, run in a folder that holds the module `userapp`."""
    (tmp_path / "userapp.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="stateloop")

    yield run
    for name in set(sys.modules) - known:
        if name.startswith(("userapp", "other")):
            del sys.modules[name]


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, **options
    )


# Without torch


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["prove", "states:TRAINING"]])
def test_what_needs_no_torch_does_not_import_it(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from engine.commands.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "assert not {'torch', 'tqdm', 'transitions'} & sys.modules.keys()\n"
    )
    done = python("-c", code)

    assert (done.returncode, done.stderr) == (0, "")


def test_python_minus_m_engine_is_the_same_command(tmp_path: Path) -> None:
    done = python("-m", "engine", "prove", "states:TRAINING", cwd=tmp_path)

    assert done.returncode == 0
    assert done.stdout == f"{states.prove(TRAINING)}\n"


@pytest.mark.parametrize("command", [[], ["prove"], ["diagram"], ["dry-run"], ["source"], ["fit"]])
def test_every_help_shows_an_example_and_the_exit_codes(command: list[str], stateloop: Stateloop) -> None:
    result = stateloop(*command, "--help")

    assert result.exit_code == 0
    assert f"stateloop {' '.join(command)}".rstrip() in result.output.partition("Examples:")[2]
    assert "130  interrupted from the keyboard" in result.output


def test_the_version_is_told(stateloop: Stateloop) -> None:
    assert re.fullmatch(r"stateloop (\d+\.\d+\.\d+\S*|\(not installed\))\n", stateloop("--version").output)


# What MODULE:FACTORY may be


@pytest.mark.parametrize("name", ["factory", "engine", "ENGINE", "MACHINE", "machine"])
def test_a_factory_an_engine_and_a_machine_can_be_proved(name: str, stateloop: Stateloop) -> None:
    result = stateloop("prove", f"userapp:{name}")

    assert (result.exit_code, result.stdout) == (0, f"{states.prove(TRAINING)}\n")


def test_modules_are_looked_for_in_app_dir(stateloop: Stateloop, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "otherapp.py").write_text("from states import TRAINING as MINE")

    assert stateloop("prove", "otherapp:MINE").exit_code == 2
    assert stateloop("prove", "otherapp:MINE", "--app-dir", "inner").exit_code == 0


@pytest.mark.parametrize(
    ("target", "what", "instead"),
    [
        ("userapp", "'userapp' names no factory", "write for example userapp:factory"),
        ("userapp.py:factory", "'userapp.py:factory' names no factory", "write for example userapp:factory"),
        ("some/userapp:make", "'some/userapp:make' names no factory", "write for example some.userapp:make"),
        (":factory", "':factory' names no factory", "write for example examples.digits:factory"),
        ("usreapp:factory", "no module is called 'usreapp'", "change to the folder that holds it"),
        ("userapp.inner:factory", "no module is called 'userapp.inner'", "change to the folder that holds it"),
        ("userapp:fatcory", "userapp has no 'fatcory'", "did you mean 'factory'?"),
        ("states:TRANING", "states has no 'TRANING'", "did you mean 'TRAINING'?"),
        ("userapp:REDY", "userapp has no 'REDY'", "did you mean 'READY'?"),
        ("userapp:PAIRS", "userapp has no 'PAIRS'", "did you mean 'PAIR'?"),
        ("userapp:ENGINE.maker", "userapp has no 'ENGINE.maker'", "write such a function there"),
        ("userapp:demanding", "userapp:demanding cannot be called without arguments", "wrap it in one"),
        ("engine:Engine", "engine:Engine cannot be called without arguments", "wrap it in one"),
        ("userapp:nothing", "userapp:nothing gives None, a NoneType", "return one of these"),
        ("userapp:misnamed", "userapp:misnamed gives fit an argument 'epoch'", "did you mean 'epochs'?"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_write(
    target: str, what: str, instead: str, stateloop: Stateloop
) -> None:
    result = stateloop("prove", target)

    assert result.exit_code == 2
    assert f"Error: {what}\n  allowed:  " in result.stderr
    assert f"\n  instead:  {instead}" in result.stderr


def test_what_could_not_be_used_is_not_suggested(stateloop: Stateloop) -> None:
    told = stateloop("prove", "userapp:xyzzy").stderr.partition("instead:  known: ")[2].strip().split(", ")

    assert {"factory", "engine", "machine", "ENGINE", "READY", "PAIR", "MACHINE", "TRAINING"} <= {*told}
    assert not {"demanding", "Slow", "Engine", "torch", "BATCHES", "MADE", "evolve"} & {*told}


@pytest.mark.parametrize("command", ["dry-run", "source", "fit"])
def test_where_callbacks_matter_a_machine_is_not_enough(command: str, stateloop: Stateloop) -> None:
    result = stateloop(command, "states:TRAINING")

    assert result.exit_code == 2
    assert "states:TRAINING is a Machine" in result.stderr


def test_an_import_that_fails_inside_the_users_module_is_not_disguised(stateloop: Stateloop, tmp_path: Path) -> None:
    (tmp_path / "otherapp.py").write_text("import a_module_that_is_missing")

    result = stateloop("prove", "otherapp:factory")

    assert result.exit_code == 1
    assert isinstance(result.exception, ModuleNotFoundError)
    assert result.exception.name == "a_module_that_is_missing"


def test_what_a_factory_raises_is_not_disguised(stateloop: Stateloop) -> None:
    result = stateloop("prove", "userapp:broken")

    assert result.exit_code == 1
    assert isinstance(result.exception, LookupError)


def test_a_machine_that_is_refused_is_told_without_a_traceback(stateloop: Stateloop, tmp_path: Path) -> None:
    (tmp_path / "otherapp.py").write_text(
        "from attrs import evolve\nfrom states import TRAINING\nBAD = evolve(TRAINING, rows=TRAINING.rows[:-1])\n"
    )

    result = stateloop("prove", "otherapp:BAD")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the machine 'training' breaks ")
    assert "Traceback" not in result.output


# diagram


@pytest.mark.parametrize("kind", ["mermaid", "dot"])
def test_a_diagram_is_printed_as_text(kind: str, stateloop: Stateloop) -> None:
    result = stateloop("diagram", "states:TRAINING", "--format", kind)

    assert result.exit_code == 0
    assert result.stdout.strip() == str(states.diagram(TRAINING, kind)).strip()


@pytest.mark.parametrize(("name", "sign"), [("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.dot", b"digraph")])
def test_a_diagram_is_written_in_the_format_that_its_name_asks_for(
    name: str, sign: bytes, stateloop: Stateloop, tmp_path: Path
) -> None:
    result = stateloop("diagram", "userapp:factory", "--out", name)

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"wrote {name}\n")
    assert sign in (tmp_path / name).read_bytes()


def test_a_file_whose_name_tells_no_format_is_wrong_usage(stateloop: Stateloop) -> None:
    result = stateloop("diagram", "states:TRAINING", "--out", "a.jpg")

    assert result.exit_code == 2
    assert "the suffix '.jpg' tells none" in result.stderr


def test_the_help_says_which_format_is_printed_without_a_file(stateloop: Stateloop) -> None:
    assert "mermaid without --out" in " ".join(stateloop("diagram", "--help").output.split())
    assert stateloop("diagram", "states:TRAINING").stdout.strip() == str(states.diagram(TRAINING, "mermaid")).strip()


def test_the_diagram_of_an_engine_names_its_callbacks(stateloop: Stateloop) -> None:
    assert "first_of_all" in stateloop("diagram", "userapp:factory", "--format", "mermaid").stdout


def test_a_picture_goes_into_a_pipe_but_not_on_a_terminal() -> None:
    arguments = [sys.executable, "-m", "engine", "diagram", "states:TRAINING", "--format", "png"]
    piped = subprocess.run(arguments, capture_output=True, check=True, cwd=ROOT)
    outside, inside = pty.openpty()
    shown = subprocess.run(arguments, stdout=inside, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    os.close(inside)
    os.close(outside)

    assert piped.stdout.startswith(b"\x89PNG")
    assert shown.returncode == 2
    assert b"instead:  add --out training.png" in shown.stderr


def test_a_folder_that_is_missing_is_refused_before_anything_is_drawn(stateloop: Stateloop) -> None:
    result = stateloop("diagram", "states:TRAINING", "--out", "missing/a.svg")

    assert result.exit_code == 2
    assert "make the folder missing first" in result.stderr


# dry-run


def test_a_dry_run_is_printed_to_be_read(stateloop: Stateloop) -> None:
    result = stateloop("dry-run", "userapp:factory", "--epochs", "1", "--batches", "1")

    assert result.exit_code == 0
    assert result.stdout.startswith("dry run of training: epochs=1, batches=1, valid_batches=1; nothing is computed")
    assert re.search(r"skip_step\? no +first_of_all", result.stdout)


def test_a_dry_run_is_given_as_data_too(stateloop: Stateloop) -> None:
    result = stateloop("dry-run", "userapp:engine", "--batches", "3", "--max-updates", "2", "--json")
    data = json.loads(result.stdout)

    assert data["machine"] == "training"
    assert data["plan"] == {"epochs": 1, "batches": 3, "valid_batches": None, "max_updates": 2}
    assert [line["word"] for line in data["lines"]].count("step_end") == 2
    assert data["suggestions"] == []


def test_answers_are_given_by_asking(stateloop: Stateloop) -> None:
    result = stateloop("dry-run", "userapp:engine", "--batches", "4", "--answer", "skip_step=0,2", "--json")
    steps = [line["verdict"] for line in json.loads(result.stdout)["lines"] if line["word"] == "skip_step"]

    assert steps == [True, False, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--answer", "skip_stp=1"], "did you mean 'skip_step'?"),
        (["--answer", "skip_step"], "write for example --answer skip_step=0,2"),
        (["--answer", "skip_step=often"], "write for example --answer skip_step=0,2"),
        (["--epochs", "-1"], "-1 is not in the range x>=0"),
    ],
)
def test_a_plan_that_cannot_be_is_wrong_usage(options: list[str], message: str, stateloop: Stateloop) -> None:
    result = stateloop("dry-run", "userapp:engine", *options)

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("answers", [["skip_step=0", "skip_step=2"], ["skip_step=2", "stop_epoch=9", "skip_step=0,2"]])
def test_answers_of_one_guard_that_are_given_apart_are_put_together(answers: list[str], stateloop: Stateloop) -> None:
    options = [part for answer in answers for part in ("--answer", answer)]
    result = stateloop("dry-run", "userapp:engine", "--batches", "4", *options, "--json")
    steps = [line["verdict"] for line in json.loads(result.stdout)["lines"] if line["word"] == "skip_step"]

    assert steps == [True, False, True, False]


# source


def test_the_loop_that_runs_is_printed_with_the_callbacks_in_it(stateloop: Stateloop) -> None:
    result = stateloop("source", "userapp:ENGINE")

    assert (result.exit_code, result.stdout) == (0, sys.modules["userapp"].ENGINE.source().rstrip("\n") + "\n")
    assert "first_of_all" in result.stdout
    compile(result.stdout, "the loop", "exec")


def test_a_machine_that_has_no_nested_loop_is_refused_without_a_traceback(stateloop: Stateloop) -> None:
    result = stateloop("source", "userapp:restless")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: the machine 'restless' goes back to train from inside another loop")


# fit


def test_fit_prints_the_epochs_and_how_it_ended(stateloop: Stateloop) -> None:
    result = stateloop("fit", "userapp:factory", "--epochs", "3")
    head, *epochs, outcome, skip = result.stdout.splitlines()

    assert (result.exit_code, result.stderr) == (0, "")
    assert head.split() == ["epoch", "updates", "train_loss", "valid_loss"]
    assert [line.split()[:2] for line in epochs] == [["0", "2"], ["1", "5"], ["2", "8"]]
    assert len({len(line) for line in (head, *epochs)}) == 1
    assert outcome == "training: everything that was asked for was done"
    assert skip.startswith("skip_step by first_of_all: 1 ")


@pytest.mark.parametrize("verbose", [[], ["-v"]])
def test_what_a_callback_has_put_among_the_metrics_is_shown_whatever_it_is(
    verbose: list[str], stateloop: Stateloop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("stateloop"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("stateloop"), "level", logging.NOTSET)
    result = stateloop("fit", "userapp:spoken", *verbose)
    head, first, *_ = result.stdout.splitlines()

    assert result.exit_code == 0
    assert head.split()[-4:] == ["nothing", "word", "tensor", "half"]
    assert re.search(r"\d  +high  tensor\(\[\[0.*\.\.\.  0\.5000$", first)
    told = r"^  0/1  .* None  +high  tensor\(\[\[0.*\.\.\.  +0\.5000  +\d"
    assert bool(re.search(told, result.stderr, re.MULTILINE)) is bool(verbose)


def test_a_stop_that_was_asked_for_is_no_failure(stateloop: Stateloop) -> None:
    result = stateloop("fit", "userapp:stopping", "--no-progress")

    assert result.exit_code == 0
    assert "training: a stop was asked for and the run ended in order\nstop_training by run.stop" in result.stdout
    assert "that is enough" in result.stdout


def test_verbose_logs_to_stderr(stateloop: Stateloop, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(logging.getLogger("stateloop"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("stateloop"), "level", logging.NOTSET)
    result = stateloop("fit", "userapp:factory", "-v")

    assert re.search(r"^epoch  train_loss  valid_loss +time\n  0/1 .*\n  1/1 ", result.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", ["refused", "late"])
def test_what_stateloop_refuses_is_told_without_a_traceback(name: str, stateloop: Stateloop) -> None:
    result = stateloop("fit", f"userapp:{name}")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "\n  instead:  " in result.stderr
    assert "Traceback" not in result.output


def test_an_engine_alone_cannot_be_trained(stateloop: Stateloop) -> None:
    result = stateloop("fit", "userapp:engine")

    assert result.exit_code == 2
    assert "userapp:engine gives no train_loader" in result.stderr


def test_an_interrupt_exits_with_130_and_tells_how_far_it_came(stateloop: Stateloop) -> None:
    result = stateloop("fit", "userapp:interrupted")

    assert result.exit_code == 130
    assert "training: the run was interrupted from the keyboard" in result.stdout
    assert result.output.count("interrupted") == 1


@pytest.mark.parametrize("command", ["fit", "prove"])
def test_an_interrupt_before_a_run_begins_is_told_too(command: str, stateloop: Stateloop) -> None:
    result = stateloop(command, "userapp:interrupted_while_made")

    assert (result.exit_code, result.output) == (130, "interrupted\n")


@pytest.mark.parametrize(("option", "left"), [("--progress", 1), ("--no-progress", 0)])
def test_an_engine_that_brings_a_progress_bar_gets_no_second_one(option: str, left: int, stateloop: Stateloop) -> None:
    stateloop("fit", "userapp:barred", option)

    (engine,) = sys.modules["userapp"].MADE
    assert [type(callback).__name__ for callback in engine.callbacks].count("Progress") == left


def test_ctrl_c_on_a_terminal_leaves_it_clean(tmp_path: Path) -> None:
    (tmp_path / "userapp.py").write_text(APP)
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 80))
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "fit", "userapp:slow"],
        stdout=inside,
        stderr=inside,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(inside)
    drawn = read_until(outside, b"loss")
    process.send_signal(signal.SIGINT)
    left = read_until(outside, b"keyboard\r\n")
    code = process.wait(timeout=60)
    left += read_on(outside)
    os.close(outside)

    assert code == 130
    assert "epoch 0/999 train: " in drawn
    *_, wiped, summed, nothing = left.split("\r\n")
    assert re.search(r"\r\x1b\[Kstopped by Ctrl-C in epoch 0 at batch \d+ of 300$", wiped)
    assert (summed, nothing) == ("training: the run was interrupted from the keyboard", "")


@pytest.mark.parametrize(
    ("name", "options"),
    [("factory", []), ("factory", ["--no-progress"]), ("interrupted", []), ("logging_itself", [])],
)
def test_a_verbose_run_tells_nothing_twice_on_a_terminal(name: str, options: list[str], tmp_path: Path) -> None:
    (tmp_path / "userapp.py").write_text(APP)
    outside, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 200))
    subprocess.run(
        [sys.executable, "-m", "engine", "fit", f"userapp:{name}", "-v", *options],
        stdout=inside,
        stderr=inside,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(inside)
    told = read_on(outside)
    os.close(outside)

    lines = [line.rpartition("\r")[2].removeprefix("\x1b[K") for line in told.split("\r\n")]
    assert len([line for line in lines if line.startswith("training: ")]) == 1
    assert len([line for line in lines if re.match(r"0(/1)?  ", line.strip())]) == 1
    assert told.count("interrupted") == (name == "interrupted")


def read_on(terminal: int) -> str:
    """What a terminal shows that nobody writes to any more."""
    seen = b""
    while select.select([terminal], [], [], 0)[0]:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
    return seen.decode()


def read_until(terminal: int, sign: bytes) -> str:
    """What a terminal shows until a sign comes; within a minute."""
    seen, end = b"", time.monotonic() + 60
    while sign not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"{sign!r} did not come: {seen!r}"
        seen += os.read(terminal, 4096)
    return seen.decode()
