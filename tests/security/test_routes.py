"""Every route of the app without a key, with somebody else's, with a revoked one and with a damaged one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import BaseRoute, Mount

from tests.support.http_server import app_of, bearer, begun, keys_of, result, serving
from tests.support.scripted_service import PATIENCE_S, House

PUBLIC = {
    "/healthz": "tells only that the process lives",
    "/readyz": "names components, without addresses",
    "/metrics": "from this machine only; numbers without names",
    "/openapi.json": "the interface, the same for everybody",
    "/docs": "the interface",
    "/docs/oauth2-redirect": "a page of the interface",
    "/redoc": "the interface",
    "/static-offline-docs/": "scripts and styles of these pages",
    "/v1/{rest:path}": "404 for what is not there, in OpenAI's format",
    "/favicon.ico": "a picture",
    "/web/sign-in": "where one signs in",
    "/web/sign-out": "deletes the sender's own cookie",
}
"""Paths that answer without a key, and why they may."""


@dataclass(frozen=True, slots=True)
class Target:
    """A route with values for its parameters."""

    method: str
    path: str
    template: str


def routes_of(routes: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path template of every route, those of included routers among them."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner.routes, prefix)
        elif isinstance(route, Mount):
            yield "GET", f"{prefix}{route.path}/"
        else:
            for method in sorted(getattr(route, "methods", None) or ()):
                yield method, prefix + getattr(route, "path", "")


@dataclass(frozen=True, slots=True)
class Served:
    """A server with a run of ann's, and the keys of others."""

    url: str
    stranger: httpx.Client
    """Without a key of its own."""
    house: House
    targets: list[Target]
    ann: str
    run_id: str
    image: str
    secrets: tuple[str, ...]
    """Texts that only ann may see."""


PROMPT = "a violet walrus of my own"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    house = House(tmp_path_factory.mktemp("served") / "home")
    ann = keys_of(house).add("ann")
    app = app_of(house)
    with (
        serving(app) as url,
        httpx.Client(base_url=url, headers=bearer(ann)) as client,
        httpx.Client(base_url=url, timeout=PATIENCE_S) as stranger,
    ):
        run_id = begun(client, PROMPT, seed=7)
        image = Path(result(client, run_id)["image_url"]).stem
        values = {"run_id": run_id, "name": image, "file_path": "index.html", "model": "gems", "model_id": "gems"}
        targets = []
        for method, template in sorted(set(routes_of(app.routes))):
            path = re.sub(r"\{(\w+)(:\w+)?\}", lambda found: values.get(found[1], run_id), template)
            targets.append(Target(method, path, template))
        assert len(targets) > 30
        yield Served(url, stranger, house, targets, ann, run_id, image, (PROMPT, "walrus", ann))


BODY: dict[str, Any] = {
    "prompt": "a red cat",
    "input": {"prompt": "a red cat"},
    "messages": [{"role": "user", "content": "a red cat"}],
    "model": "gems",
}
OTHER_BODIES = {"/runs": {"prompt": "a red cat"}, "/runs/{run_id}/fork": {"round": 1}, "/runs/{run_id}/resume": {}}


def ask(served: Served, target: Target, headers: dict[str, Any]) -> httpx.Response:
    body = OTHER_BODIES.get(target.template, BODY)
    content = None if target.method in ("GET", "HEAD", "OPTIONS", "DELETE") else json.dumps(body)
    sent = headers | ({"content-type": "application/json"} if content else {})
    return served.stranger.request(target.method, target.path, headers=sent, content=content)


def leaks(served: Served, answer: httpx.Response) -> list[str]:
    return [text for text in served.secrets if text in answer.text]


STRANGERS: dict[str, dict[str, Any]] = {
    "none": {},
    "wrong": {"authorization": "Bearer gems-wrong"},
    "wrong header": {"api-key": "gems-wrong"},
    "empty": {"authorization": "Bearer"},
    "basic": {"authorization": "Basic YW5uOmFubg=="},
    "name": {"authorization": "Bearer ann"},
    "not text": {"authorization": b"Bearer \xff\xfe"},
    "cookie": {"cookie": "gems_key=ann; session=ann"},
    "forwarded": {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1", "forwarded": "for=127.0.0.1"},
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_route_answers_without_a_key(served: Served, stranger: str) -> None:
    for target in served.targets:
        answer = ask(served, target, STRANGERS[stranger])
        assert not leaks(served, answer), target
        if target.template in PUBLIC:
            continue
        assert answer.status_code == 401, (target, answer.text[:200])


def test_no_route_answers_to_a_key_that_was_revoked(tmp_path: Path) -> None:
    house = House(tmp_path / "home")
    keys = keys_of(house)
    keys.add("ann")
    gone = keys.add("bob")
    app = app_of(house)
    with serving(app) as url, httpx.Client(base_url=url, headers=bearer(gone)) as client:
        targets = [Target(method, re.sub(r"\{[^}]*\}", "x", path), path) for method, path in set(routes_of(app.routes))]
        assert client.get("/runs").status_code == 200
        keys.revoke("bob")
        again = keys.add("bob")
        for target in targets:
            if target.template in PUBLIC:
                continue
            content = "{}" if target.method in ("POST", "PUT", "PATCH") else None
            answer = client.request(target.method, target.path, content=content)
            assert answer.status_code == 401, target
        assert client.get("/runs", headers=bearer(again)).status_code == 200
    assert house.drawn() == []


@pytest.mark.filterwarnings("ignore:astream_log is deprecated")
def test_no_route_shows_or_changes_what_is_somebody_elses(served: Served) -> None:
    """Each route with a parameter answers about ann's as about what does not exist."""
    bob = keys_of(served.house).add("bob", runs_at_a_time=50)
    for target in served.targets:
        answer = ask(served, target, bearer(bob))
        assert not leaks(served, answer), target
        if "{run_id}" in target.template or target.template == "/images/{name}":
            assert answer.status_code == 404, (target, answer.text[:200])
            missing = Target(target.method, target.path.replace(served.run_id, "none"), target.template)
            if missing.path != target.path:
                unknown = ask(served, missing, bearer(bob))
                assert answer.text == unknown.text.replace("none", served.run_id)
    # Ann's run is as it was.
    with httpx.Client(base_url=served.url, headers=bearer(served.ann)) as client:
        found = client.get(f"/runs/{served.run_id}").json()
        assert (found["status"], found["prompt"]) == ("done", PROMPT)
        assert client.get(f"/images/{served.image}").status_code == 200
        assert [row["run_id"] for row in client.get("/runs").json()["runs"]] == [served.run_id]


def test_what_is_public_is_named(served: Served) -> None:
    """A path that answers strangers and is not in the list would fail above; one that is not there fails here."""
    templates = {target.template for target in served.targets}
    assert {path for path in PUBLIC if not path.startswith(("/web", "/favicon", "/docs/", "/static"))} <= templates


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    for path in ("/runs", f"/runs/{served.run_id}", "/v1/models", "/gems/invoke", "/nothing"):
        answer = served.stranger.request(method, path)
        assert answer.status_code in (400, 401, 404, 405)
        assert not leaks(served, answer)
