"""Does the picture show the machine, all of it and nothing else?"""

import re
import subprocess
import sys
from collections import Counter as Bag
from enum import Enum
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from transitions.extensions import GraphMachine

from states.diagram import FORMATS, FormatUnknown, diagram
from states.dot import DARK, PicturesMissing, to_dot
from states.errors import StateloopError
from states.machine import Machine
from states.names import Event, Guard, State, Trigger, name_of
from states.picture import Does, picture, spoken, visible
from states.rows import Transition
from states.tables import EVALUATION, PREDICTION, TRAINING


pygraphviz = pytest.importorskip("pygraphviz")

HOSTILE = 'say "hi" [a] <b> {c} |d| #35; %%{x}%% back\\ `tick` & $e$ \n end'
HostileState = Enum("HostileState", {HOSTILE: 1, "end": 2, "default": 3, "v": 4, "TWO  SPACES\\": 5, "ÜBER": 6})
HostileTrigger = Enum("HostileTrigger", {f"{HOSTILE} trigger": 1})
HostileGuard = Enum("HostileGuard", {f"stop_{HOSTILE}": 1})
HostileEvent = Enum("HostileEvent", {f"{HOSTILE}_begin": 1, f"{HOSTILE}_end": 2})


def hostile_machine():
    weird, end, default, one_letter, spaces, umlaut = HostileState
    (trigger,), (guard,), (begin, over) = HostileTrigger, HostileGuard, HostileEvent
    return Machine(
        name=HOSTILE,
        initial=weird,
        finals=(umlaut,),
        holds={spaces: EVALUATION},
        rows=(
            Transition(weird, trigger, None, end, heard=(begin,)),
            Transition(end, None, guard, one_letter),
            Transition(end, None, None, default),
            Transition(default, Trigger.BATCH_READY, None, spaces),
            Transition(spaces, Trigger.VALIDATED, None, end),
            Transition(one_letter, None, None, umlaut, heard=(over,)),
        ),
    )


MACHINES = [TRAINING, EVALUATION, PREDICTION, hostile_machine()]
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=["training", "evaluation", "prediction", "hostile"])
every_format = pytest.mark.parametrize("form", list(FORMATS))

HEARS = {Event.BATCH_END: ["Recorder", "Counter"], Event.EXCEPTION: ["Reporter"]}
ANSWERS = {Guard.SKIP_STEP: ["Overflow"]}


def bare(markup):
    """The words of a label, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def plain(text):
    """A Mermaid label as it is shown."""
    decoded = re.sub(r"#(\d+);", lambda found: f"&#{found[1]};", text)
    return bare(decoded)


def written(row):
    """What an arrow of this row must say."""
    guard = f"[{name_of(row.guard)}]" if row.guard else ""
    events = " · ".join(map(name_of, row.events))
    return words(f"{spoken(name_of(row.trigger)) if row.trigger else ''} {guard} {events}")


def words(name):
    return " ".join(visible(name).split())


def expected_arrows(machine):
    return Bag((words(name_of(row.source)), words(name_of(row.dest)), written(row)) for row in machine.rows)


def expected_boxes(machine):
    """Each stack of scopes that is open in several states, with the states that are innermost in it."""
    scopes = machine.proof.scopes
    open_in = Bag(stack[: n + 1] for stack in scopes.values() for n in range(len(stack)))
    boxes = {}
    for state, stack in scopes.items():
        boxed = max((stack[:n] for n in range(len(stack) + 1) if n == 0 or open_in[stack[:n]] > 1), key=len)
        boxes.setdefault(tuple(map(words, boxed)), set()).add(words(name_of(state)))
    return boxes


def mermaid_nodes(text):
    """Each node's id with its name, without the start and the note."""
    shape = r'^\s+(\w+)(?:\(\(\(|\(|\[\[|\{\{)"(.*?)"(?:\)\)\)|\)|\]\]|\}\})$'
    found = re.findall(shape, text, re.MULTILINE)
    return [(ident, plain(re.sub(r"<br/>.*", "", label))) for ident, label in found]


def mermaid_arrows(text):
    names = dict(mermaid_nodes(text))
    found = re.findall(r'^  (\w+) --+>(?:\|"(.*)"\|)? (\w+)$', text, re.MULTILINE)
    return Bag((names[source], names[dest], plain(label)) for source, label, dest in found)


def mermaid_boxes(text):
    """Each box with what stands directly in it."""
    names, stack, boxes = dict(mermaid_nodes(text)), [], {}
    for line in text.splitlines():
        if opened := re.match(r'\s+subgraph \w+ \["(.*)"\]$', line):
            stack.append(plain(opened[1]))
        elif re.match(r"\s+end$", line):
            stack.pop()
        elif (node := re.match(r"\s+(\w+)[(\[{]", line)) and node[1] in names:
            boxes.setdefault(tuple(stack), set()).add(names[node[1]])
    return boxes


def parsed(machine):
    return pygraphviz.AGraph(string=diagram(machine, "dot"))


def dot_name(node):
    return bare(node.attr["label"].replace("<BR/>", "\n").split("\n")[0])


def dot_arrows(graph):
    edges = (edge for edge in graph.edges() if edge[0] != "START")
    return Bag(
        (dot_name(graph.get_node(edge[0])), dot_name(graph.get_node(edge[1])), bare(edge.attr["label"] or ""))
        for edge in edges
    )


def dot_boxes(graph, path=()):
    inner = graph.subgraphs()
    deeper = {node for box in inner for node in box.nodes()}
    own = {dot_name(node) for node in graph.nodes() if node not in deeper and node != "START"}
    boxes = {path: own} if own else {}
    for box in inner:
        boxes.update(dot_boxes(box, (*path, bare(box.graph_attr["label"]))))
    return boxes


@every_machine
def test_each_row_is_one_arrow_in_mermaid(machine):
    assert mermaid_arrows(diagram(machine, "mermaid")) == expected_arrows(machine)


@every_machine
def test_each_row_is_one_arrow_in_dot(machine):
    assert dot_arrows(parsed(machine)) == expected_arrows(machine)


@every_machine
def test_each_state_is_one_node_in_mermaid(machine):
    names = [name for _, name in mermaid_nodes(diagram(machine, "mermaid"))]

    assert Bag(names) == Bag(words(name_of(state)) for state in machine.states)


@every_machine
def test_each_state_is_one_node_in_dot(machine):
    graph = parsed(machine)
    names = [dot_name(node) for node in graph.nodes() if node != "START"]

    assert Bag(names) == Bag(words(name_of(state)) for state in machine.states)


@every_machine
def test_the_boxes_are_the_scopes_of_the_proof(machine):
    assert mermaid_boxes(diagram(machine, "mermaid")) == expected_boxes(machine)
    assert dot_boxes(parsed(machine)) == expected_boxes(machine)


@every_machine
def test_pytransitions_draws_the_same_arrows(machine):
    rows = [
        {"trigger": name_of(row.trigger) if row.trigger else "decide", "source": row.source, "dest": row.dest}
        for row in machine.rows
    ]
    chart = GraphMachine(
        states=list(machine.states),
        transitions=rows,
        initial=machine.initial,
        auto_transitions=False,
        graph_engine="mermaid",
    )
    theirs = {
        (transition.source, transition.dest)
        for event in chart.events.values()
        for transitions in event.transitions.values()
        for transition in transitions
    }
    ours = {(arrow.source, arrow.dest) for arrow in picture(machine).arrows}

    assert ours == {(source.lower(), dest.lower()) for source, dest in theirs}


@every_machine
@every_format
def test_the_same_machine_gives_the_same_picture(machine, form):
    assert diagram(machine, form) == diagram(machine, form)


@every_machine
def test_svg_is_well_formed_xml(machine):
    root = ET.fromstring(diagram(machine, "svg"))  # our own text

    assert root.tag == "{http://www.w3.org/2000/svg}svg"


@every_machine
def test_png_begins_as_a_png_does(machine):
    assert diagram(machine, "png").startswith(b"\x89PNG\r\n\x1a\n")


def test_every_colour_of_the_svg_has_a_dark_one():
    text = diagram(TRAINING, "svg")
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', text.partition("</style>")[2]))

    assert used <= set(DARK)
    assert len(set(DARK)) == 16  # no two meanings share a colour, or both would turn into one


def test_mermaid_brings_no_background_or_text_colour():
    text = diagram(TRAINING, "mermaid")

    assert set(re.findall(r"(\w+):(#\w+)", text)) == {
        ("fill", "#888888"),
        ("stroke", "#888888"),
        ("stroke", "#d9534f"),
        ("stroke", "#9a6ee0"),
    }


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_callbacks_are_named_on_the_arrows_they_hear(form):
    text = diagram(TRAINING, form, hears=HEARS, answers=ANSWERS)
    enders = sum(Event.BATCH_END in row.events for row in TRAINING.rows)
    askers = sum(row.guard is Guard.SKIP_STEP for row in TRAINING.rows)

    assert text.count("batch_end: Recorder, Counter") == enders
    assert text.count("[skip_step: Overflow]") == askers
    assert text.count("exception: Reporter") == 1


def test_an_event_that_somebody_hears_has_a_line_of_its_own_in_order():
    drawn = picture(TRAINING, hears={Event.LOSS_END: ["Watch"]})
    skipped = next(arrow for arrow in drawn.arrows if arrow.guard == "skip_backward")

    assert [text for _, text in skipped.lines()] == ["loss ready", "[skip_backward]", "loss_end: Watch", "batch_end"]


def test_many_callbacks_are_broken_into_lines():
    names = [f"Callback{number}" for number in range(9)]
    drawn = picture(TRAINING, hears={Event.TRAIN_BEGIN: names})
    lines = [text for _, text in drawn.arrows[0].lines()]

    assert " ".join(lines) == f"fit asked train_begin: {', '.join(names)}"
    assert max(map(len, lines)) <= 32


def test_the_abnormal_ends_are_one_note():
    assert picture(TRAINING).note == (
        "any state but idle:",
        "error raised → failed",
        "interrupt → interrupted",
        "heard: exception, train_end",
    )


@every_machine
def test_the_note_leaves_out_no_death(machine):
    note = " ".join(picture(machine).note)

    for row in machine.deaths:
        assert f"{spoken(name_of(row.trigger))} → {name_of(row.dest)}" in note
        assert ", ".join(map(name_of, row.heard)) in note


def test_a_machine_in_which_nothing_can_die_has_no_note():
    tiny = Machine(
        name="tiny",
        initial=State.IDLE,
        finals=(State.DONE,),
        rows=(Transition(State.IDLE, Trigger.FIT_ASKED, None, State.DONE),),
    )

    assert picture(tiny).note == ()
    assert "Note" not in diagram(tiny, "mermaid")
    assert dot_arrows(parsed(tiny)) == expected_arrows(tiny)


def test_what_a_state_does_is_seen():
    does = {node.name: node.does for node in picture(TRAINING).nodes}

    assert does["fetch"] is Does.REPORTS
    assert does["epoch"] is Does.DECIDES
    assert does["validate"] is Does.HOLDS
    assert does["done"] is Does.ENDS
    assert diagram(TRAINING, "mermaid").count("runs evaluation") == 1
    assert diagram(TRAINING, "dot").count("runs evaluation") == 1


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_hostile_names_of_callbacks_stay_in_their_label(form):
    text = diagram(TRAINING, form, hears={Event.TRAIN_BEGIN: [HOSTILE]}, answers={Guard.SKIP_STEP: ['"]--> <x>']})

    assert len(text.splitlines()) == len(diagram(TRAINING, form).splitlines())
    assert "<x>" not in text
    assert '"]-->' not in text


def test_a_long_training_fits_a_readme():
    width = int(re.search(r'width="(\d+)px"', diagram(TRAINING, "svg"))[1])

    assert width <= 960


@every_format
def test_the_written_file_is_what_is_returned(form, tmp_path):
    path = tmp_path / "picture"
    drawn = diagram(PREDICTION, form, path)

    assert path.read_bytes() == (drawn if isinstance(drawn, bytes) else drawn.encode())


@pytest.mark.parametrize(
    ("name", "form"), [("a.mmd", "mermaid"), ("a.mermaid", "mermaid"), ("a.gv", "dot"), ("a.DOT", "dot")]
)
def test_the_suffix_of_the_path_tells_the_format(name, form, tmp_path):
    assert diagram(PREDICTION, path=str(tmp_path / name)) == diagram(PREDICTION, form)


def test_an_unknown_format_is_refused_with_the_list(tmp_path):
    path = tmp_path / "picture.svg"
    with pytest.raises(FormatUnknown) as refused:
        diagram(TRAINING, "mermiad", path)

    assert str(refused.value) == (
        "no picture in the format 'mermiad': did you mean 'mermaid'?; "
        "formats: mermaid, dot, svg, png; suffixes: .mmd, .mermaid, .dot, .gv, .svg, .png"
    )
    assert not path.exists()


@pytest.mark.parametrize(
    ("path", "why"), [(None, "no path was given to tell it"), (Path("a.jpeg"), "the suffix '.jpeg' tells none")]
)
def test_without_a_format_the_path_must_tell_it(path, why):
    with pytest.raises(FormatUnknown, match=re.escape(f"no format was given, and {why}; formats: mermaid, dot, svg")):
        diagram(TRAINING, path=path)


@pytest.mark.parametrize("form", ["svg", "png"])
def test_without_pygraphviz_the_error_says_what_to_install(form, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(PicturesMissing, match=r"pip install 'stateloop\[pictures\]'") as refused:
        diagram(TRAINING, form)

    assert isinstance(refused.value, StateloopError)
    assert diagram(TRAINING, "mermaid")
    assert diagram(TRAINING, "dot") == to_dot(picture(TRAINING))


def test_importing_states_loads_no_drawing_library():
    code = "import sys, states.diagram; print({'pygraphviz', 'transitions', 'torch'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert told.stdout == "set()\n"
