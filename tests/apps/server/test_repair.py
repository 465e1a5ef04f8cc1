"""Mending images over HTTP: /runs/repair, and what persons decide."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from tests.apps.server.conftest import House
from tests.support.http_server import begun, heard, result
from tests.support.repairs import is_kept_outside, mask, photo
from tests.support.scripted_models import failing

BOX = (8, 8, 40, 40)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def house(house: House) -> House:
    house.edits()
    house.chat.script |= {"checklist": failing(1), "verify": "no"}
    return house


def image(client: httpx.Client, image_id: str) -> bytes:
    return client.get(f"/images/{image_id}.png").content


def test_image_is_mended_within_a_mask(client: httpx.Client) -> None:
    body = {"prompt": "a red cat", "image": encoded(photo()), "mask": encoded(mask((64, 64), BOX)), "max_rounds": 2}
    answer = client.post("/runs/repair", json=body | {"instruction": "Paint it red."})
    assert answer.status_code == 202, answer.text
    found = result(client, answer.json()["run_id"])
    first, second = found["rounds"]
    assert (first["action"], second["action"], second["instruction"]) == ("given", "edit", "Paint it red.")
    assert is_kept_outside(photo(), image(client, second["candidates"][0]["image"]), BOX)
    assert found["source_url"] == f"/images/{first['candidates'][0]['image']}.png"
    assert image(client, found["options"]["source"]) == photo()


def test_image_is_uploaded_as_a_form(client: httpx.Client) -> None:
    files = {"image": ("photo.png", photo(), "image/png"), "mask": ("mask.png", mask((64, 64), BOX), "image/png")}
    fields = {"prompt": "a red cat", "max_rounds": "2", "seed": "7", "memory": "false", "repair": "always"}
    answer = client.post("/runs/repair", files=files, data=fields)
    assert answer.status_code == 202, answer.text
    found = result(client, answer.json()["run_id"])
    assert {name: found["options"][name] for name in ("max_rounds", "seed", "memory", "repair")} == {
        "max_rounds": 2,
        "seed": 7,
        "memory": False,
        "repair": "always",
    }
    assert is_kept_outside(photo(), image(client, found["rounds"][1]["candidates"][0]["image"]), BOX)


def test_events_say_how_images_came_to_be(client: httpx.Client) -> None:
    body = {"prompt": "a red cat", "image": encoded(photo()), "max_rounds": 2, "repair": "always"}
    told = heard(client, client.post("/runs/repair", json=body).json()["run_id"])
    (drawn,) = (event for event in told if event["event"] == "image")
    judged = [event["origin"] for event in told if event["event"] == "verdicts"]
    assert judged[0] == {"action": "given"}
    assert judged[1] == drawn["origin"]
    assert (drawn["origin"]["action"], drawn["origin"]["repaired"]) == ("edit", ["r1"])


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"image": "?"}, 400),
        ({"image": encoded(b"no image")}, 400),
        ({"mask": encoded(mask((32, 32), BOX))}, 400),
        ({"mask": encoded(mask((64, 64), (0, 0, 0, 0)))}, 400),
        ({"mask": "?"}, 400),
        ({"instruction": "x" * 2_001}, 422),
        ({"size": "64x64"}, 422),
        ({"source": "x"}, 422),
        ({"max_rounds": "2"}, 422),
        ({"prompt": ""}, 422),
    ],
)
def test_bodies_that_are_refused(client: httpx.Client, house: House, given: dict[str, Any], status: int) -> None:
    body = {"prompt": "a red cat", "image": encoded(photo())} | given
    answer = client.post("/runs/repair", json=body)
    assert answer.status_code == status, answer.text
    assert client.get("/runs").json()["runs"] == []
    assert house.chat.asked == []


@pytest.mark.parametrize("fields", [{"prompt": "a red cat", "max_rounds": "many"}, {"max_rounds": "2"}])
def test_forms_that_are_refused(client: httpx.Client, fields: dict[str, str]) -> None:
    answer = client.post("/runs/repair", files={"image": ("photo.png", photo())}, data=fields)
    assert answer.status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/runs/repair", content=b"--x\r\nnothing", headers=broken).status_code in (400, 422)


def test_fork_begins_with_a_decision(client: httpx.Client) -> None:
    run_id = begun(client, max_rounds=2, repair="never")
    first = result(client, run_id)["rounds"][0]["candidates"][0]["image"]
    decision = {"parent": first, "mask": encoded(mask((64, 64), BOX)), "instruction": "Paint it red."}
    answer = client.post(f"/runs/{run_id}/fork", json={"round": 2, "decision": decision})
    assert answer.status_code == 202, answer.text
    turn = result(client, answer.json()["run_id"])["rounds"][2]
    assert (turn["parent"], turn["by"], turn["instruction"]) == (first, "person", "Paint it red.")
    assert is_kept_outside(image(client, first), image(client, turn["candidates"][0]["image"]), BOX)
    refused = client.post(f"/runs/{run_id}/fork", json={"round": 2, "decision": {"action": "paint"}})
    assert refused.status_code == 422


def test_run_that_asks_goes_on_with_a_decision(client: httpx.Client) -> None:
    run_id = begun(client, ask=True)
    asked = heard(client, run_id)[-1]
    assert (asked["event"], asked["error"]["type"]) == ("error", "AnswerNeededError")
    assert "Round 1 meets 1 of 2 requirements." in asked["error"]["message"]
    assert asked["error"]["question"]["round"] == 1
    assert client.get(f"/runs/{run_id}").json()["status"] == "interrupted"
    assert client.post(f"/runs/{run_id}/resume", json={"decision": {"action": "accept"}}).status_code == 202
    found = result(client, run_id)
    assert (found["stop_reason"], found["rounds"][0]["taken"]) == ("accepted", True)
