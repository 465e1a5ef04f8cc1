"""What is sent to LangSmith, by its own client to a server on loopback: no picture's bytes and no key."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from gems import Settings, build_graph
from gems.resources import open_resources
from tests.support.receiver import Receiver, langsmith
from tests.support.stub import StubServer

KEY = "tops3cret-0123456789-value"
OTHERS = ("lsv2-tops3cret-value", "tops3cret-in-the-body")
PROMPT = "two red circles above a blue square"
# Nothing in a trace is a long run of base64; ids of images are shorter.
ENCODED = re.compile(rb"[A-Za-z0-9+/]{200,}")


def traced_run(stub: StubServer, receiver: Receiver, *more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: LangSmith's client remembers the environment."""
    env = os.environ | {
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": receiver.url,
        "LANGSMITH_API_KEY": OTHERS[0],
        "GEMS_CHAT__API_KEY": KEY,
        "GEMS_CHAT__EXTRA_BODY": json.dumps({"user_token": OTHERS[1]}),
        "GEMS_CHAT__ATTEMPTS": "1",
        "GEMS_GENERATOR__API_KEY": KEY,
        "GEMS_GENERATOR__ATTEMPTS": "1",
    }
    options = ("--seed", "3", "--size", "256x256", "--chat", f"openai:stub@{stub.base_url}")
    command = (sys.executable, "-m", "gems", "run", PROMPT, *options, *more)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)


def sent(receiver: Receiver) -> dict[str, dict[str, Any]]:
    """The runs as LangSmith has them, by their ids; nothing that was sent holds a secret."""
    runs: dict[str, dict[str, Any]] = {}
    for path, body in receiver.bodies:
        assert path == "/runs/batch"
        for secret in (KEY, *OTHERS):
            assert secret.encode() not in body
        assert b"base64," not in body
        assert not ENCODED.search(body)
        batch = json.loads(body)
        for run in [*batch.get("post", []), *batch.get("patch", [])]:
            runs.setdefault(run["id"], {}).update({k: v for k, v in run.items() if v is not None})
    return runs


def test_langsmith_is_told_everything_but_pictures_and_keys() -> None:
    with StubServer(api_key=KEY) as stub, Receiver(langsmith) as receiver:
        done = traced_run(stub, receiver)
        asked = [call for call in stub.requests if call.path.endswith("/chat/completions")]
    assert done.returncode == 0, done.stderr
    runs = sent(receiver)
    calls = [run for run in runs.values() if run["run_type"] == "llm"]
    assert len(calls) == len(asked)
    assert all(run["outputs"] for run in calls)
    assert {run["name"] for run in runs.values()} >= {"gems", "planner", "judge", "generator"}
    assert all(run["parent_run_id"] in runs for run in calls)
    image = re.search(r"([0-9a-f]{64})\.png", done.stderr)
    assert image is not None
    shown = [found[1] for run in calls if (found := re.search(r"\[image ([0-9a-f]{64})\]", json.dumps(run["inputs"])))]
    assert len(shown) == sum("data:image" in json.dumps(call.body) for call in asked)
    # One of them asks whether the judge sees.
    assert shown.count(image[1]) == len(shown) - 1 >= 1


@pytest.mark.parametrize("broken", ["chat", "images"])
def test_langsmith_is_told_no_key_that_a_server_repeats(broken: str) -> None:
    def breaking(_argument: Any) -> Any:
        raise LookupError(f"You sent Authorization: Bearer {KEY}, which is {KEY}.")

    parts: Any = {broken: breaking}
    with StubServer(**parts) as stub, Receiver(langsmith) as receiver:
        more = ("--generator", f"openai:stub@{stub.base_url}") if broken == "images" else ()
        done = traced_run(stub, receiver, *more)
    runs = sent(receiver).values()
    errors = [run["error"] for run in runs if run.get("error")]
    assert any("You sent" in error for error in errors)
    if broken == "images":
        assert done.returncode == 1
        assert {run["name"] for run in runs if run.get("error")} == {"gems", "generator"}
        assert all("Traceback" in error for error in errors)


class Heard(BaseCallbackHandler):
    """A handler of somebody's own that is no tracer."""

    def __init__(self) -> None:
        self.questions = 0

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        self.questions += 1


async def test_tracers_of_a_program_around_the_loop(tmp_path: Path) -> None:
    """Its tracer knows the runs it knew before, and other handlers hear of calls as ever."""
    tracer, heard = RunCollectorCallbackHandler(), Heard()
    async with open_resources(Settings(home=tmp_path)) as resources:
        graph = build_graph().compile()
        given: Any = {"prompt": PROMPT, "seed": 3, "size": "256x256"}
        config: Any = {"callbacks": [tracer, heard]}
        result = await graph.ainvoke(given, config, context=resources.context())
    assert result["score"] == 1
    (root,) = tracer.traced_runs

    def below(run: Any) -> list[Any]:
        return [run, *(each for child in run.child_runs for each in below(child))]

    calls = [run for run in below(root) if run.run_type in ("llm", "chat_model")]
    assert len(calls) == heard.questions >= 3
    said = json.dumps([run.inputs for run in calls], default=str)
    assert "base64" not in said
    assert "Are all red circles above the blue square?" in said
