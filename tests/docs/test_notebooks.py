"""The notebooks run in real kernels, and what is kept of them can be shown to anybody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from scripts.run_notebooks import NOTEBOOKS, executed, faults_of

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
PNG = "iVBORw0KGgo="


def test_there_are_five() -> None:
    assert [path.stem for path in PATHS] == ["own_graph", "quickstart", "skills", "training", "trajectory"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path) -> None:
    """In a kernel of its own; what it then puts out could be kept."""
    made = tmp_path / path.name
    nbformat.write(executed(path), made)
    assert list(faults_of(made)) == []
    shown = [output for cell in nbformat.read(made, 4).cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_is_kept_can_be_shown(path: Path) -> None:
    assert list(faults_of(path)) == []


def notebook(folder: Path, source: str, *outputs: dict[str, Any]) -> Path:
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    cell.outputs = [nbformat.v4.new_output(**output) for output in outputs]
    path = folder / "made.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ({"output_type": "stream", "name": "stdout", "text": "see /home/me/x.png"}, "/home/me/x.png"),
        ({"output_type": "stream", "name": "stdout", "text": "'/tmp/x'"}, "/tmp/x"),
        ({"output_type": "stream", "name": "stdout", "text": r"C:\Users"}, r"C:\Users"),
        ({"output_type": "display_data", "data": {"text/html": "<i>/root/x</i>"}}, "/root/x"),
        ({"output_type": "stream", "name": "stderr", "text": "oh"}, "went wrong: oh"),
        ({"output_type": "error", "ename": "LookupError", "evalue": "", "traceback": []}, "LookupError"),
        ({"output_type": "stream", "name": "stdout", "text": "https://host/home/x 1/2"}, ""),
        ({"output_type": "display_data", "data": {"image/png": PNG + "/tmp/x"}}, ""),
        ({"output_type": "display_data", "data": {"text/html": f"data:image/png;base64,{PNG}/tmp/x"}}, ""),
        ({"output_type": "stream", "name": "stdout", "text": "x" * 1_000_001}, "larger than"),
    ],
)
def test_faults_are_found(output: dict[str, Any], fault: str, tmp_path: Path) -> None:
    found = list(faults_of(notebook(tmp_path, "1", output)))
    assert bool(found) == bool(fault)
    assert all(fault in each for each in found)


def test_a_cell_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="LookupError"):
        executed(notebook(tmp_path, "raise LookupError"))


def test_check_writes_nothing() -> None:
    path = NOTEBOOKS / "quickstart.ipynb"
    before = path.read_bytes()
    script = NOTEBOOKS.parent / "scripts" / "run_notebooks.py"
    command = (sys.executable, str(script), "--check", "quickstart")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "1 notebooks run.\n"), done.stderr
    assert path.read_bytes() == before
