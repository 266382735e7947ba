"""Is the map of other libraries' names whole, and do the libraries have these names?"""

from collections.abc import Callable
from importlib import import_module

import pytest

from states import Event
from tests.coming import COLUMNS, ORDER, OTHERS


def test_every_event_is_in_the_table_once() -> None:
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == set(Event)


@pytest.mark.parametrize("library", COLUMNS)
def test_every_event_has_a_place_in_each_library(library: str) -> None:
    assert set(COLUMNS[library]) == set(Event)


KNOWS: dict[str, Callable[[], object]] = {
    "Ignite": lambda: import_module("ignite.engine").Events,
    "Lightning": lambda: import_module("lightning").Callback,
    "Keras": lambda: import_module("keras").callbacks.Callback,
}


@pytest.mark.parametrize("library", KNOWS)
@pytest.mark.filterwarnings("ignore")  # theirs, when they are loaded
def test_each_name_is_one_of_the_library_itself(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    try:
        has = KNOWS[library]()
    except ModuleNotFoundError as error:
        pytest.skip(f"there is no module {error.name!r}")
    names = {name for place in COLUMNS[library].values() for name in place.names}
    names |= {name for theirs in OTHERS[library] for name in theirs}
    assert {name for name in names if not hasattr(has, name)} == set()
