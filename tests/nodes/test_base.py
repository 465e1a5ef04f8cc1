"""What every node has in common: limits, accounts, errors, and answers that are asked for once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from langgraph.runtime import Runtime

from gems.errors import (
    ConfigurationError,
    DeadlineReachedError,
    GemsError,
    InternalError,
    RefusedError,
    RunCancelledError,
    ServerError,
    UnreadableReplyError,
)
from gems.nodes.base import as_node
from gems.nodes.context import NodeContext
from gems.nodes.finish import finish
from gems.nodes.prompts import question
from tests.support.scripted_models import OPTIONS, Desk, checks


async def turn(desk: Desk, doing: Any, **state: Any) -> dict[str, Any]:
    runtime = Runtime(context=desk.context, stream_writer=desk.events.append)
    return dict(await as_node("judge", doing)({"run_id": "run"} | state, runtime=runtime))


def raising(error: Exception) -> Any:
    async def doing(state: Any, work: NodeContext) -> Any:
        await work.ask(question("decompose", {"user_prompt": "a cat"}))
        work.warn("Something is odd.")
        raise error

    return doing


async def test_accounts_go_into_the_update(desk: Desk) -> None:
    async def doing(state: Any, work: NodeContext) -> dict[str, Any]:
        await work.ask(question("decompose", {"user_prompt": "a cat"}))
        work.warn("Something is odd.")
        return {"judge_reasoning": "x"}

    update = await turn(desk, doing)
    assert update["judge_reasoning"] == "x"
    assert update["warnings"] == ["Something is odd."]
    assert (update["usage"]["planner"]["calls"], update["usage"]["planner"]["input_tokens"]) == (1, 10)
    assert desk.told("warning")[0] | {"seconds": 0} == {
        "type": "warning",
        "run_id": "run",
        "seconds": 0,
        "message": "Something is odd.",
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RefusedError("never"), "refused"),
        (ServerError("down"), "failed"),
        (DeadlineReachedError("late"), "deadline"),
        (RunCancelledError("enough"), "cancelled"),
        (ValueError("a defect"), "failed"),
    ],
)
@pytest.mark.parametrize("kept", [{"rounds": [{}]}, {"drawn": [{}]}])
async def test_error_becomes_a_stop_reason_once_there_is_an_image(
    desk: Desk, error: Exception, reason: str, kept: dict[str, Any]
) -> None:
    update = await turn(desk, raising(error), **kept)
    name = type(error).__name__ if isinstance(error, GemsError) else "InternalError"
    assert update["stop_reason"] == reason
    assert (update["failure"]["node"], update["failure"]["error"]) == ("judge", name)
    assert str(error) in update["failure"]["message"]
    assert (update["usage"]["planner"]["calls"], update["warnings"]) == (1, ["Something is odd."])


async def test_error_before_the_first_image_is_raised(desk: Desk) -> None:
    with pytest.raises(ServerError):
        await turn(desk, raising(ServerError("down")), rounds=[])
    with pytest.raises(InternalError, match="a defect") as caught:
        await turn(desk, raising(ValueError("a defect")))
    assert isinstance(caught.value.__cause__, ValueError)


async def test_nothing_begins_once_the_run_is_cancelled(desk: Desk) -> None:
    desk.context.cancelled.set()
    update = await turn(desk, raising(AssertionError("begun")), rounds=[{}])
    assert (update["stop_reason"], desk.chat.asked) == ("cancelled", [])


async def test_nothing_begins_after_the_deadline(desk: Desk) -> None:
    desk.context = replace(desk.context, started=time.monotonic() - 10)
    update = await turn(desk, raising(AssertionError("begun")), rounds=[{}], deadline_s=9.0)
    assert (update["stop_reason"], desk.chat.asked) == ("deadline", [])


async def test_the_end_comes_whether_or_not_the_run_was_cancelled(desk: Desk) -> None:
    desk.context.cancelled.set()
    found = {
        "number": 1,
        "prompt": "a cat",
        "candidates": [{"image": "0" * 64}],
        "verdicts": [{"image": "0" * 64, "answers": [], "score": 0.5}],
        "best": 0,
        "score": 0.5,
    }
    update = await turn(desk, finish, rounds=[found], stop_reason="passed", options=OPTIONS)
    assert (update["image"], update["best_round"]) == ("0" * 64, 1)
    assert "stop_reason" not in update
    assert desk.told("stopped")[0]["stop_reason"] == "passed"


async def test_run_without_an_image_or_a_reason_has_no_end(desk: Desk) -> None:
    with pytest.raises(InternalError):
        await finish({"rounds": [], "stop_reason": "failed"}, desk.work())


async def test_context_is_needed() -> None:
    async def doing(state: Any, work: NodeContext) -> dict[str, Any]:
        return {}

    with pytest.raises(ConfigurationError, match="context"):
        await as_node("judge", doing)({}, runtime=Runtime(context=None))  # type: ignore[arg-type]


async def test_answer_is_asked_for_once(desk: Desk) -> None:
    asked = question("decompose", {"user_prompt": "a cat"})
    first, second = desk.work(), desk.work()
    once, again = await first.ask(asked), await second.ask(asked)
    assert len(desk.chat.asked) == 1
    assert (again.text, again.thought, again.parsed) == (once.text, once.thought, once.parsed)
    assert first.usage == second.usage


@pytest.mark.parametrize(
    ("place", "more"), [({"round": 2}, {}), ({"run_id": "other"}, {}), ({"run_id": ""}, {}), ({}, {"attempt": 1})]
)
async def test_another_place_or_attempt_is_another_question(desk: Desk, place: Any, more: Any) -> None:
    await desk.work().ask(question("decompose", {"user_prompt": "a cat"}))
    await desk.work(**place).ask(question("decompose", {"user_prompt": "a cat"}, **more))
    assert len(desk.chat.asked) == 2


async def test_unreadable_answer_is_paid_but_not_kept(desk: Desk) -> None:
    desk.chat.script["checklist"] = ["Hm.", checks("yes")]
    work = desk.work()
    asked = question("checklist", {"questions": "1. A?"})
    with pytest.raises(UnreadableReplyError):
        await work.ask(asked)
    await work.ask(asked)
    assert work.usage["judge"]["calls"] == 2


async def test_waiting_ends_with_the_deadline(desk: Desk) -> None:
    work = desk.work(deadline_s=1e-9)
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(DeadlineReachedError):
        await work.within_limits(never)
    assert never.cancelled()


async def test_waiting_ends_with_what_is_awaited(desk: Desk) -> None:
    async def broken() -> None:
        raise ServerError("down")

    with pytest.raises(ServerError):
        await desk.work(deadline_s=60).within_limits(broken())
    assert await desk.work().within_limits(asyncio.sleep(0, "done")) == "done"
