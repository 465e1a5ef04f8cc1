"""What requests to the page may do, and may not, with Gradio behind it."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from itsdangerous import TimestampSigner

from gems.apps.server.app import create_app
from gems.apps.server.auth import KeyFile
from gems.apps.web import mount
from gems.apps.web.auth import COOKIE, LASTS_S, Sessions
from gems.settings import Settings
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import House

pytestmark = pytest.mark.skipif(not mount.is_installed(), reason="no Gradio")
JSON = {"content-type": "application/json"}
PRESS = "/web/gradio_api/queue/join"
ANSWERED = "/web/gradio_api/run/predict"
ALLOWED = {"/", "/config", "/theme.css", "/gradio_api/queue/data", PRESS.removeprefix("/web")}
SERVED = ("/assets/", "/static/", "/svelte/")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path / "home")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, FastAPI]]:
    app = create_app(settings, House(settings.home).gems())  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as client:
            yield client, app


def pressing(*data: Any, **more: Any) -> dict[str, Any]:
    return {"data": list(data), "fn_index": 0, "session_hash": "abc123", "trigger_id": None, **more}


async def test_the_page_comes_with_what_keeps_it_to_itself(settings: Settings) -> None:
    async with opened(settings) as (client, _):
        page = await client.get("/web/")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert (await client.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"
        assert (await client.post(PRESS, json=pressing())).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8765"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "null"},
    ],
)
async def test_pages_of_other_sites_are_refused(settings: Settings, headers: dict[str, str]) -> None:
    async with opened(settings) as (client, _):
        for answer in (
            await client.post(PRESS, json=pressing(), headers=headers),
            await client.post(ANSWERED, json=pressing(), headers=headers),
            await client.get("/web/", headers=headers),
            await client.get("/web/config", headers=headers),
            await client.get("/web/gradio_api/queue/data?session_hash=abc123", headers=headers),
        ):
            assert answer.status_code == 403
            assert answer.json()["error"]["type"] == "ForeignPageError"
            assert "access-control-allow-origin" not in answer.headers
        asked = {"access-control-request-method": "POST", "origin": "https://evil.example"}
        assert (await client.options(PRESS, headers=asked)).status_code == 404


async def test_other_machines_are_refused(settings: Settings) -> None:
    async with opened(settings) as (_, app):
        transport = httpx.ASGITransport(app, client=("192.0.2.1", 9))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8765") as stranger:
            assert (await stranger.get("/web/")).status_code == 401
            assert (await stranger.post(PRESS, json=pressing())).status_code == 401


async def test_nothing_else_of_gradio_is_there(settings: Settings) -> None:
    """Neither files nor uploads nor proxies, and none that a later version brings."""
    async with opened(settings) as (client, app):
        guard = next(route.app for route in app.routes if getattr(route, "path", "") == "/web")  # type: ignore[attr-defined]
        routes = list(guard._app.routes)
        # Later versions of FastAPI keep routers as they are.
        routes += [inner for route in routes for inner in getattr(vars(route).get("original_router"), "routes", [])]
        known = {
            (method, path)
            for route in routes
            for method in getattr(route, "methods", None) or ["GET"]
            if (path := str(getattr(route, "path", "")))
        }
        assert len(known) > 60
        assert {"/gradio_api/upload", "/gradio_api/proxy={url_path:path}"} <= {path for _, path in known}
        for method, path in sorted(known):
            if path in ALLOWED or path.startswith(SERVED):
                continue
            filled = path.replace("{path_or_url:path}", "/etc/passwd").replace("{url_path:path}", "http://x/")
            answer = await client.request(method, f"/web{filled.replace('{', '').replace('}', '')}")
            assert answer.status_code == 404, (method, path)
        for path in ("/assets/../../../x", "/assets/%2e%2e/%2e%2e/x", "/static/..%2fx", "/svelte//etc/passwd"):
            assert (await client.get(f"/web/{path}")).status_code >= 400


@pytest.fixture
def fetched() -> Iterator[tuple[str, list[str]]]:
    """A server's address, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", asked
        server.shutdown()
        thread.join()


async def test_no_request_makes_the_server_read_a_file_or_fetch_an_address(
    settings: Settings, fetched: tuple[str, list[str]]
) -> None:
    url, asked = fetched
    async with opened(settings) as (client, _):
        for path in (url, "/etc/passwd"):
            file = {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}}
            for sent, to in itertools.product(
                (pressing(file), pressing([file]), pressing({"value": file})), (PRESS, ANSWERED)
            ):
                answer = await client.post(to, json=sent)
                assert answer.status_code == 400
                assert "plain values" in answer.json()["error"]["message"]
    assert asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        json.dumps(pressing(session_hash="../x")).encode(),
        json.dumps(pressing(*range(21))).encode(),
        b'{"data": [NaN], "fn_index": 0, "session_hash": "abc"}',
        json.dumps(pressing("x" * 1_000_001)).encode(),
    ],
)
async def test_what_no_page_sends_is_refused(settings: Settings, body: bytes) -> None:
    async with opened(settings) as (client, _):
        assert (await client.post(PRESS, content=body)).status_code == 400


async def test_the_longest_prompt_fits(settings: Settings) -> None:
    async with opened(settings) as (client, _):
        body = json.dumps(pressing("\U0001f600" * 20_000))
        assert (await client.post(PRESS, content=body, headers=JSON)).status_code == 200


async def test_with_keys_one_signs_in(settings: Settings) -> None:
    keys = KeyFile(settings.home / "keys.json")
    token = keys.add("ann")
    keys.add("bob")
    async with opened(settings) as (client, _):
        sent = await client.get("/web/?run=some-run")
        assert (sent.status_code, sent.headers["location"]) == (303, "/web/sign-in?run=some-run")
        for path in ("config", "gradio_api/queue/data?session_hash=abc", "theme.css"):
            assert (await client.get(f"/web/{path}")).status_code == 401
        for to in (PRESS, ANSWERED):
            assert (await client.post(to, json=pressing())).status_code == 401
        form = {"name": "ann", "key": token, "run": "some-run"}
        for wrong in ({"name": "bob"}, {"key": "wrong"}, {"key": ""}, {"name": '"><script>'}):
            refused = await client.post("/web/sign-in", data=form | wrong)
            assert refused.status_code == 403
            assert "Invalid name or key" in refused.text
            assert "<script>" not in refused.text
        foreign = {"origin": "https://evil.example"}
        assert (await client.post("/web/sign-in", data=form, headers=foreign)).status_code == 403
        entered = await client.post("/web/sign-in", data=form)
        assert (entered.status_code, entered.headers["location"]) == (303, "/web/?run=some-run")
        cookie = entered.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=lax", "path=/web"))
        assert (await client.get("/web/")).status_code == 200
        assert (await client.post(PRESS, json=pressing())).status_code == 200
        assert (await client.post(PRESS, json=pressing(), headers=foreign)).status_code == 403
        keys.revoke("ann")
        assert (await client.get("/web/")).status_code == 303
        keys.add("ann")
        # A new key of the same name is another key.
        assert (await client.get("/web/")).status_code == 303


async def test_signing_out(settings: Settings) -> None:
    token = KeyFile(settings.home / "keys.json").add("ann")
    async with opened(settings) as (client, _):
        await client.post("/web/sign-in", data={"name": "ann", "key": token})
        assert (await client.get("/web/")).status_code == 200
        assert (await client.post("/web/sign-out")).headers["location"] == "/web/sign-in"
        assert (await client.get("/web/")).status_code == 303


async def test_keys_made_later_hold_at_once(settings: Settings) -> None:
    async with opened(settings) as (client, _):
        assert (await client.get("/web/")).status_code == 200
        KeyFile(settings.home / "keys.json").add("ann")
        assert (await client.get("/web/")).status_code == 303
        # Revoking the last one does not open the page again.
        KeyFile(settings.home / "keys.json").revoke("ann")
        assert (await client.get("/web/")).status_code == 303


def test_cookies_hold_for_a_while_and_here_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1e9
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _signer: int(now))
    keys = KeyFile(tmp_path / "keys.json")
    token = keys.add("ann")
    visitors = Sessions(keys)
    cookie = visitors.cookie_for("ann", token)
    assert cookie is not None
    assert visitors.name_of(cookie) == "ann"
    assert Sessions(keys).name_of(cookie) is None
    name, until, sign = cookie.rsplit(".", 2)
    now += 1
    later = (visitors.cookie_for("ann", token) or "").rsplit(".", 2)
    for other in (
        "",
        "ann",
        f"{name}.{later[1]}.{sign}",
        f"{name[:-2]}.{until}.{sign}",
        f"{name}.{until}.é",
        f"{name}.{until}.",
        "ann.x.y",
    ):
        assert visitors.name_of(other) is None
    now += LASTS_S
    assert visitors.name_of(cookie) is None
    assert visitors.name_of(".".join(later)) == "ann"
    assert COOKIE.isidentifier()
