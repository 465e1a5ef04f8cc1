"""Limits of keys hold for whoever deletes runs, asks many times at once, or asks two servers on one home."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from gems.generation import ImageRequest
from tests.support.http_server import Gate, app_of, bearer, begun, keys_of, result, serving
from tests.support.scripted_service import PATIENCE_S, House

LIMITED = {"prompt": "a red cat", "max_rounds": 2, "seed": 7}


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path / "home")
    house.never_pass()
    return house


@contextmanager
def clients(house: House, key: str, servers: int) -> Iterator[list[httpx.Client]]:
    """A client of each of several servers on one home."""
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(app_of(house, queue=0))) for _ in range(servers)]
        # FastAPI builds its routes at the first request, and Pydantic must not build models in two threads at once.
        for url in urls:
            assert httpx.get(f"{url}/nowhere", timeout=PATIENCE_S).status_code in (401, 404)
        yield [stack.enter_context(httpx.Client(base_url=url, headers=bearer(key), timeout=PATIENCE_S)) for url in urls]


def started(answers: list[httpx.Response]) -> list[str]:
    """The runs that were begun; all other requests met a limit."""
    assert [answer.text for answer in answers if answer.status_code not in (202, 429)] == []
    return [answer.json()["run_id"] for answer in answers if answer.status_code == 202]


def all_gated(house: House) -> Gate:
    """A gate before every image."""
    gate = Gate()

    async def before(_: ImageRequest) -> None:
        await gate()

    house.generator.before = before
    return gate


def asked_at_once(clients: list[httpx.Client], number: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda i: clients[i % len(clients)].post("/runs", json=LIMITED), range(number)))


def test_deleting_a_run_gives_no_images_back(house: House) -> None:
    key = keys_of(house).add("ann", images_per_day=3)
    with clients(house, key, 1) as (client,):
        run_id = begun(client, max_rounds=2, seed=7)
        result(client, run_id)
        assert client.delete(f"/runs/{run_id}").status_code == 200
        refused = client.post("/runs", json=LIMITED)
        assert refused.status_code == 429
        assert refused.json()["error"]["message"].startswith("2 images were generated")
        result(client, begun(client, max_rounds=1, seed=8))
        assert client.post("/runs", json=LIMITED | {"max_rounds": 1}).status_code == 429


def test_a_new_key_of_the_name_gives_no_images_back(house: House) -> None:
    keys = keys_of(house)
    with clients(house, keys.add("ann", images_per_day=2), 1) as (client,):
        run_id = begun(client, max_rounds=2, seed=7)
        result(client, run_id)
        client.delete(f"/runs/{run_id}")
        keys.revoke("ann")
        client.headers = httpx.Headers(bearer(keys.add("ann", images_per_day=2)))
        assert client.post("/runs", json=LIMITED).status_code == 429


@pytest.mark.parametrize("servers", [1, 2])
def test_images_are_reserved_when_a_run_begins(house: House, servers: int) -> None:
    key = keys_of(house).add("ann", runs_at_a_time=20, images_per_day=5)
    gate = all_gated(house)
    with clients(house, key, servers) as asking:
        runs = started(asked_at_once(asking, 10))
        assert len(runs) == 2
        gate.open()
        for run_id in runs:
            _wait(asking, run_id)
        assert len(house.drawn()) == 4


@pytest.mark.parametrize("servers", [1, 2])
def test_runs_at_a_time_are_those_of_all_servers(house: House, servers: int) -> None:
    key = keys_of(house).add("ann", runs_at_a_time=3)
    gate = all_gated(house)
    with clients(house, key, servers) as asking:
        runs = started(asked_at_once(asking, 10))
        assert len(runs) == 3
        gate.open()
        for run_id in runs:
            _wait(asking, run_id)


def test_images_that_were_reserved_but_not_generated_are_free_again(house: House) -> None:
    house.chat.script.pop("checklist")
    key = keys_of(house).add("ann", images_per_day=3)
    with clients(house, key, 1) as (client,):
        for seed in (1, 2):
            result(client, begun(client, max_rounds=2, seed=seed))
        assert len(house.drawn()) == 2
        assert client.post("/runs", json=LIMITED).status_code == 429


def _wait(asking: list[httpx.Client], run_id: str) -> None:
    """Until a run has come to its end, by whichever server it runs on."""
    for client in asking:
        assert result(client, run_id)["status"] == "done"
