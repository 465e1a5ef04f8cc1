"""Proxies of the environment: never used for this machine's own servers, and named where they fail."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from gems.errors import GemsError, UnreachableError
from gems.generation import ImageRequest
from gems.models.chat.schemas import RequirementsReply
from gems.models.factory import open_chat
from gems.models.generators.download import ImageDownloader
from gems.models.generators.http import HTTPGenerator
from gems.models.generators.openai import OpenAIImagesGenerator
from gems.models.generators.remote import RemoteLimits
from gems.settings import ChatSettings
from tests.support.chat_clients import formed
from tests.support.raw_server import RawServer, reply_with, spoken, stream_of
from tests.support.stub.models import flat_picture

PASSWORD = "pa55-w0rd"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
REQUEST = ImageRequest(prompt="a red circle", seed=7, width=64, height=48)
LIMITS = RemoteLimits(timeout_s=20.0, attempts=1, first_wait_s=0.001)
ELSEWHERE = "models.example.com"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawServer]:
    """A proxy that all variables name, which refuses everything."""
    refused = reply_with(b"no way through", "text/plain", "502 Bad Gateway")
    with RawServer(lambda _number, _body: refused) as server:
        for name in NAMES:
            monkeypatch.setenv(name, server.root.replace("//", f"//me:{PASSWORD}@"))
        yield server


async def ask(base_url: str) -> Any:
    client = open_chat(ChatSettings(model=f"openai:stub@{base_url}", timeout_s=20.0, attempts=1, first_wait_s=0.001))
    try:
        return (await client.ask(formed())).form(RequirementsReply).requirements
    finally:
        await client.aclose()


def serve(_number: int, body: dict[str, Any]) -> Iterable[bytes]:
    """Answer as a chat model, as an endpoint of the Images API, or with an image."""
    if "messages" in body:
        return stream_of(spoken(json.dumps({"requirements": [{"question": "Is it red?"}]})))
    picture = flat_picture(REQUEST)
    if "n" in body:
        return reply_with(json.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]}).encode())
    return reply_with(picture, "image/png")


async def draw(base_url: str) -> Any:
    generator = OpenAIImagesGenerator("painter", base_url, size=(64, 48), limits=LIMITS)
    try:
        return (await generator.generate(REQUEST)).data
    finally:
        await generator.aclose()


async def draw_plainly(base_url: str) -> Any:
    generator = HTTPGenerator(base_url.replace("/v1", "/generate"), size=(64, 48), limits=LIMITS)
    try:
        return (await generator.generate(REQUEST)).data
    finally:
        await generator.aclose()


async def download(base_url: str) -> Any:
    host = base_url.split("/")[2]
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    downloader = ImageDownloader([host, name.strip("[]")], endpoint="painter", base_url=base_url, timeout_s=20.0)
    return await downloader.download(base_url.replace("/v1", "/files/0.png"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("use", [ask, draw, draw_plainly, download])
async def test_this_machine_is_never_asked_through_a_proxy(
    use: Callable[[str], Any], host: str, proxy: RawServer
) -> None:
    with RawServer(serve) as server:
        assert await use(server.base_url.replace("127.0.0.1", host))
    assert proxy.requests == []


@pytest.mark.parametrize("use", [ask, draw, draw_plainly])
async def test_the_address_of_this_machine_in_version_6(use: Callable[[str], Any], proxy: RawServer) -> None:
    with socket.socket(socket.AF_INET6) as free:
        try:
            free.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = free.getsockname()[1]
    with pytest.raises(UnreachableError) as raised:
        await use(f"http://[::1]:{port}/v1")
    assert "proxy" not in raised.value.message
    assert proxy.requests == []


@pytest.mark.parametrize("use", [ask, draw, draw_plainly])
async def test_a_proxy_that_is_not_there_is_named(
    use: Callable[[str], Any], proxy: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for name in NAMES:
        monkeypatch.setenv(name, f"http://me:{PASSWORD}@{address}")
    with pytest.raises(UnreachableError) as raised:
        await use(f"http://{ELSEWHERE}/v1")
    assert address in raised.value.message
    assert "proxy" in raised.value.message
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("use", [ask, draw, draw_plainly])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_named(use: Callable[[str], Any], scheme: str, proxy: RawServer) -> None:
    with pytest.raises(GemsError) as raised:
        await use(f"{scheme}://{ELSEWHERE}/v1")
    assert proxy.requests
    assert f"proxy {proxy.root}" in raised.value.message
    assert PASSWORD not in str(raised.value)
