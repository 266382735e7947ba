"""Does the picture show the machine, all of it and nothing else?"""

import json
import re
import subprocess
import sys
from collections import Counter as Bag
from enum import Enum
from html import unescape
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from transitions.extensions import GraphMachine

from states.diagram import FORMATS, FormatUnknown, MachineMissing, diagram
from states.dot import to_dot
from states.errors import StateloopError
from states.machine import Machine
from states.names import Event, Guard, State, Trigger, name_of
from states.picture import Does, picture, spoken, visible
from states.rows import Transition
from states.svg import DARK, PicturesMissing
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
            Transition(spaces, Trigger.VALIDATION_STOPPED, None, one_letter),
            Transition(one_letter, None, None, umlaut, heard=(over,)),
        ),
    )


MACHINES = [TRAINING, EVALUATION, PREDICTION, hostile_machine()]
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=["training", "evaluation", "prediction", "hostile"])
every_format = pytest.mark.parametrize("form", list(FORMATS))

HEARS = {Event.BATCH_END: ["Recorder", "Counter"], Event.EXCEPTION: ["Reporter"]}
ANSWERS = {Guard.SKIP_STEP: ["Overflow"]}
CALLED = {"hears": HEARS, "answers": ANSWERS}


def bare(markup):
    """The words of a label, without its markup."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def plain(text):
    """A Mermaid label as it is shown."""
    decoded = re.sub(r"#(\d+);", lambda found: f"&#{found[1]};", text)
    return bare(decoded)


def written(row):
    """What an arrow of this row must say, after what was reported."""
    guard = f"[{name_of(row.guard)}]" if row.guard else ""
    return words(f"{guard} {' · '.join(map(name_of, row.events))}")


def words(name):
    return " ".join(visible(name).split())


def expected_arrows(machine):
    """Each row, those without a guard that differ in the trigger only as one."""
    ends = [
        (row, (words(name_of(row.source)), words(name_of(row.dest)), written(row), row.guard)) for row in machine.rows
    ]
    triggers = {}
    for row, end in ends:
        triggers.setdefault(end, []).append(words(spoken(name_of(row.trigger))) if row.trigger else "")
    return Bag(
        (source, dest, words(f"{' or '.join(reported)} {label}"))
        for (source, dest, label, _), reported in triggers.items()
    )


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


def dot_labels(graph):
    return [node for node in graph.nodes() if node.startswith("LABEL ")]


def dot_arrows(graph):
    """Each arrow, its halves put together again: what has a tip at one end only, wherever it is written."""
    halves = [
        edge[::-1] if edge.attr["dir"] == "back" else tuple(edge) for edge in graph.edges() if "START" not in edge
    ]
    labels = set(dot_labels(graph))
    found = Bag((*half, "") for half in halves if not labels & set(half))
    for label in labels:
        (dest,) = (end for start, end in halves if start == label and graph_tip(graph, label, end))
        (source,) = {*(end for half in halves if label in half for end in half)} - {label, dest} or {dest}
        found[source, dest, bare(graph.get_node(label).attr["label"])] += 1
    name = {node: dot_name(node) for node in graph.nodes()}
    return Bag({(name[source], name[dest], text): count for (source, dest, text), count in found.items()})


def graph_tip(graph, label, end):
    """Whether the half between the two has a tip."""
    edges = (edge for edge in graph.edges() if set(edge) == {label, end})
    return any(edge.attr["dir"] != "none" for edge in edges)


def dot_boxes(graph, path=()):
    inner = graph.subgraphs()
    deeper = {node for box in inner for node in box.nodes()}
    own = {dot_name(node) for node in graph.nodes() if node not in deeper and not re.match(r"START|LABEL ", node)}
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
    names = [dot_name(node) for node in graph.nodes() if not re.match(r"START|LABEL ", node)]

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


def mermaid_called(text):
    """The note that says who is called, line by line, each as its word and the rest."""
    note = re.search(r'^  Called\["(.*)"\]$', text, re.MULTILINE)[1]
    return [tuple(plain(line).split(": ", 1)) for line in note.split("<br/>")[1:]]


def dot_called(text):
    """The same, from the two columns that stand side by side."""
    note = re.search(r"label=<(.*>\*<BR/>.*)>\]$", text, re.MULTILINE)[1]
    left, right = (cell.split("<BR/>") for cell in re.findall(r'COLSPAN="1"><FONT[^>]*>(.*?)</FONT></TD>', note)[-2:])
    assert len(left) == len(right)
    return [tuple(map(bare, line)) for line in zip(left, right, strict=True)][1:]


@pytest.mark.parametrize(("form", "called"), [("mermaid", mermaid_called), ("dot", dot_called)])
def test_the_note_names_the_callbacks_of_each_starred_word(form, called):
    assert called(diagram(TRAINING, form, **CALLED)) == [
        ("skip_step", "Overflow"),
        ("batch_end", "Recorder, Counter"),
        ("exception", "Reporter"),
    ]


def test_a_word_stands_beside_its_own_callbacks_when_those_take_several_lines():
    names = [f"CallbackWithALongName{number}" for number in range(4)]
    lines = dot_called(diagram(TRAINING, "dot", hears={Event.STOP: names, Event.BATCH_END: ["Counter"]}))

    assert [word for word, _ in lines] == ["batch_end", "stop", ""]
    assert " ".join(told for _, told in lines) == f"Counter {', '.join(names)}"


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_callbacks_are_named_once_and_a_star_leads_there_from_every_arrow(form):
    text = unescape(re.sub(r"#(\d+);", lambda found: chr(int(found[1])), diagram(TRAINING, form, **CALLED)))
    enders = sum(Event.BATCH_END in row.events for row in TRAINING.rows)
    askers = sum(row.guard is Guard.SKIP_STEP for row in TRAINING.rows)

    assert text.count("batch_end*") == enders
    assert text.count("[skip_step*]") == askers
    assert text.count("exception*, train_end") == 1
    assert text.count("called, in this order:") == 1
    assert all(text.count(name) == 1 for name in ("Overflow", "Recorder", "Counter", "Reporter"))


@every_machine
def test_a_picture_without_callbacks_has_no_star(machine):
    assert picture(machine).calls == ()
    assert all(not arrow.called for arrow in picture(machine).arrows)


@given(hearers=st.dictionaries(st.sampled_from(Event), st.lists(st.text(min_size=1), max_size=12)))
def test_each_word_of_the_machine_that_calls_is_listed_with_its_callbacks_in_order(hearers):
    drawn = picture(TRAINING, hears=hearers)
    heard = {name_of(event): tuple(hearers[event]) for event in TRAINING.events if hearers.get(event)}

    assert {calls.word: calls.callbacks for calls in drawn.calls} == heard
    assert all(arrow.called == {*arrow.events} & heard.keys() for arrow in drawn.arrows)


def test_many_callbacks_make_no_label_longer():
    names = [f"CallbackWithALongName{number}" for number in range(9)]
    drawn = picture(TRAINING, hears=dict.fromkeys(Event, names), answers=dict.fromkeys(Guard, names))
    longest = max(len(line) for arrow in drawn.arrows for _, line in arrow.lines())

    assert longest <= 32
    for calls in drawn.calls:
        assert max(map(len, calls.lines())) <= 64
        assert " ".join(calls.lines()) == ", ".join(names)


def test_triggers_that_lead_the_same_way_are_one_arrow():
    (dry,) = (arrow for arrow in picture(TRAINING).arrows if (arrow.source, arrow.dest) == ("fetch", "window"))

    assert [text for _, text in dry.lines()] == ["loader dry or", "updates spent"]


def test_the_abnormal_ends_are_one_note():
    assert picture(TRAINING).note == (
        "any state but idle:",
        "error raised → failed",
        "interrupt → interrupted",
        "heard: exception, train_end",
        "run left → left",
        "heard: train_end",
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
    calls = {"hears": {Event.TRAIN_BEGIN: [HOSTILE]}, "answers": {Guard.SKIP_STEP: ['"]--> <x>']}}
    text = diagram(TRAINING, form, **calls)

    assert len(text.splitlines()) == len(diagram(TRAINING, form, **CALLED).splitlines())
    assert "<x>" not in text
    assert '"]-->' not in text


def long_names():
    names = [f"CallbackWithALongName{number}" for number in range(4)]
    return {"hears": dict.fromkeys(Event, names), "answers": dict.fromkeys(Guard, names)}


@pytest.mark.parametrize("calls", [{}, long_names()], ids=["alone", "with_callbacks"])
def test_a_training_fits_a_readme(calls):
    width = int(re.search(r'width="(\d+)px"', diagram(TRAINING, "svg", **calls))[1])

    assert width <= (1000 if calls else 960)  # a star on every word, and fonts differ


@pytest.mark.parametrize("calls", [{}, long_names()], ids=["alone", "with_callbacks"])
@every_machine
def test_no_label_runs_over_a_frame(machine, calls):
    drawn = json.loads(pygraphviz.AGraph(string=diagram(machine, "dot", **calls)).draw(format="json", prog="dot"))
    boxes = [[float(side) for side in thing["bb"].split(",")] for thing in drawn["objects"] if "bb" in thing]
    labels = [placed(thing) for thing in drawn["objects"] if thing["name"].startswith("LABEL ")]

    assert labels
    for x0, y0, x1, y1 in labels:
        for left, low, right, high in boxes:
            inside = left < x0 and x1 < right and low < y0 and y1 < high
            assert inside or x1 < left or right < x0 or y1 < low or high < y0


@pytest.mark.parametrize("calls", [{}, long_names()], ids=["alone", "with_callbacks"])
@every_machine
def test_no_arrow_runs_along_a_frame(machine, calls):
    drawn = json.loads(pygraphviz.AGraph(string=diagram(machine, "dot", **calls)).draw(format="json", prog="dot"))
    sides = [float(thing["bb"].split(",")[n]) for thing in drawn["objects"] if "bb" in thing for n in (0, 2)]

    for edge in drawn["edges"]:
        points = [tuple(map(float, point.split(","))) for point in edge["pos"].split() if point[0] not in "es"]
        for side in sides:
            along = [y for x, y in points if abs(x - side) < 2]
            assert max(along, default=0) - min(along, default=0) < 72


def placed(node):
    """Where a node begins and ends on the page, in points."""
    x, y = map(float, node["pos"].split(","))
    width, height = (float(node[side]) * 72 for side in ("width", "height"))
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


@every_format
def test_the_written_file_is_what_is_returned(form, tmp_path):
    path = tmp_path / "new" / "picture"
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


def test_a_format_that_is_like_none_is_refused_with_the_list_once():
    with pytest.raises(FormatUnknown) as refused:
        diagram(TRAINING, "jpeg2000")

    assert str(refused.value) == (
        "no picture in the format 'jpeg2000'; "
        "formats: mermaid, dot, svg, png; suffixes: .mmd, .mermaid, .dot, .gv, .svg, .png"
    )


@pytest.mark.parametrize("path", ["out/a.svg", Path("out/a.svg")])
def test_a_path_in_the_place_of_the_format_is_told_its_own(path):
    with pytest.raises(FormatUnknown, match=re.escape("which is a path\n  instead:  path='out/a.svg'")):
        diagram(TRAINING, path)


@pytest.mark.parametrize(("form", "name"), [("svg", "x.png"), ("png", "x.SVG"), ("mermaid", "x.dot")])
def test_a_format_that_the_suffix_contradicts_is_refused(form, name, tmp_path):
    path = tmp_path / name
    with pytest.raises(FormatUnknown, match=f"the format is '{form}', but the suffix of .* says") as refused:
        diagram(PREDICTION, form, path)

    assert "\n  instead:  leave out the format" in str(refused.value)
    assert not path.exists()


class HasOne:
    """Something that draws itself, as an engine does."""

    def diagram(self): ...


@pytest.mark.parametrize("thing", ["training", None, HasOne, HasOne()], ids=["name", "nothing", "class", "engine"])
def test_what_is_no_machine_is_refused_with_what_it_is(thing):
    with pytest.raises(MachineMissing, match="a picture is drawn of a Machine, not of a") as refused:
        diagram(thing, "mermaid")

    assert isinstance(refused.value, StateloopError)
    assert ("write engine.diagram(...)" in str(refused.value)) is isinstance(thing, HasOne)


def test_without_a_format_the_path_must_tell_it_and_without_a_path_it_is_text():
    wanted = "no format was given, and the suffix '.jpeg' tells none; formats: mermaid, dot, svg"
    with pytest.raises(FormatUnknown, match=re.escape(wanted)):
        diagram(TRAINING, path=Path("a.jpeg"))
    assert diagram(TRAINING) == diagram(TRAINING, "mermaid")


def test_events_are_listed_as_a_run_tells_them():
    text = diagram(TRAINING, hears={event: ["All"] for event in TRAINING.events})
    listed = [label.split(":")[0] for label in text.split("called, in this order:")[1].split("<br/>")[1:]]
    assert listed == [name_of(event) for event in Event if event in TRAINING.events]


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


def test_every_arrow_of_an_svg_names_the_callbacks_that_are_called_on_it() -> None:
    """Both halves of an arrow and its label say so when one points at them; nobody sees what Graphviz calls them."""
    svg = diagram(
        TRAINING,
        "svg",
        hears={Event.EPOCH_END: ["Early <Stopping>"], Event.STOP: ["Keeper"]},
        answers={Guard.SKIP_STEP: ["Overflow"]},
    )
    titles = [unescape(title) for title in re.findall(r"<title>(.*?)</title>", svg, re.DOTALL)]
    assert not any("LABEL" in title or "BOX" in title for title in titles)
    skips = [title for title in titles if "skip_step: Overflow" in title]
    assert {title.splitlines()[0] for title in skips} == {
        "backward \N{RIGHTWARDS ARROW} zero_grad",
        "window \N{RIGHTWARDS ARROW} clear",
    }
    assert len(skips) == 6
    for row in TRAINING.rows:
        if Event.EPOCH_END in row.events and Event.STOP in row.events:
            way = f"{name_of(row.source)} \N{RIGHTWARDS ARROW} {name_of(row.dest)}"
            assert f"{way}\nstop: Keeper\nepoch_end: Early <Stopping>" in titles


def titles(machine, kind):
    """What one is told who points at a thing of this kind."""
    found = re.findall(rf'class="{kind}">\s<title>(.*?)</title>', diagram(machine, "svg"), re.DOTALL)
    return [unescape(title) for title in found]


def test_a_box_of_an_svg_is_named_as_its_scope():
    assert titles(TRAINING, "cluster") == ["train", "epoch", "batch"]


@pytest.mark.parametrize("name", ["LABEL 1", "LABEL 99", "BOX 99"])
def test_a_machine_may_be_named_as_our_own_labels_are(name):
    machine = evolve(PREDICTION, name=name)

    assert f"<title>{name}</title>" in diagram(machine, "svg")
    assert titles(machine, "edge") == titles(PREDICTION, "edge")
