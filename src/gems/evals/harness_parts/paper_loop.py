"""`paper-loop`: the paper's loop without memory and skills, the first step of its ablation."""

from __future__ import annotations

from gems.evals.harness import Harness
from gems.evals.harness_parts.paper import paper_options
from gems.evals.harnesses import WITHOUT_MEMORY
from gems.options import RunOptions


def _paper_loop_options(images: int) -> RunOptions:
    return {**paper_options(images), "skills": "none"}


PAPER_LOOP = Harness(
    name="paper-loop",
    title="GEMS, the loop alone",
    description="The paper's loop with neither memory nor skills.",
    options=_paper_loop_options,
    graph=WITHOUT_MEMORY,
)
