"""Does a picture show where a run is, there and nowhere else?"""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise, zip_longest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from states.diagram import diagram
from states.errors import StateloopError
from states.here import PlaceUnknown, marked
from states.machine import Machine
from states.names import Event, Guard, State, Trigger, name_of
from states.picture import joined, picture
from states.rows import Transition
from states.svg import DARK, DARK_HERE, to_inline_svg
from states.tables import EVALUATION, PREDICTION, TRAINING
from tests.states.test_diagram import CALLED, hostile_machine


pygraphviz = pytest.importorskip("pygraphviz")

MACHINES = (TRAINING, EVALUATION, PREDICTION, hostile_machine())
DEATHS = (State.FAILED, State.INTERRUPTED)


@st.composite
def chains(draw: st.DrawFn) -> Machine:
    """A machine with some states in a row, each of which reports or decides."""
    middle = draw(
        st.lists(st.sampled_from([s for s in State if s not in (*DEATHS, State.IDLE, State.DONE)]), unique=True)
    )
    ways = [State.IDLE, *middle, State.DONE]
    triggers = [t for t in Trigger if t not in (Trigger.ERROR_RAISED, Trigger.INTERRUPT)]
    rows = [
        Transition(source, triggers[number] if number == 0 or draw(st.booleans()) else None, None, dest)
        for number, (source, dest) in enumerate(pairwise(ways))
    ]
    return Machine(name="chain", initial=State.IDLE, finals=(State.DONE,), rows=rows)


machines = st.sampled_from(MACHINES) | chains()


def differing(plain, shown):
    """The lines that are new or changed."""
    return [new for old, new in zip_longest(plain.splitlines(), shown.splitlines()) if old != new]


def dot_nodes(text):
    """Each node, and the notes below the picture, with all that it looks like."""
    graph = pygraphviz.AGraph(string=text)
    return {"note": graph.graph_attr["label"], **{str(node): dict(node.attr) for node in graph.nodes()}}


def svg_nodes(text):
    """Each node of an SVG, as it is drawn."""
    root = ET.fromstring(text)
    groups = (thing for thing in root.iter() if thing.get("class") == "node")
    return {thing.get("id"): ET.tostring(thing) for thing in groups}


def changed(plain, shown):
    assert plain.keys() == shown.keys()
    return [name for name in plain if plain[name] != shown[name]]


@given(machine=machines, data=st.data())
def test_exactly_one_node_of_the_text_differs_from_the_plain_picture(machine, data):
    here = data.draw(st.sampled_from([*machine.states, *{row.dest for row in machine.deaths}]))
    plain, shown = (diagram(machine, "dot", here=place) for place in (None, here))
    (style,) = [
        line
        for line in differing(diagram(machine, "mermaid"), diagram(machine, "mermaid", here=here))
        if " style " in line
    ]

    assert len(changed(dot_nodes(plain), dot_nodes(shown))) == 1
    assert (style.split()[1] == "Note") is (here in DEATHS)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name[:10])
def test_exactly_one_node_that_is_laid_out_differs(machine):
    plain = svg_nodes(diagram(machine, "svg"))
    places = [changed(plain, svg_nodes(diagram(machine, "svg", here=here))) for here in machine.states]

    assert all(len(place) == 1 for place in places)
    assert len({place for (place,) in places}) == len(machine.states)


@given(machine=machines, data=st.data())
def test_exactly_the_arrows_of_the_rows_that_were_taken_are_thick(machine, data):
    taken = data.draw(st.lists(st.sampled_from(machine.rows), unique=True))
    numbers = {number for number, rows in enumerate(joined(machine)) if {*rows} & {*taken}}
    text = diagram(machine, "mermaid", taken=taken)
    drawn = marked(picture(machine), machine, None, taken)

    assert {int(found) for found in re.findall(r"linkStyle (\d+) .*stroke-width:5px", text)} == numbers == drawn.taken
    halves = sum(2 if any(drawn.arrows[number].lines()) else 1 for number in numbers)
    assert diagram(machine, "dot", taken=taken).count("penwidth=3.5") == halves


def test_a_guarded_arrow_keeps_its_colour_when_it_is_thick():
    row = next(row for row in TRAINING.rows if row.guard is Guard.STOP_EPOCH)
    lines = differing(diagram(TRAINING, "mermaid"), diagram(TRAINING, "mermaid", taken=row))

    assert len(lines) == 1
    assert re.fullmatch(r"  linkStyle \d+ stroke:#d9534f,stroke-width:5px", lines[0])


def test_the_state_is_seen_without_colours_by_its_frame():
    assert (
        "stroke-width:4px" in differing(diagram(TRAINING, "mermaid"), diagram(TRAINING, "mermaid", here=State.STEP))[0]
    )
    assert 'stroke-width="4"' in diagram(TRAINING, "svg", here=State.STEP)
    assert 'stroke-width="4"' not in diagram(TRAINING, "svg")


@pytest.mark.parametrize("calls", [{}, CALLED], ids=["alone", "with_callbacks"])
@pytest.mark.parametrize("here", DEATHS)
def test_an_abnormal_end_is_marked_in_the_note(here, calls):
    mermaid, dot = (diagram(TRAINING, form, here=here, **calls) for form in ("mermaid", "dot"))

    (line,) = re.findall(r"<b>([^<]*→ \w+)</b>", mermaid)
    assert line.endswith(f"→ {name_of(here)}")
    assert re.findall(r"<B>([^<]*→ \w+)</B>", dot) == [line]
    assert dot.count("BGCOLOR") == 1
    assert "  style Note fill:" in mermaid


def test_a_death_has_no_arrow_to_be_thick():
    assert diagram(TRAINING, "dot", taken=TRAINING.deaths) == diagram(TRAINING, "dot")


def test_a_picture_of_nowhere_is_the_plain_one():
    for form in ("mermaid", "dot", "svg", "png"):
        assert diagram(TRAINING, form, here=None, taken=()) == diagram(TRAINING, form)


def test_every_colour_of_the_place_has_a_dark_one():
    text = diagram(TRAINING, "svg", here=State.STEP, taken=TRAINING.rows_from(State.AVERAGE))
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', text.partition("</style>")[2]))

    assert used <= {*DARK, *DARK_HERE}
    assert not {*DARK} & {*DARK_HERE}


def test_png_shows_the_place_too():
    assert len({diagram(PREDICTION, "png", here=here) for here in (None, *PREDICTION.states)}) == 1 + len(
        PREDICTION.states
    )


def test_an_element_of_a_page_is_the_same_picture_without_ids():
    drawn = marked(picture(TRAINING), TRAINING, State.STEP)
    inline, alone = to_inline_svg(drawn), diagram(TRAINING, "svg", here=State.STEP)

    assert inline.startswith("<svg ")
    assert " id=" not in inline
    assert inline.count("<path ") == alone.count("<path ")


def test_a_state_of_another_machine_is_refused_with_the_nearest():
    with pytest.raises(PlaceUnknown) as refused:
        diagram(TRAINING, "mermaid", here=State.PREDICT)

    assert isinstance(refused.value, StateloopError)
    assert "here is <State.PREDICT: 'predict'>, which is no state of training\n  allowed:  idle, train, " in str(
        refused.value
    )


def test_a_misspelt_name_is_refused_with_the_nearest_and_nothing_is_written(tmp_path):
    path = tmp_path / "a.dot"
    with pytest.raises(PlaceUnknown, match="did you mean 'forward'"):
        diagram(TRAINING, path=path, here="forwrad")
    assert not path.exists()


def test_the_name_of_a_state_is_told_the_state():
    with pytest.raises(PlaceUnknown, match=re.escape("instead:  write State.STEP, the state itself")):
        diagram(TRAINING, "mermaid", here="step")


def test_an_abnormal_end_of_a_machine_that_cannot_die_is_refused():
    tiny = Machine(
        name="tiny",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=(Transition(State.IDLE, Trigger.FIT_ASKED, None, State.DONE),),
    )
    with pytest.raises(PlaceUnknown, match=re.escape("allowed:  idle, done\n")):
        diagram(tiny, "mermaid", here=State.FAILED)


ELSEWHERE = Transition(State.STEP, Trigger.WEIGHTS_MOVED, None, State.EPOCH, heard=(Event.BATCH_END,))


@pytest.mark.parametrize(
    ("taken", "what"),
    [
        (ELSEWHERE, "'step weights_moved -> epoch: batch_end', which is no row of training"),
        (PREDICTION.rows[0], "instead:  did you mean 'idle"),
        (["step"], "taken has 'step', which is no row of training"),
        ([EVALUATION.rows_from(State.EVALUATE)[0]], "instead:  draw the machine it is from"),
    ],
)
def test_what_is_no_row_is_refused_with_what_to_do(taken, what):
    with pytest.raises(PlaceUnknown, match=re.escape(what)):
        diagram(TRAINING, "mermaid", taken=taken)
