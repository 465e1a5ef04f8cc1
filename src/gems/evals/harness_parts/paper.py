"""`paper`: the paper's loop, with its memory within the run and with skills."""

from __future__ import annotations

from gems.arguments import RunOptions
from gems.evals.harness import Harness


def paper_options(images: int) -> RunOptions:
    """A run of the paper's loop: an image a round, and nothing learnt from other runs."""
    return {"profile": "paper", "max_rounds": images, "candidates": 1, "skills": "auto", "memory": False}


PAPER = Harness(
    name="paper",
    title="GEMS, as in the paper",
    about="The paper's loop: a round for each image, experiences of earlier rounds, all skills.",
    options=paper_options,
)
