"""The ways in which model endpoints misbehave, each by its name."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from PIL import Image

from tests.support.stub.reply_variants import backwards, contradicted, in_another_language, twice
from tests.support.stub.responses import Answer, count_images

Name = Literal[
    # Answered with an error status.
    "401", "403", "404", "429", "500", "503", "quota",
    "too_many_images", "no_json_schema", "no_json", "unknown_parameter", "moderated", "redirect",
    "refused",
    # The connection.
    "reset", "hang", "drip", "cut",
    # The body of the answer.
    "truncated_json", "malformed_json", "html", "no_choices",
    # What a chat model says.
    "reply", "empty", "null", "no_reasoning", "think", "prose", "fences", "trailing", "hedged", "length",
    "refusal", "apology", "content_filter", "language", "twice", "contradicted", "backwards",
    # The picture.
    "truncated_png", "html_picture", "wrong_size", "bomb", "url", "no_picture",
]  # fmt: skip

Where = Literal["status", "connection", "body", "chat", "picture"]
_CONNECTION = ("reset", "hang", "drip", "cut")
_BODY = ("truncated_json", "malformed_json", "html", "no_choices")


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave.

    Names and what they do:

    - `401 403 404 429 500 503`: that status; `429` and `503` with Retry-After where `retry_after` is set.
      `quota`: 429 with code `insufficient_quota`.
    - `too_many_images`: 400 in vLLM's words for requests with more than `limit` images.
      `no_json_schema`, `no_json`: 400 where that response format (or any JSON one) is asked for.
      `unknown_parameter`: 400 where the body has the parameter `text`, in OpenAI's words.
      `moderated`: 400 `content_policy_violation`. `redirect`: 307 to the address `text`.
      `refused`: the status `status` with the message `text`.
    - `reset`: the connection is reset with no answer. `hang`: no answer for `seconds`. `drip`: the answer
      takes `seconds`. `cut`: reset in the middle of the answer.
    - `truncated_json`, `malformed_json`, `html` (with status 200), `no_choices` (`{}`).
    - `reply`: the chat model says `text`. `empty`, `null`: content `""` or null. `no_reasoning`; `think`:
      the reasoning stays in the content. `prose`, `fences`, `trailing`: words around the answer. `hedged`:
      "Yes, no doubt ...". `length`: cut at the token limit. `refusal`: the `refusal` field. `apology`: a
      refusal in words. `content_filter`: that finish reason. `language`: in another one. `twice`: every item
      of a list; `contradicted`: the second time the other way round. `backwards`: lists in another order.
    - `truncated_png`, `html_picture`, `wrong_size` (`size`), `bomb` (a small file that says it is
      30000x30000), `url` (an address instead of the picture: `text`, or one of the stub's own where empty),
      `no_picture` (`data` is empty).

    Raises:
        ValueError: there is no fault of this name.
    """

    name: Name
    text: str = ""
    seconds: float = 30.0
    retry_after: float | None = None
    limit: int = 1
    status: int = 400
    size: tuple[int, int] = (96, 80)

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise ValueError(f"No fault is named {self.name!r}; there are {', '.join(get_args(Name))}.")

    @classmethod
    def reply(cls, text: str) -> Fault:
        """The chat model says `text`, whatever it was asked."""
        return cls("reply", text=text)

    @property
    def where(self) -> Where:
        """Which part of an answer it changes."""
        if self.name in _CONNECTION:
            return "connection"
        if self.name in _BODY:
            return "body"
        if self.name in CHAT_EDITS:
            return "chat"
        return "picture" if self.name in PICTURE_EDITS or self.name in ("url", "no_picture") else "status"

    @property
    def final(self) -> bool:
        """Whether the request is answered by it alone."""
        return self.where == "status" or self.name in ("reset", "hang")

    def applies(self, body: dict[str, Any]) -> bool:
        """Whether a request with this body meets its condition."""
        asked = (body.get("response_format") or {}) if isinstance(body.get("response_format"), dict) else {}
        match self.name:
            case "too_many_images":
                return count_images(body) > self.limit
            case "no_json_schema":
                return asked.get("type") == "json_schema"
            case "no_json":
                return asked.get("type") in ("json_schema", "json_object")
            case "unknown_parameter":
                return self.text in body
            case _:
                return True


def _content(edit: Callable[[str], str | None]) -> Callable[[Fault, Answer], Answer]:
    return lambda _fault, answer: replace(answer, content=edit(answer.content or ""))


CHAT_EDITS: dict[str, Callable[[Fault, Answer], Answer]] = {
    "reply": lambda fault, answer: replace(answer, content=fault.text),
    "empty": _content(lambda _text: ""),
    "null": _content(lambda _text: None),
    "no_reasoning": lambda _fault, answer: replace(answer, reasoning=None),
    "think": lambda _fault, answer: replace(
        answer, content=f"<think>\n{answer.reasoning or 'No thought.'}\n</think>\n\n{answer.content}", reasoning=None
    ),
    "prose": _content(lambda text: f"Sure! Here is what you asked for:\n\n{text}\n\nHope this helps!"),
    "fences": _content(lambda text: f"```json\n{text}\n```"),
    "trailing": _content(lambda text: f"{text}\n\nNo further remarks {{for now}}."),
    "hedged": _content(lambda _text: "Yes, no doubt about it: there is nothing else in the snowy scene."),
    "length": lambda _fault, answer: replace(
        answer, content=(answer.content or "")[: len(answer.content or "") // 2], finish_reason="length"
    ),
    "refusal": lambda _fault, answer: replace(answer, content=None, refusal="I cannot help with that."),
    "apology": _content(lambda _text: "I'm sorry, but I can't help with that."),
    "content_filter": lambda _fault, answer: replace(answer, content="", finish_reason="content_filter"),
    "language": _content(in_another_language),
    "twice": _content(twice),
    "contradicted": _content(contradicted),
    "backwards": _content(backwards),
}


def _resized(fault: Fault, data: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        picture.resize(fault.size).save(out, "PNG")
    return out.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A small PNG whose header announces `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 + 3 * side))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PICTURE_EDITS: dict[str, Callable[[Fault, bytes], bytes]] = {
    "truncated_png": lambda _fault, data: data[: len(data) // 2],
    "html_picture": lambda _fault, _data: b"<!DOCTYPE html><html><body>Bad gateway</body></html>",
    "wrong_size": _resized,
    "bomb": lambda _fault, _data: bomb(),
}
