"""Every command and program of the pages in docs/ runs, in order, in one shell and one home."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
# What must be read in what each page's commands print.
PAGES = {
    "benchmarks.md": ["licence: Apache-2.0", '"task": "crea"'],
    "cluster.md": ["the same pixels", "| 4 | 8 | ", "2 of 2 prompts done", "stars.png"],
    "evals.md": [
        "blocks-bench/atomicity/3",
        "balanced against single",
        "evaluation.py",
        "Table 2: downstream",
    ],
    "generators.md": ["images/s"],
    "policy.md": ["paper's loop"],
    "security.md": ["ann"],
    "serving.md": ['"is_ready": true', "event: finished", "generate_image", "passed"],
    "skills.md": ["Two Faults", "exit code 1"],
}
# Generated from the programs themselves, and checked elsewhere.
GENERATED = {"cli.md", "json.md"}
# 3 only says that something is not as it should be, as it may be with the built-in world's rules.
# A server is the shell's own child, so that it can be stopped as the page says.
_SHELL = """set -euo pipefail
trap 'jobs -p | xargs -r kill' EXIT
gems() {
    [ "$1" != serve ] || exec gems "$@"
    command gems "$@" || { code=$?; [ $code -eq 3 ] || return $code; }
}
"""


def test_no_page_is_left_out() -> None:
    assert {path.name for path in DOCS.glob("*.md")} == {*PAGES, *GENERATED}


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str, tmp_path: Path) -> None:
    script = script_of((DOCS / page).read_text(encoding="utf-8"))
    if "curl" in script and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    # Pages name the benchmarks as they lie in a clone.
    (tmp_path / "benchmarks").symlink_to(DOCS.parent / "benchmarks")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    done = subprocess.run(
        ["bash", "-c", script.replace("8765", port)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=os.environ | {"PATH": path, "GEMS_SERVE__PORT": port},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for wanted in PAGES[page]:
        assert wanted in done.stdout


def script_of(page: str) -> str:
    """The shell and Python blocks of a page as one script."""
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert blocks
    return _SHELL + "\n".join(
        block if language == "sh" else f"python - <<'PROGRAM'\n{block}PROGRAM" for language, block in blocks
    )


def test_what_the_page_on_security_names_is_there() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+/[\w.]+\.py)`", text))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (DOCS.parent / path).is_file()] == []
    modules = {path.name for path in (DOCS.parent / "tests" / "security").glob("test_*.py")}
    assert [name for name in sorted(modules) if f"tests/security/{name}" not in text] == []


def test_the_page_on_security_knows_the_pins() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    pins = (DOCS.parent / "constraints.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in pins.lower().splitlines() if "==" in line and line[0] != "#")
    rows = re.findall(r"^\| ([\w-]+) \| .* \| ([\d.]*) \| ([\d.]+) \|", text, re.MULTILINE)
    assert len(rows) > 15
    for package, mended, pin in rows:
        assert pinned[package] == pin
        assert not mended or Version(pin) >= Version(mended)


def test_the_page_on_clusters_holds_the_table_that_follows_from_what_was_measured() -> None:
    page = (DOCS / "cluster.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^python (-m benchmarks\.sizing .*)$", page, re.MULTILINE)
    made = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    ).stdout
    assert made in page, "Put what the command prints into docs/cluster.md."
    assert made.count("\n") == 2 + 12
