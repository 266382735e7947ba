"""Do imports go one way only?  `states <- engine <- tests, examples`, and `states` alone is light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
OURS = {"states", "engine", "tests", "examples"}

# What a layer may import of ours.
MAY = {
    "states": {"states"},
    "engine": {"states", "engine"},
    "examples": {"states", "engine", "examples"},
    "tests": OURS,
}

# Which other folders a folder of engine imports when it is loaded; so with the files beside the folders, of which the
# "others" import none.  What is imported inside a function, at first use, is free.  A folder stands below its users,
# but for one knot: a search is made with the callback LRFinder, and that gives what was found.
LOADS: dict[str, set[str]] = {
    "others": set(),
    "layout": set(),
    "measuring": set(),
    "keeping": set(),
    "schedules": {"layout"},
    "recording": {"layout", "measuring"},
    "callbacks": {"layout", "measuring", "keeping", "schedules", "recording", "searching"},
    "searching": {"layout", "keeping", "callbacks"},
    "faster": {"measuring", "callbacks"},
    "running": {"faster"},
    "ownloop": {"running"},
    "dryrun": {"layout"},
    "summary": {"layout"},
    "timings": {"layout"},
    "engine": {"measuring", "keeping", "callbacks", "faster", "running", "ownloop"},
    "commands": {"layout"},
    "testing": {"layout", "running", "ownloop", "engine", "commands"},
    "__main__": {"commands"},
}

# What states may import of others: always, and inside a function, at first use.
LIGHT, AT_FIRST_USE = {"attrs"}, {"transitions", "pygraphviz"}


def modules(layer: str) -> list[Path]:
    return sorted((ROOT / layer).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """The first part of each imported name, with the statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "(relative)" if node.level else str(node.module).split(".")[0], node


def deferred(tree: ast.AST) -> set[ast.AST]:
    """What is not run when the module is imported: the inside of functions, and what only a type checker reads."""
    later: set[ast.AST] = set()
    for node in ast.walk(tree):
        checking = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        if checking or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            later.update(ast.walk(node))
    return later


@pytest.mark.parametrize("layer", MAY)
def test_a_layer_imports_nothing_of_those_above_it(layer: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
        for path in modules(layer)
        for name, node in imported(ast.parse(path.read_text()))
        if name in (OURS - MAY[layer]) | {"(relative)"}
    ]
    assert wrong == []


def loads(path: Path) -> Iterator[tuple[str, int]]:
    """What a file imports of engine when it is loaded: folders, and files at the top; with the line."""
    tree, there = ast.parse(path.read_text()), {one.stem for one in (ROOT / "engine").iterdir()}
    for node in set(ast.walk(tree)) - deferred(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name}" for name in names]
        parts = [name.split(".")[1] for name in names if name.startswith("engine.")]
        # What is no module there is one of the names that `engine` gives, Engine among them.
        yield from ((part if part in there else "engine", node.lineno) for part in parts)


def test_the_folders_of_engine_stand_one_above_the_other() -> None:
    folders = {path.parent.name for path in (ROOT / "engine").glob("*/__init__.py")}
    assert folders < LOADS.keys()
    wrong = []
    for path in modules("engine"):
        part = path.relative_to(ROOT / "engine").with_suffix("").parts[0]
        row = part if part in LOADS else "others"
        for name, line in loads(path):
            if name != part and name not in LOADS[row] and name in folders | {"engine"}:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert wrong == []


def test_a_name_out_of_the_whole_package_is_taken_for_the_engine(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("from engine import Callback, run\nfrom engine.layout.figures import saved\n")
    assert sorted(loads(tmp_path / "one.py")) == [("engine", 1), ("layout", 2), ("run", 1)]


def test_layout_knows_of_no_training() -> None:
    files = modules("engine/layout")
    assert len(files) > 3
    assert {name for path in files for name, _ in loads(path)} <= {"layout", "errors"}


def test_states_is_made_of_the_standard_library_and_attrs() -> None:
    wrong = []
    for path in modules("states"):
        tree = ast.parse(path.read_text())
        later = deferred(tree)
        for name, node in imported(tree):
            light = name in {*sys.stdlib_module_names, *LIGHT, "states"}
            if not light and not (name in AT_FIRST_USE and node in later):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {name}")
    assert wrong == []


def test_the_scan_sees_an_import_wherever_it_stands() -> None:
    tree = ast.parse("import torch.nn\ndef f():\n    from transitions import Machine\nfrom . import states\n")
    later = deferred(tree)
    assert [(name, node in later) for name, node in imported(tree)] == [
        ("torch", False),
        ("(relative)", False),
        ("transitions", True),
    ]
    assert len(modules("states")) > 5


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after a statement."""
    heavy = ["torch", "transitions", "pygraphviz", "hypothesis", "numpy"]
    program = f"import sys\n{statement}\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(ast.literal_eval(done.stdout))


def test_importing_states_loads_nothing_heavy_not_even_its_own_judges() -> None:
    every = ", ".join(f"states.{path.stem}" for path in modules("states") if path.stem not in ("__init__", "__main__"))
    assert loaded_by(f"import {every}") == set()


def test_pytransitions_is_loaded_when_a_machine_is_made() -> None:
    making = "from states import TRAINING\nfrom states.checked import to_transitions\n"
    assert loaded_by(making) == set()
    assert loaded_by(f"{making}to_transitions(TRAINING)") == {"transitions"}
