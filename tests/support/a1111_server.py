"""A server on loopback with the API of AUTOMATIC1111's web UI (modules/api/api.py of its version 1.10)."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gems.generation import ImageRequest
from tests.support.http_server import serving
from tests.support.stub.models import flat_picture

CHECKPOINTS = [
    {
        "title": f"{folder}{name}.safetensors [{code}]",
        "model_name": name,
        "hash": code,
        "sha256": code * 6,
        "filename": f"/models/Stable-diffusion/{folder}{name}.safetensors",
        "config": None,
    }
    for folder, name, code in (("", "dreamshaper_8", "879db523c3"), ("xl/", "juggernautXL_v9", "c9e3e68f89"))
]
SAMPLERS = [
    {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {}},
    {"name": "Euler", "aliases": ["k_euler"], "options": {}},
]


@dataclass
class A1111Server:
    """What the server was asked, and how it behaves.

    Attributes:
        url: Its address.
        requests: Method, path and body of every request.
        headers: Headers of every request.
        auth: `USER:PASSWORD`, as for --api-auth.
        has_api: Whether it was started with --api.
        tells_task: Whether the progress names the task, as since version 1.10.
        failures: Status and body of the next answers of txt2img and img2img.
        is_paused: Whether drawing stands still after its first step, until it is interrupted.
        size: The size that it draws, whatever is asked for.
    """

    url: str = ""
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    auth: str = ""
    has_api: bool = True
    tells_task: bool = True
    failures: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    is_paused: bool = False
    size: tuple[int, int] | None = None
    interrupts: int = 0
    loaded: str = "dreamshaper_8"
    jobs: int = 0
    task: str = ""
    state: dict[str, Any] = field(default_factory=lambda: _state(0, 0, 0))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def calls(self, path: str) -> list[dict[str, Any]]:
        """The bodies of the requests to a path below /sdapi/v1."""
        return [body for _, asked, body in self.requests if asked == path]

    def drawings(self) -> int:
        """How many images were asked for."""
        return len(self.calls("txt2img")) + len(self.calls("img2img"))

    async def answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        raw = await request.body()
        body = json.loads(raw) if raw else dict(request.query_params)
        self.requests.append((request.method, path, body))
        self.headers.append(dict(request.headers))
        expected = "Basic " + base64.b64encode(self.auth.encode()).decode()
        if self.auth and request.headers.get("authorization") != expected:
            return _failure(401, "HTTPException", "Incorrect username or password")
        if not self.has_api:
            return JSONResponse({"detail": "Not Found"}, 404)
        return await self._route(request.method, path, body)

    async def _route(self, method: str, path: str, body: dict[str, Any]) -> Response:
        match method, path:
            case "GET", "samplers":
                return JSONResponse(SAMPLERS)
            case "GET", "sd-models":
                return JSONResponse(CHECKPOINTS)
            case "GET", "progress":
                busy = self.state["job_count"] > 0
                told = {"progress": 0.5 if busy else 0.0, "eta_relative": 0.0, "state": self.state, "textinfo": None}
                return JSONResponse(told | ({"current_task": self.task or None} if self.tells_task else {}))
            case "POST", "interrupt":
                self.interrupts += 1
                self.state["interrupted"] = True
                return JSONResponse({})
            case "POST", "txt2img" | "img2img":
                return await self._draw(path, body)
        return JSONResponse({"detail": "Not Found"}, 404)

    async def _draw(self, path: str, body: dict[str, Any]) -> Response:
        if self.failures:
            status, failure = self.failures.pop(0)
            return JSONResponse(failure, status)
        sampler = body.get("sampler_name") or "Euler"
        if sampler not in {each["name"] for each in SAMPLERS}:
            return _failure(400, "HTTPException", "Sampler not found")
        if path == "img2img" and not body.get("init_images"):
            return _failure(404, "HTTPException", "Init image not found")
        titles = {each["title"]: each for each in CHECKPOINTS}
        chosen = body.get("override_settings", {}).get("sd_model_checkpoint")
        used = titles.get(chosen, next(each for each in CHECKPOINTS if each["model_name"] == self.loaded))
        async with self.lock:
            await self.run_job(body.get("force_task_id") or "task(txt2img-1)", body.get("steps", 50))
        # Drawing blocks the real server's thread, and has no effect on others.
        picture = await asyncio.to_thread(self._paint, path, body)
        info = {
            "prompt": body["prompt"],
            "negative_prompt": body.get("negative_prompt", ""),
            "seed": body["seed"],
            "all_seeds": [body["seed"]],
            "sampler_name": sampler,
            "cfg_scale": body.get("cfg_scale", 7.0),
            "steps": body.get("steps", 50),
            "sd_model_name": used["model_name"],
            "sd_model_hash": used["hash"],
            "sd_vae_name": None,
            "denoising_strength": body.get("denoising_strength"),
            "extra_generation_params": {"Schedule type": body.get("scheduler", "Automatic")},
            "clip_skip": 1,
        }
        shown = {name: value for name, value in body.items() if name not in ("init_images", "mask")}
        return JSONResponse({"images": [picture], "parameters": shown, "info": json.dumps(info)})

    async def run_job(self, task: str, steps: int) -> None:
        """Draw step by step, and stop where it is interrupted."""
        self.jobs += 1
        self.task = task
        self.state = _state(1, steps, self.jobs)
        for step in range(1, steps + 1):
            self.state["sampling_step"] = step
            # Set from another thread, which no event of a loop hears of.
            while self.is_paused and not self.interrupts:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            if self.state["interrupted"]:
                break
            await asyncio.sleep(0)
        self.task = ""
        self.state |= {"job_count": 0, "job": ""}

    def _paint(self, path: str, body: dict[str, Any]) -> str:
        width, height = self.size or (body["width"], body["height"])
        prompt, negative = body["prompt"], body.get("negative_prompt", "")
        asked = ImageRequest(prompt=prompt, seed=body["seed"], width=width, height=height, negative_prompt=negative)
        painted = Image.open(io.BytesIO(flat_picture(asked)))
        if path == "img2img":
            source = _open(body["init_images"][0]).convert("RGB").resize((width, height))
            mask = _open(body["mask"]).convert("L") if body.get("mask") else None
            painted = Image.blend(source, painted, body["denoising_strength"])
            painted = Image.composite(painted, source, mask) if mask else painted
        out = io.BytesIO()
        painted.save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode()


def _state(count: int, steps: int, number: int) -> dict[str, Any]:
    return {
        "skipped": False,
        "interrupted": False,
        "job": "scripts_txt2img" if count else "",
        "job_count": count,
        "job_timestamp": f"202601310000{number:02d}",
        "job_no": 0,
        "sampling_step": 0,
        "sampling_steps": steps,
    }


def _failure(status: int, kind: str, detail: str) -> Response:
    return JSONResponse({"error": kind, "detail": detail, "body": "", "errors": ""}, status)


def _open(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


@contextmanager
def serving_a1111(**behaviour: Any) -> Iterator[A1111Server]:
    """Serve the API; the server."""
    server = A1111Server(**behaviour)
    routes = [Route("/sdapi/v1/{path:path}", server.answer, methods=["GET", "POST"])]
    with serving(cast("FastAPI", Starlette(routes=routes))) as url:
        server.url = url
        yield server
