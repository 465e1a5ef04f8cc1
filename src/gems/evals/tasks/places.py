"""Where the data of benchmarks lie."""

from __future__ import annotations

from pathlib import Path

from gems.settings import Settings


def data_folder(settings: Settings, name: str) -> Path:
    """The folder of a benchmark's files where no other one is named.

    Args:
        settings: Know the home.
        name: The task's name.
    """
    return settings.home / "benchmarks" / name
