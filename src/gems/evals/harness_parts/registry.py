"""The harnesses by name, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType

from gems.errors import OptionError
from gems.evals.harness import Harness

HARNESSES = MappingProxyType(
    {
        "single": "single",
        "rewrite": "rewrite",
        "best-of-n": "best_of_n",
        "paper": "paper",
        "paper-no-memory": "paper_no_memory",
        "paper-no-skill": "paper_no_skill",
        "paper-loop": "paper_loop",
        "balanced": "balanced",
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
    found: Harness = import_module(f"gems.evals.harness_parts.{HARNESSES[name]}").HARNESS
    return found
