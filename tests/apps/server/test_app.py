"""`gems serve` as a process: it is stopped in the middle of runs, and goes on with them."""

from __future__ import annotations

import http.client
import json
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx
import pytest

from gems.options import candidate_seed
from tests.support.http_server import bearer, begun, result
from tests.support.pausable_models import World, images_asked_for, questions_asked
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import Fault, StubServer
from tests.support.terminal import gems, here, started, wait_until

Server = tuple[subprocess.Popen[str], httpx.Client]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.release()


@pytest.fixture
def stub(world: World) -> Iterator[StubServer]:
    with StubServer(chat=world.chat, images=world.draw) as stub:
        yield stub


@contextmanager
def gems_serve(*arguments: str, **environment: str) -> Iterator[Server]:
    """The process, once it serves, and a client of it; killed in the end if it is still there."""
    environment = {"GEMS_SERVE__WEB": "false"} | environment
    with started("serve", "--port", "0", *arguments, **environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), process.stderr and process.stderr.read()
            with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
                yield process, client
        finally:
            process.kill()


def models(stub: StubServer) -> list[str]:
    return ["--chat", f"openai:stub@{stub.base_url}", "--generator", f"openai:stub@{stub.base_url}"]


def is_refused(client: httpx.Client) -> bool:
    """Whether nobody listens any more, however the old connections are."""
    try:
        httpx.get(client.base_url, timeout=PATIENCE_S)
    except httpx.ConnectError:
        return True
    return False


def test_runs_are_drained_and_go_on_with_the_next_server(stub: StubServer, world: World) -> None:
    held = candidate_seed(7, 2, 0)
    world.hold(lambda task, asked: task == "image" and asked.seed == held)
    with gems_serve(*models(stub), GEMS_SKILLS="none") as (process, client):
        ids = [begun(client, f"a red cat {seed}", seed=seed, size="128x128", repair="never") for seed in (7, 8, 9)]
        assert world.held.wait(PATIENCE_S)
        with client.stream("GET", f"/runs/{ids[0]}/events") as listening:
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: is_refused(client), process)
            world.release()
            told = "\n".join(listening.iter_lines())
        assert "RunDrainedError" in told
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    rows = {row["run_id"]: row for row in json.loads(gems("runs", "--json").stdout)["runs"]}
    assert rows[ids[0]]["status"] == "interrupted"
    assert rows[ids[0]]["summary"] == {"drained": True}
    # What was under way was finished and kept.
    assert images_asked_for(stub.requests)["a red cat 7 v2", held] == 1

    with gems_serve(*models(stub), GEMS_SKILLS="none") as (process, client):
        found = [result(client, run_id) for run_id in ids]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert [(run["stop_reason"], len(run["rounds"])) for run in found] == [("passed", 3)] * 3
    pictures = images_asked_for(stub.requests)
    assert (len(pictures), set(pictures.values())) == (9, {1})
    # Everything that was asked is in the runs' accounts: no answer was lost and asked for again.
    paid = [used["calls"] for run in found for role, used in run["usage"].items() if role != "generator"]
    assert questions_asked(stub.requests).total() == sum(paid)


def test_who_waits_for_an_answer_is_told_of_the_end(stub: StubServer, world: World) -> None:
    world.hold(lambda task, asked: task == "image")
    with gems_serve(*models(stub), GEMS_SKILLS="none", GEMS_SERVE__DRAIN_S="0.1") as (process, client):
        body = {"input": {"prompt": "a red cat", "seed": 7}}
        with client.stream("POST", "/gems/stream", json=body) as answer:
            assert world.held.wait(PATIENCE_S)
            process.send_signal(signal.SIGTERM)
            # A model that takes too long is not waited for.
            list(answer.iter_lines())
        assert process.wait(PATIENCE_S) == 0
    world.release()
    ((status, summary),) = (
        (row["status"], row["summary"]) for row in json.loads(gems("runs", "--json").stdout)["runs"]
    )
    assert (status, "drained" in summary) == ("interrupted", False)


@pytest.mark.parametrize("asked", ["chat", "images"])
def test_what_is_logged_knows_its_run(stub: StubServer, asked: Literal["chat", "images"]) -> None:
    # The question whether the judge sees is asked once only.
    stub.fault(Fault("503", retry_after=0.01), asked, times=1, when=lambda body: "image_url" not in json.dumps(body))
    with gems_serve(*models(stub), GEMS_SKILLS="none", GEMS_LOG="json") as (process, client):
        run_id = begun(client, "a red cat", seed=7, size="128x128")
        assert result(client, run_id)["stop_reason"] == "passed"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    first, *lines = err.splitlines()
    assert first.startswith("Serving at")
    (retried,) = [told for told in map(json.loads, lines) if "Retrying" in told["message"]]
    assert (retried["run_id"], retried["level"]) == (run_id, "warning")


def test_clients_that_leave_during_an_upload_are_no_error(stub: StubServer) -> None:
    form = "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na red'
    beginnings = {"/v1/images/edits": form, "/web/gradio_api/upload": form}
    paths = ("/v1/images/generations", "/v1/chat/completions", "/runs", "/gems/invoke", "/gems/batch", "/mcp")
    beginnings |= dict.fromkeys(paths, ("application/json", b'{"prompt": "a r'))
    with gems_serve(*models(stub), GEMS_SKILLS="none") as (process, client):
        for path, (kind, sent) in beginnings.items():
            address = client.base_url.host, client.base_url.port
            with socket.create_connection(address, PATIENCE_S) as connection:  # type: ignore[arg-type]
                headers = ("Host: localhost", f"Content-Type: {kind}", "Content-Length: 1000")
                connection.sendall("\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + sent)
        # Answered after those before it were read.
        assert client.get("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in told


def test_idle_connections_stay_open_longer_than_clients_keep_them(stub: StubServer) -> None:
    with gems_serve(*models(stub), GEMS_SKILLS="none") as (_, client):
        connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=PATIENCE_S)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        assert connection.sock is not None
        # httpx keeps connections for 5 s.
        closed, _, _ = select.select([connection.sock], [], [], 6)
        assert not closed
        connection.close()


def test_other_machines_need_keys() -> None:
    for host in ("0.0.0.0", "::", "example.org"):
        refused = here("serve", "--host", host, "--port", "0")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "gems keys add" in refused.stderr
    key = here("keys", "add", "ann").stdout.strip()
    with started("serve", "--host", "0.0.0.0", "--port", "0", GEMS_SERVE__WEB="false") as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip().rpartition(":")[2]
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/runs").status_code == 401
            assert httpx.get(f"{url}/runs", headers=bearer(key)).status_code == 200
            assert here("keys", "revoke", "ann").exit_code == 0
            assert httpx.get(f"{url}/runs", headers=bearer(key)).status_code == 401
            assert httpx.get(f"{url}/runs").status_code == 401
        finally:
            process.kill()


def test_what_keeps_it_from_serving_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = here("serve", "--port", str(listener.getsockname()[1]))
    assert taken.exit_code == 2
    assert "Cannot listen on 127.0.0.1" in taken.stderr
    unusable = here("serve", "--port", "0", "--chat", "nonsense:x")
    assert unusable.exit_code == 2
    assert "nonsense" in unusable.stderr
    Path("gems").mkdir(exist_ok=True)
    (Path("gems") / "keys.json").write_text("nonsense")
    broken = here("serve", "--port", "0")
    assert broken.exit_code == 2
    assert "keys.json" in broken.stderr
