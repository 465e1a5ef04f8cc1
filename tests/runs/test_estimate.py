"""What a run is expected to cost, from past runs and from the calls of a run."""

from __future__ import annotations

from typing import Any

import pytest

from gems.errors import OptionError, PromptError
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.scripted_service import House
from tests.support.stub import StubServer


@pytest.fixture
def house(tmp_path: Any) -> House:
    return House(tmp_path / "home")


def priced(tmp_path: Any, stub: StubServer, **generator: Any) -> Settings:
    chat = ChatSettings(model=f"openai:m@{stub.base_url}", input_usd_per_million=1, output_usd_per_million=4)
    drawing = GeneratorSettings(model=f"openai:m@{stub.base_url}", **generator)
    return Settings(home=tmp_path / "home", chat=chat, generator=drawing, experience="off")


async def test_pattern_of_calls_and_prices(tmp_path: Any) -> None:
    with StubServer() as stub:
        async with Gems(priced(tmp_path, stub, usd_per_image=0.05)) as gems:
            found = await gems.estimate("a red cat", max_rounds=3, candidates=2)
            bounded = await gems.estimate("a red cat", max_rounds=3, candidates=2, max_images=3)
            paper = await gems.estimate("a red cat", max_rounds=3, profile="paper")
            assert await gems.runs() == []
        assert stub.requests == []
    assert (found.basis, found.runs) == ("pattern", 0)
    assert (found.images_low, found.images_high, bounded.images_high) == (2, 6, 3)
    assert (found.calls_low, found.calls_high) == (3 + 3, 3 + 9 + 2)
    assert (paper.calls_low, paper.calls_high) == (2 + 4, 2 + 3 * 16 + 4)
    assert found.usd_low is not None
    assert found.usd_high is not None
    assert 2 * 0.05 < found.usd_low < 6 * 0.05 < found.usd_high < 1
    assert (found.unpriced, found.prices) == ([], "")


async def test_unknown_prices_name_their_settings(tmp_path: Any) -> None:
    with StubServer() as stub:
        settings = priced(tmp_path, stub)
        settings = settings.model_copy(update={"judge": ChatSettings(model=f"openai:other@{stub.base_url}")})
        async with Gems(settings) as gems:
            found = await gems.estimate("a red cat")
            shared = settings.model_copy(
                update={"judge": ChatSettings(), "chat": ChatSettings(model=settings.chat.model)}
            )
        async with Gems(shared) as gems:
            all_of_them = await gems.estimate("a red cat")
    assert (found.usd_low, found.usd_high) == (None, None)
    assert found.unpriced == [
        "GEMS_JUDGE__INPUT_USD_PER_MILLION",
        "GEMS_JUDGE__OUTPUT_USD_PER_MILLION",
        "GEMS_GENERATOR__USD_PER_IMAGE",
    ]
    assert all_of_them.unpriced[:2] == ["GEMS_CHAT__INPUT_USD_PER_MILLION", "GEMS_CHAT__OUTPUT_USD_PER_MILLION"]


async def test_table_of_prices_is_told_with_its_date(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    chat, drawing = (
        ChatSettings(model="openai:gpt-5-mini"),
        GeneratorSettings(model="openai:gpt-image-1", quality="low"),
    )
    settings = Settings(home=tmp_path / "home", chat=chat, generator=drawing, experience="off")
    async with Gems(settings) as gems:
        found = await gems.estimate("a red cat", max_rounds=1)
    assert found.usd_high is not None
    assert 0.016 < found.usd_high < 0.05
    assert "2026-08-21 for openai:gpt-5-mini, openai:gpt-image-1;" in found.prices


async def test_past_runs_of_the_same_models(house: House) -> None:
    async with house.gems() as gems:
        first = await gems.run("a red cat", seed=7)
        found = await gems.estimate("a blue dog")
        other = await gems.estimate("a blue dog", candidates=2)
    calls = sum(used["calls"] for role, used in first.usage.items() if role != "generator")
    assert (found.basis, found.runs) == ("past_runs", 1)
    assert found.calls_low == found.calls_high == calls
    assert found.images_low == found.images_high == 1
    assert (other.basis, other.images_low) == ("pattern", 2)


@pytest.mark.parametrize(
    ("prompt", "arguments", "error"), [("", {}, PromptError), ("a red cat", {"max_rounds": 0}, OptionError)]
)
async def test_invalid_requests_are_refused(
    prompt: str, arguments: dict[str, Any], error: type[Exception], house: House
) -> None:
    async with house.gems() as gems:
        with pytest.raises(error):
            await gems.estimate(prompt, **arguments)
