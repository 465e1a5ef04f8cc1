"""OpenAI's Responses API, by OpenAI's own client."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import OpenAI

from gems.options import MAX_PROMPT
from tests.apps.server.openai.test_conversation import follows
from tests.apps.server.openai.test_errors import png, told
from tests.support.scripted_service import House

TOOL: Any = {"type": "image_generation"}
ASKED: dict[str, Any] = {"model": "gems", "tools": [TOOL], "extra_body": {"seed": 7}}
ATTACHED = f"data:image/png;base64,{base64.b64encode(png((32, 16))).decode()}"


def message(text: str, *pictures: str) -> dict[str, Any]:
    images = [{"type": "input_image", "image_url": picture, "detail": "auto"} for picture in pictures]
    return {"role": "user", "content": [{"type": "input_text", "text": text}, *images]}


def test_an_image_and_what_it_meets(openai: OpenAI, house: House) -> None:
    raw = openai.responses.with_raw_response.create(input="a red cat", **ASKED)
    response = raw.parse()
    call, said = response.output
    assert call.type == "image_generation_call"
    assert base64.b64decode(call.result or "").startswith(b"\x89PNG")
    assert (call.status, call.action, call.output_format, call.size) == ("completed", "generate", "png", "64x64")
    assert said.type == "message"
    assert response.output_text.startswith("Round 1 is best: 2 of 2 met (passed).\n- ")
    assert response.output_text.count(" yes") == 2
    assert (response.status, response.error) == ("completed", None)
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert raw.headers["x-gems-stop-reason"] == "passed"
    assert raw.headers["x-gems-run-id"] == (response.metadata or {})["run_id"]
    assert house.generator.requests[0].prompt == "a red cat"


def test_an_attached_image_is_edited_and_a_later_message_is_about_it(openai: OpenAI, house: House) -> None:
    house.edits()
    tool: Any = TOOL | {"output_format": "jpeg", "quality": "low", "action": "edit"}
    first: Any = message("bluer", ATTACHED)
    response = openai.responses.create(model="gems", tools=[tool], input=[first])
    call = response.output[0]
    assert call.type == "image_generation_call"
    assert (call.action, call.output_format, call.quality) == ("edit", "jpeg", "low")
    assert base64.b64decode(call.result or "").startswith(b"\xff\xd8")
    again: Any = [first, *(item.to_dict() for item in response.output), message("now make it green")]
    follows(house, "change", 2, "make it green")
    openai.responses.create(model="gems", tools=[TOOL], input=again)
    _, edited = house.generator.requests
    assert (edited.prompt, bool(edited.source)) == ("make it green", True)


def test_events_in_their_order(openai: OpenAI, house: House) -> None:
    house.never_pass()
    tool: Any = TOOL | {"partial_images": 1, "quality": "low"}
    events = list(openai.responses.create(model="gems", input="a red cat", tools=[tool], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type.removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added"),
        *(f"image_generation_call.{state}" for state in ("in_progress", "generating", "partial_image", "completed")),
        *("output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output[0].type == "image_generation_call"
    assert "(max_rounds)" in last.response.output_text


def test_the_sdk_follows_a_stream(openai: OpenAI) -> None:
    with openai.responses.stream(input="a red cat", **ASKED) as stream:
        response = stream.get_final_response()
    assert [item.type for item in response.output] == ["image_generation_call", "message"]


def test_a_title_is_no_image(openai: OpenAI, house: House) -> None:
    asked = "### Task:\nGenerate a title.\n<chat_history>\nUSER: a red cat\n</chat_history>"
    response = openai.responses.create(input=asked, **ASKED)
    assert [item.type for item in response.output] == ["message"]
    assert response.output_text
    assert house.drawn() == []


@pytest.mark.parametrize(
    ("given", "param", "part"),
    [
        ({"tools": []}, "tools", "Only images are generated here"),
        ({"tools": [{"type": "web_search"}]}, "tools", "'web_search'"),
        ({"tools": [TOOL | {"output_format": "gif"}]}, "tools", "output_format"),
        ({"tools": [TOOL | {"input_image_mask": {"image_url": ATTACHED}}]}, "tools", "/v1/images/edits"),
        ({"tools": [TOOL | {"action": "edit"}]}, "tools", "refers to no image"),
        ({"tool_choice": "none"}, "tool_choice", "Only images"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "not stored"),
        ({"background": True}, "background", "POST /runs"),
        ({"input": []}, "input", "no user message"),
        ({"input": " "}, "input", "no text"),
        ({"input": "x" * (MAX_PROMPT + 1)}, "input", "characters"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input", "'item_reference'"),
        ({"input": [message("it", "https://example.org/a.png")]}, "input", "not fetched"),
        ({"size": "large"}, "size", "WIDTHxHEIGHT"),
    ],
)
def test_what_cannot_be_done_is_told(
    shared_base: str, shared_house: House, given: dict[str, Any], param: str, part: str
) -> None:
    body = {"model": "gems", "tools": [TOOL], "input": "a red cat"} | given
    error = told(httpx.post(f"{shared_base}/v1/responses", json=body), 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert part in error["message"]
    assert shared_house.chat.asked == []


def test_a_failure_ends_the_stream_as_an_error(openai: OpenAI, house: House) -> None:
    async def fail(_request: Any) -> None:
        raise sdk.OpenAIError("It broke.")

    house.generator.before = fail
    with pytest.raises(sdk.APIError):
        list(openai.responses.create(input="a red cat", stream=True, **ASKED))
