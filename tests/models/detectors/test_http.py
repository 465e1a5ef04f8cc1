"""The HTTP detector against a server that behaves and misbehaves."""

import asyncio
import json
from typing import Any

import pytest

from gems.errors import (
    AuthenticationError,
    GemsError,
    ModelSpecError,
    ModelUnavailableError,
    ProviderTimeoutError,
    RejectedRequestError,
    ServerError,
    UnreachableError,
    UnreadableReplyError,
)
from gems.models.chat.vision import red_square
from gems.models.detectors.base import DetectionRequest, ObjectDetector
from gems.models.detectors.http import HTTPDetector
from gems.models.http import MAX_CHAT_BYTES
from tests.support.detectors import found, serving_detector
from tests.support.scripted_service import PATIENCE_S

KEY = "sk-test-0123456789abcdef"
SIDE = 200
REQUEST = DetectionRequest(image=red_square(SIDE), phrases=("red square", "cat"))


def detector(url: str, **options: Any) -> HTTPDetector:
    return HTTPDetector(url, **{"first_wait_s": 0.001, "timeout_s": PATIENCE_S, **options})


async def test_sends_the_form_of_the_task_and_reads_its_answer() -> None:
    with serving_detector([found("red square", 0.8, 20, 20, 100, 100), found("cat", 0.2, 0, 0, 10, 10)]) as server:
        asked = detector(f"{server.url}?model=owl", api_key=KEY, threshold=0.4)
        assert isinstance(asked, ObjectDetector)
        seen = await asked.detect(REQUEST)
        await asked.aclose()
    assert [(each.phrase, each.score, each.box) for each in seen.objects] == [
        ("red square", 0.8, [100, 100, 500, 500]),
        ("cat", 0.2, [0, 0, 50, 50]),
    ]
    (sent,) = server.asked
    assert sent["parameters"] == {"candidate_labels": ["red square", "cat"], "threshold": 0.2}
    assert sent["image"] == REQUEST.image
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in asked.name


async def test_nothing_found_and_nothing_asked() -> None:
    with serving_detector([]) as server:
        assert (await detector(server.url).detect(REQUEST)).objects == ()
        nothing = DetectionRequest(image=REQUEST.image, phrases=())
        assert (await detector(server.url).detect(nothing)).objects == ()
    assert len(server.asked) == 1


async def test_boxes_that_json_cannot_write_are_left_out() -> None:
    strange = b'[{"label": "cat", "score": 0.9, "box": {"xmin": NaN, "ymin": 0, "xmax": 9, "ymax": 9}}, %s]'
    good = json.dumps(found("cat", 0.9, 90, 90, 10, 10)).encode()
    with serving_detector(strange % good) as server:
        assert [each.box for each in (await detector(server.url).detect(REQUEST)).objects] == [[50, 50, 450, 450]]


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        b"[" * 100_000,
        b'{"detections": []}',
        b'["cat"]',
        [{"label": "cat", "score": 0.9}],
        [{"label": "cat", "score": 0.9, "box": [0, 0, 9, 9]}],
        [found("cat", 0.9, -9, -9, -1, -1)],
        b"x" * (MAX_CHAT_BYTES + 1),
    ],
)
async def test_an_answer_that_cannot_be_read(answer: Any) -> None:
    with serving_detector(answer) as server, pytest.raises(UnreadableReplyError, match=r"(detector|server) at"):
        await detector(server.url, attempts=1).detect(REQUEST)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (404, ModelUnavailableError),
        (422, RejectedRequestError),
        (307, RejectedRequestError),
    ],
)
async def test_an_error_that_asking_again_does_not_change(status: int, error: type[GemsError]) -> None:
    with serving_detector(status) as server, pytest.raises(error, match="The detector at http://127"):
        await detector(server.url).detect(REQUEST)
    assert len(server.asked) == 1


async def test_a_server_that_fails_for_a_moment_is_asked_again() -> None:
    with serving_detector(503, 429, [found("cat", 0.9, 0, 0, 9, 9)]) as server:
        assert len((await detector(server.url).detect(REQUEST)).objects) == 1
    assert len(server.asked) == 3
    with serving_detector(500) as server, pytest.raises(ServerError):
        await detector(server.url, attempts=2).detect(REQUEST)
    assert len(server.asked) == 2


async def test_a_slow_server_is_asked_once() -> None:
    with (
        serving_detector(float(PATIENCE_S)) as server,
        pytest.raises(ProviderTimeoutError, match="did not answer in time"),
    ):
        await detector(server.url, timeout_s=0.2).detect(REQUEST)
    assert len(server.asked) == 1


async def test_a_dead_server() -> None:
    with serving_detector([]) as server:
        url = server.url
    with pytest.raises(UnreachableError, match="The detector at"):
        await detector(url, attempts=2).detect(REQUEST)


async def test_no_secret_in_errors() -> None:
    with (
        serving_detector(json.dumps({"error": f"bad key {KEY}"}).encode()) as server,
        pytest.raises(GemsError) as raised,
    ):
        await detector(server.url, api_key=KEY, attempts=1).detect(REQUEST)
    assert KEY not in str(raised.value)


async def test_many_requests_at_once() -> None:
    with serving_detector([found("cat", 0.9, 0, 0, 9, 9)]) as server:
        one = detector(server.url)
        seen = await asyncio.gather(*(one.detect(REQUEST) for _ in range(8)))
    assert [len(each.objects) for each in seen] == [1] * 8


def test_urls_that_are_none() -> None:
    with pytest.raises(ModelSpecError):
        HTTPDetector("ftp://host/detect")
    assert HTTPDetector(f"http://host/detect?key={KEY}").name == "http:http://host/detect"
