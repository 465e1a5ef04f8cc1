"""Over HTTP: keys, limits, and what callers may not do."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client

from gems.apps.mcp.tools import Tools
from gems.apps.run_manager import RunManager
from gems.apps.server.auth import Access, Caller, KeyFile
from gems.errors import RunCancelledError
from gems.settings import ServeSettings
from tests.runs.test_verification import picture
from tests.support.http_server import gated
from tests.support.mcp_clients import Told, has_ended, once, served, text_of, with_key
from tests.support.scripted_service import PATIENCE_S, House, Pause
from tests.support.stub.faults import bomb

CALL = {"prompt": "a red cat", "seed": 7}


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home")


@pytest.fixture
def keys(house: House) -> KeyFile:
    return KeyFile(house.home / "keys.json")


def asked(address: str, **headers: str) -> httpx.Response:
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    accept = {"accept": "application/json, text/event-stream"}
    return httpx.post(address, json=body, headers=accept | headers, timeout=300)


async def test_nobody_comes_in_without_a_key(house: House, keys: KeyFile) -> None:
    keys.add("ann")
    async with served(house) as address:
        for headers in ({}, {"authorization": "Bearer gems-wrong"}):
            refused = await asyncio.to_thread(asked, address, **headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert refused.json()["error"]["type"] == "UnknownKeyError"


async def test_runs_of_others_sound_like_unknown_ones(house: House, keys: KeyFile) -> None:
    ann, bob = keys.add("ann"), keys.add("bob")
    async with served(house) as address, with_key(address, ann) as hers, with_key(address, bob) as his:
        drawn = (await hers.call_tool("generate_image", {**CALL, "link": True})).structured_content
        assert drawn is not None
        assert drawn["path"] is None
        run = {"run_id": drawn["run_id"]}
        assert not (await hers.call_tool("get_run", run)).is_error
        for tool in ("get_run", "cancel_run", "resume_run"):
            answer = await his.call_tool(tool, run)
            unknown = await his.call_tool(tool, {"run_id": "unknown"})
            assert answer.is_error
            assert text_of(answer) == text_of(unknown).replace("unknown", drawn["run_id"])
        uri = f"gems://runs/{drawn['run_id']}/image"
        assert (await hers.read_resource(uri)).contents
        with pytest.raises(Exception, match="There is no run"):
            await his.read_resource(uri)


async def test_limits_of_a_key(house: House, keys: KeyFile) -> None:
    key = keys.add("ann", runs_at_a_time=1, images_per_day=5)
    house.never_pass()
    pause = Pause()
    house.on_drawing(1, pause)
    async with served(house, queue=0) as address, with_key(address, key) as client:
        many = await client.call_tool("generate_image", {**CALL, "max_rounds": 2, "candidates": 3})
        assert many.is_error
        assert "this run may add 6. The limit is 5" in text_of(many)
        begun = await client.call_tool("generate_image", {**CALL, "wait": False, "max_rounds": 5})
        await pause.wait()
        second = await client.call_tool("generate_image", {**CALL, "max_rounds": 5})
        assert second.is_error
        assert "the limit for this key is 1" in text_of(second)
        run = {"run_id": begun.structured_content["run_id"]}  # type: ignore[index]
        ended = await client.call_tool("cancel_run", run)
        assert ended.is_error
        assert "cancelled" in text_of(ended)


async def test_paths_of_the_server_are_neither_read_nor_written(house: House, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    async with served(house) as address, Client(address) as client:
        read = await client.call_tool("verify_image", {"prompt": "a red cat", "path": str(file)})
        written = await client.call_tool("generate_image", {**CALL, "out": str(tmp_path / "out.png")})
        assert read.is_error
        assert "Remote callers cannot read paths of the server." in text_of(read)
        assert written.is_error
        assert "Remote callers cannot write" in text_of(written)
        assert not (tmp_path / "out.png").exists()
        for prefix in ("", "data:image/png;base64,"):
            sent = {"prompt": "a red cat", "image": prefix + base64.b64encode(picture()).decode()}
            assert not (await client.call_tool("verify_image", sent)).is_error
        sent = {"prompt": "a red cat", "image": base64.b64encode(bomb()).decode()}
        assert "pixels" in text_of(await client.call_tool("verify_image", sent))
    assert house.drawn() == []


async def test_edit_a_picture(house: House, keys: KeyFile, tmp_path: Path) -> None:
    house.edits()
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    sent = {"prompt": "make it blue", "image": base64.b64encode(picture()).decode()}
    async with served(house) as address, with_key(address, keys.add("ann")) as client:
        for given in ({"path": str(file)}, {"path": str(file), "image": sent["image"]}):
            read = await client.call_tool("edit_image", {"prompt": "make it blue"} | given)
            assert read.is_error
            assert "Remote callers cannot read paths of the server." in text_of(read)
        assert house.drawn() == []
        found = (await client.call_tool("edit_image", sent)).structured_content
        assert found is not None
        assert (found["path"], found["passed"]) == (None, True)
        limited = await client.call_tool("edit_image", sent | {"image": base64.b64encode(bomb()).decode()})
        assert "pixels" in text_of(limited)
    (request,) = house.generator.requests
    assert request.source is not None
    assert (request.width, request.height) == (64, 48)


async def test_large_bodies_are_refused(house: House) -> None:
    async with served(house, max_body_mb=1) as address:
        body = b"x" * 1_100_000
        answer = await asyncio.to_thread(
            httpx.post, address, content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413


async def test_pages_of_other_sites_are_refused(house: House) -> None:
    async with served(house) as address:
        for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
            refused = await asyncio.to_thread(asked, address, **headers)
            assert refused.status_code in (403, 421)


async def test_without_its_last_key_the_server_lets_nobody_in(house: House, keys: KeyFile) -> None:
    keys.add("ann")
    async with served(house) as address:
        keys.revoke("ann")
        assert (await asyncio.to_thread(asked, address)).status_code == 401


async def test_a_call_that_goes_ends_its_run(house: House) -> None:
    house.never_pass()
    pause = Pause()
    house.on_drawing(2, pause)
    async with served(house) as address, Client(address) as client:
        told = Told()
        call = asyncio.create_task(client.call_tool("generate_image", CALL, progress_callback=told))
        await pause.wait()
        await told.until("met, score")
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        found = await once(client, told.run_id, has_ended)
        assert (found["stop_reason"], found["rounds"]) == ("cancelled", 1)


async def test_whoever_goes_before_the_run_has_an_id_ends_it_too(house: House) -> None:
    pause = Pause()
    house.on_drawing(1, pause)
    async with house.gems() as gems:
        manager = RunManager(gems)
        state = Tools(manager=manager, access=Access(KeyFile(house.home / "keys.json"), manager), local=True)
        starting = manager.start("a red cat", seed=7)
        asking = asyncio.create_task(state._start_run(Caller(), 1, {}, starting, state._until()))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        (row,) = await gems.runs()
        with pytest.raises(RunCancelledError):
            await manager.result(row["run_id"])


async def test_a_call_that_takes_long_is_answered_with_the_run(house: House) -> None:
    gate = gated(house, 1)
    async with served(house, mcp_answer_s=1.0) as address, Client(address) as client:
        answer = await client.call_tool("generate_image", CALL)
        assert not answer.is_error
        report = answer.structured_content
        assert report is not None
        assert report["status"] == "running"
        assert f"still running: call get_run with run_id {report['run_id']} for the result" in text_of(answer)
        gate.open()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                ended = await client.call_tool("get_run", {"run_id": report["run_id"]})
                assert ended.structured_content is not None
                if ended.structured_content["status"] != "running":
                    break
        # The run was not cancelled by the answer.
        assert ended.structured_content["stop_reason"] == "passed"
        assert "still running" not in text_of(ended)


async def test_the_time_of_a_call_includes_its_wait_for_a_place(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    untils = []

    async def note(_manager: RunManager, _run_id: str, _context: Any, until: float) -> None:
        untils.append(until)

    monkeypatch.setattr("gems.apps.mcp.tools._report_progress", note)
    gate = gated(house, 1)
    async with house.gems() as gems:
        manager = RunManager(gems)
        access = Access(KeyFile(house.home / "keys.json"), manager, ServeSettings(runs_at_a_time=1))
        state = Tools(manager=manager, access=access, local=True, answer_s=600)
        context: Any = None
        await state.generate_image(context, "a red cat", seed=7, wait=False)
        waiting = asyncio.create_task(state.generate_image(context, "a blue cat", seed=8))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                if access.queue.lengths():
                    break
                await asyncio.sleep(0)
            freed = time.monotonic()
            gate.open()
            await waiting
        assert untils[0] < freed + 600
        await manager.drain(PATIENCE_S)
