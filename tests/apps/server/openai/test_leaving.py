"""Clients that leave before their answer is complete."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gems.apps.server.auth import KeyFile
from tests.apps.server.openai.conftest import Serve
from tests.apps.server.openai.test_errors import CHAT, DRAW
from tests.apps.server.openai.test_images import ended
from tests.support.http_server import Gate, gated
from tests.support.scripted_service import PATIENCE_S, House

BODIES: list[tuple[str, dict[str, Any]]] = [
    (DRAW, {"prompt": "a red cat"}),
    (CHAT, {"messages": [{"role": "user", "content": "a red cat"}]}),
]


@contextlib.contextmanager
def asked(base: str, path: str, body: dict[str, Any], **headers: str) -> Iterator[None]:
    """A request whose connection is closed at the end, whatever was read."""
    given = httpx.Request("POST", base + path, json=body, headers=headers)
    host, port = given.url.host, given.url.port or 80
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.headers.items()), "", ""]
    with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
        connection.sendall("\r\n".join(lines).encode() + given.read())
        yield


def runs(base: str, key: str = "") -> list[dict[str, Any]]:
    headers = {"api-key": key} if key else {}
    listed: list[dict[str, Any]] = httpx.get(f"{base}/runs", headers=headers).json()["runs"]
    return listed


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("path", "body"), BODIES, ids=["images", "chat"])
def test_the_run_is_stopped(base: str, house: House, path: str, body: dict[str, Any], stream: bool) -> None:
    house.never_pass()
    gate = gated(house, 2)
    with asked(base, path, body | {"stream": stream}):
        gate.wait()
    # What is being drawn is given up, so that the gate need not open.
    result = ended(house, runs(base)[0]["run_id"])
    assert (result.stop_reason, len(result.rounds)) == ("cancelled", 1)
    assert result.image_id is not None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("path", "body"), BODIES, ids=["images", "chat"])
def test_unless_it_is_to_go_on(base: str, house: House, path: str, body: dict[str, Any], stream: bool) -> None:
    house.never_pass()
    gate: Gate = gated(house, 2)
    with asked(base, path, body | {"stream": stream, "keep_running": True, "max_rounds": 3}):
        gate.wait()
    gate.open()
    result = ended(house, runs(base)[0]["run_id"])
    assert (result.stop_reason, len(result.rounds)) == ("max_rounds", 3)


def test_the_place_of_the_key_is_free_again(base: str, keys: KeyFile, house: House) -> None:
    key = keys.add("ann", runs_at_a_time=1)
    gate = gated(house, 1)
    with asked(base, DRAW, {"prompt": "a red cat"}, **{"api-key": key}):
        gate.wait()
    answer = httpx.post(base + DRAW, json={"prompt": "a blue dog"}, headers={"api-key": key}, timeout=PATIENCE_S)
    assert answer.status_code == 200
    assert [one["status"] for one in runs(base, key)] == ["done", "failed"]


def test_the_deadline_is_told(serve: Serve, house: House) -> None:
    house.never_pass()
    gated(house, 2)
    base = serve(deadline_s=5)
    answer = httpx.post(base + DRAW, json={"prompt": "a red cat"}, timeout=PATIENCE_S)
    assert (answer.status_code, answer.headers["x-gems-stop-reason"]) == (200, "deadline")
    gated(house, 2)
    chat = httpx.post(base + CHAT, json=BODIES[1][1] | {"deadline_s": 4}, timeout=PATIENCE_S)
    content = chat.json()["choices"][0]["message"]["content"]
    # Time in the queue counts.
    assert re.search(r"\(deadline\)\. The run reached its deadline of [34](\.\d+)? s\.", content)
