"""LangServe's routes, used by its own client."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from langserve.client import RemoteRunnable

from tests.support.http_server import app_of, bearer, begun, gated, keys_of, result, serving
from tests.support.scripted_service import PATIENCE_S, House

ASK = {"prompt": "a red cat", "seed": 7}
pytestmark = pytest.mark.filterwarnings("ignore:astream_log is deprecated")


@pytest.fixture
def remote(url: str) -> RemoteRunnable[Any, Any]:
    return RemoteRunnable(f"{url}/gems/", timeout=PATIENCE_S)


def thread(run_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": run_id}}


def test_invoke(remote: RemoteRunnable[Any, Any], client: httpx.Client, house: House) -> None:
    found = remote.invoke(ASK)
    assert (found["status"], found["score"], found["path"]) == ("done", 1.0, None)
    assert client.get(found["image_url"]).content.startswith(b"\x89PNG")
    assert client.get(f"/runs/{found['run_id']}").json() == found
    # The thread is the run: nothing is drawn again.
    assert remote.invoke(ASK, thread(found["run_id"])) == found
    assert len(house.drawn()) == 1


def test_batch_is_one_run_each(remote: RemoteRunnable[Any, Any], client: httpx.Client) -> None:
    found = remote.batch([ASK, {"prompt": "a blue dog", "max_rounds": 1}, ASK])
    assert [each["prompt"] for each in found] == ["a red cat", "a blue dog", "a red cat"]
    assert len({each["run_id"] for each in found}) == 3
    again = remote.batch([ASK, ASK], [thread(found[0]["run_id"]), thread(found[2]["run_id"])])
    assert [each["run_id"] for each in again] == [found[0]["run_id"], found[2]["run_id"]]
    assert len(client.get("/runs").json()["runs"]) == 3


async def test_concurrent_streams(remote: RemoteRunnable[Any, Any]) -> None:
    async def streamed(number: int) -> list[dict[str, Any]]:
        return [part async for part in remote.astream({"prompt": f"cat number {number}"})]

    streams = await asyncio.gather(*(streamed(number) for number in range(8)))
    for number, parts in enumerate(streams):
        assert next(part["type"] for part in parts[:-1]) == "started"
        assert parts[-1]["prompt"] == f"cat number {number}"
        assert {part["run_id"] for part in parts} == {parts[-1]["run_id"]}
    assert len({parts[-1]["run_id"] for parts in streams}) == 8


async def test_stream_events(remote: RemoteRunnable[Any, Any]) -> None:
    events = [event async for event in remote.astream_events(ASK, version="v2")]
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("on_chain_start", "on_chain_end")
    told = [event["name"] for event in events if event["event"] == "on_custom_event"]
    assert told[0] == "gems.started"
    assert "gems.verdicts" in told
    assert events[-1]["data"]["output"]["score"] == 1.0
    assert "__gems" not in str(events)


def test_stream_log(client: httpx.Client) -> None:
    with client.stream("POST", "/gems/stream_log", json={"input": ASK}) as answer:
        lines = list(answer.iter_lines())
    assert any("final_output" in line for line in lines)
    assert "event: end" in lines


def test_schemas_and_playground(client: httpx.Client) -> None:
    assert set(client.get("/gems/input_schema").json()["properties"]) >= {"prompt", "seed", "candidates"}
    assert "image_url" in client.get("/gems/output_schema").json()["properties"]
    assert "thread_id" in str(client.get("/gems/config_schema").json())
    assert "<html" in client.get("/gems/playground/").text
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert "prompt" in schemas["RunInput"]["properties"]
    assert "image_url" in schemas["RunAnswer"]["properties"]


def test_a_client_that_leaves_finds_its_run_again(
    remote: RemoteRunnable[Any, Any], client: httpx.Client, house: House
) -> None:
    house.never_pass()
    gate = gated(house, 2)
    ask = ASK | {"max_rounds": 3}
    parts = remote.stream(ask)
    run_id = next(parts)["run_id"]
    gate.wait()
    parts.close()
    assert client.get(f"/runs/{run_id}").json()["status"] == "running"
    gate.open()
    heard = list(remote.stream(ask, thread(run_id)))
    assert heard[0]["type"] == "started"
    assert (heard[-1]["run_id"], len(heard[-1]["rounds"])) == (run_id, 3)
    assert len(house.drawn()) == len(set(house.drawn())) == 3


def test_an_interrupted_run_goes_on(house: House) -> None:
    house.never_pass()
    gate = gated(house, 2)
    with serving(app_of(house, drain_s=0)) as url, httpx.Client(base_url=url) as client:
        run_id = begun(client, seed=7, max_rounds=3)
        gate.wait()
    house.on_drawing(1, None)
    with serving(app_of(house)) as url:
        remote: RemoteRunnable[Any, Any] = RemoteRunnable(f"{url}/gems/", timeout=PATIENCE_S)
        found = remote.invoke(ASK, thread(run_id))
    assert (found["run_id"], len(found["rounds"])) == (run_id, 3)


@pytest.mark.parametrize("path", ["stream", "stream_events", "stream_log"])
def test_a_failure_says_what_it_was(
    remote: RemoteRunnable[Any, Any], client: httpx.Client, house: House, path: str
) -> None:
    from gems.errors import UnreachableError

    async def broken(_request: object) -> None:
        raise UnreachableError("Nothing answers.")

    house.generator.before = broken
    with client.stream("POST", f"/gems/{path}", json={"input": ASK}) as streamed:
        *_, event, data = [line for line in streamed.iter_lines() if line]
    assert event == "event: error"
    assert '"status_code": 502, "message": "Nothing answers.' in data
    answer = client.post("/gems/invoke", json={"input": ASK})
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "UnreachableError")
    with pytest.raises(httpx.HTTPStatusError, match="Nothing answers"):
        list(remote.stream(ASK))


def test_threads_of_nobody_and_of_another_prompt(client: httpx.Client) -> None:
    run_id = begun(client)
    result(client, run_id)
    for path in ("invoke", "stream", "stream_events", "stream_log"):
        answer = client.post(f"/gems/{path}", json={"input": ASK, "config": thread("unknown")})
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "RunNotFoundError")
    other = {"input": {"prompt": "a blue cat"}, "config": thread(run_id)}
    assert client.post("/gems/invoke", json=other).status_code == 400
    answer = client.post("/gems/batch", json={"inputs": [ASK], "config": thread("unknown")})
    assert answer.status_code == 404


def test_each_request_has_an_owner(house: House) -> None:
    ann, bob = keys_of(house).add("ann"), keys_of(house).add("bob", runs_at_a_time=1)
    with serving(app_of(house)) as url:

        def remote(key: str) -> RemoteRunnable[Any, Any]:
            return RemoteRunnable(f"{url}/gems/", headers=bearer(key), timeout=PATIENCE_S)

        found = remote(ann).invoke(ASK)
        assert len(remote(bob).batch([ASK] * 3)) == 3
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            remote(bob).invoke(ASK, thread(found["run_id"]))
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            remote("gems-wrong").invoke(ASK)
        with httpx.Client(base_url=url) as nobody:
            for path in ("playground/", "input_schema", "output_schema", "config_schema"):
                assert nobody.get(f"/gems/{path}").status_code == 401
            for path in ("invoke", "batch", "stream", "stream_log", "stream_events"):
                assert nobody.post(f"/gems/{path}", content=b"nonsense").status_code == 401
        with httpx.Client(base_url=url, headers=bearer(ann)) as client:
            assert [row["run_id"] for row in client.get("/runs").json()["runs"]] == [found["run_id"]]


def test_a_deadline_of_the_request_is_no_fault_of_the_server(client: httpx.Client) -> None:
    answer = client.post("/gems/invoke", json={"input": ASK | {"deadline_s": 1e-9}})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "DeadlineReachedError")
