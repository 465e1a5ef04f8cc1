"""A key appears nowhere but in the header that carries it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from gems.errors import GemsError
from tests.support.chat_script import PROMPT, Script, asks_for, drawings, opened
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture

KEY = "tops3cret-0123456789-value"
SIZE = "64x64"


def files_with(secret: str, folder: Path) -> list[str]:
    """The files below `folder` whose bytes hold the secret, also in UTF-16."""
    needles = (secret.encode(), secret.encode("utf-16-le"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".sqlite3", ".png"}
    return [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


@pytest.mark.parametrize("kind", ["openai", "http"])
async def test_of_a_run_that_met_every_trouble(
    kind: Any, stub: StubServer, home: Path, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script.reflections = 2
    stub.behaviour.api_key = KEY
    path: Any = "images" if kind == "openai" else "generate"
    for fault in ("500", "reset", "html", "429"):
        stub.fault(Fault(fault), times=1, when=asks_for("checklist"))
    stub.fault(Fault("no_json_schema"))
    stub.fault(Fault("html_picture"), path, times=1)
    stub.fault(Fault("401"), path, when=lambda body: "better 2" in str(body["prompt"]))
    events = []
    async with opened(stub, home, generator=kind, key=KEY, chat={"attempts": 6}) as gems:
        async for event in gems.stream(PROMPT, size=SIZE):
            events.append(event.model_dump_json())
        shown = await gems.show((await gems.runs())[0]["run_id"])
        listed = str(await gems.runs())
    assert shown.stop_reason == "failed"
    assert shown.failure is not None
    assert shown.failure["error"] == "AuthenticationError"
    assert len(shown.rounds) == 2
    assert any("Retrying" in record.getMessage() for record in caplog.records)
    for text in (*events, shown.model_dump_json(), repr(shown), listed, caplog.text, repr(gems.settings)):
        assert KEY not in text
    assert files_with(KEY, home) == []
    sent = [call.headers["authorization"] for call in stub.requests]
    assert set(sent) == {f"Bearer {KEY}"}


async def test_of_a_server_that_repeats_what_it_is_sent(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"You sent Authorization: Bearer {KEY}, which is {KEY}."

    def broken(_argument: Any) -> str:
        raise LookupError(echo)

    with StubServer(chat=Script(), images=broken) as stub:
        async with opened(stub, home, key=KEY) as gems:
            with pytest.raises(GemsError) as drawing:
                await gems.run(PROMPT, size=SIZE)
    with StubServer(chat=broken, images=flat_picture) as stub:
        async with opened(stub, home, key=KEY) as gems:
            result = await gems.run(PROMPT, size=SIZE)
    assert "You sent" in drawing.value.message
    assert result.failure is not None
    assert "You sent" in result.failure["message"]
    assert any("You sent" in warning for warning in result.warnings)
    for text in (str(drawing.value), result.model_dump_json(), caplog.text):
        assert KEY not in text
    assert files_with(KEY, home) == []


@pytest.mark.parametrize("kind", ["openai", "http"])
async def test_of_a_page_that_begins_with_the_key(kind: str, home: Path) -> None:
    with StubServer(chat=Script(), images=lambda _request: f"{KEY}!".encode()) as stub:
        async with opened(stub, home, generator=kind, key=KEY) as gems:
            with pytest.raises(GemsError, match="or are truncated") as caught:
                await gems.run(PROMPT, size=SIZE)
    assert len(drawings(stub)) > 1
    assert KEY not in str(caught.value)


async def test_of_keys_within_addresses(stub: StubServer, home: Path) -> None:
    """The only place some servers take a key is the address; it is sent, but never shown or kept."""
    async with opened(stub, home, generator=f"http:{stub.generate_url}?token={KEY}") as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert result.stop_reason == "passed"
    assert drawings(stub)[0].body["token"] == KEY
    assert KEY not in result.model_dump_json()
    assert files_with(KEY, home) == []
