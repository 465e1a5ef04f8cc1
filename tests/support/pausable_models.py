"""Models behind the stub that can be held at a chosen question, and the process that is killed meanwhile.

What a picture shows is its round: the prompt ends in a version, which decides the grey of the picture, and
the judge reads it from the pixels. So the same questions always get the same answers, in whatever process.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from PIL import Image

from gems.generation import ImageRequest
from gems.models.chat.schemas import extract_tag, find_task
from tests.support.stub import Recorded

PATIENCE_S = 180
"""Everything that is waited for comes long before."""
QUESTIONS = ("Is there a cat?", "Is it red?", "Is it asleep?")
_STEP = 60
Holds = Callable[[str, Any], bool]
"""Whether a request is the one to hold: its task, or `image`, and its messages or image request."""


class World:
    """Chat model and image model in one; a run passes in its third round.

    Attributes:
        held: Set once the request to hold has come; it gets no answer until `release` is called.
    """

    def __init__(self) -> None:
        self.held = threading.Event()
        self._released = threading.Event()
        self._holds: Holds = lambda task, asked: False

    def hold(self, holds: Holds) -> None:
        """Hold the first request that `holds` is true of."""
        self._holds = holds

    def release(self) -> None:
        self._holds = lambda task, asked: False
        self._released.set()

    def chat(self, messages: list[dict[str, Any]]) -> str:
        task = task_of(messages)
        self._pass(task, messages)
        # Without a task it is asked whether it sees.
        answer = getattr(self, task)(messages[1]["content"]) if task else "Red."
        return answer if isinstance(answer, str) else json.dumps(answer)

    def draw(self, request: ImageRequest) -> bytes:
        self._pass("image", request)
        grey = _STEP * version(request.prompt)
        picture = Image.new("RGB", (request.width, request.height), (grey, grey, grey))
        # The seed leaves a mark of its own, so that no two pictures are the same.
        picture.putpixel((0, 0), tuple(request.seed.to_bytes(4)[1:]))
        out = io.BytesIO()
        picture.save(out, "PNG")
        return out.getvalue()

    def _pass(self, task: str, asked: Any) -> None:
        if self._holds(task, asked) and not self.held.is_set():
            self.held.set()
            self._released.wait(PATIENCE_S)

    def route(self, content: Any) -> Any:
        return {"skills": [], "why": "It is plain."}

    def decompose(self, content: Any) -> Any:
        return {"requirements": [{"question": question} for question in QUESTIONS]}

    def complete(self, content: Any) -> Any:
        return {"requirements": []}

    def checklist(self, content: Any) -> Any:
        met = seen(content)
        said = ["yes" if number <= met else "no" for number in (1, 2, 3)]
        return {"answers": [{"number": n, "answer": a, "evidence": f"seen {n}"} for n, a in enumerate(said, 1)]}

    def verify(self, content: Any) -> Any:
        met = QUESTIONS.index(extract_tag("question", text_of(content)) or "") < seen(content)
        return "Yes. It is there." if met else "No. It is missing."

    def reflect(self, content: Any) -> Any:
        drawn = extract_tag("drawn_prompt", text_of(content)) or ""
        return {"experience": f"Version {version(drawn)} lacks something.", "prompt": next_prompt(drawn)}

    def mend(self, content: Any) -> Any:
        reflected = self.reflect(content)
        return reflected | {"instruction": reflected["prompt"]}


def task_of(messages: list[dict[str, Any]]) -> str:
    return find_task(message["content"] for message in messages)


def text_of(content: list[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def version(prompt: str) -> int:
    """The round that a prompt is for."""
    found = re.search(r" v(\d+)$", prompt)
    return int(found.group(1)) if found else 1


def next_prompt(prompt: str) -> str:
    return f"{prompt.rpartition(' v')[0] or prompt} v{version(prompt) + 1}"


def seen(content: list[dict[str, Any]]) -> int:
    """The round that the newest picture shows."""
    url = [part["image_url"]["url"] for part in content if part["type"] == "image_url"][-1]
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
        grey = picture.convert("L").getpixel((picture.width // 2, picture.height // 2))
    return round(float(grey) / _STEP)  # type: ignore[arg-type]


def images_asked_for(requests: list[Recorded]) -> Counter[tuple[str, int]]:
    """How often each image was asked for."""
    asked = (request.body for request in requests if request.kind == "images")
    return Counter((body["prompt"], body["seed"]) for body in asked)


def questions_asked(requests: list[Recorded]) -> Counter[str]:
    """How often each question was asked, word for word and with the same pictures."""
    asked = (request.body for request in requests if request.kind == "chat")
    return Counter(json.dumps(body, sort_keys=True) for body in asked)


def wait_for_rows(home: Path, table: str, count: int, url: str | None = None) -> None:
    """Wait until the ledger holds so many rows, as another process writes them.

    Args:
        home: Where its file is.
        table: `drawings` or `answers`.
        count: How many.
        url: The database it is in; None for the file.
    """
    deadline = time.monotonic() + PATIENCE_S
    # What earlier runs taught stands among the answers and is none of a model's.
    models = " WHERE task<>'recall'" if table == "answers" else ""
    with closing(_opened(home, url)) as database:
        while True:
            (found,) = database.execute(f"SELECT count(*) FROM {table}{models}").fetchone()
            if found >= count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"The ledger holds {found} {table}, not {count}.")
            time.sleep(0.02)


def _opened(home: Path, url: str | None) -> Any:
    return psycopg.connect(url, autocommit=True) if url else sqlite3.connect(home / "ledger.sqlite3", PATIENCE_S)
