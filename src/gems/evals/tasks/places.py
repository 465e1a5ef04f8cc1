"""Where the data of benchmarks lie."""

from __future__ import annotations

from pathlib import Path

from gems.settings import Settings


def data_folder(settings: Settings, name: str, data: Path | None = None) -> Path:
    """The folder of a benchmark's files.

    Args:
        settings: Know the home.
        name: The task's name.
        data: The folder that holds a folder for each benchmark; `benchmarks` in the home by default.
    """
    return (data if data is not None else settings.home / "benchmarks").expanduser() / name
