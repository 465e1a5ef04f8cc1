"""README's table of models: each spec in it runs, against a server that speaks its protocol."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import convert_to_messages

from gems.models.blocks import BlocksChat
from tests.support import tiny_pipelines
from tests.support.a1111_server import serving_a1111
from tests.support.comfyui_server import serving_comfyui
from tests.support.comfyui_workflows import save, text_to_image
from tests.support.provider_servers import provider_server
from tests.support.stub import StubServer
from tests.support.stub.responses import Answer
from tests.support.terminal import here

README = Path(__file__).resolve().parents[2] / "README.md"
_PACKAGES = {"anthropic": "langchain_anthropic", "google_genai": "langchain_google_genai"}
_PIPELINES = {"qwen-image": "qwen_image"}


def rows() -> Iterator[tuple[str, str]]:
    """Option and spec of each cell."""
    text = README.read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| \| Chat: .*\n\|[ -|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    for line in table.splitlines():
        _, _, chat, generator, _ = line.split("|")
        for option, cell in (("--chat", chat), ("--generator", generator)):
            for spec in re.findall(r"`([^`]+)`", cell):
                yield option, spec


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def mind(messages: list[dict[str, Any]]) -> Answer:
    return Answer(str(BlocksChat().invoke(convert_to_messages(messages)).content))


def served(spec: str, servers: ExitStack, folder: Path) -> str:
    """The spec with the address of a server of its kind, or with a model of its kind."""
    kind, _, rest = spec.partition(":")
    match kind:
        case "openai" | "openai-chat":
            stub = servers.enter_context(StubServer())
            return f"{kind}:{rest.partition('@')[0]}@{stub.base_url}"
        case "langchain":
            provider: Any = rest.partition(":")[0]
            if importlib.util.find_spec(_PACKAGES[provider]) is None:
                pytest.skip(f"{_PACKAGES[provider]} is not installed")
            return servers.enter_context(provider_server(provider, mind)).spec
        case "diffusers":
            return f"diffusers:{tiny_pipelines.save('z_image', folder / 'tiny')}"
        case "comfyui":
            save(folder, text_to_image(), rest.partition("@")[0])
            return f"comfyui:{rest.partition('@')[0]}@{servers.enter_context(serving_comfyui()).url}"
        case "a1111":
            return f"a1111:{servers.enter_context(serving_a1111()).url}"
        case "http":
            return f"http:{servers.enter_context(StubServer()).generate_url}"
    assert spec in ("blocks", "blocks:poor")
    return spec


def test_the_table_has_every_kind() -> None:
    kinds = {(option, spec.partition(":")[0]) for option, spec in rows()}
    generators = ("blocks", "openai", "openai-chat", "diffusers", "comfyui", "a1111", "http")
    assert kinds == {
        *(("--chat", kind) for kind in ("blocks", "openai", "langchain")),
        *(("--generator", kind) for kind in generators),
    }


@pytest.mark.parametrize(("option", "spec"), list(rows()))
def test_each_spec_runs(option: str, spec: str, servers: ExitStack, tmp_path: Path) -> None:
    small = [] if spec.startswith(("blocks", "http", "openai")) else ["--size", "128x128"]
    model = served(spec, servers, tmp_path)
    done = here("run", "a red circle", option, model, "--seed", "7", "--rounds", "1", "--json", *small)
    result = json.loads(done.stdout)
    assert done.exit_code in (0, 3), result
    (turn,) = result["rounds"]
    assert turn["candidates"]
    if option == "--chat":
        assert result["stop_reason"] == "passed"
