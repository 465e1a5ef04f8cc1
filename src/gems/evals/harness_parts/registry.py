"""The harnesses by name, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from gems.errors import OptionError
from gems.evals.harness import Harness

HARNESSES = MappingProxyType(
    {
        "single": "gems.evals.harness_parts.single",
        "rewrite": "gems.evals.harness_parts.rewrite",
        "best-of-n": "gems.evals.harness_parts.best_of_n",
        "paper": "gems.evals.harness_parts.paper",
        "paper-no-memory": "gems.evals.harnesses",
        "paper-no-skill": "gems.evals.harness_parts.paper_no_skill",
        "paper-loop": "gems.evals.harness_parts.paper_loop",
        "balanced": "gems.evals.harness_parts.balanced",
    }
)
"""Names and the modules that hold them as `HARNESS`."""


def harness(name: str) -> Harness:
    """The harness of this name.

    Raises:
        OptionError: there is none.
    """
    if name not in HARNESSES:
        raise OptionError(f"There is no harness {name!r}.", hint=f"Choose one of: {', '.join(HARNESSES)}.")
    found: Harness = import_module(HARNESSES[name]).HARNESS
    return found
