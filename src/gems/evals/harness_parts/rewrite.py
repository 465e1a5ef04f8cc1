"""`rewrite`: rewrite the prompt once with the chat model, then generate once."""

from __future__ import annotations

from functools import partial

from gems.evals.harness import Harness
from gems.evals.harness_parts.plain import accept_image, plan_update, skip_requirements
from gems.graphs.loop import build_graph
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.rewrite import enhance
from gems.options import RunOptions
from gems.state import State

REWRITE_GUIDANCE = (
    "Rewrite the prompt so that nothing in it is left to chance. Say how many of each thing there are and "
    "what it looks like, place things relative to each other, and quote lettering exactly. Then add in a few "
    "words what the prompt leaves open: setting, light, material, style."
)
"""Takes the place of a skill's guidance."""


async def rewrite_prompt(state: State, work: NodeContext) -> Update:
    """Rewrite the user's prompt with the chat model, without a skill."""
    prompt = await enhance(state["prompt"], REWRITE_GUIDANCE, work)
    return plan_update(prompt, "The harness rewrites the prompt once.", work)


def _rewrite_options(_images: int) -> RunOptions:
    return {"max_rounds": 1, "candidates": 1, "skills": "none", "memory": False}


REWRITE = Harness(
    name="rewrite",
    title="Rewritten prompt",
    description="The chat model rewrites the prompt once; one image is generated from it and not judged.",
    options=_rewrite_options,
    graph=partial(
        build_graph,
        instead={"planner": rewrite_prompt, "decomposer": skip_requirements, "judge": accept_image},
    ),
)
