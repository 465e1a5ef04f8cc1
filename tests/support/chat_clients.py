"""Clients and questions for the tests of the chat side."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw
from pydantic import SecretStr

from gems.models.chat.client import ChatClient
from gems.models.chat.messages import Picture, Question
from gems.models.chat.schemas import ChecklistReply, RequirementsReply, wrap_in_tag
from gems.models.factory import open_chat
from gems.settings import ChatSettings
from tests.support.stub import StubServer

PROMPT = "three red circles above a blue square"


def client_of(stub: StubServer, **settings: Any) -> ChatClient:
    """A client of the stub that waits hardly at all."""
    quick = {"first_wait_s": 0.001, "timeout_s": 20.0, "attempts": 3}
    if "api_key" in settings:
        settings["api_key"] = SecretStr(settings["api_key"])
    return open_chat(ChatSettings(model=f"openai:stub@{stub.base_url}", **(quick | settings)))


def plain(logprobs: bool = False) -> Question:
    """A question about a picture that is answered in words."""
    content = wrap_in_tag("question", "Is there a red circle?")
    return Question(task="verify", system="Task: verify", parts=(red_circle(), content), logprobs=logprobs)


def formed() -> Question:
    """A question that is answered by a JSON object."""
    return Question(
        task="decompose", system="Task: decompose", parts=(wrap_in_tag("user_prompt", PROMPT),), reply=RequirementsReply
    )


def checklist(pictures: int = 1, logprobs: bool = False) -> Question:
    """A question about pictures that is answered by a JSON object."""
    return Question(
        task="checklist",
        system="Task: checklist",
        parts=(*(red_circle(n) for n in range(pictures)), wrap_in_tag("questions", "1. Is there a red circle?")),
        reply=ChecklistReply,
        logprobs=logprobs,
    )


def red_circle(number: int = 0) -> Picture:
    """A picture that the built-in world can read; each number has an id and bytes of its own."""
    out = io.BytesIO()
    picture = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(picture).ellipse((60, 60 + number, 180, 180 + number), fill="red")
    picture.save(out, "PNG")
    return Picture(image=f"{number:064x}", data=out.getvalue(), media_type="image/png")
