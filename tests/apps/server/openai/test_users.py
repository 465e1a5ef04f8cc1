"""Several people on one server."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx
import openai as sdk
import pytest

from gems.apps.server.auth import KeyFile
from gems.types import ImageRequest
from tests.apps.server.openai.conftest import Client
from tests.apps.server.openai.test_errors import DRAW, told
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


def test_requests_side_by_side_count_each_other(base: str, keys: KeyFile, house: House) -> None:
    headers = {"api-key": keys.add("ann", runs_at_a_time=2)}
    are_answered = threading.Event()

    async def wait(_request: ImageRequest) -> None:
        await asyncio.to_thread(are_answered.wait, PATIENCE_S)

    house.generator.before = wait

    def ask() -> int:
        return httpx.post(base + DRAW, json=ASKED, headers=headers, timeout=PATIENCE_S).status_code

    with ThreadPoolExecutor(5) as pool:
        coming = as_completed([pool.submit(ask) for _ in range(5)], PATIENCE_S)
        refused = [next(coming).result() for _ in range(3)]
        are_answered.set()
        assert refused == [429] * 3
        assert [one.result() for one in coming] == [200] * 2
