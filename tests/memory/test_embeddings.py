"""Embedders: words alone, and models behind their real protocols."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from gems.errors import (
    AuthenticationError,
    ConfigurationError,
    MissingExtraError,
    ModelUnavailableError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.memory.embeddings import MiniLmEmbedder, lexical_vector, open_embedder
from tests.support.chroma import free_port

SECRET = "sk-very-secret-key"


class Endpoint:
    """OpenAI's `/embeddings` on loopback; `replies` come before the real answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, Any], str]] = []
        self.replies: list[tuple[int, str]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((body, self.headers.get("Authorization", "")))
                status, text = endpoint.replies.pop(0) if endpoint.replies else (200, answer(body["input"]))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                """Nothing is logged."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


def answer(texts: list[str]) -> str:
    rows = [{"index": n, "embedding": [float(len(text)), 3.0, 4.0]} for n, text in enumerate(texts)]
    return json.dumps({"data": rows[::-1]})


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    thread = threading.Thread(target=endpoint.server.serve_forever)
    thread.start()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()
    thread.join()


def likeness(one: str, other: str) -> float:
    return float(lexical_vector(one) @ lexical_vector(other))


def test_lexical_vectors_are_the_same_everywhere() -> None:
    vector = lexical_vector("three red cats")
    assert (vector.shape, vector.dtype) == ((384,), np.float32)
    assert abs(float(vector @ vector) - 1) < 1e-5
    # Hashes that differ from process to process would make a store worthless.
    assert int(abs(vector).argmax()) == int(abs(lexical_vector("THREE red, cats!")).argmax()) == 288


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [
        ("three red cats", "red cat", "blue houses"),
        ("striped square", "a square with stripes", "a spotted circle"),
        ("三只红色的猫", "红色的猫", "蓝色的房子"),
        ("Schriftzug", "der Schriftzüge", "das Haus"),
    ],
)
def test_lexical_likeness(query: str, near: str, far: str) -> None:
    assert likeness(query, near) > likeness(query, far) + 0.1


@pytest.mark.parametrize("text", ["", " \n", "!?", "\U0001f44d", "a" * 50_000])
def test_lexical_takes_any_text(text: str) -> None:
    assert abs(float(lexical_vector(text) @ lexical_vector(text)) - 1) < 1e-4


@pytest.mark.parametrize("spec", ["", "nothing", "openai:", "local:", "lexical:9"])
def test_specs_that_are_none(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="GEMS_EMBEDDER"):
        open_embedder(spec)


def test_auto_takes_what_works_here() -> None:
    assert open_embedder("auto").identity == "lexical:1/384"
    assert open_embedder("auto", recorded="minilm").identity == "minilm"
    assert open_embedder("auto", recorded="openai:m@http://elsewhere/v1").identity == "lexical:1/384"
    folder = Path.home() / ".cache" / "chroma" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"
    folder.mkdir(parents=True)
    (folder / "model.onnx").touch()
    assert isinstance(open_embedder("auto"), MiniLmEmbedder)


async def test_minilm_without_network_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="GEMS_EMBEDDER=lexical"):
        await open_embedder("minilm").embed(["a cat"])


async def test_a_local_model_needs_its_folder_and_its_extra(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        await open_embedder(f"local:{tmp_path / 'none'}").embed(["a cat"])
    with pytest.raises(MissingExtraError, match="embeddings"):
        await open_embedder(f"local:{tmp_path}").embed(["a cat"])


async def test_openai_compatible_endpoint(endpoint: Endpoint) -> None:
    embedder = open_embedder(f"openai:model@{endpoint.url}", api_key=SecretStr(SECRET))
    vectors = await embedder.embed(["", "a longer text"])
    assert [round(float(vector[0]), 3) for vector in vectors] == [0.0, 0.933]
    assert all(abs(float(vector @ vector) - 1) < 1e-5 for vector in vectors)
    assert endpoint.requests[0][0]["model"] == "model"
    assert endpoint.requests[0][1] == f"Bearer {SECRET}"
    assert SECRET not in embedder.identity


async def test_a_key_of_openai_goes_nowhere_else(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    await open_embedder(f"openai:model@{endpoint.url}").embed(["a cat"])
    assert endpoint.requests[0][1] == ""


async def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    endpoint.replies = [(503, "busy"), (429, "slow down")]
    assert len(await open_embedder(f"openai:model@{endpoint.url}").embed(["a cat"])) == 1
    assert len(endpoint.requests) == 3


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (401, f"bad key {SECRET}", AuthenticationError),
        (404, "no such model", ModelUnavailableError),
        (400, "too long", RejectedRequestError),
        (500, "down", ServerError),
        (200, "no JSON", UnreadableReplyError),
        (200, '{"data": []}', UnreadableReplyError),
    ],
)
async def test_faults_of_the_endpoint(endpoint: Endpoint, status: int, text: str, kind: type[Exception]) -> None:
    endpoint.replies = [(status, text)] * 3
    embedder = open_embedder(f"openai:model@{endpoint.url}", api_key=SecretStr(SECRET))
    with pytest.raises(kind) as caught:
        await embedder.embed(["a cat"])
    assert SECRET not in str(caught.value)


async def test_nothing_answers() -> None:
    with pytest.raises(UnreachableError):
        await open_embedder(f"openai:model@http://127.0.0.1:{free_port()}/v1").embed(["a cat"])


_FAKE = """
class SentenceTransformer:
    def __init__(self, folder, *, local_files_only, trust_remote_code):
        # As before 6.0, whatever `trust_remote_code` is for a local folder.
        exec(open(folder + "/modeling.py").read()) if OLD else None
        assert local_files_only and not trust_remote_code
    def encode(self, texts):
        return [[1.0, 0.0] for _ in texts]
"""


@pytest.mark.parametrize(("installed", "runs"), [("5.1.0", False), ("5.7.0", False), ("6.0.0", True), ("10.1", True)])
async def test_a_local_model_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, runs: bool
) -> None:
    packages = tmp_path / "packages"
    info = packages / f"sentence_transformers-{installed}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: sentence-transformers\nVersion: {installed}\n")
    (packages / "sentence_transformers.py").write_text(f"OLD = {not runs}\n{_FAKE}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(packages)
    monkeypatch.delitem(sys.modules, "sentence_transformers", raising=False)
    embedder = open_embedder(f"local:{tmp_path / 'model'}", api_key=None)
    try:
        if runs:
            assert len(await embedder.embed(["a"])) == 1
        else:
            with pytest.raises(ConfigurationError, match=f"sentence-transformers 6 or newer, since {installed}"):
                await embedder.embed(["a"])
    finally:
        sys.modules.pop("sentence_transformers", None)
    assert not (tmp_path / "ran").exists()
