"""How does pytest test an engine without a test file?  An item for each thing that must hold, and one check for all."""

from collections.abc import Callable, Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any

import pytest

from engine.commands.target import load_factory
from states import StateloopError


if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr

    from engine.testing.report import Report
    from states.claims import Claim


class NotHeld(StateloopError, AssertionError):
    """Something does not hold; the message is what was found."""


def _shown(error: BaseException) -> str | None:
    """What is shown of an error: of ours the message alone, of the user's code all of it."""
    return str(error) if isinstance(error, StateloopError) else None


class Examined(pytest.Collector):
    """An engine under test; its name is `module:factory`."""

    factory: Callable[[], Any]
    claims: "list[Claim]"
    _checked: "Report | Exception | None" = None

    def collect(self) -> "Iterator[Held]":
        """An item for the machine, for each invariant, and for callbacks that change places."""
        from engine.testing.front.claim_text import claim_of  # noqa: PLC0415  # pytest does not wait for torch
        from engine.testing.runs.judges import INVARIANTS  # noqa: PLC0415  # as above

        self.factory = load_factory(self.name, str(self.config.invocation_params.dir))
        self.claims = [claim_of(text) for text in self.config.option.stateloop_claim]
        for name in ("machine", *INVARIANTS, "commute"):
            if name != "claims" or self.claims:
                yield Held.from_parent(self, name=name)

    def found(self, name: str) -> str:
        """What was found against one of the items; nothing, if nothing was."""
        report = self._report()
        if name == "machine":
            return report.machine_broken
        if name == "commute":
            return "\n\n".join(map(str, report.orders.conflicts))
        return "\n\n".join(str(one) for one in report.runs.findings if one.invariant.name == name)

    def _report(self) -> "Report":
        """The check: carried out by the first item that asks, in each process."""
        if self._checked is None:
            try:
                self._checked = self._check()
            except Exception as error:  # noqa: BLE001  # for each item, without doing it again
                self._checked = error
        if isinstance(self._checked, Exception):
            raise self._checked
        return self._checked

    def _check(self) -> "Report":
        from engine.testing.check import report_of  # noqa: PLC0415  # as above

        option = self.config.option
        return report_of(self.factory, *self.claims, runs=option.stateloop_runs, seed=option.stateloop_seed)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> "str | TerminalRepr":  # type: ignore[override]  # as in pytest itself
        """Why there are no items."""
        return _shown(excinfo.value) or super().repr_failure(excinfo)


class Held(pytest.Item):
    """One thing that must hold."""

    def runtest(self) -> None:
        """Fail with what was found."""
        examined = self.parent
        assert isinstance(examined, Examined), "nobody else makes these"
        if found := examined.found(self.name):
            option = self.config.option
            drawn = f"drawn with --stateloop-runs={option.stateloop_runs} --stateloop-seed={option.stateloop_seed}"
            raise NotHeld(f"{found}\n\n{drawn}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> "str | TerminalRepr":  # noqa: ANN401  # pytest's own names for it
        """The finding, without the way to it."""
        return _shown(excinfo.value) or super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[PathLike[str] | str, int | None, str]:
        """Where it is: in no file."""
        return self.path, None, self.nodeid
