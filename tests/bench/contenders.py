"""Who is timed?  The plain loop of each workload, the engine, also checked, and the peers that can be imported."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import version

from attrs import field, frozen

from tests.bench import own
from tests.bench.workloads import EVENTS, Job, Trained


# By module in tests/bench/peers.
PEERS: Mapping[str, str] = {
    "ignite": "Ignite",
    "fabric": "Lightning Fabric",
    "skorch_net": "skorch",
    "lightning_trainer": "Lightning",
    "transformers_trainer": "transformers Trainer",
    "keras_model": "Keras",
}


@frozen
class Contender:
    """Something that trains a job."""

    name: str
    train: Callable[[Job], Trained]
    version: str = ""
    # Which of the six events of a batch its callbacks can hear.
    hears: tuple[str, ...] = EVENTS
    note: str = ""
    # By workload, how far its final loss may be from the plain loop's: not at all where nothing is said.
    loss_off: Mapping[str, float] = field(factory=dict)


# By workload: what every contender is compared with.
BASELINES = {
    "tiny": Contender("plain loop", own.plain),
    "calls": Contender("plain loop, calls by hand", own.plain_with_calls),
    "digits": Contender("plain loop", own.plain_with_validation),
}
FIT = Contender("fit", own.fit)
UNMEASURED = Contender("fit, metrics=None", own.fit_unmeasured, note="no mean loss is kept, as in the plain loop")
DROPPING = Contender(
    "plain loop, grad = None",
    own.plain_dropping,
    note="gradients are dropped by a write, as the engine does; torch's method also makes a record for its profiler",
)
STEPPER = Contender("run.advance()", own.stepper, note="one transition at a time")
OWN_LOOP = Contender(
    "own loop, reports",
    own.own_loop,
    note="the plain loop, which reports what it does; zero_grad is left to the engine",
)
# In fake work alone: a batch takes 9 rows, and one more for each of these states.
MORE_STATES = 8
EXTENDED = Contender(
    f"fit, {MORE_STATES} states more",
    own.fit_unmeasured,
    note=f"metrics=None; {MORE_STATES} states of one's own before the step: 17 rows a batch in place of 9",
)
CHECKED = Contender(
    "fit, checked", own.fit_checked, note="pytransitions decides where each report leads: a mode for tests"
)


def installed(modules: Iterable[str] = PEERS) -> tuple[list[Contender], dict[str, str]]:
    """The peers that can be imported, and by name why the others cannot."""
    found, absent = [], {}
    for module in modules:
        try:
            found.append(_peer(module))
        except ModuleNotFoundError as error:
            absent[PEERS[module]] = f"not installed: there is no module {error.name!r}"
        except ImportError as error:
            absent[PEERS[module]] = f"cannot be imported: {error}"
    return found, absent


def _peer(name: str) -> Contender:
    module = import_module(f"tests.bench.peers.{name}")
    return Contender(
        PEERS[name], module.train, version(module.DISTRIBUTION), module.HEARS, module.NOTE, module.LOSS_OFF
    )
