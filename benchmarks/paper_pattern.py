"""The paper's way to call models, as the simplest straight-line program: the baseline of `cost.py`.

Route, enhance and decompose one after another; per round draw, ask one question per call in up to ten threads
with the whole PNG, summarise, and refine with every earlier image whole. The texts are those of GEMS, so that
only the pattern differs.
"""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai import OpenAI

from gems.models.chat.schemas import TASK_TAGS, Task
from gems.nodes.prompts import question

_THREADS = 10


def client(base: str) -> OpenAI:
    """A client of an OpenAI-compatible API with chat and images at the address `base`."""
    return OpenAI(base_url=base, api_key="unused", max_retries=0)


def run(client: OpenAI, prompt: str, rounds: int = 5) -> int:
    """Draw until everything is met or the rounds are used up.

    Args:
        client: Both models.
        prompt: What to draw.
        rounds: At most so many.

    Returns:
        How many rounds there were.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        ask = _Asking(client)
        ask("route", [], user_prompt=prompt, skills="aesthetic-drawing: For pictures that are to be beautiful.")
        drawn = json.loads(ask("enhance", [], user_prompt=prompt, skill="Name light and lens."))["prompt"]
        listed = json.loads(ask("decompose", [], user_prompt=prompt))["requirements"]
        questions = [each["question"] for each in listed]
        pictures: list[bytes] = []
        experiences: list[str] = []
        for number in range(1, rounds + 1):
            answer = client.images.generate(model="stub", prompt=drawn, size="1024x1024")
            assert answer.data is not None  # noqa: S101
            pictures.append(base64.b64decode(answer.data[0].b64_json or ""))
            said = list(pool.map(lambda each: ask("verify", pictures[-1:], question=each), questions))
            failed = [each for each, text in zip(questions, said, strict=True) if text[0] != "Y"]
            if not failed or number == rounds:
                return number
            state: dict[str, str] = {
                "user_prompt": prompt,
                "drawn_prompt": drawn,
                "passed": "\n".join(each for each in questions if each not in failed),
                "failed": "\n".join(failed),
                "experiences": "\n".join(experiences),
            }
            experiences.append(json.loads(ask("summarise", pictures[-1:], **state))["experience"])
            drawn = json.loads(ask("refine", pictures, **state, experience=experiences[-1]))["prompt"]
    return rounds


class _Asking:
    def __init__(self, client: OpenAI) -> None:
        self._client = client

    def __call__(self, task: Task, pictures: list[bytes], **slots: str) -> str:
        asked = question(task, {tag: slots.get(tag, "") for tag in TASK_TAGS[task]})
        content: list[Any] = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(picture).decode()}"}}
            for picture in pictures
        ]
        content.append({"type": "text", "text": asked.parts[-1]})
        messages: list[Any] = [{"role": "system", "content": asked.system}, {"role": "user", "content": content}]
        answer = self._client.chat.completions.create(model="stub", messages=messages)
        return answer.choices[0].message.content or ""
