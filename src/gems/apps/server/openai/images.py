"""Streaming of images: partial images while rounds continue, then the result."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse

from gems.apps.server.dependencies import Service
from gems.apps.server.openai.runs import StartedRuns, load_png, watch_until_due
from gems.apps.server.openai.schemas import (
    EditBody,
    ImageEvent,
    ImageEventType,
    ImageFields,
    image_usage,
    quality_of,
)
from gems.apps.serving.openai.pictures import encode_image
from gems.apps.serving.openai.sse import BEAT, format_event, stream_response
from gems.events import Finished, Judged
from gems.results import RunResult

_EVENTS: dict[tuple[bool, bool], ImageEventType] = {
    (False, True): "image_generation.partial_image",
    (False, False): "image_generation.completed",
    (True, True): "image_edit.partial_image",
    (True, False): "image_edit.completed",
}
"""Event names by (is edit, is partial)."""


class Partials:
    """Selects the rounds after which the best image so far is sent.

    The number of rounds is not known, only its maximum. An image is sent after the first round if more than
    one is allowed, and later once no more rounds than images may be left or the loop is about to end.
    """

    def __init__(self, limit: int, rounds: int) -> None:
        self._limit, self._rounds = limit, rounds
        self.sent = 0
        self._score = -1.0
        self._image = ""

    def select_image(self, judged: Judged) -> str | None:
        """Return the id of the image to send after a round, or None."""
        if judged.score > self._score:
            self._score, self._image = judged.score, judged.verdicts[judged.best]["image"]
        left = self._limit - self.sent
        is_early = judged.round == 1 and left > 1
        is_late = self._rounds - judged.round < left or judged.score == 1.0
        if left < 1 or not (is_early or is_late):
            return None
        self.sent += 1
        return self._image


def stream_image(service: Service, begun: StartedRuns, body: ImageFields) -> StreamingResponse:
    """Return the streaming response."""
    return stream_response(_stream_image(service, begun, body), begun)


def size_of(result: RunResult) -> str:
    """Return WIDTHxHEIGHT of a result's image."""
    turn = next(turn for turn in result.rounds if turn["number"] == result.best_round)
    drawn = turn["candidates"][turn["best"]]
    return f"{drawn['width']}x{drawn['height']}"


async def _stream_image(service: Service, begun: StartedRuns, body: ImageFields) -> AsyncGenerator[str]:
    partials = Partials(body.partial_images or 0, body.rounds)
    (run_id,) = begun.run_ids
    size = ""
    async with aclosing(watch_until_due(service, begun, run_id)) as events:
        async for news in events:
            if news is None:
                yield BEAT
            elif news.type == "image":
                size = f"{news.candidate['width']}x{news.candidate['height']}"
            elif isinstance(news, Judged) and (image := partials.select_image(news)):
                png = await service.gems.resources.images.load(image)
                yield await _image_event(body, png, size, partial_image_index=partials.sent - 1)
            elif isinstance(news, Finished):
                yield await _completed_event(service, body, news.result)


async def _completed_event(service: Service, body: ImageFields, result: RunResult) -> str:
    return await _image_event(
        body,
        await load_png(service, result),
        size_of(result),
        revised_prompt=result.final_prompt,
        usage=image_usage([result]),
    )


async def _image_event(body: ImageFields, png: bytes, size: str, **more: Any) -> str:
    kind = body.output_format or "png"
    is_partial, is_edit = "partial_image_index" in more, isinstance(body, EditBody)
    image_event = ImageEvent(
        type=_EVENTS[is_edit, is_partial],
        b64_json=await encode_image(png, kind, body.output_compression),
        output_format=kind,
        quality=quality_of(body.rounds),
        size=size,
        **more,
    )
    return format_event(image_event, image_event.type)
