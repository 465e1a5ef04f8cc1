"""A picture that says what made it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gems import __version__
from gems.results import RunResult
from tests.support.scripted_models import checks
from tests.support.scripted_service import House, content


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


async def made(house: House, prompt: str = "a red cat", **arguments: Any) -> RunResult:
    async with house.gems() as gems:
        return await gems.run(prompt, seed=7, **arguments)


def opened(result: RunResult) -> Any:
    picture: Any = Image.open(io.BytesIO(content(result.path)))
    picture.load()
    return picture


async def test_parameters_are_what_other_tools_read(house: House) -> None:
    result = await made(house, negative_prompt="dogs, blur")
    assert opened(result).text["parameters"].splitlines() == [
        "a red cat",
        "Negative prompt: dogs, blur",
        f"Steps: 4, Seed: 7, Size: 64x64, Model: flat, Version: GEMS {__version__}",
    ]


async def test_record_says_what_was_judged(house: House) -> None:
    house.never_pass()
    result = await made(house, max_rounds=1)
    record = json.loads(opened(result).text["gems"])
    assert record == {
        "version": __version__,
        "run_id": result.run_id,
        "round": 1,
        "prompt": "a red cat",
        "final_prompt": "a red cat",
        "seed": 7,
        "model": "flat",
        "parameters": {"steps": 4, "seed_used": 7},
        "models": result.models,
        "score": 0.5,
        "stop_reason": "max_rounds",
        "verdicts": [
            {"question": "Is there a cat?", "answer": "no", "evidence": "It is missing."},
            {"question": "Is it red?", "answer": "yes", "evidence": "seen 2"},
        ],
    }


async def test_the_round_that_made_the_picture_is_told(house: House) -> None:
    house.chat.script["checklist"] = [checks("yes", "yes"), checks("yes", "no"), *[checks("yes", "yes")] * 2]
    house.chat.script["verify"] = "No."
    result = await made(house)
    assert (result.best_round, len(result.rounds)) == (2, 2)
    text = opened(result).text
    assert text["parameters"].startswith("a red cat more\n")
    assert f"Seed: {result.rounds[1]['candidates'][0]['seed']}," in text["parameters"]
    assert json.loads(text["gems"])["round"] == 2


async def test_pixels_stay_as_they_were(house: House) -> None:
    async with house.gems() as gems:
        result = await gems.run("a red cat", seed=7)
        assert result.image_id is not None
        stored = await gems.resources.images.load(result.image_id)
    with Image.open(io.BytesIO(stored)) as before:
        after = opened(result)
        assert (after.mode, after.size, after.tobytes()) == (before.mode, before.size, before.tobytes())
        assert not getattr(before, "text", {})


async def test_any_text_survives(house: House) -> None:
    prompt = 'ein "Kätzchen", 猫 👍: rot\nund blau'
    text = opened(await made(house, prompt)).text
    assert text["parameters"].startswith(prompt)
    assert json.loads(text["gems"])["prompt"] == prompt


async def test_value_with_a_comma_is_quoted(house: House) -> None:
    draw = house.generator.generate

    async def generate(request: Any) -> Any:
        return replace(await draw(request), model="vendor: flat, large")

    house.generator.generate = generate  # type: ignore[method-assign]
    last = opened(await made(house)).text["parameters"].splitlines()[-1]
    assert 'Model: "vendor: flat, large", Version' in last


async def test_nothing_is_told_where_nothing_is_wanted(house: House) -> None:
    assert not opened(await made(house, metadata=False)).text
