"""Runs and questions with a real, weak chat model on a real server. `make live` installs both.

The model has 135 million parameters and sees nothing: it writes lists without end, repeats the instructions and
misses the point. Whatever it answers, a run must end with an image, and say what it could not do.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import BaseModel, Field

from gems.errors import BlindModelError, ContextExceededError, TruncatedReplyError, UnreadableReplyError
from gems.models.chat.capabilities import response_format
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import Question
from gems.models.chat.request import MOST_REQUESTS
from gems.models.chat.schemas import OUT_OF_REACH, TASK_TAGS, Task
from gems.models.factory import open_chat
from gems.nodes.prompts import REPLIES, question
from gems.service import Gems
from gems.settings import ChatSettings
from tests.support.chat_clients import plain
from tests.support.llama_cpp import MISSING, LlamaServer, llama_server
from tests.support.scripted_models import settings_at
from tests.support.scripted_service import PATIENCE_S

pytestmark = [
    # One server for all tests.
    pytest.mark.xdist_group("llama.cpp"),
    pytest.mark.skipif(bool(MISSING), reason=f"`make live` installs {' and '.join(MISSING)}"),
]

PROMPT = 'three red circles above a blue striped square, and the word "GO"'
ROUNDS = 2
MOST_ANSWERS = 1 + 2 + 3 + ROUNDS * 2
"""Answers of planner and reflector in a run: skills; requirements, twice; one skill, checked twice; two per round."""
NAMED = (
    "Skills could not be chosen: ",
    "The planner chose ",
    "The prompt could not be decomposed, so the image is only checked as a whole: ",
    "Whether the requirements are complete could not be checked: ",
    "The prompt could not be rewritten: ",
    "The rewritten prompt is ignored: ",
    "The new prompt could not be checked against the user's: ",
    "The reflector's reply was unusable; the failed requirements are appended to the prompt: ",
)
"""Beginnings of the warnings of a run whose planner and reflector answer badly."""
SERVER_SETTING = "-c (llama.cpp)"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, LlamaServer]]:
    with llama_server(8192) as large, llama_server(2048) as small:
        yield {"large": large, "small": small}


@pytest.fixture
def llama(servers: dict[str, LlamaServer]) -> LlamaServer:
    """The server with room for all our questions."""
    servers["large"].exchanges.clear()
    return servers["large"]


@pytest.fixture
def small(servers: dict[str, LlamaServer]) -> LlamaServer:
    """The server with a context of 2,048 tokens."""
    servers["small"].exchanges.clear()
    return servers["small"]


def settings_of(server: LlamaServer, max_tokens: int = 96, **more: Any) -> ChatSettings:
    common: dict[str, Any] = {"temperature": 0, "timeout_s": PATIENCE_S, "first_wait_s": 0}
    return ChatSettings(model=server.model, max_tokens=max_tokens, **common, **more)


@asynccontextmanager
async def opened(server: LlamaServer, **settings: Any) -> AsyncIterator[ChatClient]:
    client = open_chat(settings_of(server, **settings))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def service(server: LlamaServer, home: Path, *roles: str) -> AsyncIterator[Gems]:
    """GEMS with the model in these roles; judge and generator are the built-in world's."""
    async with Gems(settings_at(home, **dict.fromkeys(roles, settings_of(server)))) as gems:
        yield gems


def asked(task: Task, text: str = PROMPT) -> Question:
    """A question for a task, with the same text in all its tags."""
    return question(task, dict.fromkeys(TASK_TAGS[task], text))


# --- runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"skills": "auto"}, {"skills": "spatial-layout"}, {"profile": "paper"}],
    ids=lambda options: "-".join(options.values()),
)
async def test_a_run_with_a_weak_model_ends_with_an_image(
    llama: LlamaServer, tmp_path: Path, options: dict[str, Any]
) -> None:
    async with service(llama, tmp_path, "planner", "reflector") as gems:
        result = await gems.run(PROMPT, seed=7, size="256x256", max_rounds=ROUNDS, **options)
    assert (result.status, result.failure) == ("done", None)
    # The questions of so small a model are beyond the built-in judge now and then.
    assert result.stop_reason in ("passed", "undecided", "max_rounds")
    assert result.image.size == (256, 256)
    assert result.requirements
    others = [warning for warning in result.warnings if not warning.startswith(NAMED)]
    assert [warning for warning in others if OUT_OF_REACH not in warning] == []
    assert 2 <= len(llama.exchanges) <= MOST_REQUESTS * MOST_ANSWERS
    # Refused are only the reflector's pictures, once, and nothing that was answered goes uncounted.
    refused = [exchange for exchange in llama.exchanges if exchange.status != 200]
    assert all(b"image input is not supported" in exchange.body for exchange in refused)
    assert len(refused) <= 1
    calls = sum(result.usage[role]["calls"] for role in ("planner", "reflector") if role in result.usage)
    assert calls == len(llama.exchanges) - len(refused)


async def test_a_judge_that_sees_nothing_is_told(llama: LlamaServer) -> None:
    async with opened(llama) as client:
        with pytest.raises(BlindModelError, match="GEMS_JUDGE__MODEL"):
            await client.ask(plain())
    assert [exchange.status for exchange in llama.exchanges] == [500]


# --- forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [task for task, form in REPLIES.items() if form is not None])
async def test_each_form_is_accepted_as_a_grammar(llama: LlamaServer, task: Task) -> None:
    form = REPLIES[task]
    assert form is not None
    async with opened(llama, max_tokens=48) as client:
        client.capabilities.limits_texts = True
        # So small a model now and then copies a placeholder, which is refused although it has the form.
        with suppress(UnreadableReplyError):
            assert isinstance((await client.ask(asked(task))).parsed, form)
        assert client.capabilities.limits_texts, "the reply says that llama.cpp wrote it"
        assert client.structured_output == "json_schema"
    assert 1 <= len(llama.exchanges) <= MOST_REQUESTS
    assert {exchange.status for exchange in llama.exchanges} == {200}
    asked_for = response_format(form, "json_schema", limits_texts=True)
    assert llama.exchanges[0].sent["response_format"] == asked_for
    for exchange in llama.exchanges:
        if exchange.sent.get("response_format") == asked_for and exchange.finish_reason != "length":
            jsonschema.validate(json.loads(exchange.text), asked_for["json_schema"]["schema"])


class Impossible(BaseModel):
    """A form that the server's grammars cannot express."""

    word: Annotated[str, Field(json_schema_extra={"type": "adjective"})]


async def test_a_form_that_is_no_grammar_is_refused_and_asked_otherwise(llama: LlamaServer) -> None:
    """So that the test above can fail."""
    only = Question(task="decompose", system="Task: decompose", parts=("Name a word.",), reply=Impossible)
    async with opened(llama, max_tokens=48) as client:
        with suppress(UnreadableReplyError):
            await client.ask(only)
    asked_for = [exchange.sent.get("response_format", {}).get("type") for exchange in llama.exchanges]
    assert asked_for[:2] == ["json_schema", "json_object"]
    assert [exchange.status for exchange in llama.exchanges[:2]] == [400, 200]


# --- the context -----------------------------------------------------------------------------------------------


async def test_a_question_beyond_the_context_names_the_setting_of_the_server(small: LlamaServer) -> None:
    async with opened(small) as client:
        with pytest.raises(ContextExceededError) as caught:
            await client.ask(asked("decompose", "a red circle, " * 600))
    assert "2048" in caught.value.message
    assert SERVER_SETTING in caught.value.hint
    assert [exchange.status for exchange in small.exchanges] == [400], "the same again cannot fit either"


async def test_a_reply_beyond_the_context_is_cut_off(small: LlamaServer) -> None:
    """The question fits, and its endless answer does not."""
    async with opened(small, max_tokens=4096, extra_body={"ignore_eos": True}) as client:
        with pytest.raises(TruncatedReplyError, match="the server's limit"):
            await client.ask(asked("verify", "a red circle, " * 450))
    assert {exchange.finish_reason for exchange in small.exchanges} == {"length"}
    assert len(small.exchanges) <= MOST_REQUESTS


async def test_a_run_beyond_the_context_says_so_and_ends_with_an_image(small: LlamaServer, tmp_path: Path) -> None:
    prompt = "a red circle" + " on a plain white background" * 600
    async with service(small, tmp_path, "planner", "reflector") as gems:
        result = await gems.run(prompt, seed=7, size="256x256", max_rounds=ROUNDS)
    assert result.status == "done"
    assert result.image.size == (256, 256)
    told = [warning for warning in result.warnings if "exceeds the available context size (2048 tokens)" in warning]
    others = [warning for warning in result.warnings if warning not in told]
    assert [warning.partition(":")[0] for warning in others] == ["Out of reach of the built-in models"]
    assert len(told) >= 2
    assert all(SERVER_SETTING in warning for warning in told)
    assert len(small.exchanges) == len(told), "one request for each question that cannot be asked"
