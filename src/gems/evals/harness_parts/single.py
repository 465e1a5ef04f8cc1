"""`single`: the prompt drawn once, as it is."""

from __future__ import annotations

from functools import partial

from gems.arguments import RunOptions
from gems.evals.harness import Harness
from gems.evals.harness_parts.plain import plan_nothing, require_nothing, take_as_it_is
from gems.graphs.loop import build_graph


def _options(_images: int) -> RunOptions:
    return {"max_rounds": 1, "candidates": 1, "skills": "none", "memory": False}


HARNESS = Harness(
    name="single",
    title="Single shot",
    about="The prompt is drawn once, as it is; no chat model is asked.",
    options=_options,
    graph=partial(
        build_graph,
        instead={"planner": plan_nothing, "decomposer": require_nothing, "judge": take_as_it_is},
    ),
    asks=False,
)
