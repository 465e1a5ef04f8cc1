"""A web page that a browser shows can use no server of this machine, and reads none of its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.apps.mcp.test_server import asked
from tests.security.test_paths import ROUTES
from tests.support.http_server import app_of, bearer, begun, keys_of, result, serving
from tests.support.mcp_clients import served
from tests.support.scripted_service import House

EVIL = "https://evil.example"
# A page may send these without asking the browser's leave first.
SIMPLE = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x")
POSTED = (
    *("/runs", "/gems/invoke", "/gems/stream", "/gems/batch"),
    *("/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"),
)
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
ASKED = {"prompt": "x"}
BODY = json.dumps({**ASKED, "input": ASKED, "inputs": [ASKED], "messages": [{"role": "user", "content": "x"}]})


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture
def client(house: House) -> Iterator[httpx.Client]:
    with serving(app_of(house)) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("path", POSTED)
def test_a_page_begins_no_run(path: str, client: httpx.Client, house: House) -> None:
    for kind in (*SIMPLE, "application/json"):
        for headers in (
            {"origin": EVIL},
            {"origin": "null"},
            {"host": "rebound.example", "origin": "http://rebound.example"},
        ):
            answer = client.post(path, content=BODY, headers={"content-type": kind} | headers)
            # Forms are taken apart before anybody asks who sent them.
            expected = (400, 403) if path.endswith("/edits") else (403,)
            assert answer.status_code in expected, (kind, headers, answer.text)
            assert "access-control-allow-origin" not in answer.headers
    assert house.drawn() == []
    assert client.get("/runs").json() == {"runs": []}


def test_a_page_reads_nothing(client: httpx.Client) -> None:
    run_id = begun(client)
    image = result(client, run_id)["image_url"]
    listed = ["/runs", "/v1/models", image, *(path.replace("{run_id}", run_id) for _, path in ROUTES[:3])]
    for path in listed:
        for headers in ({"origin": EVIL}, {"host": "rebound.example"}):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 403
            assert run_id not in answer.text
    # What has no secrets is told to everybody, but a page cannot read it.
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert "access-control-allow-origin" not in client.get(path, headers={"origin": EVIL}).headers


def test_no_page_is_given_leave(client: httpx.Client) -> None:
    for path in ("/runs", "/v1/chat/completions", "/gems/invoke"):
        headers = {"origin": EVIL} | PREFLIGHT
        asked_first = client.options(path, headers=headers)
        assert asked_first.status_code in (403, 405)
        assert not [name for name in asked_first.headers if name.startswith("access-control-")]


def test_only_named_pages_are_given_leave(house: House) -> None:
    mine = "https://mine.example"
    key = keys_of(house).add("ann")
    with serving(app_of(house, cors_origins=[mine])) as url, httpx.Client(base_url=url) as client:
        for origin, allowed in ((mine, mine), (EVIL, None), (f"{mine}.evil.example", None), ("null", None)):
            answer = client.get("/runs", headers=bearer(key) | {"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed
            # Keys are no cookies: a browser sends none by itself.
            assert "access-control-allow-credentials" not in answer.headers
            assert "set-cookie" not in answer.headers


def test_keys_are_taken_from_no_cookie_and_no_address(house: House) -> None:
    key = keys_of(house).add("ann")
    with serving(app_of(house)) as url, httpx.Client(base_url=url) as client:
        for params, headers in (
            ({"api_key": key, "key": key, "token": key}, {}),
            ({}, {"cookie": f"api-key={key}; authorization=Bearer {key}"}),
        ):
            assert client.get("/runs", params=params, headers=headers).status_code == 401
        assert client.get("/runs", headers=bearer(key)).status_code == 200


def test_a_report_reaches_for_nothing(client: httpx.Client) -> None:
    run_id = begun(client, "<script>fetch('http://evil.example')</script><img src=x onerror=alert(1)>")
    result(client, run_id)
    answer = client.get(f"/runs/{run_id}/report")
    policy = answer.headers["content-security-policy"]
    for part in ("default-src 'none'", "img-src data:", "base-uri 'none'", "form-action 'none'"):
        assert part in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>fetch" not in answer.text
    assert "<img src=x" not in answer.text


async def test_a_page_uses_no_mcp(house: House) -> None:
    import asyncio

    async with served(house) as address:
        for headers in ({"origin": EVIL}, {"origin": "null"}, {"host": "rebound.example"}):
            refused = await asyncio.to_thread(asked, address, **headers)
            assert refused.status_code in (403, 421)
            assert "access-control-allow-origin" not in refused.headers
