"""A run chooses among the generators and judges that the settings offer."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse

from gems.errors import NotOfferedError, OptionError, ServerError, SizeError
from gems.events import Planned
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.offers import ASKED, KEY, PROMPT, kinds, offering
from tests.support.stub import StubServer

OPTIONS = {name: value for name, value in ASKED.items() if name != "prompt"}


@pytest.fixture
def settings(tmp_path: Path, stub: StubServer, far: StubServer) -> Settings:
    return offering(tmp_path / "home", stub, far)


async def test_the_chosen_models_are_asked_and_no_others(settings: Settings, stub: StubServer, far: StubServer) -> None:
    async with Gems(settings) as gems:
        plain = await gems.run(PROMPT, **OPTIONS)
        assert (kinds(stub), kinds(far)) == (set(), set())
        assert plain.models["generator"].startswith("blocks")
        assert not {"generator", "judge"} & plain.options.keys()
        drawn = await gems.run(PROMPT, **OPTIONS, generator="near")
        assert (kinds(stub), kinds(far)) == ({"generate"}, set())
        assert drawn.options["generator"] == "near"
        assert (drawn.models["generator"], drawn.models["judge"]) == (f"http:{stub.generate_url}", "blocks")
        judged = await gems.run(PROMPT, **OPTIONS, judge="strict")
        assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
        assert (judged.models["judge"], judged.models["planner"]) == (f"strict at {far.base_url}", "blocks")
        both = await gems.run(PROMPT, **OPTIONS, generator="far.2", judge="kind")
        assert (kinds(stub), kinds(far)) == ({"generate", "chat"}, {"chat", "images"})
        rows = {row["run_id"]: row for row in await gems.runs()}
    assert rows[both.run_id]["options"]["generator"] == "far.2"
    assert rows[both.run_id]["models"] == both.models
    assert {request.headers.get("authorization") for request in far.calls("images")} == {f"Bearer {KEY}"}
    assert KEY not in str([request.headers for request in (*stub.requests, *far.calls("chat"))])


async def test_money_is_counted_by_the_run_s_own_prices(settings: Settings) -> None:
    async with Gems(settings) as gems:
        free = await gems.run(PROMPT, **OPTIONS)
        near = await gems.run(PROMPT, **OPTIONS, generator="near", budget_usd=1)
        strict = await gems.run(PROMPT, **OPTIONS, judge="strict", budget_usd=1)
        expected = [
            await gems.estimate(PROMPT, **OPTIONS | {"seed": 4}, **chosen)
            for chosen in ({}, {"generator": "near"}, {"generator": "far.2"})
        ]
    assert free.usage["generator"]["usd"] == 0.0
    assert near.usage["generator"]["usd"] == 0.25
    assert (strict.usage["judge"]["usd"] or 0.0) > 0.0
    assert [found.usd_high for found in expected] == [0.0, 0.25, 0.5]
    assert expected[1].runs == 1
    assert "pictures" in expected[2].models["generator"]


async def test_a_budget_is_refused_where_the_chosen_model_has_no_price(settings: Settings, stub: StubServer) -> None:
    unpriced = {"cheap": GeneratorSettings(model=f"http:{stub.generate_url}")}
    async with Gems(settings.model_copy(update={"offered_generators": unpriced})) as gems:
        with pytest.raises(OptionError, match="usd_per_image of cheap in GEMS_OFFERED_GENERATORS"):
            await gems.run(PROMPT, **OPTIONS, generator="cheap", budget_usd=1)
        found = await gems.estimate(PROMPT, **OPTIONS, generator="cheap")
        assert found.unpriced == ["usd_per_image of cheap in GEMS_OFFERED_GENERATORS"]
        assert (await gems.run(PROMPT, **OPTIONS, budget_usd=1)).image_id


@pytest.mark.parametrize(("kind", "names"), [("generator", "'far.2', 'near'"), ("judge", "'kind', 'strict'")])
async def test_an_unknown_name_is_told_with_those_that_there_are(settings: Settings, kind: str, names: str) -> None:
    chosen: Any = {kind: "nobody"}
    async with Gems(settings) as gems:
        with pytest.raises(NotOfferedError, match=f"The {kind} 'nobody' is not on offer.*{names}"):
            await gems.run(PROMPT, **OPTIONS, **chosen)
        with pytest.raises(NotOfferedError):
            await gems.estimate(PROMPT, **chosen)
        assert await gems.runs() == []
    async with Gems(Settings(home=settings.home, experience="off")) as gems:
        with pytest.raises(NotOfferedError, match="There is only the default"):
            await gems.run(PROMPT, **chosen)


async def test_sizes_are_those_of_the_chosen_generator(settings: Settings) -> None:
    small = {"small": GeneratorSettings(model="openai:dall-e-2", api_key=SecretStr(KEY))}
    async with Gems(settings.model_copy(update={"offered_generators": small})) as gems:
        with pytest.raises(SizeError):
            await gems.run(PROMPT, generator="small", size="320x320")
        assert (await gems.estimate(PROMPT, generator="small", size="512x512")).models["generator"] == "openai:dall-e-2"
        assert (await gems.estimate(PROMPT, size="320x320")).models["generator"] == "blocks"


async def interrupted(settings: Settings, **chosen: Any) -> str:
    """A run whose process ends before its first image."""
    async with Gems(settings) as gems, aclosing(gems.stream(PROMPT, **OPTIONS, **chosen)) as events:
        async for event in events:
            if isinstance(event, Planned):
                return event.run_id
    raise AssertionError("It was not planned.")


async def test_a_resumed_run_keeps_its_models(settings: Settings, stub: StubServer, far: StubServer) -> None:
    run_id = await interrupted(settings, generator="near", judge="strict")
    assert stub.calls("generate") == []
    other = GeneratorSettings(model=f"openai:pictures@{far.base_url}")
    async with Gems(settings.model_copy(update={"generator": other})) as gems:
        resumed = await gems.resume(run_id)
    assert resumed.image_id
    assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
    assert resumed.warnings == []
    assert (resumed.options["generator"], resumed.options["judge"]) == ("near", "strict")


async def test_what_was_withdrawn_is_told_and_a_fork_may_choose_another(
    settings: Settings, stub: StubServer, far: StubServer
) -> None:
    run_id = await interrupted(settings, generator="near")
    left = settings.model_copy(update={"offered_generators": {"far.2": settings.offered_generators["far.2"]}})
    async with Gems(left) as gems:
        with pytest.raises(NotOfferedError, match=r"The generator 'near' is not on offer.*'far.2'.*fork"):
            await gems.resume(run_id)
        assert (await gems.show(run_id)).options["generator"] == "near"
    async with Gems(settings) as gems:
        assert (await gems.resume(run_id)).image_id
    drawn = len(stub.calls("generate"))
    async with Gems(left) as gems:
        with pytest.raises(NotOfferedError):
            await gems.fork(run_id, 1, "three green stars")
        forked = await gems.fork(run_id, 1, "three green stars", generator="far.2")
        plain = await gems.fork(run_id, 1, "three green stars", generator="")
    assert (forked.options["generator"], plain.options.get("generator")) == ("far.2", None)
    assert forked.rounds[1]["candidates"][0]["model"] == forked.models["generator"] == "openai:pictures"
    assert plain.models["generator"].startswith("blocks")
    assert len(stub.calls("generate")) == drawn


async def test_equal_settings_share_a_model(settings: Settings, stub: StubServer) -> None:
    same = ChatSettings(model=f"openai:kind@{stub.base_url}")
    changed = {"judge": same, "offered_judges": {"kind": same, "other": same}}
    twice = {"one": settings.offered_generators["near"], "two": settings.offered_generators["near"]}
    async with Gems(settings.model_copy(update={**changed, "offered_generators": twice})) as gems:
        resources = gems.resources
        assert resources.judges["kind"] is resources.judges["other"] is resources.chats["judge"]
        assert resources.chats["planner"] is not resources.chats["judge"]
        assert resources.generators["one"] is resources.generators["two"] is not resources.generator


async def test_a_server_that_repeats_its_key_does_not_show_it(
    settings: Settings, far: StubServer, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"error": {"message": f"You sent {KEY}."}}
    far.behaviour.respond = lambda recorded: JSONResponse(told, 500) if recorded.kind == "images" else None
    offered = settings.offered_generators["far.2"].model_copy(update={"attempts": 1})
    async with Gems(settings.model_copy(update={"offered_generators": {"far.2": offered}})) as gems:
        with pytest.raises(ServerError, match="You sent") as caught:
            await gems.run(PROMPT, **OPTIONS, generator="far.2")
        (row,) = await gems.runs()
    assert KEY not in f"{caught.value!r} {caught.value} {row} {caplog.text} {settings!r}"
