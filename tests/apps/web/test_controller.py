"""What the page does for whom, on a real server's service, and the addresses it hands out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from itsdangerous import TimestampSigner

from gems.apps.server.app import create_app
from gems.apps.server.auth import KeyFile, TooManyRunsError, UnknownKeyError
from gems.apps.web import mount
from gems.apps.web.auth import Links
from gems.apps.web.controller import Controller, parse_form
from gems.errors import OptionError, PromptError, RunNotFoundError
from tests.support.report_pages import Page
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import PATIENCE_S, House, Pause

FORM = {"max_rounds": 3, "seed": "7"}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture(autouse=True)
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk needs no Gradio."""
    monkeypatch.setattr(mount, "is_installed", lambda: False)


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[tuple[Controller, httpx.AsyncClient]]:
    settings = settings_at(house.home)
    app = create_app(settings, house.gems())  # type: ignore[arg-type]
    desk = mount.create_controller(app, settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield desk, client


def keys_of(house: House, **more: Any) -> dict[str, str]:
    keys = KeyFile(house.home / "keys.json")
    return {name: keys.add(name, **more) for name in ("ann", "bob")}


async def done(desk: Controller, run_id: str) -> None:
    await desk.service.manager.result(run_id)


async def test_a_run_is_followed_by_any_number_of_tabs_and_after_a_reload(house: House) -> None:
    house.never_pass()
    pause = Pause()
    house.on_drawing(2, pause)
    async with opened(house) as (desk, _):
        caller = desk.caller(None)
        run_id = await desk.begin(caller, "a red cat", FORM)
        await pause.wait()
        # Checkpoints, which hold the usage, may be written later than events are told.
        async with asyncio.timeout(PATIENCE_S):
            while "judge" not in (await desk.view(caller, run_id)).usage:  # noqa: ASYNC110 - nobody tells of them
                await asyncio.sleep(0.01)
        for _tab in range(2):
            async with aclosing(desk.follow(caller, run_id)) as stories:
                async for story in stories:
                    if story.rounds.get(1) and story.rounds[1].learned:
                        break
            assert story.is_working
            assert story.usage["judge"]["calls"] > 0
        async with aclosing(desk.follow(caller, run_id)) as stories:
            assert (await anext(stories)).is_working
            await desk.cancel(caller, run_id)
            await done(desk, run_id)
            # Who was told of its beginning only is told of its end.
            assert not (await anext(stories)).is_working
        last = [story async for story in desk.follow(caller, run_id)][-1]
        assert (last.status, last.doing) == ("done", "cancelled")
        assert desk.service.manager.working() == []


async def test_feedback_goes_on_from_a_round_with_its_prompt(house: House) -> None:
    house.never_pass()
    async with opened(house) as (desk, _):
        caller = desk.caller(None)
        run_id = await desk.begin(caller, "a red cat", FORM)
        await done(desk, run_id)
        before = (await desk.view(caller, run_id)).rounds[2].prompt
        fork = await desk.go_on(caller, run_id, 2, " Make it blue. ", 1)
        await done(desk, fork)
        story = await desk.view(caller, fork)
        assert story.rounds[3].prompt == f"{before}. Make it blue."
        assert len(story.rounds) == 3
        assert f"?run={run_id}" in desk.html(caller, story)
        with pytest.raises(PromptError):
            await desk.go_on(caller, run_id, 2, "  ", 1)
        with pytest.raises(OptionError):
            await desk.go_on(caller, run_id, 9, "more", 1)


async def test_feedback_after_success_draws_again(house: House) -> None:
    async with opened(house) as (desk, _):
        caller = desk.caller(None)
        run_id = await desk.begin(caller, "a red cat", FORM)
        await done(desk, run_id)
        fork = await desk.go_on(caller, run_id, None, "In the rain.", 1)
        await done(desk, fork)
        assert (await desk.view(caller, fork)).rounds[2].prompt.endswith(". In the rain.")


async def test_gallery_and_search(house: House) -> None:
    async with opened(house) as (desk, client):
        caller = desk.caller(None)
        ids = [await desk.begin(caller, prompt, FORM) for prompt in ("a red cat", "a BLUE dog")]
        for run_id in ids:
            await done(desk, run_id)
        found = Page(await desk.gallery(caller))
        assert {link["href"] for link in found.all("a")} == {f"?run={run_id}" for run_id in ids}
        assert (await client.get(found.all("img")[0]["src"] or "")).status_code == 200
        assert [link["href"] for link in Page(await desk.gallery(caller, " blue ")).all("a")] == [f"?run={ids[1]}"]
        assert "No prompt contains “100%”" in await desk.gallery(caller, "100%")


async def test_keys_show_own_runs_only(house: House) -> None:
    keys_of(house)
    async with opened(house) as (desk, client):
        for name in (None, "", "eve"):
            with pytest.raises(UnknownKeyError):
                desk.caller(name)
        ann, bob = desk.caller("ann"), desk.caller("bob")
        run_id = await desk.begin(ann, "a red cat", FORM)
        await done(desk, run_id)
        for forbidden in (
            desk.view(bob, run_id),
            desk.cancel(bob, run_id),
            desk.go_on(bob, run_id, 1, "mine", 1),
            anext(desk.follow(bob, run_id)),
        ):
            with pytest.raises(RunNotFoundError):
                await forbidden
        assert run_id in await desk.gallery(ann)
        assert run_id not in await desk.gallery(bob)
        image = (await desk.view(ann, run_id)).rounds[1].image
        statuses = [
            (await client.get(address)).status_code
            for places in (desk.urls(ann), desk.urls(bob))
            for address in (places.image(image), places.report(run_id))
        ]
        assert statuses == [200, 200, 404, 404]


async def test_a_revoked_key_sees_nothing_more(house: House) -> None:
    keys_of(house)
    keys = KeyFile(house.home / "keys.json")
    async with opened(house) as (desk, client):
        ann = desk.caller("ann")
        run_id = await desk.begin(ann, "a red cat", FORM)
        await done(desk, run_id)
        address = desk.urls(ann).image((await desk.view(ann, run_id)).rounds[1].image)
        keys.revoke("ann")
        with pytest.raises(UnknownKeyError):
            desk.caller("ann")
        assert (await client.get(address)).status_code == 401
        keys.revoke("bob")
        # Without any key left, whoever was signed in is still nobody.
        with pytest.raises(UnknownKeyError):
            desk.caller("ann")
        assert (await client.get(address)).status_code == 401


async def test_limits_of_a_key_hold(house: House) -> None:
    keys_of(house, images_per_day=4)
    async with opened(house) as (desk, _):
        ann = desk.caller("ann")
        with pytest.raises(TooManyRunsError):
            await desk.begin(ann, "a red cat", {"max_rounds": 5})
        run_id = await desk.begin(ann, "a red cat", FORM)
        await done(desk, run_id)
        with pytest.raises(TooManyRunsError):
            await desk.go_on(ann, run_id, 1, "more", 4)


async def test_addresses_cannot_be_made_up(house: House) -> None:
    async with opened(house) as (desk, client):
        caller = desk.caller(None)
        run_id = await desk.begin(caller, "a red cat", FORM)
        await done(desk, run_id)
        good = desk.urls(caller).report(run_id)
        served = await client.get(good)
        assert served.status_code == 200
        assert served.headers["cache-control"] == "no-store"
        image = desk.urls(caller).image((await desk.view(caller, run_id)).rounds[1].image)
        for bad in (
            good.replace("/report/", "/image/").replace(".html", ".png"),
            good.replace("sign=", "sign=0"),
            good.replace("sign=", "sign=%C3%A9"),
            good.replace(run_id, f"{run_id}x"),
            good.split("?")[0],
            image.replace("/image/", "/image/..%2F..%2Fledger.sqlite3%3F"),
        ):
            assert (await client.get(bad)).status_code in (404, 422), bad
        for path in ("../../keys.json", "%2e%2e/ledger.sqlite3"):
            assert (await client.get(f"/web/files/image/{path}.png")).status_code in (404, 422)


def test_addresses_grow_old_and_stay_the_same_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10 * 86_400.0
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _signer: int(now))
    links, image = Links("/f"), "a" * 64
    address = links.to("image", image, "ann & co")
    (sign,) = parse_qs(urlsplit(address).query)["sign"]
    assert links.owner_of("image", image, sign) == "ann & co"
    assert links.owner_of("report", image, sign) is None
    assert links.owner_of("image", "b" * 64, sign) is None
    assert links.owner_of("image", image, f"x{sign}") is None
    assert Links("/f").owner_of("image", image, sign) is None
    now += 86_399
    assert links.to("image", image, "ann & co") == address
    now += 86_400
    assert links.owner_of("image", image, sign) == "ann & co"
    now += 1
    assert links.owner_of("image", image, sign) is None


@pytest.mark.parametrize(
    "wrong",
    [{"max_rounds": None}, {"max_rounds": 2.5}, {"max_rounds": 51}, {"candidates": 0}, {"seed": "-2"}, {"seed": "²"}],
)
def test_forms_say_what_is_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        parse_form(wrong)


def test_forms_leave_the_rest_to_the_service() -> None:
    told = parse_form({"max_rounds": 4.0, "seed": " 12 ", "size": " ", "skills": ""})
    assert told["max_rounds"] == 4
    assert told["seed"] == 12
    assert told["size"] is told["skills"] is told["negative_prompt"] is None
