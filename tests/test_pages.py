"""Every command of the pages in docs/ runs, in order, in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ["skills.md"]
# Generated from the programs themselves, and checked elsewhere.
GENERATED = {"cli.md", "json.md"}


def test_no_page_is_left_out() -> None:
    assert {path.name for path in DOCS.glob("*.md")} == {*PAGES, *GENERATED}


@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```sh\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert blocks
    # 3 only says that something is not as it should be, as it may be with the built-in world's rules.
    script = "\n".join(
        [
            "set -euo pipefail",
            'gems() { command gems "$@" || { code=$?; [ $code -eq 3 ] || return $code; }; }',
            *blocks,
        ]
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=os.environ | {"PATH": path},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Two Faults" in done.stdout
    assert "exit code 1" in done.stdout
