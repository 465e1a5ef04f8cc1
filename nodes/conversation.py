"""Use chat messages as the prompt, and answer with the image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from gems.errors import PromptError
from gems.nodes.base import Update
from gems.state import Context, State
from gems.types import Answer, Round, answers_of

_TEXTS = ("text", "input_text")
_MAX_LISTED = 10
"""Number of requirements listed in an answer."""


def prompt_from_messages(state: State) -> Update:
    """Return the newest message's text as the prompt, unless this run was given a prompt as well.

    Raises PromptError if the message has an image or another part that is not text, which would be ignored.
    """
    messages = state.get("messages")
    if not messages:
        return {}
    prompt, before = state.get("prompt") or "", state.get("prompt_digest")
    # Values of a thread stay until they are overwritten, so the prompt may be an earlier run's.
    is_old = _digest(prompt) == before if before else bool(state.get("plan"))
    if is_unanswered(messages) and (not prompt or is_old):
        prompt = _read_text(messages[-1])
    return {"prompt": prompt, "prompt_digest": _digest(prompt)}


def _read_text(message: AnyMessage) -> str:
    parts = message.content if isinstance(message.content, list) else []
    kinds = [str(part.get("type")) for part in parts if isinstance(part, dict)]
    if other := next((kind for kind in kinds if kind not in _TEXTS), None):
        raise PromptError(
            f"The message has a part of type {other[:40]!r}, and only text is read here.",
            hint="Send text alone. To edit an image, use /v1/chat/completions or /runs of `gems serve`.",
        )
    return message.text


def is_unanswered(messages: Sequence[AnyMessage]) -> bool:
    """Return whether the last message is from a person."""
    return bool(messages) and messages[-1].type == "human"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def answer_update(state: State, found: dict[str, Any], rounds: Sequence[Round], context: Context) -> Update:
    """Return the message with a link to the best image, and its checklist; empty without an open question."""
    messages = state.get("messages") or []
    if not is_unanswered(messages):
        return {}
    best = next(turn for turn in rounds if turn["number"] == found["best_round"])
    text = format_answer(state, found, best, len(rounds))
    content: list[str | dict[str, Any]] = [{"type": "text", "text": text}]
    link = context.link(found["image"])
    if link is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": link}})
    facts = {"image": found["image"], "score": found["score"], "stop_reason": state.get("stop_reason")}
    return {"messages": [AIMessage(content=content, response_metadata=facts)]}


def format_answer(state: State, found: dict[str, Any], best: Round, rounds: int) -> str:
    """Format the checklist of the best round, unmet requirements first."""
    answers = answers_of(best)
    checked = [(item["question"], answers.get(item["id"])) for item in state["requirements"]]
    met = sum(answer is not None and answer["answer"] == "yes" for _, answer in checked)
    which = "1 round" if rounds == 1 else f"round {found['best_round']} of {rounds}"
    lines = [f"{met} of {len(checked)} requirements are met, after {which}."]
    checked.sort(key=lambda item: item[1] is not None and item[1]["answer"] == "yes")
    lines += [_format_line(question, answer) for question, answer in checked[:_MAX_LISTED]]
    if len(checked) > _MAX_LISTED:
        lines.append(f"- and {len(checked) - _MAX_LISTED} more")
    if failure := state.get("failure"):
        lines.append(f"It stopped early: {failure['message']}")
    return "\n".join(lines)


def _format_line(question: str, answer: Answer | None) -> str:
    if answer is None:
        return f"- unknown: {question}"
    why = f" ({answer['evidence'][:200]})" if answer["evidence"] and answer["answer"] != "yes" else ""
    return f"- {answer['answer']}: {question}{why}"
