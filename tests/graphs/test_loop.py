"""Whole runs: every stop reason, the best image, and the context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.errors import ConfigurationError, OptionError, PromptError, RefusedError, RunCancelledError, ServerError
from gems.generation import ImageRequest
from gems.models.blocks.chat_model import BlocksChat
from gems.models.blocks.generator import BlocksGenerator
from gems.models.chat.client import ChatClient
from gems.options import candidate_seed
from tests.support.graph_runs import carried_out, compiled, config
from tests.support.scripted_models import FREE, Asked, Desk, FlatGenerator, checks, failing, opened_desk


@pytest_asyncio.fixture
async def failing_desk(desk: Desk) -> Desk:
    """A desk whose judge always finds something missing."""
    desk.chat.script["checklist"] = failing(1)
    return desk


def on_drawing(desk: Desk, number: int, doing: Any) -> None:
    """Await `doing` when the image of round `number` is asked for."""

    async def before(request: ImageRequest) -> None:
        if len(desk.generator.requests) == number:
            await doing()

    desk.generator.before = before


def raise_(error: Exception) -> Any:
    async def doing() -> None:
        raise error

    return doing


async def test_passed(desk: Desk) -> None:
    desk.chat.script["checklist"] = [checks("yes", "no"), checks("yes", "yes"), checks("yes", "yes")]
    output = await carried_out(desk)
    assert (output["stop_reason"], output["score"], output["best_round"]) == ("passed", 1.0, 2)
    assert output["final_prompt"] == "a red cat more"
    assert output["image"] == output["rounds"][1]["candidates"][0]["image"]
    assert [turn["number"] for turn in output["rounds"]] == [1, 2]
    assert [experience["round"] for experience in output["experiences"]] == [1]
    assert [request.seed for request in desk.generator.requests] == [7, candidate_seed(7, 2, 0)]
    kinds = [event["type"] for event in desk.events if event["type"] != "step"]
    assert kinds.index("requirements") < kinds.index("verdicts")
    kinds.remove("requirements")
    assert kinds == [*("planned", "image", "verdicts", "experience", "image", "verdicts", "stopped")]


async def test_max_rounds_hands_back_the_best_with_a_tie_to_the_earlier(desk: Desk) -> None:
    desk.chat.script["checklist"] = [
        checks(*said)
        for said in (("no", "no"), ("yes", "no"), ("no", "yes"), ("no", "no"))
    ]  # fmt: skip
    output = await carried_out(desk, max_rounds=4)
    assert (output["stop_reason"], output["score"], output["best_round"]) == ("max_rounds", 0.5, 2)
    assert output["image"] == output["rounds"][1]["candidates"][0]["image"]
    assert desk.told("stopped")[0]["image"] == output["image"]
    assert len(desk.chat.about("reflect")) == 3


async def test_budget_by_images(failing_desk: Desk) -> None:
    output = await carried_out(failing_desk, max_images=3, candidates=2)
    assert output["stop_reason"] == "budget"
    assert [len(turn["candidates"]) for turn in output["rounds"]] == [2, 1]


async def test_budget_by_seconds_ends_a_drawing_that_hangs(failing_desk: Desk) -> None:
    async def hang() -> None:
        # The clock is moved rather than waited for.
        object.__setattr__(failing_desk.context, "started", failing_desk.context.started - 10_000)
        failing_desk.context.chats["judge"].model.asked.clear()  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    on_drawing(failing_desk, 2, hang)
    output = await carried_out(failing_desk, deadline_s=5_000)
    assert (output["stop_reason"], output["failure"]["error"]) == ("deadline", "DeadlineReachedError")
    assert output["image"] == output["rounds"][0]["candidates"][0]["image"]
    assert failing_desk.chat.asked == []
    assert len(failing_desk.told("stopped")) == 1


async def test_budget_by_seconds_between_rounds(failing_desk: Desk) -> None:
    def late(asked: Asked) -> dict[str, Any]:
        object.__setattr__(failing_desk.context, "started", failing_desk.context.started - 10_000)
        return checks("yes", "no")

    failing_desk.chat.script["checklist"] = late
    output = await carried_out(failing_desk, deadline_s=5_000)
    assert (output["stop_reason"], len(output["rounds"])) == ("deadline", 1)
    # Where it stopped is recorded, so that it can go on from there.
    assert output["failure"]["node"] == "reflector"


async def test_budget_by_dollars(tmp_path: Path) -> None:
    async with opened_desk(tmp_path, generator=FlatGenerator(price_usd=1.0)) as desk:
        desk.chat.script["checklist"] = failing(1)
        output = await carried_out(desk, budget_usd=2.5)
    assert (output["stop_reason"], len(output["rounds"])) == ("budget", 2)
    assert output["usage"]["generator"]["usd"] == 2.0


async def test_plateau(failing_desk: Desk) -> None:
    output = await carried_out(failing_desk, max_rounds=20, plateau=7)
    assert (output["stop_reason"], len(output["rounds"]), output["best_round"]) == ("plateau", 8, 1)


async def test_run_ends_where_little_hope_is_left(failing_desk: Desk) -> None:
    output = await carried_out(failing_desk)
    assert (output["stop_reason"], len(output["rounds"]), output["best_round"]) == ("plateau", 6, 1)


async def test_paper_does_not_give_up(failing_desk: Desk) -> None:
    failing_desk.chat.script["verify"] = "no"
    output = await carried_out(failing_desk, profile="paper")
    assert (output["stop_reason"], len(output["rounds"])) == ("max_rounds", 5)


async def test_plateau_that_was_asked_for(failing_desk: Desk) -> None:
    output = await carried_out(failing_desk, max_rounds=20, plateau=1)
    assert (output["stop_reason"], len(output["rounds"])) == ("plateau", 2)


@pytest.mark.parametrize(("error", "reason"), [(RefusedError("never"), "refused"), (ServerError("down"), "failed")])
async def test_fault_after_the_first_image(failing_desk: Desk, error: Exception, reason: str) -> None:
    on_drawing(failing_desk, 2, raise_(error))
    output = await carried_out(failing_desk)
    assert output["stop_reason"] == reason
    assert (output["failure"]["node"], output["failure"]["error"]) == ("generator", type(error).__name__)
    assert output["image"] == output["rounds"][0]["candidates"][0]["image"]
    assert failing_desk.told("stopped")[0]["failure"] == output["failure"]


@pytest.mark.parametrize("task", ["checklist", "reflect"])
async def test_fault_of_judge_or_reflector_hands_back_the_image(failing_desk: Desk, task: str) -> None:
    failing_desk.chat.script[task] = ServerError("down")
    output = await carried_out(failing_desk)
    assert (output["stop_reason"], output["best_round"]) == ("failed", 1)
    assert output["image"]
    assert failing_desk.told("stopped")[0]["image"] == output["image"]


async def test_image_that_was_never_judged_is_handed_back_with_nothing_known(desk: Desk) -> None:
    desk.chat.script["checklist"] = ServerError("down")
    output = await carried_out(desk)
    assert (output["score"], output["rounds"]) == (0.0, [])
    assert output["image"] == output["drawn"][0]["image"]


@pytest.mark.parametrize("error", [RefusedError("never"), ServerError("down")])
async def test_fault_before_the_first_image_is_an_error(desk: Desk, error: Exception) -> None:
    on_drawing(desk, 1, raise_(error))
    with pytest.raises(type(error)):
        await carried_out(desk)


async def test_cancelled(failing_desk: Desk) -> None:
    async def cancel() -> None:
        failing_desk.context.cancelled.set()
        await asyncio.Event().wait()

    on_drawing(failing_desk, 2, cancel)
    output = await asyncio.wait_for(carried_out(failing_desk), 60)
    assert (output["stop_reason"], len(output["rounds"])) == ("cancelled", 1)
    assert output["failure"]["node"] == "generator"
    assert output["image"] == output["rounds"][0]["candidates"][0]["image"]
    assert [event["stop_reason"] for event in failing_desk.told("stopped")] == ["cancelled"]


async def test_cancelled_before_the_first_image(desk: Desk) -> None:
    desk.context.cancelled.set()
    with pytest.raises(RunCancelledError):
        await carried_out(desk)
    assert (desk.chat.asked, desk.generator.requests) == ([], [])


async def test_candidates_of_a_round_are_drawn_side_by_side(desk: Desk) -> None:
    together = asyncio.Barrier(3)

    async def meet(request: ImageRequest) -> None:
        await asyncio.wait_for(together.wait(), 20)

    desk.generator.before = meet
    output = await carried_out(desk, candidates=3)
    assert len(output["rounds"][0]["candidates"]) == 3
    assert len({item["seed"] for item in output["rounds"][0]["candidates"]}) == 3


@pytest.mark.parametrize("bad", [{"prompt": ""}, {"max_rounds": 0}, {"skills": "cooking"}])
async def test_request_that_cannot_be_carried_out_costs_no_image(desk: Desk, bad: dict[str, Any]) -> None:
    with pytest.raises((OptionError, PromptError)):
        await carried_out(desk, **bad)
    assert desk.generator.requests == []


async def test_context_is_needed(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="context"):
        await compiled().ainvoke({"prompt": "a cat"}, config())


async def test_thread_names_the_run_where_nothing_else_does(desk: Desk) -> None:
    await carried_out(desk)
    assert len(await desk.context.ledger.drawings("thread")) == 1


async def test_usage_adds_up_by_role(failing_desk: Desk) -> None:
    output = await carried_out(failing_desk, max_rounds=2)
    calls = {role: share["calls"] for role, share in output["usage"].items()}
    assert calls == {"planner": 2, "judge": 4, "reflector": 1, "generator": 2}
    assert output["usage"]["judge"]["images_sent"] == 4


@pytest_asyncio.fixture
async def blocks(tmp_path: Path) -> AsyncIterator[Desk]:
    generator: Any = BlocksGenerator()
    async with opened_desk(tmp_path / "blocks", generator=generator) as desk:
        client = ChatClient(BlocksChat(), name="blocks", limits=FREE)
        object.__setattr__(desk.context, "chats", dict.fromkeys(desk.context.chats, client))
        yield desk


async def test_built_in_world_runs_to_an_end(blocks: Desk) -> None:
    prompt = 'three red circles above a blue striped square, and the word "GO"'
    output = await carried_out(blocks, prompt=prompt, size="256x256", candidates=2)
    assert output["stop_reason"] in ("passed", "max_rounds", "plateau")
    assert output["score"] == max(turn["score"] for turn in output["rounds"])
    assert {answer["answer"] for answer in output["rounds"][0]["verdicts"][0]["answers"]} <= {"yes", "no"}
    assert len(output["requirements"]) >= 4


async def test_built_in_world_repeats_itself(blocks: Desk) -> None:
    outputs = [
        await carried_out(blocks, compiled(), prompt="two green stars", size="256x256", run_id=name)
        for name in ("first", "second")
    ]
    assert outputs[0]["image"] == outputs[1]["image"]
    assert outputs[0]["experiences"] == outputs[1]["experiences"]


@pytest.mark.parametrize(
    ("limit", "profile", "is_told"), [(75, "balanced", True), (None, "balanced", False), (75, "paper", False)]
)
async def test_who_writes_prompts_is_told_how_much_of_them_is_read(
    limit: int | None, profile: str, is_told: bool, failing_desk: Desk
) -> None:
    generator = failing_desk.generator
    generator.capabilities = replace(generator.capabilities, prompt_tokens=limit)
    failing_desk.chat.script["verify"] = "No. It is missing."
    await carried_out(failing_desk, max_rounds=2, profile=profile)
    told = {asked.task for asked in failing_desk.chat.asked if "at most 75 tokens" in asked.system}
    writers = {asked.task for asked in failing_desk.chat.asked} & {"reflect", "refine"}
    assert writers
    assert told == (writers if is_told else set())
