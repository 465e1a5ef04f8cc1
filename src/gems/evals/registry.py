"""Benchmarks and harnesses by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from gems.errors import DataError, OptionError
from gems.evals.harnesses import Harness
from gems.evals.task import Task
from gems.settings import Settings

TASKS: dict[str, str] = {
    "geneval": "gems.evals.benchmarks.geneval:TASK",
    "geneval2": "gems.evals.benchmarks.geneval2:TASK",
    "dpg": "gems.evals.benchmarks.dpg:TASK",
    "oneig": "gems.evals.benchmarks.oneig:TASK",
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


HARNESSES = MappingProxyType(
    {
        "single": "gems.evals.harnesses:SINGLE",
        "rewrite": "gems.evals.harnesses:REWRITE",
        "best-of-n": "gems.evals.harnesses:BEST_OF_N",
        "paper": "gems.evals.harnesses:PAPER",
        "paper-no-memory": "gems.evals.harnesses:PAPER_NO_MEMORY",
        "paper-no-skill": "gems.evals.harnesses:PAPER_NO_SKILL",
        "paper-loop": "gems.evals.harnesses:PAPER_LOOP",
        "balanced": "gems.evals.harnesses:BALANCED",
    }
)
"""Module and attribute of each harness, by name."""


def load_harness(name: str) -> Harness:
    """Import and return the harness with this name.

    Raises:
        OptionError: no harness has this name.
    """
    if name not in HARNESSES:
        raise OptionError(f"Unknown harness: {name!r}.", hint=f"Choose one of: {', '.join(HARNESSES)}.")
    module, _, attribute = HARNESSES[name].partition(":")
    return cast("Harness", getattr(import_module(module), attribute))


def data_folder(settings: Settings, name: str) -> Path:
    """Return the default data folder of a benchmark."""
    return settings.home / "benchmarks" / name
