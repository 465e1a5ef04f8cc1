"""Model servers as they are found on people's machines: what each answers on the routes that tell them apart.

The routes and their answers are those of Ollama 0.12, LM Studio 0.3, vLLM 0.11, SGLang 0.5, llama.cpp (b6700),
LocalAI 3, ComfyUI 0.3, A1111 1.10 and InvokeAI 6. What draws and chats behind them is the stub.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from PIL import Image

from tests.support.http_server import serving
from tests.support.stub import StubServer

EYES = "qwen3-vl:8b-instruct"
BLIND = "llama3.2:3b"
KEY = "local-key-4711"


def _models(owner: str, *names: str) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner} for name in names]}


def _paths(*paths: str) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {path: {"post": {}} for path in paths}}


_CHAT, _IMAGES = "/v1/chat/completions", "/v1/images/generations"
_OLLAMA = [
    {"name": name, "model": name, "size": 1, "details": {"family": "x"}} for name in (BLIND, "nomic-embed-text", EYES)
]
KINDS: dict[str, dict[str, Any]] = {
    "Ollama": {
        "/": "Ollama is running",
        "/api/version": {"version": "0.12.6"},
        "/api/tags": {"models": _OLLAMA},
        "/v1/models": _models("library", BLIND, "nomic-embed-text", EYES),
    },
    "LM Studio": {
        "/v1/models": _models("organization_owner", BLIND, EYES),
        "/api/v0/models": {
            "object": "list",
            "data": [
                {"id": BLIND, "object": "model", "type": "llm", "state": "loaded"},
                {"id": EYES, "object": "model", "type": "vlm", "state": "not-loaded"},
                {"id": "embed", "object": "model", "type": "embeddings"},
            ],
        },
    },
    "vLLM": {
        "/v1/models": _models("vllm", "Qwen/Qwen3-VL-8B-Instruct"),
        "/version": {"version": "0.11.0"},
        "/openapi.json": _paths(_CHAT),
    },
    "vLLM-Omni": {
        "/v1/models": _models("vllm", "Tongyi-MAI/Z-Image-Turbo"),
        "/version": {"version": "0.11.0"},
        "/openapi.json": _paths(_IMAGES),
    },
    "SGLang": {
        "/v1/models": _models("sglang", "/models/gemma"),
        "/get_model_info": {"model_path": "/models/gemma", "has_image_understanding": True},
    },
    "llama.cpp": {
        "/v1/models": _models("llamacpp", "/models/some.gguf"),
        "/props": {"default_generation_settings": {"n_ctx": 8192}, "modalities": {"vision": True, "audio": False}},
        "/api/tags": {"models": [{"name": "/models/some.gguf", "model": "/models/some.gguf"}]},
    },
    "LocalAI": {
        "/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in (EYES, "flux.1-dev")]},
        "/system": {"backends": ["llama-cpp"], "loaded_models": []},
    },
    "ComfyUI": {
        "/system_stats": {
            "system": {"os": "posix", "comfyui_version": "0.3.66"},
            "devices": [{"name": "cuda:0", "type": "cuda", "vram_total": 25e9, "vram_free": 24e9}],
        }
    },
    "Stable Diffusion WebUI": {
        "/config": {"title": "Stable Diffusion", "version": "3.41.2"},
        "/sdapi/v1/options": {"sd_model_checkpoint": "dreamshaper_8.safetensors [879db523c3]", "samples_save": True},
        "/sdapi/v1/samplers": [{"name": "Euler", "aliases": ["k_euler"], "options": {}}],
        "/sdapi/v1/sd-models": [],
        "/sdapi/v1/progress": {"progress": 0.0, "eta_relative": 0.0, "state": {"job_count": 0}, "textinfo": None},
    },
    "InvokeAI": {"/api/v1/app/version": {"version": "6.8.1"}},
    "other": {"/v1/models": _models("someone", EYES)},
}

_GUARDED = {"vLLM": "/v1", "Stable Diffusion WebUI": "/sdapi"}
"""Routes that want the key; of other servers all do."""


@dataclass
class LocalServer:
    """A server of a kind, and what it was asked; `models` are those that see nothing."""

    kind: str
    stub: StubServer
    routes: dict[str, Any]
    key: str = ""
    is_hanging: bool = False
    blind: tuple[str, ...] = (BLIND,)
    port: int = 0
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and `authorization` of every request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: Request) -> Response:
        path, said = request.url.path, request.headers.get("authorization", "")
        self.asked.append((request.method, path, said))
        if self.is_hanging:
            await asyncio.sleep(3600)
        if self.key and path.startswith(_GUARDED.get(self.kind, "/")) and said != f"Bearer {self.key}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        if path in (_CHAT, _IMAGES):
            return await self._forward(request, path)
        if path == "/sdapi/v1/txt2img":
            return JSONResponse({"images": [_picture(await request.json())], "info": json.dumps({"all_seeds": [7]})})
        if path == "/api/show" and self.kind == "Ollama":
            return JSONResponse({"capabilities": _abilities(str((await request.json())["model"]))})
        found = self.routes.get(path)
        if found is None:
            return JSONResponse({"detail": "Not Found"}, 404)
        if isinstance(found, str):
            return HTMLResponse(found) if found.startswith("<") else PlainTextResponse(found)
        return JSONResponse(found)

    async def _forward(self, request: Request, path: str) -> Response:
        body = await request.json()
        if body.get("model") in self.blind and "image_url" in json.dumps(body):
            return JSONResponse({"error": {"message": "image input is not supported"}}, 500)
        async with httpx.AsyncClient(trust_env=False) as client:
            got = await client.post(self.stub.root + path, json=body)
        return Response(got.content, got.status_code, media_type=got.headers["content-type"])


def _abilities(name: str) -> list[str]:
    if "embed" in name:
        return ["embedding"]
    return ["completion", "vision", "tools"] if name == EYES else ["completion", "tools"]


def _picture(body: dict[str, Any]) -> str:
    out = io.BytesIO()
    Image.effect_noise((body["width"], body["height"]), 60).convert("RGB").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@contextmanager
def local_server(kind: str, stub: StubServer, **more: Any) -> Iterator[LocalServer]:
    """Serve a kind on a free port; `more` are fields of the server, `routes` in addition to those of the kind."""
    routes = KINDS.get(kind, {}) | more.pop("routes", {})
    server, app = LocalServer(kind, stub, routes, **more), FastAPI(openapi_url=None)
    app.add_route("/{path:path}", server.answer, methods=["GET", "POST"])
    with serving(app) as url:
        server.port = int(url.rpartition(":")[2])
        yield server
