"""A server in a thread of its own, on a free port of this machine."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from gems.apps.server.app import create_app, open_socket
from gems.apps.server.auth import KeyFile
from gems.service import Gems
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import PATIENCE_S, House


@contextmanager
def serving(app: FastAPI, protocol: Any = "auto") -> Iterator[str]:
    """Serve an app by one of uvicorn's protocols; its address."""
    listener = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(app, http=protocol, log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


def app_of(house: House, **serve: Any) -> FastAPI:
    """The app on a house's models, without the web page; `serve` are settings of the server."""
    serve = {"web": False} | serve
    settings = settings_at(house.home)
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update=serve)})
    return create_app(settings, Gems(settings, chat=house.chat, generator=house.generator, skills=()))


def keys_of(house: House) -> KeyFile:
    """The keys of its server."""
    return KeyFile(house.home / "keys.json")


def bearer(key: str) -> dict[str, str]:
    """The headers of a request with a key."""
    return {"authorization": f"Bearer {key}"}


class Gate:
    """Something that stands still, in whatever thread, until it is opened."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    async def __call__(self) -> None:
        self._reached.set()
        # Opened from another thread, which no event of a loop hears of.
        while not self._open.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def is_reached(self) -> bool:
        return self._reached.is_set()

    def wait(self) -> None:
        assert self._reached.wait(PATIENCE_S)

    def open(self) -> None:
        self._open.set()


def gated(house: House, number: int) -> Gate:
    """A gate before the image that is the `number`th from now."""
    gate = Gate()
    doing: Callable[[], Awaitable[None]] = gate
    house.on_drawing(number, doing)
    return gate


def begun(client: httpx.Client, prompt: str = "a red cat", **options: Any) -> str:
    """The id of a run that was begun."""
    answer = client.post("/runs", json={"prompt": prompt, **options})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


def heard(client: httpx.Client, run_id: str, last: str = "") -> list[dict[str, Any]]:
    """Everything that a run tells, with the ids under `id`."""
    headers = {"last-event-id": last} if last else {}
    with client.stream("GET", f"/runs/{run_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        return list(events_in(answer.iter_lines()))


def events_in(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The server-sent events of a stream of lines."""
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            told[name] = value
        elif not line and "data" in told:
            yield json.loads(told["data"]) | {"event": told["event"], "id": told.get("id", "")}
            told = {}


def result(client: httpx.Client, run_id: str) -> dict[str, Any]:
    """The result of a run, once it has come to its end."""
    last = heard(client, run_id)[-1]
    assert last["event"] == "finished", last
    found: dict[str, Any] = last["result"]
    return found


def until(true: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
