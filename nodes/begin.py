"""Start a run: check the request, complete its options, clear an earlier run."""

from __future__ import annotations

from langgraph.types import Overwrite

from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.conversation import prompt_from_messages
from gems.options import check_prompt, resolve_options
from gems.state import State
from gems.types import Options


async def begin(state: State, work: NodeContext) -> Update:
    """Check the request before anything is paid for."""
    said = prompt_from_messages(state)
    check_prompt(said.get("prompt", state.get("prompt")))
    update: Update = {"options": await _options(state, work)} | said
    return update | reset_update() if state.get("plan") else update


async def _options(state: State, work: NodeContext) -> Options:
    """Return the options that the service has resolved; resolve them if the graph runs without it."""
    row = await work.context.ledger.run(state["run_id"]) if "run_id" in state else None
    return row["options"] if row else resolve_options(state, work.context)


def reset_update() -> Update:
    """Return the update that clears what an earlier run on the same thread left.

    Without it the second prompt of a thread would be answered with the first one's image. Usage is kept,
    since it belongs to the thread.
    """
    return {
        "rounds": Overwrite([]),
        "experiences": Overwrite([]),
        "recalls": Overwrite([]),
        "warnings": Overwrite([]),
        "step": None,
        "instruction": "",
        "drawn": [],
        "skill_uses": [],
        "generation_overrides": {},
        "judge_reasoning": "",
        "stop_reason": None,
        "failure": None,
    }
