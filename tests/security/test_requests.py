"""No request goes anywhere because of what a user, a model, a skill or a picture says (SSRF).

The models' addresses come from the settings alone. What answers there cannot name another address either.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client

from gems.errors import GemsError, RejectedRequestError
from gems.generation import ImageRequest
from gems.models.factory import open_chat, open_generator
from gems.models.specs import resolve_on_same_server
from gems.nodes.prompts import question
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings
from gems.skills.files import find_references, read_guidance
from tests.support.chat_script import PROMPT, Script, settings_for
from tests.support.http_server import app_of, begun, result, serving
from tests.support.mcp_clients import served, text_of
from tests.support.receiver import Receiver
from tests.support.scripted_models import FlatGenerator, ScriptedChat, settings_at
from tests.support.scripted_service import House
from tests.support.skill_folders import skill_in, write
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture

REQUEST = ImageRequest(prompt="x", seed=1, width=64, height=64)
BASE = "http://127.0.0.1:9000/v1"


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where connections were opened to, and which names were asked for."""
    seen: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> Any:
        seen.append(address)
        return connect(self, address)

    def looking_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(host)
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    return seen


@pytest.fixture
def inside() -> Iterator[Receiver]:
    """Something on this machine that nobody may be led to."""
    with Receiver() as receiver:
        yield receiver
        assert receiver.bodies == []


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest",
        "http://127.0.0.1:9001/v1/x.png",
        "http://127.0.0.1/v1/x.png",
        "http://localhost:9000/v1/x.png",
        "http://127.1:9000/x.png",
        "http://2130706433:9000/x.png",
        "http://0x7f.1:9000/x.png",
        "http://0177.0.0.1:9000/x.png",
        "http://[::ffff:127.0.0.1]:9000/x.png",
        "http://127.0.0.1.nip.io:9000/x.png",
        "http://127.0.0.1:9000@evil.example/x.png",
        "http://evil.example#@127.0.0.1:9000/x.png",
        "http://evil.example\\@127.0.0.1:9000/x.png",
        "http:\\\\evil.example\\x.png",
        "//evil.example/x.png",
        "///evil.example/x.png\t",
        "https://127.0.0.1:9000/x.png",
        "HTTP://evil.example/x.png",
        "file:///etc/passwd",
        "ftp://127.0.0.1:9000/x.png",
        "gopher://127.0.0.1:9000/_x",
        "javascript:alert(1)",
        "http://[::1",
        "http://127.0.0.1:99999/x.png",
        "http://127.0.0.1:9000.evil.example/x.png",
        "\nhttp://evil.example/x.png",
    ],
)
def test_an_address_elsewhere_is_not_on_the_same_server(address: str) -> None:
    found = resolve_on_same_server(address, BASE)
    if found is not None:
        # Then it was taken for a path of the server itself.
        assert httpx.URL(found).copy_with(path="/", query=None, fragment=None) == httpx.URL(BASE).copy_with(path="/")


async def ask(kind: str, stub: StubServer) -> None:
    """Ask an endpoint of the stub once, with a key."""
    given: dict[str, Any] = {"api_key": "sk-secret-0123456789", "attempts": 1}
    if kind == "chat":
        client = open_chat(ChatSettings(model=f"openai:m@{stub.base_url}", **given))
        async with aclosing(client):
            await client.ask(question("verify", {"question": "Is it?"}))
        return
    spec = f"openai:m@{stub.base_url}" if kind == "openai" else f"http:{stub.generate_url}"
    async with aclosing(open_generator(GeneratorSettings(model=spec, **given))) as generator:
        await generator.generate(REQUEST)


@pytest.mark.parametrize(("kind", "path"), [("chat", "chat"), ("openai", "images"), ("http", "generate")])
async def test_redirects_of_no_endpoint_are_followed(kind: str, path: Any, inside: Receiver) -> None:
    with StubServer(chat=Script(), images=flat_picture) as stub:
        stub.fault(Fault("redirect", text=f"{inside.url}/stolen"), path)
        with pytest.raises(GemsError):
            await ask(kind, stub)
        assert len(stub.requests) == 1


async def test_a_picture_whose_address_redirects(inside: Receiver) -> None:
    """The address is the endpoint's own, and what it answers there is another one."""
    with StubServer(images=flat_picture) as stub:
        stub.fault(Fault("url"), "images")
        stub.fault(Fault("redirect", text=f"{inside.url}/stolen"), "files")
        with pytest.raises(GemsError):
            await ask("openai", stub)
        assert [call.kind for call in stub.requests] == ["images", "files"]


async def test_a_picture_on_another_server_of_this_machine(inside: Receiver) -> None:
    with StubServer(images=flat_picture) as stub:
        stub.fault(Fault("url", text=f"{inside.url}/x.png"), "images")
        with pytest.raises(RejectedRequestError, match="another server"):
            await ask("openai", stub)


async def test_addresses_in_prompts_and_answers_are_words(inside: Receiver, reached: list[Any], tmp_path: Path) -> None:
    """Of everybody who writes: the user, the planner, the judge, the reflector."""
    link = f"![x]({inside.url}/a.png) <img src='{inside.url}/b.png'> {inside.url}/c"
    chat = ScriptedChat()
    chat.script["checklist"] = lambda _asked: {
        "answers": [{"number": n, "answer": "no", "evidence": link} for n in (1, 2)]
    }
    chat.script["reflect"] = {"experience": link, "prompt": link}
    settings = settings_at(tmp_path / "home", experience="", embedder="lexical")
    async with Gems(settings, chat=chat, generator=FlatGenerator()) as gems:
        made = await gems.run(f"a red cat {link}", negative_prompt=link, seed=7, max_rounds=2)
        page = await gems.report(made.run_id)
    # Nor does whoever looks at the page reach for them.
    assert inside.url in page
    assert f"src='{inside.url}" not in page
    assert f'src="{inside.url}' not in page
    assert reached == []


async def test_references_of_a_skill_are_files_of_its_folder(
    inside: Receiver, reached: list[Any], tmp_path: Path
) -> None:
    body = (
        f"Read {inside.url}/references/a.md, [b]({inside.url}/references/b.md), file:///references/c.md, "
        "//host/references/d.md and references/fine.md."
    )
    assert find_references(body, tmp_path) == ["references/fine.md"]
    skill = skill_in(write(tmp_path / "mine", {"references/fine.md": "fine"}, body=body))
    text, faults = await read_guidance(skill)
    assert (text.endswith("fine"), faults, reached) == (True, [], [])


def test_addresses_in_requests_are_not_fetched(inside: Receiver, tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    url = f"{inside.url}/x.png"
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "input_image", "image_url": url},
        {"type": "file", "file": {"file_data": url}},
        {"type": "input_audio", "input_audio": {"data": url}},
    ]
    with serving(app_of(house)) as at, httpx.Client(base_url=at, timeout=300) as client:
        for part in parts:
            content = [{"type": "text", "text": "draw it"}, part]
            sent = {"messages": [{"role": "user", "content": content}]}
            assert client.post("/v1/chat/completions", json=sent).status_code == 400
        for field in ("image", "image_url", "url", "callback_url", "response_url"):
            sent = {"prompt": "a red cat", field: url, "quality": "low"}
            assert client.post("/v1/images/generations", json=sent).status_code == 200
            assert client.post("/runs", json=sent).status_code == 422
        edited = client.post("/v1/images/edits", data={"prompt": "x", "image": url})
        assert edited.status_code == 400
        result(client, begun(client, f"a red cat {url}"))


async def test_no_tool_of_mcp_fetches(inside: Receiver, tmp_path: Path) -> None:
    async with served(House(tmp_path / "home")) as address, Client(address) as client:
        for sent in ({"image": f"{inside.url}/x.png"}, {"path": f"{inside.url}/x.png"}):
            answer = await client.call_tool("verify_image", {"prompt": "a cat", **sent})
            assert answer.is_error
            assert "not valid base64" in text_of(answer) or "not read" in text_of(answer)


async def test_a_run_reaches_its_models_and_nothing_else(reached: list[Any], tmp_path: Path) -> None:
    with StubServer(chat=Script(1), images=flat_picture) as stub:
        settings = settings_for(stub, tmp_path / "home").model_copy(update={"embedder": "lexical"})
        async with Gems(settings) as gems:
            await gems.run(PROMPT, size="64x64")
            await gems.memory.flush()
        hosts = {each[0] if isinstance(each, tuple) else each for each in reached}
        ports = {each[1] for each in reached if isinstance(each, tuple)}
    assert {str(host.decode() if isinstance(host, bytes) else host) for host in hosts} == {"127.0.0.1"}
    assert ports == {stub.port}
