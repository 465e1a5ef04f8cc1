"""The deadline is reached while a call hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gems.errors import DeadlineReachedError
from gems.skills.models import Skill
from tests.support.chat_script import PROMPT, SINGLE_NO, Script, asks_for, drawings, opened
from tests.support.stub import Fault, StubServer

SIZE = "64x64"
SKILL = Skill(name="spatial", description="Where things stand.", body="Say where.")
HANG = Fault("hang", seconds=120)
# Long enough for everything before the call that hangs, also on a busy machine.
DEADLINE_S = 3.0


async def test_before_there_is_an_image(stub: StubServer, home: Path) -> None:
    stub.fault(HANG, when=asks_for("route"))
    async with opened(stub, home, skills=(SKILL,), chat={"timeout_s": 100}) as gems:
        with pytest.raises(DeadlineReachedError, match="reached its deadline") as caught:
            await gems.run(PROMPT, size=SIZE, deadline_s=DEADLINE_S)
        assert (caught.value.fault, bool(caught.value.hint)) == ("nobody", True)
        assert drawings(stub) == []
        stub.behave()
        # The run keeps its deadline, which counts from the moment it is taken up again.
        result = await gems.resume(caught.value.run_id)
    assert result.image_id is not None


async def test_while_the_requirements_are_listed(stub: StubServer, home: Path) -> None:
    """The endpoint has answered which skills fit; before its first answer nothing would be drawn."""
    stub.fault(HANG, when=asks_for("decompose"))
    async with opened(stub, home, skills=(SKILL,), chat={"timeout_s": 100}) as gems:
        result = await gems.run(PROMPT, size=SIZE, deadline_s=DEADLINE_S)
        assert (result.stop_reason, result.score) == ("deadline", 0.0)
        assert result.image.size == (64, 64)
        stub.behave()
        resumed = await gems.resume(result.run_id)
    assert resumed.stop_reason == "passed"
    assert len(drawings(stub)) == 1


async def test_in_the_first_drawing(stub: StubServer, home: Path) -> None:
    stub.fault(HANG, "images")
    async with opened(stub, home, image={"timeout_s": 100}) as gems:
        with pytest.raises(DeadlineReachedError) as caught:
            await gems.run(PROMPT, size=SIZE, deadline_s=DEADLINE_S)
    assert caught.value.run_id
    assert len(drawings(stub)) == 1


@pytest.mark.parametrize("task", ["checklist", "verify", "reflect", "mend"])
async def test_in_a_question_about_an_image(task: str, stub: StubServer, home: Path, script: Script) -> None:
    script.reflections = 1 if task in ("reflect", "mend") else 0
    repair = "always" if task == "mend" else "never"
    if task == "verify":
        stub.fault(Fault.reply(SINGLE_NO), when=asks_for("checklist"))
    stub.fault(HANG, when=asks_for(task))
    async with opened(stub, home, chat={"timeout_s": 100}) as gems:
        result = await gems.run(PROMPT, size=SIZE, deadline_s=DEADLINE_S, repair=repair)
    assert (result.stop_reason, result.best_round) == ("deadline", 1)
    assert result.failure is not None
    assert result.failure["error"] == "DeadlineReachedError"
    assert result.image.size == (64, 64)
    assert len(drawings(stub)) == 1


async def test_in_a_later_drawing(stub: StubServer, home: Path, script: Script) -> None:
    script.reflections = 1

    def later(body: dict[str, Any]) -> bool:
        return bool(body["prompt"] != PROMPT)

    stub.fault(HANG, "images", when=later)
    async with opened(stub, home, image={"timeout_s": 100}) as gems:
        result = await gems.run(PROMPT, size=SIZE, deadline_s=DEADLINE_S)
        assert (result.stop_reason, result.score, result.best_round) == ("deadline", 0.5, 1)
        stub.behave()
        resumed = await gems.resume(result.run_id)
    assert (resumed.stop_reason, resumed.score) == ("passed", 1.0)
    assert [call.body["prompt"] for call in drawings(stub)].count(PROMPT) == 1
