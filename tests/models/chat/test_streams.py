"""Answers that are too large, do not end, break off or are another request's: refused, and never half believed."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest

from gems.errors import (
    BlindModelError,
    ContextExceededError,
    GemsError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
    TruncatedReplyError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models import http
from gems.models.chat import client as chat_client
from gems.models.chat.schemas import RequirementsReply
from gems.service import Gems
from gems.settings import ChatSettings, GeneratorSettings, Settings
from tests.support.chat_clients import client_of, formed, plain
from tests.support.http_server import begun, create_app, result, serving
from tests.support.raw_server import (
    Answer,
    BrokenError,
    RawServer,
    as_event,
    completion,
    delta,
    reply_with,
    spoken,
    stream_of,
)

JSON = '{"requirements":[{"question":"Is there a red circle?","kind":"object","parents":[]}]}'
MB = 2**20


def lists(size: int) -> bytes:
    return b'{"choices":[' + b"[]," * (size // 3) + b"[]]}"


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def broken(*events: Any) -> Iterator[bytes]:
    yield from stream_of(events)
    raise BrokenError


async def refuse(answer: Answer, question: Any = None, **settings: Any) -> tuple[GemsError, int]:
    """The error of a question to a server that answers so, and the requests that it took."""
    with RawServer(answer) as server:
        client = client_of(server, **settings)
        with pytest.raises(GemsError) as raised:
            await client.ask(question or formed())
        await client.aclose()
        return raised.value, len(server.requests)


LARGE = {
    "lists of 2 MB": reply_with(lists(2 * MB)),
    "lists of 4 MB": reply_with(lists(4 * MB)),
    "lists of 30 MB": reply_with(lists(30 * MB)),
    "lists just below the limit": reply_with(lists(2 * MB - 100)),
    "numbers just below the limit": reply_with(b'{"choices":[' + b"1," * (MB - 100) + b"1]}"),
    "objects": reply_with(b'{"choices":[' + b"{}," * (600_000) + b"{}]}"),
    "lists in an event": list(stream_of([b"data: " + lists(2 * MB - 100) + b"\n\n"])),
    "some lists in an event": list(stream_of([b"data: " + lists(1000) + b"\n\n"])),
    "one giant string": reply_with(b'{"choices":[{"message":{"content":"' + b"a" * (30 * MB) + b'"}}]}'),
    "nested deep": reply_with(b"[" * 100_000 + b"]" * 100_000),
    "nested less deep": reply_with(b"[" * 20_000 + b"]" * 20_000),
    "an event nested deep": list(stream_of([b"data: " + b"[" * 100_000 + b"]" * 100_000 + b"\n\n"])),
    "content nested deep": list(stream_of(spoken("[" * 90_000 + "]" * 90_000))),
    "objects nested deep in the content": list(stream_of(spoken('{"a":' * 30_000 + "1" + "}" * 30_000))),
    "a line without end": [*stream_of([]), b"a" * (3 * MB)],
    "an event of many lines": [*stream_of([]), b"data: a\n" * (MB // 2)],
}


@pytest.mark.parametrize("answer", LARGE.values(), ids=LARGE)
async def test_large_answers_are_refused_before_objects_are_built(answer: list[bytes]) -> None:
    """And nothing is written about each of their values."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error, requests = await refuse(lambda _number, _body: answer)
    assert isinstance(error, UnreadableReplyError)
    assert requests <= 3
    assert len(error.message) < 1000


async def test_a_line_in_pieces_of_one_byte_is_refused() -> None:
    pieces = [b"data: ", *(bytes([byte]) for byte in b"a" * 50_000)]
    error, _ = await refuse(lambda _number, _body: chunked(pieces), timeout_s=60.0)
    assert isinstance(error, UnreadableReplyError)


ENDLESS: dict[str, tuple[bytes, type[GemsError], int]] = {
    "tokens": (as_event(delta("more ")), TruncatedReplyError, 1),
    "reasoning": (as_event(delta(reasoning_content="hm ")), TruncatedReplyError, 1),
    "reasoning by its other name": (as_event(delta(reasoning="hm ")), TruncatedReplyError, 1),
    "refusal": (as_event(delta(refusal="no ")), TruncatedReplyError, 1),
    "arguments of a tool": (
        as_event(delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "[{"}}])),
        TruncatedReplyError,
        1,
    ),
    "empty texts": (as_event(delta("")), TruncatedReplyError, 1),
    "roles": (as_event(delta(role="assistant")), TruncatedReplyError, 1),
    "events without choices": (as_event({"id": "one", "choices": []}), TruncatedReplyError, 1),
    "empty objects": (b"data: {}\n\n", TruncatedReplyError, 1),
    "comments": (b": ping\n\n", TruncatedReplyError, 1),
    "comments with carriage returns": (b": ping\r\n\r\n", TruncatedReplyError, 1),
    "blank lines": (b"\n", TruncatedReplyError, 1),
}


@pytest.mark.parametrize(("event", "expected", "requests"), ENDLESS.values(), ids=ENDLESS)
async def test_streams_without_end_are_left(
    event: bytes, expected: type[GemsError], requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_EVENTS", 3000)
    monkeypatch.setattr(chat_client, "_MOST_CHARACTERS", 2000)
    error, sent = await refuse(
        lambda _number, _body: itertools.chain(stream_of([]), itertools.repeat(event * 100)), timeout_s=60.0
    )
    assert (type(error), sent) == (expected, requests)


@pytest.mark.parametrize("event", [b": ping\n\n", as_event(delta("")), as_event(delta(role="assistant"))])
async def test_what_says_nothing_does_not_end_the_silence(event: bytes) -> None:
    """Two time-outs, as for a server that sends nothing at all."""

    def ping(_number: int, _body: Any) -> Iterator[bytes]:
        yield from stream_of([])
        for _ in itertools.count():
            yield event
            time.sleep(0.01)

    error, requests = await refuse(ping, timeout_s=0.5)
    assert (type(error), requests) == (ProviderTimeoutError, 2)


async def test_a_reply_that_drips_for_ever_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_client, "_LONGEST", 2)

    def drip(_number: int, _body: Any) -> Iterator[bytes]:
        yield from stream_of([])
        for _ in itertools.count():
            yield as_event(delta("a "))
            time.sleep(0.01)

    error, requests = await refuse(drip, timeout_s=0.5)
    assert (type(error), requests) == (ProviderTimeoutError, 2)


async def test_other_tasks_run_between_the_events_of_a_stream() -> None:
    """However many arrive at once."""
    events = 4000
    pieces = [*stream_of([]), b"data: {}\n\n" * events, *stream_of(spoken(JSON))]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    with RawServer(lambda _number, _body: [pieces[0], b"".join(pieces[1:2]), *pieces[3:]]) as server:
        client = client_of(server)
        beside = asyncio.create_task(tick())
        reply = await client.ask(formed())
        beside.cancel()
        await client.aclose()
    assert reply.form(RequirementsReply).requirements
    assert ticks >= events


BROKEN: dict[str, tuple[Any, type[GemsError]]] = {
    "reset after half": (lambda: broken(delta(JSON[:30])), UnreachableError),
    "reset after the whole text": (lambda: broken(delta(JSON)), UnreachableError),
    "end after half": (lambda: stream_of([delta(JSON[:30])]), UnreadableReplyError),
    "end without a finish": (lambda: stream_of([delta(JSON)]), UnreadableReplyError),
    "done without a finish": (lambda: stream_of([delta(JSON), b"data: [DONE]\n\n"]), UnreadableReplyError),
    "end in a chunk": (lambda: stream_of([delta(JSON), b'data: {"id":"one","choi']), UnreadableReplyError),
    "a chunk that is no JSON": (lambda: stream_of([delta(JSON), b"data: oops\n\n"]), UnreadableReplyError),
    "error": (lambda: stream_of([delta(JSON), {"error": {"message": "worker died", "code": 502}}]), ServerError),
    "error as a text": (lambda: stream_of([delta(JSON), {"error": "out of memory"}]), ServerError),
    "error at once": (lambda: stream_of([{"error": {"message": "worker died"}}]), ServerError),
    "rate limit": (lambda: stream_of([{"error": {"message": "Slow down", "code": 429}}]), RateLimitError),
    "vLLM's older error": (
        lambda: stream_of([{"object": "error", "message": "worker died", "type": "InternalServerError", "code": 500}]),
        ServerError,
    ),
    "vLLM's older error about the context": (
        lambda: stream_of(
            [{"object": "error", "message": "This model's maximum context length is 100 tokens.", "code": 400}]
        ),
        ContextExceededError,
    ),
    "rate limit in JSON": (
        lambda: reply_with(b'{"error":{"message":"Rate limit reached","code":"rate_limit_exceeded"}}'),
        RateLimitError,
    ),
    "context": (
        lambda: stream_of([{"error": {"message": "maximum context length is 100 tokens", "code": 400}}]),
        ContextExceededError,
    ),
    "blind": (
        lambda: stream_of([{"error": {"message": "image input is not supported", "code": 500}}]),
        BlindModelError,
    ),
    **{
        f"finish {reason}": (lambda reason=reason: stream_of(spoken(JSON, reason)), UnreadableReplyError)
        for reason in ("error", "abort", "cancelled", "insufficient_system_resource", "network_error", "timeout")
    },
    **{
        f"finish {reason}": (lambda reason=reason: stream_of(spoken(JSON, reason)), TruncatedReplyError)
        for reason in ("length", "model_length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded")
    },
    "cut off, said twice": (
        lambda: stream_of([delta(JSON), delta(finish="length"), delta(finish="length")]),
        TruncatedReplyError,
    ),
    "two replies in one stream": (
        lambda: stream_of(
            [delta(JSON[:20], id="a"), delta("red ", id="b"), delta(JSON[20:], id="a"), delta(finish="stop", id="a")]
        ),
        UnreadableReplyError,
    ),
}


@pytest.mark.parametrize(("answer", "expected"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_answer_is_never_a_whole_one(answer: Any, expected: type[GemsError]) -> None:
    """And at most three requests are made for it, apart from those that a rate limit turns away."""
    error, requests = await refuse(lambda _number, _body: answer())
    assert isinstance(error, expected)
    assert requests <= (4 if expected is RateLimitError else 3)


@pytest.mark.parametrize("answer", [each[0] for each in BROKEN.values() if each[1] in (UnreachableError, ServerError)])
async def test_what_broke_once_is_asked_again(answer: Any) -> None:
    with RawServer(lambda number, _body: answer() if number == 0 else stream_of(spoken(JSON))) as server:
        client = client_of(server)
        reply = await client.ask(formed())
        await client.aclose()
        assert len(server.requests) == 2
    assert [each.question for each in reply.form(RequirementsReply).requirements] == ["Is there a red circle?"]


@pytest.mark.parametrize("said", ["Yes", "Yes, there is", "**Yes**. The circle"])
async def test_a_verdict_that_is_cut_is_no_verdict(said: str) -> None:
    error, requests = await refuse(lambda _number, _body: stream_of([delta(said)]), plain())
    assert (type(error), requests) == (UnreadableReplyError, 3)


@pytest.mark.parametrize(
    "events",
    [
        spoken(JSON),
        spoken(JSON)[:-1],
        [delta(each, id=f"part {number}") for number, each in enumerate(JSON)] + [delta(finish="stop", id="last")],
        [b": ping\n\n", delta(JSON), b":\n\n", delta(finish="stop"), delta(finish="stop")],
        [b"event: message\r\ndata: " + json.dumps(delta(JSON, finish="stop")).encode() + b"\r\n\r\n"],
        [delta(JSON, finish="stop", id="")],
        [delta(JSON, finish="eos_token")],
    ],
    ids=["plain", "not done", "own ids", "comments", "carriage returns", "no id", "TGI"],
)
async def test_manners_of_streaming_change_nothing(events: list[Any]) -> None:
    with RawServer(lambda _number, _body: stream_of(events)) as server:
        client = client_of(server)
        reply = await client.ask(formed())
        await client.aclose()
        assert len(server.requests) == 1
    assert len(reply.form(RequirementsReply).requirements) == 1


@pytest.mark.parametrize(
    "usage",
    [
        "none",
        [],
        3,
        {"prompt_tokens": "many", "completion_tokens": None},
        {"prompt_tokens": -1},
        {"prompt_tokens": 1.5, "prompt_tokens_details": "x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_an_answer_is_read_whatever_its_usage(usage: Any, is_streamed: bool) -> None:
    whole = json.dumps(completion(JSON) | {"usage": usage}).encode()
    events = [delta(JSON), delta(finish="stop") | {"usage": usage}]
    with RawServer(lambda _number, _body: stream_of(events) if is_streamed else reply_with(whole)) as server:
        client = client_of(server)
        reply = await client.ask(formed())
        await client.aclose()
        # Without a stream, the first answer only tells that the server knows none.
        assert len(server.requests) == (1 if is_streamed else 2)
    assert len(reply.form(RequirementsReply).requirements) == 1
    assert reply.usage["input_tokens"] == 0


async def test_a_usage_that_grows_with_the_stream_is_counted_once() -> None:
    usage = [{"prompt_tokens": 100, "completion_tokens": number + 1} for number in range(len(JSON))]
    events = [delta(each) | {"usage": usage[number]} for number, each in enumerate(JSON)]
    with RawServer(lambda _number, _body: stream_of([*events, delta(finish="stop")])) as server:
        client = client_of(server)
        reply = await client.ask(formed())
        await client.aclose()
    assert (reply.usage["input_tokens"], reply.usage["output_tokens"]) == (100, len(JSON))


async def test_a_cut_off_answer_without_usage_is_asked_once_more_for_twice_as_much() -> None:
    with RawServer(lambda _number, _body: stream_of(spoken("word " * 400, "length"))) as server:
        client = client_of(server)
        with pytest.raises(TruncatedReplyError):
            await client.ask(formed())
        await client.aclose()
        assert [body.get("max_tokens") for _, body in server.requests] == [None, 1000]


async def test_a_server_without_streams_costs_one_more_request_once() -> None:
    whole = json.dumps(completion(JSON)).encode()
    with RawServer(lambda _number, _body: reply_with(whole)) as server:
        client = client_of(server)
        for _ in range(2):
            await client.ask(formed())
        await client.aclose()
        assert [body["stream"] for _, body in server.requests] == [True, False, False]


@pytest.mark.parametrize("name", ["one giant string", "lists in an event", "events"])
def test_a_server_of_runs_answers_meanwhile(name: str, tmp_path: Any) -> None:
    """`/healthz` is answered while a large answer of the chat model is on its way, and the run ends by its error."""
    healthy: list[int] = []
    large = [*stream_of([]), *([b"data: {}\n\n" * 500] * 4)] if name == "events" else LARGE[name]
    whole = b"".join(large)[: 4 * MB]

    def answer(_number: int, _body: Any) -> Iterator[bytes]:
        step = len(whole) // 4
        for start in range(0, len(whole), step):
            yield whole[start : start + step]
            healthy.append(httpx.get(f"{root}/healthz").status_code)

    with RawServer(answer) as models:
        quick: dict[str, Any] = {"attempts": 2, "first_wait_s": 0.01}
        settings = Settings(
            home=tmp_path / "home",
            chat=ChatSettings(model=f"openai:raw@{models.base_url}", **quick),
            generator=GeneratorSettings(model="blocks"),
        )
        settings = settings.model_copy(update={"serve": settings.serve.model_copy(update={"web": False})})
        with serving(create_app(settings, Gems(settings, skills=()))) as root, httpx.Client(base_url=root) as client:
            run = begun(client)
            ended = result(client, run)
    assert healthy
    assert set(healthy) == {200}
    assert "raw at" in str(ended) or "server at" in str(ended)
