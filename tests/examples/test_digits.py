"""Does the main job do what the README says?  The example, run as a user runs it."""

import csv
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path


ROOT = Path(__file__).parents[2]


def test_the_digits_are_learnt_and_the_files_are_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "digits.py", tmp_path / "left"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    left = tmp_path / "left"
    assert {path.name for path in left.iterdir()} == {"diagram.svg", "history.csv", "losses.png"}
    records = list(csv.DictReader((left / "history.csv").read_text().splitlines()))
    assert float(records[-1]["valid_accuracy"]) >= 0.97
    assert f"{float(records[-1]['valid_accuracy']):.1%}" in done.stdout
    assert "no_better" in ET.tostring(ET.parse(left / "diagram.svg").getroot(), encoding="unicode")
    assert (left / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert "\x1b" not in done.stdout + done.stderr
    assert "it/s" not in done.stderr
