"""What a chat request asks for: its task, its text and its pictures."""

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
class Asked:
    """A chat request.

    Attributes:
        task: What its system message names; None for a free question.
        named: The word behind `Task:`, even where it is no known task; empty without one.
        text: All text of the user's messages.
        images: Encoded pictures, in order.
        tokens: Estimated size of the request.
    """

    task: Task | None
    named: str
    text: str
    images: tuple[bytes, ...]
    tokens: int

    def tag(self, name: str) -> str:
        """The text inside a tag; empty where there is none."""
        return extract_tag(name, self.text) or ""


def asked(messages: Sequence[BaseMessage]) -> Asked:
    """Take a request apart; pictures that cannot be decoded are left out."""
    system = "\n".join(_text(m) for m in messages if m.type == "system")
    others = [message for message in messages if message.type != "system"]
    match = _TASK.match(system)
    named = match.group(1) if match else ""
    task = next((known for known in get_args(Task) if known == named), None)
    text = "\n".join(_text(message) for message in others)
    images = tuple(image for message in others for image in _images(message))
    size = tokens(system) + tokens(text) + _TOKENS_PER_IMAGE * len(images)
    return Asked(task, named, text, images, size)


def tokens(text: str) -> int:
    """A rough count of tokens: one for every four characters."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = [part if isinstance(part, str) else part.get("text", "") for part in message.content]
    return "\n".join(str(part) for part in parts if part)


def _images(message: BaseMessage) -> list[bytes]:
    if isinstance(message.content, str):
        return []
    found = []
    for part in message.content:
        if isinstance(part, dict) and part.get("type") == "image_url":
            url = part.get("image_url")
            data = _decoded(url.get("url") if isinstance(url, dict) else url)
            if data:
                found.append(data)
    return found


def _decoded(url: object) -> bytes:
    """Bytes of a data URL; empty for anything else, since nothing is fetched here."""
    header = _DATA_URL.match(url) if isinstance(url, str) else None
    if header is None or not isinstance(url, str):
        return b""
    try:
        return base64.b64decode(url[header.end() :], validate=True)
    except (binascii.Error, ValueError):
        return b""
