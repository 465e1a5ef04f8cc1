"""A small file that stands for a huge picture, or for a huge answer, fills no memory wherever it comes in."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageFile

from gems.errors import GemsError, InvalidImageError, RequestError, UnreadableReplyError
from gems.generation import ImageRequest
from gems.memory.embeddings import OpenAIEmbedder
from gems.memory.source_images import read_png
from gems.models.factory import open_chat, open_generator
from gems.models.generators import http as http_generator
from gems.models.generators import openai
from gems.models.images import MAX_PIXELS, verify_image
from gems.nodes.prompts import question
from gems.settings import ChatSettings, GeneratorSettings
from tests.support.chat_script import PROMPT, Script, opened
from tests.support.http_server import app_of, serving
from tests.support.mcp_clients import served, text_of
from tests.support.scripted_service import House
from tests.support.stub import StubServer
from tests.support.stub.faults import bomb
from tests.support.stub.models import flat_picture
from tests.support.terminal import here

BOUND = 64 * 2**20
"""Bytes that refusing may take of Python's memory: the pictures and answers stand for gigabytes."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(kind: bytes, data: bytes) -> bytes:
    """A small PNG with one chunk more."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    whole = out.getvalue()
    return whole[:33] + chunk(kind, data) + whole[33:]


def webp_bomb() -> bytes:
    """A WebP header of 16383x16383 pixels, lossless, with hardly any data."""
    bits = (16382) | (16382 << 14)
    data = b"\x2f" + struct.pack("<I", bits) + bytes(20)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_bomb() -> bytes:
    """A JPEG whose header says 60000x60000."""
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "JPEG")
    data = bytearray(out.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    return bytes(data)


def packed_bomb(kind: bytes) -> bytes:
    """A small PNG with a chunk that unpacks to 300 MB."""
    return png_with(kind, b"bomb\0\0" + zlib.compress(bytes(300 * 2**20), 1))


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": cache(bomb),
    "webp": cache(webp_bomb),
    "jpeg": cache(jpeg_bomb),
    "text": cache(lambda: packed_bomb(b"zTXt")),
    "profile": cache(lambda: packed_bomb(b"iCCP")),
}


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < BOUND
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_of_every_kind(name: str) -> None:
    """What is refused is refused by its header; a small picture with a huge text may be taken for itself."""
    given = BOMBS[name]()
    with little_memory():
        try:
            data, shown = verify_image(given, "the server")
        except InvalidImageError:
            return
    assert name in ("text", "profile")
    assert shown.width * shown.height <= MAX_PIXELS
    with little_memory(), Image.open(io.BytesIO(data)) as picture:
        picture.load()


def test_these_are_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for name in ("png", "jpeg"):
        with Image.open(io.BytesIO(BOMBS[name]())) as picture:
            assert picture.width * picture.height > MAX_PIXELS
        assert len(BOMBS[name]()) < 1_000_000


def test_pillow_is_not_told_to_take_half_a_picture() -> None:
    """Somebody who sets this for the process would have truncated pictures believed."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("kind", ["openai", "http"])
@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
async def test_of_a_generator(kind: str, name: str, tmp_path: Path) -> None:
    with StubServer(chat=Script(), images=lambda _request: BOMBS[name]()) as stub:
        async with opened(stub, tmp_path / "home", generator=kind) as gems:
            with little_memory(), pytest.raises(InvalidImageError, match=r"pixels|too large|truncated"):
                await gems.run(PROMPT, size="64x64")
    assert not (tmp_path / "home" / "images").exists()


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
def test_of_gems_verify(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name]())
    done = here("verify", str(path), PROMPT)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "error: bomb " in done.stderr
    for sent in (path, BOMBS[name]()):
        with little_memory(), pytest.raises(RequestError):
            read_png(sent)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp"])
async def test_of_mcp(name: str, tmp_path: Path) -> None:
    from mcp import Client

    async with served(House(tmp_path / "home")) as address, Client(address) as client:
        sent = {"prompt": "a cat", "image": base64.b64encode(BOMBS[name]()).decode()}
        answer = await client.call_tool("verify_image", sent)
    assert answer.is_error
    assert "pixels" in text_of(answer) or "not a valid image" in text_of(answer)


@pytest.mark.parametrize("field", ["image", "mask"])
def test_of_an_upload(field: str, tmp_path: Path) -> None:
    fine = io.BytesIO()
    Image.new("RGB", (8, 8)).save(fine, "PNG")
    with serving(app_of(House(tmp_path / "home"))) as url, httpx.Client(base_url=url, timeout=300) as client:
        for name in ("png", "jpeg", "webp"):
            files = {"image": ("a.png", fine.getvalue())} | {field: ("b.png", BOMBS[name]())}
            answer = client.post("/v1/images/edits", data={"prompt": "x"}, files=files)
            assert answer.status_code == 400
            # Masks are refused whatever they hold, and nothing is unpacked before that.
            assert answer.json()["error"]["param"] in ("image", field)


async def test_of_a_changed_file_in_the_store(tmp_path: Path) -> None:
    """A report, a resumed run and the server show what the store's id says, and nothing else."""
    house = House(tmp_path / "home")
    async with house.gems() as gems:
        result = await gems.run(PROMPT, seed=1)
        path = gems.resources.images.path(result.image_id or "")
        path.write_bytes(BOMBS["png"]())
        with little_memory():
            page = await gems.report(result.run_id)
            with pytest.raises(GemsError):
                await gems.resources.images.load(result.image_id or "")
    assert "was changed since it was written" in page


# Bombs that are no pictures: answers without an end, and packed ones.


@contextmanager
def endless(headers: dict[str, str], body: Callable[[], bytes]) -> Iterator[str]:
    """A server whose every answer is `body()` over and over."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            for name, value in ({"content-type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for _ in range(10_000):
                    self.wfile.write(body())
            except OSError:
                # They have heard enough.
                return

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@cache
def packed() -> bytes:
    return gzip.compress(bytes(64 * 2**20), 1)


ANSWERS: dict[str, tuple[dict[str, str], Callable[[], bytes]]] = {
    "endless": ({}, lambda: b'{"x": "' + bytes(2**20)),
    "gzip": ({"content-encoding": "gzip"}, packed),
    "br": ({"content-encoding": "br"}, lambda: b"packed"),
    "twice": ({"content-encoding": "gzip, gzip"}, packed),
}


async def ask(kind: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    quick: dict[str, Any] = {"attempts": 1, "timeout_s": 30}
    request = ImageRequest(prompt="x", seed=1, width=64, height=64)
    if kind == "chat":
        async with aclosing(open_chat(ChatSettings(model=f"openai:m@{address}/v1", **quick))) as client:
            await client.ask(question("verify", {"question": "Is it?"}))
    elif kind == "embedder":
        await OpenAIEmbedder("m", f"{address}/v1", None).embed(["x"])
    else:
        spec = f"openai:m@{address}/v1" if kind == "openai" else f"http:{address}/draw"
        module = openai if kind == "openai" else http_generator
        monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 2**23)
        async with aclosing(open_generator(GeneratorSettings(model=spec, **quick))) as generator:
            await generator.generate(request)


@pytest.mark.parametrize("kind", ["chat", "embedder", "openai", "http"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_of_an_answer(kind: str, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    headers, body = ANSWERS[answer]
    # To make it takes memory too.
    body()
    with endless(headers, body) as address:
        tracemalloc.start()
        with pytest.raises(UnreadableReplyError, match=r"more than|compressed"):
            await ask(kind, address, monkeypatch)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < 2 * BOUND


async def test_nothing_packed_is_asked_for(tmp_path: Path) -> None:
    with StubServer(chat=Script(), images=flat_picture) as stub:
        for kind in ("openai", "http"):
            async with opened(stub, tmp_path / kind, generator=kind) as gems:
                await gems.run(PROMPT, size="64x64")
        assert {call.kind for call in stub.requests} == {"chat", "images", "generate"}
        assert {call.headers["accept-encoding"] for call in stub.requests} == {"identity"}
