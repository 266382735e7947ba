"""Which broken machines do a user's tests not notice?  What pytest has collected is run again with each of them.

# Theory of operation
#
# All tests run once, as ever, and must pass.  They run a second time in silence: those in which no run begins could
# notice nothing, and are left out.  The others run once for each mutant, up to the first that fails; the one that
# noticed the last mutant comes first.  Nothing is kept between two of these times: fixtures of every scope are made
# anew.  Only what a module does when it is imported is not done again.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from _pytest.runner import runtestprotocol  # what plugins that run tests again have always used
from attrs import define, field

from engine.commands.target import TargetRefused, load
from engine.errors import Refused
from engine.testing.front.items import Held
from engine.testing.mutation.mutants import unchanged
from engine.testing.mutation.mutate import mutated
from engine.testing.mutation.survivors import MutationReport, survivors
from states import Machine


# Where Hypothesis keeps the settings of a test; its own plugin for pytest writes it, too.
SETTINGS = "_hypothesis_internal_use_settings"


class Failed(Refused):
    """A test fails that has passed before."""


@define(eq=False)
class Again:
    """A plugin of pytest for one session.

    Args:
        target: `module:factory`, which names the machine.
        folder: Where to look for it.
    """

    target: str
    folder: str
    report: MutationReport | None = field(init=False, default=None)
    # Why nothing was tried.
    refused: str = field(init=False, default="")
    _silent: bool = field(init=False, default=False)
    _failed: bool = field(init=False, default=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[Any]:
        """Run all tests, then run them again."""
        machine = self._machine()
        result = yield
        if session.config.option.collectonly:
            return result
        if session.testsfailed:
            self.refused = "no machine was broken: a test fails already"
            return result
        items = [item for item in session.items if not isinstance(item, Held)]  # those are no tests of the user's
        try:
            with self._in_silence(session), _without_shrinking(items):
                self.report = self._survivors(session, machine, self._that_train(session, machine, items))
        except Refused as error:
            self.refused = str(error)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test without telling anybody."""
        if not self._silent:
            return None
        self._failed = any(report.failed for report in runtestprotocol(item, log=False, nextitem=nextitem))
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail where something was not noticed, or not tried."""
        if exitstatus == pytest.ExitCode.OK and (self.refused or (self.report and self.report.unnoticed)):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what was not noticed."""
        if self.report or self.refused:
            terminalreporter.section(f"broken machines of {self.target}")
            terminalreporter.write_line(self.refused or str(self.report))

    def _machine(self) -> Machine:
        try:
            made, _ = load(self.target, self.folder)
        except TargetRefused as error:
            raise pytest.UsageError(f"--stateloop-mutate: {error}") from None
        return made if isinstance(made, Machine) else made.machine

    def _that_train(self, session: pytest.Session, machine: Machine, items: list[pytest.Item]) -> list[pytest.Item]:
        """Those of the tests in which a run of any machine begins."""
        train = []
        with mutated(unchanged(machine)) as watch:
            for item, after in _pairs(items):
                before = len(watch.given)
                self._run(session, item, after)
                if len(watch.given) > before:
                    train.append(item)
        return train

    def _survivors(self, session: pytest.Session, machine: Machine, items: list[pytest.Item]) -> MutationReport:
        reporter: Any = session.config.pluginmanager.getplugin("terminalreporter")

        def test() -> None:
            for number, (item, after) in enumerate(_pairs(items)):
                try:
                    self._run(session, item, after)
                except Failed:
                    items.insert(0, items.pop(number))
                    raise

        def show(done: int, of: int) -> None:
            if reporter is not None and reporter.isatty:
                reporter.rewrite(f"breaking machines: {done} of {of}", erase=True)

        try:
            return survivors(machine, test, progress=show)
        finally:
            if reporter is not None and reporter.isatty:
                reporter.rewrite("", erase=True)

    def _run(self, session: pytest.Session, item: pytest.Item, after: pytest.Item | None) -> None:
        """Run one test in silence; raise if it fails, when all fixtures are torn down."""
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
        if self._failed:
            session._setupstate.teardown_exact(None)  # noqa: SLF001  # as plugins that run tests again do
            what = f"{item.nodeid} has passed, and fails when it is run again"
            raise Failed(what, allowed="tests that leave nothing behind", instead="make anew what it changes")

    @contextmanager
    def _in_silence(self, session: pytest.Session) -> Iterator[None]:
        """Let tests run without reports, and warnings of theirs be told once."""
        reporter: Any = session.config.pluginmanager.getplugin("terminalreporter")
        warnings = reporter.stats.setdefault("warnings", []) if reporter is not None else []
        before, self._silent = len(warnings), True
        if reporter is not None:
            reporter.ensure_newline()
        try:
            yield
        finally:
            self._silent = False
            del warnings[before:]


def _pairs(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Each with the one that comes behind it."""
    return zip(tuple(items), (*items[1:], None), strict=False)


@contextmanager
def _without_shrinking(items: Iterable[pytest.Item]) -> Iterator[None]:
    """A property that fails is noticed: it need not be made simple, nor be kept for the next time."""
    if "hypothesis" not in sys.modules:
        yield
        return
    from hypothesis import Phase, settings  # noqa: PLC0415  # only where somebody uses it

    functions = [getattr(getattr(item, "obj", None), "__func__", getattr(item, "obj", None)) for item in items]
    before = {one: getattr(one, SETTINGS) for one in functions if hasattr(one, SETTINGS)}
    try:
        for one, own in before.items():
            setattr(one, SETTINGS, settings(own, database=None, phases=(Phase.explicit, Phase.generate)))
        yield
    finally:
        for one, own in before.items():
            setattr(one, SETTINGS, own)
