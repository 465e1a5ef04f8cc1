"""`--generator` and `--judge` take names on offer as well as specs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gems.service import Gems
from tests.support.offers import PROMPT, as_environment, kinds
from tests.support.stub import StubServer
from tests.support.terminal import here

DRAW = ("run", PROMPT, "--seed", "3", "--size", "256x256", "--rounds", "1", "--skills", "none", "--json")


@pytest.fixture
def far(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    with StubServer() as server:
        for name, value in as_environment(stub, server).items():
            monkeypatch.setenv(name, value)
        yield server


def carried_out(*words: str) -> dict[str, Any]:
    done = here(*words)
    assert done.exit_code in (0, 3), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_flags_take_names(stub: StubServer, far: StubServer) -> None:
    found = carried_out(*DRAW, "--generator", "near", "--judge", "strict")
    assert (kinds(stub), kinds(far)) == ({"generate"}, {"chat"})
    assert found["models"]["generator"] == f"http:{stub.generate_url}"
    # It is the command's model and no choice of the run, which is resumed with the same flags.
    assert not {"generator", "judge"} & found["options"].keys()
    estimate = carried_out(*DRAW[:-1], "--generator", "far.2", "--estimate", "--json")
    assert estimate["usd_high"] == 0.5


def test_an_unknown_name_is_told_with_those_that_there_are(far: StubServer) -> None:
    done = here(*DRAW, "--generator", "nobody")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["message"] == "The generator 'nobody' is not on offer."
    assert "'far.2', 'near'" in error["hint"]
    assert here(*DRAW, "--judge", "openai:").exit_code == 2
    assert kinds(far) == set()


async def chosen_run() -> str:
    """A run that has chosen its generator, as those of servers do."""
    options: dict[str, Any] = {"seed": 3, "size": "256x256", "max_rounds": 1, "skills": "none"}
    async with Gems() as gems:
        return (await gems.run(PROMPT, **options, generator="near")).run_id


def test_a_run_of_a_server_is_forked_and_resumed(stub: StubServer, far: StubServer) -> None:
    run_id = asyncio.run(chosen_run())
    refused = here("resume", run_id, "--generator", "far.2", "--json")
    assert refused.exit_code == 2
    assert "chose the generator 'near', and keeps it" in json.loads(refused.stdout)["error"]["message"]
    fork = ("fork", run_id, "--round", "1", "--prompt", "three green stars", "--json")
    assert carried_out(*fork)["options"]["generator"] == "near"
    drawn = len(stub.calls("generate"))
    other = carried_out(*fork, "--generator", "far.2")
    assert "generator" not in other["options"]
    assert other["models"]["generator"] == "openai:pictures"
    assert (len(stub.calls("generate")), kinds(far)) == (drawn, {"images"})
