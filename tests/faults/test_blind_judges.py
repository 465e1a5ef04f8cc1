"""A judge that cannot see is found out before the first image; one that sees is asked once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gems.errors import AuthenticationError, BlindModelError
from gems.memory.vision_record import KNOWN_FOR_S, VisionRecord
from gems.models.chat.vision import vision_question
from gems.service import Gems
from tests.support.chat_script import PROMPT, Script, drawings, settings_for, task_of, tasks, text_of
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture
from tests.support.stub.responses import Answer, count_images

SIZE = "64x64"
STEPS = ["decompose", "complete", "checklist", "checklist"]


class Seer(Script):
    """A script that says the colour of the square, or what it is told to say."""

    colour = "Red"
    together: threading.Barrier | None = None

    def __call__(self, messages: list[dict[str, Any]]) -> Answer:
        task = task_of({"messages": messages})
        if self.together is not None and task in ("", "decompose"):
            self.together.wait()
        return super().__call__(messages) if task else Answer(self.colour)


@pytest.fixture
def script() -> Script:
    return Seer()


def shows_a_picture(body: Any) -> bool:
    return count_images(body) > 0


def asked(stub: StubServer) -> list[Any]:
    """The requests about the square."""
    return [call.body for call in stub.calls("chat") if "big square" in text_of(call.body["messages"][-1])]


def opened(stub: StubServer, home: Path, **more: Any) -> Gems:
    return Gems(settings_for(stub, home, is_known=False, **more), skills=())


async def blind_run(stub: StubServer, home: Path, **more: Any) -> BlindModelError:
    async with opened(stub, home, **more) as gems:
        with pytest.raises(BlindModelError) as caught:
            await gems.run(PROMPT, size=SIZE)
        assert [row["status"] for row in await gems.runs()] == ["failed"]
    return caught.value


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (500, "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"),
        (404, "No endpoints found that support image input"),
        (500, "this model is missing data required for image input"),
        (400, "some-model is not a multimodal model"),
        (400, "At most 0 image(s) may be provided in one prompt."),
        (422, "some-model modality is not supported"),
    ],
)
async def test_a_server_that_takes_no_pictures(status: int, text: str, stub: StubServer, home: Path) -> None:
    stub.fault(Fault("refused", status=status, text=text), when=shows_a_picture)
    error = await blind_run(stub, home)
    assert f"stub at {stub.base_url}" in error.message
    assert text in error.message
    assert "GEMS_JUDGE__MODEL" in error.hint
    assert (error.fault, error.exit_code) == ("configuration", 2)
    assert drawings(stub) == []
    assert len(asked(stub)) == 1


async def test_a_server_that_takes_strings_only(stub: StubServer, home: Path) -> None:
    words = "'messages.1.content' : value must be a string: content must be a string"
    stub.fault(Fault("refused", text=words), when=shows_a_picture)
    assert "must be a string" in (await blind_run(stub, home)).message
    assert drawings(stub) == []
    assert len(asked(stub)) <= 2


async def test_a_model_that_says_that_it_is_blind(stub: StubServer, home: Path, script: Seer) -> None:
    script.colour = "I'm sorry, but I can't view images."
    error = await blind_run(stub, home)
    assert "can't view images" in error.message
    assert (drawings(stub), len(asked(stub))) == ([], 1)


async def test_another_judge_goes_on_with_the_run(stub: StubServer, home: Path, script: Seer) -> None:
    script.colour = "I cannot see any image."
    run_id = (await blind_run(stub, home)).run_id
    script.colour = "red"
    async with opened(stub, home) as gems:
        result = await gems.resume(run_id)
    assert (result.stop_reason, result.warnings) == ("passed", [])


async def test_only_the_judge_has_to_see(stub: StubServer, home: Path) -> None:
    with StubServer(chat=Seer(), images=flat_picture) as other:
        other.fault(Fault("refused", text="The model is not a VLM"), when=shows_a_picture)
        async with opened(stub, home, chat={"model": f"openai:m@{other.base_url}"}) as gems:
            settings = gems.settings.model_copy(update={"judge": settings_for(stub, home, is_known=False).chat})
        async with Gems(settings, skills=()) as gems:
            result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.warnings) == ("passed", [])
    assert len(asked(stub)) == 1
    assert asked(other) == []


async def test_a_model_that_sees_is_asked_once(stub: StubServer, home: Path) -> None:
    async with opened(stub, home) as gems:
        first = await gems.run(PROMPT, size=SIZE)
        await gems.run(PROMPT, size=SIZE)
    async with opened(stub, home) as gems:
        last = await gems.run(PROMPT, size=SIZE)
    assert len(asked(stub)) == 1
    assert sorted(filter(None, tasks(stub))) == sorted(3 * STEPS)
    assert (first.warnings, last.warnings) == ([], [])
    # It is paid for by the run that asked.
    assert first.usage["judge"]["calls"] == last.usage["judge"]["calls"] + 1
    assert first.usage["judge"]["images_sent"] == last.usage["judge"]["images_sent"] + 1
    assert count_images(asked(stub)[0]) == 1


async def test_runs_that_start_together_ask_once(stub: StubServer, home: Path) -> None:
    stub.behaviour.chat_s = 0.2
    async with opened(stub, home) as gems:
        results = await asyncio.gather(*(gems.run(PROMPT, size=SIZE, seed=seed) for seed in range(3)))
    assert [result.stop_reason for result in results] == ["passed"] * 3
    assert len(asked(stub)) == 1


async def test_it_is_asked_beside_planning(stub: StubServer, home: Path, script: Seer) -> None:
    # Neither is answered before both are asked.
    script.together = threading.Barrier(2, timeout=PATIENCE_S)
    async with opened(stub, home, chat={"timeout_s": float(PATIENCE_S)}) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.warnings, len(asked(stub))) == ("passed", [], 1)
    assert not script.together.broken


async def test_a_wrong_answer_is_asked_about_again_and_told(stub: StubServer, home: Path, script: Seer) -> None:
    script.colour = "Blue, I believe"
    async with opened(stub, home) as gems:
        results = [await gems.run(PROMPT, size=SIZE) for _ in range(2)]
    assert len(asked(stub)) == 2
    for result in results:
        assert result.stop_reason == "passed"
        (warning,) = result.warnings
        assert "Blue, I believe" in warning
        assert f"stub at {stub.base_url}" in warning
        assert "GEMS_JUDGE__MODEL" in warning


async def test_one_wrong_answer_is_forgiven(stub: StubServer, home: Path) -> None:
    stub.fault(Fault.reply("White"), times=1, when=shows_a_picture)
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert (result.stop_reason, result.warnings, len(asked(stub))) == ("passed", [], 2)


@pytest.mark.parametrize("fault", [Fault("500"), Fault("reset"), Fault("429", retry_after=0.01), Fault("empty")])
async def test_a_question_that_fails_ends_no_run(fault: Fault, stub: StubServer, home: Path) -> None:
    stub.fault(fault, times=1, when=shows_a_picture)
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
        assert (result.stop_reason, result.warnings, len(asked(stub))) == ("passed", [], 1)
        await gems.run(PROMPT, size=SIZE)
    # It is still not known.
    assert len(asked(stub)) == 2


async def test_silence_holds_up_a_run_no_longer_than_any_other(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("hang", seconds=60), when=lambda body: not task_of(body))
    async with opened(stub, home, chat={"timeout_s": 0.5}) as gems:
        result = await gems.run(PROMPT, size=SIZE, seed=1)
    assert (result.stop_reason, result.warnings, len(asked(stub))) == ("passed", [], 1)


async def test_a_key_that_the_judge_rejects_costs_no_image(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("401"), when=shows_a_picture)
    async with opened(stub, home) as gems:
        with pytest.raises(AuthenticationError):
            await gems.run(PROMPT, size=SIZE)
    assert drawings(stub) == []


async def test_the_papers_profile_asks_nothing_else(stub: StubServer, home: Path) -> None:
    async with opened(stub, home) as gems:
        await gems.run(PROMPT, size=SIZE, profile="paper")
    assert asked(stub) == []


async def test_a_resumed_run_does_not_ask_again(stub: StubServer, home: Path) -> None:
    stub.fault(Fault("401"), when=lambda body: task_of(body) == "checklist")
    async with opened(stub, home) as gems:
        result = await gems.run(PROMPT, size=SIZE)
    assert result.stop_reason == "failed"
    stub.behave()
    (home / "vision.json").unlink()
    async with opened(stub, home) as gems:
        assert (await gems.resume(result.run_id)).stop_reason == "passed"
    assert len(asked(stub)) == 1


async def test_after_a_week_it_is_asked_again(tmp_path: Path) -> None:
    clock, path = [1e9], tmp_path / "vision.json"
    record = VisionRecord(path, lambda: clock[0])
    await record.enter("a at http://host/v1", "Red")
    await record.enter("b at http://host/v1", "Blue")
    assert await VisionRecord(path, lambda: clock[0]).reply("b at http://host/v1") == "Blue"
    clock[0] += KNOWN_FOR_S + 1
    assert await record.reply("a at http://host/v1") is None
    assert await VisionRecord(path, lambda: clock[0]).reply("a at http://host/v1") is None
    await record.enter("b at http://host/v1", "Red")
    assert json.loads(path.read_text()) == {"b at http://host/v1": ["Red", clock[0]]}


async def test_two_processes_keep_each_others_entries(tmp_path: Path) -> None:
    path = tmp_path / "vision.json"
    first, second = VisionRecord(path), VisionRecord(path)
    await first.enter("a", "Red")
    await second.enter("b", "Red")
    assert await first.reply("b") == await second.reply("a") == "Red"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '{"a": ["Red", "soon"]}'])
async def test_a_file_that_cannot_be_read_costs_a_question(content: str, tmp_path: Path) -> None:
    path = tmp_path / "vision.json"
    path.write_text(content)
    record = VisionRecord(path)
    assert await record.reply("a") is None
    await record.enter("a", "Red")
    assert await VisionRecord(path).reply("a") == "Red"
    assert 0 <= time.time() - json.loads(path.read_text())["a"][1] < 3600


async def test_a_home_that_cannot_be_written_is_told(stub: StubServer, home: Path) -> None:
    async with opened(stub, home) as gems:
        (home / "vision.json").mkdir()
        results = [await gems.run(PROMPT, size=SIZE) for _ in range(2)]
    assert "vision.json" in results[0].warnings[0]
    # This process knows it all the same.
    assert (results[1].warnings, len(asked(stub))) == ([], 1)


def test_the_question_names_no_requirement() -> None:
    assert "Task:" not in vision_question().text + vision_question().system
