"""`single`: generate the unchanged prompt once."""

from __future__ import annotations

from functools import partial

from gems.evals.harness import Harness
from gems.evals.harness_parts.plain import accept_image, keep_prompt, skip_requirements
from gems.graphs.loop import build_graph
from gems.options import RunOptions


def _single_options(_images: int) -> RunOptions:
    return {"max_rounds": 1, "candidates": 1, "skills": "none", "memory": False}


SINGLE = Harness(
    name="single",
    title="Single shot",
    description="One image is generated from the unchanged prompt, without a chat model.",
    options=_single_options,
    graph=partial(
        build_graph,
        instead={"planner": keep_prompt, "decomposer": skip_requirements, "judge": accept_image},
    ),
    uses_chat=False,
)
