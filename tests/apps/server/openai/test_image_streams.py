"""Images that are streamed."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from openai import APIError, OpenAI

from gems.apps.server.openai.images import Partials
from gems.errors import RefusedError
from gems.events import Judged
from gems.types import ImageRequest
from tests.apps.server.openai.conftest import Serve
from tests.apps.server.openai.test_images import ASKED, picture, shown
from tests.support.scripted_service import PATIENCE_S, House


def streamed(openai: OpenAI, **given: Any) -> list[Any]:
    with openai.images.generate(**ASKED, stream=True, **given) as events:
        return list(events)


def test_images_on_the_way_and_then_the_result(openai: OpenAI, house: House) -> None:
    house.never_pass()
    *partials, last = streamed(openai, quality="medium", partial_images=2)
    assert [event.type for event in partials] == ["image_generation.partial_image"] * 2
    assert [event.partial_image_index for event in partials] == [0, 1]
    assert all(picture(event.b64_json).size == (64, 64) for event in partials)
    assert last.type == "image_generation.completed"
    assert (last.size, last.quality, last.output_format) == ("64x64", "medium", "png")
    assert picture(last.b64_json).format == "PNG"
    assert last.usage.total_tokens == 15 * len(house.chat.asked)
    assert last.revised_prompt == house.drawn()[0][0]


def test_the_best_image_so_far_is_sent(openai: OpenAI, house: House) -> None:
    """All rounds are alike here, so that the first image stays the best."""
    house.never_pass()
    *partials, last = streamed(openai, quality="medium", partial_images=3)
    assert len(partials) == 3
    assert len({event.b64_json for event in partials}) == 1
    assert picture(last.b64_json).tobytes() == picture(partials[0].b64_json).tobytes()


def test_none_is_sent_on_the_way_where_none_is_wanted(openai: OpenAI, house: House) -> None:
    house.never_pass()
    (last,) = streamed(openai, output_format="webp")
    assert picture(last.b64_json).format == "WEBP"


@pytest.mark.parametrize(
    ("wanted", "rounds", "sent"),
    [(3, 5, [1, 4, 5]), (2, 5, [1, 5]), (1, 5, [5]), (3, 3, [1, 2, 3]), (3, 2, [1, 2]), (0, 5, [])],
)
def test_the_newest_rounds_are_shown(wanted: int, rounds: int, sent: list[int]) -> None:
    partials = Partials(wanted, rounds)
    assert [number for number in range(1, rounds + 1) if partials.select_image(judged(number, 0.5))] == sent


def test_the_round_that_passes_is_shown() -> None:
    partials = Partials(1, 5)
    assert partials.select_image(judged(1, 0.5)) is None
    assert partials.select_image(judged(2, 1.0)) == "2"


def judged(number: int, score: float) -> Judged:
    verdicts: Any = [{"image": str(number), "answers": [], "score": score}]
    return Judged(round=number, verdicts=verdicts, best=0, score=score)


def test_a_fault_in_the_middle_is_an_event(openai: OpenAI, house: House) -> None:
    async def refuse(_request: ImageRequest) -> None:
        raise RefusedError("The filter refuses it.")

    house.generator.before = refuse
    with pytest.raises(APIError, match="The filter refuses it") as caught:
        streamed(openai)
    assert caught.value.code == "content_policy_violation"


def test_silence_is_broken(serve: Serve, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gems.apps.server.openai.runs.BEAT_S", 0.001)
    base = serve()
    with httpx.stream("POST", f"{base}/v1/images/generations", json=ASKED | {"stream": True}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-gems-run-id"]
        text = answer.read().decode()
    assert ": keep-alive\n\n" in text
    assert text.count("event: image_generation.completed\n") == 1


def test_a_client_that_leaves_stops_nothing(openai: OpenAI, house: House) -> None:
    house.never_pass()
    with openai.images.generate(**ASKED, stream=True, partial_images=3) as events:
        assert next(iter(events)).type == "image_generation.partial_image"
        run_id = events.response.headers["x-gems-run-id"]
    limit = time.monotonic() + PATIENCE_S
    while (result := shown(house, run_id)).status != "done":
        assert time.monotonic() < limit
    assert len(result.rounds) == 5
