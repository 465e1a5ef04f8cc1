"""Reason phrases of errors: chat programs show them instead of bodies."""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ERROR_HEADER = "x-gems-error"
"""Header with the message of an error; over HTTP/1.1 it is the reason phrase as well."""
_LONGEST = 300
_HEAD = re.compile(
    rb"(HTTP/1\.1 [45]\d\d )[^\r\n]*((?:\r\n(?!x-gems-error:)[^\r\n]+)*\r\nx-gems-error: ([^\r\n]+))", re.IGNORECASE
)


class ErrorHeader:
    """ASGI middleware that adds the message in the body of an error to its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        held: Message | None = None

        async def send_with_message(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and message["status"] >= 400:
                held = message
                return
            if held is not None:
                headers = MutableHeaders(scope=held)
                if phrase := _read_message(headers.get("content-type", ""), message.get("body", b"")):
                    headers[ERROR_HEADER] = phrase
                begun, held = held, None
                await send(begun)
            await send(message)

        await self._app(scope, receive, send_with_message)


def _read_message(media_type: str, body: bytes) -> str:
    """Return the message of an error in printable ASCII; empty if its body has none."""
    text: Any = body.decode(errors="replace")
    if media_type.startswith("application/json"):
        try:
            text = _find_message(json.loads(text))
        except ValueError:
            return ""
    elif not media_type.startswith("text/plain"):
        return ""
    return re.sub(r"[^\x20-\x7e]", "?", " ".join(text.split()))[:_LONGEST].strip()


def _find_message(data: Any) -> str:
    """Return the message of an error in OpenAI's format, that of the CLI or FastAPI's."""
    found = data if isinstance(data, dict) else {}
    error, detail = found.get("error"), found.get("detail")
    if isinstance(error, dict):
        return str(error.get("message") or "")
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}" for fault in detail)
    return detail if isinstance(detail, str) else ""


class PhrasedTransport:
    """Transport of a connection that writes the header of an error as its reason phrase, which ASGI cannot set."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write data; the head of a response comes in one piece."""
        if found := _HEAD.match(data):
            data = found[1] + found[3] + found[2] + data[found.end() :]
        self._transport.write(data)
