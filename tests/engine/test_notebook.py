"""Does a run show where it is in a notebook, and leave the rest of the page alone?"""

import re
import sys
from enum import Enum
from functools import cache
from html import unescape
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from engine import Outcome, Run
from engine.notebook import shown_as_html
from states import EVALUATION, TRAINING, Machine, State, Transition, Trigger, diagram
from states.names import name_of
from tests.engine.tools import batches, hears, small_engine


pytest.importorskip("pygraphviz")

LIGHT_HERE = "#ffcf70"
HOSTILE = "</pre><script>alert('&')</script>\n\"x\""
Hostile = Enum("Hostile", {HOSTILE: 1, "START": 2})
HostileTrigger = Enum("HostileTrigger", {f"{HOSTILE} asked": 1})


def trained(*callbacks: object) -> Run:
    return small_engine(*callbacks).fit(batches(2), batches(1))


def page(*fragments: str) -> ET.Element:
    """The fragments on one page; it must be well-formed."""
    return ET.fromstring(f"<body>{''.join(fragments)}</body>")


def nodes_here(fragment: str) -> list[str]:
    """The names of the nodes that are filled as the place of a run."""
    nodes = re.findall(r'class="node">\s<title>(.*?)</title>(.*?)</g>', fragment, re.DOTALL)
    return [unescape(name) for name, drawn in nodes if f'fill="{LIGHT_HERE}"' in drawn]


def lines(fragment: str) -> list[str]:
    """What is said of each run, outermost first."""
    return ["".join(line.itertext()) for line in page(fragment).findall("./div/div")]


@given(state=st.sampled_from(TRAINING.states))
def test_a_run_in_any_state_is_shown_there_and_nowhere_else(state: State) -> None:
    run = trained_once()
    shown = shown_as_html(evolve(run, state=state))

    assert nodes_here(shown) == [name_of(state)]
    assert lines(shown)[0].startswith(f"training in {name_of(state)} (epoch ")


@cache
def trained_once() -> Run:
    return trained()


def test_a_run_that_ended_shows_its_outcome_and_its_last_transitions() -> None:
    run = trained()
    shown = shown_as_html(run)

    assert lines(shown) == [f"training in {run.where}: {Outcome.COMPLETED.value}"]
    (listed,) = page(shown).findall("./div/pre")
    assert listed.text == "\n".join(map(str, run.recent))
    assert nodes_here(shown) == ["done"]


def test_the_row_that_was_taken_last_is_thick() -> None:
    shown = shown_as_html(trained())
    thick = re.findall(r'class="edge">\s<title>([^<]*)</title>\s<path [^>]*stroke-width="3.5"', shown)

    assert {unescape(title).splitlines()[0] for title in thick} == {"train → done"}


def test_a_validation_is_shown_on_the_machine_of_the_run_that_holds_it() -> None:
    seen = []
    trained(hears("validate_batch_begin", lambda run: seen.append((shown_as_html(run), run.where, run.parent.where))))
    ((shown, held, around),) = seen

    assert nodes_here(shown) == ["validate"]
    assert lines(shown) == [
        f"training in {around}: {Outcome.RUNNING.value}",
        f"evaluation in {held}: {Outcome.RUNNING.value}",
    ]
    assert shown.count("<svg ") == 1


@pytest.mark.parametrize(("error", "state"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_a_run_that_died_is_shown_at_its_abnormal_end(error: type[BaseException], state: str) -> None:
    def die(run: Run) -> None:
        raise error

    engine = small_engine(hears("batch_begin", die))
    with pytest.raises(error):
        engine.fit(batches(1))
    shown = shown_as_html(engine.last_run)

    assert lines(shown)[0].startswith(f"training in {state} (epoch 0")
    assert nodes_here(shown) == []
    assert f'fill="{LIGHT_HERE}"' in shown
    bold = [unescape(text) for text in re.findall(r'font-weight="bold"[^>]*>([^<]*)<', shown)]
    assert [text for text in bold if text.endswith(f"→ {state}")]


def test_a_run_that_has_not_begun_has_no_transitions() -> None:
    run = evolve(trained(), state=State.IDLE)
    run.ways.clear()
    shown = shown_as_html(run)

    assert page(shown).findall("./div/pre") == []
    assert nodes_here(shown) == ["idle"]


def test_two_runs_on_one_page_have_no_id_and_style_pictures_of_ours_alone() -> None:
    training = trained()
    both = page(shown_as_html(training), shown_as_html(small_engine().evaluate(batches(1))))
    styles = [style.text or "" for style in both.iter("{http://www.w3.org/2000/svg}style")]
    selectors = [found for style in styles for found in re.findall(r"([^{}]+)\{(?!\.)", style)]

    assert not [thing for thing in both.iter() if thing.get("id")]
    assert len(styles) == 2
    assert selectors
    assert all(re.match(r"\.stateloop-\w+( |$)", selector) for selector in selectors)


def test_a_picture_is_no_wider_than_its_cell() -> None:
    svg = page(shown_as_html(trained())).find(".//{http://www.w3.org/2000/svg}svg")

    assert svg is not None
    assert svg.get("style") == "max-width:100%;height:auto"


def test_showing_a_run_changes_nothing_of_the_text() -> None:
    run = trained()

    assert shown_as_html(run) == shown_as_html(run)


def hostile_run() -> Run:
    start, end = Hostile
    (trigger,) = HostileTrigger
    machine = Machine(name=HOSTILE, initial=start, finals=(end,), rows=(Transition(start, trigger, None, end),))
    run = evolve(trained(), machine=machine, state=end)
    run.ways.clear()
    run.ways.append(machine.rows)
    return run


@pytest.mark.parametrize("installed", [True, False])
def test_hostile_names_stay_text(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "pygraphviz", None)
    shown = shown_as_html(hostile_run())

    assert "<script" not in shown
    assert {thing.tag for thing in page(shown).iter() if "}" not in thing.tag} <= {"body", "div", "b", "pre"}
    assert "script>" in lines(shown)[0]


def test_without_pygraphviz_the_text_is_shown_and_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    run = trained()
    *_, said, drawn = page(shown_as_html(run)).findall("./div/pre")

    assert "pip install 'stateloop[pictures]'" in (said.text or "")
    assert drawn.text == diagram(TRAINING, "mermaid", here=run.state, taken=run.recent[-1:])


def test_a_run_of_another_machine_is_shown_on_that_machine() -> None:
    shown = shown_as_html(small_engine().evaluate(batches(1)))

    assert lines(shown)[0].startswith(f"{EVALUATION.name} in done")
    assert Trigger.FIT_ASKED.value not in shown
