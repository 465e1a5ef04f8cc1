"""What the page's buttons do, pressed without a browser."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from gems.apps.server.app import create_app
from gems.apps.server.auth import KeyFile
from gems.apps.web import mount
from gems.apps.web.controller import parse_field
from gems.generation import GeneratorCapabilities
from gems.options import OPTIONS as RUN_OPTIONS
from gems.options import parse_size
from gems.service import Gems
from gems.settings import GeneratorSettings, ServeSettings
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import House, Pause

pytestmark = pytest.mark.skipif(not mount.is_installed(), reason="no Gradio")
OPTIONS = (3.0, 1.0, "", "7", "balanced", "auto", "", "auto", False, True, "", "")
EMPTY = (3.0, 1.0, *[None] * 10)


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[Any]:
    """The page's blocks."""
    from gems.apps.web.page import _Page

    settings = settings_at(house.home, serve=ServeSettings(web=False))
    app = create_app(settings, house.gems())  # type: ignore[arg-type]
    desk = mount.create_controller(app, settings)
    async with app.router.lifespan_context(app):
        yield _Page(desk)


def asking(user: str | None = None, session: str = "tab") -> Any:
    return SimpleNamespace(username=user, session_hash=session)


def is_skipped(value: Any) -> bool:
    return value == {"__type__": "update"}


def visible(*updates: Any) -> list[bool]:
    return [update["visible"] for update in updates]


async def watched(page: Any, run_id: str, number: str = "", **who: Any) -> list[Any]:
    return [told async for told in page._watch(asking(**who), run_id, number)]


async def test_a_run_is_begun_and_watched(tmp_path: Path) -> None:
    async with opened(House(tmp_path)) as page:
        run_id, number, problem = await page._begin(asking(), "a red cat", *OPTIONS)
        assert (number, problem) == ("", "")
        told = await watched(page, run_id)
        assert visible(*told[0][3:5]) == [True, False]
        status, trouble, _, *buttons, asked, change, progress = told[-1]
        buttons.append(change)
        assert visible(asked) == [False]
        assert progress == ""
        assert status.startswith("Every requirement is met.")
        assert trouble == ""
        assert run_id in next(html for _, _, html, *_ in reversed(told) if not is_skipped(html))
        assert visible(*buttons) == [False, True, False]
        assert page._newest == {}
        assert run_id in await page._find(asking(), "CAT")


async def test_fields_may_be_empty(tmp_path: Path) -> None:
    async with opened(House(tmp_path)) as page:
        run_id, *_ = await page._begin(asking(), "a red cat", *EMPTY)
        await watched(page, run_id)
        assert run_id in await page._find(asking(), None)
        assert 'role="alert"' in await page._stop(asking(), None)


@pytest.mark.parametrize(
    ("prompt", "place", "value", "told"),
    [
        ("", 0, 3.0, "The prompt is empty."),
        (None, 0, 3.0, "The prompt is empty."),
        ("x" * 20_001, 0, 3.0, "the maximum is 20,000"),
        ("a cat", 0, None, "Rounds is .+ a whole number from 1 to 50"),
        ("a cat", 0, float("inf"), "Rounds is inf; it must be a whole number"),
        ("a cat", 1, 17.0, "Images per round is 17; it must be a whole number from 1 to 16"),
        ("a cat", 2, "big", "&#x27;big&#x27;|&#39;big&#39;"),
        ("a cat", 2, "9x9", "9 ?[x×]"),  # noqa: RUF001
        ("a cat", 3, "-2", "Seed is .+ a whole number from -1 to"),
        ("a cat", 3, "9" * 19, "Seed is 9+;"),
        ("a cat", 4, "nonsense", "Profile is .+ balanced or paper"),
        ("a cat", 5, "nonsense", "nonsense"),
    ],
)
async def test_what_is_wrong_is_told_in_the_page(
    tmp_path: Path, prompt: str, place: int, value: Any, told: str
) -> None:
    async with opened(House(tmp_path)) as page:
        options: list[Any] = list(OPTIONS)
        options[place] = value
        run, number, problem = await page._begin(asking(), prompt, *options)
        assert is_skipped(run)
        assert is_skipped(number)
        assert 'role="alert"' in problem
        assert re.search(told, problem), problem


async def test_unknown_runs_are_told(tmp_path: Path) -> None:
    async with opened(House(tmp_path)) as page:
        assert "There is no run" in (await page._continue(asking(), "unknown", "", "more", 1.0))[2]
        assert "There is no run" in await page._stop(asking(), "unknown")
        assert "There is no run" in (await page._decide(asking(), "unknown", "", "more", 1.0, "edit", ""))[2]
        ((status, trouble, _, *buttons, _, _, _),) = await watched(page, "unknown")
        assert status == ""
        assert "There is no run" in trouble
        assert visible(buttons[0]) == [False]
        ((*texts, cancel, further, asked, change, progress),) = await watched(page, "")
        assert [*texts, progress] == ["", "", "", ""]
        assert visible(cancel, further, asked, change) == [False] * 4


async def test_a_newer_watch_takes_the_page_over(tmp_path: Path) -> None:
    house = House(tmp_path)
    pause = Pause()
    house.on_drawing(1, pause)
    async with opened(house) as page:
        run_id, *_ = await page._begin(asking(), "a red cat", *OPTIONS)
        await pause.wait()
        first, second = (page._watch(asking(), run_id, "") for _ in range(2))
        other = page._watch(asking(session="another tab"), run_id, "")
        for watch in (first, other, second):
            await anext(watch)
        assert [shown async for shown in first] == []
        await anext(other)
        assert await page._stop(asking(), run_id) == ""
        for watch in (second, other):
            await watch.aclose()


async def test_what_stays_is_not_sent_again(tmp_path: Path) -> None:
    async with opened(House(tmp_path)) as page:
        run_id, *_ = await page._begin(asking(), "a red cat", *OPTIONS)
        shown = [html for _, _, html, *_ in await watched(page, run_id) if not is_skipped(html)]
        assert all(before != after for before, after in itertools.pairwise(shown))


async def test_numbers_of_rounds(tmp_path: Path) -> None:
    from gems.apps.web.page import _round

    assert [_round(text) for text in ("2", "", None, "x", "-1", "²", "9" * 99)] == [2, *[None] * 6]


async def test_each_key_has_its_own_runs(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("ann")
    keys.add("bob")
    async with opened(House(tmp_path)) as page:
        for nobody in ("", None, "eve"):
            assert "You are not signed in." in await page._find(asking(nobody), "")
            assert "You are not signed in." in (await page._begin(asking(nobody), "a cat", *OPTIONS))[2]
        run_id, *_ = await page._begin(asking("ann"), "a red cat", *OPTIONS)
        assert (await watched(page, run_id, user="ann"))[-1][0].startswith("Every requirement")
        ((_, trouble, html, *_),) = await watched(page, run_id, user="bob")
        assert "There is no run" in trouble
        assert is_skipped(html)
        assert run_id in await page._find(asking("ann"), "")
        assert "There are no runs yet." in await page._find(asking("bob"), "")
        assert "There is no run" in await page._stop(asking("bob"), run_id)
        assert "There is no run" in (await page._continue(asking("bob"), run_id, "", "more", 1.0))[2]
        assert "Signed in as <strong>ann" in (await page._greet(asking("ann")))[0]
        assert "Signed in" not in (await page._greet(asking("")))[0]
        assert "There is no run" not in await page._lock(asking("bob"), run_id, True)
        assert await page._lock(asking("bob"), run_id, True) != "7"


async def test_a_seed_is_locked(tmp_path: Path) -> None:
    async with opened(House(tmp_path)) as page:
        run_id, *_ = await page._begin(asking(), "a red cat", *OPTIONS)
        assert await page._lock(asking(), run_id, True) == "7"
        assert await page._lock(asking(), run_id, False) == ""
        for nothing in ("", None, "unknown"):
            new = await page._lock(asking(), nothing, True)
            assert parse_field(RUN_OPTIONS["seed"], new) == int(new)


async def test_the_models_and_sizes_of_the_server_are_offered(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with opened(house) as page:
        heading, sizes, *choices = await page._greet(asking())
        assert visible(*choices) == [False] * 3
        assert f"Generator: <strong>{house.generator.capabilities.model}" in heading
        assert "Judge: <strong>" in heading
        assert sizes["choices"][0] == ("Automatic", "")
        width, height = house.generator.capabilities.default_size
        assert f"{width}x{height}" in dict(sizes["choices"]).values()


async def test_models_on_offer_are_chosen(tmp_path: Path) -> None:
    from gems.apps.web.page import _Page

    wide = {"wide": GeneratorSettings(model="openai:dall-e-3", api_key=SecretStr("unused"))}
    settings = settings_at(tmp_path, serve=ServeSettings(web=False), offered_generators=wide)
    app = create_app(settings, Gems(settings, chat=House(tmp_path).chat, generator=House(tmp_path).generator))
    async with app.router.lifespan_context(app):
        page = _Page(mount.create_controller(app, settings))
        heading, sizes, row, generators, judges = await page._greet(asking())
        assert visible(row, generators, judges) == [True, True, False]
        (default, empty), (label, name) = generators["choices"]
        assert (default.partition(":")[0], empty, name) == ("Default", "", "wide")
        assert label == "wide: openai:dall-e-3"
        assert "dall-e-3" not in heading
        before = dict(sizes["choices"]).values()
        heading, sizes = await page._choose(asking(), next(size for size in before if size), "wide", "")
        assert "Generator: <strong>openai:dall-e-3" in heading
        assert "1792x1024" in dict(sizes["choices"]).values()
        # What the chosen generator does not draw is no choice any more.
        assert sizes["value"] == ""
        assert (await page._choose(asking(), "1792x1024", "wide", None))[1]["value"] == "1792x1024"
        assert [is_skipped(each) for each in await page._choose(asking(), "", "nobody", "")] == [True, True]
        problem = (await page._begin(asking(), "a cat", *OPTIONS[:-2], "nobody", ""))[2]
        assert "is not on offer" in problem


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ({"default_size": (1024, 1024), "size_multiple": 16}, ["1024x1024", "1184x880", "880x1184", "1360x768"]),
        ({"default_size": (1344, 768), "size_multiple": 64, "max_side": 1344}, ["1024x1024", "1152x896", "896x1152"]),
        ({"default_size": (1024, 1024), "sizes": ((1024, 1024), (1536, 1024))}, ["1024x1024", "1536x1024"]),
    ],
)
def test_presets_are_what_the_generator_draws(limits: dict[str, Any], wanted: list[str]) -> None:
    from gems.apps.web.form import size_presets

    generator = GeneratorCapabilities(model="m", **limits)
    sizes = [size for _, size in size_presets(generator)]
    assert sizes[: len(wanted) + 1] == ["", *wanted]
    assert len(set(sizes)) == len(sizes)
    for size in sizes[1:]:
        generator.check_size(*parse_size(size))


async def test_nothing_is_sent_or_shared(tmp_path: Path) -> None:
    async with opened(House(tmp_path)) as page:
        config = page.blocks.get_config_file()
        assert config["analytics_enabled"] is False
        assert all(fn["api_visibility"] == "private" for fn in config["dependencies"])
