"""Requests that cannot be carried out: refused before anything is asked or paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gems.errors import GemsError, ModelSpecError, OptionError, PromptError, SizeError
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.chat_script import PROMPT, opened
from tests.support.stub import StubServer


@pytest.mark.parametrize(
    ("prompt", "options", "expected", "said"),
    [
        ("", {}, PromptError, "empty"),
        (" \n\t ", {}, PromptError, "empty"),
        ("x" * 20_001, {}, PromptError, "20,001 characters"),
        ("a \ud800 circle", {}, PromptError, "Unicode"),
        (PROMPT, {"size": "9000x64"}, SizeError, "9000x64"),
        (PROMPT, {"size": "0x64"}, SizeError, "0x64"),
        (PROMPT, {"size": "big"}, OptionError, "'big'"),
        (PROMPT, {"max_rounds": 0}, OptionError, "max_rounds"),
        (PROMPT, {"max_rounds": 51}, OptionError, "max_rounds"),
        (PROMPT, {"candidates": 17}, OptionError, "candidates"),
        (PROMPT, {"seed": -2}, OptionError, "seed"),
        (PROMPT, {"seed": 2**32}, OptionError, "seed"),
        (PROMPT, {"deadline_s": 0}, OptionError, "deadline_s"),
        (PROMPT, {"deadline_s": float("nan")}, OptionError, "deadline_s"),
        (PROMPT, {"budget_usd": 1.0}, OptionError, "prices"),
        (PROMPT, {"profile": "fast"}, OptionError, "'fast'"),
        (PROMPT, {"skills": "no-such-skill"}, OptionError, "no-such-skill"),
        (PROMPT, {"negative_prompt": "\udfff"}, OptionError, "Unicode"),
        (PROMPT, {"out": "picture.jpg"}, OptionError, "picture.jpg"),
    ],
)
async def test_nothing_is_paid_for_a_bad_request(
    prompt: str, options: dict[str, Any], expected: type[GemsError], said: str, stub: StubServer, home: Path
) -> None:
    async with opened(stub, home) as gems:
        with pytest.raises(expected, match=said) as caught:
            await gems.run(prompt, **options)
        assert await gems.runs() == []
    assert (caught.value.fault, caught.value.exit_code) == ("request", 2)
    assert caught.value.hint
    assert stub.requests == []


async def test_the_longest_prompt_is_taken(stub: StubServer, home: Path) -> None:
    prompt = ("\N{ARTIST PALETTE} and \x00 " * 4_000)[:20_000]
    assert len(prompt) == 20_000
    async with opened(stub, home, generator="http") as gems:
        result = await gems.run(prompt, size="64x64")
    assert (result.stop_reason, result.prompt) == ("passed", prompt)
    assert result.path is not None


@pytest.mark.parametrize("size", ["64x64", "1000x1000", "48x64"])
async def test_a_generator_with_sizes_of_its_own_says_which(size: str, tmp_path: Path) -> None:
    key = {"api_key": "sk-never-sent-0123456789"}
    settings = Settings(
        home=tmp_path / "home", generator=GeneratorSettings.model_validate({"model": "openai:gpt-image-1", **key})
    )
    async with Gems(settings) as gems:
        with pytest.raises(SizeError, match="1024x1536"):
            await gems.run(PROMPT, size=size)


@pytest.mark.parametrize(
    "settings",
    [
        {"chat": ChatSettings(model="gpt-5")},
        {"chat": ChatSettings(model="diffusers:z-image-turbo")},
        {"judge": ChatSettings(model="openai:judge@ftp://host")},
        {"judge": ChatSettings(model="openai:")},
        {"generator": GeneratorSettings(model="dall-e-3")},
        {"generator": GeneratorSettings(model="http:localhost/generate")},
    ],
)
async def test_unknown_model_specs_are_told_when_it_opens(settings: dict[str, Any], tmp_path: Path) -> None:
    gems = Gems(Settings(home=tmp_path / "home", **settings))
    with pytest.raises(ModelSpecError) as caught:
        await gems.__aenter__()
    assert (caught.value.fault, caught.value.exit_code) == ("configuration", 2)
    assert "blocks" in caught.value.hint
