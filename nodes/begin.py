"""The beginning of a run: the request checked, its options made complete, an earlier run forgotten."""

from __future__ import annotations

from langgraph.types import Overwrite

from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.conversation import prompt_from_messages
from gems.options import check_prompt, resolve_options
from gems.state import State


async def begin(state: State, work: NodeContext) -> Update:
    """Check everything that can be known to be wrong before anything is paid for."""
    said = prompt_from_messages(state)
    check_prompt(said.get("prompt", state.get("prompt")))
    update: Update = {"options": resolve_options(state, work.context)} | said
    return update | reset_update() if state.get("plan") else update


def reset_update() -> Update:
    """The update that empties what an earlier run on the same thread left.

    Without it a thread's second prompt would be handed the first one's picture. What was consumed stays,
    since it belongs to the thread.
    """
    return {
        "rounds": Overwrite([]),
        "experiences": Overwrite([]),
        "recalls": Overwrite([]),
        "warnings": Overwrite([]),
        "drawn": [],
        "skill_uses": [],
        "drawing": {},
        "thought": "",
        "stop_reason": None,
        "failure": None,
    }
