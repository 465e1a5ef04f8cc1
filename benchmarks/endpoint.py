"""A stand-in for the endpoints of real models, in a process of its own: slow as they are, and it counts.

A chat call takes 0.4 s and 0.05 s more for each image in it, a drawing 1.0 s. Pictures are PNGs of 1024x1024 and
1.4 MB with noise, so that they are as hard to compress as photographs, and no two are the same. A prompt that holds
`needs N images` gets its Nth image accepted: until so many were drawn for it, the judge finds two of its seven
requirements missing.

Counted are calls, bytes of the images that were shown to the chat model, and prompt tokens: a quarter of the
characters, and for an image one token for each 28x28 pixels, as Qwen-VL counts them.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gems.models.chat.schemas import find_task

SIDE = 1024
REQUIREMENTS = 7
_POOL = 4
_PATCH = 28
_KEY = re.compile(r"needs (\d+) images #(\w+)")


@dataclass
class Endpoint:
    """What answers, with its counts.

    Attributes:
        chat_s: Seconds of a chat call without images.
        image_s: Seconds more for each image that is shown.
        draw_s: Seconds of a drawing.
        side: Width and height of pictures in pixels.
        slots: Chat calls that are worked on at a time, the others wait; 0 for no limit.
    """

    chat_s: float = 0.4
    image_s: float = 0.05
    draw_s: float = 1.0
    side: int = SIDE
    slots: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    pool: list[bytes] = field(default_factory=list)
    _slot: AbstractAsyncContextManager[Any] = field(default_factory=nullcontext)

    def app(self) -> Starlette:
        """The app; pictures are made before it is there."""
        self._slot = asyncio.Semaphore(self.slots) if self.slots else nullcontext()
        self.pool = [photograph(self.side, seed) for seed in range(_POOL)]
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/images/generations", self.images, methods=["POST"]),
                Route("/counts", self.told, methods=["GET"]),
                Route("/counts", self.reset, methods=["DELETE"]),
            ]
        )

    async def chat(self, request: Request) -> Response:
        """Answer a question by the first line of its instructions."""
        began = asyncio.get_running_loop().time()
        body = json.loads(await request.body())
        messages = body["messages"]
        system = str(messages[0]["content"])
        texts, pictures = parts_of(messages[1]["content"])
        tokens = len(system + texts) // 4 + sum(tokens_of(picture) for picture in pictures)
        self.counts.update(calls=1, tokens=tokens, image_bytes=sum(map(len, pictures)), images=len(pictures))
        answer = self.answer(find_task((system, texts)), texts)
        due = began + self.chat_s + self.image_s * len(pictures)
        async with self._slot:
            if self.slots:
                due = asyncio.get_running_loop().time() + self.chat_s + self.image_s * len(pictures)
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        usage = {
            "prompt_tokens": tokens,
            "completion_tokens": len(answer) // 4,
            "total_tokens": tokens + len(answer) // 4,
        }
        said = {"index": 0, "finish_reason": "stop"}
        reply = {"id": "chat", "object": "chat.completion", "created": 0, "model": "stub", "usage": usage}
        message = {"role": "assistant", "content": answer}
        if not body.get("stream"):
            return JSONResponse(reply | {"choices": [said | {"message": message}]})
        chunk = reply | {"object": "chat.completion.chunk", "choices": [said | {"delta": message}]}
        return Response(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n", media_type="text/event-stream")

    def answer(self, task: str, texts: str) -> str:
        """What a model would say."""
        needed, key = _key(texts)
        is_met = self.drawn[key] >= needed
        last = f"needs {needed} images #{key}"
        match task:
            case "route":
                return '{"skills": [], "why": "A plain request."}'
            case "enhance" | "prepare" | "refine":
                return json.dumps({"prompt": f"{_detail(self.drawn[key])} {last}"})
            case "decompose":
                questions = [f"Is thing number {n} as it should be? ({last})" for n in range(REQUIREMENTS)]
                return json.dumps({"requirements": [{"question": each} for each in questions]})
            case "complete":
                return '{"requirements": []}'
            case "checklist":
                asked = re.findall(r"^(\d+)\. Is thing number (\d+)", texts, re.MULTILINE)
                answers = [
                    {"number": int(place), "answer": _said(int(thing), is_met=is_met), "evidence": _EVIDENCE}
                    for place, thing in asked
                ]
                return json.dumps({"answers": answers})
            case "verify":
                thing = re.search(r"thing number (\d+)", texts)
                said = _said(int(thing[1]) if thing else 0, is_met=is_met)
                return f"{said.capitalize()}\n{_EVIDENCE}"
            case "reflect":
                prompt = f"{_detail(self.drawn[key])} {last}"
                return json.dumps({"experience": "word " * 90, "prompt": prompt})
            case _:
                # Whether the judge sees is asked without a task, with a red square.
                return json.dumps({"experience": "word " * 90}) if task else "Red"

    async def images(self, request: Request) -> Response:
        """Draw."""
        began = asyncio.get_running_loop().time()
        body = await request.json()
        _, key = _key(body["prompt"])
        self.drawn[key] += 1
        self.counts.update(drawings=1)
        number = self.counts["drawings"]
        picture = stamped(self.pool[number % _POOL], str(number))
        encoded = base64.b64encode(picture).decode()
        await asyncio.sleep(began + self.draw_s - asyncio.get_running_loop().time())
        return JSONResponse({"created": 0, "data": [{"b64_json": encoded}]})

    async def told(self, _request: Request) -> Response:
        """What was counted since the last reset."""
        return JSONResponse(dict(self.counts))

    async def reset(self, _request: Request) -> Response:
        """Count from nothing."""
        self.counts.clear()
        self.drawn.clear()
        return Response(status_code=204)


_EVIDENCE = "What can be seen there is told in one line of ordinary length."


def _key(texts: str) -> tuple[int, str]:
    # The user's own words come first; lessons of other runs come later.
    found = _KEY.search(texts)
    return (int(found[1]), found[2]) if found else (1, "")


def _detail(number: int) -> str:
    return f"A picture described in some detail for the {number}th time, as such prompts are:"


def _said(thing: int, *, is_met: bool) -> str:
    return "yes" if is_met or thing < REQUIREMENTS - 2 else "no"


def parts_of(content: str | list[Any]) -> tuple[str, list[bytes]]:
    """The texts of a message, joined, and its pictures."""
    if isinstance(content, str):
        return content, []
    texts = "\n".join(part["text"] for part in content if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    return texts, [base64.b64decode(url.partition(",")[2]) for url in urls]


def tokens_of(picture: bytes) -> int:
    """Tokens of an image."""
    width, height = Image.open(io.BytesIO(picture)).size
    return -(-width // _PATCH) * -(-height // _PATCH)


def photograph(side: int, seed: int) -> bytes:
    """A PNG as hard to compress as a photograph: smooth shapes under noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse, np.float32) + rng.normal(0, 2, (side, side, 3))
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def stamped(png: bytes, text: str) -> bytes:
    """The same picture as another file: with a chunk that no program knows, which costs nothing and is kept."""
    kind, data = b"noTe", text.encode("ascii")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


@contextmanager
def serving(**latencies: float) -> Iterator[str]:
    """The endpoint in a process of its own; gives its address.

    Args:
        latencies: As `Endpoint` names them.
    """
    command = [sys.executable, str(Path(__file__)), json.dumps(latencies)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        assert process.stdout is not None  # noqa: S101
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        # Closes the pipe too.
        process.communicate(timeout=30)


def counted(base: str) -> dict[str, int]:
    """What the endpoint has counted, which begins anew."""
    counts: dict[str, int] = httpx.get(f"{base}/counts").raise_for_status().json()
    httpx.delete(f"{base}/counts").raise_for_status()
    return counts


def main() -> None:
    """Serve until the process is told to stop."""
    latencies: dict[str, Any] = json.loads(sys.argv[1])
    app = Endpoint(**latencies).app()
    # A client without retries, as the baseline, must not find its connection closed.
    config = uvicorn.Config(
        app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1, timeout_keep_alive=300
    )
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    # From here on whoever comes waits.
    listener.listen()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    asyncio.run(server.serve([listener]))


if __name__ == "__main__":
    main()
