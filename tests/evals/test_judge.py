"""The judge over real HTTP: what it sends, what it reads, what it counts."""

from __future__ import annotations

import asyncio
import base64
import io
import math
from typing import Any

import pytest
from PIL import Image

from gems.errors import ConfigurationError, ModelSpecError, UnreadableReplyError
from gems.evals.judge import ChatJudge, JudgeQuestion, inhouse_name, open_judge
from gems.evals.judging import (
    ask_number,
    ask_number_probability,
    ask_yes_no,
    ask_yes_probability,
    find_json_arrays,
    parse_ratings,
)
from gems.evals.records import gather_or_cancel
from gems.models.chat.probabilities import first_token
from gems.settings import ChatSettings
from tests.support.benchmark_samples import png
from tests.support.stub import Fault, StubServer


def judge_at(stub: StubServer, samples: int = 5, **settings: Any) -> ChatJudge:
    spec = f"openai:eyes@{stub.base_url}"
    return open_judge(ChatSettings(model=spec, **{"attempts": 1, "first_wait_s": 0} | settings), samples)


def test_in_house_numbers_say_so() -> None:
    assert inhouse_name("openai:eyes") == "openai:eyes-inhouse"
    assert inhouse_name("openai:eyes-inhouse") == "openai:eyes-inhouse"


def test_the_built_in_world_cannot_judge() -> None:
    with pytest.raises(ConfigurationError, match="only knows its own shapes") as error:
        open_judge(ChatSettings())
    assert "--judge openai:" in error.value.hint
    with pytest.raises(ModelSpecError):
        open_judge(ChatSettings(model="eyes"))


async def test_what_is_sent() -> None:
    with StubServer(chat=lambda messages: "Fine.") as stub:
        async with judge_at(stub, image_side=64) as judge:
            plain = await judge.ask(JudgeQuestion(text="How is it?", pictures=[png(side=128), png("blue")]))
            question = JudgeQuestion(
                text="And now?", pictures=[png()], system="Be strict.", temperature=1.0, max_tokens=7
            )
            await judge.ask(question)
            assert judge.name == f"openai:eyes@{stub.base_url}"
            assert (judge.usage["calls"], judge.usage["images_sent"]) == (2, 3)
            assert judge.usage["input_tokens"] > 0
        first, second = (call.body for call in stub.calls("chat"))
    assert (plain.text, plain.first_token) == ("Fine.", {})
    assert (first["temperature"], "max_tokens" in first, "logprobs" in first) == (0, False, False)
    assert [message["role"] for message in first["messages"]] == ["user"]
    pictures = [part for part in first["messages"][0]["content"] if part["type"] == "image_url"]
    sizes = []
    for picture in pictures:
        data = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as opened:
            sizes.append(opened.size)
    assert sizes == [(64, 64), (16, 16)]
    assert (second["temperature"], second["max_tokens"]) == (1, 7)
    assert second["messages"][0] == {"role": "system", "content": "Be strict."}


async def test_an_endpoint_without_probabilities_is_remembered() -> None:
    with StubServer(chat=lambda messages: "Yes", logprobs=True) as stub:
        stub.fault(Fault("unknown_parameter", text="logprobs"))
        async with judge_at(stub) as judge:
            found = await ask_yes_probability(judge, "Is it red?", png())
            again = await ask_yes_probability(judge, "Is it big?", png())
        calls = [call.body for call in stub.calls("chat")]
    assert [(each.value, each.how) for each in (found, again)] == [(1, "frequency")] * 2
    # Asked once with probabilities, in vain; then once plainly and five times for each question.
    assert len(calls) == 1 + 2 * 6
    assert sum("logprobs" in body for body in calls) == 1


async def test_a_blank_token_is_no_empty_answer_where_probabilities_are_told() -> None:
    """Some tokenizers split " 4" into a blank and the digit."""
    with StubServer(chat=lambda messages: " ", logprobs=True) as stub:
        async with judge_at(stub) as judge:
            found = await ask_number_probability(judge, "How many?", png(), "four")
    assert (found.value, found.how) == (0, "logprobs")


async def test_newer_names_of_parameters() -> None:
    """What the endpoint refuses is asked for in another way."""
    with StubServer(chat=lambda messages: "3", logprobs=True) as stub:
        stub.fault(Fault("unknown_parameter", text="max_tokens"))
        async with judge_at(stub) as judge:
            found = await ask_number_probability(judge, "How many cups?", png(), "three")
        assert stub.calls("chat")[-1].body["max_completion_tokens"] == 1
    assert found.value == pytest.approx(0.95)


async def test_retries_happen_within() -> None:
    with StubServer(chat=lambda messages: "yes") as stub:
        stub.fault(Fault("503"), times=1)
        async with judge_at(stub, attempts=2) as judge:
            assert await ask_yes_no(judge, "Is it red?", png())
        assert len(stub.calls("chat")) == 2


@pytest.mark.parametrize(
    ("reply", "number"), [("3", 3), ("Three.", 3), ("There are 12 cups.", 12), ("**0**", 0), ("two (2)", 2)]
)
async def test_numbers(reply: str, number: int) -> None:
    with StubServer(chat=lambda messages: reply) as stub:
        async with judge_at(stub) as judge:
            assert await ask_number(judge, "How many cups?", png()) == number


@pytest.mark.parametrize(
    "reply",
    [
        "Some.",
        "2 or 3",
        "someone",
        "9" * 5000,
        "-1",
        "2.5",
        "3+",
        "3 or more",
        "at least 3",
        "two and a half",
        "~4",
        "2\u00bd",
    ],
)
async def test_no_number(reply: str) -> None:
    with StubServer(chat=lambda messages: reply) as stub:
        async with judge_at(stub) as judge:
            with pytest.raises(UnreadableReplyError, match="no number or several"):
                await ask_number(judge, "How many cups?", png())


async def test_a_share_of_answers() -> None:
    replies = iter(["yes", "yes", "no", "yes", "no", "yes"])
    with StubServer(chat=lambda messages: next(replies)) as stub:
        async with judge_at(stub) as judge:
            found = await ask_yes_probability(judge, "Is it red?", png())
    # The first one only shows that there are no probabilities.
    assert (found.value, found.how) == (0.6, "frequency")


def test_ratings_behind_thoughts() -> None:
    said = "[1, 2] is too low, so:\n```json\n[3, 4]\n```\nSee also [1] and [true, 2]."
    assert list(find_json_arrays(said)) == [[True, 2], [1], [3, 4], [1, 2]]
    assert parse_ratings(said, 2, 0, 5) == [3, 4]
    for text in ("", "[1, 2", "none", "[1, 9]", "[NaN, 1]", "[" * 2000, "[1, 2]\n[1, 6]", "[1, -1]", '["3", "4"]'):
        with pytest.raises(UnreadableReplyError, match="does not contain 2 numbers from 0 to 5"):
            parse_ratings(text, 2, 0, 5)


def test_probabilities_of_first_tokens() -> None:
    tokens = [{"token": " Yes", "logprob": math.log(0.5)}, {"token": "No", "logprob": math.log(0.25)}]
    told = {"content": [{"token": " Yes", "logprob": math.log(0.5), "top_logprobs": tokens}, {"token": "!"}]}
    assert first_token(told) == {" Yes": pytest.approx(0.5), "No": pytest.approx(0.25)}
    assert first_token({"content": [{"token": "Yes", "logprob": 0.5}]}) == {"Yes": 1.0}
    for nothing in (None, {}, {"content": []}, {"content": [3]}, {"content": [{"top_logprobs": "x"}]}):
        assert first_token(nothing) == {}
    odd = [{"token": 3, "logprob": 0}, {"token": "a", "logprob": None}, {"token": "b", "logprob": math.nan}, 7]
    assert first_token({"content": [{"top_logprobs": odd}]}) == {}


async def test_nothing_goes_on_behind_a_failure() -> None:
    ended = asyncio.Event()

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def failing() -> None:
        raise UnreadableReplyError("Nothing.")

    with pytest.raises(UnreadableReplyError):
        await gather_or_cancel([long(), failing()])
    assert ended.is_set()
    assert await gather_or_cancel(asyncio.sleep(0.01 * (2 - n), n) for n in range(3)) == [0, 1, 2]
