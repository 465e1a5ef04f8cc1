"""Who may use the server, and what they see."""

from __future__ import annotations

import httpx
import pytest

from tests.support.http_server import app_of, bearer, begun, gated, keys_of, result, serving
from tests.support.scripted_service import House


def test_other_peoples_runs_are_not_there(house: House) -> None:
    ann, bob = keys_of(house).add("ann"), keys_of(house).add("bob")
    with serving(app_of(house)) as url, httpx.Client(base_url=url, headers=bearer(ann)) as client:
        run_id = begun(client, seed=7)
        image = result(client, run_id)["image_url"]
        client.headers = httpx.Headers(bearer(bob))
        unknown = {"GET": ("", "/events", "/report"), "POST": ("/cancel", "/resume"), "DELETE": ("",)}
        for method, paths in unknown.items():
            for path in paths:
                answer = client.request(method, f"/runs/{run_id}{path}")
                assert answer.status_code == 404
                assert answer.text == client.request(method, f"/runs/none{path}").text.replace("none", run_id)
        assert client.post(f"/runs/{run_id}/fork", json={"round": 1}).status_code == 404
        assert client.get(image).status_code == 404
        assert client.get("/runs").json() == {"runs": []}
        client.headers = httpx.Headers({"api-key": ann})
        assert client.get(f"/runs/{run_id}").status_code == 200
        assert client.get(image).status_code == 200


def test_keys_are_read_while_the_server_runs(house: House) -> None:
    with serving(app_of(house)) as url, httpx.Client(base_url=url) as client:
        run_id = begun(client, seed=7)
        result(client, run_id)
        ann = keys_of(house).add("ann")
        refused = client.get("/runs")
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "UnknownKeyError")
        assert client.get("/runs", headers=bearer(ann)).json() == {"runs": []}
        assert client.get(f"/runs/{run_id}", headers=bearer(ann)).status_code == 404
        keys_of(house).revoke("ann")
        # The last key is gone, and the server is not open to everybody for that.
        assert client.get("/runs", headers=bearer(ann)).status_code == 401
        assert client.get("/runs").status_code == 401
        (house.home / "keys.json").write_text("nonsense")
        broken = client.get("/runs", headers=bearer(ann))
        assert (broken.status_code, broken.json()["error"]["fault"]) == (500, "configuration")
        assert client.get("/healthz").status_code == 200


def test_limits_of_a_key(house: House) -> None:
    ann = keys_of(house).add("ann", runs_at_a_time=1, images_per_day=4)
    gate = gated(house, 1)
    with serving(app_of(house, queue=0)) as url, httpx.Client(base_url=url, headers=bearer(ann)) as client:
        assert client.post("/runs", json={"prompt": "x", "max_rounds": 5}).status_code == 429
        run_id = begun(client, seed=7, max_rounds=3)
        gate.wait()
        second = client.post("/runs", json={"prompt": "x", "max_rounds": 1})
        assert (second.status_code, second.json()["error"]["type"]) == (429, "TooManyRunsError")
        gate.open()
        result(client, run_id)
        assert client.post("/runs", json={"prompt": "x", "max_rounds": 4}).status_code == 429
        assert client.post(f"/runs/{run_id}/fork", json={"round": 1, "max_rounds": 5}).status_code == 429
        result(client, begun(client, max_rounds=3))


async def test_two_at_once_do_not_both_get_the_last_place(house: House) -> None:
    import asyncio

    ann = keys_of(house).add("ann", runs_at_a_time=1)
    gate = gated(house, 1)
    with serving(app_of(house, queue=0)) as url:
        async with httpx.AsyncClient(base_url=url, headers=bearer(ann)) as client:
            body = {"prompt": "a red cat"}
            answers = await asyncio.gather(*(client.post("/runs", json=body) for _ in range(6)))
            gate.open()
    assert sorted(answer.status_code for answer in answers) == [202, 429, 429, 429, 429, 429]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8765", "origin": "http://localhost:8765"}, 200),
        ({"host": "[::1]:8765"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example", "origin": "http://evil.example"}, 403),
        ({"host": "evil.example:8765"}, 403),
        ({"host": "evil"}, 403),
        ({"host": "evil:8765", "origin": "http://evil:8765"}, 403),
        ({"host": "ai."}, 403),
        ({"host": "mine.example"}, 200),
        ({"host": "[::", "origin": "::"}, 403),
        ({"origin": "https://mine.example"}, 200),
        ({"x-forwarded-for": "203.0.113.7"}, 401),
    ],
)
def test_without_keys_only_this_machine_and_no_foreign_page(house: House, headers: dict[str, str], status: int) -> None:
    with serving(app_of(house, cors_origins=["https://mine.example"])) as url:
        assert httpx.get(f"{url}/runs", headers=headers).status_code == status
