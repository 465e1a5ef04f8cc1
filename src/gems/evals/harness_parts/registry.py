"""Harnesses by name, imported on demand."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import cast

from gems.errors import OptionError
from gems.evals.harnesses import Harness

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
