"""`gems run --source`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.runs.test_verification import picture
from tests.support.stub import StubServer
from tests.support.stub.models import edited_picture
from tests.support.terminal import PROMPT, here


@pytest.fixture
def photo(tmp_path: Path) -> str:
    file = tmp_path / "photo.png"
    file.write_bytes(picture())
    return str(file)


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    with StubServer(images=edited_picture) as stub:
        monkeypatch.setenv("GEMS_GENERATOR__MODEL", f"openai:painter@{stub.base_url}")
        yield stub


def test_a_picture_is_edited_and_shown(photo: str, painter: StubServer, tmp_path: Path) -> None:
    edited = here("run", PROMPT, "--source", photo, "--rounds", "2", "--quiet")
    assert edited.exit_code == 3, edited.stderr
    with Image.open(edited.stdout.strip()) as seen:
        assert seen.size == (64, 48)
        assert seen.getpixel((0, 47)) == (255, 0, 0)
    assert {call.path for call in painter.calls("images")} == {"/v1/images/edits"}
    shown = here("show", "last")
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("source: ")]
    told = json.loads(here("show", "last", "--json").stdout)
    assert line.endswith(f"{told['options']['source']}.png")
    assert Path(line.removeprefix("source: ")).exists()
    page = tmp_path / "page.html"
    assert here("report", "last", "-o", str(page)).exit_code == 0
    assert "The original, which each round edits" in page.read_text("utf-8")


def test_the_built_in_world_says_that_it_cannot(photo: str) -> None:
    refused = here("run", PROMPT, "--source", photo)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "blocks cannot edit images." in refused.stderr
    assert "use a generator that edits" in refused.stderr
    assert here("runs", "--json").stdout.split() == ["{", '"runs":', "[]", "}"]


@pytest.mark.parametrize("name", ["missing.png", ".", " "])
def test_a_file_that_is_none(painter: StubServer, name: str) -> None:
    refused = here("run", PROMPT, "--source", name)
    assert refused.exit_code == 2
    assert painter.requests == []
