"""What image servers answer besides plain base64: other dresses, refusals, URLs, and formats they do not take."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gems.errors import (
    ConfigurationError,
    GemsError,
    InvalidImageError,
    RateLimitError,
    RefusedError,
    RejectedRequestError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.generation import GeneratedImage, ImageRequest
from gems.models.factory import open_generator
from gems.models.generators import download
from gems.models.generators.download import ImageDownloader, is_public
from gems.models.generators.http import HTTPGenerator
from gems.models.generators.openai import OpenAIImagesGenerator
from gems.models.generators.remote import RemoteLimits
from gems.settings import GeneratorSettings, load_settings
from tests.support.http_server import serving
from tests.support.remote_limits import with_limits
from tests.support.stub.models import flat_picture

KEY = "sk-test-0123456789abcdef"
REQUEST = ImageRequest(prompt="a red circle", seed=7, width=64, height=48)
PNG = flat_picture(REQUEST)
PLAIN = base64.b64encode(PNG).decode()
WITH_IMAGE = (200, {"data": [{"b64_json": PLAIN}]})
Answer = tuple[int, Any]


class Painter:
    """An image server that answers what it is told, and keeps what it was asked."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._endpoint, methods=["POST"])])

    async def _endpoint(self, request: Request) -> Response:
        self.asked.append(await request.json() if await request.body() else {})
        status, content = self.answer(self.asked[-1])
        return JSONResponse(content, status)


class Host:
    """A server with images, which keeps the requests for them."""

    def __init__(self, *answers: Callable[[Request], Response]) -> None:
        self._answers = list(answers)
        self.asked: list[Request] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._endpoint)])

    async def _endpoint(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if self._answers else image
        return answer(request)


def image(_request: Request) -> Response:
    return Response(PNG, media_type="image/png")


def at(url: str) -> Answer:
    return 200, {"data": [{"url": url}]}


Draw = Callable[..., Any]


@pytest.fixture
async def draw() -> AsyncIterator[Draw]:
    """Draws with a painter, on a generator of its own or the one of before."""
    async with AsyncExitStack() as stack:
        generators: dict[int, OpenAIImagesGenerator] = {}

        async def drawn(painter: Painter, **options: Any) -> GeneratedImage:
            if id(painter) not in generators:
                url = stack.enter_context(serving(painter.app))  # type: ignore[arg-type]
                generator = OpenAIImagesGenerator("m", f"{url}/v1", api_key=KEY, **with_limits(options))
                stack.push_async_callback(generator.aclose)
                generators[id(painter)] = generator
            return await generators[id(painter)].generate(REQUEST)

        yield drawn


@pytest.mark.parametrize(
    "item",
    [
        {"b64_json": base64.encodebytes(PNG).decode()},
        {"b64_json": base64.urlsafe_b64encode(PNG).decode().rstrip("=")},
        {"b64_json": f"data:image/png;base64,{PLAIN}"},
        {"b64_json": f"DATA:image/png;name=a.png;BASE64,{PLAIN}"},
        {"b64_json": f'"{PLAIN}"', "url": None},
        {"url": f"Data:image/png;base64,{PLAIN}", "b64_json": ""},
    ],
)
async def test_base64_in_any_dress_is_one_request(draw: Draw, item: dict[str, Any]) -> None:
    painter = Painter(lambda _body: (200, {"data": [item]}))
    assert (await draw(painter)).data == PNG
    assert len(painter.asked) == 1


FILTERED = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": True, "severity": "high"}}
HARMLESS = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}


@pytest.mark.parametrize(
    "body",
    [
        {"data": [], "error": {"code": "content_policy_violation"}},
        {"data": None, "error": {"message": "Rejected by our safety system.", "type": "invalid_request_error"}},
        {"error": {"code": "moderation_blocked", "message": "Your request was blocked."}},
        {"error": "Your request was rejected as a result of our safety system."},
        {"data": [{"error": {"code": "content_policy_violation"}}]},
        {"data": [{"b64_json": None, "content_filter_results": FILTERED}]},
        {"data": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERED}]},
        {"data": [{"b64_json": "", "finish_reason": "content_filter"}]},
        {"candidates": [{"finishReason": "IMAGE_SAFETY"}]},
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
        {"predictions": [{"raiFilteredReason": "The image was filtered out."}]},
        {"id": "1", "status": "Content Moderated", "result": None},
        {"data": [], "has_nsfw_concepts": [True]},
    ],
)
async def test_a_refusal_with_a_good_status_is_asked_once(draw: Draw, body: dict[str, Any]) -> None:
    painter = Painter(lambda _body: (200, body))
    with pytest.raises(RefusedError, match="refused"):
        await draw(painter)
    assert len(painter.asked) == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"data": [], "error": {"message": "Rate limit reached."}}, RateLimitError),
        ({"data": [], "error": {"message": "Something went wrong."}}, UnreadableReplyError),
        ({"data": [{"content_filter_results": HARMLESS}]}, UnreadableReplyError),
        ({"data": [{"revised_prompt": "a poster about our content policy and safety system"}]}, UnreadableReplyError),
        ({"data": [], "status": "ok"}, UnreadableReplyError),
    ],
)
async def test_other_answers_without_an_image_are_asked_again(
    draw: Draw, body: dict[str, Any], error: type[GemsError]
) -> None:
    painter = Painter(lambda _body: (200, body))
    with pytest.raises(error) as caught:
        await draw(painter, attempts=2)
    assert type(caught.value) is error
    assert len(painter.asked) == 2


async def test_an_image_beside_notes_of_the_filter_is_taken(draw: Draw) -> None:
    item = {"b64_json": PLAIN, "content_filter_results": HARMLESS}
    assert (await draw(Painter(lambda _body: (200, {"data": [item]})))).data == PNG


async def test_a_plain_image_server_refuses_too() -> None:
    painter = Painter(lambda _body: (200, {"error": {"code": "content_policy_violation"}}))
    with serving(painter.app) as url:  # type: ignore[arg-type]
        generator = HTTPGenerator(f"{url}/generate", **with_limits({}))
        with pytest.raises(RefusedError):
            await generator.generate(REQUEST)
        await generator.aclose()
    assert len(painter.asked) == 1


# The response format.


def only(*taken: str | None, refusal: Answer) -> Callable[[dict[str, Any]], Answer]:
    """A server that takes these formats; a URL is a data URL here."""

    def answer(body: dict[str, Any]) -> Answer:
        asked = body.get("response_format")
        if asked not in taken:
            return refusal
        return at(f"data:image/png;base64,{PLAIN}") if asked == "url" else WITH_IMAGE

    return answer


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": text, **more}}


@pytest.mark.parametrize(
    ("taken", "refusal", "first"),
    [
        (["url"], (400, said("response_format must be 'url'")), 2),
        (["url"], (400, said("Invalid value: 'b64_json'. Supported values are: 'url'.", param="response_format")), 2),
        (["url"], (500, said("b64_json is not implemented")), 3),
        (["url", None], (422, {"detail": [{"loc": ["body", "response_format"], "msg": "Input should be 'url'"}]}), 2),
        ([None], (400, said("Unknown parameter: 'response_format'.", param="response_format")), 2),
        ([None], (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "no"}]}), 2),
        (["b64_json"], (400, said("response_format must be b64_json")), 1),
    ],
)
async def test_the_format_is_learnt(draw: Draw, taken: list[str | None], refusal: Answer, first: int) -> None:
    painter = Painter(only(*taken, refusal=refusal))
    assert (await draw(painter)).data == PNG
    assert len(painter.asked) == first
    assert (await draw(painter)).data == PNG
    assert len(painter.asked) == first + 1, "it was remembered"
    assert painter.asked[-1].get("response_format") in taken


async def test_a_format_of_the_settings_that_is_refused(draw: Draw) -> None:
    painter = Painter(only("b64_json", refusal=(400, said("response_format: only b64_json is supported"))))
    assert (await draw(painter, extra_body={"response_format": "url"})).data == PNG
    assert [body.get("response_format") for body in painter.asked] == ["url", "b64_json"]


async def test_errors_about_something_else_teach_nothing(draw: Draw) -> None:
    echoed = {"message": "The prompt is bad.", "request": {"response_format": "b64_json"}}
    painter = Painter(lambda _body: (400, echoed))
    with pytest.raises(RejectedRequestError):
        await draw(painter)
    painter.answer = lambda _body: WITH_IMAGE
    await draw(painter)
    assert painter.asked[-1]["response_format"] == "b64_json"


# Images on other hosts.


@contextmanager
def two_servers(host: Host, painter: Painter) -> Iterator[str]:
    """The name, with its port, of a host whose images a painter answers."""
    with serving(host.app) as url:  # type: ignore[arg-type]
        painter.answer = lambda _body: at(f"{url}/images/a.png?sig=secret-signature")
        yield urlsplit(url).netloc


async def test_an_allowed_host_gets_no_key(draw: Draw) -> None:
    host, painter = Host(), Painter(lambda _body: WITH_IMAGE)
    with two_servers(host, painter) as name:
        assert (await draw(painter, image_hosts=[name])).data == PNG
    (asked,) = host.asked
    assert (asked.url.path, asked.url.query) == ("/images/a.png", "sig=secret-signature")
    assert asked.headers["host"] == name
    assert KEY not in str(asked.headers.items())
    assert "authorization" not in asked.headers


async def test_the_hint_can_be_followed(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    host, painter = Host(), Painter(lambda _body: WITH_IMAGE)
    with two_servers(host, painter) as name:
        with pytest.raises(RejectedRequestError, match="another server") as caught:
            await draw(painter)
        assert len(painter.asked) == 1
        assert host.asked == []
        assert "secret-signature" not in str(caught.value)
        setting, _, value = caught.value.hint.split("with ")[1].split(", or")[0].partition("=")
        monkeypatch.setenv(setting, value.strip("'"))
        assert load_settings().generator.image_hosts == [name]
        assert (await draw(Painter(painter.answer), image_hosts=load_settings().generator.image_hosts)).data == PNG


async def test_an_image_that_was_paid_for_is_only_fetched_again(draw: Draw) -> None:
    def failing(status: int, content: bytes = b"") -> Callable[[Request], Response]:
        return lambda _request: Response(content, status)

    faults = failing(404), failing(503), failing(200, PNG[: len(PNG) // 2])
    host, painter = Host(*faults), Painter(lambda _body: WITH_IMAGE)
    with two_servers(host, painter) as name:
        assert (await draw(painter, image_hosts=[name], attempts=4)).data == PNG
    assert (len(painter.asked), len(host.asked)) == (1, 4)
    host = Host(*[failing(500)] * 9)
    could_not = pytest.raises(RejectedRequestError, match="generated an image that could not be fetched")
    with two_servers(host, painter) as name, could_not:
        await draw(again := Painter(painter.answer), image_hosts=[name], attempts=3)
    assert (len(again.asked), len(host.asked)) == (1, 3)


async def test_redirects_lead_to_allowed_hosts_only(draw: Draw) -> None:
    other = Host()
    with serving(other.app) as elsewhere:  # type: ignore[arg-type]
        host = Host(
            lambda _request: RedirectResponse("/b.png"), lambda _request: RedirectResponse(f"{elsewhere}/c.png")
        )
        painter = Painter(lambda _body: WITH_IMAGE)
        with two_servers(host, painter) as name:
            with pytest.raises(RejectedRequestError, match="not allowed"):
                await draw(painter, image_hosts=[name])
            assert (len(host.asked), other.asked) == (2, [])
            both = [name, urlsplit(elsewhere).netloc]
            assert (await draw(Painter(painter.answer), image_hosts=both)).data == PNG
        endless = Host(*[lambda _request: RedirectResponse("/again.png")] * 20)
        with two_servers(endless, painter) as name, pytest.raises(RejectedRequestError, match="too often"):
            await draw(Painter(painter.answer), image_hosts=[name])
        assert len(endless.asked) == 4


async def test_a_huge_answer_of_a_host(draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_IMAGE_BYTES", len(PNG) - 1)
    host, painter = Host(), Painter(lambda _body: WITH_IMAGE)
    with two_servers(host, painter) as name, pytest.raises(RejectedRequestError, match="more than"):
        await draw(painter, image_hosts=[name], attempts=2)
    assert len(painter.asked) == 1


def downloader(*hosts: str, base_url: str = "https://api.example.org/v1") -> ImageDownloader:
    return ImageDownloader(hosts, endpoint="painter", base_url=base_url, timeout_s=5)


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/a.png",
        "https://127.0.0.1/a.png",
        "https://2130706433/a.png",
        "https://0x7f.1/a.png",
        "https://[::1]/a.png",
        "https://[::ffff:10.0.0.1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/a.png",
        "https://100.64.0.1/a.png",
        "https://0.0.0.0/a.png",
    ],
)
async def test_internal_addresses_are_barred_though_they_are_listed(url: str) -> None:
    host = download.urlsplit(url).hostname or ""
    with pytest.raises(RejectedRequestError, match="internal address"):
        await downloader(host).download(url)


@pytest.mark.parametrize("address", ["10.1.2.3", "169.254.0.1", "fe80::1", "fc00::1", "224.0.0.1", "64:ff9b::a00:1",
                                     "2002:a00:1::", "::", "192.168.1.1", "::ffff:127.0.0.1"])  # fmt: skip
def test_what_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_what_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://cdn.example.org/a.png", "not https"),
        ("https://user@cdn.example.org/a.png", "invalid"),
        ("ftp://cdn.example.org/a.png", "invalid"),
        ("https://cdn.example.org:8443/a.png", "not allowed"),
        ("https://cdn.example.org.evil.net/a.png", "not allowed"),
        ("https://evilcdn.example.org/a.png", "not allowed"),
        ("https://images.example.com/a.png", None),
        ("https://deep.images.example.com/a.png", None),
        ("https://example.com/a.png", "not allowed"),
        ("https://CDN.example.org./a.png", None),
    ],
)
async def test_which_hosts_are_allowed(url: str, why: str | None) -> None:
    found = downloader("cdn.example.org", "*.example.com")
    if why is None:
        assert found._check_url(url).host
        return
    with pytest.raises(RejectedRequestError, match=why):
        await found.download(url)


async def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(UnreachableError, match="could not be resolved"):
        await downloader("nothing.invalid").download("https://nothing.invalid/a.png")


@pytest.mark.parametrize("named", ["localhost", "another.example.org"])
async def test_the_certificate_has_to_be_the_hosts(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["host"].encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(named).configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    host = f"localhost:{server.server_address[1]}"
    try:
        asked = downloader(host, base_url="http://127.0.0.1/v1").download(f"https://{host}/a.png")
        if named == "localhost":
            assert await asked == host.encode()
        else:
            with pytest.raises(UnreachableError, match=r"localhost .*CERTIFICATE_VERIFY_FAILED"):
                await asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("host", ["https://cdn.example.org", "cdn.example.org/images", "*", "*.", "a b", ""])
def test_settings_name_hosts(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMS_GENERATOR__IMAGE_HOSTS", f'["{host}"]')
    with pytest.raises(ConfigurationError, match="IMAGE_HOSTS"):
        load_settings()


async def test_settings_reach_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    host, painter = Host(), Painter(lambda _body: WITH_IMAGE)
    with two_servers(host, painter) as name, serving(painter.app) as url:  # type: ignore[arg-type]
        generator = open_generator(GeneratorSettings(model=f"openai:m@{url}/v1", image_hosts=[name]))
        assert (await generator.generate(REQUEST)).data == PNG
        await generator.aclose()


@pytest.mark.parametrize(
    "content",
    [
        {"data": [{"b64_json": "%%%"}]},
        {"data": [{"b64_json": PLAIN[:40]}]},
        {"data": [{"b64_json": f"data:image/png;base64,{PLAIN[:41]}!"}]},
        {"data": [{"url": "data:image/png;base64,oops!"}]},
        {"data": [{"b64_json": 5}]},
        {"data": []},
        {"created": 1},
        [],
    ],
    ids=["signs", "cut", "data URL", "data URL as address", "number", "none", "no list", "a list"],
)
async def test_what_cannot_be_read_is_bought_once_more_only(content: Any) -> None:
    painter = Painter(lambda _body: (200, content))
    with serving(painter.app) as root:
        limits = RemoteLimits(timeout_s=20.0, attempts=4, first_wait_s=0.001)
        generator = OpenAIImagesGenerator("painter", f"{root}/v1", size=(64, 48), limits=limits)
        with pytest.raises((InvalidImageError, UnreadableReplyError)):
            await generator.generate(REQUEST)
        await generator.aclose()
    assert len(painter.asked) == 2


async def test_an_answer_that_can_be_read_the_second_time_is_taken() -> None:
    answers: list[Any] = [{"data": [{"b64_json": "%%%"}]}, WITH_IMAGE[1]]
    painter = Painter(lambda _body: (200, answers.pop(0)))
    with serving(painter.app) as root:
        limits = RemoteLimits(timeout_s=20.0, attempts=4, first_wait_s=0.001)
        generator = OpenAIImagesGenerator("painter", f"{root}/v1", size=(64, 48), limits=limits)
        assert (await generator.generate(REQUEST)).width == 64
        await generator.aclose()
    assert len(painter.asked) == 2
