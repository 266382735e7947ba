"""Is every mistake met by a clear error, with nothing lost?  What was given, what is allowed, what to do instead."""

import functools
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from types import FunctionType
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, Dataset, IterableDataset

from engine import Action, Callback, Engine, Outcome, Run, State, loss_from, output_from
from engine.callbacks import Checkpoint, EarlyStopping, Freeze, one_cycle, sgdr
from engine.errors import (
    ArgumentRefused,
    BatchRefused,
    CallbackRefused,
    EngineBusy,
    GuardRefused,
    LoaderRefused,
    LossRefused,
    MetricRefused,
    OptimizerRefused,
    Refused,
)
from states import EVALUATION, TRAINING, Event, Guard, Machine, MachineRefused, Transition, Trigger, TriggerRefused
from states.errors import typed
from states.names import name_of
from tests.engine.tools import (
    Recorder,
    answers,
    batches,
    hears,
    nothing_changes,
    refuses,
    same,
    small_engine,
    small_model,
    still_works,
    weights_of,
)


EVENTS = sorted(map(name_of, Event))
GUARDS = sorted(map(name_of, Guard))


@st.composite
def typos(draw: st.DrawFn, words: list[str]) -> tuple[str, str]:
    """A word, and the same with one letter lost, doubled, or swapped with the next."""
    word = draw(st.sampled_from(words))
    at = draw(st.integers(0, len(word) - 2))
    kind = draw(st.sampled_from(["lost", "doubled", "swapped"]))
    middle = {"lost": "", "doubled": word[at] * 2, "swapped": word[at + 1] + word[at]}[kind]
    typo = word[:at] + middle + word[at + (2 if kind == "swapped" else 1) :]
    assume(typo not in words)
    return word, typo


# --- Names ------------------------------------------------------------------------------------------------------------


@given(typos(EVENTS))
def test_a_misspelt_method_is_refused_with_the_nearest_event(names: tuple[str, str]) -> None:
    word, typo = names
    engine = small_engine()
    registered = engine.callbacks
    with (
        nothing_changes(engine.model, engine.optimizer),
        refuses(
            CallbackRefused,
            f"'on_{typo}'",
            f"no machine has the event '{typo}'",
            f"did you mean 'on_{word}'?",
            "on_train_end",
        ),
    ):
        engine.add(hears(typo, print))
    assert engine.callbacks == registered


@given(typos(GUARDS))
def test_a_misspelt_guard_method_is_refused_with_the_nearest_guard(names: tuple[str, str]) -> None:
    word, typo = names
    with refuses(CallbackRefused, f"'{typo}'", "no machine has such a guard", f"did you mean '{word}'?", "skip_step"):
        small_engine(answers(typo, bool))


@given(typos(EVENTS), typos(GUARDS))
def test_a_misspelt_name_is_refused_wherever_a_name_is_given(event: tuple[str, str], guard: tuple[str, str]) -> None:
    engine = small_engine()
    with refuses(ArgumentRefused, f"no event is called '{event[1]}'", f"did you mean '{event[0]}'?", "train_begin"):
        engine.on(event[1])
    with refuses(ArgumentRefused, f"no guard is called '{guard[1]}'", f"did you mean '{guard[0]}'?", "skip_step"):
        engine.guard(guard[1])
    with refuses(ArgumentRefused, f"no guard is called '{guard[1]}'", f"did you mean '{guard[0]}'?"):
        engine.dry_run(answers={guard[1]: [0]})


@pytest.mark.parametrize("name", [Event.EPOCH_END, "on_epoch_end", print, None, 3])
def test_what_is_no_name_of_an_event_is_refused_and_not_silently_forgotten(name: object) -> None:
    with refuses(ArgumentRefused, "no event is called", repr(name)):
        small_engine().on(name)


def test_a_name_like_none_that_is_known_lists_all_that_are_and_once() -> None:
    with refuses(ArgumentRefused, "epoch_begin, ", "instead:  take one of these") as raised:
        small_engine().on("xyzzy")
    assert str(raised.value).count("validate_loss_end") == 1
    with refuses(CallbackRefused, "on_epoch_begin, ", "instead:  take one of these") as raised:
        small_engine(hears("xyzzy", print))
    assert str(raised.value).count("on_validate_loss_end") == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train_batch_end", "batch_end"),
        ("training_epoch_begin", "epoch_begin"),
        ("valid_batch_end", "validate_batch_end"),
        ("before_step_begin", "step_begin"),
        ("on_stop", "stop"),
    ],
)
def test_the_name_that_another_engine_has_for_an_event_leads_to_ours(name: str, meant: str) -> None:
    with refuses(ArgumentRefused, f"no event is called '{name}'", f"did you mean '{meant}'?"):
        small_engine().on(name)
    with refuses(CallbackRefused, f"'on_{name}'", f"did you mean 'on_{meant}'?"):
        small_engine(hears(name, print))


@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_that_is_taken_for_an_event_is_told_to_be_answered(guard: str) -> None:
    said = (f"'on_{guard}'", f"{guard} is a guard: it is answered, not heard", f"a method {guard}(run) -> bool")
    with refuses(CallbackRefused, *said, f"write def {guard}(self, run), without on_"):
        small_engine(hears(guard, print))
    said = (f"no event is called '{guard}'", "train_begin", f'it is a guard; answer it: @engine.guard("{guard}")')
    with refuses(ArgumentRefused, *said):
        small_engine().on(guard)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_that_is_taken_for_a_guard_is_told_to_be_heard(event: str) -> None:
    said = (f"no guard is called '{event}'", "skip_step", f'it is an event; hear it: @engine.on("{event}")')
    with refuses(ArgumentRefused, *said):
        small_engine().guard(event)


def test_a_method_that_begins_like_a_guard_is_refused_and_told_how_a_helper_is_named() -> None:
    with refuses(CallbackRefused, "'skip_everything'", "take one of these; the name of a helper begins with an under"):
        small_engine(answers("skip_everything", bool, on_epoch_end=lambda self, run: None))


@pytest.mark.parametrize(
    ("method", "event"),
    [
        ("onepoch_end", "epoch_end"),
        ("no_epoch_end", "epoch_end"),
        ("onEpochEnd", "epoch_end"),
        ("epochEnd", "epoch_end"),
        ("batch_ends", "batch_end"),
        ("validate_bacth_end", "validate_batch_end"),
        ("onstop", "stop"),
    ],
)
def test_a_method_that_nearly_has_the_name_of_an_event_would_be_silent_and_is_refused(method: str, event: str) -> None:
    callback = hears("epoch_end", print, **{method: lambda self, run: None})
    said = (f"Hears has a method '{method}'", "is nearly the name of an event", f"did you mean 'on_{event}'?")
    with refuses(CallbackRefused, *said, f"on_{event}, to hear it", "the name of a helper begins with an underscore"):
        small_engine(callback)


def test_a_class_method_that_nearly_has_the_name_of_an_event_is_refused_too() -> None:
    method = classmethod(lambda cls, run: None)
    with refuses(CallbackRefused, "Hears has a method 'batch_ends'", "did you mean 'on_batch_end'?"):
        small_engine(hears("epoch_end", print, batch_ends=method))


@pytest.mark.parametrize(
    "helper",
    [
        "report",
        "exceptions",
        "stopped",
        "steps",
        "epoch",
        "batch_size",
        "end_epoch",
        "on",
        "at_end",
        "validate",
        "trainer",
    ],
)
def test_a_helper_whose_name_is_only_a_little_like_an_events_is_left_alone(helper: str) -> None:
    small_engine(hears("epoch_end", lambda run: None, **{helper: lambda self, run: None})).fit(batches(1))


def test_helpers_attributes_and_properties_of_a_callback_are_its_own_business() -> None:
    class Fine(Callback):
        optimizer = None

        def __init__(self) -> None:
            self.epoch_losses: list[float] = []
            self.once = print

        @property
        def skipped(self) -> int:
            return 0

        def _skip_what_is_bad(self) -> None: ...

        def report(self, one: int, two: int) -> None: ...

        def on_epoch_end(self, run: Run) -> None: ...

    still_works(small_engine(Fine()))


# --- Callbacks --------------------------------------------------------------------------------------------------------


class Quiet(Callback):
    def on_epoch_end(self, run: Run) -> None: ...


def test_a_class_instead_of_an_instance_is_refused() -> None:
    with refuses(CallbackRefused, "the callback Quiet is a class", "an instance of it", "write Quiet()"):
        small_engine(Quiet)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (EarlyStopping, "EarlyStopping(monitor=..., mode=..., patience=...)"),
        (Checkpoint, "Checkpoint(folder)"),
        (Freeze, "Freeze()"),
        (dict, "dict(...)"),
    ],
)
def test_a_class_is_told_with_the_arguments_that_it_needs(kind: type, call: str) -> None:
    with refuses(CallbackRefused, f"the callback {kind.__name__} is a class", f"write {call}"):
        small_engine(kind)


def maker(rate: float, *more: float, steps: int, end: float = 0.0) -> Callback:
    return Quiet()


def handler(engine: Engine, run: Run) -> None:
    """As other libraries have them."""


@pytest.mark.parametrize("function", [maker, handler, lambda: Quiet(), FunctionType(maker.__code__, {})])  # noqa: PLW0108  # as people write it
def test_a_function_of_ones_own_is_told_all_that_it_may_be(function: Any) -> None:
    with refuses(CallbackRefused, "does not say what it hears or answers", "@engine.on", "if it makes a callback"):
        small_engine(function)


def test_a_schedule_of_torch_is_told_to_be_wrapped() -> None:
    engine = small_engine()
    with refuses(CallbackRefused, "is a schedule of torch", "TorchSchedule(scheduler)"):
        engine.add(torch.optim.lr_scheduler.StepLR(engine.optimizer, 1))


@pytest.mark.parametrize(
    ("function", "call"),
    [
        (one_cycle, "one_cycle(max_lr)"),
        (sgdr, "sgdr(lr, cycles)"),
    ],
)
def test_a_function_that_makes_a_callback_is_told_to_be_called(function: Any, call: str) -> None:
    with refuses(CallbackRefused, "is a function that was not called", "what it returns", f"call it: {call}"):
        small_engine(function)


@pytest.mark.parametrize("thing", [object(), 3, None, Callback()], ids=["object", "3", "None", "Callback"])
def test_what_hears_nothing_and_answers_nothing_is_refused(thing: object) -> None:
    with refuses(CallbackRefused, "hears no event and answers no guard", "on_<event>(run)", "on_epoch_end"):
        small_engine(thing)


@pytest.mark.parametrize(
    "function",
    [print, lambda run: None, functools.partial(print), Quiet().on_epoch_end],
    ids=["in C", "lambda", "partial", "bound"],
)
def test_a_plain_function_among_the_callbacks_is_told_how_it_is_registered(function: Any) -> None:
    name = getattr(function, "__name__", "partial")
    said = (f"the callback {name} is a function", "on_<event>(run)", 'write @engine.on("epoch_end") above it')
    with refuses(
        CallbackRefused,
        *said,
        f'or engine.on("epoch_end")({name})',
        '@engine.guard("skip_step")',
        f"{name}(...) if it makes",
    ):
        small_engine(function)


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_callbacks_inside_a_callback_are_told_to_be_unpacked(kind: Callable[[Any], Any]) -> None:
    with refuses(CallbackRefused, f"is a {kind.__name__}", "on_<event>(run)", "unpack it: callbacks=[*these, ...]"):
        small_engine(kind([Quiet()]))


class Talkative:
    def __repr__(self) -> str:
        return "word\n" * 1000


def test_of_an_object_that_shows_itself_in_many_lines_only_the_beginning_is_told() -> None:
    engine = small_engine()
    thing: Any = Talkative()
    calls = {
        "callback": lambda: engine.add(thing),
        "event": lambda: engine.on(thing),
        "loader": lambda: engine.evaluate(thing),
        "epochs": lambda: engine.fit(batches(1), epochs=thing),
        "model": lambda: Engine(thing),
        "loss": lambda: Engine(small_model(), thing),
        "optimizer": lambda: Engine(small_model(), nn.MSELoss(), thing),
        "order": lambda: small_engine(hears("epoch_end", print, order=thing)),
        "askings": lambda: engine.dry_run(answers={"skip_step": thing}),
    }
    for where, call in calls.items():
        with pytest.raises(Refused) as raised:
            call()
        assert "word word word" in raised.value.what, where
        assert "\n" not in raised.value.what
        assert len(raised.value.what) < 200


@pytest.mark.parametrize("given_as", [Quiet(), "Quiet", 3])
def test_callbacks_that_are_no_list_are_refused(given_as: object) -> None:
    with refuses(ArgumentRefused, f"callbacks is {given_as!r}", "a list of callbacks", "write callbacks=[...]"):
        Engine(small_model(), callbacks=given_as)


async def _async(run: Run) -> None: ...


def _yields(run: Run) -> Iterator[Run]:
    yield run


async def _yields_async(run: Run) -> Any:
    yield run


class _AsyncCall:
    async def __call__(self, run: Run) -> None: ...


WRONG = {
    "none": lambda: None,
    "two": lambda run, more: None,
    "keyword": lambda run, *, more: None,
    "async": _async,
    "generator": _yields,
    "async generator": _yields_async,
    "async partial": functools.partial(_async),
    "async __call__": _AsyncCall(),
    "a number": 3,
}
ALONE, ASYNC = "cannot be called with a run alone: it", "is async, and nobody would wait for it"
WHY = {
    "none": ("<lambda>", f"{ALONE} takes ()", "function"),
    "two": ("<lambda>", f"{ALONE} takes (run, more)", "function"),
    "keyword": ("<lambda>", f"{ALONE} takes (run, *, more)", "function"),
    "async": ("_async", ASYNC, "_async"),
    "generator": ("_yields", "is a generator, and nobody would go through it", "_yields"),
    "async generator": ("_yields_async", ASYNC, "_yields_async"),
    "async partial": ("partial", ASYNC, "partial"),
    "async __call__": ("_AsyncCall", ASYNC, "_AsyncCall"),
    "a number": ("3", f"{ALONE} is an int", "function"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_called_with_a_run_is_refused_as_function_and_as_method(kind: str) -> None:
    engine = small_engine()
    function: Any = WRONG[kind]
    name, why, better = WHY[kind]
    said = ("takes one argument, the run", f"write def {better}(run)")
    with refuses(CallbackRefused, f"{name}, given to on('epoch_end'), {why}", *said):
        engine.on("epoch_end")(function)
    with refuses(CallbackRefused, f"{name}, given to guard('skip_step'), {why}", *said):
        engine.guard("skip_step")(function)
    for name in ("on_epoch_end", "skip_step"):
        method = staticmethod(function) if callable(function) else function
        with refuses(CallbackRefused, f"Wrong.{name} {why}", said[0], f"write def {name}(self, run)"):
            engine.add(type("Wrong", (Callback,), {name: method})())
    assert len(engine.callbacks) == 2  # the engine's own
    still_works(engine)


def test_every_way_of_writing_a_function_of_one_run_is_taken() -> None:
    heard: list[object] = []

    class Ways(Callback):
        on_epoch_begin = staticmethod(heard.append)

        @classmethod
        def on_epoch_end(cls, run: Run) -> None:
            heard.append(run)

        def on_batch_end(self, run: Run, more: int = 3) -> None:
            heard.append(run)

        def on_step_end(self, *things: object) -> None:
            heard.extend(things)

    engine = small_engine(Ways())
    engine.on("train_end")(functools.partial(lambda more, run: heard.append(run), 3))
    engine.on("train_end")(heard.append)
    engine.on("train_end")(dir)  # in C, with no signature
    run = engine.fit(batches(1))
    assert heard == [run] * 6


def test_a_ring_in_runs_after_is_refused_by_name_and_the_engine_stays_as_it_was() -> None:
    class One(Callback):
        def on_epoch_end(self, run: Run) -> None: ...

    class Two(One):
        runs_after = (One,)

    class Three(Quiet):
        runs_after = (Two,)

    class Lost(Quiet):
        runs_after = (Three,)

    One.runs_after = (Three,)
    with refuses(CallbackRefused, "runs_after goes in a ring", "One after Three after Two after One", "take one"):
        small_engine(One(), Two(), Three(), Lost())
    engine = small_engine(One(), Two())
    registered = engine.callbacks
    with refuses(CallbackRefused, "runs_after goes in a ring"):
        engine.add(Three())
    assert engine.callbacks == registered
    still_works(engine)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("order", 1.5, "a whole number"),
        ("order", "first", "a whole number"),
        ("order", True, "a whole number"),
        ("runs_after", Quiet, "a tuple of classes"),
        ("runs_after", [Quiet], "a tuple of classes"),
        ("runs_after", ("Quiet",), "a tuple of classes"),
        ("runs_after", (Quiet(),), "a tuple of classes"),
    ],
)
def test_an_order_that_is_none_is_refused(name: str, value: object, allowed: str) -> None:
    with refuses(CallbackRefused, "Hears", repr(value), allowed):
        small_engine(hears("epoch_end", print, **{name: value}))


@pytest.mark.parametrize("argument", ["every", "once"])
@pytest.mark.parametrize(("value", "meant"), [(0, 1), (-1, 1), (2.0, 2), (True, 1), ("2", 2), ("two", 1)])
def test_every_and_once_are_whole_numbers_from_one(argument: str, value: object, meant: int) -> None:
    said = (f"{argument} is {value!r}, {typed(value)}", "a whole number, 1 or more", f"say {argument}={meant}")
    with refuses(ArgumentRefused, *said):
        small_engine().on("epoch_end", **{argument: value})


def test_every_and_once_together_are_refused() -> None:
    with refuses(ArgumentRefused, "every is 2 and once is 3", "one of them", "drop one"):
        small_engine().on("epoch_end", every=2, once=3)


def test_one_object_is_registered_once() -> None:
    class Both(Callback):
        def skip_step(self, run: Run) -> bool:
            return False

        def note(self, run: Run) -> bool:
            return False

    def function(run: Run) -> bool:
        return False

    both = Both()
    engine = small_engine(both)
    with refuses(ArgumentRefused, "Both is registered already", "each object once", "make a second instance"):
        engine.add(both)
    for register in (engine.on("epoch_end"), engine.guard("skip_step")):
        for thing in (function, both.note):
            register(thing)
            with refuses(ArgumentRefused, "is registered already"):
                register(thing)
    still_works(engine)


def test_removing_what_was_never_registered_is_refused_and_lists_what_was() -> None:
    engine = small_engine(Quiet())
    with refuses(ArgumentRefused, "is not registered", "Metrics, Recorder, Quiet", "pass the object itself"):
        engine.remove(Quiet())


# --- Lengths ----------------------------------------------------------------------------------------------------------

NOT_WHOLE = st.one_of(st.integers(max_value=-1), st.floats(), st.booleans(), st.text(max_size=3), st.just([1]))


def _refused_before_the_first_batch(engine: Engine, kind: type, *phrases: str, **arguments: Any) -> None:
    """Refused, nothing changed, nobody heard a thing; and the engine still works."""
    recorder = Recorder()
    engine.add(recorder)
    arguments.setdefault("train_loader", batches(2))
    last = engine.last_run
    with nothing_changes(engine.model, engine.optimizer), refuses(kind, *phrases):
        engine.fit(**arguments)
    assert recorder.notes == []
    assert engine.last_run is last
    still_works(engine)


@given(st.sampled_from(["epochs", "max_updates", "start_epoch"]), NOT_WHOLE)
def test_lengths_that_are_negative_or_not_whole_are_refused(name: str, value: object) -> None:
    said = (f"{name} is {value!r}, {typed(value)}", "a whole number, 0 or more", f"say {name}=")
    _refused_before_the_first_batch(small_engine(), ArgumentRefused, *said, **{name: value})


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (2.0, 2),
        ("3", 3),
        (np.int64(4), 4),
        (torch.tensor(5), 5),
        (-1, 1),
        (2.5, 1),
        (float("nan"), 1),
        (1e300, 1),
        ("many", 1),
        (True, 1),
        (torch.ones(2), 1),
        ([3], 1),
    ],
)
def test_a_number_that_can_be_read_is_given_back_as_it_should_be_written(value: Any, meant: int) -> None:
    with refuses(ArgumentRefused, f"epochs is {value!r}, {typed(value)}", f"say epochs={meant}"):
        small_engine().fit(batches(1), epochs=value)


@given(st.integers(1, 9), st.integers(0, 9))
def test_a_run_that_would_be_over_before_it_begins_is_refused(start: int, epochs: int) -> None:
    assume(start > epochs)
    more = max(epochs, 1)
    said = (f"start_epoch is {start} and epochs is {epochs}: nothing would be trained", "start_epoch or more")
    said = (*said, f"say epochs={start + more} to train {more} more")
    _refused_before_the_first_batch(small_engine(), ArgumentRefused, *said, epochs=epochs, start_epoch=start)


@pytest.mark.parametrize(("epochs", "more"), [(3, {}), (None, {"max_updates": 0})])
def test_a_run_that_has_nothing_left_to_do_is_no_mistake(epochs: int | None, more: dict[str, int]) -> None:
    run = small_engine().fit(batches(1), epochs=epochs, start_epoch=3, **more)
    assert (run.outcome, run.updates, run.epoch) == (Outcome.COMPLETED, 0, 3)


def test_a_run_without_an_end_is_refused() -> None:
    said = ("the run would have no end", "a number for one of them", "epochs=None with max_updates=1000")
    _refused_before_the_first_batch(small_engine(), ArgumentRefused, *said, epochs=None)


@given(st.sampled_from(["epochs", "batches", "valid_batches", "max_updates"]), NOT_WHOLE)
def test_a_dry_run_refuses_the_same_lengths(name: str, value: object) -> None:
    from states.errors import StateloopError  # noqa: PLC0415  # the root of all refusals

    with pytest.raises(StateloopError, match=f"{name} is .*a whole number, 0 or more"):
        small_engine().dry_run(**{name: value})


# --- Loaders ----------------------------------------------------------------------------------------------------------


class Sized:
    """A loader of one's own that says how long it is."""

    def __init__(self, items: list[Any], says: int) -> None:
        self.items, self.says = items, says

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return self.says


@pytest.mark.parametrize("role", ["train_loader", "valid_loader"])
@pytest.mark.parametrize(
    "empty", [[], (), Sized(batches(2), 0), DataLoader([]), DataLoader(batches(1), batch_size=2, drop_last=True)]
)
def test_a_sized_loader_of_length_0_is_refused_before_train_begin(role: str, empty: Any) -> None:
    said = (f"{role} is {typed(empty)} of length 0", "at least one batch", "batch_size and drop_last")
    _refused_before_the_first_batch(small_engine(), LoaderRefused, *said, **{role: empty})


@pytest.mark.parametrize("thing", [3, None, print], ids=repr)
def test_what_cannot_be_iterated_is_refused(thing: Any) -> None:
    engine = small_engine()
    _refused_before_the_first_batch(
        engine, LoaderRefused, "any iterable of batches", "a DataLoader", train_loader=thing
    )
    for call in (engine.evaluate, engine.predict):
        with refuses(LoaderRefused, "loader is", repr(thing)):
            call(thing)


def test_a_tensor_is_no_loader() -> None:
    """Its rows would be taken for batches, and what is predicted for them be put together to the wrong shape."""
    engine = small_engine()
    inputs = torch.ones(5, 2)
    for call in (engine.fit, engine.evaluate, engine.predict):
        with nothing_changes(engine.model, engine.optimizer), refuses(LoaderRefused, "is a tensor of shape (5, 2)"):
            call(inputs)
    assert engine.predict(inputs.split(2)).shape == (5, 1)


@pytest.mark.parametrize("role", ["train_loader", "valid_loader"])
def test_a_data_set_instead_of_a_loader_is_refused_and_told_of_the_data_loader(role: str) -> None:
    engine = small_engine()
    samples: Any = torch.utils.data.TensorDataset(torch.ones(2))
    said = (f"{role} is <torch.utils.data.dataset.TensorDataset", "any iterable of batches", "samples, not batches")
    said = (*said, "pass torch.utils.data.DataLoader(dataset, batch_size=32)")
    _refused_before_the_first_batch(engine, LoaderRefused, *said, **{role: samples})
    for call in (engine.evaluate, engine.predict):
        with refuses(LoaderRefused, *said[2:]):
            call(samples)


def test_a_number_of_epochs_in_the_place_of_the_second_loader_is_refused() -> None:
    said = ("valid_loader is 5, an int", "any iterable of batches", "write epochs=5: the second argument is the loader")
    _refused_before_the_first_batch(small_engine(), LoaderRefused, *said, valid_loader=5)


def test_a_length_that_is_not_implemented_is_none() -> None:
    class Unsure(Sized):
        def __len__(self) -> int:
            raise NotImplementedError

    assert small_engine().fit(Unsure(batches(2), 0)).updates == 2


def test_evaluate_and_predict_refuse_an_empty_loader_too() -> None:
    engine = small_engine()
    for call in (engine.evaluate, engine.predict):
        with nothing_changes(engine.model, engine.optimizer), refuses(LoaderRefused, "loader is a list of length 0"):
            call([])


class Again:
    """Can be begun as often as one likes, says no length, and gives what it is told to."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def test_an_iterable_that_yields_nothing_fails_in_fetch() -> None:
    recorder = Recorder()
    engine = small_engine(recorder)
    with (
        nothing_changes(engine.model, engine.optimizer),
        refuses(
            LoaderRefused,
            "the loader gave no batch in fetch (epoch 0, batch 0, update 0)",
            "at least one batch per epoch",
        ),
    ):
        engine.fit(Again())
    assert recorder.events == ["train_begin", "epoch_begin", "exception", "train_end"]
    with refuses(LoaderRefused, "the validation loader gave no batch in fetch (epoch 0, batch 0, update 2)"):
        engine.fit(batches(2), Again())
    for call in (engine.evaluate, engine.predict):
        with refuses(LoaderRefused, "the loader gave no batch"):
            call(Again())
    still_works(engine)


SPENT = (
    "is an iterator that gives nothing (any more) in fetch (epoch 1, batch 0",
    "begun once per epoch",
    "not iter(...) or a generator",
)


@pytest.mark.parametrize("once", [iter, lambda items: (item for item in items)], ids=["iterator", "generator"])
def test_a_one_shot_iterator_is_not_trained_on_in_silence_in_the_second_epoch(once: Callable[[Any], Any]) -> None:
    engine = small_engine()
    assert engine.fit(once(batches(2)), once(batches(1)), epochs=1).updates == 2
    with refuses(LoaderRefused, *SPENT):
        engine.fit(once(batches(2)), epochs=2)
    assert engine.last_run.outcome is Outcome.FAILED
    assert len(engine.last_run.history) == 1
    with refuses(LoaderRefused, *SPENT):
        engine.fit(batches(2), once(batches(2)), epochs=2)
    still_works(engine)


def test_a_stream_may_go_on_where_an_epoch_was_left() -> None:
    stream = iter(batches(5))
    engine = small_engine(answers("stop_epoch", lambda run: run.batch_index == 2))
    assert engine.fit(stream, epochs=2).batches_done == 4


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (torch.ones(3, 2), "a torch.Tensor"),
        ([torch.ones(3, 2)], "a list of 1"),
        ((torch.ones(3, 2),) * 3, "a tuple of 3"),
        ({"x": torch.ones(3, 2)}, "a dict of 1"),
        (None, "a NoneType"),
        ("ab", "a str"),
    ],
)
def test_a_batch_that_is_no_pair_is_refused_and_told_of_actions(batch: Any, what: str) -> None:
    engine = small_engine()
    said = (f"the loader gave {what} in fetch", "a pair (inputs, targets)", "State.FORWARD: output_from", "loss_from")
    with nothing_changes(engine.model, engine.optimizer), refuses(BatchRefused, *said):
        engine.fit([batch])
    with refuses(BatchRefused, *said):
        engine.evaluate([batch])
    trained = weights_of(engine.model)
    with refuses(BatchRefused, "(epoch 0, batch 0, update 1)"):
        engine.fit(batches(1), [batch])
    assert not same(trained, weights_of(engine.model))  # the batch before was trained on
    still_works(engine)


class Leaks(Dataset[Any]):
    """A map-style data set whose `__getitem__` lets a StopIteration out."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index == 4:
            raise StopIteration
        return torch.ones(2), torch.ones(1)


def test_a_data_loader_that_ends_before_its_length_is_refused() -> None:
    engine = small_engine()
    leaking = DataLoader(Leaks(), batch_size=2)
    said = (
        "ended after 2 of its 3 batches in fetch",
        "allowed:  3 batches",
        "StopIteration in the data set's __getitem__",
    )
    with refuses(LoaderRefused, *said):
        engine.fit(leaking)
    for call in (engine.evaluate, engine.predict):
        with refuses(LoaderRefused, *said):
            call(leaking)
    still_works(engine)


class Stream(IterableDataset[Any]):
    """A stream that claims to be longer than it is, as torch allows."""

    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.ones(2), torch.ones(1))] * 4)


class Unsized:
    """A batch sampler without a length."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[0, 1], [2, 3]])


@pytest.mark.parametrize("loader", [DataLoader(Stream(), batch_size=2), DataLoader(Leaks(), batch_sampler=Unsized())])
def test_a_data_loader_that_cannot_say_its_length_is_believed(loader: Any) -> None:
    assert small_engine().fit(loader, loader, epochs=2).updates == 4


# --- Loss, model, optimizer -------------------------------------------------------------------------------------------

NO_LOSS = {
    "vector": (lambda output, targets: (output - targets).squeeze(), "a tensor of shape (3,)"),
    "detached": (lambda output, targets: (output - targets).mean().detach(), "a tensor without a graph"),
    "float": (lambda output, targets: 0.5, "a float"),
    "None": (lambda output, targets: None, "a NoneType"),
    "array": (lambda output, targets: np.float32(1), "a numpy.float32"),
    "tuple": (lambda output, targets: ((output - targets).mean(), 3), "a tuple"),
}


@pytest.mark.parametrize(("loss_fn", "what"), NO_LOSS.values(), ids=NO_LOSS.keys())
def test_a_loss_without_gradients_is_refused_before_the_optimizer_moves(loss_fn: Any, what: str) -> None:
    engine = small_engine(loss_fn=loss_fn)
    with (
        nothing_changes(engine.model, engine.optimizer),
        refuses(
            LossRefused, f"the loss is {what} in", "(epoch 0, batch 0, update 0)", "one element", "do not detach it"
        ),
    ):
        engine.fit(batches(2))
    engine.loss_fn = nn.MSELoss()
    still_works(engine)


@pytest.mark.parametrize(("loss_fn", "what"), [NO_LOSS["float"], NO_LOSS["None"], NO_LOSS["tuple"]])
def test_a_loss_that_is_no_tensor_is_refused_in_evaluation_too(loss_fn: Any, what: str) -> None:
    with refuses(LossRefused, f"the loss is {what} in loss"):
        small_engine(loss_fn=loss_fn).evaluate(batches(2))


def test_a_loss_per_sample_is_refused_in_evaluation_too() -> None:
    with refuses(MetricRefused, "valid_loss is a tensor of shape (3,)", "return a mean over the batch"):
        small_engine(loss_fn=NO_LOSS["vector"][0]).evaluate(batches(2))


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_training_where_gradients_are_switched_off_is_refused_with_that_reason(off: Callable[[], Any]) -> None:
    with off(), refuses(LossRefused, "a tensor without a graph", "call fit outside of torch.no_grad()"):
        small_engine().fit(batches(1))


def test_an_error_inside_the_backward_pass_is_raised_as_it_is() -> None:
    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            msg = "inside"
            raise RuntimeError(msg)

    engine = small_engine(loss_fn=lambda output, targets: Breaks.apply((output - targets).mean()))
    with nothing_changes(engine.model, engine.optimizer), pytest.raises(RuntimeError) as raised:
        engine.fit(batches(1))
    assert str(raised.value) == "inside"


@pytest.mark.parametrize("loss_fn", [nn.MSELoss, "mse", 3])
def test_a_loss_function_that_cannot_be_called_is_refused(loss_fn: Any) -> None:
    with refuses(ArgumentRefused, f"the loss function is {loss_fn!r}", "(output, targets)", "torch.nn.MSELoss()"):
        small_engine(loss_fn=loss_fn)


def test_a_loss_function_and_an_optimizer_that_are_swapped_are_told_so() -> None:
    model = small_model()
    sgd: Any = optim.SGD(model.parameters(), lr=0.1)
    said = ("the loss function is an optimizer, SGD", "(output, targets)", "write Engine(model, loss_fn, optimizer)")
    with refuses(ArgumentRefused, *said, "and the optimizer is MSELoss(): they are swapped"):
        small_engine(model=model, loss_fn=sgd, optimizer=nn.MSELoss())
    for other in (None, sgd):
        with refuses(ArgumentRefused, *said) as raised:
            small_engine(model=model, loss_fn=sgd, optimizer=other)
        assert "swapped" not in str(raised.value)


def test_a_missing_loss_function_is_refused_unless_an_action_computes_the_loss() -> None:
    said = ("no loss function", "or an action for State.LOSS", "Engine(model, loss_fn, optimizer)")
    engine = small_engine(loss_fn=None)
    with nothing_changes(engine.model, engine.optimizer), refuses(ArgumentRefused, *said):
        engine.fit(batches(1))
    with refuses(ArgumentRefused, *said):
        engine.evaluate(batches(1))
    assert engine.predict(batches(2)).shape == (6, 1)
    still_works(small_engine(loss_fn=None, actions={State.LOSS: loss_from(lambda run: run.output.mean())}))


@pytest.mark.parametrize("model", [nn.Linear, print, None])
def test_a_model_that_is_no_module_is_refused(model: Any) -> None:
    with refuses(ArgumentRefused, f"the model is {model!r}", "torch.nn.Module", "not its class"):
        Engine(model)


@pytest.mark.parametrize(
    "optimizer",
    [optim.SGD, optim.LBFGS, "sgd", small_model().parameters()],
    ids=["SGD", "LBFGS", "a name", "parameters"],
)
def test_what_is_no_optimizer_is_refused_when_it_is_given(optimizer: Any) -> None:
    with refuses(OptimizerRefused, f"the optimizer is {optimizer!r}", "an instance of", "torch.optim.SGD(model.param"):
        small_engine(optimizer=optimizer)


def test_no_optimizer_is_needed_until_fit_is_called() -> None:
    engine = small_engine(optimizer=None)
    assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED
    with nothing_changes(engine.model, None), refuses(OptimizerRefused, "the optimizer is None"):
        engine.fit(batches(1))


def test_an_optimizer_that_holds_none_of_the_models_parameters_is_refused() -> None:
    other = small_model()
    engine = small_engine(optimizer=optim.SGD(other.parameters(), lr=0.1))
    said = ("SGD holds none of the parameters of Linear", "of this model's parameters", "after the model has its final")
    with nothing_changes(engine.model, engine.optimizer), refuses(OptimizerRefused, *said):
        engine.fit(batches(1))
    engine.optimizer = optim.SGD([engine.model.bias], lr=0.1)  # some of them is enough
    still_works(engine)


# --- Metrics ----------------------------------------------------------------------------------------------------------


class NoNumber:
    """A metric object whose value is no number."""

    def update(self, output: Tensor, target: Tensor) -> None: ...

    def compute(self) -> Any:
        return "high"

    def reset(self) -> None: ...


@pytest.mark.parametrize(
    ("metrics", "phrases"),
    [
        ({"accuracy": 3}, ("the metric 'accuracy' is 3", "a function (output, target)")),
        ({"accuracy": NoNumber}, ("the metric 'accuracy' is <class", "an instance of the metric")),
        ({"loss": torch.dist}, ("is called 'loss'", "any other name", "train_loss and valid_loss are there already")),
        ([torch.dist], ("metrics is a list", "a dict of names and metrics")),
    ],
)
def test_metrics_that_are_none_are_refused_at_once(metrics: Any, phrases: tuple[str, ...]) -> None:
    with refuses(ArgumentRefused, *phrases):
        small_engine(metrics=metrics)


@pytest.mark.parametrize(
    ("metric", "phrases"),
    [
        (
            lambda output, target: 0.5,
            ("train_it is a float for each batch", "a scalar tensor", "a mean over the batch"),
        ),
        (lambda output, target: output - target, ("train_it is a tensor of shape (3, 1) for each batch",)),
        (NoNumber(), ("train_it is 'high', a str", "one number, or a dict of numbers")),
    ],
)
def test_a_metric_that_gives_no_number_is_refused(metric: Any, phrases: tuple[str, ...]) -> None:
    engine = small_engine(metrics={"it": metric})
    with refuses(MetricRefused, *phrases):
        engine.fit(batches(2))
    assert engine.last_run.outcome is Outcome.FAILED


def test_what_a_metric_raises_names_the_metric_and_what_it_was_not_given() -> None:
    def right(output: Tensor, target: Tensor) -> Tensor:
        return (output == target).float().mean()

    engine = small_engine(
        metrics={"right": right},
        actions={
            State.FORWARD: output_from(lambda run: run.model(run.inputs["x"])),
            State.LOSS: loss_from(lambda run: run.output.mean()),
        },
    )
    with pytest.raises(AttributeError) as raised:
        engine.fit([{"x": torch.ones(3, 2)}])
    assert "while the metric train_right was computed; the batch was no pair" in raised.value.__notes__[0]


# --- Guards -----------------------------------------------------------------------------------------------------------

NO_BOOL = [1, 0, None, "yes", 1.0, np.bool_(True), np.bool_(False), torch.tensor(True), torch.tensor(False)]


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
@pytest.mark.parametrize("guard", [name_of(guard) for guard in TRAINING.guards])
@pytest.mark.parametrize("verdict", NO_BOOL, ids=repr)
def test_a_guard_that_answers_no_bool_is_refused(guard: str, verdict: object, checked: bool) -> None:
    engine = small_engine(answers(guard, lambda run: verdict), checked=checked)
    said = (f"Answers answered the guard {guard} with {verdict!r}, {typed(verdict)}", "allowed:  True, False")
    with refuses(GuardRefused, *said, "bool(...)", "a branch without a return gives None"):
        engine.fit(batches(1), batches(1))
    moved = guard in ("skip_zero_grad", "skip_validate")
    assert engine.last_run.updates == (1 if moved else 0)
    assert same(weights_of(engine.model), weights_of(small_model())) is not moved
    engine.remove(next(callback for callback in engine.callbacks if hasattr(callback, guard)))
    still_works(engine)


# --- A run inside a run -----------------------------------------------------------------------------------------------


def test_a_second_thread_is_refused_while_the_first_one_runs_the_engine() -> None:
    """Whichever of the two would end first: a model cannot be in two modes at once."""
    inside, leave, refusals = threading.Event(), threading.Event(), list[BaseException]()

    def wait(run: Run) -> None:
        inside.set()
        assert leave.wait(10)

    engine = small_engine(hears("validate_batch_end", wait))
    first = threading.Thread(target=engine.evaluate, args=(batches(1),))
    first.start()
    assert inside.wait(10)
    for call in (engine.evaluate, engine.predict):
        with refuses(EngineBusy, "while another thread runs this engine", "make a second Engine") as raised:
            call(batches(1))
        refusals.append(raised.value)
    with refuses(EngineBusy, "fit was called while the engine is in evaluate"):
        engine.fit(batches(1))
    leave.set()
    first.join()
    assert "a run of prediction" in str(refusals[1])
    still_works(engine)


@pytest.mark.parametrize("event", ["train_begin", "step_end", "validate_batch_end", "epoch_end", "train_end"])
def test_fit_from_inside_a_callback_of_the_same_engine_is_refused(event: str) -> None:
    said = ("fit was called while the engine is in", "one training at a time", "make a second Engine")
    refusals: list[BaseException] = []

    def again(run: Run) -> None:
        with refuses(EngineBusy, *said, (run.parent or run).where) as raised:
            engine.fit(batches(1))
        refusals.append(raised.value)

    engine = small_engine(hears(event, again))
    other = small_engine()
    run = engine.fit(batches(2), batches(1))
    other.fit(batches(2), batches(1))
    assert refusals
    assert run.outcome is Outcome.COMPLETED
    assert engine.last_run is run
    assert same(weights_of(engine.model), weights_of(other.model))
    still_works(other)


def test_a_refused_fit_that_nobody_catches_ends_the_run_and_frees_the_engine() -> None:
    again = hears("batch_begin", lambda run: engine.fit(batches(1)))
    engine = small_engine(again)
    with nothing_changes(engine.model, engine.optimizer), refuses(EngineBusy, "batch (epoch 0, batch 0, update 0)"):
        engine.fit(batches(1))
    engine.remove(again)
    still_works(engine)


@pytest.mark.parametrize("event", ["train_begin", "forward_end", "backward_end", "validate_begin", "epoch_end"])
def test_evaluate_and_predict_inside_a_callback_leave_the_training_as_it_is(event: str) -> None:
    inside: list[bool] = []

    def look(run: Run) -> None:
        if inside:  # the evaluation below is heard too
            return
        inside.append(True)
        modes = [module.training for module in run.model.modules()]
        assert engine.evaluate(batches(2, seed=5)).outcome is Outcome.COMPLETED
        assert engine.predict(batches(2, seed=5)).shape == (6, 1)
        assert [module.training for module in run.model.modules()] == modes
        inside.clear()

    one, other = Recorder(), Recorder()
    engine = small_engine(hears(event, look), one, model=nn.Sequential(small_model(), nn.Dropout(0.5)))
    plain = small_engine(other, model=nn.Sequential(small_model(), nn.Dropout(0.5)))
    torch.manual_seed(0)
    run = engine.fit(batches(3), batches(2), epochs=2)
    torch.manual_seed(0)
    alone = plain.fit(batches(3), batches(2), epochs=2)
    assert len(one.notes) > len(other.notes)
    assert [n for n in one.notes if n.event in TRAIN] == [n for n in other.notes if n.event in TRAIN]
    assert run.history == alone.history
    assert same(weights_of(engine.model), weights_of(plain.model))
    assert engine.last_run is run


TRAIN = {name_of(event) for event in TRAINING.events}


# --- Machines and actions ---------------------------------------------------------------------------------------------


class My(Enum):
    SAMPLE = "sample"
    SAMPLED = "sampled"
    ROUND = "round"
    SPENT = "spent"
    ROUND_BEGIN = "round_begin"
    ROUND_END = "round_end"


def test_what_is_no_machine_is_refused() -> None:
    with refuses(ArgumentRefused, "the machine is 'training'", "a states.Machine", "leave it out for TRAINING"):
        small_engine(machine="training")


def test_a_machine_that_prove_refuses_never_reaches_an_engine() -> None:
    rows = [row for row in TRAINING.rows if row.dest is not State.CLEAR]
    with pytest.raises(MachineRefused, match=r"the machine 'training' breaks \d+ rule") as raised:
        small_engine(machine=attrs.evolve(TRAINING, rows=rows))
    assert "clear cannot be reached" in str(raised.value) or "no row leads to clear" in str(raised.value)


def sampling(**more: Any) -> Machine:
    """An evaluation that does one thing more before each batch."""
    rows = []
    for row in EVALUATION.rows:
        begins = row.source is State.EVALUATE and row.guard is None
        rows.append(attrs.evolve(row, dest=My.SAMPLE) if begins else row)
    rows.append(Transition(My.SAMPLE, My.SAMPLED, None, State.FETCH))
    return attrs.evolve(TRAINING, holds={State.VALIDATE: attrs.evolve(EVALUATION, rows=rows)}, **more)


def test_a_state_of_ones_own_without_an_action_is_refused_also_in_a_machine_that_is_held() -> None:
    with pytest.raises(MachineRefused, match="sample has no action, and its rows wait for sampled"):
        small_engine(machine=sampling())


def test_a_state_of_ones_own_in_a_machine_that_is_held_can_have_an_action() -> None:
    seen: list[int] = []

    def sample(run: Run) -> Enum:
        seen.append(run.batch_index)
        return My.SAMPLED

    engine = small_engine(machine=sampling(), actions={My.SAMPLE: Action(sample, (My.SAMPLED,))})
    engine.fit(batches(1), batches(2))
    assert seen == [0, 1, 2]
    assert engine.evaluate(batches(1)).outcome is Outcome.COMPLETED
    assert seen == [0, 1, 2, 0, 1]


def rounds(begin: Enum = My.ROUND_BEGIN, end: Enum = My.ROUND_END) -> Machine:
    """The smallest training of one's own: no epochs, words of one's own."""
    rows = (
        Transition(State.IDLE, Trigger.FIT_ASKED, None, My.ROUND, (begin,)),
        Transition(My.ROUND, None, Guard.STOP_TRAINING, State.STOPPING, (Event.STOP,)),
        Transition(My.ROUND, None, None, State.FETCH),
        Transition(State.FETCH, Trigger.LOADER_DRY, None, State.DONE, (end,)),
        Transition(State.FETCH, Trigger.BATCH_READY, None, State.FORWARD),
        Transition(State.FORWARD, Trigger.OUTPUT_READY, None, State.LOSS),
        Transition(State.LOSS, Trigger.LOSS_READY, None, State.BACKWARD, (), (Event.LOSS_BEGIN, Event.LOSS_END)),
        Transition(State.BACKWARD, Trigger.GRADS_READY, None, State.STEP),
        Transition(State.STEP, Trigger.WEIGHTS_MOVED, None, State.ZERO_GRAD),
        Transition(State.ZERO_GRAD, Trigger.GRADS_CLEARED, None, My.ROUND, (Event.BATCH_BEGIN, Event.BATCH_END)),
        Transition(State.STOPPING, None, None, State.DONE, (end,)),
    )
    counts = [count for count in TRAINING.counts if count.what is Event.BATCH_END]
    return Machine(name="rounds", initial=State.IDLE, finals=(State.DONE,), rows=rows, counts=counts)


def test_a_machine_of_ones_own_without_epochs_runs_and_its_words_are_heard() -> None:
    heard: list[str] = []
    engine = small_engine(hears("round_end", lambda run: heard.append("round_end")), machine=rounds())
    engine.on("round_begin")(lambda run: heard.append("round_begin"))
    assert engine.fit(batches(2)).batches_done == 2
    assert heard == ["round_begin", "round_end"]
    with refuses(ArgumentRefused, "max_updates is 3", "no row for updates_spent", "None for this machine"):
        engine.fit(batches(2), max_updates=3)


class Mine(Enum):
    VALIDATE_BEGIN = "validate_begin"
    VALIDATE_END = "validate_end"


def test_a_word_of_ones_own_machine_is_heard_though_a_built_in_machine_has_one_of_that_name() -> None:
    heard: list[Enum] = []
    engine = small_engine(machine=rounds(Mine.VALIDATE_BEGIN, Mine.VALIDATE_END))
    engine.on("validate_end")(lambda run: heard.append(run.state))
    engine.fit(batches(1))
    assert heard == [State.DONE]


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("forward", "write State.FORWARD, the member itself"),
        ("forwards", "did you mean 'forward'?"),
        (My.SAMPLE, "take one of these"),
        (3, "take one of these"),
        (State.BATCH, "did you mean"),
        (State.DONE, "take one of these"),
    ],
)
def test_an_action_for_a_state_that_no_machine_has_is_refused(state: Any, hint: str) -> None:
    with refuses(ArgumentRefused, f"actions has {state!r}", "allowed:  idle, train, window, fetch", hint):
        small_engine(actions={state: lambda run: None})


def test_an_action_for_a_state_that_the_engine_does_not_know_says_what_it_reports() -> None:
    with refuses(ArgumentRefused, "the action of sample does not say what it may report", "write Action(function, rep"):
        small_engine(machine=sampling(), actions={My.SAMPLE: lambda run: My.SAMPLED})


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ((Trigger.OUTPUT_READY, Trigger.LOADER_DRY), "the action of forward may report loader_dry; no row takes it"),
        ((Trigger.LOSS_READY,), "the action of forward may report loss_ready; no row takes it"),
        ((), "no action of forward reports output_ready"),
    ],
)
def test_an_action_that_declares_what_no_row_takes_or_too_little_is_refused(reports: Any, said: str) -> None:
    with pytest.raises(MachineRefused, match=said):
        small_engine(actions={State.FORWARD: Action(lambda run: Trigger.OUTPUT_READY, reports)})


@pytest.mark.parametrize("checked", [False, True], ids=["fast", "checked"])
@pytest.mark.parametrize("reported", [Trigger.LOADER_DRY, None, "output_ready", True], ids=repr)
def test_an_action_that_reports_what_is_not_allowed_is_refused(reported: Any, checked: bool) -> None:
    engine = small_engine(actions={State.FORWARD: lambda run: reported}, checked=checked)
    with nothing_changes(engine.model, engine.optimizer), pytest.raises(TriggerRefused) as raised:
        engine.fit(batches(1))
    text = str(raised.value)
    assert "the action of forward reported" in text
    assert "in forward (epoch 0, batch 0, update 0)" in text
    assert "allowed:  output_ready" in text
    assert "return one of these members themselves" in text


def test_a_run_that_dies_before_its_first_transition_says_so() -> None:
    def fail(run: Run) -> Enum:
        msg = "on purpose"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="on purpose") as raised:
        small_engine(actions={State.IDLE: fail}).fit(batches(1))
    assert raised.value.__notes__[0].endswith("its last transitions: none yet")


# --- StopIteration ----------------------------------------------------------------------------------------------------


def _stop(*_: object) -> Any:
    raise StopIteration


class StopsToBegin:
    def __iter__(self) -> Iterator[Any]:
        raise StopIteration


LEAKS: dict[str, Callable[[], Engine]] = {
    "callback": lambda: small_engine(hears("batch_end", _stop)),
    "callback that hears first": lambda: small_engine(hears("loss_end", _stop)),
    "guard": lambda: small_engine(answers("skip_step", _stop)),
    "stop guard": lambda: small_engine(answers("stop_epoch", _stop)),
    "action": lambda: small_engine(actions={State.FORWARD: output_from(_stop)}),
    "loss": lambda: small_engine(loss_fn=_stop),
    "metric": lambda: small_engine(metrics={"it": _stop}),
}


@pytest.mark.parametrize("make", LEAKS.values(), ids=LEAKS.keys())
def test_a_stop_iteration_is_a_failure_and_never_the_end_of_an_epoch(make: Callable[[], Engine]) -> None:
    engine = make()
    recorder = Recorder()
    engine.add(recorder)
    with pytest.raises(StopIteration):
        engine.fit(batches(2))
    assert engine.last_run.outcome is Outcome.FAILED
    assert recorder.events[-2:] == ["exception", "train_end"]
    assert "epoch_end" not in recorder.events


def test_a_loader_that_cannot_be_begun_for_a_stop_iteration_is_a_failure_too() -> None:
    engine = small_engine()
    with pytest.raises(StopIteration):
        engine.fit(StopsToBegin())
    assert engine.last_run.outcome is Outcome.FAILED


# --- Stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", None, 3])
def test_a_stop_without_a_reason_is_refused(reason: Any) -> None:
    engine = small_engine(hears("batch_begin", lambda run: run.stop(reason)))
    with nothing_changes(engine.model, engine.optimizer), refuses(ArgumentRefused, repr(reason), "say why: run.stop("):
        engine.fit(batches(1))


def test_a_stop_of_an_unknown_scope_is_refused() -> None:
    engine = small_engine(hears("batch_begin", lambda run: run.stop("enough", scope="batch")))
    with refuses(ArgumentRefused, "the scope 'batch'", "'run', 'epoch'", "leave it out to stop the whole run"):
        engine.fit(batches(1))


def test_a_stop_of_the_epoch_is_refused_where_the_machine_has_no_row_for_it() -> None:
    engine = small_engine(hears("predict_begin", lambda run: run.stop("enough", scope="epoch")))
    with refuses(ArgumentRefused, "the scope 'epoch' in a prediction", "'run'", "leave it out to stop the whole run"):
        engine.predict(batches(1))


def test_a_method_with_the_bare_name_of_an_event_is_refused() -> None:
    class Bare(Callback):
        def on_epoch_end(self, run: Run) -> None:
            pass

        def batch_end(self, run: Run) -> None:
            pass

    with pytest.raises(CallbackRefused, match="did you mean 'on_batch_end'"):
        Engine(nn.Identity(), callbacks=[Bare()])
