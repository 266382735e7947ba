"""What does pytest get?  Two fixtures, a marker, tests of an engine without a file, and tests of the tests.

Each pytest run of anybody who has Stateloop imports this: torch and Hypothesis wait until something is used.

# What pytest is told
#
#   --stateloop MODULE:FACTORY          test an engine: `items` has a test for each invariant
#   --stateloop-mutate MODULE:FACTORY   run the tests again with broken machines: `again`
#   trace(engine)                       follow an engine: `followed`
#   ordering(target, *claims)           prove claims; ordering.check(factory): judge runs: `ordering`
#   @pytest.mark.stateloop(runs=, seed=)    for one test
"""

from contextlib import ExitStack
from random import randrange
from typing import TYPE_CHECKING, Any

import pytest


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.engine import Engine
    from engine.testing.front.followed import Followed
    from engine.testing.front.ordering import Ordering

TARGET = "MODULE:FACTORY"
MARKER = "stateloop(runs=N, seed=S): how many runs the fixture `ordering` draws in this test, and with what."


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer what `stateloop check` offers."""
    group = parser.getgroup("stateloop", "the order of events in trainings")
    group.addoption(
        "--stateloop",
        metavar=TARGET,
        help="Test this engine: an item for each invariant. Without paths behind it, nothing else is collected; where "
        "it stands in addopts, it comes to all that is.",
    )
    group.addoption("--stateloop-runs", metavar="N", type=int, default=100, help="Random runs (100).")
    group.addoption("--stateloop-seed", metavar="S", type=int, help="What they are drawn with.")
    group.addoption(
        "--stateloop-claim",
        metavar="CLAIM",
        action="append",
        default=[],
        help="With --stateloop: what else is to hold, as `stateloop check --help` has it.",
    )
    group.addoption(
        "--stateloop-mutate",
        metavar=TARGET,
        help="When all tests have passed, run them again with sixty machines that are broken in one thing each, and "
        "fail if one of these is not noticed.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, choose the seed, and leave the rest to those who are asked for."""
    config.addinivalue_line("markers", MARKER)
    if config.option.stateloop_seed is None:
        given = getattr(config, "workerinput", {})  # all workers of xdist draw the same
        config.option.stateloop_seed = given.get("stateloop_seed", randrange(2**32))  # noqa: S311  # no secret
    if config.option.stateloop_runs < 1:
        raise pytest.UsageError("--stateloop-runs is to be 1 or more")
    if config.option.stateloop and _typed_alone(config):
        config.args[:], config.args_source = [], pytest.Config.ArgsSource.ARGS
    if config.option.stateloop_mutate:
        _again(config)


def _typed_alone(config: pytest.Config) -> bool:
    """Whether `--stateloop` was typed, and no path: then it is all that is asked for."""
    typed = any(str(one).partition("=")[0] == "--stateloop" for one in config.invocation_params.args)
    return typed and config.args_source is not pytest.Config.ArgsSource.ARGS


def _again(config: pytest.Config) -> None:
    if getattr(config.option, "dist", "no") != "no" or hasattr(config, "workerinput"):
        raise pytest.UsageError("--stateloop-mutate breaks the machines of this one process: run it with -n 0")
    from engine.testing.front.again import Again  # noqa: PLC0415  # it imports torch

    config.pluginmanager.register(Again(config.option.stateloop_mutate, str(config.invocation_params.dir)))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401  # xdist ships no types for it
    """Hand the seed to a worker of xdist."""
    node.workerinput["stateloop_seed"] = node.config.option.stateloop_seed


def pytest_report_header(config: pytest.Config) -> str | None:
    """What is tested, and what gives the same runs again."""
    option = config.option
    drawn = f"--stateloop-runs={option.stateloop_runs} --stateloop-seed={option.stateloop_seed}"
    return f"stateloop: {option.stateloop}, {drawn}" if option.stateloop else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the tests of the engine, before some are left out by -k or -m."""
    if config.option.stateloop:
        from engine.testing.front.items import Examined  # noqa: PLC0415  # only where it is used

        examined = Examined.from_parent(session, name=config.option.stateloop, nodeid=config.option.stateloop)
        items.extend(session.genitems(examined))


@pytest.fixture
def trace() -> "Iterator[Callable[[Engine], Followed]]":
    """Follow an engine from the call with it on; what that gives has `events`, `heard`, `assert_legal` and more."""
    from engine.testing.front.followed import Followed  # noqa: PLC0415  # it imports torch

    with ExitStack() as stack:

        def follow(engine: "Engine") -> Followed:
            followed = Followed(engine)
            stack.callback(followed.close)
            return followed

        yield follow


@pytest.fixture
def ordering(request: pytest.FixtureRequest) -> "Ordering":
    """Prove claims, `ordering(target, before("a", "b"))`, or judge runs, `ordering.check(factory)`."""
    from engine.testing.front.ordering import Ordering  # noqa: PLC0415  # it imports torch

    told = {"runs": request.config.option.stateloop_runs, "seed": request.config.option.stateloop_seed}
    for marker in reversed(list(request.node.iter_markers("stateloop"))):
        if marker.args or marker.kwargs.keys() - told.keys():
            raise pytest.UsageError(f"@pytest.mark.stateloop takes runs= and seed=; {request.node.nodeid} has {marker}")
        told.update(marker.kwargs)
    return Ordering(told["runs"], told["seed"])
