"""Several people on one server."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai as sdk
import pytest

from gems.apps.server.auth import KeyFile
from gems.generation import ImageRequest
from tests.apps.server.openai.conftest import Client, Serve
from tests.apps.server.openai.test_conversation import streamed
from tests.apps.server.openai.test_errors import CHAT, DRAW, told
from tests.apps.server.openai.test_images import ASKED, shown
from tests.support.scripted_service import PATIENCE_S, House


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/gems"])
def test_a_key_is_needed_where_there_are_keys(base: str, keys: KeyFile, client: Client, path: str) -> None:
    key = keys.add("ann")
    assert told(httpx.get(base + path), 401)["code"] == "invalid_api_key"
    assert httpx.get(base + path, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert httpx.get(base + path, headers={"api-key": key}).status_code == 200
    with pytest.raises(sdk.AuthenticationError) as caught:
        client(base, "gems-wrong").images.generate(**ASKED)
    assert caught.value.code == "invalid_api_key"


def test_nobody_sees_the_images_of_others(base: str, keys: KeyFile, client: Client, house: House) -> None:
    tokens = {name: keys.add(name) for name in ("ann", "bob")}
    raw = client(base, tokens["ann"]).images.with_raw_response.generate(**ASKED)
    address = f"{base}/images/{shown(house, raw.headers['x-gems-run-id']).image_id}"
    seen = {
        name: httpx.get(address, headers={"authorization": f"Bearer {token}"}).status_code
        for name, token in tokens.items()
    }
    assert seen == {"ann": 200, "bob": 404}
    assert httpx.get(address).status_code == 401


def test_images_per_day_are_limited(base: str, keys: KeyFile, client: Client, house: House) -> None:
    openai = client(base, keys.add("ann", images_per_day=4))
    with pytest.raises(sdk.RateLimitError) as caught:
        openai.images.generate(**ASKED)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert house.chat.asked == []
    assert openai.images.generate(**ASKED, quality="medium").data
    with pytest.raises(sdk.RateLimitError):
        openai.images.generate(**ASKED, n=2, extra_body={"max_rounds": 2})


def test_more_images_than_runs_at_a_time_are_never_drawn(base: str, keys: KeyFile, client: Client) -> None:
    openai = client(base, keys.add("ann", runs_at_a_time=2))
    with pytest.raises(sdk.BadRequestError) as caught:
        openai.images.generate(**ASKED, n=3)
    assert caught.value.param == "n"
    assert openai.images.generate(**ASKED, n=2).data


class Drawing:
    """Images that are being drawn, and stand still until they may go on."""

    def __init__(self, house: House) -> None:
        self.now, self.most = 0, 0
        self.may_go_on = threading.Event()
        self._house = house
        house.generator.before = self.wait

    async def wait(self, _request: ImageRequest) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.to_thread(self.may_go_on.wait, PATIENCE_S)
        self.now -= 1

    def until(self, number: int) -> None:
        limit = time.monotonic() + PATIENCE_S
        while self.now < number:
            assert time.monotonic() < limit
            time.sleep(0.01)


def ask(base: str, key: str, path: str = DRAW, **more: Any) -> httpx.Response:
    body = ASKED if path == DRAW else {"messages": [{"role": "user", "content": "a red cat"}]}
    return httpx.post(base + path, json=body | more, headers={"api-key": key}, timeout=PATIENCE_S)


def test_requests_side_by_side_wait_for_each_other(base: str, keys: KeyFile, house: House) -> None:
    key, drawing = keys.add("ann", runs_at_a_time=2), Drawing(house)
    with ThreadPoolExecutor(6) as pool:
        coming = [pool.submit(ask, base, key, DRAW if number % 2 else CHAT) for number in range(6)]
        drawing.until(2)
        drawing.may_go_on.set()
        answers = [one.result() for one in coming]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert drawing.most == 2
    waited = [one.headers for one in answers if "x-gems-queue-position" in one.headers]
    assert len(waited) >= 3
    for headers in waited:
        assert 1 <= int(headers["x-gems-queue-position"]) <= int(headers["x-gems-queue-length"]) <= 6
    assert len({one.headers["x-gems-run-id"] for one in answers}) == 6


def test_past_the_queue_they_are_refused(serve: Serve, keys: KeyFile, house: House) -> None:
    base, key, drawing = serve(queue=1), keys.add("ann", runs_at_a_time=1), Drawing(house)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, base, key)
        drawing.until(1)
        waiting = pool.submit(
            streamed, base, {"messages": [{"role": "user", "content": "a red cat"}]}, **{"api-key": key}
        )
        waiting_for(base, 1)
        refused = ask(base, key)
        error = told(refused, 429)
        assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
        assert "waiting already" in error["message"]
        assert int(refused.headers["retry-after"]) > 0
        assert "x-should-retry" not in refused.headers
        drawing.may_go_on.set()
        assert running.result().status_code == 200
        text = "".join(delta.get("content", "") for delta in waiting.result())
    assert text.startswith("Waiting for a free place: 1 of 1.\n\n")
    assert "Full size" in text


def test_whoever_waits_too_long_is_refused(serve: Serve, keys: KeyFile, house: House) -> None:
    base, key, drawing = serve(), keys.add("ann", runs_at_a_time=1), Drawing(house)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, base, key)
        drawing.until(1)
        late = ask(base, key, deadline_s=0.5)
        assert "1 runs are in progress" in told(late, 429)["message"]
        drawing.may_go_on.set()
        assert running.result().status_code == 200


def test_whoever_leaves_the_queue_starts_nothing(base: str, keys: KeyFile, house: House) -> None:
    key, drawing = keys.add("ann", runs_at_a_time=1), Drawing(house)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, base, key)
        drawing.until(1)
        body = {"stream": True, "messages": [{"role": "user", "content": "a blue dog"}]}
        with httpx.stream("POST", base + CHAT, json=body, headers={"api-key": key}, timeout=PATIENCE_S) as answer:
            assert answer.headers["x-gems-queue-position"] == "1"
        drawing.may_go_on.set()
        assert running.result().status_code == 200
    assert ask(base, key).status_code == 200
    assert {prompt for prompt, _ in house.drawn()} == {"a red cat"}


def test_places_of_the_server_are_given_in_turn(serve: Serve, keys: KeyFile, house: House) -> None:
    base, drawing = serve(runs_at_a_time=1), Drawing(house)
    tokens = {name: keys.add(name, runs_at_a_time=5) for name in ("ann", "bob")}

    def draw(name: str) -> None:
        assert ask(base, tokens[name], prompt=f"a cat for {name}", quality="low").status_code == 200

    with ThreadPoolExecutor(4) as pool:
        coming = [pool.submit(draw, "ann")]
        drawing.until(1)
        coming += [pool.submit(draw, name) for name in ("ann", "ann", "bob")]
        waiting_for(base, 3)
        drawing.may_go_on.set()
        for one in coming:
            one.result()
    assert drawing.most == 1
    assert [prompt.split()[-1] for prompt, _ in house.drawn()] == ["ann", "bob", "ann", "ann"]


def waiting_for(base: str, number: int) -> None:
    """Wait until so many requests wait in the queue."""
    limit = time.monotonic() + PATIENCE_S
    while f"gems_requests_waiting {number}.0" not in httpx.get(f"{base}/metrics").text:
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"tokens_per_day": 10}, "tokens were spent with this key in 24 hours. The limit is 10."),
        ({"usd_per_day": 1e-6}, "US dollars were spent with this key in 24 hours. The limit is 1e-06."),
    ],
)
def test_tokens_and_dollars_are_limited(
    base: str, keys: KeyFile, house: House, client: Client, limits: dict[str, Any], fault: str
) -> None:
    openai = client(base, keys.add("ann", **limits))
    raw = openai.images.with_raw_response.generate(**ASKED)
    with pytest.raises(sdk.RateLimitError, match=fault) as caught:
        openai.images.generate(**ASKED)
    headers = caught.value.response.headers
    assert 86_000 < int(headers["retry-after"]) <= 86_400
    assert headers["x-should-retry"] == "false"
    # Neither a deletion nor another name of the same route gives it back.
    run_id = raw.headers["x-gems-run-id"]
    assert httpx.delete(f"{base}/runs/{run_id}", headers={"api-key": openai.api_key}).status_code == 200
    asked = len(house.chat.asked)
    for path, body in (("/v1/chat/completions", FOLLOWED), ("/runs", {"prompt": "a"}), ("/decompose", {"prompt": "a"})):
        answer = httpx.post(base + path, json=body, headers={"api-key": openai.api_key}, timeout=PATIENCE_S)
        assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert len(house.chat.asked) == asked


FOLLOWED = {
    "messages": [
        {"role": "user", "content": "a red cat"},
        {"role": "assistant", "content": "Here."},
        {"role": "user", "content": "now make it green"},
    ]
}


def test_questions_outside_of_runs_count(base: str, keys: KeyFile, house: House) -> None:
    key = keys.add("ann", tokens_per_day=10)
    assert httpx.post(f"{base}/decompose", json={"prompt": "a"}, headers={"api-key": key}).status_code == 200
    assert ask(base, key).status_code == 429
    assert house.drawn() == []


def test_sdks_do_not_retry_what_is_used_up(base: str, keys: KeyFile, house: House) -> None:
    key = keys.add("ann", images_per_day=1)
    with sdk.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=5) as openai, pytest.raises(sdk.RateLimitError):
        openai.images.generate(**ASKED)
    assert openai.api_key == key
    assert house.chat.asked == []
