"""Servers that speak the protocols of Anthropic, Gemini and Ollama, for the classes of LangChain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from tests.support.http_server import serving
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub.responses import Answer

Provider = Literal["anthropic", "google_genai", "ollama"]
Mind = Callable[[list[dict[str, Any]]], Answer]
Event = dict[str, Any]
TOKENS = (120, 34)
"""Tokens that every answer is said to take: of the prompt, of the answer."""
_FINISHED = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
    "google_genai": {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
    "ollama": {"stop": "stop", "length": "length"},
}


class Failure(NamedTuple):
    """An answer that is an error; of status 200 it comes within the stream."""

    status: int
    body: Any
    headers: dict[str, str] | None = None


class Heard(NamedTuple):
    """A request: its path, headers, body, and the messages in it as OpenAI's API has them."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    messages: list[dict[str, Any]]


@dataclass(slots=True)
class ProviderServer:
    """One of the servers.

    Attributes:
        provider: Whose protocol it speaks.
        mind: Says the answer to messages in OpenAI's form.
        failures: What it answers first, before `mind` is asked.
        pieces: The answers are streamed in pieces of so many characters.
        cut: Whether streams break off in the middle.
        stalls: Whether streams stand still in the middle.
    """

    provider: Provider
    mind: Mind
    failures: list[Failure] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    pieces: int = 20
    cut: bool = False
    stalls: bool = False
    url: str = ""

    @property
    def spec(self) -> str:
        return f"langchain:{self.provider}:test-model@{self.url}"

    async def answer(self, request: Request) -> Response:
        body = await request.json()
        messages = _MESSAGES[self.provider](body)
        self.heard.append(Heard(request.url.path, dict(request.headers), body, messages))
        if self.failures:
            failure = self.failures.pop(0)
            if failure.status != 200:
                return JSONResponse(failure.body, failure.status, failure.headers)
            return self._stream(iter([failure.body]))
        said = self.mind(messages)
        is_streamed = body.get("stream", request.url.path.endswith("streamGenerateContent"))
        if not is_streamed:
            return JSONResponse(_WHOLE[self.provider](said))
        return self._stream(_ANSWERS[self.provider](said, self.pieces))

    def _stream(self, events: Iterator[Event]) -> Response:
        async def lines() -> AsyncIterator[bytes]:
            sent = list(events)
            for event in sent[: len(sent) // 2] if self.cut or self.stalls else sent:
                data = json.dumps(event)
                if self.provider == "ollama":
                    yield f"{data}\n".encode()
                elif self.provider == "anthropic":
                    yield f"event: {event['type']}\ndata: {data}\n\n".encode()
                else:
                    yield f"data: {data}\n\n".encode()

            if self.stalls:
                # Until the client has had enough and closes the connection.
                await asyncio.sleep(PATIENCE_S)

        kind = "application/x-ndjson" if self.provider == "ollama" else "text/event-stream"
        return StreamingResponse(lines(), media_type=kind)


@contextmanager
def provider_server(provider: Provider, mind: Mind) -> Iterator[ProviderServer]:
    """Serve one of the protocols."""
    server = ProviderServer(provider, mind)
    app = FastAPI()
    model = "/v1beta/models/test-model"
    paths = {
        "anthropic": ["/v1/messages"],
        "google_genai": [f"{model}:streamGenerateContent", f"{model}:generateContent"],
        "ollama": ["/api/chat"],
    }
    for path in paths[provider]:
        app.post(path)(server.answer)
    with serving(app) as url:
        server.url = url
        yield server


def _pieces(text: str, length: int) -> list[str]:
    return [text[start : start + length] for start in range(0, len(text), length)]


def _anthropic_events(answer: Answer, length: int) -> Iterator[Event]:
    received, written = TOKENS
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "content": []}
    about |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": received, "output_tokens": 1}}
    yield {"type": "message_start", "message": about}
    blocks = [("thinking", answer.reasoning), ("text", answer.content)]
    for index, (kind, text) in enumerate(block for block in blocks if block[1]):
        empty = {"type": kind, kind: ""} | ({"signature": ""} if kind == "thinking" else {})
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for piece in _pieces(text or "", length):
            delta = {"type": f"{kind}_delta", kind: piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stopped = {"stop_reason": _FINISHED["anthropic"][answer.finish_reason], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stopped, "usage": {"input_tokens": received, "output_tokens": written}}
    yield {"type": "message_stop"}


def _google_events(answer: Answer, length: int) -> Iterator[Event]:
    received, written = TOKENS
    usage = {"promptTokenCount": received, "candidatesTokenCount": written, "totalTokenCount": received + written}
    parts = [{"text": piece, "thought": True} for piece in _pieces(answer.reasoning or "", length)]
    parts += [{"text": piece} for piece in _pieces(answer.content or "", length)]
    for part in parts:
        yield {
            "candidates": [{"index": 0, "content": {"role": "model", "parts": [part]}}],
            "modelVersion": "test-model",
        }
    finished = _FINISHED["google_genai"][answer.finish_reason]
    last = {"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": finished}
    yield {"candidates": [last], "usageMetadata": usage, "modelVersion": "test-model"}


def _ollama_events(answer: Answer, length: int) -> Iterator[Event]:
    received, written = TOKENS
    about = {"model": "test-model", "created_at": "2026-01-01T00:00:00Z"}
    for name, text in (("thinking", answer.reasoning), ("content", answer.content)):
        for piece in _pieces(text or "", length):
            yield about | {"message": {"role": "assistant", "content": "", name: piece}, "done": False}
    done = {"done": True, "done_reason": _FINISHED["ollama"][answer.finish_reason]}
    counts = {"prompt_eval_count": received, "eval_count": written}
    yield about | {"message": {"role": "assistant", "content": ""}} | done | counts


def _anthropic_message(answer: Answer) -> Event:
    received, written = TOKENS
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "stop_sequence": None}
    about |= {"stop_reason": _FINISHED["anthropic"][answer.finish_reason]}
    usage = {"input_tokens": received, "output_tokens": written}
    return about | {"content": [{"type": "text", "text": answer.content}], "usage": usage}


def _google_response(answer: Answer) -> Event:
    *_, last = _google_events(answer, 1)
    last["candidates"][0]["content"]["parts"] = [{"text": answer.content}]
    return last


def _picture(media_type: str, data: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


def _from_anthropic(body: dict[str, Any]) -> list[dict[str, Any]]:
    def part(block: dict[str, Any]) -> dict[str, Any]:
        return _picture(block["source"]["media_type"], block["source"]["data"]) if block["type"] == "image" else block

    said = [{"role": each["role"], "content": [part(block) for block in each["content"]]} for each in body["messages"]]
    return [{"role": "system", "content": body.get("system", "")}, *said]


def _from_google(body: dict[str, Any]) -> list[dict[str, Any]]:
    def part(block: dict[str, Any]) -> dict[str, Any]:
        if "text" in block:
            return {"type": "text", "text": block["text"]}
        # The API takes both spellings, and both alphabets of base64.
        inline = block["inlineData"]
        data = inline["data"].translate(str.maketrans("-_", "+/"))
        return _picture(inline.get("mimeType") or inline["mime_type"], data)

    said = [{"role": each["role"], "content": [part(block) for block in each["parts"]]} for each in body["contents"]]
    system = "".join(part["text"] for part in body.get("systemInstruction", {"parts": []})["parts"])
    return [{"role": "system", "content": system}, *said]


def _from_ollama(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "role": each["role"],
            "content": [
                {"type": "text", "text": each["content"]},
                *(_picture("image/png", data) for data in each.get("images") or ()),
            ],
        }
        for each in body["messages"]
    ]


_MESSAGES: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {
    "anthropic": _from_anthropic,
    "google_genai": _from_google,
    "ollama": _from_ollama,
}
_ANSWERS: dict[str, Callable[[Answer, int], Iterator[Event]]] = {
    "anthropic": _anthropic_events,
    "google_genai": _google_events,
    "ollama": _ollama_events,
}
_WHOLE: dict[str, Callable[[Answer], Event]] = {"anthropic": _anthropic_message, "google_genai": _google_response}
