"""How does a table read in a document?  The rows of a machine as a Markdown table."""

from collections.abc import Iterable
from enum import Enum

from states.machine import Machine
from states.names import name_of


def markdown(machine: Machine) -> str:
    """The rows of a machine, one a line, in the order in which they are asked; then its counters.

    Example:
        >>> from states import PREDICTION
        >>> print(markdown(PREDICTION).splitlines()[3])
        | predict |  |  | `stop_predict` | stopping | stop |
    """
    head = "| in state | trigger | heard first | guard | goes to | heard on the way |"
    rows = [head, "|---|---|---|---|---|---|"]
    for row in machine.rows:
        trigger = name_of(row.trigger).replace("_", " ") if row.trigger else ""
        guard = f"`{name_of(row.guard)}`" if row.guard else ""
        cells = [name_of(row.source), trigger, _listed(row.first), guard, name_of(row.dest), _listed(row.heard)]
        rows.append(f"| {' | '.join(cells)} |")
    if machine.counts:
        rows += ["", f"Counters: {'; '.join(map(str, machine.counts))}."]
    return "\n".join(rows)


def _listed(events: Iterable[Enum]) -> str:
    return ", ".join(map(name_of, events))
