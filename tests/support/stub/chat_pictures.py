"""Pictures in chat requests and answers, in the forms that servers use."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

from gems.generation import ImageRequest

_SIZE = re.compile(r"\n\nSize of the image: (\d+)x(\d+) pixels.*")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _data_url(data: bytes) -> str:
    return f"data:image/png;base64,{_encode(data)}"


def _image_url(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


Form = Callable[[bytes, str], dict[str, Any]]
FORMS: dict[str, Form] = {
    # OpenRouter, Vercel; the text is theirs.
    "images": lambda data, _url: {"content": "Here it is.", "images": [_image_url(_data_url(data))]},
    "image_addresses": lambda _data, url: {"content": "", "images": [_image_url(url)]},
    "image_strings": lambda data, _url: {"images": [_data_url(data)]},
    # LiteLLM.
    "image": lambda data, _url: {"content": "Here it is.", "image": {"url": _data_url(data), "detail": "auto"}},
    "parts": lambda data, _url: {"content": [{"type": "text", "text": "Here."}, _image_url(_data_url(data))]},
    "flat_parts": lambda data, _url: {"content": [{"type": "image_url", "image_url": _data_url(data)}]},
    "output_image": lambda data, _url: {"content": [{"type": "output_image", "image_url": _data_url(data)}]},
    "b64_json": lambda data, _url: {"content": [{"type": "image", "b64_json": _encode(data)}]},
    "source": lambda data, _url: {
        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _encode(data)}}]
    },
    # Gateways to Gemini.
    "inline_data": lambda data, _url: {
        "content": "",
        "multi_mod_content": [
            {"thought": True, "inline_data": {"mime_type": "image/png", "data": "c2tldGNo"}},
            {"text": "Here."},
            {"inline_data": {"mime_type": "image/png", "data": _encode(data)}},
        ],
    },
    "inlineData": lambda data, _url: {"content": [{"inlineData": {"mimeType": "image/png", "data": _encode(data)}}]},
    "text": lambda data, _url: {"content": f"Here it is: {_data_url(data)} Enjoy!"},
    "markdown": lambda data, _url: {"content": f"![a picture]({_data_url(data)})"},
    "markdown_address": lambda _data, url: {"content": f"Done.\n\n![picture]({url})"},
    "address": lambda _data, url: {"content": f"You find it at {url}."},
    "base64": lambda data, _url: {"content": _encode(data)},
}


def read_request(body: dict[str, Any]) -> ImageRequest:
    """Read what a chat request asks for."""
    content = body["messages"][-1]["content"]
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    size = _SIZE.search(text)
    pictures = [
        base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in parts if part["type"] == "image_url"
    ]
    return ImageRequest(
        prompt=_SIZE.sub("", text),
        seed=int(body.get("seed", 1024)),
        width=int(size[1]) if size else 1024,
        height=int(size[2]) if size else 1024,
        source=pictures[0] if pictures else None,
        references=tuple(pictures[1:]),
    )
