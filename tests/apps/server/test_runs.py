"""Runs over HTTP."""

from __future__ import annotations

import base64

import httpx
import pytest

from gems.apps.run_manager import RunManager
from tests.runs.test_verification import picture
from tests.support.http_server import begun, gated, heard, result
from tests.support.scripted_service import House


def test_a_run_from_its_beginning_to_its_deletion(client: httpx.Client, house: House) -> None:
    answer = client.post("/runs", json={"prompt": "a red cat", "seed": 7, "max_rounds": 2})
    assert answer.status_code == 202
    told = answer.json()
    run_id = told["run_id"]
    assert told == {"run_id": run_id, "url": f"/runs/{run_id}", "events_url": f"/runs/{run_id}/events"}
    events = heard(client, run_id)
    assert next(event["event"] for event in events) == "started"
    assert events[-1]["event"] == "finished"
    shown = client.get(told["url"]).json()
    assert events[-1]["result"] == shown
    assert (shown["status"], shown["score"], shown["options"]["seed"]) == ("done", 1.0, 7)
    image = client.get(shown["image_url"])
    assert image.headers["content-type"] == "image/png"
    drawn = next(event for event in events if event["event"] == "image")
    assert drawn["path"] == f"/images/{drawn['candidate']['image']}.png"
    assert str(house.home) not in str(events)

    page = client.get(f"/runs/{run_id}/report")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "a red cat" in page.text

    looked = client.delete(f"/runs/{run_id}", params={"dry_run": True}).json()
    assert (looked["done"], looked["path"]) == (False, None)
    assert client.delete(f"/runs/{run_id}").json()["done"]
    assert client.get(told["url"]).status_code == 404
    assert client.get(shown["image_url"]).status_code == 404


def test_runs_are_listed_and_filtered(client: httpx.Client, house: House) -> None:
    ids = [begun(client, prompt, seed=7) for prompt in ("a red cat", "a blue dog")]
    for run_id in ids:
        result(client, run_id)
    everything = client.get("/runs").json()["runs"]
    assert {row["run_id"] for row in everything} == set(ids)
    assert {row["score"] for row in everything} == {1.0}
    assert "owner" not in everything[0]
    assert str(house.home) not in str(everything)

    def found(**wanted: str | float) -> list[str]:
        answer = client.get("/runs", params=wanted)
        assert answer.status_code == 200, answer.text
        return [row["run_id"] for row in answer.json()["runs"]]

    assert found(text="BLUE") == [ids[1]]
    assert len(found(limit=1)) == 1
    assert found(status="failed") == found(since="2100-01-01") == found(until="2001-01-01") == []
    assert set(found(since="1h", min_score=1, status="done")) == set(ids)
    for wrong in ({"since": "soon"}, {"status": "lost"}, {"min_score": "2"}, {"limit": "0"}):
        assert client.get("/runs", params=wrong).status_code in {400, 422}


def test_cancel_and_resume(client: httpx.Client, house: House) -> None:
    house.never_pass()
    gate = gated(house, 2)
    run_id = begun(client, seed=7, max_rounds=3)
    gate.wait()
    assert client.get(f"/runs/{run_id}").json()["status"] == "running"
    assert client.delete(f"/runs/{run_id}").status_code == 409
    assert client.post(f"/runs/{run_id}/cancel").status_code == 202
    cancelled = result(client, run_id)
    assert (cancelled["stop_reason"], len(cancelled["rounds"])) == ("cancelled", 1)
    house.on_drawing(1, None)
    assert client.post(f"/runs/{run_id}/resume").status_code == 202
    whole = result(client, run_id)
    assert (whole["stop_reason"], len(whole["rounds"])) == ("max_rounds", 3)
    # Nothing is left to do, and nothing is done.
    drawn = house.drawn()
    assert client.post(f"/runs/{run_id}/resume", json={"answer": None}).status_code == 202
    assert result(client, run_id)["score"] == whole["score"]
    assert house.drawn() == drawn


def test_fork(client: httpx.Client, house: House) -> None:
    house.never_pass()
    run_id = begun(client, seed=7, max_rounds=2)
    first = result(client, run_id)
    answer = client.post(f"/runs/{run_id}/fork", json={"round": 1, "prompt": "a blue cat", "max_rounds": 3})
    fork = result(client, answer.json()["run_id"])
    assert fork["forked_from"] == {"run_id": run_id, "round": 1}
    assert [turn["prompt"] for turn in fork["rounds"]][:2] == [first["rounds"][0]["prompt"], "a blue cat"]
    assert client.post(f"/runs/{run_id}/fork", json={"round": 9}).status_code == 400


def test_events_go_on_where_a_client_left(client: httpx.Client, house: House) -> None:
    gate = gated(house, 1)
    run_id = begun(client, seed=7)
    gate.wait()
    with client.stream("GET", f"/runs/{run_id}/events") as answer:
        assert next(iter(answer.iter_lines())).startswith("id: ")
    gate.open()
    events = heard(client, run_id)
    ids = [event["id"] for event in events if event["id"]]
    assert len(ids) == len(set(ids))
    after = [event for event in events if event["id"]].index(events[-1])
    assert heard(client, run_id, ids[after - 1]) == events[-1:]
    # Who knows everything is told not to come back, and who comes from elsewhere hears all.
    final = client.get(f"/runs/{run_id}/events", headers={"last-event-id": ids[-1]})
    assert (final.status_code, final.content) == (204, b"")
    for other in ("00000000-2", "nonsense", "-1", "-"):
        assert [event["id"] for event in heard(client, run_id, other) if event["id"]] == ids


def test_events_of_a_run_without_an_image_end_with_its_error(client: httpx.Client, house: House) -> None:
    from gems.errors import UnreachableError

    async def broken(_request: object) -> None:
        raise UnreachableError("Nothing answers.")

    house.generator.before = broken
    run_id = begun(client)
    last = heard(client, run_id)[-1]
    assert last["event"] == "error"
    assert (last["error"]["type"], last["error"]["run_id"]) == ("UnreachableError", run_id)
    assert client.get(f"/runs/{run_id}/events", headers={"last-event-id": last["id"]}).status_code == 204
    assert client.get(f"/runs/{run_id}").json()["status"] == "failed"


def test_what_is_wrong_with_a_request_is_told_at_once(client: httpx.Client) -> None:
    for wrong in (
        {"prompt": " "},
        {"prompt": "x", "size": "big"},
        {"prompt": "x", "size": "100000x7"},
        {"prompt": "x", "budget_usd": 1e308, "skills": "nosuch"},
    ):
        answer = client.post("/runs", json=wrong)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["fault"] == "request"
    assert client.get("/runs").json() == {"runs": []}


async def test_a_hub_says_what_is_told(house: House) -> None:
    async with house.gems() as gems:
        manager = RunManager(gems)
        run_id = await manager.start("a red cat")
        assert manager.stretch(run_id)
        assert manager.stretch("other") == ""
        assert not manager.has_all_events(run_id, 0)
        await manager.result(run_id)
        assert manager.has_all_events(run_id, 100)
        first = manager.stretch(run_id)
        await manager.result(await manager.resume(run_id))
        assert manager.stretch(run_id) != first
        assert not manager.is_draining
        await manager.drain()
        assert manager.is_draining


@pytest.mark.parametrize("what", ["", "/events", "/report"])
@pytest.mark.parametrize("run_id", ["unknown", "..%2f..%2fkeys.json", "%00", "a" * 300, "%ED%A0%80"])
def test_unknown_runs(client: httpx.Client, run_id: str, what: str) -> None:
    answer = client.get(f"/runs/{run_id}{what}")
    assert answer.status_code in {404, 422}
    assert client.post(f"/runs/{run_id}/resume").status_code in {404, 422}
    assert client.delete(f"/runs/{run_id}").status_code in {404, 422}


def test_a_picture_is_edited(client: httpx.Client, house: House) -> None:
    house.edits()
    for prefix in ("", "data:image/png;base64,"):
        sent = prefix + base64.b64encode(picture()).decode()
        told = result(client, begun(client, "make it blue", source=sent))
        assert (told["options"]["width"], told["options"]["height"]) == (64, 48)
        shown = client.get(told["source_url"])
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")
    assert {request.source for request in house.generator.requests} == {shown.content}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/etc/hostname", "not valid base64"),
        ("file:///etc/hostname", "not valid base64"),
        ("http://127.0.0.1:1/a.png", "not valid base64"),
        ("aGVsbG8=", "not a valid image"),
        ("", "not a valid image"),
    ],
)
def test_sources_that_are_none(client: httpx.Client, house: House, source: str, message: str) -> None:
    house.edits()
    answer = client.post("/runs", json={"prompt": "make it blue", "source": source})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "RequestError")
    assert message in answer.json()["error"]["message"]
    assert client.get("/runs").json() == {"runs": []}


def test_a_generator_that_cannot_edit(client: httpx.Client, house: House) -> None:
    sent = base64.b64encode(picture()).decode()
    answer = client.post("/runs", json={"prompt": "make it blue", "source": sent})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "EditingUnsupportedError")
    assert house.chat.asked == []


def test_langserve_takes_no_pictures(client: httpx.Client) -> None:
    answer = client.post("/gems/invoke", json={"input": {"prompt": "a red cat", "source": "aGVsbG8="}})
    assert answer.status_code == 422
