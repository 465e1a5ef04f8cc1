"""How often each endpoint is asked in each profile, counted at a real HTTP server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gems.models.chat.schemas import find_task
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from gems.skills.models import Skill
from tests.support.chat_script import know_to_see
from tests.support.stub import StubServer
from tests.support.stub.models import flat_picture

QUESTIONS = ("Is there a cat?", "Is it red?", "Is it asleep?", "Is it large?")
SPATIAL = Skill(name="spatial", description="Where things stand.", body="Say where.", place="built-in")


def task_of(messages: list[dict[str, Any]]) -> str:
    return find_task(message["content"] for message in messages)


def pictures_of(body: dict[str, Any]) -> list[str]:
    return [part["image_url"]["url"] for part in body["messages"][1]["content"] if part["type"] == "image_url"]


class Brain:
    """Finds the same requirements missing until the image of round `passing`."""

    def __init__(self, passing: int, skill: str = "none") -> None:
        self.passing, self.skill, self.round = passing, skill, 1

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        return str(getattr(self, task_of(messages))(messages))

    def route(self, messages: Any) -> str:
        return self.skill

    def enhance(self, messages: Any) -> str:
        return json.dumps({"prompt": "a better cat"})

    def decompose(self, messages: Any) -> str:
        return json.dumps({"requirements": [{"question": question} for question in QUESTIONS]})

    def complete(self, messages: Any) -> str:
        return json.dumps({"requirements": []})

    def verify(self, messages: Any) -> str:
        return "Yes. There." if self.round >= self.passing or "cat" in str(messages[1]) else "No. Not so."

    def checklist(self, messages: Any) -> str:
        passed = self.round >= self.passing
        asked = re.findall(r"(?m)^\d+\. (.+)$", str(messages[1]["content"][-1]["text"]))
        # A last look is at what failed before only.
        assert sorted(asked) in (sorted(QUESTIONS), sorted(QUESTIONS[1:]))
        said = ["yes" if passed or "cat" in question else "no" for question in asked]
        return json.dumps({"answers": [{"number": n, "answer": a} for n, a in enumerate(said, 1)]})

    def summarise(self, messages: Any) -> str:
        return json.dumps({"experience": "It lacks something."})

    def refine(self, messages: Any) -> str:
        self.round += 1
        return json.dumps({"experience": "It lacks something.", "prompt": f"prompt {self.round}"})

    reflect = refine

    def mend(self, messages: Any) -> str:
        return json.dumps(json.loads(self.refine(messages)) | {"instruction": "Make it red."})


class Bench:
    """A service over HTTP, and the requests that it made."""

    def __init__(self, gems: Gems, stub: StubServer) -> None:
        self.gems, self.stub = gems, stub

    def counts(self) -> Counter[str]:
        return Counter(task_of(request.body["messages"]) for request in self.stub.calls("chat"))

    def about(self, task: str) -> list[dict[str, Any]]:
        bodies = [request.body for request in self.stub.calls("chat")]
        return [body for body in bodies if task_of(body["messages"]) == task]


@pytest_asyncio.fixture
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    with StubServer(chat=request.param, images=flat_picture) as stub:
        know_to_see(tmp_path / "home", f"stub at {stub.base_url}")
        settings = Settings(
            home=tmp_path / "home",
            chat=ChatSettings(model=f"openai:stub@{stub.base_url}"),
            generator=GeneratorSettings(model=f"openai:stub@{stub.base_url}"),
        )
        async with Gems(settings, skills=[SPATIAL]) as gems:
            yield Bench(gems, stub)


@pytest.mark.parametrize("bench", [Brain(passing=99)], indirect=True)
async def test_paper_makes_the_papers_calls(bench: Bench) -> None:
    result = await bench.gems.run("a cat", profile="paper", max_rounds=3, size="256x256", seed=1)
    assert result.stop_reason == "max_rounds"
    assert bench.counts() == {"route": 1, "decompose": 1, "verify": 3 * 4, "summarise": 2, "refine": 2}
    assert len(bench.stub.calls("images")) == 3


@pytest.mark.parametrize("bench", [Brain(passing=3, skill="spatial")], indirect=True)
async def test_paper_enhances_once_where_a_skill_was_chosen(bench: Bench) -> None:
    result = await bench.gems.run("a cat", profile="paper", size="256x256", seed=1)
    assert (result.stop_reason, len(result.rounds)) == ("passed", 3)
    assert bench.counts() == {"route": 1, "enhance": 1, "decompose": 1, "verify": 3 * 4, "summarise": 2, "refine": 2}


@pytest.mark.parametrize("bench", [Brain(passing=99)], indirect=True)
async def test_paper_sends_whole_pngs_and_refines_with_all_history(bench: Bench) -> None:
    result = await bench.gems.run("a cat", profile="paper", max_rounds=4, size="256x256", seed=1)
    ids = [turn["candidates"][0]["image"] for turn in result.rounds]
    shown = []
    for body in bench.about("refine"):
        urls = pictures_of(body)
        assert all(url.startswith("data:image/png;base64,") for url in urls)
        shown.append([hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest() for url in urls])
    assert shown == [ids[:1], ids[:2], ids[:3]]
    assert [len(pictures_of(body)) for body in bench.about("summarise")] == [1, 1, 1]
    assert {len(pictures_of(body)) for body in bench.about("verify")} == {1}


@pytest.mark.parametrize("bench", [Brain(passing=3)], indirect=True)
async def test_balanced_asks_once_a_round_and_confirms_before_passing(bench: Bench) -> None:
    result = await bench.gems.run("a cat", size="256x256", seed=1, plateau=0, repair="never")
    assert (result.stop_reason, len(result.rounds)) == ("passed", 3)
    # The third image is confirmed, and asked twice more about what failed before.
    assert bench.counts() == {"route": 1, "decompose": 1, "complete": 1, "checklist": 3 + 1 + 2, "reflect": 2}


@pytest.mark.parametrize("bench", [Brain(passing=3)], indirect=True)
async def test_mending_asks_no_more_a_round_than_drawing_anew(bench: Bench) -> None:
    result = await bench.gems.run("a cat", size="256x256", seed=1, plateau=0, repair="always")
    assert (result.stop_reason, [turn["action"] for turn in result.rounds]) == ("passed", ["draw", "edit", "edit"])
    # A mended image may be broken anywhere: its whole checklist is asked once more.
    assert bench.counts() == {"route": 1, "decompose": 1, "complete": 1, "checklist": 3 + 1 + 2 + 1, "mend": 2}
    paths = [request.path for request in bench.stub.calls("images")]
    assert paths == ["/v1/images/generations", "/v1/images/edits", "/v1/images/edits"]


@pytest.mark.parametrize("bench", [Brain(passing=3, skill="spatial")], indirect=True)
async def test_balanced_asks_nobody_whether_a_skill_kept_the_users_words(bench: Bench) -> None:
    result = await bench.gems.run("a cat", size="256x256", seed=1, plateau=0, repair="never")
    assert (result.stop_reason, len(result.rounds)) == ("passed", 3)
    before = {"route": 1, "enhance": 1, "decompose": 1, "complete": 1}
    assert bench.counts() == before | {"checklist": 3 + 1 + 2, "reflect": 2}
    assert result.rounds[0]["prompt"] == "a cat\na better cat"


@pytest.mark.parametrize("bench", [Brain(passing=99)], indirect=True)
async def test_balanced_confirms_nothing_that_did_not_pass(bench: Bench) -> None:
    result = await bench.gems.run("a cat", size="256x256", seed=1, max_rounds=3, plateau=0, repair="never")
    assert result.stop_reason == "max_rounds"
    assert bench.counts() == {"route": 1, "decompose": 1, "complete": 1, "checklist": 3, "reflect": 2}
    kinds = {url.partition(";")[0] for body in bench.about("checklist") for url in pictures_of(body)}
    assert kinds == {"data:image/jpeg"}


@pytest.mark.parametrize("bench", [Brain(passing=2)], indirect=True)
async def test_candidates_reach_the_server_side_by_side(bench: Bench) -> None:
    bench.stub.behaviour.image_s = 0.3
    result = await bench.gems.run("a cat", size="256x256", seed=1, candidates=3)
    assert bench.stub.peak("images") == 3
    assert len(bench.stub.calls("images")) == 6
    seeds = [request.body["seed"] for request in bench.stub.calls("images")]
    assert (len(set(seeds)), seeds.count(1)) == (6, 1)
    assert [len(turn["candidates"]) for turn in result.rounds] == [3, 3]


@pytest.mark.parametrize("bench", [Brain(passing=2)], indirect=True)
async def test_system_message_is_the_same_for_every_question_of_a_task(bench: Bench) -> None:
    await bench.gems.run("a cat", size="256x256", seed=1, profile="paper")
    asked = bench.about("verify")
    systems = {body["messages"][0]["content"] for body in asked}
    assert len(asked) == 2 * len(QUESTIONS)
    assert len(systems) == 1
    assert not re.search(r"\b(cat|red|asleep)\b", systems.pop())
