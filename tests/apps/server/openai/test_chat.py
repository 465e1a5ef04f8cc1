"""Chats that draw."""

from __future__ import annotations

import re
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from gems.apps.server.openai import chat
from tests.apps.server.openai.test_images import picture
from tests.support.scripted_service import House

HELLO: list[Any] = [
    {"role": "system", "content": "You draw."},
    {"role": "user", "content": "a blue dog"},
    {"role": "assistant", "content": "![a blue dog](data:image/png;base64,AAAA)"},
    {"role": "user", "content": "a red [cat]"},
]
_IMAGE = re.compile(r"!\[([^\]]*)\]\(data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)")


def test_the_answer_tells_the_run_and_ends_with_the_image(openai: OpenAI, house: House) -> None:
    house.never_pass()
    answer = openai.chat.completions.create(model="gems", messages=HELLO, extra_body={"max_rounds": 2})
    content = answer.choices[0].message.content or ""
    assert "2 requirements will be checked." in content
    assert "Round 1: 1 of 2 met. Not yet: Is there a cat?" in content
    assert "Round 2" in content
    found = _IMAGE.search(content)
    assert found is not None
    assert content.endswith(found.group())
    assert found[1] == "a red cat"
    assert picture(found[2]).size == (64, 64)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15 * len(house.chat.asked)
    assert house.drawn()[0][0] == "a red [cat]"


def test_streamed_it_says_the_same(openai: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_PIECE", 50)
    whole = openai.chat.completions.create(model="gems", messages=HELLO, extra_body={"seed": 7})
    with openai.chat.completions.create(
        model="gems", messages=HELLO, stream=True, stream_options={"include_usage": True}, extra_body={"seed": 7}
    ) as stream:
        chunks = list(stream)
    *told, counted = chunks
    assert told[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in told]
    assert max(len(piece) for piece in pieces) <= 50
    said, expected = "".join(pieces), whole.choices[0].message.content or ""
    assert _IMAGE.sub("", said) == _IMAGE.sub("", expected)
    assert _IMAGE.search(said) is not None
    assert [chunk.choices[0].finish_reason for chunk in told] == [None] * (len(told) - 1) + ["stop"]
    assert counted.choices == []
    assert counted.usage is not None
    assert counted.usage.total_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_text_may_come_in_parts(openai: OpenAI, house: House) -> None:
    parts: Any = [{"type": "text", "text": "a red"}, {"type": "text", "text": "cat"}]
    openai.chat.completions.create(model="gems", messages=[{"role": "user", "content": parts}])
    assert house.drawn()[0][0] == "a red\ncat"


@pytest.mark.parametrize(
    "content",
    [
        "",
        " ",
        "x" * 20_001,
        [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}, {"type": "text", "text": "it"}],
        [{"type": "text", "text": "it"}, {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a"}}],
    ],
)
def test_what_cannot_be_drawn_is_refused(openai: OpenAI, house: House, content: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        openai.chat.completions.create(model="gems", messages=[{"role": "user", "content": content}])
    assert caught.value.param == "messages"
    assert house.chat.asked == []


def test_earlier_addresses_are_not_fetched(openai: OpenAI, house: House) -> None:
    seen: Any = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}]
    messages: Any = [{"role": "user", "content": seen}, {"role": "user", "content": "a red cat"}]
    openai.chat.completions.create(model="gems", messages=messages)
    assert house.drawn()
