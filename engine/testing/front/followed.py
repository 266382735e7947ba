"""What does the fixture `trace` give?  All that is heard of an engine from then on, to be compared and judged."""

from contextlib import ExitStack
from io import StringIO
from warnings import catch_warnings

from attrs import define, evolve, field

from engine.engine import Engine
from engine.testing.tracing import record
from states.difference import difference
from states.grammar import Grammar
from states.trace import Trace, TraceLine, read
from states.verify import verify


@define(eq=False)
class Followed:
    """What is heard of an engine from now on, and who is called.

    Args:
        engine: The engine.  What it did before is not seen; of callbacks that are added later, only what they do.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> followed = Followed(engine)
        >>> run = engine.predict([torch.ones(4, 2)])
        >>> followed.events[:2]
        ['predict_begin', 'predict_batch_begin']
        >>> followed.heard("predict_batch_end")[0].state
        'predict'
    """

    engine: Engine
    _file: StringIO = field(init=False, factory=StringIO)
    _open: ExitStack = field(init=False, factory=ExitStack)

    def __attrs_post_init__(self) -> None:
        """Begin to listen."""
        self._open.enter_context(record(self.engine, self._file))

    def close(self) -> None:
        """Listen no more."""
        with catch_warnings(action="ignore", category=UserWarning):  # a run that goes on is not disturbed by it
            self._open.close()

    @property
    def recorded(self) -> Trace:
        """All of it, as `stateloop verify` and `diff` read it."""
        return read(StringIO(self._file.getvalue()))

    @property
    def events(self) -> list[str]:
        """The events, in order: pytest shows where two such lists part."""
        return list(self.recorded.events)

    def heard(self, event: str) -> list[TraceLine]:
        """Each hearing of an event, with the state and the counters that the run showed."""
        return [line for line in self.recorded.lines if line.event == event and line.callback is None]

    def calls(self, callback: str) -> list[str]:
        """The events that a callback has heard and the guards that it was asked, in order."""
        return [line.word for line in self.recorded.lines if line.callback == callback]

    def assert_legal(self, by: Grammar | None = None) -> None:
        """Fail where events, states or counters are not those that the engine's machine allows, or a run is not over.

        Args:
            by: Which order of events is legal, instead of the machine's own.
        """
        __tracebackhide__ = True  # pytest shows the test, not this
        found = verify(self.recorded, by or self.engine.machine)
        if not found:
            raise AssertionError(str(found))

    def assert_like(self, other: "Followed") -> None:
        """Fail where another engine was heard to do something else, and show where the two part."""
        __tracebackhide__ = True  # as above
        parted = difference(evolve(self.recorded, name="this one"), evolve(other.recorded, name="the other"))
        if parted is not None:
            raise AssertionError(str(parted))
