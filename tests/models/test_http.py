"""Connections, HTTP/2, retries, and HTTP errors as our own."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import openai
import pytest
import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config
from langchain_core.exceptions import ModelConnectionError, ModelTimeoutError

from gems.errors import (
    AuthenticationError,
    BlindModelError,
    ContextExceededError,
    GemsError,
    InvalidImageError,
    ModelUnavailableError,
    OptionError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    ServerError,
    TooManyImagesError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.generation import ImageRequest
from gems.models.chat.messages import Question
from gems.models.factory import open_chat, open_generator
from gems.models.http import error_from_status, parse_retry_after, translate_error, with_retries
from gems.settings import ChatSettings, GeneratorSettings
from tests.support.scripted_service import PATIENCE_S
from tests.support.stub import Fault, StubServer
from tests.support.stub.models import flat_picture

SECRET = "tops3cret-value"


def body(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", **more}})


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (301, "", RejectedRequestError),
        (400, body("bad size"), RejectedRequestError),
        (401, body("wrong key"), AuthenticationError),
        (403, "", AuthenticationError),
        (404, body("no such model"), ModelUnavailableError),
        (408, "", ProviderTimeoutError),
        (413, "too large", RejectedRequestError),
        (422, '{"detail": [{"loc": ["query", "prompt"]}]}', RejectedRequestError),
        (429, body("slow down"), RateLimitError),
        (429, body("You exceeded your current quota", code="insufficient_quota"), ModelUnavailableError),
        (400, body("rejected by our safety system", code="content_policy_violation"), RefusedError),
        (400, body("The prompt triggered Azure's filter", code="content_filter"), RefusedError),
        (500, "", ServerError),
        (502, "<html>Bad gateway</html>", ServerError),
        (599, "", ServerError),
        (400, "[1, 2]", RejectedRequestError),
        (400, "null", RejectedRequestError),
        (400, '{"error": null}', RejectedRequestError),
        (400, '{"error": {"message": {"deep": 1}}}', RejectedRequestError),
    ],
)
def test_every_status_has_its_error(status: int, text: str, expected: type[GemsError]) -> None:
    error = error_from_status(status, text, "stub at http://host")
    assert type(error) is expected
    assert error.message.startswith(f"stub at http://host answered {status}")


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("At most 1 image(s) may be provided in one request.", 1),
        ("At most 16 images may be provided in one prompt.", 16),
        ("You may send a maximum of 5 images.", 5),
        ("This model supports up to 8 images", 8),
        ("Too many images in the request", None),
    ],
)
def test_limit_on_images_is_read(words: str, limit: int | None) -> None:
    error = error_from_status(400, body(words), "stub")
    assert isinstance(error, TooManyImagesError)
    assert error.limit == limit


def test_message_is_short_and_free_of_secrets() -> None:
    text = body(f"key {SECRET} in sk-abcdefghijkl, Authorization: Bearer abc.def-123456 " + "x" * 2000)
    error = error_from_status(400, text, "stub", SECRET)
    assert SECRET not in error.message
    assert "sk-abc" not in error.message
    assert "abc.def" not in error.message
    assert len(error.message) < 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(httpx.Headers(headers)) == seconds


REQUEST = httpx.Request("POST", "http://host/v1")


class HTTPError(Exception):
    """An error as most libraries of providers have it."""

    def __init__(self, status: int) -> None:
        super().__init__("It went wrong.")
        self.status_code = status


class CodeError(Exception):
    """An error with a number, which is the status in google-genai and something else elsewhere."""

    def __init__(self, code: int) -> None:
        super().__init__("It went wrong.")
        self.code = code


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (TimeoutError(), ProviderTimeoutError),
        (httpx.ReadTimeout("slow"), ProviderTimeoutError),
        (httpx.ConnectError("refused"), UnreachableError),
        (httpx.RemoteProtocolError("cut"), UnreachableError),
        (httpx.UnsupportedProtocol("ftp"), RejectedRequestError),
        (httpx.InvalidURL("no"), RejectedRequestError),
        (openai.OpenAIError("odd"), UnreadableReplyError),
        (json.JSONDecodeError("no", "", 0), UnreadableReplyError),
        (KeyError("choices"), UnreadableReplyError),
        (RuntimeError("odd"), ProviderError),
        (httpx2.ReadTimeout("slow"), ProviderTimeoutError),
        (httpx2.ConnectError("refused"), UnreachableError),
        (aiohttp.ServerDisconnectedError("cut"), UnreachableError),
        (ConnectionResetError(), UnreachableError),
        (ModelTimeoutError("slow"), ProviderTimeoutError),
        (ModelConnectionError("refused"), UnreachableError),
        (raised_from(RuntimeError("wrapped"), httpx.ConnectError("refused")), UnreachableError),
        (raised_from(RuntimeError("wrapped"), HTTPError(429)), RateLimitError),
        (HTTPError(401), AuthenticationError),
        (HTTPError(529), ServerError),
        (HTTPError(200), ServerError),
        (HTTPError(-1), ServerError),
        (CodeError(403), AuthenticationError),
        (CodeError(7), ProviderError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_every_library_error_is_translated(raised: Exception, expected: type[GemsError]) -> None:
    error = translate_error(raised, "stub at http://host", SECRET)
    assert type(error) is expected
    assert error.message.startswith("stub at http://host")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"code": 502, "message": "Provider returned error"}, ServerError),
        ({"code": 429, "message": "Slow down"}, RateLimitError),
        ({"message": "This model's maximum context length is 4096 tokens.", "code": 400}, ContextExceededError),
        ({"message": "No endpoints found that support image input", "code": 404}, BlindModelError),
        ({"message": "Internal error", "code": "internal"}, ServerError),
        ("overloaded", ServerError),
    ],
)
def test_an_error_within_a_stream_is_read_like_another(told: Any, expected: type[GemsError]) -> None:
    raised = openai.APIError("told", request=REQUEST, body=told)
    assert type(translate_error(raised, "stub at http://host")) is expected


def test_own_errors_stay() -> None:
    error = OptionError("mine")
    assert translate_error(error, "stub") is error


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("401"), AuthenticationError),
        (Fault("404"), ModelUnavailableError),
        (Fault("429", retry_after=2), RateLimitError),
        (Fault("500"), ServerError),
        (Fault("503", retry_after=1.5), ServerError),
        (Fault("too_many_images", limit=0), BlindModelError),
        (Fault("hang"), ProviderTimeoutError),
        (Fault("reset"), UnreachableError),
        (Fault("cut"), UnreachableError),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
async def test_what_the_openai_client_raises(fault: Fault, expected: type[GemsError]) -> None:
    with StubServer(chat=lambda _messages: "hello") as stub:
        stub.fault(fault)
        wait = 0.5 if fault.name == "hang" else PATIENCE_S
        client = openai.AsyncOpenAI(base_url=stub.base_url, api_key="none", max_retries=0, timeout=wait)
        picture: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
        async with client:
            with pytest.raises(openai.OpenAIError) as caught:
                await client.chat.completions.create(model="stub", messages=[{"role": "user", "content": [picture]}])
    error = translate_error(caught.value, "stub")
    assert type(error) is expected
    assert getattr(error, "retry_after", None) == fault.retry_after
    assert not error.message.endswith(": ")


class Flaky:
    """Fails with the given errors, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def retries_told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, float]]:
    """The error and the seconds to wait of each retry in the log."""
    return [record.args for record in caplog.records if "Retrying" in record.msg]


async def test_retryable_errors_are_retried(caplog: pytest.LogCaptureFixture) -> None:
    call = Flaky(UnreachableError("a"), InvalidImageError("b"), ServerError("c"))
    assert await with_retries(call, attempts=4, first_wait_s=0.001) == "done"
    assert call.calls == 4
    told = retries_told(caplog)
    assert [error for error, _ in told] == ["a", "b", "c"]
    assert 0.001 <= told[0][1] <= 0.002
    assert told[2][1] >= 0.004


async def test_the_last_error_is_raised() -> None:
    call = Flaky(*(ServerError(str(number)) for number in range(5)))
    with pytest.raises(ServerError, match="2"):
        await with_retries(call, attempts=3, first_wait_s=0.001)
    assert call.calls == 3


@pytest.mark.parametrize("error", [AuthenticationError("x"), RefusedError("x"), ValueError("x")])
async def test_other_errors_are_not_retried(error: Exception) -> None:
    call = Flaky(error)
    with pytest.raises(type(error)):
        await with_retries(call, attempts=3, first_wait_s=0.001)
    assert call.calls == 1


async def test_retry_after_is_honoured_up_to_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    call = Flaky(RateLimitError("x", retry_after=0.01), ServerError("x", retry_after=0.0))
    await with_retries(call, first_wait_s=5)
    assert [seconds for _, seconds in retries_told(caplog)] == [0.01, 0.0]
    patient = Flaky(RateLimitError("x", retry_after=61))
    with pytest.raises(RateLimitError):
        await with_retries(patient, first_wait_s=0.001)
    assert patient.calls == 1


async def test_waiting_can_be_cancelled() -> None:
    call = Flaky(ServerError("x"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await with_retries(call, first_wait_s=30)
    assert call.calls == 1


def test_tracebacks_of_translated_errors_hold_no_secret() -> None:
    """They go into logs and traces with all that they came from."""
    request = httpx.Request("POST", "http://host/v1/chat/completions")
    response = httpx.Response(401, text=body(f"the key {SECRET} is wrong"), request=request)
    cause = openai.AuthenticationError(f"Error code: 401 - the key {SECRET}", response=response, body=None)
    cause.__cause__ = ValueError(SECRET, 7)
    cause.__cause__.__context__ = cause
    try:
        raise translate_error(cause, "m", SECRET) from cause
    except GemsError as error:
        told = "".join(traceback.format_exception(error))
    assert SECRET not in told
    assert "Error code: 401 - the key [secret]" in told
    assert cause.__cause__.args == ("[secret]", 7)


@pytest.mark.parametrize(
    "said",
    ['{"error": ' + "[" * 50_000, "a." * 50_000, "at most " + "9" * 5_000 + " images"],
    ids=["nested", "dotted", "number"],
)
def test_answers_of_any_kind_are_told_at_once(said: str) -> None:
    started = time.process_time()
    assert len(error_from_status(400, said, "m", SECRET).message) < 400
    assert time.process_time() - started < 1.5


IMAGE_REQUEST = ImageRequest(prompt="a red cat", seed=1, width=64, height=64)


class Server:
    """Speaks both protocols over TLS, and remembers who asked how."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.connections: set[Any] = set()
        self.url = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        self.versions.append(scope["http_version"])
        self.connections.add(tuple(scope["client"]))
        if scope["path"].startswith("/generate"):
            kind, body = b"image/png", flat_picture(IMAGE_REQUEST)
        else:
            kind, body = b"application/json", json.dumps(answer(scope["path"])).encode()
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        await send(head)
        await send({"type": "http.response.body", "body": body})


def answer(path: str) -> Any:
    if path.endswith("generations"):
        return {"created": 0, "data": [{"b64_json": base64.b64encode(flat_picture(IMAGE_REQUEST)).decode()}]}
    message = {"role": "assistant", "content": "Yes."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@asynccontextmanager
async def running(app: Server, folder: Path, protocols: list[str]) -> AsyncIterator[Server]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.certfile = config.keyfile = str(folder / "server.pem")
    config.alpn_protocols = protocols
    config.errorlog = config.accesslog = None
    sockets = config.create_sockets()
    port = sockets.secure_sockets[0].getsockname()[1]
    # Until the server runs, it would refuse who comes.
    sockets.secure_sockets[0].listen()
    config.create_sockets = lambda: sockets  # type: ignore[method-assign]
    app.url = f"https://127.0.0.1:{port}"
    ended = asyncio.Event()
    serving = asyncio.create_task(serve(app, config, shutdown_trigger=ended.wait))  # type: ignore[arg-type]
    try:
        yield app
    finally:
        ended.set()
        await serving


@pytest.mark.parametrize(("offered", "spoken"), [(["h2", "http/1.1"], "2"), (["http/1.1"], "1.1")])
async def test_what_the_server_offers_is_spoken_over_few_connections(
    offered: list[str], spoken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with running(Server(), tmp_path, offered) as server:
        chat = open_chat(ChatSettings(model=f"openai:m@{server.url}/v1"))
        question = Question(task="verify", system="Task: verify", parts=("Is there a cat?",))
        images = open_generator(GeneratorSettings(model=f"openai:m@{server.url}/v1"))
        plain = open_generator(GeneratorSettings(model=f"http:{server.url}/generate"))
        try:
            for _ in range(3):
                assert (await chat.ask(question)).text == "Yes."
                await images.generate(IMAGE_REQUEST)
                await plain.generate(IMAGE_REQUEST)
        finally:
            await chat.aclose()
            await images.aclose()
            await plain.aclose()
    # The chat server does not stream; this is found out once.
    assert server.versions == [spoken] * 10
    assert len(server.connections) == 3, "each client keeps its connection"
