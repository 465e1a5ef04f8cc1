"""The generated pages are up to date, and the same wherever they are made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_docs.py"


def made(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_pages_are_up_to_date() -> None:
    done = made("--check")
    assert done.returncode == 0, done.stderr


def test_stale_pages_are_noticed(tmp_path: Path) -> None:
    odd = {"COLUMNS": "40", "GITHUB_ACTIONS": "true", "FORCE_COLOR": "1", "TERMINAL_WIDTH": "33"}
    folder = ["--folder", str(tmp_path / "docs")]
    assert made("--check", *folder).returncode == 1
    assert made(*folder, **odd).returncode == 0
    assert made("--check", *folder).returncode == 0
    page = tmp_path / "docs" / "cli.md"
    assert page.read_text() == (SCRIPT.parents[1] / "docs" / "cli.md").read_text()
    page.write_text(page.read_text().replace("gems doctor", "gems medic"))
    done = made("--check", *folder)
    assert done.returncode == 1
    assert "cli.md is stale" in done.stderr
    assert "json.md" not in done.stderr
