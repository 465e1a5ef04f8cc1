"""Start a run: check the request, complete its options, clear an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.types import Overwrite

from gems.generation import editing_size
from gems.nodes.base import Update
from gems.nodes.context import NodeContext
from gems.nodes.conversation import load_picture, prompt_update, read_turns
from gems.nodes.follow_up import Intent, Turn, read_intent
from gems.options import OPTIONS, check_editing, check_prompt, resolve_options
from gems.state import State
from gems.types import Options


async def begin(state: State, work: NodeContext) -> Update:
    """Check the request before anything is paid for; of a conversation, read what its newest message asks for."""
    turns = read_turns(state)
    prompt = check_prompt(turns[-1].text if turns else state.get("prompt"))
    options = await _options(state, work)
    if turns:
        intent = await _read_intent(turns, options, work)
        prompt = check_prompt(intent.prompt)
        if intent.picture is not None:
            options = await _options_to_edit(intent.picture, state, work)
    update: Update = {"options": options}
    if state.get("messages"):
        update |= prompt_update(prompt)
    if not state.get("plan"):
        return update
    # As an update of their own, this run's warnings would be added to those of the earlier run.
    warnings, work.warnings = work.warnings, []
    return update | reset_update(warnings)


async def _options(state: State, work: NodeContext) -> Options:
    """Return the options that the service has resolved; resolve them if the graph runs without it."""
    row = await work.context.ledger.run(state["run_id"]) if "run_id" in state else None
    return row["options"] if row else resolve_options(_given_options(state), work.context)


def _given_options(state: State) -> dict[str, Any]:
    """Return the options in the state, which has other values by names that options of the service have."""
    return {name: value for name, value in state.items() if name in OPTIONS}


async def _read_intent(turns: Sequence[Turn], options: Options, work: NodeContext) -> Intent:
    """Return what the newest message asks for, as a question of this run, and warn about what could not be told."""
    # Until now the models and limits were those of an earlier run on the thread.
    work.use_options(options)
    if turns[-1].pictures:
        check_editing(work.context.generator.capabilities)
    work.check_limits()
    work.round = 1
    intent = await read_intent(turns, work)
    if intent.warning:
        work.warn(intent.warning)
    return intent


async def _options_to_edit(picture: str, state: State, work: NodeContext) -> Options:
    """Return the options of a run that edits a picture, by default in its own size, as the service resolves them."""
    source, (width, height) = await load_picture(picture, work.context.images)
    given = _given_options(state)
    size = given.get("size") or editing_size(width, height, work.context.generator.capabilities)
    return resolve_options({**given, "source": source, "size": size}, work.context)


def reset_update(warnings: Sequence[str]) -> Update:
    """Return the update that clears what an earlier run on the same thread left, and has this run's warnings.

    Without it the second prompt of a thread would be answered with the first one's image. Usage is kept,
    since it belongs to the thread, and so is what its images can be named by.
    """
    return {
        "rounds": Overwrite([]),
        "experiences": Overwrite([]),
        "recalls": Overwrite([]),
        "warnings": Overwrite(list(warnings)),
        "step": None,
        "instruction": "",
        "drawn": [],
        "skill_uses": [],
        "generation_overrides": {},
        "judge_reasoning": "",
        "stop_reason": None,
        "failure": None,
    }
