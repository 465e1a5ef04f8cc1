"""What a server sends in the place of the usual answer, built from what the hidden world's model would have said.

An `Asked` is one request of a run; a reply is a text, a `Message` or a whole HTTP response. The functions that edit
replies are the material of `benchmarks.odd_models` and `benchmarks.odd_servers`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from benchmarks import faulty_world as world
from gems.models.chat.schemas import find_task
from tests.support.stub.records import Recorded

PICTURE_TOKENS = 800
_CHARACTERS_PER_TOKEN = 4
SIGHT = "sight"
"""Stands for the question whether the judge sees, which names no task."""
JUDGING = ("checklist", "verify", SIGHT)


@dataclass(frozen=True, slots=True)
class Message:
    """What a chat model says: content, other fields of the message, and why it ended."""

    content: Any
    finish: str | None = "stop"
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """One chat request.

    Attributes:
        body: The request.
        number: Which one of this server's chat requests it is, from 1.
    """

    body: dict[str, Any]
    number: int

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as the world reads them, whatever the server made the client send."""
        system = [text for text in map(_text, self._of("system")) if text]
        parts = [part for message in self.body["messages"] for part in _parts(message)]
        user = [part for part in parts if part.get("text") not in system]
        return [{"role": "system", "content": "\n".join(system)}, {"role": "user", "content": user}]

    @property
    def task(self) -> str:
        """Name of the task."""
        return find_task(message["content"] for message in self.messages) or SIGHT

    @property
    def answer(self) -> str:
        """What the world's model says to it."""
        return world.chat(self.messages)

    @property
    def value(self) -> dict[str, Any]:
        """The same as JSON."""
        value: dict[str, Any] = json.loads(self.answer)
        return value

    @property
    def is_judging(self) -> bool:
        """Whether a judge is asked."""
        return self.task in JUDGING

    @property
    def format(self) -> str | None:
        """The response format that is asked for."""
        return (self.body.get("response_format") or {}).get("type")

    @property
    def pictures(self) -> int:
        """How many pictures it holds."""
        return sum(part.get("type") == "image_url" for message in self.body["messages"] for part in _parts(message))

    @property
    def text(self) -> str:
        """All texts of the messages."""
        return "\n".join(filter(None, map(_text, self.body["messages"])))

    @property
    def tokens(self) -> int:
        """Its length."""
        return len(self.text) // _CHARACTERS_PER_TOKEN + PICTURE_TOKENS * self.pictures

    def _of(self, role: str) -> Iterator[dict[str, Any]]:
        return (message for message in self.body["messages"] if message["role"] == role)


Reply = str | Message | Response | None
Chat = Callable[[Asked], Reply]
"""None leaves the usual answer."""
Picture = Callable[[Recorded, bytes], Response | None]
"""An answer of the Images API, given the picture that was drawn; None leaves the usual one."""


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content") or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(message: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in _parts(message) if part.get("type") == "text")


def respond(asked: Asked, reply: Reply) -> tuple[Response, int]:
    """Return the response, and how many tokens request and answer have."""
    if isinstance(reply, Response):
        return reply, 0
    said = reply if isinstance(reply, Message) else Message(asked.answer if reply is None else reply)
    written = len(f"{said.content or ''}{''.join(map(str, said.fields.values()))}") // _CHARACTERS_PER_TOKEN
    usage = {"prompt_tokens": asked.tokens, "completion_tokens": written, "total_tokens": asked.tokens + written}
    spent = usage["total_tokens"]
    if asked.body.get("stream"):
        return StreamingResponse(iter(stream(said, usage)), media_type="text/event-stream"), spent
    message = {"role": "assistant", "content": said.content, **said.fields}
    choice = {"index": 0, "message": message, "finish_reason": said.finish}
    return JSONResponse(_envelope("chat.completion", [choice], usage=usage)), spent


def stream(said: Message, usage: dict[str, int] | None = None) -> list[bytes]:
    """The server-sent events of a message."""
    content = said.content
    middle = len(content) // 2 if isinstance(content, str) else 0
    pieces = [content[:middle], content[middle:]] if middle else [content]
    deltas = [{"role": "assistant", **said.fields}, *({"content": piece} for piece in pieces)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices += [{"index": 0, "delta": {}, "finish_reason": said.finish}] if said.finish else []
    bodies = [_envelope("chat.completion.chunk", [choice]) for choice in choices]
    bodies += [_envelope("chat.completion.chunk", [], usage=usage)] if usage else []
    return [*(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies), b"data: [DONE]\n\n"]


def _envelope(kind: str, choices: list[Any], **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-0", "object": kind, "created": 0, "model": "odd", "choices": choices, **more}


def refuse(status: int, message: Any, code: Any = None) -> Response:
    """An error in OpenAI's form."""
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return JSONResponse(body, status)


def slowly(pieces: Iterable[bytes], seconds: float, media_type: str = "text/event-stream") -> Response:
    """A response that rests before each of its pieces."""

    def sent() -> Iterator[bytes]:
        for piece in pieces:
            time.sleep(seconds)
            yield piece

    return StreamingResponse(sent(), media_type=media_type)


def in_json(edit: Callable[[Asked], Reply]) -> Chat:
    """Edit the answers that are JSON."""
    return lambda asked: None if asked.task in ("verify", SIGHT) else edit(asked)


def in_task(task: str, edit: Callable[[Asked], Reply]) -> Chat:
    """Edit the answers to one task."""
    return lambda asked: edit(asked) if asked.task == task else None


def in_verify(form: str, yes: str = "Yes", no: str = "No") -> Chat:
    """Put single answers in the place of `{}` in a form."""

    def edit(asked: Asked) -> Reply:
        return form.replace("{}", yes if asked.answer.startswith("Yes") else no)

    return in_task("verify", edit)


def of_verdicts(edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Chat:
    """Edit the list of verdicts in checklists."""
    return in_task("checklist", lambda asked: json.dumps({"answers": edit(asked.value["answers"])}))


def all_yes(asked: Asked) -> str:
    """The draft of a hasty judge: everything is there; of other tasks, another object."""
    if asked.task == SIGHT:
        return "Blue."
    if asked.task == "verify":
        return "Yes. It seems to be there."
    if asked.task == "checklist":
        hasty = [answer | {"answer": "yes"} for answer in asked.value["answers"]]
        return json.dumps({"answers": hasty})
    return '{"note": "what is asked for?"}'
