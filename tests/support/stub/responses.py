"""Answers in the shapes that OpenAI-compatible servers give them."""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_QUOTED_VERDICT = re.compile('"(?:yes|no)"')


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chat model says.

    Attributes:
        content: The text; None for null.
        reasoning: Sent as `reasoning_content` where given.
        finish_reason: `stop`, `length` or `content_filter`.
        refusal: Sent as `refusal` where given.
        usage: Input and output tokens; counted by length where None.
        sure: Probability of each yes or no that it says, where probabilities are given.
    """

    content: str | None
    reasoning: str | None = None
    finish_reason: str = "stop"
    refusal: str | None = None
    usage: tuple[int, int] | None = None
    sure: float = 0.95


def count_images(body: dict[str, Any]) -> int:
    """Images in a chat request."""
    parts = (
        part
        for message in body.get("messages", [])
        if isinstance(message.get("content"), list)
        for part in message["content"]
    )
    return sum(part.get("type") == "image_url" for part in parts)


def completion(body: dict[str, Any], answer: Answer, *, logprobs: bool) -> dict[str, Any]:
    """A chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.content}
    if answer.reasoning is not None:
        message["reasoning_content"] = answer.reasoning
    if answer.refusal is not None:
        message["refusal"] = answer.refusal
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": answer.finish_reason}
    if logprobs and body.get("logprobs"):
        choice["logprobs"] = {"content": _logprobs(answer.content or "", body.get("top_logprobs") or 0, answer.sure)}
    return _envelope(body, "chat.completion") | {"choices": [choice], "usage": _usage(body, answer)}


def events(body: dict[str, Any], answer: Answer, *, logprobs: bool) -> Iterator[bytes]:
    """The server-sent events of a streamed chat completion."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(answer.reasoning or "")]
    if answer.refusal is not None:
        deltas.append({"refusal": answer.refusal})
    envelope = _envelope(body, "chat.completion.chunk")

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: " + json.dumps({**envelope, "choices": choices, **more}).encode() + b"\n\n"

    for delta in deltas:
        yield event([{"index": 0, "delta": delta, "finish_reason": None}])
    for piece in _pieces(answer.content or ""):
        choice: dict[str, Any] = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        if logprobs and body.get("logprobs"):
            choice["logprobs"] = {"content": _logprobs(piece, body.get("top_logprobs") or 0, answer.sure)}
        yield event([choice])
    yield event([{"index": 0, "delta": {}, "finish_reason": answer.finish_reason}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=_usage(body, answer))
    yield b"data: [DONE]\n\n"


def images(items: list[dict[str, Any]], prompt: str) -> dict[str, Any]:
    """An answer of the Images API."""
    tokens = {"input_tokens": _tokens(prompt), "output_tokens": 1000 * len(items)}
    usage = tokens | {"total_tokens": sum(tokens.values())}
    return {"created": int(time.time()), "data": items, "output_format": "png", "usage": usage}


def error(message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error body."""
    kind = "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _envelope(body: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model", "stub"),
    }


def _usage(body: dict[str, Any], answer: Answer) -> dict[str, int]:
    said, asked = (answer.content or "") + (answer.reasoning or ""), 0
    for message in body.get("messages", []):
        content = message.get("content") or ""
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        asked += sum(_tokens(part["text"]) if part.get("type") == "text" else 85 for part in parts)
    given, taken = answer.usage or (asked, _tokens(said))
    return {"prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken}


def _tokens(text: str) -> int:
    return math.ceil(len(text) / 4)


def _pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)


def _logprobs(text: str, top: int, sure: float) -> list[dict[str, Any]]:
    """A yes or no, also in JSON, has `sure` on the word it says and most of the rest on the other one."""
    found = []
    for piece in _pieces(text):
        other = {"yes": "No", "no": "Yes"}.get(piece.strip(" .,:!").lower(), "?")
        if (quoted := _QUOTED_VERDICT.search(piece)) is not None:
            other = piece.replace(quoted[0], {'"yes"': '"no"', '"no"': '"yes"'}[quoted[0]])
        choices = [_logprob(piece, math.log(sure)), _logprob(other, math.log(0.8 * (1 - sure)))]
        found.append({**choices[0], "top_logprobs": choices[:top]})
    return found


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
