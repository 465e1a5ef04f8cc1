"""`paper-no-memory`: the paper's loop without its memory of earlier rounds.

The paper's memory is the history within a run: prompts, feedback, images and reasoning of earlier rounds, and
the experiences that summarize them. Without it the refiner gets only the feedback on the newest round: its
prompt, what passed and what failed. It gets no image, since the paper counts images as memory, and nothing
is summarized. Skills stay enabled, so that the difference to `paper` is the effect of memory.
"""

from __future__ import annotations

from functools import partial

from gems.errors import RefusedError, RejectedRequestError, UnreadableReplyError
from gems.evals.harness import Harness
from gems.evals.harness_parts.paper import paper_options
from gems.graphs.loop import build_graph
from gems.models.schemas import PromptReply
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.prompts import question
from gems.nodes.reflector import append_questions, failed_questions, round_slots
from gems.state import State

_REFINE_ATTEMPTS = 2
"""As in the loop."""


async def refine_newest(state: State, work: NodeContext) -> Update:
    """Write the next prompt from the feedback on the newest round alone."""
    turn, requirements = state["rounds"][-1], state["requirements"]
    if not failed_questions(turn, requirements):
        # As in the loop: without a known failure the same prompt is used again.
        return {"draw_prompt": turn["prompt"], "thought": ""}
    newest: State = {**state, "rounds": [turn], "experiences": [], "thought": ""}
    slots = round_slots(newest) | {"experience": ""}
    try:
        prompt = await _ask_new_prompt(slots, turn["prompt"], work)
    except (UnreadableReplyError, RefusedError, RejectedRequestError) as error:
        work.warn(f"No answer from the refiner; the failed requirements are appended to the prompt: {error}")
        prompt = ""
    return {"draw_prompt": prompt or append_questions(turn, requirements), "thought": ""}


async def _ask_new_prompt(slots: dict[str, str], last: str, work: NodeContext) -> str:
    """Return a prompt that differs from the last one; empty if the model does not write one."""
    for attempt in range(_REFINE_ATTEMPTS):
        reply = await work.ask(question("refine", slots, attempt=attempt))
        prompt = reply.form(PromptReply).prompt.strip()
        if prompt and prompt != last.strip():
            return prompt
    return ""


WITHOUT_MEMORY = partial(build_graph, instead={"reflector": refine_newest})

PAPER_NO_MEMORY = Harness(
    name="paper-no-memory",
    title="GEMS, without memory",
    description="The paper's loop with a refiner that sees only the feedback on the newest round.",
    options=paper_options,
    graph=WITHOUT_MEMORY,
)
