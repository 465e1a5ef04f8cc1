"""Conversations: a message of a person asks for a picture, and the answer shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage

from gems.nodes.base import Update
from gems.state import Context, State
from gems.types import Answer, Round

_MAX_LISTED = 10
"""Requirements that an answer names; more would be no answer but a table."""


def prompt_from_messages(state: State) -> Update:
    """What to draw where messages came: the newest one's text, unless this run was given a prompt as well."""
    messages = state.get("messages")
    if not messages:
        return {}
    prompt = state.get("prompt") or ""
    if is_unanswered(messages) and (not prompt or _is_from_earlier_run(prompt, state)):
        prompt = messages[-1].text
    return {"prompt": prompt, "heard": _digest(prompt)}


def is_unanswered(messages: Sequence[AnyMessage]) -> bool:
    """Whether the last word is a person's."""
    return bool(messages) and messages[-1].type == "human"


def _is_from_earlier_run(prompt: str, state: State) -> bool:
    """Whether the prompt is an earlier run's; a thread's values stay until they are written anew."""
    before = state.get("heard")
    return _digest(prompt) == before if before else bool(state.get("plan"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def answer_update(state: State, found: dict[str, Any], rounds: Sequence[Round], context: Context) -> Update:
    """The message that shows the best image and says what it has and lacks; nothing where nobody wrote.

    It holds a link and never the picture, which would be kept again in the thread's checkpoints.

    Args:
        state: The run's.
        found: Its outcome.
        rounds: All of them.
        context: Knows links.
    """
    messages = state.get("messages") or []
    if not is_unanswered(messages):
        return {}
    best = next(turn for turn in rounds if turn["number"] == found["best_round"])
    content: list[str | dict[str, Any]] = [
        {"type": "text", "text": format_answer(state, found, best, len(rounds))}
    ]
    link = context.link(found["image"])
    if link is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": link}})
    facts = {"image": found["image"], "score": found["score"], "stop_reason": state.get("stop_reason")}
    return {"messages": [AIMessage(content=content, response_metadata=facts)]}


def format_answer(state: State, found: dict[str, Any], best: Round, rounds: int) -> str:
    """The checklist of the best round in words, what is not met first."""
    answers = {answer["requirement"]: answer for answer in best["verdicts"][best["best"]]["answers"]}
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
