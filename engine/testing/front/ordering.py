"""What does the fixture `ordering` give?  `order_of` and `check_order`, with runs and seed as pytest was told."""

from collections.abc import Iterator
from contextlib import contextmanager

from attrs import frozen

from engine.engine import Engine
from engine.testing.check import check_order, order_of
from engine.testing.ordered import Verdict
from engine.testing.report import Report
from engine.testing.runs.subject import Factory
from states import Grammar, Machine
from states.claims import Claim


@frozen
class Ordering:
    """Claims and checks of an order, drawn with one seed.

    Attributes:
        runs: How many runs are drawn.
        seed: What they are drawn with.

    Example:
        >>> from states import TRAINING
        >>> from states.claims import before
        >>> ordering = Ordering(runs=20, seed=1)
        >>> ordering(TRAINING, before("loss_end", "backward_begin"))[0].states > 0
        True
    """

    runs: int
    seed: int

    def __call__(self, target: Machine | Engine | Factory, *claims: Claim) -> tuple[Verdict, ...]:
        """Prove claims, or fail with a shortest way to break one: `order_of`."""
        __tracebackhide__ = True  # pytest shows the test, not this
        with self._told():
            return order_of(target, *claims, runs=self.runs, seed=self.seed)

    def check(self, factory: Factory, *claims: Claim, grammar: Grammar | None = None) -> Report:
        """Judge runs by every invariant, or fail with the simplest that does not hold: `check_order`."""
        __tracebackhide__ = True  # as above
        with self._told():
            return check_order(factory, *claims, runs=self.runs, seed=self.seed, grammar=grammar)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A failure says what gives the same runs again."""
        __tracebackhide__ = True  # as above
        try:
            yield
        except AssertionError as error:
            error.add_note(f"drawn with --stateloop-runs={self.runs} --stateloop-seed={self.seed}")
            raise
