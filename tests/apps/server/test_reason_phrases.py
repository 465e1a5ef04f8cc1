"""Programs that show the reason phrase of an error only are told what was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gems.apps.server.connections import guarded_protocol
from gems.apps.server.reason_phrases import ERROR_HEADER
from tests.support.http_server import app_of, serving
from tests.support.scripted_service import House

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    house = House(tmp_path_factory.mktemp("served") / "home")
    with serving(app_of(house), guarded_protocol()) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", CHAT, {"messages": [{"role": "system", "content": "hi"}]}, "messages contains no user message."),
        (
            "POST",
            CHAT,
            {"model": "a\r\nset-cookie: é", "messages": [{"role": "user", "content": "a"}]},
            "Unknown model",
        ),
        ("POST", "/runs", {"prompt": ""}, "prompt: String should have at least 1 character"),
        ("GET", "/runs/nonesuch", None, "There is no run 'nonesuch'."),
        ("GET", "/nonesuch", None, "Not Found"),
        ("GET", "/images/nonesuch", None, "Image not found."),
    ],
)
def test_the_phrase_says_what_was_wrong(url: str, method: str, path: str, body: Any, said: str) -> None:
    answer = httpx.request(method, url + path, json=body)
    assert answer.status_code >= 400
    assert answer.reason_phrase.startswith(said)
    assert answer.reason_phrase == answer.headers[ERROR_HEADER]
    assert answer.reason_phrase.isascii()
    assert "set-cookie" not in answer.headers
    assert answer.text


def test_a_good_answer_keeps_its_phrase(url: str) -> None:
    answer = httpx.get(f"{url}/healthz")
    assert (answer.reason_phrase, ERROR_HEADER in answer.headers) == ("OK", False)
