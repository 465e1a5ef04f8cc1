"""Whatever takes an id takes no path: in no route, command, tool, imported file, or home."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from mcp import Client

from gems.apps.server.auth import KeyFile
from gems.errors import GemsError, OptionError
from gems.memory.images import ImageStore
from gems.runs.skill_learning import valid_name
from gems.skills.models import normalise_name
from gems.skills.parser import is_skill_name
from tests.support.http_server import app_of, begun, result, serving
from tests.support.mcp_clients import served, text_of
from tests.support.scripted_service import House
from tests.support.skill_folders import write
from tests.support.terminal import here

HOSTILE = [
    "../../outside",
    "..",
    ".",
    "/etc/passwd",
    "..\\..\\outside",
    "C:\\outside",
    "//host/share",
    "%2e%2e%2foutside",
    "..%2f..%2foutside",
    "a/../../outside",
    "outside\0.png",
    "~/outside",
    "file:///etc/passwd",
    "a\nb",
    "x" * 300,
    "con",
    "${HOME}",
    "'; DROP TABLE runs; --",
]
# What can stand in an address at all.
IN_ADDRESSES = [name for name in HOSTILE if "\0" not in name and "\n" not in name]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A file that nobody may read, write or delete, and a folder that gets no file."""
    secret = tmp_path / "outside"
    secret.write_text("outside-secret")
    before = {path for path in tmp_path.iterdir() if path.name != "home"}
    yield secret
    assert secret.read_text() == "outside-secret"
    assert {path for path in tmp_path.iterdir() if path.name not in ("home", "gems")} <= before


@pytest.fixture
def client(outside: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    with serving(app_of(House(tmp_path / "home"))) as url, httpx.Client(base_url=url, timeout=300) as client:
        yield client


def test_every_route_that_takes_an_id(client: httpx.Client, tmp_path: Path) -> None:
    kept = begun(client)
    result(client, kept)
    before = sorted((tmp_path / "home").rglob("*.lock"))
    for method, path in ROUTES:
        for hostile in IN_ADDRESSES:
            # As it stands a dot is another path, by the client's own rules.
            for written in {_quoted(hostile), *([] if hostile.strip(".") == "" else [hostile])}:
                body = {"round": 1} if path.endswith("/fork") else None
                place = written.join(re.split(r"\{.*\}", path))
                answer = client.request(method, place, json=body)
                # What is no id is not there, or another route's business.
                assert answer.status_code in (307, 404, 405, 422), (method, place, answer.text)
                assert "outside-secret" not in answer.text
                assert "root:" not in answer.text
    assert [row["run_id"] for row in client.get("/runs").json()["runs"]] == [kept]
    assert sorted((tmp_path / "home").rglob("*.lock")) == before


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


ROUTES = [
    ("GET", "/runs/{run_id}"),
    ("GET", "/runs/{run_id}/events"),
    ("GET", "/runs/{run_id}/report"),
    ("POST", "/runs/{run_id}/cancel"),
    ("POST", "/runs/{run_id}/resume"),
    ("POST", "/runs/{run_id}/fork"),
    ("DELETE", "/runs/{run_id}"),
    ("GET", "/images/{name}"),
    ("GET", "/v1/models/{name:path}"),
    ("GET", "/gems/playground/{file_path:path}"),
]


def test_these_are_all_routes(tmp_path: Path) -> None:
    found = {
        (method, route.path)
        for route in _routes(app_of(House(tmp_path / "home")).routes)
        for method in route.methods
        if "{" in route.path and method != "HEAD"
    }
    assert {(method, path) for method, path in found if "{rest:path}" not in path} == set(ROUTES)


def _routes(listed: Any) -> Iterator[APIRoute]:
    for route in listed:
        if isinstance(route, APIRoute):
            yield route
        elif (inner := getattr(route, "routes", None) or getattr(route, "original_router", None)) is not None:
            yield from _routes(getattr(inner, "routes", inner))


@pytest.mark.parametrize("path", ["/runs", "/gems/invoke"])
def test_threads_and_skills_in_bodies(path: str, client: httpx.Client) -> None:
    for hostile in HOSTILE:
        asked: dict[str, Any] = {"prompt": "x", "skills": hostile}
        body = asked if path == "/runs" else {"input": asked}
        assert client.post(path, json=body).status_code in (400, 422), hostile
        if path == "/gems/invoke":
            config = {"configurable": {"thread_id": hostile}}
            answer = client.post(path, json={"input": {"prompt": "x"}, "config": config})
            assert answer.status_code in (404, 422), hostile
    assert client.get("/runs").json() == {"runs": []}


COMMANDS = [
    ["show", "{}"],
    ["report", "{}", "--out", "-"],
    ["resume", "{}"],
    ["delete", "{}", "--yes"],
    ["fork", "{}", "--round", "1"],
    ["memory", "show", "{}"],
    ["memory", "forget", "--run", "{}", "--yes"],
    ["keys", "revoke", "{}"],
    ["keys", "add", "{}"],
    ["skills", "new", "{}"],
    ["skills", "show", "{}"],
    ["skills", "test", "{}"],
    ["run", "a red cat", "--skills", "{}"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_that_takes_an_id(arguments: list[str], outside: Path, tmp_path: Path) -> None:
    for hostile in HOSTILE:
        # Names of skills become names where they can; and paths of skills' folders are paths.
        if arguments[0] == "skills" and arguments[1] != "new" and hostile in (".", "..", "/etc/passwd"):
            continue
        done = here(*(part.replace("{}", hostile) for part in arguments))
        is_fine = arguments[:2] in (["memory", "forget"], ["skills", "new"], ["keys", "add"])
        assert done.exit_code == 2 or (done.exit_code == 0 and is_fine), (hostile, done.stdout, done.stderr)
        assert "outside-secret" not in done.stdout + done.stderr
        assert "root:" not in done.stdout + done.stderr
    assert not (tmp_path / "gems" / "locks").exists()
    assert {path.name for path in (tmp_path / "gems" / "skills").glob("*")} <= {"con"}


@pytest.mark.parametrize("tool", ["get_run", "cancel_run", "resume_run"])
async def test_every_tool_that_takes_an_id(tool: str, outside: Path, tmp_path: Path) -> None:
    async with served(House(tmp_path / "home")) as address, Client(address) as client:
        for hostile in HOSTILE:
            answer = await client.call_tool(tool, {"run_id": hostile})
            assert answer.is_error
            assert "There is no run" in text_of(answer)
            if tool == "get_run":
                with pytest.raises(Exception, match=r"no run|[Rr]esource|[Uu]nknown"):
                    await client.read_resource(f"gems://runs/{_quoted(hostile)}/image")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_name_is_a_path(hostile: str, tmp_path: Path, outside: Path) -> None:
    with pytest.raises(GemsError):
        ImageStore(tmp_path / "home").path(hostile)
    for name in (normalise_name(hostile), valid_name(hostile)):
        assert not set(name) & set("/\\.:~\0\n%$")
    assert is_skill_name(hostile) == (hostile == "con")
    if hostile != "con":
        with pytest.raises(OptionError):
            KeyFile(tmp_path / "home" / "keys.json").add(hostile)


def test_an_export_is_written_where_its_user_says_and_nowhere_else(tmp_path: Path, outside: Path) -> None:
    """It is the user's own path; what the lines hold names none."""
    lines = [
        {
            "run": hostile,
            "round": 1,
            "generator": hostile,
            "prompt": "a red cat",
            "text": "text",
            "skills": [hostile],
            "failed": [],
            "score": 0.5,
        }
        for hostile in HOSTILE
        if len(hostile) <= 200
    ]
    source = tmp_path / "home" / "lines.jsonl"
    source.parent.mkdir()
    source.write_text("\n".join(map(json.dumps, lines)))
    os.environ["GEMS_EMBEDDER"] = "lexical"
    done = here("memory", "import", str(source))
    assert done.exit_code == 0, done.stderr
    assert f"{len(lines)} added" in done.stdout
    exported = here("memory", "export")
    assert {json.loads(line)["run"] for line in exported.stdout.splitlines()} == {line["run"] for line in lines}
    target = tmp_path / "home" / "out.jsonl"
    assert here("memory", "export", "--out", str(target)).exit_code == 0
    assert target.read_text() == exported.stdout


def test_a_home_reached_by_a_link_is_that_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home is the user's own choice, also as a link or a path with `..`; nothing lands beside it."""
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    monkeypatch.setenv("GEMS_HOME", str(tmp_path / "link" / ".." / "link"))
    assert here("run", "two green stars", "--size", "256x256", "--seed", "7").exit_code in (0, 3)
    assert (tmp_path / "real" / "ledger.sqlite3").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}


def test_a_link_in_the_home_leads_no_image_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the home may do all that its user may; but an image is what its id says."""
    import asyncio

    secret = tmp_path / "outside"
    secret.write_text("outside-secret")
    store = ImageStore(tmp_path / "images")
    image = "a" * 64
    store.path(image).parent.mkdir(parents=True)
    os.symlink(secret, store.path(image))
    with pytest.raises(GemsError, match="was changed"):
        asyncio.run(store.load(image))


def test_a_skill_in_the_home_that_leads_out_is_left_out(tmp_path: Path) -> None:
    outside = write(tmp_path / "elsewhere" / "mine", {"graph.py": "raise SystemExit('it ran')"})
    skills = tmp_path / "gems" / "skills"
    skills.mkdir(parents=True)
    os.symlink(outside, skills / "mine")
    done = here("skills", "list")
    assert done.exit_code == 0
    assert "leads out of its parent" in " ".join((done.stdout + done.stderr).split())
    assert "it ran" not in done.stdout + done.stderr
