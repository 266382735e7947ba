"""What do `stateloop check` and `check --mutate` do?  They test what `module:factory` names, and the tests themselves.

Nothing here imports torch before an engine is asked for.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from engine.commands.main import INTERRUPTED, main
from engine.commands.main import _exit_codes as exit_codes
from engine.commands.main import _target as target_argument
from engine.commands.main import _wrong as wrong
from engine.commands.target import PAIR, load_factory, made_by
from engine.errors import ArgumentRefused
from states import Machine
from states.claims import Claim, ClaimRefused
from states.explore import heard_in


if TYPE_CHECKING:
    import pytest

RUNS = 100
CODES = """\b
Exit codes:
  0    all of it holds; with --mutate, everything was noticed
  1    something does not hold, or was not noticed; or your code failed (with a traceback)
  2    wrong usage: an option, a claim, a MODULE:FACTORY or a PATH that names nothing of use
  130  interrupted from the keyboard"""
# What pytest's own exit codes are here: tests that fail, interrupted, its own failure, wrong usage, no tests.
OF_PYTEST = {0: 0, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2}


@main.command(epilog=CODES)
@target_argument
@click.option("--runs", type=click.IntRange(min=1), help=f"Random runs, behind the simple ones.  [default: {RUNS}]")
@click.option("--seed", type=click.IntRange(min=0), help="What they are drawn with; by default another one each time.")
@click.option("--claim", "texts", multiple=True, metavar="CLAIM", help="What else is to hold of the order of events.")
@click.option("--mutate", is_flag=True, help="Break the machine and the engine's walk, and tell who does not notice.")
@click.option("--tests", "paths", multiple=True, metavar="PATH", help="With --mutate: run these with pytest, too.")
@exit_codes()
def check(
    *,
    target: str,
    app_dir: str,
    runs: int | None,
    seed: int | None,
    texts: Sequence[str],
    mutate: bool,
    paths: Sequence[str],
) -> None:
    """Test the order of callbacks: train in many ways, judge each run, and show the simplest that fails.

    MODULE:FACTORY is called anew for each run: let it give a small model and a few small batches. Simple cases come
    first, then random ones; each plan, answer, exception and order of callbacks is among them. One seed gives the same
    runs again. What has failed once is kept in the folder .hypothesis, and tried first the next time.

    With --mutate your own assertions are tested instead: sixty times one thing is broken (an end dropped, two rows
    swapped, an event doubled, a guard taken off, a callback not called), and you are told what nobody noticed. Only
    what is yours counts: assertions in your callbacks and the claims, in five short trainings each time. With --tests
    it is your tests that count: pytest runs all of them twice, then those that train sixty times more, each time up to
    the first that fails. What a module does when it is imported is done once.

    \b
    Claims:
      before("loss_end", "backward_begin")             at_most_once("step_end", within="batch")
      never("step_begin", between=("backward_begin", "backward_end"))
      each("epoch_begin").followed_later_by("epoch_end")    each(...).followed_by(...)  # directly

    \b
    Examples:
      stateloop check examples.digits:factory --runs 20 --seed 1
      stateloop check examples.digits:factory --claim 'before("loss_end", "backward_begin")'
      stateloop check examples.digits:factory --mutate --claim 'at_most_once("step_end", within="batch")'
      stateloop check examples.digits:factory --mutate --tests tests/examples
    """  # noqa: D301  # \b is click's own: keep these lines
    if paths or mutate:
        _refuse_what_is_not_used(mutate=mutate, drawn=runs is not None or seed is not None, paths=paths, texts=texts)
    if paths:
        sys.exit(_tested_by_pytest(target, app_dir, paths))
    factory = load_factory(target, app_dir)
    machine = _machine(factory, target)
    claims = [_claim(text, machine) for text in texts]
    report, good = _mutated(factory, machine, claims) if mutate else _checked(factory, claims, runs or RUNS, seed)
    click.echo(report)
    sys.exit(0 if good else 1)


def _refuse_what_is_not_used(*, mutate: bool, drawn: bool, paths: Sequence[str], texts: Sequence[str]) -> None:
    if not mutate:
        raise wrong("--tests are given without --mutate", "both of them", "add --mutate; or run them with pytest")
    if drawn:
        raise wrong("--runs or --seed is given with --mutate", "one of them", "leave it out: no run is drawn there")
    if paths and texts:
        raise wrong(
            "--claim is given with --tests", "one of them", "claim it in a test: `ordering(factory, before(...))`"
        )
    if paths and find_spec("pytest") is None:
        raise wrong("--tests are given, and pytest is not installed", "pytest 8.3 or later", "pip install pytest")


def _machine(factory: Callable[[], object], target: str) -> Machine:
    """The machine of what a factory gives: an engine, with something to train with."""
    made, arguments = made_by(factory(), target)
    if isinstance(made, Machine) or arguments.get("train_loader") is None:
        what = "is a Machine" if isinstance(made, Machine) else "gives no train_loader"
        raise wrong(f"{target} {what}", PAIR, 'return engine, {"train_loader": a few small batches}')
    return made.machine


def _claim(text: str, machine: Machine) -> Claim:
    from engine.testing.front.claim_text import claim_of  # noqa: PLC0415  # only where something is claimed

    try:
        claim = claim_of(text)
        claim.order(heard_in(machine))
    except (ArgumentRefused, ClaimRefused) as error:
        raise click.UsageError(f"--claim: {error}") from error
    return claim


def _checked(factory: Callable[[], Any], claims: Sequence[Claim], runs: int, seed: int | None) -> tuple[object, bool]:
    from engine.testing.check import report_of  # noqa: PLC0415  # it imports torch
    from engine.testing.runs.drawn import simple_cases  # noqa: PLC0415  # as above
    from engine.testing.runs.standard import standard_of  # noqa: PLC0415  # as above
    from engine.testing.runs.subject import Subject  # noqa: PLC0415  # as above

    of = runs + sum(1 for _ in simple_cases(standard_of(Subject(factory), (), None)))
    with _bar("checking", " runs") as bar:
        report = report_of(factory, *claims, runs=runs, seed=seed, progress=lambda done: bar(done, max(done, of)))
    return report, report.holds


def _mutated(factory: Callable[[], Any], machine: Machine, claims: Sequence[Claim]) -> tuple[object, bool]:
    from engine.testing.mutation.assertions import OwnAssertions  # noqa: PLC0415  # it imports torch
    from engine.testing.mutation.survivors import survivors  # noqa: PLC0415  # as above

    with _bar("breaking", " machines") as bar:
        report = survivors(machine, OwnAssertions.of(factory, *claims), progress=bar)
    return report, not report.unnoticed


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Callable[..., object]]:
    """A bar on stderr if it is a terminal; gone at the end, however that comes."""
    from engine.layout.screen import ERASE_LINE, text_bar  # noqa: PLC0415  # it imports torch

    stream = sys.stderr
    if not stream.isatty():
        yield lambda *_: None
        return
    bar = text_bar()(desc=title, unit=unit, file=stream, leave=False, dynamic_ncols=True)

    def show(done: int, of: int) -> None:
        bar.total = of
        bar.update(done - bar.n)

    try:
        yield show
    except KeyboardInterrupt:
        bar.close()
        stream.write(ERASE_LINE)
        raise
    finally:
        bar.close()


def _tested_by_pytest(target: str, app_dir: str, paths: Sequence[str]) -> int:
    """Run the tests with the plugin, in this process."""
    import pytest  # noqa: PLC0415  # only where it is used

    class Interrupted:
        """Knows whether Ctrl-C was pressed: pytest's own code for that is the one of files that cannot be imported."""

        code: int | None = None

        @staticmethod
        def pytest_keyboard_interrupt(excinfo: "pytest.ExceptionInfo[BaseException]") -> None:
            if type(excinfo.value) is KeyboardInterrupt:
                Interrupted.code = INTERRUPTED

    sys.path.insert(0, app_dir)
    quietly = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is imported already has no asserts to rewrite
    code = pytest.main(["-p", "stateloop", *quietly, "--stateloop-mutate", target, *paths], plugins=[Interrupted])
    return Interrupted.code or OF_PYTEST[int(code)]
