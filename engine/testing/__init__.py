"""What do people test with?  The kit: strategies, checks, proofs and traces for callbacks and machines of their own.

# General layout
#
#   check       start reading here: check_order; report and explain say what was found
#   ordered     claims about the order, proved over the machine
#   strategies  what is drawn in tests of one's own
#   tracing     a run's trace as a file
#   watched     the one way in which a test sees the calls of callbacks
#   plugin      what pytest loads
#   runs/       many runs: which are drawn, how one is carried out and watched, the invariants and their judges
#   pairs/      two callbacks in both orders
#   left/       what a run leaves behind
#   walked/     a real engine does all that may happen in a machine; stateful tests, loops of one's own, random machines
#   mutation/   which broken machines a test does not notice
#   front/      what the command `stateloop check` and the plugin need
#
# The names below are loaded at first use, as those of `engine` are.
"""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from engine.testing.check import check_case as check_case
    from engine.testing.check import check_order as check_order
    from engine.testing.check import order_of as order_of
    from engine.testing.check import report_of as report_of
    from engine.testing.left.leaks import judge_leaks as judge_leaks
    from engine.testing.mutation.mutants import mutants_of as mutants_of
    from engine.testing.mutation.mutate import mutated as mutated
    from engine.testing.mutation.survivors import survivors as survivors
    from engine.testing.ordered import ClaimBroken as ClaimBroken
    from engine.testing.pairs.commute import commuting as commuting
    from engine.testing.pairs.commute import try_orders as try_orders
    from engine.testing.report import OrderBroken as OrderBroken
    from engine.testing.runs.cases import Case as Case
    from engine.testing.runs.cases import Way as Way
    from engine.testing.runs.described import Fault as Fault
    from engine.testing.runs.described import Script as Script
    from engine.testing.strategies import faults as faults
    from engine.testing.strategies import plans as plans
    from engine.testing.strategies import scripts as scripts
    from engine.testing.strategies import stacks as stacks
    from engine.testing.tracing import record as record
    from engine.testing.walked.extensions import machines as machines
    from engine.testing.walked.loops import check_loop as check_loop
    from engine.testing.walked.replay import replayed as replayed
    from engine.testing.walked.stateful import stateful_test as stateful_test
    from engine.testing.watched import watch as watch
    from states.claims import at_most_once as at_most_once
    from states.claims import before as before
    from states.claims import each as each
    from states.claims import never as never
    from states.difference import difference as difference
    from states.trace import read as read
    from states.verify import verify as verify
    from states.walk import Plan as Plan

_HOMES = {
    "Case": "engine.testing.runs.cases",
    "ClaimBroken": "engine.testing.ordered",
    "Fault": "engine.testing.runs.described",
    "OrderBroken": "engine.testing.report",
    "Plan": "states.walk",
    "Script": "engine.testing.runs.described",
    "Way": "engine.testing.runs.cases",
    "at_most_once": "states.claims",
    "before": "states.claims",
    "check_case": "engine.testing.check",
    "check_loop": "engine.testing.walked.loops",
    "check_order": "engine.testing.check",
    "commuting": "engine.testing.pairs.commute",
    "difference": "states.difference",
    "each": "states.claims",
    "faults": "engine.testing.strategies",
    "judge_leaks": "engine.testing.left.leaks",
    "machines": "engine.testing.walked.extensions",
    "mutants_of": "engine.testing.mutation.mutants",
    "mutated": "engine.testing.mutation.mutate",
    "never": "states.claims",
    "order_of": "engine.testing.check",
    "plans": "engine.testing.strategies",
    "read": "states.trace",
    "record": "engine.testing.tracing",
    "report_of": "engine.testing.check",
    "replayed": "engine.testing.walked.replay",
    "scripts": "engine.testing.strategies",
    "stacks": "engine.testing.strategies",
    "stateful_test": "engine.testing.walked.stateful",
    "survivors": "engine.testing.mutation.survivors",
    "try_orders": "engine.testing.pairs.commute",
    "verify": "states.verify",
    "watch": "engine.testing.watched",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  # one list of names, kept above


def __getattr__(name: str) -> object:
    """Load a public name from its home at first use."""
    if name not in _HOMES:
        msg = f"module 'engine.testing' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(_HOMES)
