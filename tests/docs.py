"""Which parts of the documentation are made from the machine?  `make docs` writes them, a test finds them stale.

A document holds three kinds of made parts: what stands between `<!-- made: NAME -->` and `<!-- end -->`; the `text`
block after a `python` block, which is what the code prints; and the pictures in `docs/`.  The python blocks of one
document share one namespace and run from top to bottom.
"""

import contextlib
import io
import re
from collections.abc import Callable, Mapping
from difflib import unified_diff
from enum import Enum
from pathlib import Path

from states import EVALUATION, PREDICTION, TRAINING, State, diagram
from states.markdown import markdown
from tests import callbacks_table, coming, hunt
from tests.bench import callbacks as callback_costs
from tests.bench import kit
from tests.bench.results import JSON, read
from tests.bench.table import summary


ROOT = Path(__file__).parent.parent
PAGES = (
    "in-your-own-loop",
    "one-transition-at-a-time",
    "a-machine-of-your-own",
    "callbacks",
    "test-your-callbacks",
    "coming-from",
)
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs" / f"{page}.md" for page in PAGES))
_CLIP = Enum("_CLIP", "CLIP CLIPPED CLIP_BEGIN CLIP_END SKIP_CLIP")
PICTURES = {
    ROOT / "docs" / "clipping.svg": TRAINING.insert(
        _CLIP.CLIP, _CLIP.CLIPPED, before=State.STEP, events=(_CLIP.CLIP_BEGIN, _CLIP.CLIP_END), skip=_CLIP.SKIP_CLIP
    ),
    ROOT / "docs" / "training.svg": TRAINING,
    ROOT / "docs" / "evaluation.svg": EVALUATION,
    ROOT / "docs" / "prediction.svg": PREDICTION,
}

_MADE = re.compile(r"(<!-- made: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_CODE = re.compile(r"```python\n(?P<code>.*?)```\n(?:(?P<gap>\n*)```text\n(?P<text>.*?)```\n)?", re.DOTALL)
_WORD = re.compile(r'    ([A-Z_]+) = "[a-z_]+"(?:  # (.*))?')


def made_parts() -> Mapping[str, Callable[[], str]]:
    """The parts by name."""
    return {
        "training table": lambda: markdown(TRAINING),
        "evaluation table": lambda: markdown(EVALUATION),
        "prediction table": lambda: markdown(PREDICTION),
        "callbacks": callbacks_table.table,
        "events": lambda: words("Event", "callbacks hear"),
        "guards": lambda: words("Guard", "a yes means"),
        "states": lambda: words("State", "what the run is doing"),
        "coming from, events": coming.events,
        "coming from, others": coming.others,
        "own loop": lambda: f"```diff\n{difference()}\n```",
        "speed": lambda: summary(read(JSON.read_text())),
        "hunt": lambda: f"{hunt.read()}.",
        "kit speed": lambda: kit.page(kit.read()),
        "callback costs": lambda: callback_costs.table(callback_costs.read()),
    }


def difference() -> str:
    """What makes a plain script one with an engine in it: the lines that differ, with those around them."""
    plain, own = ((ROOT / "examples" / f"{name}.py").read_text().splitlines() for name in ("plain_script", "own_loop"))
    lines = list(unified_diff(plain[1:], own[1:], n=2, lineterm=""))[2:]  # the first line of each says what it is
    return "\n".join("" if line.startswith("@@") else line.rstrip() for line in lines).strip("\n")


def words(kind: str, head: str) -> str:
    """The members of an enum with their comments, as a table."""
    source = (ROOT / "states" / "names.py").read_text()
    body = source.split(f"class {kind}(Enum):")[1].split("@unique")[0]
    rows = [f"| `{name.lower()}` | {comment} |" for name, comment in _WORD.findall(body)]
    return "\n".join([f"| {kind.lower()} | {head} |", "|---|---|", *rows])


def renewed(text: str) -> str:
    """A document with all its made parts made anew."""
    parts = made_parts()
    text = _MADE.sub(lambda match: f"{match[1]}\n{parts[match[2]]()}\n\n{match[3]}", text)
    namespace: dict[str, object] = {"__name__": "train"}
    return _CODE.sub(lambda match: _printed(match, namespace), text)


def _printed(match: re.Match[str], namespace: dict[str, object]) -> str:
    """A python block, run, with what it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(match["code"], "README.md", "exec"), namespace)  # noqa: S102  # our own documentation
    if match["text"] is None:
        assert not out.getvalue(), f"this block prints, and nothing shows it:\n{match['code']}"
        return match[0]
    return f"```python\n{match['code']}```\n{match['gap']}```text\n{out.getvalue().rstrip()}\n```\n"


def main() -> None:
    """Write every made part."""
    for path, machine in PICTURES.items():
        path.parent.mkdir(exist_ok=True)
        diagram(machine, "svg", path)
    for path in DOCUMENTS:
        path.write_text(renewed(path.read_text()))


if __name__ == "__main__":
    main()
