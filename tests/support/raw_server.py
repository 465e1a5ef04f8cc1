"""An HTTP server that answers with whatever bytes a test gives, also without end or with the connection broken."""

from __future__ import annotations

import itertools
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

Body = dict[str, Any]
Answer = Callable[[int, Body], Iterable[bytes]]
_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class BrokenError(Exception):
    """Raised by an answer to reset the connection."""


class RawServer:
    """A server on 127.0.0.1 whose answers are bytes: status line, headers and body.

    Use it as a context manager. The connection is closed after each answer.

    Args:
        answer: Returns the pieces of an answer to a request: its number, from 0, and its JSON object.

    Attributes:
        requests: The first line of each request and its JSON object, empty where it has none.
    """

    def __init__(self, answer: Answer) -> None:
        self.requests: list[tuple[str, Body]] = []
        self._answer = answer
        self._lock = threading.Lock()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                # The client hangs up where it has had enough.
                with suppress(ConnectionError):
                    outer._serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def root(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """Address of an OpenAI-compatible API."""
        return f"{self.root}/v1"

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        first = handler.rfile.readline().decode().strip()
        if not first:
            return
        length = 0
        while line := handler.rfile.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        raw = handler.rfile.read(length)
        body: Body = json.loads(raw) if raw.startswith(b"{") else {}
        with self._lock:
            number = len(self.requests)
            self.requests.append((first, body))
        try:
            for piece in self._answer(number, body):
                handler.wfile.write(piece)
        except BrokenError:
            # Lingering for zero seconds makes closing a reset.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()


def reply_with(body: bytes, content_type: str = "application/json", status: str = "200 OK") -> list[bytes]:
    """A whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return [f"{head}Connection: close\r\n\r\n".encode(), body]


def stream_of(events: Iterable[Any]) -> Iterable[bytes]:
    """A stream of server-sent events: objects as data, bytes as they are."""
    return itertools.chain([_SSE], (event if isinstance(event, bytes) else as_event(event) for event in events))


def as_event(value: Any) -> bytes:
    """A value as the data of a server-sent event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(content: str | None = None, *, finish: str | None = None, id: str = "one", **more: Any) -> Body:  # noqa: A002
    """A chunk of a streamed chat completion."""
    said = ({} if content is None else {"content": content}) | more
    choices = [{"index": 0, "delta": said, "finish_reason": finish}]
    return {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "raw", "choices": choices}


def spoken(text: str, finish: str = "stop") -> list[Any]:
    """The events of a whole reply."""
    return [delta("", role="assistant"), delta(text), delta(finish=finish), b"data: [DONE]\n\n"]


def completion(text: str, finish: str = "stop", **message: Any) -> Body:
    """A chat completion that is not streamed."""
    said = {"role": "assistant", "content": text, **message}
    choices = [{"index": 0, "message": said, "finish_reason": finish}]
    return {"id": "one", "object": "chat.completion", "created": 1, "model": "raw", "choices": choices}
