"""/verify and /decompose."""

from __future__ import annotations

import base64

import httpx

from gems.models.chat.vision import red_square
from tests.support.http_server import House


def encoded() -> str:
    return base64.b64encode(red_square()).decode()


def test_an_image_is_checked(client: httpx.Client, house: House) -> None:
    answer = client.post("/verify", json={"prompt": "a red square", "image": encoded()})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["passed"] is True
    assert found["score"] == 1
    assert [item["answer"] for item in found["requirements"]] == ["yes"] * len(found["requirements"])
    assert house.drawn() == []
    assert client.get("/runs").json()["runs"] == []


def test_what_fails_is_named(client: httpx.Client, house: House) -> None:
    house.never_pass()
    found = client.post("/verify", json={"prompt": "a red square", "image": encoded()}).json()
    assert found["passed"] is False
    assert "no" in [item["answer"] for item in found["requirements"]]


def test_a_prompt_is_decomposed(client: httpx.Client) -> None:
    found = client.post("/decompose", json={"prompt": "a red square"}).json()
    assert [item["id"] for item in found["requirements"]][:1] == ["r1"]
    assert found["unchecked"] == []


def test_bodies_that_are_refused(client: httpx.Client) -> None:
    assert client.post("/verify", json={"prompt": "a red square", "image": "no base64!"}).status_code == 400
    assert client.post("/verify", json={"prompt": "a red square", "image": "aGVsbG8="}).status_code == 400
    assert client.post("/verify", json={"prompt": "", "image": encoded()}).status_code == 422
    assert client.post("/decompose", json={"prompt": "x", "image": encoded()}).status_code == 422
