"""Many connections at once, and slow ones."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from tests.support.http_server import begun, gated, result
from tests.support.scripted_service import PATIENCE_S, House

MANY = 200


async def test_200_connections_at_once(url: str, house: House) -> None:
    limits = httpx.Limits(max_connections=MANY, max_keepalive_connections=MANY)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE_S) as client:
        answer = await client.post("/runs", json={"prompt": "a red cat", "max_rounds": 1})
        run_id = answer.json()["run_id"]
        await client.post("/gems/invoke", json={"input": {"prompt": "a red cat"}})

        async def asked(number: int) -> int:
            path = (f"/runs/{run_id}", f"/runs/{run_id}/events", "/runs", "/healthz", "/metrics")[number % 5]
            return (await client.get(path)).status_code

        assert set(await asyncio.gather(*map(asked, range(MANY)))) == {200}


async def test_many_runs_at_once_each_have_their_listener(url: str, house: House) -> None:
    async with httpx.AsyncClient(base_url=url, limits=httpx.Limits(), timeout=PATIENCE_S) as client:

        async def run(number: int) -> dict[str, Any]:
            body = {"prompt": f"cat {number}", "seed": number, "max_rounds": 1}
            run_id = (await client.post("/runs", json=body)).json()["run_id"]
            told = (await client.get(f"/runs/{run_id}/events")).text
            assert told.count("event: finished") == 1
            return dict((await client.get(f"/runs/{run_id}")).json())

        found = await asyncio.gather(*map(run, range(40)))
    assert [each["prompt"] for each in found] == [f"cat {number}" for number in range(40)]
    assert {each["status"] for each in found} == {"done"}
    assert len(house.drawn()) == len({each["image_url"] for each in found}) == 40


def test_a_slow_reader_holds_up_nobody(url: str, client: httpx.Client, house: House) -> None:
    house.never_pass()
    # Prompts that are long make events that fill every buffer on their way.
    prompt = "a red cat " * 1900
    gate = gated(house, 1)
    run_id = begun(client, prompt, max_rounds=30, plateau=0)
    gate.wait()
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect((host, int(port)))
        slow.sendall(f"GET /runs/{run_id}/events HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        gate.open()
        assert len(result(client, run_id)["rounds"]) == 30
        assert client.get("/healthz").status_code == 200
        # Nothing is lost for the slow one.
        slow.settimeout(PATIENCE_S)
        told = b""
        while b"event: finished" not in told[-2_000_000:] and (part := slow.recv(65536)):
            told += part
    assert told.count(b"event: verdicts") == 30


@pytest.mark.parametrize("path", ["/runs/{}/events", "/gems/stream"])
def test_listeners_that_vanish_leave_the_run_alone(url: str, client: httpx.Client, house: House, path: str) -> None:
    gate = gated(house, 1)
    if "{}" in path:
        run_id = begun(client)
        requests = [client.build_request("GET", path.format(run_id)) for _ in range(20)]
    else:
        requests = [client.build_request("POST", path, json={"input": {"prompt": "a red cat"}})]
    for request in requests:
        answer = client.send(request, stream=True)
        next(answer.iter_raw())
        answer.close()
    gate.wait()
    gate.open()
    (row,) = client.get("/runs").json()["runs"]
    assert result(client, row["run_id"])["status"] == "done"
