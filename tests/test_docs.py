"""Is the documentation true?  Its code runs, its output, tables and pictures are those of the machine."""

import re
from pathlib import Path

import pytest

from states import TRAINING, Event, Guard, diagram
from states.names import name_of
from tests.docs import DOCUMENTS, PICTURES, ROOT, renewed


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_shows_what_its_code_prints_and_what_the_table_says(path: Path) -> None:
    """When this fails: `make docs`, and read the difference."""
    assert renewed(path.read_text()) == path.read_text()


def labels(svg: str) -> list[str]:
    """The texts of a picture: its layout depends on the fonts of the machine, its words do not."""
    return sorted(re.findall(r"<text[^>]*>(.*?)</text>", svg))


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_every_picture_shows_the_rows_of_its_machine(path: Path) -> None:
    made = diagram(PICTURES[path], "svg")
    assert isinstance(made, str)
    assert len(labels(made)) > len(PICTURES[path].rows)
    assert labels(path.read_text()) == labels(made)


def test_the_readme_names_every_event_and_every_guard() -> None:
    text = (ROOT / "README.md").read_text()
    assert all(f"`{name_of(word)}`" in text for word in (*Event, *Guard))


def test_the_readme_counts_the_rows_of_the_table() -> None:
    assert f"one table of {len(TRAINING.rows)} rows" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)|src=\"([^\":]+)\"", path.read_text())
    assert links
    assert all((path.parent / (link or image)).exists() for link, image in links)
