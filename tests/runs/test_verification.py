"""Any picture checked against a prompt."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from gems.errors import GemsError, PromptError, RequestError, ServerError
from gems.memory.source_images import MAX_BYTES
from gems.service import Gems
from gems.skills.authoring import VerifierAnswer
from tests.support.scripted_models import (
    FlatGenerator,
    ScriptedChat,
    at_looks,
    checks,
    failing,
    opened_gems,
    requirements,
)
from tests.support.stub.faults import bomb
from tests.support.terminal import here


def picture(form: str = "PNG", size: tuple[int, int] = (64, 48), **more: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, form, **more)
    return out.getvalue()


@pytest.fixture
def chat() -> ScriptedChat:
    return ScriptedChat()


@pytest.fixture
def generator() -> FlatGenerator:
    return FlatGenerator()


@pytest_asyncio.fixture
async def gems(tmp_path: Path, chat: ScriptedChat, generator: FlatGenerator) -> AsyncIterator[Gems]:
    async with opened_gems(tmp_path / "home", chat, generator) as opened:
        yield opened


async def test_what_seems_met_is_asked_again(gems: Gems, chat: ScriptedChat) -> None:
    found = await gems.verify(picture(), "a red cat")
    assert (found.passed, found.score, found.warnings) == (True, 1.0, [])
    assert [item.source for item in found.requirements] == ["confirmation"] * 2
    assert chat.tasks() == ["decompose", "complete", "checklist", "checklist"]
    assert {role: used["calls"] for role, used in found.usage.items()} == {"planner": 2, "judge": 2}


async def test_nothing_is_drawn_and_nothing_is_kept(gems: Gems, generator: FlatGenerator, tmp_path: Path) -> None:
    await gems.verify(picture(), "a red cat")
    assert generator.requests == []
    assert await gems.runs() == []
    assert not (tmp_path / "home" / "images").exists()


async def test_what_is_not_met_is_told(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["checklist"] = failing(1)
    found = await gems.verify(picture(), "a red cat")
    assert (found.passed, found.score) == (False, 0.5)
    assert [(item.answer, item.evidence) for item in found.requirements] == [
        ("no", "It is missing."),
        ("yes", "seen 2"),
    ]
    assert chat.tasks() == ["decompose", "complete", "checklist", "verify"]


async def test_a_second_look_may_say_no(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["checklist"] = at_looks(checks("yes", "yes"), checks("no", "yes"))
    chat.script["verify"] = "No, it is green."
    found = await gems.verify(picture(), "a red cat")
    assert (found.passed, found.score) == (False, 0.5)
    assert [item.answer for item in found.requirements] == ["yes", "no"]


async def test_a_judge_that_fails_is_no_verdict(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["checklist"] = ServerError("It is down.")
    with pytest.raises(GemsError, match="It is down"):
        await gems.verify(picture(), "a red cat")


async def test_a_prompt_that_cannot_be_taken_apart_is_checked_whole(gems: Gems, chat: ScriptedChat) -> None:
    chat.script["decompose"] = requirements()
    found = await gems.verify(picture(), "a red cat")
    assert [item.question for item in found.requirements] == ["Does this image show: a red cat?"]
    assert len(found.warnings) == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_files_of_common_formats(gems: Gems, tmp_path: Path, form: str) -> None:
    file = tmp_path / "picture"
    file.write_bytes(picture(form))
    assert (await gems.verify(file, "a red cat")).passed


async def test_photographs_are_shown_upright(gems: Gems, chat: ScriptedChat) -> None:
    import base64

    exif = Image.Exif()
    exif[0x0112] = 6
    await gems.verify(picture("JPEG", exif=exif), "a red cat")
    (url,) = chat.about("checklist")[0].pictures
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as shown:
        assert shown.size == (48, 64)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a valid image"),
        (b"sesame=secret", "not a valid image"),
        (picture()[:60], "not a valid image"),
        (bomb(), "more than 64,000,000 pixels"),
        (b"\0" * (MAX_BYTES + 1), "more than 50,000,000 bytes"),
    ],
    ids=["empty", "text", "cut", "bomb", "huge"],
)
async def test_what_is_no_usable_picture_costs_nothing(
    gems: Gems, chat: ScriptedChat, tmp_path: Path, data: bytes, message: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    for given in (data, file):
        with pytest.raises(RequestError, match=message) as caught:
            await gems.verify(given, "a red cat")
        assert "sesame" not in str(caught.value)
    assert chat.asked == []


@pytest.mark.parametrize("name", ["missing.png", ".", "a\0b", "x" * 5_000])
async def test_paths_without_a_picture(gems: Gems, tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=r"There is no file|cannot be read"):
        await gems.verify(tmp_path / name, "a red cat")


async def test_an_empty_prompt(gems: Gems) -> None:
    with pytest.raises(PromptError):
        await gems.verify(picture(), " ")


class _Reads:
    """What the reader of texts would say."""

    def takes(self, requirement: Any) -> bool:
        return requirement["kind"] == "text"

    async def verify(self, request: Any) -> dict[str, VerifierAnswer]:
        return {item["id"]: VerifierAnswer(answer="no", evidence="It reads OPFN.") for item in request.requirements}


async def test_texts_are_read(
    tmp_path: Path, chat: ScriptedChat, generator: FlatGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gems.nodes.checklist.skill_verifiers", lambda _skill: [_Reads()])
    chat.script["decompose"] = requirements('Does the sign say "OPEN"?', kind="text")
    async with Gems(_settings(tmp_path), chat=chat, generator=generator) as gems:
        found = await gems.verify(picture(), 'a sign that says "OPEN"')
        assert [(item.source, item.answer) for item in found.requirements] == [("text-rendering", "no")]
        assert "checklist" not in chat.tasks()
        # Text without quotation marks is known from the requirements alone.
        unquoted = await gems.verify(picture(), "a sign that says open")
        assert [item.source for item in unquoted.requirements] == ["text-rendering"]
        chat.script["decompose"] = requirements("Is there a red cat?")
        plain = await gems.verify(picture(), "a red cat")
        assert [item.source for item in plain.requirements] == ["confirmation"]


def _settings(tmp_path: Path) -> Any:
    from tests.support.scripted_models import settings_at

    return settings_at(tmp_path / "home")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from gems.runs.verification import Verification

    drawn = here("run", "two green stars", "--size", "256x256", "--seed", "7", "--quiet")
    path = drawn.stdout.strip()
    # No generator is needed.
    monkeypatch.setenv("GEMS_GENERATOR__MODEL", "nonsense:x")
    right = here("verify", path, "two green stars")
    assert (right.exit_code, right.stdout.splitlines()[-1]) == (0, "1 of 1 met, score 1.00")
    assert right.stdout.startswith("met: ")
    wrong = here("verify", path, "three red circles", "--json")
    printed = json.loads(wrong.stdout)
    assert (wrong.exit_code, printed["passed"], printed["score"]) == (3, False, 0.0)
    assert Verification.model_validate(printed).model_dump(mode="json") == printed
    missing = here("verify", str(tmp_path / "missing.png"), "two green stars", "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["error"]["type"]) == (2, "RequestError")
