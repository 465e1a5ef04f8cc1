"""Connections to endpoints: HTTP/2 where the server offers it, and kept while a picture is drawn."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config

from gems.models.chat.messages import Question
from gems.models.factory import open_chat, open_generator
from gems.settings import ChatSettings, GeneratorSettings
from gems.types import ImageRequest
from tests.support.stub.models import flat_picture

REQUEST = ImageRequest(prompt="a red cat", seed=1, width=64, height=64)


class Server:
    """Speaks both protocols over TLS, and remembers who asked how."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.connections: set[Any] = set()
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        self.versions.append(scope["http_version"])
        self.connections.add(tuple(scope["client"]))
        if scope["path"].startswith("/generate"):
            kind, body = b"image/png", flat_picture(REQUEST)
        else:
            kind, body = b"application/json", json.dumps(answer(scope["path"])).encode()
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        await send(head)
        await send({"type": "http.response.body", "body": body})


def answer(path: str) -> Any:
    if path.endswith("generations"):
        return {"created": 0, "data": [{"b64_json": base64.b64encode(flat_picture(REQUEST)).decode()}]}
    message = {"role": "assistant", "content": "Yes."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@asynccontextmanager
async def running(app: Server, folder: Path, protocols: list[str]) -> AsyncIterator[Server]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile = config.keyfile = str(folder / "server.pem")
    config.alpn_protocols = protocols
    config.errorlog = config.accesslog = None
    sockets = config.create_sockets()
    port = sockets.secure_sockets[0].getsockname()[1]
    # Until the server runs, it would refuse who comes.
    sockets.secure_sockets[0].listen()
    config.create_sockets = lambda: sockets  # type: ignore[method-assign]
    app.url = f"https://127.0.0.1:{port}"
    ended = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=ended.wait))  # type: ignore[arg-type]
    try:
        yield app
    finally:
        ended.set()
        await serving


@pytest.mark.parametrize(("offered", "spoken"), [(["h2", "http/1.1"], "2"), (["http/1.1"], "1.1")])
async def test_what_the_server_offers_is_spoken_over_few_connections(
    offered: list[str], spoken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with running(Server(), tmp_path, offered) as server:
        chat = open_chat(ChatSettings(model=f"openai:m@{server.url}/v1"))
        question = Question(task="verify", system="Task: verify", parts=("Is there a cat?",))
        images = open_generator(GeneratorSettings(model=f"openai:m@{server.url}/v1"))
        plain = open_generator(GeneratorSettings(model=f"http:{server.url}/generate"))
        try:
            for _ in range(3):
                assert (await chat.ask(question)).text == "Yes."
                await images.generate(REQUEST)
                await plain.generate(REQUEST)
        finally:
            await chat.aclose()
            await images.aclose()
            await plain.aclose()
    assert server.versions == [spoken] * 9
    assert len(server.connections) == 3, "each client keeps its connection"
