"""The data folders of benchmarks."""

from __future__ import annotations

from pathlib import Path

from gems.settings import Settings


def data_folder(settings: Settings, name: str) -> Path:
    """Return the default data folder of a benchmark."""
    return settings.home / "benchmarks" / name
