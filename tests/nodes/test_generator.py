"""The candidates of a round: options, sizes, skills' overrides, and the ledger."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gems.errors import RefusedError, RunCancelledError, ServerError, SkillError
from gems.generation import GeneratedImage, GeneratorCapabilities, ImageRequest
from gems.nodes.generator import candidate_requests, check_overrides, generate, image_size, merge_overrides
from gems.options import candidate_seed
from gems.state import negative_prompt
from gems.types import DrawingSettings
from tests.support.scripted_models import OPTIONS, Desk


def state(**options: Any) -> Any:
    return {
        "prompt": "a cat",
        "current_prompt": "a cat",
        "options": OPTIONS | options,
        "rounds": [],
        "requirements": [],
    }


async def test_candidates_are_drawn_side_by_side_each_with_its_seed(desk: Desk) -> None:
    together = asyncio.Barrier(3)

    async def meet(request: ImageRequest) -> None:
        # Broken off where the three are not under way at the same time.
        await asyncio.wait_for(together.wait(), 20)

    desk.generator.before = meet
    update = await generate(state(candidates=3), desk.work())
    assert [item["index"] for item in update["drawn"]] == [0, 1, 2]
    assert [item["seed"] for item in update["drawn"]] == [candidate_seed(7, 1, index) for index in range(3)]
    assert len({item["image"] for item in update["drawn"]}) == 3
    assert sorted(event["candidate"]["index"] for event in desk.told("image")) == [0, 1, 2]


async def test_request_carries_everything_that_was_asked_for(desk: Desk) -> None:
    await generate(state(width=96, height=80, negative_prompt="dogs"), desk.work())
    (request,) = desk.generator.requests
    assert (request.prompt, request.negative_prompt, request.seed) == ("a cat", "dogs", 7)
    assert (request.width, request.height) == (96, 80)


@pytest.mark.parametrize(("profile", "alone"), [("paper", True), ("balanced", False)])
async def test_the_papers_profile_draws_each_image_by_itself(desk: Desk, profile: str, alone: bool) -> None:
    await generate(state(profile=profile, candidates=2), desk.work())
    assert [request.alone for request in desk.generator.requests] == [alone, alone]


async def test_one_failing_candidate_is_left_out(desk: Desk) -> None:
    async def fail(request: ImageRequest) -> None:
        if request.seed == 7:
            raise RefusedError("not this one")

    desk.generator.before = fail
    work = desk.work()
    update = await generate(state(candidates=3), work)
    assert [item["index"] for item in update["drawn"]] == [1, 2]
    assert "not this one" in work.warnings[0]


async def test_all_failing_candidates_are_an_error(desk: Desk) -> None:
    async def fail(request: ImageRequest) -> None:
        raise ServerError("down")

    desk.generator.before = fail
    with pytest.raises(ServerError):
        await generate(state(candidates=2), desk.work())


async def test_image_budget_limits_the_candidates() -> None:
    given = state(candidates=4, max_images=5)
    assert len(candidate_requests(given, 1)) == 4
    given["rounds"] = [{"candidates": [{}] * 4}]
    assert len(candidate_requests(given, 2)) == 1


async def test_what_was_drawn_is_not_drawn_again(desk: Desk) -> None:
    first = desk.work()
    once = await generate(state(candidates=2), first)
    second = desk.work()
    again = await generate(state(candidates=2), second)
    assert again["drawn"] == once["drawn"]
    assert len(desk.generator.requests) == 2
    # What the interrupted turn spent was lost with it, so it is counted again.
    assert second.usage["generator"]["calls"] == first.usage["generator"]["calls"] == 2


@pytest.mark.parametrize("other", [{"round": 2}, {"run_id": "other"}, {"run_id": ""}])
async def test_another_place_is_another_drawing(desk: Desk, other: dict[str, Any]) -> None:
    await generate(state(), desk.work())
    await generate(state(), desk.work(**other))
    assert len(desk.generator.requests) == 2


async def test_another_prompt_is_another_drawing(desk: Desk) -> None:
    await generate(state(), desk.work())
    await generate(state() | {"current_prompt": "a dog"}, desk.work())
    assert len(desk.generator.requests) == 2


async def test_paid_image_is_kept_though_the_turn_is_cancelled_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping, cancelled, put = asyncio.Event(), asyncio.Event(), desk.context.images.put

    async def slow_put(data: bytes) -> str:
        keeping.set()
        await cancelled.wait()
        return await put(data)

    monkeypatch.setattr(desk.context.images, "put", slow_put)
    turn = asyncio.ensure_future(generate(state(), desk.work()))
    await asyncio.wait_for(keeping.wait(), 20)
    turn.cancel()
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(turn, 20)
    (kept,) = await desk.context.ledger.drawings("run")
    assert (await generate(state(), desk.work()))["drawn"] == [kept]
    assert len(desk.generator.requests) == 1


async def test_cancelling_ends_a_drawing_that_hangs(desk: Desk) -> None:
    async def hang(request: ImageRequest) -> None:
        desk.context.cancelled.set()
        await asyncio.Event().wait()

    desk.generator.before = hang
    with pytest.raises(RunCancelledError):
        await generate(state(), desk.work())


ANY = GeneratorCapabilities(model="flat", default_size=(64, 64), min_side=16, max_side=512, size_multiple=16)
FREE: Any = OPTIONS | {"sized": False}


def overridden_state(drawing: DrawingSettings, **options: Any) -> Any:
    return {"options": FREE | options, "generation_overrides": drawing}


@pytest.mark.parametrize(
    ("users", "skills", "drawn"),
    [("", "", ""), ("blur", "", "blur"), ("", "noise", "noise"), ("blur", "noise", "blur, noise")],
)
def test_negative_prompts_are_joined(users: str, skills: str, drawn: str) -> None:
    assert negative_prompt(overridden_state({"negative_prompt": skills}, negative_prompt=users)) == drawn


@pytest.mark.parametrize(
    ("drawing", "sized", "drawn"),
    [({"size": "96x32"}, False, (96, 32)), ({"size": "96x32"}, True, (64, 64)), ({}, False, (64, 64))],
)
def test_size_is_the_users_first(drawing: Any, sized: bool, drawn: tuple[int, int]) -> None:
    assert image_size(overridden_state(drawing, sized=sized)) == drawn


def test_of_two_skills_the_first_counts() -> None:
    first: DrawingSettings = {"negative_prompt": "blur", "steps": 4}
    second: DrawingSettings = {"negative_prompt": "noise", "steps": 8, "guidance": 2.0}
    assert merge_overrides(first, second) == {"negative_prompt": "blur, noise", "steps": 4, "guidance": 2.0}
    assert merge_overrides({}, {"steps": 1}) == {"steps": 1}


@pytest.mark.parametrize("given", [{}, {"steps": 1, "guidance": 0, "size": "512x16", "negative_prompt": "blur"}])
def test_what_can_be_drawn_is_kept(given: Any) -> None:
    assert check_overrides(given, FREE, ANY) == (given, [])


@pytest.mark.parametrize("given", [None, {"steps": None}, {"negative_prompt": ""}])
def test_what_says_nothing_is_nothing(given: Any) -> None:
    assert check_overrides(given, FREE, ANY) == ({}, [])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"size": "8x8"}, "flat does not support 8x8"),
        ({"size": "100x100"}, "multiples of 16"),
        ({"size": "huge"}, "Invalid size"),
        ({"sampler": "euler"}, "no setting 'sampler'"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_the_rest_kept(given: Any, told: str) -> None:
    kept, (fault,) = check_overrides(given | {"steps": 3}, FREE, ANY)
    assert kept == {"steps": 3}
    assert told in fault


def test_a_negative_prompt_that_is_not_heeded_is_told() -> None:
    deaf = GeneratorCapabilities(model="flat", default_size=(64, 64), negative_prompts=False)
    kept, faults = check_overrides({"negative_prompt": "blur"}, FREE, deaf)
    assert (kept, faults) == ({}, ["flat takes no negative prompt"])


@pytest.mark.parametrize(
    "given",
    [
        "nonsense",
        [1],
        {"steps": 0},
        {"steps": 2.5},
        {"steps": True},
        {"steps": "many"},
        {"guidance": -1},
        {"guidance": float("nan")},
        {"guidance": [1]},
        {"size": 64},
        {"negative_prompt": 5},
        {"negative_prompt": "\ud800"},
        {"negative_prompt": "x" * 2_001},
    ],
)
def test_what_has_not_the_form_is_a_fault(given: Any) -> None:
    with pytest.raises(SkillError, match="drawing"):
        check_overrides(given, FREE, ANY)


async def test_what_the_generator_warns_about_is_told_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = desk.generator.generate

    async def warn(request: ImageRequest) -> GeneratedImage:
        return replace(await draw(request), warnings=("The prompt is too long.",))

    monkeypatch.setattr(desk.generator, "generate", warn)
    work = desk.work()
    await generate(state(candidates=3), work)
    assert work.warnings == ["The prompt is too long."]
