"""What does the command `stateloop` do with recorded traces?  It judges one by its machine, and tells two apart.

Nothing here imports torch, unless a trace is judged by what `module:factory` names.
"""

import sys
from pathlib import Path

import click

from engine.commands.main import _exit_codes as exit_codes
from engine.commands.main import _wrong as wrong
from engine.commands.main import main
from engine.commands.target import load
from states import EVALUATION, PREDICTION, TRAINING, Machine
from states.difference import difference
from states.trace import Trace, TraceRefused, read
from states.verify import verify as judge


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True)
BUILT_IN = {machine.name: machine for machine in (TRAINING, EVALUATION, PREDICTION)}

CODES = """\b
Exit codes:
  0    {yes}
  1    {no}
  2    wrong usage: an option, or a file that holds no trace
  130  interrupted from the keyboard"""


@main.command(epilog=CODES.format(yes="legal and complete", no="not so, or recorded from another machine"))
@click.argument("trace", type=FILE)
@click.argument("target", metavar="[MODULE:FACTORY]", required=False)
@click.option("--app-dir", type=FOLDER, default=".", help="Look for modules in this folder first.")
@exit_codes()
def verify(trace: Path, target: str | None, app_dir: str) -> None:
    """Judge a recorded trace by its machine: the events, states, rows, counters and calls, line by line.

    TRACE is what `engine.testing.record` has written. MODULE:FACTORY names the machine, or an engine with it; a
    built-in one need not be named.

    \b
    Examples:
      stateloop verify trace.jsonl
      stateloop verify trace.jsonl examples.digits:factory
    """  # noqa: D301  # \b is click's own: keep these lines
    recorded = _read(trace)
    found = judge(recorded, _machine(recorded, target, app_dir))
    click.echo(found)
    sys.exit(0 if found else 1)


@main.command(epilog=CODES.format(yes="they tell the same", no="they part somewhere, or are of two machines"))
@click.argument("one", type=FILE)
@click.argument("other", type=FILE)
@click.option("--context", type=click.IntRange(min=0), default=3, show_default=True, help="Lines around the first.")
@exit_codes()
def diff(one: Path, other: Path, context: int) -> None:
    """Show where two recorded traces part: the first line that does not tell the same, whatever time it took.

    Traces of two machines part in any case; what differs in their rows is told first.

    \b
    Examples:
      stateloop diff before.jsonl after.jsonl
      stateloop diff before.jsonl after.jsonl --context 10
    """  # noqa: D301  # as above
    ours, theirs = _read(one), _read(other)
    parted = difference(ours, theirs, context)
    click.echo(f"{one} and {other} tell the same ({len(ours.lines)} lines)" if parted is None else parted)
    sys.exit(0 if parted is None else 1)


def _read(path: Path) -> Trace:
    """The trace in a file; of a torn one what is whole, and a word about it."""
    try:
        trace = read(path)
    except TraceRefused as error:
        raise click.UsageError(str(error)) from error
    if trace.torn:
        at = len(trace.lines) + 2
        click.echo(f"{path}, line {at}: torn and left out, as a process that was killed leaves it", err=True)
    return trace


def _machine(trace: Trace, target: str | None, app_dir: str) -> Machine:
    """The machine that is named, or the built-in one that the trace names."""
    if target is not None:
        made, _ = load(target, app_dir)
        return made if isinstance(made, Machine) else made.machine
    if trace.machine not in BUILT_IN:
        what = f"{trace.name} was recorded from the machine {trace.machine!r}, which is none of the built-in ones"
        raise wrong(what, f"MODULE:FACTORY, or a trace of {', '.join(BUILT_IN)}", "name the engine or the machine")
    return BUILT_IN[trace.machine]
