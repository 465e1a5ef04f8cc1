"""`best-of-n`: the prompt drawn as often as the images allow, and the best of them kept."""

from __future__ import annotations

from functools import partial

from gems.arguments import RunOptions
from gems.evals.harness import Harness
from gems.evals.harness_parts.plain import MOST_CANDIDATES, keep_prompt
from gems.graphs.loop import build_graph


def _best_of_n_options(images: int) -> RunOptions:
    # The paper's judge, as in the paper's search: each requirement is a question of its own, asked once.
    return {"profile": "paper", "max_rounds": 1, "candidates": images, "skills": "none", "memory": False}


BEST_OF_N = Harness(
    name="best-of-n",
    title="Best of N",
    about="The prompt is drawn N times with different seeds; a judge picks the image that meets most of it.",
    options=_best_of_n_options,
    graph=partial(build_graph, instead={"planner": keep_prompt}),
    most_images=MOST_CANDIDATES,
)
