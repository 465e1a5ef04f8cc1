"""Keys, callers and images of the HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI

from gems.apps.server.app import create_app
from gems.apps.server.auth import Caller, Key, KeyFile, TooManyRunsError, UnknownKeyError
from gems.apps.server.dependencies import Service, open_service
from gems.errors import ConfigurationError, OptionError, RunNotFoundError
from gems.service import Gems
from gems.settings import ServeSettings, Settings
from tests.support.scripted_models import FlatGenerator, ScriptedChat, failing, settings_at
from tests.support.scripted_service import Pause


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_at(tmp_path / "home", serve=ServeSettings(web=False))


@pytest.fixture
def generator() -> FlatGenerator:
    return FlatGenerator()


@pytest_asyncio.fixture
async def app(settings: Settings, generator: FlatGenerator) -> AsyncIterator[FastAPI]:
    chat = ScriptedChat()
    chat.script["checklist"] = failing(1)
    app = create_app(settings, Gems(settings, chat=chat, generator=generator, skills=()))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


@pytest_asyncio.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


def keys(settings: Settings) -> KeyFile:
    return KeyFile(settings.serve.keys_path(settings))


def test_keys_are_found_by_their_tokens_and_kept_as_hashes(settings: Settings) -> None:
    file = keys(settings)
    token = file.add("ann", images_per_day=5)
    found = keys(settings).find(token)
    assert found is not None
    assert (found.name, found.images_per_day) == ("ann", 5)
    path = settings.serve.keys_path(settings)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert keys(settings).find(token[:-1]) is None
    file.revoke("ann")
    assert keys(settings).find(token) is None


def test_names_of_keys(settings: Settings) -> None:
    file = keys(settings)
    file.add("ann")
    for name in ("ann", "", "Ann", "a b", "../x"):
        with pytest.raises(OptionError):
            file.add(name)
    with pytest.raises(OptionError, match="Known keys: ann"):
        file.revoke("bob")


@pytest.mark.parametrize("text", ['{"keys": [{"name": "ann"}]}', '{"keys": ' + "[" * 50_000, '{"keys": 5}', ""])
def test_a_damaged_file_of_keys_lets_nobody_in(text: str, settings: Settings) -> None:
    path = settings.serve.keys_path(settings)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="Cannot read the key file"):
        keys(settings).find("anything")


def test_no_key_is_lost_when_many_are_changed_at_once(settings: Settings) -> None:
    """Each thread has a file object of its own, as processes have."""
    keys(settings).add("gone")

    def change(number: int) -> str:
        if number == 0:
            keys(settings).revoke("gone")
            return ""
        return keys(settings).add(f"user-{number}")

    with ThreadPoolExecutor(12) as pool:
        tokens = list(pool.map(change, range(24)))
    assert {key.name for key in keys(settings).all()} == {f"user-{number}" for number in range(1, 24)}
    assert all(keys(settings).find(token) for token in tokens[1:])


@pytest.mark.parametrize("path", ["nowhere.json", "nowhere/keys.json"])
async def test_a_named_file_of_keys_must_exist(settings: Settings, tmp_path: Path, path: str) -> None:
    serve = settings.serve.model_copy(update={"keys": tmp_path / path})
    named = settings.model_copy(update={"serve": serve})
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(ConfigurationError, match="does not exist"):
            async with open_service(named.model_copy(update={"serve": serve.model_copy(update={"host": host})})):
                pass
    keys(named).add("ann")
    async with open_service(named) as service:
        assert service.access.needs_key


async def test_an_emptied_file_still_means_keys(settings: Settings) -> None:
    token = keys(settings).add("ann")
    keys(settings).revoke("ann")
    async with open_service(settings) as service:
        for sent in (None, f"Bearer {token}"):
            with pytest.raises(UnknownKeyError):
                service.access.caller(sent)


def test_half_a_character_is_no_key(settings: Settings) -> None:
    keys(settings).add("ann")
    assert keys(settings).find("\ud800") is None


async def test_without_keys_everybody_on_the_machine_is_let_in(service: Service) -> None:
    caller = service.access.caller(None)
    run_id = await service.manager.start("a red cat", seed=7, max_rounds=1)
    await service.manager.result(run_id)
    assert (await service.access.row(caller, run_id))["run_id"] == run_id
    await service.access.admit(caller, 100)


async def test_a_key_sees_its_own_runs_and_images_only(
    service: Service, settings: Settings, client: httpx.AsyncClient
) -> None:
    tokens = {name: keys(settings).add(name) for name in ("ann", "bob")}
    run_id = await service.manager.start("a red cat", seed=7, max_rounds=1, owner="ann")
    result = await service.manager.result(run_id)
    ann, bob = (service.access.caller(f"Bearer {tokens[name]}") for name in ("ann", "bob"))
    assert (await service.access.row(ann, run_id))["owner"] == "ann"
    with pytest.raises(RunNotFoundError):
        await service.access.row(bob, run_id)
    path = f"/images/{result.image_id}.png"
    sent = {name: {"authorization": f"Bearer {token}"} for name, token in tokens.items()}
    found = await client.get(path, headers=sent["ann"])
    assert (found.status_code, found.headers["content-type"]) == (200, "image/png")
    assert "immutable" in found.headers["cache-control"]
    again = await client.get(path, headers=sent["ann"] | {"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    assert (await client.get(path, headers={"api-key": tokens["ann"]})).status_code == 200
    assert (await client.get(path, headers=sent["bob"])).status_code == 404
    refused = await client.get(path)
    assert (refused.status_code, refused.json()["error"]["type"]) == (401, "UnknownKeyError")


async def test_naming_an_image_makes_nobody_its_owner(
    service: Service, settings: Settings, client: httpx.AsyncClient, generator: FlatGenerator
) -> None:
    """Generators record what they were asked, so that ids can stand in other people's drawings."""
    tokens = {name: keys(settings).add(name) for name in ("ann", "bob")}
    hers = await service.manager.result(await service.manager.start("a red cat", seed=7, max_rounds=1, owner="ann"))
    image = hers.image_id or ""
    generator.parameters = {"negative_prompt": image, "steps": f'"image": "{image}"'}
    his = await service.manager.start("a blue dog", seed=8, max_rounds=1, negative_prompt=image, owner="bob")
    await service.manager.result(his)
    for name, status in (("ann", 200), ("bob", 404)):
        sent = {"authorization": f"Bearer {tokens[name]}"}
        assert (await client.get(f"/images/{image}.png", headers=sent)).status_code == status


@pytest.mark.parametrize("name", ["x", "0" * 64, "..%2F..%2Fledger.sqlite3", "A" * 64, f"{'0' * 64}.jpg"])
async def test_what_is_no_image(name: str, client: httpx.AsyncClient) -> None:
    assert (await client.get(f"/images/{name}")).status_code == 404


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer wrong", "Basic abc"])
async def test_who_sends_no_key_is_told(service: Service, settings: Settings, sent: str | None) -> None:
    keys(settings).add("ann")
    with pytest.raises(UnknownKeyError):
        service.access.caller(sent)


async def test_limits_of_a_key(service: Service, settings: Settings, generator: FlatGenerator) -> None:
    token = keys(settings).add("ann", runs_at_a_time=1, images_per_day=3)
    caller = service.access.caller(f"Bearer {token}")
    await service.access.admit(caller, 3)
    run_id = await service.manager.start("a red cat", seed=7, max_rounds=1, owner="ann")
    await service.manager.result(run_id)
    await service.access.admit(caller, 2)
    with pytest.raises(TooManyRunsError, match="1 images were generated"):
        await service.access.admit(caller, 3)
    pause = Pause()

    async def before(_request: object) -> None:
        await pause()

    generator.before = before
    await service.manager.start("a red cat", seed=8, owner="ann")
    await pause.wait()
    with pytest.raises(TooManyRunsError, match="1 runs are in progress"):
        await service.access.admit(caller, 1)
    # Or the server would wait for it at its end.
    await service.manager.drain(0)


async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient, settings: Settings) -> None:
    much = b"x" * (settings.serve.max_body_mb * 1_000_000 + 1)
    refused = await client.post("/images/x", content=much)
    assert (refused.status_code, refused.json()["error"]["fault"]) == (413, "request")


async def test_a_damaged_image_is_not_served(client: httpx.AsyncClient, service: Service, settings: Settings) -> None:
    run_id = await service.manager.start("a red cat", seed=7, max_rounds=1)
    image = (await service.manager.result(run_id)).image_id
    assert image is not None
    whole = await client.get(f"/images/{image}")
    assert (whole.status_code, "immutable" in whole.headers["cache-control"]) == (200, True)
    path = service.gems.resources.images.path(image)
    data = path.read_bytes()
    for damaged in (data[:100] + b"xx" + data[102:], data[:-1], b"", data + b"x"):
        path.write_bytes(damaged)
        answer = await client.get(f"/images/{image}.png")
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "ImageDamagedError"
        assert image in answer.json()["error"]["message"]
        assert str(settings.home) not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert service.gems.resources.images.at_hand(image) is None
    path.unlink()
    assert (await client.get(f"/images/{image}")).status_code == 404


async def test_locks_of_keys_that_come_and_go_do_not_pile_up(service: Service, settings: Settings) -> None:
    for number in range(150):
        caller = Caller(Key(name=f"key-{number}", sha256="", created="", runs_at_a_time=1))
        async with service.access.beginning(caller, 1):
            pass
    assert 32 < len(list((settings.home / "locks").iterdir())) <= 64
