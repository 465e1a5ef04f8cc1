"""Read what a chat model replied: where the answer stands, whether it is whole, and what it says."""

from __future__ import annotations

import json
import re
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from gems.errors import RefusedError, TruncatedReplyError, UnreadableReplyError
from gems.models.chat.answers import read_answer
from gems.models.chat.messages import ChatReply, Question
from gems.models.chat.parsing import FoundValue, read_json_in_place, replace_surrogates
from gems.models.chat.probabilities import first_token, yes_probabilities, yes_probability
from gems.models.chat.schemas import ChecklistReply
from gems.models.chat.thought import split_thought
from gems.observability.redaction import hide, redact, shorten
from gems.types import NO_USAGE

_TRUNCATED = re.compile(r"length|max_?tokens|context_window", re.IGNORECASE)
_REFUSED = re.compile(r"content_?filter|refusal|safety|prohibited|recitation|blocklist|spii|sensitive", re.IGNORECASE)
_BROKEN = re.compile(
    r"error|abort|cancel|insufficient|interrupt|time_?out|malformed|overload|unavailable|fail", re.IGNORECASE
)
"""Words in finish reasons of OpenRouter, SGLang, vLLM, DeepSeek, Zhipu, Mistral, Gemini and others. A reason that a
server says twice is joined to one word."""
_COMPLETE = ("stop", "STOP", "end_turn", "stop_sequence")
_CHARACTERS_PER_TOKEN = 4
_SHORT_ANSWER = 300
"""Characters; a longer text in the place of the reasoning is a thought."""


def read_reply(
    message: AIMessage, question: Question, name: str, secrets: tuple[str, ...], *, is_streamed: bool = False
) -> ChatReply:
    """Separate the answer in `message` from the thought, and parse it by the question's form.

    Raises:
        RefusedError: The model or a filter refused.
        TruncatedReplyError: It was cut off at the token limit.
        UnreadableReplyError: There is no answer, or none in the form.
    """
    about: dict[str, Any] = message.response_metadata
    finish = about.get("finish_reason") or about.get("stop_reason") or about.get("done_reason")
    # Gemini answers nothing but this where it blocks a prompt.
    feedback = about.get("prompt_feedback") or {}
    refusal = message.additional_kwargs.get("refusal") or feedback.get("block_reason")
    reason = str(finish or "")
    if _REFUSED.search(reason) or refusal:
        words = f": {shorten(redact(str(refusal), *secrets))}" if refusal else "."
        raise RefusedError(f"{name} refused to answer{words}")
    # If the endpoint or a proxy repeats the key in a reply, it must not be stored with the run.
    reasoning = _reasoning_of(message)
    inline_thought, text = split_thought(hide(replace_surrogates(str(message.text)), *secrets))
    thought = hide(replace_surrogates(reasoning or inline_thought), *secrets)
    logprobs = about.get("logprobs")
    first = first_token(logprobs)
    one_token = question.max_tokens == 1
    if _TRUNCATED.search(reason) and not one_token:
        written = message.usage_metadata["output_tokens"] if message.usage_metadata else 0
        raise TruncatedReplyError(
            f"{name} was cut off at its token limit{_beginning(text or thought)}",
            limit=written or estimate_tokens(message) or None,
        )
    if _BROKEN.search(reason):
        raise UnreadableReplyError(
            f"{name} broke off its reply with the reason {shorten(redact(reason, *secrets))!r}{_beginning(text)}"
        )
    if not text:
        text = _answer_elsewhere(message, question, inline_thought, reasoning, finish)
    # A single token may be blank although its alternatives are words.
    if not text and not (first and one_token):
        raise UnreadableReplyError(f"{name} sent an empty reply{_beginning(thought)}")
    if is_streamed and finish is None and not one_token:
        raise UnreadableReplyError(f"{name} ended its stream without saying that the reply is complete.")
    try:
        parsed, place = _parse(text, question)
    except UnreadableReplyError as error:
        raise UnreadableReplyError(f"{name}: {redact(error.message, *secrets)}") from None
    return ChatReply(
        text=text,
        thought="" if text == thought else thought,
        parsed=parsed,
        yes_probability=yes_probability(logprobs) if question.reply is None else None,
        usage=NO_USAGE,
        first_token=first,
        yes_probabilities=(
            yes_probabilities(text, place, parsed.answers, logprobs)
            if logprobs and place is not None and isinstance(parsed, ChecklistReply)
            else ()
        ),
    )


def _parse(text: str, question: Question) -> tuple[BaseModel | None, FoundValue | None]:
    return (None, None) if question.reply is None else read_json_in_place(text, question.reply)


def count_characters(message: BaseMessage) -> int:
    """Return the characters of a message's texts and thoughts, of its refusal and of arguments of tools."""
    parts = message.content if isinstance(message.content, list) else [message.content]
    names = ("text", "thinking", "reasoning")
    texts = [text for part in parts for text in (map(part.get, names) if isinstance(part, dict) else (part,))]
    texts += [message.additional_kwargs.get(name) for name in ("reasoning_content", "refusal")]
    texts += [call.get("args") for call in getattr(message, "tool_call_chunks", ())]
    return sum(len(text) for text in texts if isinstance(text, str))


def estimate_tokens(message: BaseMessage) -> int:
    """Return about how many tokens a message has; for endpoints that do not count them."""
    return count_characters(message) // _CHARACTERS_PER_TOKEN


def _beginning(text: str) -> str:
    return f", after {text[:120]!r}." if text else "."


def _reasoning_of(message: AIMessage) -> str:
    """Return the reasoning that stands beside the content."""
    beside = message.additional_kwargs.get("reasoning_content") or message.additional_kwargs.get("reasoning")
    if isinstance(beside, str):
        return beside
    parts = message.content if isinstance(message.content, list) else []
    texts = [part.get("thinking") or part.get("reasoning") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _answer_elsewhere(message: AIMessage, question: Question, inline: str, reasoning: str, finish: Any) -> str:
    """Return the answer of a message without text: of a tool call, or of the reasoning if it is nothing else.

    Servers that constrain the reply while the model thinks put all of it into the reasoning. A draft within a thought
    is no answer, so the JSON must stand at its end.
    """
    if message.tool_calls:
        return json.dumps(message.tool_calls[-1]["args"], ensure_ascii=False)
    if inline or finish not in _COMPLETE:
        return ""
    _, text = split_thought(reasoning)
    if question.reply is None:
        is_answer = question.task == "verify" and len(text) <= _SHORT_ANSWER and read_answer(text)[0] != "unknown"
        return text if is_answer else ""
    return text if text.rstrip("` \t\r\n").endswith(("}", "]")) else ""
