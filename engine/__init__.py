"""Doing it: the only place that imports torch.

# General layout
#
#   engine      Engine: what people hold in their hands
#   run         Run: everything mutable of one training
#   listeners   who hears and answers: Callback; vocabulary: the words they may name; signatures: how each is called
#   several     models and optimizers by name
#   actions     what is done in each state: batches draws them, closure is for LBFGS, each for several optimizers
#   precision   forward and loss under autocast, and a loss that is scaled
#   check       what is refused before the first batch
#   frozen      parameters that do not learn for a while
#   outcome, errors, dryrun    one subject each
#   summary     what an engine is made of; timings: where the time of a run goes; notebook: a run in a web page
#
#   running/    prepare: what is made ready before a run begins; fitting refuses what could not work; link: rows,
#               actions and listeners put together; asking makes the guards; loop: what this comes to, as Python; code
#               and written write it down; drive: how a run goes, and how it dies; steps: one transition at a time;
#               straight: where nothing is to be decided; turns: which runs of an engine go on now; registry and order:
#               who is registered, and when each is called; writers: what of the optimizer they write
#   ownloop/    a loop of the user's own: reports, and openrun with its `for` loops; brought: what a report brings;
#               between: where such a loop is; outoforder: what is wrong in it; replaced: does it go on with what
#               callbacks made of its loss
#   faster/     actions that are replaced: compiled, capture, prefetch; captured refuses, cuda talks to the GPU;
#               suggest: what would be faster
#   measuring/  metrics: mean loss and metrics; meter adds them up; room is where numbers wait on the device; outputs of
#               a prediction; monitored: did a metric improve; measured: will there be one
#   recording/  what callbacks/recorder keeps: series, batch by batch; hyperparameters: what moves in an optimizer;
#               counts over all parts of a training; thinned: which rows of a long run are kept; tables and plots of it
#   keeping/    checkpoints: what is in one; files writes and reads it; generators: where the random numbers stand;
#               sinks: files that the numbers of a training go to; trackers: TensorBoard and others; undone: what puts
#               all back that a trial changes, and kept is how
#   schedules/  what a hyperparameter does over a run: phases puts curves together; hyper writes it, picture draws;
#               foreseen: what one of torch's will write
#   searching/  lr_find, a search for a learning rate: found is what it gives, suggested reads its curve
#   layout/     how figures, columns and tables of epochs are laid out; screen: where progress is shown
#   callbacks/  callbacks that come with the engine
#   commands/   the command `stateloop`; target finds the `module:factory` that it is given
#   testing/    the ordering kit: tests of one's own callbacks and machines
#
# The names below are loaded at first use, so that `python -m engine --help` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from engine.actions import Action as Action
    from engine.actions import loss_from as loss_from
    from engine.actions import output_from as output_from
    from engine.engine import Engine as Engine
    from engine.errors import Refused as Refused
    from engine.listeners import Callback as Callback
    from engine.outcome import Outcome as Outcome
    from engine.outcome import Tally as Tally
    from engine.outcome import Verdict as Verdict
    from engine.ownloop.openrun import OpenRun as OpenRun
    from engine.ownloop.reports import PLAIN as PLAIN
    from engine.run import Run as Run
    from engine.several import Optimizers as Optimizers
    from states import State as State
    from states import Trigger as Trigger

_HOMES = {
    "Action": "engine.actions",
    "Callback": "engine.listeners",
    "Engine": "engine.engine",
    "OpenRun": "engine.ownloop.openrun",
    "PLAIN": "engine.ownloop.reports",
    "Optimizers": "engine.several",
    "Outcome": "engine.outcome",
    "Refused": "engine.errors",
    "Run": "engine.run",
    "State": "states",
    "Tally": "engine.outcome",
    "Trigger": "states",
    "Verdict": "engine.outcome",
    "loss_from": "engine.actions",
    "output_from": "engine.actions",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  # one list of names, kept above


def __getattr__(name: str) -> object:
    """Load a public name from its home at first use."""
    if name not in _HOMES:
        msg = f"module 'engine' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(_HOMES)
