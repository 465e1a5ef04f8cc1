"""Errors have OpenAI's shape, statuses and codes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import OpenAI
from PIL import Image

from gems.errors import RateLimitError, RefusedError, ServerError
from gems.generation import ImageRequest
from tests.apps.server.openai.conftest import Serve
from tests.apps.server.openai.test_images import ASKED
from tests.support.http_server import until
from tests.support.scripted_service import House
from tests.support.stub.faults import bomb

DRAW = "/v1/images/generations"
EDIT = "/v1/images/edits"
CHAT = "/v1/chat/completions"


def told(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The details of an error of this status."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    return out.getvalue()


SENT = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "   "}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x" * 20_001}, "prompt"),
        ({"prompt": "half a pair: \ud83d"}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 11}, "n"),
        ({"n": "many"}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"size": "large"}, "size"),
        ({"size": 1024}, "size"),
        ({"quality": "best"}, "quality"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 4}, "partial_images"),
        ({"seed": -2}, "seed"),
        ({"max_rounds": 51}, "max_rounds"),
        ({"candidates": 0}, "candidates"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"budget_usd": -1}, "budget_usd"),
        ({"profile": "bold"}, "profile"),
        ({"skills": "nonesuch"}, "skills"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(
    shared_base: str, shared_house: House, given: dict[str, Any], param: str
) -> None:
    body = json.dumps(ASKED | given)
    answer = httpx.post(shared_base + DRAW, content=body, headers={"content-type": "application/json"})
    error = told(answer, 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert shared_house.chat.asked == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"^\x8b", b'{"model": "gems"}'])
@pytest.mark.parametrize("path", [DRAW, CHAT, EDIT])
def test_bodies_that_are_none(shared_base: str, path: str, body: bytes) -> None:
    answer = httpx.post(shared_base + path, content=body, headers={"content-type": "application/json"})
    assert told(answer, 400)["type"] == "invalid_request_error"


def test_a_model_that_is_not_there(openai: OpenAI) -> None:
    with pytest.raises(sdk.NotFoundError) as caught:
        openai.images.generate(model="sdxl", prompt="a cat")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(sdk.NotFoundError):
        openai.models.retrieve("sdxl/turbo")


def test_models(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["gems", "flat"]
    assert openai.models.retrieve("flat").id == "flat"


@pytest.mark.parametrize("name", ["gems", "flat", "gpt-image-1", "dall-e-3", ""])
def test_names_that_clients_send(openai: OpenAI, name: str) -> None:
    assert openai.images.generate(model=name, prompt="a cat", quality="low").data


def test_what_the_filter_refuses(openai: OpenAI, house: House) -> None:
    fails(house, RefusedError("The filter refuses it."))
    with pytest.raises(sdk.BadRequestError, match="refuses") as caught:
        openai.images.generate(**ASKED)
    assert caught.value.code == "content_policy_violation"


def test_a_generator_that_fails(base: str, house: House) -> None:
    fails(house, ServerError("It broke."))
    answer = httpx.post(base + DRAW, json=ASKED)
    assert told(answer, 502)["type"] == "server_error"
    # Trying again by itself, a client would pay for another run.
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-gems-run-id"]


def test_a_generator_that_is_asked_too_much(base: str, house: House) -> None:
    fails(house, RateLimitError("Too many.", retry_after=7.4))
    answer = httpx.post(base + DRAW, json=ASKED)
    assert told(answer, 503)["type"] == "server_error"
    assert answer.headers["retry-after"] == "7"


def test_no_image_in_time(serve: Serve, house: House) -> None:
    house.on_drawing(1, lambda: asyncio.sleep(60))
    assert told(httpx.post(serve(deadline_s=0.5) + DRAW, json=ASKED), 503)["code"] == "server_error"


def test_a_request_that_leaves_too_little_time(base: str, house: House) -> None:
    house.on_drawing(1, lambda: asyncio.sleep(60))
    answer = httpx.post(base + DRAW, json=ASKED | {"deadline_s": 0.5})
    error = told(answer, 400)
    assert (error["code"], error["param"]) == ("deadline_reached", "deadline_s")
    assert answer.headers["x-gems-run-id"]


def test_a_budget_that_pays_for_no_image(base: str, house: House) -> None:
    house.generator.capabilities = replace(house.generator.capabilities, price_usd=1.0)
    error = told(httpx.post(base + DRAW, json=ASKED | {"budget_usd": 0.5}), 400)
    assert (error["code"], error["param"]) == ("budget_reached", "budget_usd")


def test_images_that_came_are_sent_where_others_did_not(openai: OpenAI, house: House) -> None:
    async def fail(request: ImageRequest) -> None:
        if request.seed == 7:
            raise ServerError("It broke.")

    house.generator.before = fail
    data = openai.images.generate(**ASKED, n=3, extra_body={"seed": 7}).data
    assert data is not None
    assert len(data) == 2


def test_a_defect_is_told_without_its_details(
    base: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("gems.apps.server.openai.images.start_runs", broken)
    assert "secret" not in told(httpx.post(base + DRAW, json=ASKED), 500)["message"]
    assert "A request failed." in caplog.text


@pytest.mark.parametrize("path", ["/v1/nonesuch", "/v1/", "/v1/images"])
def test_routes_that_are_not_there(shared_base: str, path: str) -> None:
    assert told(httpx.post(shared_base + path, json={}), 404)["code"] == "unknown_url"


@pytest.mark.parametrize(("method", "path"), [("GET", DRAW), ("DELETE", CHAT), ("POST", "/v1/models")])
def test_methods_that_are_not_allowed(shared_base: str, method: str, path: str) -> None:
    answer = httpx.request(method, shared_base + path)
    assert told(answer, 405)["code"] == "method_not_supported"
    assert answer.headers["allow"] in ("GET", "POST")


def test_bodies_that_are_too_large(serve: Serve, house: House) -> None:
    base = serve(max_body_mb=1)
    large = b"x" * 1_100_000

    def pieces() -> Iterator[bytes]:
        yield b'{"prompt": "'
        yield large

    for answer in (
        httpx.post(base + DRAW, json=ASKED | {"user": large.decode()}),
        httpx.post(base + DRAW, content=pieces(), headers={"content-type": "application/json"}),
        httpx.post(base + EDIT, files={"image": ("a.png", large)}, data={"prompt": "it"}),
    ):
        assert told(answer, 413)["code"] == "request_too_large"


@pytest.mark.parametrize("field", ["image", "image[]"])
def test_edits_are_refused_where_the_generator_cannot(base: str, openai: OpenAI, house: House, field: str) -> None:
    files = [(field, ("a.png", png(), "image/png")), (field, ("b.png", png(), "image/png"))]
    answer = httpx.post(base + EDIT, files=files, data={"prompt": "make it blue", "model": "gems"})
    error = told(answer, 400)
    assert (error["code"], error["param"]) == ("editing_unsupported", "image")
    assert "flat cannot edit" in error["message"]
    with pytest.raises(sdk.BadRequestError) as caught:
        openai.images.edit(model="gems", image=[png(), png()], prompt="make it blue", mask=png())
    assert caught.value.code == "editing_unsupported"
    assert house.chat.asked == []


@pytest.mark.parametrize(
    ("files", "data", "param"),
    [
        ([("image", b"no image")], {"prompt": "it"}, "image"),
        ([("image", b"")], {"prompt": "it"}, "image"),
        ([("image", bomb())], {"prompt": "it"}, "image"),
        ([("image", png()), ("mask", png())], {"prompt": "it"}, "mask"),
        ([("image", png()), ("image", png())], {"prompt": "it"}, "image"),
        ([("image[]", png()), ("image[]", png())], {"prompt": "it"}, "image"),
        ([("image", png()), ("image[]", png())], {"prompt": "it"}, "image"),
        ([("mask", png())], {"prompt": "it"}, "image"),
        ([("image", png())], {}, "prompt"),
        ([("image", png())], {"prompt": " "}, "prompt"),
        ([("image", png())], {"prompt": "it", "n": "many"}, "n"),
        ([("image", png())], {"prompt": "it", "n": "2", "stream": "true"}, "n"),
        ([("image", png())], {"prompt": "it", "size": "large"}, "size"),
        ([], {"prompt": "it", "image": "http://127.0.0.1:1/a.png"}, "image"),
        ([], {"prompt": "it", "image": "/etc/hostname"}, "image"),
    ],
)
def test_edits_that_make_no_sense(
    shared_base: str, shared_house: House, files: list[tuple[str, bytes]], data: dict[str, str], param: str
) -> None:
    uploads = [(name, ("a.png", content)) for name, content in files]
    error = told(httpx.post(shared_base + EDIT, files=uploads or None, data=data), 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert shared_house.chat.asked == []


@pytest.mark.parametrize(
    ("given", "param", "said"),
    [
        ({"images": [{"image_url": "https://example.org/a.png"}]}, "image", "not fetched from addresses"),
        ({"image": "file:///etc/passwd"}, "image", "not fetched from addresses"),
        ({"image": "/etc/hostname"}, "image", "data URL"),
        ({"image": "?"}, "image", "data URL"),
        ({"images": [{"file_id": "file-1"}]}, "image", "Files cannot be stored here. Send the image as a data URL"),
        ({"images": [5]}, "image", "data URL"),
        ({"image": {"image_url": {"url": ""}}}, "image", "data URL"),
        ({"image": base64.b64encode(b"no image").decode()}, "image", "not a valid image"),
        ({"image": base64.b64encode(bomb()).decode()}, "image", "pixels"),
        ({"image": None}, "image", "missing"),
        ({"image": SENT, "mask": {"image_url": SENT}}, "mask", "selects nothing"),
        ({"images": [SENT, SENT]}, "image", "2 images were sent"),
        ({"image": SENT, "prompt": None}, "prompt", "missing"),
        ({"image": SENT, "n": "many"}, "n", "n"),
        ({"image": SENT, "size": {"width": 1}}, "size", "size"),
        ({"image": SENT, "user": "\ud800"}, None, "Unicode"),
    ],
)
def test_edits_as_json_that_make_no_sense(
    shared_base: str, shared_house: House, given: dict[str, Any], param: str | None, said: str
) -> None:
    sent = json.dumps({"prompt": "it"} | given)
    error = told(httpx.post(shared_base + EDIT, content=sent, headers={"content-type": "application/json"}), 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert said in error["message"]
    assert shared_house.chat.asked == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("image", "https://example.org/a.png", "not fetched from addresses"),
        ("image[]", "/etc/hostname", "data URL"),
        ("image", "data:image/png;base64,?", "data URL"),
        ("image", base64.b64encode(b"no image").decode(), "not a valid image"),
        ("image", base64.b64encode(b"0" * 3 * 2**20).decode(), "not a valid image"),
        ("image", "", "missing"),
    ],
)
def test_images_as_texts_of_a_form_that_are_none(
    shared_base: str, shared_house: House, name: str, value: str, said: str
) -> None:
    fields = {name: (None, value), "prompt": (None, "it")}
    error = told(httpx.post(shared_base + EDIT, files=fields), 400)
    assert (error["param"], error["type"]) == ("image", "invalid_request_error")
    assert said in error["message"]
    assert shared_house.chat.asked == []


@pytest.mark.parametrize("image", ["?", base64.b64encode(b"no image").decode()])
def test_files_beside_texts_that_are_none_are_closed(
    shared_base: str, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    files: list[Any] = []

    def open_file(**options: Any) -> Any:
        files.append(SpooledTemporaryFile(**options))  # noqa: SIM115 - the server closes it
        return files[-1]

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", open_file)
    fields = {"mask": ("mask.png", b"no image"), "image": (None, image), "prompt": (None, "it")}
    told(httpx.post(shared_base + EDIT, files=fields), 400)
    assert files
    # Those of the request that it becomes are closed after the answer was sent.
    until(lambda: all(file.closed for file in files))


@pytest.mark.parametrize("body", ["{", "[]", "1", "[" * 100_000])
def test_edits_as_no_json_object(shared_base: str, body: str) -> None:
    error = told(httpx.post(shared_base + EDIT, content=body, headers={"content-type": "application/json"}), 400)
    assert "JSON" in error["message"]


def fails(house: House, error: Exception) -> None:
    async def fail(_request: ImageRequest) -> None:
        raise error

    house.generator.before = fail
