"""`balanced`: the loop with its default options."""

from __future__ import annotations

from gems.evals.harness import Harness
from gems.options import RunOptions


def _balanced_options(images: int) -> RunOptions:
    return {"profile": "balanced", "max_rounds": images, "candidates": 1, "skills": "auto", "memory": False}


BALANCED = Harness(
    name="balanced",
    title="GEMS, balanced",
    description="The loop with its defaults: one checklist, confirmation, experiences, all skills.",
    options=_balanced_options,
    can_learn=True,
)
