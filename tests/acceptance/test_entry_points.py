"""One prompt, all the ways it can be drawn: what a newcomer is promised."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gems.events import Finished, StepDone
from gems.results import RunResult
from gems.service import Gems
from gems.settings import Settings, with_models
from gems.skills.lettering import ocr
from tests.support import tiny_pipelines
from tests.support.stub import StubServer

PROMPT = 'three red circles above a blue striped square, and the word "GO"'


# In one process, so that each picture is read once.
pytestmark = pytest.mark.xdist_group("acceptance")


@pytest.fixture(scope="module", autouse=True)
def pictures_are_read_once() -> Iterator[None]:
    """The ways lead to the same pictures, and reading the text in one takes longer than all the rest of a round."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocr, "_read_png", cache(ocr._read_png))
        yield


async def drawn(home: Path, chat: str = "blocks", generator: str = "blocks", **options: Any) -> RunResult:
    settings = with_models(Settings(home=home), chat=chat, generator=generator)
    async with Gems(settings) as gems:
        return await gems.run(PROMPT, seed=7, **options)


def learned_and_got_better(rounds: list[Any], experiences: list[Any]) -> bool:
    return rounds[0]["score"] < 1 and bool(experiences) and rounds[-1]["score"] > rounds[0]["score"]


def test_built_in_world_from_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gems", "run", PROMPT, "--seed", "7", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert learned_and_got_better(result["rounds"], result["experiences"])
    assert result["stop_reason"] == "passed"
    assert Path(result["path"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("profile", ["balanced", "paper"])
@pytest.mark.parametrize("way", ["openai", "http"])
async def test_over_http_it_goes_as_in_process(tmp_path: Path, stub: StubServer, way: str, profile: Any) -> None:
    """The stub plays the built-in world, so the same verdicts and images must come out."""
    generator = f"openai:stub@{stub.base_url}" if way == "openai" else f"http:{stub.generate_url}"
    # `/generate` takes no image to edit.
    repair = "never" if way == "http" else None
    options = {"profile": profile, "size": "512x512", "repair": repair}
    remote = await drawn(tmp_path / "a", f"openai:stub@{stub.base_url}", generator, **options)
    local = await drawn(tmp_path / "b", **options)
    assert learned_and_got_better(remote.rounds, remote.experiences)
    assert [turn["score"] for turn in remote.rounds] == [turn["score"] for turn in local.rounds]
    assert remote.image_id == local.image_id
    assert stub.calls("chat")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning")
async def test_tiny_diffusers_pipeline(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Random weights draw noise: no requirement holds, and the best of it is handed back."""
    folder = tiny_pipelines.saved("z_image", tmp_path_factory.mktemp("pipes"))
    settings = with_models(Settings(home=tmp_path), generator=f"diffusers:{folder}")
    settings.generator.steps, settings.generator.max_batch = 2, 2
    async with Gems(settings) as gems:
        # An edit of noise is noise that cannot be aligned.
        options: Any = {"size": "64x64", "max_rounds": 2, "candidates": 2, "repair": "never"}
        told = [event async for event in gems.stream(PROMPT, seed=7, **options)]
    steps = [(e.round, e.candidate, e.done, e.total) for e in told if isinstance(e, StepDone)]
    assert sorted(steps) == [(r, c, n, 2) for r in (1, 2) for c in (0, 1) for n in (1, 2)]
    assert isinstance(told[-1], Finished)
    result = told[-1].result
    assert result.stop_reason == "max_rounds"
    assert result.image.size == (64, 64)
    assert [len(turn["candidates"]) for turn in result.rounds] == [2, 2]
    assert {c["parameters"]["batch"] for turn in result.rounds for c in turn["candidates"]} == {2}
    assert not result.passed
    assert len(result.experiences) == 1
