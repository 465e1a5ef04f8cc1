"""What clients can do to a server without a key: half-sent requests, large bodies, pages that frame it."""

from __future__ import annotations

import asyncio
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from gems.apps.server.app import open_socket
from gems.apps.server.connections import GuardedProtocol
from tests.support.http_server import app_of, bearer, begun, keys_of, result, serving
from tests.support.scripted_service import PATIENCE_S, House


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@contextmanager
def guarded(app: FastAPI, **limits: float) -> Iterator[int]:
    """Serve an app with other limits of connections; its port."""
    listener = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(app, http=type("Limited", (GuardedProtocol,), limits), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    port: int = listener.getsockname()[1]
    try:
        _wait_for(port)
        yield port
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


def _opened(stack: ExitStack, port: int, sent: bytes) -> socket.socket:
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
    connection.sendall(sent)
    return connection


HEALTHZ = "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ",
        b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\nGET",
    ],
)
def test_half_sent_headers_are_closed(house: House, sent: bytes) -> None:
    with guarded(app_of(house), headers_s=0.3) as port, ExitStack() as stack:
        connection = _opened(stack, port, sent)
        told = b""
        while part := _read(connection):
            told += part
        assert told.count(b"200 OK") == (1 if sent.endswith(b"GET") else 0)


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


def test_headers_that_trickle_in_are_closed(house: House) -> None:
    """Each byte would start the time anew if it were that of silence."""
    with guarded(app_of(house), headers_s=0.5) as port, ExitStack() as stack:
        connection = _opened(stack, port, b"GET /healthz HTTP/1.1\r\n")
        connection.settimeout(0.05)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline
            try:
                connection.sendall(b"x: y\r\n")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                return


def test_a_body_that_stops_is_closed(house: House) -> None:
    with guarded(app_of(house), body_s=0.3) as port, ExitStack() as stack:
        head = (
            b"POST /runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
        assert _is_closed(_opened(stack, port, head))


def test_streams_and_waiting_requests_are_not_closed(house: House) -> None:
    """A client that waits for its answer has sent all that it has to."""
    with (
        guarded(app_of(house), headers_s=0.3, body_s=0.3) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        house.on_drawing(1, lambda: asyncio.sleep(1.5))
        result(client, begun(client, seed=7))


def test_half_sent_requests_do_not_keep_others_out(house: House) -> None:
    with guarded(app_of(house), most=6, headers_s=PATIENCE_S) as port, ExitStack() as stack:
        silent = [_opened(stack, port, b"GET / HTTP/1.1\r\n") for _ in range(40)]
        for _ in range(10):
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        assert all(_is_closed(connection) for connection in silent[:30])


def test_the_soft_limit_of_open_files_is_raised() -> None:
    code = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))\n"
        "from gems.apps.server.connections import guarded_protocol\n"
        "print(guarded_protocol().most, resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    most, soft = map(int, done.stdout.split())
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert soft == (min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536)
    assert 80 < most < soft


BODY = b'{"prompt": "' + b"x" * 20_000_000
PATHS = [
    "/runs",
    "/runs/x/fork",
    "/v1/images/generations",
    "/v1/chat/completions",
    "/gems/invoke",
    "/verify",
    "/nothing",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_key_is_asked_for_before_the_body(house: House, path: str) -> None:
    """Only the headers are sent: the answer comes all the same."""
    keys_of(house).add("ann")
    with serving(app_of(house)) as url, ExitStack() as stack:
        port = int(url.rpartition(":")[2])
        for key in ("", "authorization: Bearer gems-wrong\r\n"):
            head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{key}content-length: 24000000\r\n\r\n"
            assert _read(_opened(stack, port, head.encode())).startswith(b"HTTP/1.1 401 ")


def test_a_large_body_without_a_key_is_not_read(house: House) -> None:
    keys_of(house).add("ann")
    with serving(app_of(house)) as url:
        for path in PATHS:
            with ExitStack() as stack:
                connection = _opened(stack, int(url.rpartition(":")[2]), b"")
                head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(BODY)}\r\n\r\n"
                try:
                    connection.sendall(head.encode() + BODY)
                except (ConnectionResetError, BrokenPipeError):
                    continue
                raise AssertionError("All of the body was taken.")


def test_a_key_lets_bodies_in(house: House) -> None:
    ann = keys_of(house).add("ann")
    with serving(app_of(house)) as url, httpx.Client(base_url=url, headers=bearer(ann)) as client:
        result(client, begun(client, seed=7))


@pytest.mark.parametrize(
    "path", ["/gems/playground/", "/docs", "/redoc", "/runs", "/nothing", "/healthz", "/openapi.json"]
)
def test_no_other_page_can_frame_it(house: House, path: str) -> None:
    with serving(app_of(house)) as url:
        answer = httpx.get(url + path)
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["content-type"].startswith("text/html") or "default-src 'none'" in policy


def test_a_report_can_be_framed_by_its_own_server(house: House) -> None:
    with serving(app_of(house)) as url, httpx.Client(base_url=url) as client:
        run_id = begun(client, seed=7)
        result(client, run_id)
        headers = client.get(f"/runs/{run_id}/report").headers
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert "default-src 'none'" in headers["content-security-policy"]
