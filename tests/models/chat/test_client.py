"""Endpoints that fail: what is tried again, what is not, and what is said about it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from gems.errors import (
    AuthenticationError,
    GemsError,
    ModelUnavailableError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models.chat.client import ChatClient
from gems.types import Usage
from tests.support.chat_clients import client_of, formed, plain
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import Fault, StubServer

SECRET = "tops3cret-value-0123456789"


@pytest.fixture
async def client(stub: StubServer) -> AsyncIterator[ChatClient]:
    opened = client_of(stub, api_key=SECRET)
    yield opened
    await opened.aclose()


@pytest.mark.parametrize(
    ("fault", "expected", "requests"),
    [
        (Fault("401"), AuthenticationError, 1),
        (Fault("403"), AuthenticationError, 1),
        (Fault("404"), ModelUnavailableError, 1),
        (Fault("quota"), ModelUnavailableError, 1),
        (Fault("moderated"), RefusedError, 1),
        (Fault("redirect", text="http://127.0.0.1:9/v1"), RejectedRequestError, 1),
        (Fault("429"), RateLimitError, 3),
        (Fault("429", retry_after=0.01), RateLimitError, 3),
        (Fault("429", retry_after=3600), RateLimitError, 1),
        (Fault("500"), ServerError, 3),
        (Fault("503", retry_after=0.01), ServerError, 3),
        (Fault("reset"), UnreachableError, 3),
        (Fault("cut"), UnreachableError, 3),
        (Fault("truncated_json"), UnreadableReplyError, 3),
        (Fault("malformed_json"), UnreadableReplyError, 3),
        (Fault("html"), UnreadableReplyError, 3),
        (Fault("no_choices"), UnreadableReplyError, 3),
        (Fault("empty"), UnreadableReplyError, 3),
        (Fault("null"), UnreadableReplyError, 3),
        (Fault.reply("<think>I wonder"), UnreadableReplyError, 3),
        (Fault("refusal"), RefusedError, 1),
        (Fault("content_filter"), RefusedError, 1),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_each_failure_has_its_name(
    fault: Fault, expected: type[GemsError], requests: int, stub: StubServer, client: ChatClient
) -> None:
    stub.fault(fault)
    with pytest.raises(GemsError) as caught:
        await client.ask(plain())
    assert type(caught.value) is expected
    assert len(stub.requests) == requests
    assert caught.value.message.startswith("stub at http://127.0.0.1")
    assert caught.value.hint
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("429"),
        Fault("429", retry_after=0.01),
        Fault("500"),
        Fault("503"),
        Fault("reset"),
        Fault("cut"),
        Fault("truncated_json"),
        Fault("malformed_json"),
        Fault("html"),
        Fault("no_choices"),
        Fault("empty"),
        Fault("null"),
    ],
    ids=lambda fault: fault.name,
)
async def test_what_passes_is_sat_out(fault: Fault, stub: StubServer, client: ChatClient) -> None:
    stub.fault(fault, times=2)
    assert (await client.ask(plain())).text.startswith("Yes.")
    assert len(stub.requests) == 3


async def test_the_wait_an_endpoint_asks_for_is_waited(
    stub: StubServer, client: ChatClient, caplog: pytest.LogCaptureFixture
) -> None:
    stub.fault(Fault("429", retry_after=0.4), times=1)
    stub.fault(Fault("503", retry_after=0.2), times=1)
    await client.ask(plain())
    said = [record.getMessage() for record in caplog.records if "Retrying" in record.getMessage()]
    # The client's own waits are of a few milliseconds.
    assert [line.rpartition("Retrying ")[2] for line in said] == ["in 0.4 s.", "in 0.2 s."]


async def test_nothing_answers() -> None:
    with StubServer() as gone:
        pass
    client = client_of(gone)
    with pytest.raises(UnreachableError, match="could not be reached"):
        await client.ask(plain())
    await client.aclose()


async def test_patience_ends(stub: StubServer) -> None:
    client = client_of(stub, timeout_s=0.6, attempts=2)
    stub.fault(Fault("hang", seconds=60))
    async with asyncio.timeout(180):
        with pytest.raises(ProviderTimeoutError, match="did not answer in time"):
            await client.ask(plain())
    assert len(stub.requests) == 2
    await client.aclose()


async def test_a_place_is_free_again_after_a_hang(stub: StubServer) -> None:
    client = client_of(stub, attempts=1, concurrency=1)
    usual, client.limits = client.limits, replace(client.limits, timeout_s=0.3)
    stub.fault(Fault("hang", seconds=60), times=1)
    with pytest.raises(ProviderTimeoutError):
        await client.ask(plain())
    client.limits = usual
    assert (await client.ask(formed())).parsed is not None
    await client.aclose()


async def test_being_cut_short_is_told(stub: StubServer, client: ChatClient) -> None:
    stub.fault(Fault("length"))
    with pytest.raises(UnreadableReplyError):
        await client.ask(formed())
    stub.behave()
    stub.fault(Fault.reply("Y"))
    stub.fault(Fault("length"))
    with pytest.raises(UnreadableReplyError, match="GEMS_CHAT__MAX_TOKENS"):
        await client.ask(plain())


async def test_failed_calls_cost_only_what_was_answered(stub: StubServer, client: ChatClient) -> None:
    stub.fault(Fault("500"), times=1)
    stub.fault(Fault("empty"), times=1)
    told: list[Usage] = []
    reply = await client.ask(plain(), told.append)
    assert len(stub.requests) == 3
    assert len(told) == reply.usage["calls"] == 2


WASTEFUL = [
    Fault("length"),
    Fault("empty"),
    Fault("null"),
    Fault.reply("I would rather not."),
    Fault("refusal"),
    Fault("content_filter"),
]


@pytest.mark.parametrize("fault", WASTEFUL, ids=lambda fault: fault.name)
async def test_replies_of_no_use_are_counted_as_wasted(fault: Fault, stub: StubServer, client: ChatClient) -> None:
    stub.fault(fault, times=1)
    told: list[Usage] = []
    with suppress(RefusedError):
        reply = await client.ask(formed(), told.append)
        assert (reply.usage["wasted_calls"], reply.usage["wasted_tokens"]) == (1, told[0]["wasted_tokens"])
        assert (told[1]["wasted_calls"], told[1]["wasted_tokens"]) == (0, 0)
    assert (told[0]["calls"], told[0]["wasted_calls"]) == (1, 1)
    assert told[0]["wasted_tokens"] == told[0]["input_tokens"] + told[0]["output_tokens"] > 0


async def test_what_came_before_a_reset_is_wasted(stub: StubServer, client: ChatClient) -> None:
    stub.fault(Fault("cut"), times=1)
    reply = await client.ask(formed())
    assert (reply.usage["calls"], reply.usage["wasted_calls"]) == (2, 1)
    assert 0 < reply.usage["wasted_tokens"] < reply.usage["output_tokens"]


async def test_what_came_before_a_question_was_cancelled_is_wasted(stub: StubServer, client: ChatClient) -> None:
    stub.fault(Fault("drip", seconds=60))
    told: list[Usage] = []
    begun = asyncio.Event()
    receive = client._receive

    async def watched(stream: Any, parts: Any, most_tokens: Any) -> Any:
        async def passed_on() -> Any:
            async for part in stream:
                yield part
                begun.set()

        return await receive(passed_on(), parts, most_tokens)

    client._receive = watched  # type: ignore[method-assign]
    asking = asyncio.ensure_future(client.ask(formed(), told.append))
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (usage,) = told
    assert (usage["calls"], usage["wasted_calls"]) == (1, 1)


async def test_what_cost_nothing_is_not_wasted(stub: StubServer, client: ChatClient) -> None:
    stub.fault(Fault("500"), times=1)
    reply = await client.ask(formed())
    assert (reply.usage["calls"], reply.usage["wasted_calls"], reply.usage["wasted_tokens"]) == (1, 0, 0)


@pytest.mark.parametrize("most", [1, 3])
async def test_as_many_requests_at_a_time_as_allowed_and_no_more(most: int) -> None:
    together = threading.Barrier(most)

    def brain(_messages: Any) -> str:
        # Nobody is answered before as many as are allowed have come.
        together.wait(timeout=PATIENCE_S)
        return "Yes."

    with StubServer(chat=brain) as stub:
        client = client_of(stub, concurrency=most, attempts=1)
        await asyncio.gather(*(client.ask(plain()) for _ in range(3 * most)))
        assert stub.peak("chat") == most
        await client.aclose()


async def test_a_cancelled_question_gives_its_place_back(stub: StubServer) -> None:
    client = client_of(stub, concurrency=1)
    begun = threading.Event()

    def when(_body: Any) -> bool:
        begun.set()
        return True

    stub.fault(Fault("hang", seconds=60), times=1, when=when)
    asking = asyncio.create_task(client.ask(plain()))
    assert await asyncio.to_thread(begun.wait, PATIENCE_S)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    assert asking.cancelled()
    assert (await client.ask(formed())).parsed is not None
    await client.aclose()


def echoes(key: str) -> Callable[[Any], str]:
    """A brain that repeats the key in what it says, as servers do that echo requests."""
    return lambda _messages: f"The key {key} is not JSON."


async def test_secrets_stay_out_of_messages_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with StubServer(chat=echoes(SECRET)) as stub:
        client = client_of(stub, api_key=SECRET, attempts=2)
        with pytest.raises(UnreadableReplyError) as unreadable:
            await client.ask(formed())
        stub.behaviour.api_key = "another-key"
        with pytest.raises(AuthenticationError) as rejected:
            await client.ask(formed())
        await client.aclose()
    said = [str(unreadable.value), str(rejected.value), *(record.getMessage() for record in caplog.records)]
    assert any("retrying without" in line or "Retrying" in line for line in said)
    assert [line for line in said if SECRET in line] == []
    assert all(call.headers["authorization"] == f"Bearer {SECRET}" for call in stub.requests)


async def test_a_server_that_quotes_the_key_is_not_quoted(stub: StubServer, client: ChatClient) -> None:
    stub.fault(Fault("401"))
    with pytest.raises(AuthenticationError) as caught:
        await client.ask(plain())
    assert "sk-stub-0123456789abcdef" not in str(caught.value)
    assert "Incorrect API key provided" in caught.value.message
