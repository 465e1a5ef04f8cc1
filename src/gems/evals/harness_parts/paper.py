"""`paper`: the paper's loop with memory within the run and with skills."""

from __future__ import annotations

from gems.evals.harness import Harness
from gems.options import RunOptions


def paper_options(images: int) -> RunOptions:
    """Return the options of the paper's loop: one image per round, no learning from other runs."""
    return {"profile": "paper", "max_rounds": images, "candidates": 1, "skills": "auto", "memory": False}


PAPER = Harness(
    name="paper",
    title="GEMS, as in the paper",
    description="The paper's loop: one round per image, experiences of earlier rounds, all skills.",
    options=paper_options,
)
