"""A server on loopback that keeps what is sent to it, as LangSmith or a collector of traces would."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = Callable[[str], tuple[int, bytes]]


class Receiver:
    """Use it as a context manager.

    Args:
        answer: The status and the body for a path; 200 and nothing by default.

    Attributes:
        bodies: What was posted, by path and in order.
    """

    def __init__(self, answer: Answer = lambda _path: (200, b"")) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                with receiver.arrived:
                    receiver.bodies.append((self.path, body))
                    receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
                    receiver.arrived.notify_all()
                self.answer()

            def do_PATCH(self) -> None:
                self.do_POST()

            def answer(self) -> None:
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def langsmith(path: str) -> tuple[int, bytes]:
    """What LangSmith says: it takes batches of runs as plain JSON."""
    limits = {
        "use_multipart_endpoint": False,
        "scale_up_nthreads_limit": 4,
        "scale_up_qsize_trigger": 1000,
        "scale_down_nempty_trigger": 4,
        "size_limit": 100,
        "size_limit_bytes": 20_971_520,
    }
    told: dict[str, Any] = {"version": "0.10", "batch_ingest_config": limits, "instance_flags": {}}
    return 200, json.dumps(told if path.endswith("/info") else {}).encode()
