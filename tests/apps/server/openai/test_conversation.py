"""Conversations: which message is the request, which picture is meant, and how the answer carries its own."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI

from gems.apps.server.auth import KeyFile
from tests.apps.server.openai.conftest import Client, Serve
from tests.apps.server.openai.test_errors import CHAT, png, told
from tests.apps.server.openai.test_images import picture
from tests.support.scripted_service import PATIENCE_S, House

SMALL = re.compile(r"!\[[^\]]*\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)")
FULL = re.compile(r"\[Full size\]\((\S+/images/([0-9a-f]{64})\.png)\)")
PHOTO = f"data:image/png;base64,{base64.b64encode(png((32, 16))).decode()}"


def user(text: str, *images: str) -> dict[str, Any]:
    if not images:
        return {"role": "user", "content": text}
    parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    return {"role": "user", "content": [{"type": "text", "text": text}, *parts]}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def said(openai: OpenAI, *messages: Any, **more: Any) -> str:
    answer = openai.chat.completions.create(model="gems", messages=list(messages), extra_body=more)
    return answer.choices[0].message.content or ""


def follows(house: House, kind: str, number: int = 0, instruction: str = "", prompt: str = "") -> None:
    house.chat.script["follow"] = {"kind": kind, "picture": number, "instruction": instruction, "prompt": prompt}


@pytest.mark.parametrize("text_first", [True, False])
def test_an_attached_picture_is_edited(openai: OpenAI, house: House, text_first: bool) -> None:
    house.edits()
    message = user("make the circles green", PHOTO)
    if not text_first:
        message["content"].reverse()
    said(openai, message)
    (request,) = house.generator.requests
    assert (request.prompt, request.width, request.height) == ("make the circles green", 32, 16)
    assert request.source is not None
    assert house.chat.about("follow") == []


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": PHOTO},
        {"type": "input_image", "image_url": PHOTO},
        {"type": "text", "text": f"![photo]({PHOTO})"},
        {"type": "text", "text": PHOTO},
    ],
)
def test_pictures_are_attached_in_many_ways(openai: OpenAI, house: House, part: Any) -> None:
    house.edits()
    said(openai, {"role": "user", "content": [part, {"type": "input_text", "text": "make it green"}]})
    (request,) = house.generator.requests
    assert (request.prompt, bool(request.source)) == ("make it green", True)


def test_the_last_picture_is_edited_by_a_later_message(openai: OpenAI, house: House) -> None:
    house.edits()
    first = said(openai, user("a red cat"))
    follows(house, "change", 1, "make the cat green", "a green cat")
    said(openai, user("a red cat"), assistant(first), user("now make it green"))
    before, after = house.generator.requests
    assert (after.prompt, bool(before.source), bool(after.source)) == ("make the cat green", False, True)
    assert house.chat.about("follow")[0].lines("conversation") == [
        "Person: a red cat",
        "Program (picture 1):",
        "Person: now make it green",
    ]


def test_the_full_picture_is_edited_and_not_the_small_one_in_the_text(openai: OpenAI, house: House) -> None:
    house.edits()
    first = said(openai, user("a red cat"), size="1024x512")
    assert max(picture(SMALL.findall(first)[0]).size) == 512
    follows(house, "change", 1, "make the cat green")
    said(openai, user("a red cat"), assistant(first), user("now make it green"))
    assert (house.generator.requests[-1].width, house.generator.requests[-1].height) == (1024, 512)


def test_the_picture_that_is_named_is_edited(openai: OpenAI, house: House) -> None:
    house.edits()
    follows(house, "new")
    talk: list[Any] = []
    for prompt in ("a red cat", "a blue dog"):
        talk += [user(prompt), assistant(said(openai, *talk, user(prompt)))]
    first = FULL.search(talk[1]["content"])
    assert first is not None
    follows(house, "change", 1, "make the cat green")
    said(openai, *talk, user("the first one, but green"))
    assert house.generator.requests[-1].source is not None
    follows(house, "again", 2, prompt="rain")
    said(openai, *talk, user("the second again, without the dog"))
    assert (house.generator.requests[-1].prompt, house.generator.requests[-1].source) == ("rain", None)


def test_where_nothing_can_be_edited_a_new_prompt_joins_both(openai: OpenAI, house: House) -> None:
    first = said(openai, user("a red cat"))
    follows(house, "change", 1, "make the cat green", "a green cat")
    said(openai, user("a red cat"), assistant(first), user("now make it green"))
    assert house.drawn()[-1][0] == "a green cat"
    with pytest.raises(BadRequestError) as caught:
        said(openai, user("make it green", PHOTO))
    assert caught.value.code == "editing_unsupported"


def test_pictures_beside_the_text_are_known_again(openai: OpenAI, house: House) -> None:
    """A client that drops the text of our answers, and sends what stood beside it."""
    house.edits()
    follows(house, "change", 1, "make the cat green")
    beside = assistant("", images=[{"type": "image_url", "image_url": {"url": PHOTO}}])
    said(openai, user("a red cat"), beside, user("now make it green"))
    assert (house.generator.requests[-1].width, house.generator.requests[-1].height) == (32, 16)


def test_nobody_edits_the_picture_of_another(base: str, keys: KeyFile, client: Client, house: House) -> None:
    house.edits()
    tokens = {name: keys.add(name) for name in ("ann", "bob")}
    first = said(client(base, tokens["ann"]), user("a red cat"))
    follows(house, "change", 1, "make the cat green")
    body = {"messages": [user("a red cat"), assistant(first), user("now make it green")]}
    drawn = len(house.drawn())
    answers = {
        name: httpx.post(base + CHAT, json=body, headers={"api-key": token}, timeout=PATIENCE_S)
        for name, token in tokens.items()
    }
    assert answers["ann"].status_code == 200
    assert "Image not found" in told(answers["bob"], 404)["message"]
    assert len(house.drawn()) == drawn + 1


def test_what_could_not_be_told_is_said(openai: OpenAI, house: House) -> None:
    house.chat.script["follow"] = "It is hard to say."
    answer = said(openai, user("a red cat"), assistant("Here."), user("now make it green"))
    assert answer.startswith("Warning: Whether the message follows up on an earlier one could not be told")
    assert house.drawn()[-1][0] == "now make it green"


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (user("it", "http://127.0.0.1:1/a.png"), "not fetched"),
        (user("it", "data:image/png;base64,AAAA"), "Invalid image"),
        (user("it", "data:image/png,x"), "Invalid image"),
        (user("", PHOTO), "no text that says what to change"),
        (user(" ", PHOTO), "no text that says what to change"),
        (user("it", PHOTO, PHOTO), "2 pictures are attached"),
        ({"role": "user", "content": [{"type": "file", "file": {}}, {"type": "text", "text": "it"}]}, "Unsupported"),
        ({"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "it"}]}, "no image_url"),
    ],
)
def test_pictures_that_cannot_be_used_are_told(openai: OpenAI, house: House, message: Any, fault: str) -> None:
    house.edits()
    with pytest.raises(BadRequestError, match=fault) as caught:
        said(openai, message)
    assert caught.value.param == "messages"
    assert house.drawn() == []


def test_an_earlier_picture_that_is_gone_is_told(openai: OpenAI, house: House) -> None:
    house.edits()
    follows(house, "change", 1, "make it green")
    gone = assistant(f"[Full size](http://127.0.0.1:1/images/{'0' * 64}.png)")
    with pytest.raises(BadRequestError, match="gone"):
        said(openai, user("a red cat"), gone, user("now make it green"))
    elsewhere = assistant("![cat](https://example.org/cat.png)")
    with pytest.raises(BadRequestError, match="Attach it again"):
        said(openai, user("a red cat"), elsewhere, user("now make it green"))


def streamed(url: str, body: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    """The deltas of a streamed answer."""
    with httpx.stream("POST", url + CHAT, json=body | {"stream": True}, headers=headers, timeout=PATIENCE_S) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    return [json.loads(line)["choices"][0]["delta"] for line in lines]


@pytest.mark.parametrize(
    ("serve_settings", "body", "headers"),
    [
        ({}, {"modalities": ["image", "text"]}, {}),
        ({}, {}, {"X-OpenWebUI-User-Name": "Ann"}),
        ({}, {}, {"x-openwebui-chat-id": "1"}),
        ({"chat_images": "field"}, {}, {}),
    ],
)
def test_the_picture_stands_beside_the_text(
    serve: Serve, house: House, serve_settings: Any, body: Any, headers: dict[str, str]
) -> None:
    base, body = serve(**serve_settings), {"messages": [user("a red cat")]} | body
    deltas = streamed(base, body, **headers)
    text = "".join(delta.get("content", "") for delta in deltas)
    (images,) = [delta["images"] for delta in deltas if "images" in delta]
    found = FULL.search(text)
    assert found is not None
    assert "data:" not in text
    assert len(text) < 4000
    (only,) = images
    assert only["type"] == "image_url"
    full = base64.b64decode(only["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert full.startswith(b"\x89PNG")
    whole = httpx.post(base + CHAT, json=body, headers=headers, timeout=PATIENCE_S).json()["choices"][0]["message"]
    assert whole["images"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert httpx.get(found[1]).status_code == 200


@pytest.mark.parametrize(
    ("serve_settings", "headers"),
    [({}, {}), ({}, {"user-agent": "Open WebUI"}), ({"chat_images": "text"}, {"x-openwebui-chat-id": "1"})],
)
def test_otherwise_a_small_one_stands_in_it(serve: Serve, serve_settings: Any, headers: dict[str, str]) -> None:
    base = serve(**serve_settings)
    deltas = streamed(base, {"messages": [user("a red cat")], "size": "2048x1024"}, **headers)
    text = "".join(delta.get("content", "") for delta in deltas)
    assert not any("images" in delta for delta in deltas)
    assert picture(SMALL.findall(text)[0]).size == (512, 256)
    assert FULL.search(text)
    assert len(text) < 100_000
