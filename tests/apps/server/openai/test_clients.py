"""What Open WebUI and LibreChat really send, and what they make of the answer."""

from __future__ import annotations

import base64
import json

import httpx
import pytest

from gems.apps.server.auth import KeyFile
from tests.apps.server.openai.conftest import Serve
from tests.apps.server.openai.test_errors import CHAT, DRAW, EDIT, png, told
from tests.support.scripted_service import House


@pytest.fixture
def key(keys: KeyFile) -> str:
    return keys.add("ann")


def pictures(answer: httpx.Response) -> list[bytes]:
    """As both clients read them: `url` first, where there is one."""
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert all(one.get("url") is None for one in data)
    return [base64.b64decode(one["b64_json"], validate=True) for one in data]


def test_open_webui_draws(base: str, key: str) -> None:
    answer = httpx.post(
        base + DRAW,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json", "X-OpenWebUI-User-Name": "Ann"},
        json={"model": "gems", "prompt": "a red cat", "n": 2, "size": "512x512", "response_format": "b64_json"},
    )
    assert all(data.startswith(b"\x89PNG") for data in pictures(answer))
    assert len(pictures(answer)) == 2


@pytest.mark.parametrize("field", ["image", "image[]"])
def test_open_webui_edits(base: str, key: str, field: str, house: House) -> None:
    house.edits()
    answer = httpx.post(
        base + EDIT,
        headers={"Authorization": f"Bearer {key}"},
        data={"model": "gems", "prompt": "bluer", "n": "1", "size": "512x512", "response_format": "b64_json"},
        files=[(field, ("0_image.png", png(), "image/png"))],
    )
    assert [data[:4] for data in pictures(answer)] == [b"\x89PNG"]
    (request,) = house.generator.requests
    assert (request.prompt, request.width, bool(request.source)) == ("bluer", 512, True)


def test_open_webui_chats(base: str, key: str) -> None:
    body = {"model": "gems", "stream": True, "messages": [{"role": "user", "content": "a red cat"}]}
    with httpx.stream(
        "POST", base + CHAT, headers={"Authorization": f"Bearer {key}"}, json=body | {"temperature": 0.7}
    ) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    assert max(map(len, lines)) < 64 * 1024
    assert lines[-1] == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas).endswith(")")


def test_a_message_without_images_beside_its_text_has_no_field_for_them(base: str) -> None:
    asked = {"messages": [{"role": "user", "content": "a red cat"}]}
    for more, is_there in (({}, False), ({"modalities": ["image", "text"]}, True)):
        (choice,) = httpx.post(base + CHAT, json=asked | more).json()["choices"]
        assert ("images" in choice["message"]) == is_there


@pytest.mark.parametrize("header", ["Authorization", "api-key"])
def test_librechat_draws(base: str, key: str, header: str, house: House) -> None:
    answer = httpx.post(
        base + DRAW,
        headers={header: f"Bearer {key}" if header == "Authorization" else key},
        json={
            "model": "gpt-image-1",
            "prompt": "A sign that says hello.",
            "n": 1,
            "background": "auto",
            "quality": "auto",
            "size": "auto",
            "output_format": "png",
            "user": "5f0c",
        },
    )
    assert [data[:4] for data in pictures(answer)] == [b"\x89PNG"]
    assert (house.generator.requests[0].width, house.generator.requests[0].height) == (64, 64)


def librechat_edits(base: str, key: str, images: int) -> httpx.Response:
    return httpx.post(
        base + EDIT,
        headers={"Authorization": f"Bearer {key}"},
        data={"model": "gpt-image-1", "prompt": "bluer", "quality": "auto", "size": "auto"},
        files=[("image[]", (f"{n}.png", png((32, 16)), "image/png")) for n in range(images)],
    )


def test_librechat_edits(base: str, key: str, house: House) -> None:
    house.edits()
    assert [data[:4] for data in pictures(librechat_edits(base, key, 1))] == [b"\x89PNG"]
    assert (house.generator.requests[0].width, house.generator.requests[0].height) == (32, 16)


def test_librechat_sends_several_images(base: str, key: str, house: House) -> None:
    house.edits()
    error = told(librechat_edits(base, key, 3), 400)
    assert error["code"] == "too_many_images"
    assert error["message"].startswith("3 images were sent")


def test_a_web_page_may_read_the_ids_of_runs(serve: Serve) -> None:
    page = "http://page.example"
    base = serve(cors_origins=[page])
    answer = httpx.post(base + DRAW, headers={"origin": page}, json={"prompt": "a red cat"})
    assert answer.headers["access-control-allow-origin"] == page
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"x-gems-run-id", "x-gems-stop-reason", "x-gems-queue-position", "retry-after"}
    asked = {"origin": page, "access-control-request-method": "POST"}
    assert httpx.options(base + DRAW, headers=asked).status_code == 200


def test_variations_are_refused_with_what_to_use_instead(base: str, key: str) -> None:
    files = {"image": ("cat.png", png(), "image/png")}
    answer = httpx.post(f"{base}/v1/images/variations", headers={"api-key": key}, files=files)
    error = told(answer, 404)
    assert error["code"] == "unsupported_endpoint"
    assert "Use /v1/images/edits" in error["message"]
