"""Benchmarks by name, imported on demand."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from gems.errors import DataError, OptionError
from gems.evals.task import Task

TASKS: dict[str, str] = {
    "geneval": "gems.evals.benchmarks.geneval:TASK",
    "geneval2": "gems.evals.benchmarks.geneval2:TASK",
    "dpg": "gems.evals.benchmarks.dpg:TASK",
    "oneig": "gems.evals.tasks.oneig:TASK",
    "wise": "gems.evals.benchmarks.wise:TASK",
    "longtext": "gems.evals.benchmarks.longtext:TASK",
    "spatial": "gems.evals.benchmarks.spatialgeneval:TASK",
    "crea": "gems.evals.benchmarks.crea:TASK",
    "artimuse": "gems.evals.benchmarks.artimuse:TASK",
    "blocks-bench": "gems.evals.benchmarks.blocks_bench:TASK",
}
"""Module and attribute of each task, by name."""

_UNSUPPORTED = {
    "wise-verified": "WISE_Verified of April 2026 is not supported: it has other prompts and ids, and its "
    "judge answers yes or no, so that its scores are not those of WISE.",
}


def load_task(name: str) -> Task:
    """Import and return the benchmark with this name.

    Raises:
        OptionError: no benchmark has this name.
        DataError: this edition is not supported.
    """
    known = name.strip().lower().replace("_", "-")
    if known in _UNSUPPORTED:
        raise DataError(_UNSUPPORTED[known], hint="Use `wise` with the files of 2025.")
    if known not in TASKS:
        raise OptionError(f"Unknown benchmark: {name!r}.", hint=f"Choose one of: {', '.join(TASKS)}.")
    module, _, attribute = TASKS[known].partition(":")
    return cast("Task", getattr(import_module(module), attribute))
