"""Benchmarks by name, and their data folders."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import cast

from gems.errors import DataError, OptionError
from gems.evals.task import Task
from gems.settings import Settings

TASKS = {
    "geneval": "geneval",
    "geneval2": "geneval2",
    "dpg": "dpg",
    "oneig": "oneig",
    "wise": "wise",
    "longtext": "longtext",
    "spatial": "spatialgeneval",
    "crea": "crea",
    "artimuse": "artimuse",
    "blocks-bench": "blocks_bench",
}
"""Module in `gems.evals.benchmarks` of each task, by name."""

_UNSUPPORTED = {
    "wise-verified": "WISE_Verified of April 2026 is not supported: it has other prompts and ids, and its "
    "judge answers yes or no, so that its scores are not those of WISE."
}


def load_task(name: str) -> Task:
    """Import and return the benchmark with this name.

    Raises `OptionError` for an unknown name, `DataError` for an unsupported edition.
    """
    known = name.strip().lower().replace("_", "-")
    if known in _UNSUPPORTED:
        raise DataError(_UNSUPPORTED[known], hint="Use `wise` with the files of 2025.")
    if known not in TASKS:
        raise OptionError(f"Unknown benchmark: {name!r}.", hint=f"Choose one of: {', '.join(TASKS)}.")
    return cast("Task", import_module(f"gems.evals.benchmarks.{TASKS[known]}").TASK)


def data_folder(settings: Settings, name: str) -> Path:
    """Return the default data folder of a benchmark."""
    return settings.home / "benchmarks" / name
