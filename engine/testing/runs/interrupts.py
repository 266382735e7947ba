"""How does Ctrl-C end a check?  Its runs keep whatever is raised in them, so it is raised once more between two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from engine.testing.runs.search import Progress


@contextmanager
def stoppable(progress: Progress = lambda _: None) -> Iterator[Progress]:
    """Let Ctrl-C end what calls the progress that this gives, whatever it does with exceptions.

    Where the main thread does not do it, or somebody else handles Ctrl-C, that stays as it is.

    Args:
        progress: What is called behind it.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; at the next progress, or at the end.

    Example:
        >>> try:
        ...     with stoppable(print) as progress:
        ...         try:
        ...             signal.raise_signal(signal.SIGINT)
        ...         except KeyboardInterrupt:
        ...             print("kept")
        ...         progress(1)
        ... except KeyboardInterrupt:
        ...     print("ended")
        kept
        ended
    """
    asked = threading.Event()

    def ask(_: int, __: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt

    def passed(done: int) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        progress(done)

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield progress
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield passed
    finally:
        signal.signal(signal.SIGINT, before)
    if asked.is_set():
        raise KeyboardInterrupt
