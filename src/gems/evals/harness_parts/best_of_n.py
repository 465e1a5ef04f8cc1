"""`best-of-n`: generate the prompt several times and keep the best image."""

from __future__ import annotations

from functools import partial

from gems.evals.harness import Harness
from gems.evals.harness_parts.plain import keep_prompt
from gems.graphs.loop import build_graph
from gems.options import MAX_CANDIDATES, RunOptions


def _best_of_n_options(images: int) -> RunOptions:
    # As in the paper's search: one question per requirement, asked once.
    return {"profile": "paper", "max_rounds": 1, "candidates": images, "skills": "none", "memory": False}


BEST_OF_N = Harness(
    name="best-of-n",
    title="Best of N",
    description="The prompt is generated N times with different seeds; the judge picks the best image.",
    options=_best_of_n_options,
    graph=partial(build_graph, instead={"planner": keep_prompt}),
    most_images=MAX_CANDIDATES,
)
