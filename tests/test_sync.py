"""For programs without an event loop, and for those that have one running."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import gems
from gems import sync
from gems.errors import OptionError, PromptError, ServerError
from gems.service import Gems
from tests.support.scripted_models import FlatGenerator, ScriptedChat, failing
from tests.support.scripted_service import PATIENCE_S


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Nothing stays open behind a test."""
    yield
    sync._background.close()


def test_generate_blocks_until_there_is_a_picture(tmp_path: Path) -> None:
    result = gems.generate(
        "a red cat", chat=ScriptedChat(), generator=FlatGenerator(), seed=7, out=tmp_path / "cat.png"
    )
    assert (result.stop_reason, result.path) == ("passed", str(tmp_path / "cat.png"))
    assert result.image.size == (64, 64)


def test_models_stay_open_between_calls() -> None:
    chat, generator = ScriptedChat(), FlatGenerator()
    first = gems.generate("a red cat", chat=chat, generator=generator, seed=7)
    second = gems.generate("a red cat", chat=chat, generator=generator, seed=7)
    assert first.run_id != second.run_id
    assert first.image_id == second.image_id
    assert len(sync._background._services) == 1
    gems.generate("a red cat", chat=chat, generator=FlatGenerator(), seed=7)
    assert len(sync._background._services) == 2


def test_another_home_is_another_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, generator = ScriptedChat(), FlatGenerator()
    paths = []
    for name in ("one", "two"):
        monkeypatch.setenv("GEMS_HOME", str(tmp_path / name))
        paths.append(gems.generate("a red cat", chat=chat, generator=generator, seed=7).path)
    assert [Path(str(path)).parent for path in paths] == [tmp_path / name / "outputs" for name in ("one", "two")]


async def test_generate_works_inside_a_running_loop() -> None:
    result = gems.generate("a red cat", chat=ScriptedChat(), generator=FlatGenerator(), seed=7)
    assert result.stop_reason == "passed"
    await asyncio.sleep(0)


def test_threads_share_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    chat, generator = ScriptedChat(), FlatGenerator()
    results = []

    def call(number: int) -> None:
        results.append(gems.generate(f"cat {number}", chat=chat, generator=generator, seed=number))

    opened: list[int] = []
    enter = Gems.__aenter__

    async def counted(self: Gems) -> Gems:
        opened.append(1)
        return await enter(self)

    monkeypatch.setattr(Gems, "__aenter__", counted)
    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(result.prompt for result in results) == [f"cat {number}" for number in range(4)]
    assert len(opened) == 1


def test_errors_reach_the_caller() -> None:
    with pytest.raises(PromptError):
        gems.generate("", chat=ScriptedChat(), generator=FlatGenerator())
    with pytest.raises(OptionError):
        gems.generate("a cat", chat=ScriptedChat(), generator=FlatGenerator(), max_rounds=99)


def test_resume_goes_on_with_a_run() -> None:
    result = gems.generate("two red circles", size="128x128", seed=7, max_rounds=1)
    again = gems.resume(result.run_id)
    assert again.model_dump() == result.model_dump()


def test_models_are_named_by_specs() -> None:
    result = gems.generate(
        "two red circles", chat="blocks", judge="blocks", generator="blocks", size="128x128", seed=7, max_rounds=1
    )
    assert set(result.models.values()) == {"blocks"}


def test_closing_ends_the_thread_and_it_begins_again() -> None:
    chat, generator = ScriptedChat(), FlatGenerator()
    gems.generate("a red cat", chat=chat, generator=generator, seed=7)
    sync._background.close()
    assert "gems" not in {thread.name for thread in threading.enumerate()}
    assert gems.generate("a red cat", chat=chat, generator=generator, seed=7).stop_reason == "passed"
    sync._background.close()
    sync._background.close()


def test_service_that_failed_to_open_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GEMS_HOME", str(tmp_path / "file"))
    for _ in range(2):
        with pytest.raises(gems.GemsError):
            gems.generate("a red cat", chat=ScriptedChat(), generator=FlatGenerator())
    assert sync._background._services == {}


_PLAIN = """
import gems
for seed in (1, 2):
    result = gems.generate("two red circles", size="128x128", seed=seed, max_rounds=2)
    print(result.score, result.image.size)
"""


def test_plain_program_ends_by_itself_and_quietly(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", _PLAIN],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"GEMS_HOME": str(tmp_path / "home")},
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert len(told.stdout.splitlines()) == 2


def test_fault_of_a_run_leaves_the_service_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_CHAT__ATTEMPTS", "1")
    chat, generator = ScriptedChat(), FlatGenerator()
    chat.script["checklist"] = failing(1)
    right, chat.script["reflect"] = chat.script["reflect"], ServerError("down")
    assert gems.generate("a red cat", chat=chat, generator=generator, seed=7).stop_reason == "failed"
    chat.script["reflect"] = right
    result = gems.generate("a red cat", chat=chat, generator=generator, seed=7, max_rounds=2)
    assert result.stop_reason == "max_rounds"
