"""What did callbacks leave behind?  The stock before and after it, and, on a leak, around each call."""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from threading import Thread

from attrs import evolve, field, frozen
from torch import nn

from engine.engine import Engine
from engine.run import Run
from engine.testing.left.settings import is_plain, same
from engine.testing.left.stock import Key, Stock, put_back, take_stock
from engine.testing.pairs.snapshot import dice, listeners_of
from engine.testing.pairs.values import MISSING
from engine.testing.watched import Call, watch
from states.errors import typed
from states.names import name_of


# An engine that has not run yet, and what runs it: `fit`, with a fault or without.
Made = tuple[Engine, Callable[[], object]]

# What to do about a leak, by what it is.
UNDO = {
    "a callback": "register it before the run",
    "an open file": "open it in a with block, or close it in on_train_end, which always comes",
    "a thread": "end it and join it in on_train_end, which always comes",
    "a handler": "take it away in on_train_end, which always comes: logger.removeHandler(handler)",
    "random numbers": "write uses_random = True in its class, or draw from a generator of its own, torch.Generator()",
    "a mode": "put the mode back before it returns: model.train(mode), with the mode that was there",
    "a hook": "keep the handle, and remove it in on_train_end, which always comes: handle.remove()",
    "": "put it back in on_train_end, which always comes",
}


@frozen
class Leak:
    """One thing that was left behind.

    Attributes:
        what: What was done, to what, in words.
        instead: What to do about it.
        who: The callback that did it, by its name, where that is known.
        word: The event or guard in which it did.
        epoch: When that was.
        batch: When that was.
    """

    what: str
    instead: str
    who: str = ""
    word: str = ""
    epoch: int = -1
    batch: int = -1
    # By what it is found again.
    key: Key = field(default=("", "", None), eq=False, repr=False)

    def __str__(self) -> str:
        when = f", in {self.word} (epoch {self.epoch}, batch {self.batch})" if self.who else ""
        return f"{self.who or 'a run'} {self.what}{when}\n  instead:  {self.instead}"


def judge_leaks(make: Callable[[], Made]) -> tuple[Leak, ...]:
    """Run once; where something was left, or random numbers were drawn, run again and say which callbacks did it.

    What no callback did is not listed: it is the model's, the loader's or the engine's.  What was left in torch or in
    the process is put back, as far as that can be done, so that the next run is as this one was.

    Args:
        make: Gives a fresh engine and the function that runs it, the same each time; that may raise whatever it likes.

    Example:
        >>> import torch
        >>> from engine import Callback
        >>> class Probe(Callback):
        ...     def on_train_begin(self, run):
        ...         run.model.register_forward_hook(self.hook)
        ...     def hook(self, module, args, output): ...
        >>> def make():
        ...     engine = Engine(torch.nn.Linear(1, 1), torch.nn.MSELoss(), callbacks=[Probe()])
        ...     engine.optimizer = torch.optim.SGD(engine.model.parameters())
        ...     return engine, lambda: engine.fit([(torch.ones(2, 1), torch.zeros(2, 1))])
        >>> print(*judge_leaks(make))  # doctest: +ELLIPSIS
        Probe left a forward hook on model (...Probe.hook), in train_begin (epoch 0, batch 0)
          instead:  keep the handle, and remove it in on_train_end, which always comes: handle.remove()
    """
    engine, go = make()
    modes = watch_modes(engine)
    before, stand = take_stock(engine), dice()
    _run(go)
    left, drawn = left_behind(before, take_stock(engine)), dice() != stand
    put_back(before)
    if left or modes:
        return who_left(*make())
    return _who_drew(*make()) if drawn else ()


def left_behind(before: Stock, after: Stock) -> tuple[Leak, ...]:
    """What is there after a run and was not before it, and what is not as it was."""
    added = [_added(key, thing) for key, thing in after.added.items() if key not in before.added]
    changed = [
        _changed(key, before.kept.get(key, MISSING), after.kept.get(key, MISSING))
        for key in {**before.kept, **after.kept}
        if not same(before.kept.get(key, MISSING), after.kept.get(key, MISSING))
    ]
    return (*added, *changed)


def who_left(engine: Engine, go: Callable[[], object]) -> tuple[Leak, ...]:
    """Run with a look around each call of each callback: what callbacks left, whose it is, and when they left it.

    Their draws of random numbers are among it, unless they say `uses_random = True`, and a model that is in another
    mode after a call.
    """
    did: dict[Key, Leak] = {}

    def around(who: str, word: Enum, call: Call) -> Call:
        def looked_at(run: Run) -> object:
            before = take_stock(engine)
            try:
                return call(run)
            finally:
                for leak in left_behind(before, take_stock(engine)):
                    did[leak.key] = evolve(leak, who=who, word=name_of(word), epoch=run.epoch, batch=run.batch_index)

        return looked_at

    watch(engine, around)
    conduct = (consumed(engine), watch_modes(engine))
    before = take_stock(engine)
    _run(go)
    after = take_stock(engine)
    put_back(before)
    left = [evolve(did[leak.key], what=leak.what) for leak in left_behind(before, after) if leak.key in did]
    return (*left, *(leak for found in conduct for leak in found))


def consumed(engine: Engine) -> list[Leak]:
    """A list that fills as the engine runs: which callback drew random numbers, of which generator, without saying so.

    One that says so has `uses_random = True` in its class; a function has it as an attribute.  It costs 0.1 ms a call.
    """
    claims = {one.name: getattr(one.source, "uses_random", False) for one in listeners_of(engine)}
    found: dict[tuple[str, str], Leak] = {}
    told: list[Leak] = []

    def around(who: str, word: Enum, call: Call) -> Call:
        def diced(run: Run) -> object:
            before = dice()
            try:
                return call(run)
            finally:
                for name, stand in dice().items():
                    if before.get(name, stand) != stand and (who, name) not in found:
                        found[who, name] = _did(
                            who, word, run, f"drew random numbers of {name} without saying so", "random numbers"
                        )
                        told.append(found[who, name])

        return call if claims[who] else diced

    watch(engine, around)
    return told


def watch_modes(engine: Engine) -> list[Leak]:
    """A list that fills as the engine runs: which callback left the model in another mode than it was in.

    The engine puts every mode back when a run ends, so this shows around a call alone; it costs next to nothing.  Parts
    of it may change theirs: a frozen batch norm is in evaluation mode for good.
    """
    told: list[Leak] = []

    def around(who: str, word: Enum, call: Call) -> Call:
        def moded(run: Run) -> object:
            before = _modes(run)
            try:
                return call(run)
            finally:
                if _modes(run) != before and all(leak.who != who for leak in told):
                    mode = "evaluation" if any(before) else "training"
                    told.append(_did(who, word, run, f"left the model in {mode} mode", "a mode"))

        return moded

    watch(engine, around)
    return told


def _who_drew(engine: Engine, go: Callable[[], object]) -> tuple[Leak, ...]:
    found = consumed(engine)
    _run(go)
    return tuple(found)


def _run(go: Callable[[], object]) -> None:
    """Run; how that ends is no matter here."""
    with suppress(Exception, KeyboardInterrupt):
        go()


def _modes(run: Run) -> tuple[bool, ...]:
    """The mode of a model; of several by name, of each."""
    parts = run.model.children() if isinstance(run.model, nn.ModuleDict) else (run.model,)
    return tuple(part.training for part in parts)


def _did(who: str, word: Enum, run: Run, what: str, kind: str) -> Leak:
    return Leak(what, UNDO[kind], who, name_of(word), run.epoch, run.batch_index)


def _added(key: Key, thing: object) -> Leak:
    what, where, _ = key
    kind = "a hook" if what.endswith("hook") else what
    words = {"an open file": f"open the file {where}", "a thread": f"the thread {_named(thing)} running"}
    return Leak(f"left {words.get(what, f'{what} on {where} ({_named(thing)})')}", UNDO[kind], key=key)


def _changed(key: Key, was: object, now: object) -> Leak:
    return Leak(f"left {key[1]} as {_named(now)}; it was {_named(was)}", UNDO[""], key=key)


def _named(thing: object) -> str:
    """What a thing is called: a function by where it is written, a thread by its name, any other by its type."""
    if isinstance(thing, Thread):
        return thing.name
    if name := getattr(thing, "__qualname__", ""):
        return f"{getattr(thing, '__module__', '')}.{name}"
    return str(thing) if is_plain(thing) else typed(thing)
