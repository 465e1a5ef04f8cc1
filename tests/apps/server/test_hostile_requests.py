"""Requests that are wrong, too large, or try to reach what they may not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.http_server import app_of, begun, result, serving
from tests.support.scripted_service import House

pytestmark = pytest.mark.filterwarnings("ignore:astream_log is deprecated")
JSON = {"content-type": "application/json"}
POSTED = ("/runs", "/gems/invoke", "/gems/batch", "/gems/stream", "/gems/stream_log", "/gems/stream_events")
WRONG = [
    b"",
    b"{",
    b"nonsense",
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"{}",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"prompt": 5, "input": 5, "inputs": 5}',
    b'{"prompt": null, "input": null, "inputs": null}',
    b'{"prompt": "\\ud800", "input": {"prompt": "\\ud800"}, "inputs": [{"prompt": "\\ud800"}]}',
    b'{"prompt": "x", "seed": NaN, "input": {"prompt": "x", "seed": NaN}, "inputs": [{"seed": NaN}]}',
    b'{"prompt": "x", "seed": -1, "input": {"prompt": "x", "seed": 1e99}, "inputs": [[]]}',
    b'{"prompt": "x", "owner": "ann", "input": {"prompt": "x", "owner": "ann"}, "inputs": [{"owner": 1}]}',
    b'{"prompt": "x", "out": "/tmp/x", "input": {"prompt": "x", "out": "/tmp/x"}, "inputs": [{"out": 1}]}',
    b'{"prompt": "x", "max_rounds": "3", "input": {"prompt": "x", "max_rounds": true}, "inputs": ["x"]}',
]


@pytest.mark.parametrize("path", POSTED)
def test_malformed_bodies(client: httpx.Client, house: House, path: str) -> None:
    for body in WRONG:
        answer = client.post(path, content=body, headers=JSON)
        # FastAPI says 400 to what is no JSON at all in some ways.
        assert answer.status_code in {400, 422}, (body[:60], answer.text)
        assert "detail" in answer.json()
    assert client.post(path, content=b"\x00" * 1000).status_code == 422
    assert client.get("/runs").json() == {"runs": []}
    assert house.drawn() == []


@pytest.mark.parametrize("path", POSTED[1:])
def test_malformed_configs(client: httpx.Client, house: House, path: str) -> None:
    asked = {"inputs": [{"prompt": "x"}]} if path.endswith("batch") else {"input": {"prompt": "x"}}
    for config in (5, "x", {"configurable": 5}, {"configurable": {"thread_id": []}}, {"tags": 5}, [5]):
        assert client.post(path, json=asked | {"config": config}).status_code == 422
    for name in ("__gems_context", "nonsense"):
        # What nobody asked for is left out.
        sent = asked | {"config": {"configurable": {name: {"run_id": "x"}}}}
        assert client.post(path, json=sent).status_code == 200
    assert client.post(path, json=asked | {"include_names": 5}).status_code == 422


@pytest.mark.parametrize(
    "name",
    [
        *("..", "%2e%2e", "..%2fkeys.json", "..%5c..%5ckeys.json", "%00", "a" * 5000, "*", "%ED%A0%80"),
        *("0" * 63, "0" * 65, "0" * 64, "G" * 64, "%2fetc%2fpasswd", "0" * 64 + ".png.png", "\uff21" * 64),
    ],
)
def test_paths_of_images(client: httpx.Client, name: str) -> None:
    assert client.get(f"/images/{name}").status_code == 404
    assert client.get(f"/images/{name}.png").status_code == 404


def test_an_image_has_one_name(client: httpx.Client) -> None:
    url = result(client, begun(client))["image_url"]
    assert client.get(url).status_code == 200
    assert client.get(url.upper().replace("/IMAGES", "/images").replace(".PNG", ".png")).status_code == 404
    assert client.get(url.removesuffix(".png") + "%00.png").status_code == 404


def test_bodies_over_the_limit(house: House) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(20):
            yield b"x" * 100_000
        yield b'"}'

    large = json.dumps({"prompt": "x" * 1_100_000}).encode()
    with serving(app_of(house, max_body_mb=1)) as url, httpx.Client(base_url=url) as client:
        for path in POSTED:
            declared = client.post(path, content=large, headers=JSON)
            assert (declared.status_code, declared.json()["error"]["type"]) == (413, "RequestError")
            assert client.post(path, content=chunks(), headers=JSON).status_code == 413
        assert client.post("/runs", content=b"x", headers=JSON).status_code == 422
        assert client.get("/healthz").status_code == 200
    assert house.drawn() == []
