"""What an endpoint supports: what is found out and remembered, and what is changed after a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from gems.errors import (
    BlindModelError,
    ContextExceededError,
    GemsError,
    ModelUnavailableError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
    TruncatedReplyError,
    UnreadableReplyError,
)
from gems.models.chat import client as chat_client
from gems.models.chat.capabilities import (
    FEATURES,
    Capabilities,
    ChatLimits,
    feature_of,
    response_format,
    structured_mode,
)
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import Question
from gems.models.chat.request import Asking
from gems.models.chat.schemas import (
    ChecklistReply,
    ExperienceReply,
    PromptReply,
    ReflectionReply,
    RequirementsReply,
    SkillChoice,
)
from gems.types import Usage
from tests.support.chat_clients import checklist, client_of, formed, plain
from tests.support.stub import Fault, StubServer
from tests.support.stub.responses import count_images


@pytest.fixture
async def open_client(stub: StubServer) -> AsyncIterator[Callable[..., ChatClient]]:
    opened: list[ChatClient] = []

    def make(**settings: Any) -> ChatClient:
        opened.append(client_of(stub, **settings))
        return opened[-1]

    yield make
    for client in opened:
        await client.aclose()


Open = Callable[..., ChatClient]


def forms(stub: StubServer) -> list[str | None]:
    """The response format of each request."""
    return [(call.body.get("response_format") or {}).get("type") for call in stub.requests]


async def test_schemas_are_asked_for_at_first(stub: StubServer, open_client: Open) -> None:
    client = open_client()
    await client.ask(formed())
    assert forms(stub) == ["json_schema"]
    schema = stub.requests[0].body["response_format"]["json_schema"]
    assert schema["name"] == "RequirementsReply"
    assert client.structured_output == "json_schema"


@pytest.mark.parametrize(
    ("fault", "first", "then", "mode"),
    [
        ("no_json_schema", ["json_schema", "json_object"], "json_object", "json_mode"),
        ("no_json", ["json_schema", "json_object", None], None, "text"),
    ],
)
async def test_a_refused_format_is_not_asked_for_again(
    fault: Any, first: list[str | None], then: str | None, mode: str, stub: StubServer, open_client: Open
) -> None:
    stub.fault(Fault(fault))
    client = open_client()
    for _ in range(2):
        assert isinstance((await client.ask(formed())).parsed, RequirementsReply)
    assert forms(stub) == [*first, then]
    assert client.structured_output == mode


async def test_each_client_learns_for_itself(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault("no_json_schema"))
    await open_client().ask(formed())
    stub.behave()
    await open_client().ask(formed())
    assert forms(stub) == ["json_schema", "json_object", "json_schema"]


async def test_what_did_not_help_is_not_remembered(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault("redirect", text="http://127.0.0.1:9/v1"))
    client = open_client()
    with pytest.raises(RejectedRequestError):
        await client.ask(formed())
    assert forms(stub) == ["json_schema"], "a redirect is the same for every request"
    assert client.structured_output == "json_schema"


@pytest.mark.parametrize("fault", ["404", "quota"])
async def test_what_no_other_form_can_mend_is_asked_once(fault: Any, stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault(fault))
    with pytest.raises(ModelUnavailableError):
        await open_client().ask(formed())
    assert forms(stub) == ["json_schema"]


def pictures(stub: StubServer) -> list[int]:
    return [count_images(call.body) for call in stub.requests]


@pytest.mark.parametrize(("limit", "sent"), [(1, [3, 1, 1, 1]), (2, [3, 2, 2, 1])])
async def test_a_limit_on_pictures_is_learned(limit: int, sent: list[int], stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault("too_many_images", limit=limit))
    client = open_client()
    first = await client.ask(checklist(pictures=3))
    second = await client.ask(checklist(pictures=3))
    single = await client.ask(checklist())
    assert pictures(stub) == sent
    assert client.capabilities.most_pictures == limit
    assert [reply.usage["images_sent"] for reply in (first, second, single)] == [limit, limit, 1]
    newest = checklist(pictures=3).pictures[-limit:]
    assert first.usage["image_bytes_sent"] == sum(len(picture.data) for picture in newest)


async def test_below_the_limit_every_picture_is_sent_and_counted(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault("too_many_images", limit=3))
    client = open_client()
    await client.ask(checklist(pictures=4))
    reply = await client.ask(checklist(pictures=2))
    assert pictures(stub) == [4, 3, 2]
    assert reply.usage["images_sent"] == 2
    assert reply.usage["image_bytes_sent"] == sum(len(p.data) for p in checklist(2).pictures)


async def test_the_newest_pictures_are_kept(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault("too_many_images", limit=1))
    await open_client().ask(checklist(pictures=3))
    shown = [part for part in stub.requests[1].body["messages"][1]["content"] if part["type"] == "image_url"]
    whole = [part for part in stub.requests[0].body["messages"][1]["content"] if part["type"] == "image_url"]
    assert shown == whole[-1:]


async def test_a_model_that_takes_no_picture_is_no_judge(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault("too_many_images", limit=0))
    with pytest.raises(BlindModelError, match="model with vision"):
        await open_client().ask(plain())
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("parameter", "settings", "instead"),
    [
        ("logprobs", {}, {}),
        ("temperature", {"temperature": 0.5}, {}),
        ("max_tokens", {"max_tokens": 400}, {"max_completion_tokens": 400}),
    ],
)
async def test_a_refused_parameter_is_not_sent_again(
    parameter: str, settings: dict[str, Any], instead: dict[str, Any], stub: StubServer, open_client: Open
) -> None:
    stub.fault(Fault("unknown_parameter", text=parameter))
    client = open_client(**settings)
    for _ in range(2):
        assert (await client.ask(plain(logprobs=True))).text.startswith("Yes")
    assert [parameter in call.body for call in stub.requests] == [True, False, False]
    for call in stub.requests[1:]:
        assert instead.items() <= call.body.items()


async def test_after_two_refusals_all_parameters_are_left_out(stub: StubServer, open_client: Open) -> None:
    for parameter in ("logprobs", "temperature", "max_tokens"):
        stub.fault(Fault("unknown_parameter", text=parameter), times=1)
    client = open_client(temperature=0.1, max_tokens=500)
    assert (await client.ask(plain(logprobs=True))).text.startswith("Yes")
    assert len(stub.requests) == 3
    assert {"logprobs", "temperature", "max_tokens", "stream_options"}.isdisjoint(stub.requests[2].body)
    assert client.capabilities.lacking == {"logprobs", "temperature"}, "only what was named is remembered"


async def test_parameters_are_sent_where_they_are_set(stub: StubServer, open_client: Open) -> None:
    client = open_client(temperature=0.25, max_tokens=321)
    await client.ask(plain(logprobs=True))
    await client.ask(plain())
    first, second = (call.body for call in stub.requests)
    assert (first["temperature"], first["max_tokens"]) == (0.25, 321)
    assert (first["logprobs"], first["top_logprobs"]) == (True, 20)
    assert "logprobs" not in second
    assert first["model"] == "stub"


async def test_nothing_is_sent_that_was_not_set(stub: StubServer, open_client: Open) -> None:
    await open_client(logprobs=False).ask(plain(logprobs=True))
    assert set(stub.requests[0].body) == {"model", "messages", "stream", "stream_options", "temperature"}
    assert stub.requests[0].body["temperature"] == 0, "a judge's"


async def test_the_probability_of_yes(stub: StubServer, open_client: Open) -> None:
    stub.behaviour.logprobs = True
    client = open_client()
    assert (await client.ask(plain(logprobs=True))).yes_probability == pytest.approx(0.95)
    assert (await client.ask(plain())).yes_probability is None


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_the_probability_of_each_yes_in_a_list(is_streamed: bool, stub: StubServer, open_client: Open) -> None:
    stub.behaviour.logprobs = True
    client = open_client()
    client.capabilities.learn(set() if is_streamed else {"stream"})
    reply = await client.ask(checklist(logprobs=True))
    assert reply.yes_probabilities == (pytest.approx(0.95 / 0.99),)
    assert (await client.ask(checklist())).yes_probabilities == ()
    first, second = (call.body for call in stub.requests)
    assert (first["logprobs"], first["top_logprobs"], bool(first.get("stream"))) == (True, 5, is_streamed)
    assert "logprobs" not in second


async def test_probabilities_behind_a_long_thought(
    stub: StubServer, open_client: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of thousands of tokens of a list only the last are kept."""
    monkeypatch.setattr(chat_client, "_MOST_TOKENS", 30)
    stub.behaviour.logprobs = True
    answer = '{"answers": [{"number": 1, "evidence": "a circle", "answer": "yes"}]}'
    stub.fault(Fault.reply(f"<think>{'hm ' * 100}</think>\n{answer}"))
    reply = await open_client().ask(checklist(logprobs=True))
    assert reply.text == answer
    assert reply.yes_probabilities == (pytest.approx(0.95 / 0.99),)


async def test_refused_log_probabilities_of_lists_cost_one_request(stub: StubServer, open_client: Open) -> None:
    stub.behaviour.logprobs = True
    stub.fault(Fault("unknown_parameter", text="logprobs"))
    client = open_client()
    for _ in range(3):
        reply = await client.ask(checklist(logprobs=True))
        assert (reply.form(ChecklistReply).answers[0].answer, reply.yes_probabilities) == ("yes", ())
    assert ["logprobs" in call.body for call in stub.requests] == [True, False, False, False]
    assert forms(stub) == ["json_schema"] * 4


async def test_unreadable_answers_are_asked_for_again_and_paid(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault.reply("I would rather not."), times=2)
    told: list[Usage] = []
    reply = await open_client().ask(formed(), told.append)
    assert isinstance(reply.parsed, RequirementsReply)
    assert len(stub.requests) == len(told) == reply.usage["calls"] == 3
    for name in ("input_tokens", "output_tokens"):
        assert reply.usage[name] == sum(usage[name] for usage in told) > told[0][name]  # type: ignore[literal-required]
    assert forms(stub) == ["json_schema", "json_object", None]
    await open_client().ask(formed())
    assert forms(stub)[3:] == ["json_schema"], "an unreadable answer changes nothing for later questions"


async def test_answers_never_readable_are_asked_for_three_times(stub: StubServer, open_client: Open) -> None:
    stub.fault(Fault.reply("I would rather not."))
    told: list[Usage] = []
    client = open_client(attempts=2)
    with pytest.raises(UnreadableReplyError, match="I would rather not") as caught:
        await client.ask(formed(), told.append)
    assert forms(stub) == ["json_schema", "json_object", None]
    assert len(told) == 3
    assert caught.value.message.startswith("stub at http://127.0.0.1")
    assert client.structured_output == "json_schema", "what did not help is not remembered"


PLAIN = Question(task="verify", system="Task: verify", parts=("Is it red?",), logprobs=True)
LISTED = checklist(logprobs=True)
FORMED = Question(task="enhance", system="Task: enhance", parts=("x",), reply=PromptReply)
EVERYTHING = ChatLimits(temperature=0.0, max_tokens=10)


@pytest.mark.parametrize(
    ("refused", "mode"),
    [(set(), "json_schema"), ({"json_schema"}, "json_mode"), ({"json_schema", "json_mode"}, "text")],
)
def test_the_best_mode_that_was_not_refused(refused: set[str], mode: str) -> None:
    assert structured_mode(refused) == mode


FORMS = [ChecklistReply, ExperienceReply, PromptReply, ReflectionReply, RequirementsReply, SkillChoice]


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every object schema within `schema`."""
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item)]
    if not isinstance(schema, dict):
        return []
    inner = [found for value in schema.values() for found in objects(value)]
    return [schema, *inner] if schema.get("type") == "object" else inner


@pytest.mark.parametrize("form", FORMS)
def test_schemas_are_what_strict_mode_takes(form: Any) -> None:
    asked = response_format(form, "json_schema")
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["strict"] is True
    assert asked["json_schema"]["name"] == form.__name__
    found = objects(asked["json_schema"]["schema"])
    assert found
    for schema in found:
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
        assert all("default" not in field for field in schema["properties"].values())


def test_a_field_may_be_called_title() -> None:
    from pydantic import BaseModel

    class Book(BaseModel):
        title: str
        default: str = ""

    schema = response_format(Book, "json_schema")["json_schema"]["schema"]
    assert schema["required"] == ["title", "default"] == list(schema["properties"])


def test_limits_that_are_not_sent_are_not_left_out() -> None:
    """The same request would be refused a second time."""
    assert feature_of("this_schema", (), ExperienceReply) == "json_schema"
    assert feature_of("this_schema", (), ExperienceReply, limits_texts=True) == "limits"
    assert feature_of("this_schema", (), RequirementsReply) == "limits"
    assert feature_of("this_schema", ("limits",), RequirementsReply) == "json_schema"


def test_json_mode_names_no_schema() -> None:
    assert response_format(PromptReply, "json_mode") == {"type": "json_object"}


def asking(question: Question, limits: ChatLimits = EVERYTHING, **known: Any) -> Asking:
    capabilities = Capabilities()
    capabilities.learn(known.pop("lacking", ()), known.pop("pictures", None))
    return Asking(question, limits, capabilities)


def rejected(refused: str) -> RejectedRequestError:
    return RejectedRequestError("stub answered 400", refused=refused)


@pytest.mark.parametrize(
    ("error", "pictures", "shown", "expected"),
    [
        (TooManyImagesError("x", limit=1), 3, None, 1),
        (TooManyImagesError("x", limit=2), 3, None, 2),
        (TooManyImagesError("x", limit=8), 3, None, 2),
        (TooManyImagesError("x"), 5, None, 2),
        (TooManyImagesError("x"), 5, 2, 1),
        (TooManyImagesError("x", limit=4), 1, None, None),
        (ContextExceededError("x", refused="context"), 4, None, 1),
        (ContextExceededError("x", refused="context"), 0, None, None),
        (rejected("bad_image"), 4, None, None),
        (rejected("redirect"), 4, None, None),
    ],
)
def test_fewer_pictures(error: GemsError, pictures: int, shown: int | None, expected: int | None) -> None:
    asked = asking(checklist(pictures=pictures), pictures=shown)
    assert asked.go_on(error) is (expected is not None)
    if expected is not None:
        assert asked.request.pictures == expected


def test_a_single_picture_gets_smaller_until_it_fits() -> None:
    asked = asking(checklist())
    assert asked.go_on(ContextExceededError("x", refused="context"))
    assert (asked.request.pictures, asked.request.shrunk) == (None, 1)
    assert asked.go_on(ContextExceededError("x", refused="context"))
    assert asked.request.shrunk == 2
    assert not asked.go_on(ContextExceededError("x", refused="context"))


@pytest.mark.parametrize(
    ("error", "question", "lacking", "expected"),
    [
        (rejected("logprobs"), PLAIN, set(), {"logprobs"}),
        (rejected("temperature"), PLAIN, set(), {"temperature"}),
        (rejected("max_tokens_name"), PLAIN, set(), {"max_tokens"}),
        (rejected("text_only"), PLAIN, set(), {"parts"}),
        (rejected("no_system"), PLAIN, set(), {"system"}),
        (rejected("stream"), FORMED, set(), {"stream"}),
        (rejected("response_format"), FORMED, set(), {"json_schema"}),
        (rejected("response_format"), FORMED, {"json_schema"}, {"json_schema", "json_mode"}),
        (rejected("logprobs"), PLAIN, {"logprobs"}, set(FEATURES) - {"parts", "system"}),
        (rejected(""), FORMED, set(), set(FEATURES) - {"parts", "system"}),
        (rejected(""), FORMED, set(FEATURES) - {"parts", "system"}, set(FEATURES)),
        (UnreadableReplyError("mentions temperature"), FORMED, set(), {"json_schema"}),
        (UnreadableReplyError("empty"), PLAIN, set(), set()),
        (ServerError("logprobs"), PLAIN, set(), set()),
        (ServerError("cannot compile the grammar"), FORMED, set(), {"json_schema"}),
        # Of a list, log probabilities go first.
        (rejected("logprobs"), LISTED, set(), {"logprobs"}),
        (rejected(""), LISTED, set(), {"logprobs"}),
        (rejected(""), LISTED, {"logprobs"}, set(FEATURES) - {"parts", "system"}),
        (ServerError("cannot compile the grammar"), LISTED, set(), {"logprobs"}),
        (ServerError("cannot compile the grammar"), LISTED, {"logprobs"}, {"logprobs", "json_schema"}),
        (UnreadableReplyError("no JSON"), LISTED, set(), {"json_schema"}),
        (UnreadableReplyError("too large"), LISTED, {"stream"}, {"stream", "logprobs", "json_schema"}),
    ],
)
def test_what_to_leave_out_next(error: GemsError, question: Question, lacking: set[str], expected: set[str]) -> None:
    asked = asking(question, lacking=lacking)
    assert asked.go_on(error)
    assert asked.request.lacking == expected


def test_a_server_that_fails_at_lists_with_log_probabilities() -> None:
    capabilities = Capabilities()
    for count in (1, 2, 3):
        asked = Asking(LISTED, EVERYTHING, capabilities)
        assert asked.go_on(ServerError("x"))
        asked.succeed()
        assert capabilities.lacking == ({"logprobs"} if count == 3 else set())


def test_log_probabilities_are_not_to_blame_where_a_list_fails_without_them() -> None:
    capabilities = Capabilities()
    for _ in range(3):
        asked = Asking(LISTED, EVERYTHING, capabilities)
        assert asked.go_on(ServerError("x"))
        assert asked.go_on(ServerError("x"))
        assert structured_mode(asked.request.lacking) == "text", "the last request that there is"
        asked.succeed()
    assert capabilities.lacking == {"json_schema"}


def test_a_list_with_log_probabilities_clears_the_suspicion() -> None:
    capabilities = Capabilities()
    for _ in range(4):
        failed, fine = Asking(LISTED, EVERYTHING, capabilities), Asking(LISTED, EVERYTHING, capabilities)
        assert failed.go_on(ServerError("x"))
        failed.succeed()
        fine.succeed()
    assert capabilities.lacking == set()


def test_what_a_refusal_without_a_name_took_is_remembered() -> None:
    asked = asking(FORMED)
    assert asked.go_on(rejected(""))
    asked.succeed()
    assert asked.capabilities.lacking == set(FEATURES) - {"parts", "system"}


def test_nothing_is_left_to_leave_out() -> None:
    assert not asking(PLAIN, lacking=FEATURES).go_on(rejected("logprobs"))


def test_a_truncated_reply_gets_twice_the_tokens_once() -> None:
    asked = asking(FORMED)
    assert asked.go_on(TruncatedReplyError("x", limit=400))
    assert (asked.request.max_tokens, asked.request.lacking) == (800, frozenset())
    assert not asked.go_on(TruncatedReplyError("x", limit=800))


def test_a_reflector_goes_on_without_pictures() -> None:
    asked = asking(replace(checklist(pictures=2), task="reflect"))
    assert asked.go_on(BlindModelError("x"))
    assert asked.request.pictures == 0
    assert not asking(checklist()).go_on(BlindModelError("x")), "a judge has to see"


def test_a_judge_is_shown_the_picture_whatever_others_were_refused() -> None:
    reflecting = asking(replace(checklist(pictures=2), task="reflect"))
    assert reflecting.go_on(BlindModelError("x"))
    reflecting.succeed()
    known = reflecting.capabilities
    assert Asking(checklist(), ChatLimits(), known).request.pictures is None
    assert Asking(replace(checklist(), task="reflect"), ChatLimits(), known).request.pictures == 0


def test_a_mode_that_fails_three_times_in_a_row_is_left_out() -> None:
    capabilities = Capabilities()

    def ask(*, fails: bool) -> None:
        asked = Asking(FORMED, ChatLimits(), capabilities)
        if fails:
            assert asked.go_on(ServerError("Internal Server Error"))
        asked.succeed()

    for fails in (True, True, False, True, True):
        ask(fails=fails)
    assert capabilities.lacking == frozenset()
    ask(fails=True)
    assert capabilities.lacking == {"json_schema"}
    ask(fails=False)
    assert capabilities.lacking == {"json_schema"}


def test_what_was_refused_is_tried_again_after_a_while() -> None:
    now = [0.0]
    capabilities = Capabilities(now=lambda: now[0])
    capabilities.learn(["json_schema"], pictures=1)
    assert (capabilities.lacking, capabilities.most_pictures) == ({"json_schema"}, 1)
    now[0] = 3600.0
    assert (capabilities.lacking, capabilities.most_pictures) == (frozenset(), None)
