"""Whole runs over HTTP: a chat model that is easy to foresee, and settings that wait hardly at all."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gems.models.chat.schemas import extract_tag, find_task
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from gems.skills.models import Skill
from tests.support.stub import Recorded, StubServer
from tests.support.stub.records import Body
from tests.support.stub.responses import Answer

PROMPT = "three red circles above a blue square"
ATTEMPTS = 2
SINGLE_NO = json.dumps({"answers": [{"number": 1, "answer": "yes"}, {"number": 2, "answer": "no"}]})
"""The answer to a checklist after which that no, and then the other, is asked about on its own."""


class Script:
    """A chat model that accepts the image once it has written so many next prompts.

    Args:
        reflections: How many; 0 to accept the first image.

    Attributes:
        worsens: Whether later images, until one is accepted, meet less than the first.
    """

    def __init__(self, reflections: int = 0) -> None:
        self.reflections = reflections
        self.worsens = False
        self.written = 0

    def __call__(self, messages: list[dict[str, Any]]) -> Answer:
        """What it says to `messages`, with the thought behind it."""
        content = text_of(messages[1])
        said = {
            "route": self._route,
            "enhance": self._enhance,
            "keep": self._keep,
            "decompose": self._decompose,
            "complete": lambda _content: {"requirements": []},
            "checklist": self._checklist,
            "verify": self._verify,
            "reflect": self._reflect,
            "summarise": self._reflect,
            "refine": self._reflect,
            "mend": self._mend,
        }[task_of({"messages": messages})](content)
        return Answer(said if isinstance(said, str) else json.dumps(said), reasoning="I looked closely.")

    def _mend(self, content: str) -> Any:
        reflected = self._reflect(content)
        return reflected | {"instruction": reflected["prompt"]}

    def _route(self, content: str) -> Any:
        return {"skills": [], "why": "none is needed"}

    def _enhance(self, content: str) -> Any:
        return {"prompt": f"{extract_tag('user_prompt', content)}, arranged in rows"}

    def _keep(self, content: str) -> Any:
        return {"lost": [], "prompt": ""}

    def _decompose(self, content: str) -> Any:
        stated = ("Are there three red circles?", "Is there a blue square?")
        return {"requirements": [{"question": question, "kind": "object", "parents": []} for question in stated]}

    def _checklist(self, content: str) -> Any:
        square = ("yes" if self._accepts() else "no", "a square or none")
        circles = ("no" if self.worsens and self.written and not self._accepts() else "yes", "three circles")
        asked = (extract_tag("questions", content) or "").splitlines()
        answers = [square if "blue square" in line else circles for line in asked]
        numbered = enumerate(answers, 1)
        return {"answers": [{"number": n, "answer": value, "evidence": why} for n, (value, why) in numbered]}

    def _verify(self, content: str) -> Any:
        missing = "blue square" in content and not self._accepts()
        return "No. It is missing." if missing else "Yes. It is there."

    def _accepts(self) -> bool:
        return self.written >= self.reflections

    def _reflect(self, content: str) -> Any:
        self.written += 1
        prompt = f"{extract_tag('user_prompt', content)}, better {self.written}"
        return {"experience": "The square was missing.", "prompt": prompt}


def text_of(message: dict[str, Any]) -> str:
    """The text parts of an OpenAI message."""
    content = message["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def task_of(body: Body) -> str:
    """The task that a chat request names."""
    return find_task(message["content"] for message in body["messages"])


def asks_for(*tasks: str) -> Any:
    """A condition for `StubServer.fault`: the request is for one of these tasks."""
    return lambda body: task_of(body) in tasks


def tasks(stub: StubServer) -> list[str]:
    """The tasks of the chat requests so far."""
    return [task_of(recorded.body) for recorded in stub.calls("chat")]


def drawings(stub: StubServer) -> list[Recorded]:
    """The requests for images so far."""
    return [recorded for recorded in stub.requests if recorded.kind in ("images", "generate")]


def settings_for(
    stub: StubServer,
    home: Path,
    *,
    generator: str = "openai",
    key: str | None = None,
    chat: dict[str, Any] | None = None,
    image: dict[str, Any] | None = None,
    is_known: bool = True,
) -> Settings:
    """Settings with all models at the stub.

    Args:
        stub: Where the models are.
        home: Where the stores are.
        generator: `openai` or `http`, or a whole spec.
        key: The key of both.
        chat: What differs for the chat model.
        image: What differs for the generator.
        is_known: Whether an earlier run has found out that the judge sees.
    """
    if is_known:
        know_to_see(home, f"stub at {stub.base_url}")
    specs = {"openai": f"openai:painter@{stub.base_url}", "http": f"http:{stub.generate_url}"}
    quick: dict[str, Any] = {"attempts": ATTEMPTS, "first_wait_s": 0.01, "timeout_s": 20.0}
    quick |= {"api_key": SecretStr(key)} if key else {}
    return Settings(
        home=home,
        chat=ChatSettings(**(quick | {"model": f"openai:stub@{stub.base_url}"} | (chat or {}))),
        generator=GeneratorSettings(**(quick | {"model": specs.get(generator, generator)} | (image or {}))),
    )


def know_to_see(home: Path, *judges: str) -> None:
    """Leave in a home what an earlier run has found out about these judges."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "vision.json").write_text(json.dumps({judge: ["Red", time.time()] for judge in judges}))


def opened(stub: StubServer, home: Path, *, skills: tuple[Skill, ...] = (), **settings: Any) -> Gems:
    """A service whose models are all at the stub; see `settings_for`."""
    return Gems(settings_for(stub, home, **settings), skills=skills)
