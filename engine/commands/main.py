"""What does the command `stateloop` do?  It draws, proves, rehearses and trains what `module:factory` names.

Nothing here imports torch before an engine is asked for: `--help` and the proof of a bare machine do not wait for it.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from importlib import metadata
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

import states
from engine.commands.target import PAIR, TargetRefused, load, load_engine
from engine.errors import ArgumentRefused, Refused
from engine.layout.columns import aligned
from states import Machine, StateloopError
from states.diagram import FormatUnknown
from states.errors import shown
from states.names import name_of


if TYPE_CHECKING:
    from engine.engine import Engine
    from engine.run import Run

FORMATS = ["mermaid", "dot", "svg", "png"]

EXIT_CODES = """\b
Exit codes:
  0    done; so is a run that was asked to stop
  1    refused by Stateloop (with a message), or failed in your code (with a traceback)
  2    wrong usage: an option, or a MODULE:FACTORY that names nothing of use
  130  interrupted from the keyboard"""

INTERRUPTED = 130


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Our own errors need no traceback; those of the user's code do."""
    try:
        yield
    except TargetRefused as error:
        raise click.UsageError(str(error)) from error
    except StateloopError as error:
        raise click.ClickException("\n".join([str(error), *getattr(error, "__notes__", ())])) from error
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        found = [dist.version for dist in metadata.distributions(name="stateloop")]
        click.echo(f"stateloop {found[0] if found else '(not installed)'}")
        context.exit()


def _target(command: Callable[..., None]) -> Callable[..., None]:
    """What each subcommand is given: what is meant, and where to look for it."""
    folder = click.Path(exists=True, file_okay=False, resolve_path=True)
    where = "Look for modules in this folder first; by default in the current one."
    command = click.option("--app-dir", type=folder, default=".", help=where)(command)
    return click.argument("target", metavar="MODULE:FACTORY")(command)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
def main() -> None:
    """Look at a training, prove it, rehearse it, run it.

    MODULE:FACTORY names a function without arguments that returns an Engine, or a pair of an Engine and a dict of
    fit's arguments. It may name the Engine itself, too; for prove and diagram a Machine will do.

    \b
    Examples:
      stateloop prove states:TRAINING
      stateloop diagram states:TRAINING --format svg --out training.svg
      stateloop dry-run examples.digits:factory --batches 3
      stateloop source examples.digits:factory
      stateloop fit examples.digits:factory --epochs 5
      stateloop check examples.digits:factory --runs 20
    """  # noqa: D301  # \b is click's own: keep these lines


@main.command(epilog=EXIT_CODES)
@_target
@_exit_codes()
def prove(target: str, app_dir: str) -> None:
    """Prove the order of a machine; that of an Engine together with what its actions report.

    \b
    Examples:
      stateloop prove states:TRAINING
      stateloop prove examples.digits:factory
    """  # noqa: D301  # as above
    made, _ = load(target, app_dir)
    click.echo(states.prove(made) if isinstance(made, Machine) else made.prove())


@main.command(epilog=EXIT_CODES)
@_target
@click.option("--format", "kind", type=click.Choice(FORMATS), help="By default as --out ends; mermaid without --out.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write; by default stdout.")
@_exit_codes()
def diagram(target: str, app_dir: str, kind: str | None, out: Path | None) -> None:
    """Draw a machine; that of an Engine with the callbacks that hear and guard.

    \b
    Examples:
      stateloop diagram states:TRAINING --format mermaid
      stateloop diagram examples.digits:factory --out training.svg
    """  # noqa: D301  # as above
    kind = kind or ("mermaid" if out is None else None)
    if kind == "png" and out is None and sys.stdout.isatty():
        raise _wrong("a png was asked for on a terminal", "a file or a pipe", "add --out training.png")
    if out is not None and not out.parent.is_dir():
        raise _wrong(f"--out is {str(out)!r}", "a file in a folder that exists", f"make the folder {out.parent} first")
    made, _ = load(target, app_dir)
    try:
        picture = states.diagram(made, kind, out) if isinstance(made, Machine) else made.diagram(kind, out)
    except FormatUnknown as error:  # the suffix of --out tells none
        raise click.UsageError(str(error)) from error
    ends = isinstance(picture, bytes) or picture.endswith("\n")
    click.echo(picture if out is None else f"wrote {out}", nl=out is not None or not ends, err=out is not None)


@main.command("dry-run", epilog=EXIT_CODES)
@_target
@click.option("--epochs", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--batches", type=click.IntRange(min=0), default=2, show_default=True, help="Per training epoch.")
@click.option("--valid-batches", type=click.IntRange(min=0), help="By default 1 if the factory gives a valid_loader.")
@click.option("--max-updates", type=click.IntRange(min=0), help="Optimizer steps that are enough.")
@click.option("--answer", "answers", multiple=True, metavar="GUARD=N[,N...]", help="Say yes when asked the N-th time.")
@click.option("--json", "as_json", is_flag=True, help="Print data instead of text.")
@_exit_codes()
def dry_run(
    *,
    target: str,
    app_dir: str,
    epochs: int,
    batches: int,
    valid_batches: int | None,
    max_updates: int | None,
    answers: Sequence[str],
    as_json: bool,
) -> None:
    """List which callbacks would run and which guards would be asked; nothing is computed.

    The times that a guard is asked count from 0. All other answers are no.

    \b
    Examples:
      stateloop dry-run examples.digits:factory --epochs 2 --batches 3
      stateloop dry-run examples.digits:factory --answer skip_step=0,2 --answer stop_training=4
    """  # noqa: D301  # as above
    engine, arguments = load_engine(target, app_dir)
    if valid_batches is None and arguments.get("valid_loader") is not None:
        valid_batches = 1
    try:
        told = engine.dry_run(epochs, batches, valid_batches, max_updates=max_updates, answers=_answers(answers))
    except ArgumentRefused as error:  # a guard that no machine has
        raise click.UsageError(str(error)) from error
    plan = {name: getattr(told.plan, name) for name in ("epochs", "batches", "valid_batches", "max_updates")}
    data = {
        "machine": told.machine,
        "plan": plan,
        "lines": [attrs.asdict(line, value_serializer=_plain) for line in told.lines],
        "suggestions": told.suggestions,
    }
    click.echo(json.dumps(data, indent=2) if as_json else told)


@main.command(epilog=EXIT_CODES)
@_target
@_exit_codes()
def source(target: str, app_dir: str) -> None:
    """Show the loop that runs: plain Python made from the table, with the callbacks that hear and guard in it.

    A machine whose ways do not nest has none, and is refused.

    \b
    Examples:
      stateloop source examples.digits:factory
    """  # noqa: D301  # as above
    engine, _ = load_engine(target, app_dir)
    click.echo(engine.source().rstrip("\n"))


@main.command(epilog=EXIT_CODES)
@_target
@click.option("--epochs", type=click.IntRange(min=0), help="Instead of the factory's.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="A progress bar, on a terminal.")
@click.option("--verbose", "-v", is_flag=True, help="Log to stderr, terminal or not.")
@_exit_codes()
def fit(target: str, app_dir: str, epochs: int | None, progress: bool, verbose: bool) -> None:
    """Train; print the epochs and how the run ended. The factory returns a pair (Engine, dict of fit's arguments).

    \b
    Examples:
      stateloop fit examples.digits:factory
      stateloop fit examples.digits:factory --epochs 3 --no-progress
    """  # noqa: D301  # as above
    engine, arguments = load_engine(target, app_dir)
    if "train_loader" not in arguments:
        raise _wrong(f"{target} gives no train_loader", PAIR, 'return engine, {"train_loader": ...}')
    if verbose:
        _log_to_stderr()
    _show_progress(engine, progress, lines=verbose)
    on_terminal = sys.stderr.isatty() and sys.stdout.isatty()
    with _summed_up(engine, table=not (progress and on_terminal), outcome=not (verbose and on_terminal)):
        engine.fit(**(arguments if epochs is None else {**arguments, "epochs": epochs}))


def _log_to_stderr() -> None:
    """Let our logger be heard, unless the user's module has seen to that."""
    logging.getLogger("stateloop").setLevel(logging.INFO)
    if not any(getattr(handler, "stream", None) is sys.stderr for handler in logging.getLogger().handlers):
        logging.getLogger("stateloop").addHandler(logging.StreamHandler())


@contextmanager
def _summed_up(engine: "Engine", *, table: bool, outcome: bool) -> Iterator[None]:
    """Sum up the run at its end, however it ends, if one began; then nobody has to be told that it was interrupted."""
    before = engine.last_run
    try:
        yield
    except KeyboardInterrupt:
        if engine.last_run is before:
            raise
        sys.exit(INTERRUPTED)
    finally:
        run = engine.last_run
        if run is not None and run is not before and (lines := _summary(run, table=table, outcome=outcome)):
            click.echo("\n".join(lines))


def _show_progress(engine: "Engine", wanted: bool, *, lines: bool) -> None:
    """One progress bar, the engine's own or ours, or none; ours where it is a bar, or where *lines* are wanted, too."""
    from engine.callbacks import Progress  # noqa: PLC0415  # it imports torch

    present = [callback for callback in engine.callbacks if isinstance(callback, Progress)]
    if wanted and not present and (lines or sys.stderr.isatty()):
        engine.add(Progress())
    for callback in () if wanted else present:
        engine.remove(callback)


def _summary(run: "Run", *, table: bool, outcome: bool) -> list[str]:
    """The epochs, one a line, then how the run ended; without what the progress bar or the log has left there."""
    names = list(dict.fromkeys(name for record in run.history for name in record))
    rows = [names, *([_cell(record.get(name)) for name in names] for record in run.history)]
    lines = aligned(rows, ">") if table and names else []
    ended = [f"{run.machine.name}: {run.outcome.value}"] if outcome else []
    return [*lines, *ended, *map(str, (*run.stops, *run.skips))]


def _cell(value: object) -> str:
    """One value of one epoch; a callback may have put anything there, or nothing."""
    if isinstance(value, Real):
        return str(value) if isinstance(value, Integral) else f"{float(value):.4f}"
    return "" if value is None else value if isinstance(value, str) else shown(value)


def _plain(_: object, __: object, value: object) -> object:
    """Words by their names, for JSON."""
    return name_of(value) if isinstance(value, Enum) else value


def _answers(texts: Sequence[str]) -> dict[str, list[int]]:
    """By guard, the askings at which it says yes; one guard may be named several times."""
    merged: dict[str, list[int]] = {}
    for guard, times in map(_answer, texts):
        merged.setdefault(guard, []).extend(times)
    return merged


def _answer(text: str) -> tuple[str, list[int]]:
    guard, _, times = text.partition("=")
    if not guard or not all(time.isdecimal() for time in times.split(",")):
        raise _wrong(f"--answer is {text!r}", "GUARD=N or GUARD=N,N", "write for example --answer skip_step=0,2")
    return guard, [int(time) for time in times.split(",")]


def _wrong(what: str, allowed: str, instead: str) -> click.UsageError:
    """Wrong usage, worded as our errors are."""
    return click.UsageError(str(Refused(what, allowed=allowed, instead=instead)))


import engine.commands.check  # noqa: E402  # its commands register themselves
import engine.commands.traces  # noqa: E402, F401  # as above
