"""Results of benchmarks as files: what was measured, where, and of which version."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def write(path: Path, name: str, tables: dict[str, Any]) -> None:
    """Write the tables of the benchmark `name` as JSON, with the machine they were measured on.

    Of the machine only its processor and Python are named, never the machine itself.
    """
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],  # noqa: S607 - whichever git
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    measured = {
        "benchmark": name,
        "commit": commit.stdout.strip() or None,
        "python": platform.python_version(),
        "machine": {"cpu": _processor(), "cores": os.cpu_count()},
        "tables": tables,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(measured, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _processor() -> str:
    """The processor's name, as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
