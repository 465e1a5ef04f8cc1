"""/v1/rewards, and the function that trainers call."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import datasets
import httpx
import pytest
from PIL import Image

from gems.apps.reward_client import request_rewards
from gems.apps.server.app import create_app
from gems.errors import OptionError, RequestError
from gems.models.blocks import render
from gems.models.images import encode_png
from gems.runs.rewards import MOST_ITEMS, RewardItem
from gems.settings import Settings
from tests.support.http_server import serving
from tests.support.scripted_models import failing
from tests.support.scripted_service import House

PROMPT = "three red circles above a blue square"


def picture(prompt: str) -> Image.Image:
    """An image of the built-in world without a fault."""
    drawn = (render(prompt, seed, 256, 256) for seed in range(100))
    return next(each.image for each in drawn if not each.faults)


def item(data: bytes, prompt: str = PROMPT, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "image": base64.b64encode(data).decode(), **more}


def flat(colour: str) -> bytes:
    return encode_png(Image.new("RGB", (16, 16), colour))


def post(client: httpx.Client, *items: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/v1/rewards", json={"items": list(items)})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rewards"]
    return found


def test_rewards_of_the_built_in_world_in_a_map_of_datasets(tmp_path: Path) -> None:
    """As a trainer scores what it drew: Hugging Face's `map` in batches."""
    pictures = [picture(PROMPT), picture("three red circles above a green square"), picture("a yellow star")]
    rows = datasets.Dataset.from_dict({"prompt": [PROMPT] * 3, "image": [encode_png(each) for each in pictures]})
    with serving(create_app(Settings(home=tmp_path / "home"))) as url:
        scored = rows.map(
            lambda batch: {"reward": request_rewards(batch["prompt"], batch["image"], url=url)},
            batched=True,
            batch_size=2,
        )
    best, middle, worst = scored["reward"]
    assert best == 1 > middle > worst


def test_a_checklist_is_made_once_per_prompt_and_kept(client: httpx.Client, house: House) -> None:
    first = post(client, item(flat("red")), item(flat("blue")))
    second = post(client, item(flat("green")))
    assert house.chat.tasks().count("decompose") == 1
    assert len({reward["checklist"] for reward in (*first, *second)}) == 1


async def test_a_checklist_outlives_the_service(house: House) -> None:
    async with house.gems() as gems:
        first = await gems.rewards.score([RewardItem(PROMPT, flat("red"))])
    async with house.gems() as gems:
        second = await gems.rewards.score([RewardItem(PROMPT, flat("blue"))])
    assert house.chat.tasks().count("decompose") == 1
    assert first.rewards[0].checklist == second.rewards[0].checklist


async def test_the_same_image_is_judged_once(house: House) -> None:
    async with house.gems() as gems:
        twice = await gems.rewards.score([RewardItem(PROMPT, flat("red"))] * 2)
        (again,) = (await gems.rewards.score([RewardItem(PROMPT, flat("red"))])).rewards
        (other,) = (await gems.rewards.score([RewardItem("another prompt", flat("red"))])).rewards
    assert sorted(reward.cached for reward in twice.rewards) == [False, True]
    assert again.cached
    assert again.score == twice.rewards[0].score
    asked = house.chat.tasks().count("checklist")
    assert asked == (1 if other.checklist == again.checklist else 2)


async def test_what_nobody_could_judge_has_no_score_and_may_be_asked_again(house: House) -> None:
    house.chat.script["checklist"] = [ConnectionError("gone")] * 9
    async with house.gems() as gems:
        failed, unread = (
            await gems.rewards.score([RewardItem(PROMPT, flat("red")), RewardItem(PROMPT, b"no image")])
        ).rewards
        assert (failed.score, unread.score) == (None, None)
        assert failed.error
        assert unread.error
        house.chat.script["checklist"] = failing(1)
        (now,) = (await gems.rewards.score([RewardItem(PROMPT, flat("red"))])).rewards
    assert now.score is not None
    assert 0 < now.score < 1


async def test_a_request_that_is_cancelled_takes_no_other_with_it(house: House) -> None:
    begun, going_on = asyncio.Event(), asyncio.Event()
    told = house.chat.script["checklist"]

    async def slow(question: Any) -> Any:
        begun.set()
        await going_on.wait()
        return told(question) if callable(told) else told

    house.chat.script["checklist"] = slow
    async with house.gems() as gems:
        leaving = asyncio.ensure_future(gems.rewards.score([RewardItem(PROMPT, flat("red"))]))
        await begun.wait()
        staying = asyncio.ensure_future(gems.rewards.score([RewardItem(PROMPT, flat("red"))]))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        going_on.set()
        (reward,) = (await staying).rewards
    assert reward.score is not None
    assert house.chat.tasks().count("checklist") == 1


def test_a_given_checklist_takes_the_place_of_the_prompts(client: httpx.Client, house: House) -> None:
    (reward,) = post(client, item(flat("red"), checklist=["Is it red?", "Is it square?"]))
    assert [each["question"] for each in reward["requirements"]] == ["Is it red?", "Is it square?"]
    assert "decompose" not in house.chat.tasks()
    assert "Is it square?" in house.chat.about("checklist")[0].text


def test_requests_that_are_refused(client: httpx.Client) -> None:
    for items in ([], [item(flat("red"))] * (MOST_ITEMS + 1), [item(flat("red"), checklist=["?"] * 61)]):
        assert client.post("/v1/rewards", json={"items": items}).status_code == 422
    assert client.post("/v1/rewards", json={"items": [item(flat("red"), prompt="")]}).status_code == 422
    assert client.post("/v1/rewards", json={"items": [{"prompt": PROMPT, "image": "?"}]}).status_code == 400
    assert client.post("/v1/rewards", json={"items": [item(flat("red"), checklist=[" "])]}).status_code == 400


def test_the_client_says_what_was_wrong(url: str) -> None:
    assert request_rewards([PROMPT], [Image.new("RGB", (16, 16), "red")], url=url)[0] is not None
    assert request_rewards([], [], url=url) == []
    # Larger together than the server takes at once.
    large = [encode_png(Image.effect_noise((1500, 1500), 90 + number)) for number in range(14)]
    assert sum(map(len, large)) * 4 // 3 > 25_000_000
    assert len(request_rewards([PROMPT] * 14, large, url=url)) == 14
    with pytest.raises(OptionError, match="2 prompts and 1 images"):
        request_rewards([PROMPT, PROMPT], [flat("red")], url=url)
    with pytest.raises(RequestError, match="at least 1 character"):
        request_rewards([""], [flat("red")], url=url)
