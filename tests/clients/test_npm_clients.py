"""Clients of the npm registry against our servers: what real programs make of the answers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems.apps.server.app import create_app
from gems.apps.server.auth import open_keys
from gems.generation import GeneratedImage, ImageRequest
from gems.models.blocks.detection import detect_scene
from gems.models.blocks.generator import BlocksGenerator
from gems.service import Gems
from tests.support.fork_server import forked
from tests.support.http_server import serving
from tests.support.node import Node
from tests.support.scripted_models import settings_at

pytestmark = pytest.mark.xdist_group("clients")
ENDLESS = "a dozen purple hearts"
"""Its second image is never drawn, and its first cannot pass: the built-in world draws no more than nine of a kind."""
_PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
_INSPECTOR = "node_modules/@modelcontextprotocol/inspector-cli/build"


class Painter(BlocksGenerator):
    """Draws only one image for a prompt whose run must be stopped."""

    has_begun = False

    async def generate(self, request: ImageRequest) -> GeneratedImage:
        if "purple" in request.prompt:
            if self.has_begun:
                await asyncio.Event().wait()
            self.has_begun = True
        return await super().generate(request)


@dataclass(frozen=True, slots=True)
class Server:
    """A server with the built-in world; `spent` is a key with one image a day."""

    url: str
    key: str
    spent: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, npm: Node) -> Iterator[Server]:
    settings = settings_at(tmp_path_factory.mktemp("home"))
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"web": False})})
    keys = open_keys(settings)
    ann, bob = keys.add("ann", runs_at_a_time=2), keys.add("bob", images_per_day=1)
    with serving(create_app(settings, Gems(settings, generator=Painter()))) as url:
        yield Server(url, ann, bob)


@pytest.fixture(scope="module")
def openai(server: Server, npm: Node) -> dict[str, Any]:
    """What the package `openai` saw."""
    return npm.run_script("openai.mjs", server.url, server.key, server.spent, ENDLESS)


@pytest.fixture(scope="module")
def ai(server: Server, npm: Node) -> dict[str, Any]:
    """What the packages `ai` and `@ai-sdk/openai-compatible` saw."""
    return npm.run_script("ai_sdk.mjs", server.url, server.key)


def things(png: str) -> list[tuple[str, str]]:
    """What an image shows, as colours and shapes."""
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        assert (picture.format, picture.size) == ("PNG", (256, 256))
        return [(thing.colour, thing.noun) for thing in detect_scene(picture).things]


def test_openai_draws_and_edits(openai: dict[str, Any]) -> None:
    assert openai["models"][0] == "gems"
    assert things(openai["image"]) == [("green", "star")] * 2
    assert things(openai["edited"]) == [("red", "star")] * 2
    assert openai["usage"]["total_tokens"] > 0


def test_openai_streams_images(openai: dict[str, Any]) -> None:
    assert openai["events"] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]


def test_openai_chats(openai: dict[str, Any]) -> None:
    assert "](data:image/jpeg;base64," in openai["text"]
    assert openai["finish"] == "stop"
    assert openai["tokens"] > 0
    assert openai["beside"] == ["data:image/png;base64,"]


def test_openai_knows_our_errors_and_retries_none_of_them(openai: dict[str, Any]) -> None:
    assert openai["errors"] == [
        ["AuthenticationError", 401, "invalid_api_key", 1],
        ["BadRequestError", 400, "invalid_value", 1],
        ["RateLimitError", 429, "rate_limit_exceeded", 1],
    ]


def test_a_chat_that_openai_stops_reading_is_stopped(openai: dict[str, Any]) -> None:
    left = openai["left"]
    assert (left["status"], left["stop_reason"], left["rounds"]) == ("done", "cancelled", 1)


def test_ai_sdk_draws_and_edits(ai: dict[str, Any]) -> None:
    assert [media_type for media_type, _ in ai["images"]] == ["image/png"] * 2
    assert all(things(png) == [("green", "star")] * 2 for _, png in ai["images"])
    assert things(ai["edited"]) == [("red", "star")] * 2


def test_ai_sdk_chats(ai: dict[str, Any]) -> None:
    assert "](data:image/jpeg;base64," in ai["text"]
    assert (ai["finish"], ai["warnings"]) == ("stop", [])
    assert ai["tokens"] > 0
    assert "](data:image/jpeg;base64," in ai["changed"]


def test_more_chats_of_ai_sdk_than_a_key_may_have_wait_for_each_other(ai: dict[str, Any]) -> None:
    assert ["](data:image/jpeg;base64," in text for text in ai["atOnce"]] == [True] * 6


def test_inspector_lists_and_calls_tools(npm: Node, tmp_path: Path) -> None:
    command = tmp_path / "start-gems"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(forked())} "$@"\n', encoding="utf-8")
    command.chmod(0o755)

    def inspect(*arguments: str) -> dict[str, Any]:
        said = npm.run("cli.js", "--cli", str(command), "mcp", "--method", *arguments, package=_INSPECTOR)
        return dict(json.loads(said))

    tools = {tool["name"]: tool for tool in inspect("tools/list")["tools"]}
    assert {"generate_image", "edit_image", "verify_image", "get_run"} <= set(tools)
    given = ("prompt=two green stars", "seed=3")
    told = inspect("tools/call", "--tool-name", "generate_image", "--tool-arg", *given)
    text, shown = told["content"]
    assert "requirement met after 1 round (passed)" in text["text"]
    assert base64.b64decode(shown["data"]).startswith(b"\xff\xd8")
    assert told["structuredContent"]["stop_reason"] == "passed"


def test_the_programs_of_the_page_run(server: Server, npm: Node, tmp_path: Path) -> None:
    programs = re.findall(r"^```js\n(.*?)^```", _PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    said = []
    for program in programs:
        here = program.replace("http://127.0.0.1:8765", server.url).replace('"stars.png"', "process.argv[2]")
        said.append(npm.run(str(tmp_path / "stars.png"), script=here, GEMS_KEY=server.key).strip())
        with Image.open(tmp_path / "stars.png") as picture:
            assert picture.size == (512, 512)
    assert said == ["two green stars", "image/png"]
