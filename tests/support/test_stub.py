"""The stub itself: that it speaks the protocol, and misbehaves as told."""

import json
import time
import warnings
from typing import Any

import httpx
import openai
import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture
from tests.support.stub.responses import Answer

ASK: Any = [{"role": "system", "content": "Task: verify"}, {"role": "user", "content": "Is it red?"}]


def chat(stub: StubServer, **more: Any) -> Any:
    answer = httpx.post(f"{stub.base_url}/chat/completions", json={"model": "m", "messages": ASK, **more})
    answer.raise_for_status()
    return answer.json()


def thoughtful(messages: list[dict[str, Any]]) -> Answer:
    return Answer(content=f"Yes. {messages[-1]['content']}", reasoning="It looks red.")


async def test_chat_as_the_openai_client_sees_it() -> None:
    with StubServer(chat=thoughtful) as stub:
        async with openai.AsyncOpenAI(base_url=stub.base_url, api_key="none") as client:
            whole = await client.chat.completions.create(model="m", messages=ASK)
            stream = await client.chat.completions.create(
                model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            models = [model.id async for model in client.models.list()]
    message = whole.choices[0].message
    assert message.content == "Yes. Is it red?"
    assert message.model_extra == {"reasoning_content": "It looks red."}
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Yes. Is it red?"
    assert "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas) == "It looks red."
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    assert models == ["stub"]
    assert [recorded.kind for recorded in stub.requests] == ["chat", "chat", "models"]


def test_langchain_models_are_brains() -> None:
    said = AIMessage("No.", additional_kwargs={"reasoning_content": "It is blue."})
    with StubServer(chat=GenericFakeChatModel(messages=iter([said]))) as stub:
        message = chat(stub)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("No.", "It is blue.")


def test_logprobs_only_where_given_and_asked_for() -> None:
    with StubServer(chat=thoughtful, logprobs=True) as stub:
        first = chat(stub, logprobs=True, top_logprobs=20)["choices"][0]["logprobs"]["content"][0]
        assert "logprobs" not in chat(stub)["choices"][0]
        stub.behaviour.logprobs = False
        assert "logprobs" not in chat(stub, logprobs=True)["choices"][0]
    assert first["token"] == "Yes."
    assert [choice["token"] for choice in first["top_logprobs"]] == ["Yes.", "No"]
    assert first["logprob"] > -0.1


@pytest.mark.parametrize(
    ("name", "content", "reasoning"),
    [
        ("empty", "", "It looks red."),
        ("null", None, "It looks red."),
        ("no_reasoning", "Yes. Is it red?", None),
        ("think", "<think>\nIt looks red.\n</think>\n\nYes. Is it red?", None),
        ("fences", "```json\nYes. Is it red?\n```", "It looks red."),
        ("length", "Yes. Is", "It looks red."),
    ],
)
def test_what_a_chat_model_says(name: Any, content: str | None, reasoning: str | None) -> None:
    with StubServer(chat=thoughtful) as stub:
        stub.fault(Fault(name))
        message = chat(stub)["choices"][0]["message"]
    assert message["content"] == content
    assert message.get("reasoning_content") == reasoning


def test_words_around_an_answer() -> None:
    with StubServer(chat=thoughtful) as stub:
        for name in ("prose", "trailing"):
            stub.fault(Fault(name), times=1)
            content = chat(stub)["choices"][0]["message"]["content"]
            assert "Yes. Is it red?" in content
            assert content != "Yes. Is it red?"
        stub.fault(Fault("hedged"), times=1)
        assert "no doubt" in chat(stub)["choices"][0]["message"]["content"]
        stub.fault(Fault("content_filter"), times=1)
        assert chat(stub)["choices"][0]["finish_reason"] == "content_filter"
        stub.fault(Fault("refusal"), times=1)
        assert chat(stub)["choices"][0]["message"]["refusal"]
        stub.fault(Fault.reply("cREATIVE"), when=lambda body: body["messages"][0]["content"] == "Task: verify")
        assert chat(stub)["choices"][0]["message"]["content"] == "cREATIVE"
        stub.behave()
        assert chat(stub)["choices"][0]["message"]["content"] == "Yes. Is it red?"


@pytest.mark.parametrize(
    ("name", "said", "parents"),
    [
        ("twice", ["yes", "yes", "no", "no"], [[], [], [1], [1]]),
        ("contradicted", ["yes", "no", "no", "yes"], [[], [], [1], [1]]),
        ("backwards", ["no", "yes"], [[2], []]),
    ],
)
def test_lists_that_are_not_as_they_should_be(name: Any, said: list[str], parents: list[list[int]]) -> None:
    items = [{"answer": "yes", "parents": []}, {"answer": "no", "parents": [1]}]
    with StubServer(chat=lambda _messages: json.dumps({"answers": items})) as stub:
        stub.fault(Fault(name))
        found = json.loads(chat(stub)["choices"][0]["message"]["content"])["answers"]
    assert [item["answer"] for item in found] == said
    assert [item["parents"] for item in found] == parents


def test_other_languages_keep_the_names_of_fields() -> None:
    said = [{"no": number, "answer": "Yes", "evidence": "!" * number} for number in range(4)]
    for item in said:
        with StubServer(chat=lambda _messages, item=item: json.dumps(item)) as stub:
            stub.fault(Fault("language"))
            found = json.loads(chat(stub)["choices"][0]["message"]["content"])
        assert found["answer"] in ("ja", "是的", "oui", "claro")
        assert (found["no"], found["evidence"]) == (item["no"], item["evidence"])


def test_conditions() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    with StubServer(chat=lambda _messages: "seen") as stub:
        stub.fault(Fault("too_many_images", limit=1))
        stub.fault(Fault("no_json_schema"))
        url = f"{stub.base_url}/chat/completions"

        def status(pictures: int, form: str | None = None) -> int:
            asked: dict[str, Any] = {"messages": [{"role": "user", "content": [picture] * pictures}]}
            if form is not None:
                asked["response_format"] = {"type": form}
            return httpx.post(url, json=asked).status_code

        assert [status(1), status(2), status(0, "json_schema"), status(0, "json_object")] == [200, 400, 400, 200]
        stub.fault(Fault("no_json"))
        assert status(0, "json_object") == 400


def test_times_and_order() -> None:
    with StubServer(images=flat_picture) as stub:
        stub.fault(Fault("429", retry_after=2), "generate", times=2)
        stub.fault(Fault("500"), "generate", times=1)
        answers = [httpx.post(stub.generate_url, params={"prompt": "x"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [429, 429, 500, 200]
        assert answers[0].headers["retry-after"] == "2"
        assert [recorded.body for recorded in stub.calls("generate")] == [{"prompt": "x"}] * 4


def test_latency() -> None:
    with StubServer(chat=thoughtful, chat_s=0.2) as stub:
        started = time.monotonic()
        chat(stub)
        assert time.monotonic() - started >= 0.2


def test_stops_at_once_with_requests_under_way() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with StubServer(chat=thoughtful) as stub:
            stub.fault(Fault("hang", seconds=60))
            with httpx.Client(timeout=0.2) as client, pytest.raises(httpx.ReadTimeout):
                client.post(f"{stub.base_url}/chat/completions", json={"messages": ASK})
            started = time.monotonic()
        assert time.monotonic() - started < 50
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{stub.base_url}/models")


def test_failing_brain_is_told() -> None:
    def broken(_messages: Any) -> str:
        raise LookupError("no thought")

    with StubServer(chat=broken) as stub:
        answer = httpx.post(f"{stub.base_url}/chat/completions", json={"messages": ASK})
        assert answer.status_code == 500
        assert "LookupError: no thought" in answer.text
        assert httpx.get(f"{stub.root}/files/none.png").status_code == 404


def test_unknown_fault() -> None:
    misspelt: Any = "resett"
    with pytest.raises(ValueError, match="reset"):
        Fault(misspelt)
