"""`paper-no-skill`: the paper's loop with memory and without skills."""

from __future__ import annotations

from gems.evals.harness import Harness
from gems.evals.harness_parts.paper import paper_options
from gems.options import RunOptions


def _paper_no_skill_options(images: int) -> RunOptions:
    return {**paper_options(images), "skills": "none"}


PAPER_NO_SKILL = Harness(
    name="paper-no-skill",
    title="GEMS, without skills",
    description="The paper's loop with experiences of earlier rounds, without skills.",
    options=_paper_no_skill_options,
)
