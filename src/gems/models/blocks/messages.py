"""Parse a chat request: task, text and images."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from langchain_core.messages import BaseMessage

from gems.models.schemas import Task, extract_tag

_TASK = re.compile(r"\A\s*Task:\s*(\S+)")
_DATA_URL = re.compile(r"\Adata:[\w.+/-]*;base64,", re.IGNORECASE)
_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_IMAGE = 85


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A parsed chat request.

    `task` is None for a free question; `named` is the word after `Task:`, even if it is not a known task.
    """

    task: Task | None
    named: str
    text: str
    images: tuple[bytes, ...]
    tokens: int

    def tag(self, name: str) -> str:
        """Return the text inside a tag; empty if there is none."""
        return extract_tag(name, self.text) or ""


def parse_request(messages: Sequence[BaseMessage]) -> ParsedRequest:
    """Parse messages; images that cannot be decoded are left out."""
    system = "\n".join(_message_text(m) for m in messages if m.type == "system")
    others = [message for message in messages if message.type != "system"]
    match = _TASK.match(system)
    named = match.group(1) if match else ""
    task = next((known for known in get_args(Task) if known == named), None)
    text = "\n".join(_message_text(message) for message in others)
    images = tuple(image for message in others for image in _message_images(message))
    size = count_tokens(system) + count_tokens(text) + _TOKENS_PER_IMAGE * len(images)
    return ParsedRequest(task, named, text, images, size)


def count_tokens(text: str) -> int:
    """Estimate the number of tokens: one per four characters."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _message_text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = [part if isinstance(part, str) else part.get("text", "") for part in message.content]
    return "\n".join(str(part) for part in parts if part)


def _message_images(message: BaseMessage) -> list[bytes]:
    if isinstance(message.content, str):
        return []
    found = []
    for part in message.content:
        if isinstance(part, dict) and part.get("type") == "image_url":
            url = part.get("image_url")
            data = _decode_data_url(url.get("url") if isinstance(url, dict) else url)
            if data:
                found.append(data)
    return found


def _decode_data_url(url: object) -> bytes:
    """Decode a data URL; empty for other URLs, which are not fetched."""
    header = _DATA_URL.match(url) if isinstance(url, str) else None
    if header is None or not isinstance(url, str):
        return b""
    try:
        return base64.b64decode(url[header.end() :], validate=True)
    except (binascii.Error, ValueError):
        return b""
