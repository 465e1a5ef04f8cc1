"""What every chat client must do, whatever model answers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from gems.models.blocks.chat_model import BlocksChat
from gems.models.chat.client import ChatClient
from gems.models.chat.schemas import ChecklistReply, RequirementsReply
from gems.models.factory import open_chat, wrap_chat
from gems.settings import ChatSettings
from gems.types import Usage
from tests.support.chat_clients import checklist, client_of, formed, plain
from tests.support.stub import Fault, StubServer
from tests.support.stub.responses import count_images


class CallersModel(BaseChatModel):
    """A model as a caller may pass one in: keeps what it was called with, knows no OpenAI parameter."""

    _calls: list[tuple[list[BaseMessage], dict[str, Any]]] = PrivateAttr(default_factory=list)
    _mind: BlocksChat = PrivateAttr(default_factory=BlocksChat)

    @property
    def _llm_type(self) -> str:
        return "callers-own"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self._calls.append((messages, kwargs))
        said = self._mind._generate(messages).generations[0].message
        thought = said.additional_kwargs["reasoning_content"]
        # Neither a `reasoning_content` nor usage: the thought is left in the text.
        message = AIMessage(content=f"<think>{thought}</think>\n{said.content}")
        return ChatResult(generations=[ChatGeneration(message=message)])


Maker = Callable[[ExitStack], ChatClient]


def _in_process(_stack: ExitStack) -> ChatClient:
    return open_chat(ChatSettings())


def _over_http(stack: ExitStack) -> ChatClient:
    return client_of(stack.enter_context(StubServer()))


def _thinking_aloud(stack: ExitStack) -> ChatClient:
    stub = stack.enter_context(StubServer())
    stub.fault(Fault("think"))
    return client_of(stub)


def _callers_own(_stack: ExitStack) -> ChatClient:
    return wrap_chat(CallersModel(), ChatSettings())


MAKERS: dict[str, Maker] = {
    "blocks": _in_process,
    "openai": _over_http,
    "think": _thinking_aloud,
    "callers": _callers_own,
}


@pytest.fixture(params=MAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(kind: str) -> Iterator[ChatClient]:
    with ExitStack() as stack:
        yield MAKERS[kind](stack)


@pytest.fixture
async def client(opened: ChatClient) -> AsyncIterator[ChatClient]:
    yield opened
    await opened.aclose()


async def test_answers_in_words(client: ChatClient) -> None:
    reply = await client.ask(plain())
    assert reply.text.startswith("Yes.")
    assert "</think>" not in reply.text
    assert reply.parsed is None


async def test_answers_in_the_form_asked_for(client: ChatClient) -> None:
    reply = await client.ask(formed())
    assert isinstance(reply.parsed, RequirementsReply)
    assert reply.parsed.requirements[0].question == "Are there exactly three red circles?"


async def test_sees_pictures(client: ChatClient) -> None:
    reply = await client.ask(checklist())
    assert isinstance(reply.parsed, ChecklistReply)
    assert [(item.number, item.answer) for item in reply.parsed.answers] == [(1, "yes")]


async def test_the_thought_is_kept_apart(client: ChatClient) -> None:
    reply = await client.ask(plain())
    assert "I look at the picture" in reply.thought
    assert "I look at the picture" not in reply.text


async def test_usage_is_recorded(client: ChatClient, kind: str) -> None:
    told: list[Usage] = []
    reply = await client.ask(checklist(), told.append)
    assert told == [reply.usage]
    usage = reply.usage
    assert (usage["calls"], usage["images_sent"]) == (1, 1)
    assert usage["image_bytes_sent"] == len(checklist().pictures[0].data)
    assert usage["seconds"] > 0
    if kind != "callers":
        assert usage["input_tokens"] > usage["output_tokens"] > 0
    assert usage["usd"] == (0.0 if kind == "blocks" else None)


async def test_questions_side_by_side_do_not_mix(client: ChatClient) -> None:
    replies = await asyncio.gather(*(client.ask(q()) for q in (plain, formed, checklist) * 4))
    assert [type(reply.parsed) for reply in replies] == [type(None), RequirementsReply, ChecklistReply] * 4


async def test_closing_twice_is_harmless(client: ChatClient) -> None:
    await client.ask(plain())
    await client.aclose()
    await client.aclose()


async def test_may_be_closed_unused(client: ChatClient) -> None:
    await client.aclose()


async def test_a_callers_model_is_called_as_it_was_configured() -> None:
    model = CallersModel()
    client = wrap_chat(model, ChatSettings(temperature=0.3, max_tokens=100))
    await client.ask(plain(logprobs=True))
    await client.ask(formed())
    assert [kwargs for _, kwargs in model._calls] == [{}, {}]
    assert client.structured_output == "text"


async def test_prices_of_a_callers_model_count() -> None:
    client = wrap_chat(BlocksChat(), ChatSettings(input_usd_per_million=1.0, output_usd_per_million=2.0))
    usage = (await client.ask(formed())).usage
    assert usage["usd"] == pytest.approx((usage["input_tokens"] + 2 * usage["output_tokens"]) / 1_000_000)


async def test_a_model_without_reasoning_has_no_thought(stub: StubServer) -> None:
    stub.fault(Fault("no_reasoning"))
    client = client_of(stub)
    reply = await client.ask(plain())
    assert (reply.thought, reply.text[:4]) == ("", "Yes.")
    await client.aclose()


async def test_pictures_travel_whole(stub: StubServer) -> None:
    client = client_of(stub)
    await client.ask(checklist(pictures=3))
    assert count_images(stub.requests[0].body) == 3
    await client.aclose()
