"""/v1/images."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Any, cast

import httpx
from fastapi import Depends, Form, Request, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service, caller_of, event_stream, service_of, with_body
from gems.apps.server.openai import schemas
from gems.apps.server.openai.errors import (
    RUN_ERRORS,
    STOP_HEADER,
    AnswerError,
    OpenAIRoute,
    described,
    failure,
    new_router,
)
from gems.apps.server.openai.runs import (
    StartedRuns,
    chosen_models,
    load_png,
    start_runs,
    stop_if_left,
    supported_size,
    wait_for_results,
    wait_unless_left,
    watch_places,
    watch_until_due,
)
from gems.errors import RequestError
from gems.events import Finished, ImageDrawn, Judged
from gems.generation import GeneratorCapabilities
from gems.memory.source_images import MAX_BASE64, SourceImage, decode_base64, read_mask_image, read_source_image
from gems.models.images import decode_image, flatten_image, open_image
from gems.options import check_editing
from gems.results import RunResult
from gems.runs.output import portable_metadata
from gems.settings import with_models

STREAM: dict[str, Any] = {
    "description": "The response; with `stream`, as server-sent events.",
    "content": {"text/event-stream": {}},
}
"""OpenAPI description of a response that can be streamed."""
PING_S = 15.0
"""Seconds between keep-alive comments, since proxies close idle connections."""
_OPAQUE = 255
_SMALL_QUALITY = 80


async def encode_image(png: bytes, kind: schemas.Format = "png", quality: int | None = None) -> str:
    """Convert a PNG to a format and encode it as base64; `quality` is 0 to 100, which is the default."""
    return await asyncio.to_thread(_encode_image, png, kind, 100 if quality is None else quality)


def _encode_image(png: bytes, kind: schemas.Format, quality: int) -> str:
    if kind == "png":
        # As it is, with its metadata.
        return base64.b64encode(png).decode()
    out, kept = io.BytesIO(), portable_metadata(png)
    picture = decode_image(png, "The store")
    if kind == "jpeg" or not picture.has_transparency_data:
        picture = flatten_image(picture)
    # An EXIF orientation of the picture itself has been applied.
    picture.save(out, kind.upper(), quality=quality, **kept)
    return base64.b64encode(out.getvalue()).decode()


def shrink_image(png: bytes, side: int) -> str:
    """Return an image as a small JPEG in base64, its longer side at most `side` pixels. Blocking."""
    picture = flatten_image(decode_image(png, "The store"))
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_SMALL_QUALITY, optimize=True)
    return base64.b64encode(out.getvalue()).decode()


async def background_of(png: bytes, kind: schemas.Format) -> schemas.Background:
    """Return whether an image has transparent pixels in this format."""
    return await asyncio.to_thread(_background_of, png, kind)


def _background_of(png: bytes, kind: schemas.Format) -> schemas.Background:
    if kind == "jpeg":
        return "opaque"
    with open_image(png) as opened:
        if not opened.has_transparency_data:
            return "opaque"
        lowest, _ = opened.convert("RGBA").getchannel("A").getextrema()
    return "opaque" if lowest == _OPAQUE else "transparent"


def check_background(service: Service, body: schemas.ImageFields) -> None:
    """Raise AnswerError if transparency is asked for that cannot be had."""
    if body.background != "transparent":
        return
    if body.output_format == "jpeg":
        raise AnswerError("A JPEG has no transparency. Use png or webp as output_format.", param="background")
    chosen = chosen_models(service, body).get("generator")
    if with_models(service.settings, generator=chosen).generator.background != "transparent":
        message = (
            "Images are not drawn with a transparent background here. Omit background, or set "
            "GEMS_GENERATOR__BACKGROUND=transparent where GEMS runs, for a generator that draws such images."
        )
        raise AnswerError(message, param="background", code="background_unsupported")


def sse_event(data: BaseModel | str, name: str | None = None) -> ServerSentEvent:
    """Create an event from a model or a text."""
    text = data if isinstance(data, str) else data.model_dump_json(exclude_none=True)
    return ServerSentEvent(text, event=name, sep="\n")


def stream_response(
    service: Service, events: AsyncGenerator[ServerSentEvent], headers: Mapping[str, str]
) -> EventSourceResponse:
    """Return a response that streams events, and an error as its last event."""
    response = event_stream(
        service,
        _with_error_event(events),
        headers={"cache-control": "no-cache", **headers},
        ping=PING_S,
        ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
    )
    # HTTP/2 forbids this header.
    del response.headers["connection"]
    return response


class _ErrorEvent(BaseModel):
    type: str = "error"
    error: dict[str, Any]


async def _with_error_event(events: AsyncGenerator[ServerSentEvent]) -> AsyncGenerator[ServerSentEvent]:
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    except Exception as error:  # noqa: BLE001 - the status is sent already, so the error becomes an event
        yield sse_event(_ErrorEvent(error=described(error)[1].model_dump()), "error")


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


def size_of(result: RunResult) -> str:
    """Return WIDTHxHEIGHT of a result's image."""
    best = next(round_ for round_ in result.rounds if round_["number"] == result.best_round)
    drawn = best["candidates"][best["best"]]
    return f"{drawn['width']}x{drawn['height']}"


async def _stream_image(
    service: Service, begun: StartedRuns, body: schemas.ImageFields
) -> AsyncGenerator[ServerSentEvent]:
    partials = Partials(body.partial_images or 0, body.rounds)
    size = ""
    async for place in watch_places(begun):
        yield ServerSentEvent(comment=f"waiting, place {place}", sep="\n")
    async with aclosing(watch_until_due(service, begun, begun.run_ids[0])) as events:
        async for event in events:
            if isinstance(event, ImageDrawn):
                size = f"{event.candidate['width']}x{event.candidate['height']}"
            elif isinstance(event, Judged) and (image := partials.select_image(event)):
                png = await service.gems.resources.images.load(image)
                yield await _image_event(body, png, size, partial_image_index=partials.sent - 1)
            elif isinstance(event, Finished):
                result = event.result
                more = {
                    "revised_prompt": result.final_prompt,
                    "usage": schemas.image_usage([result]),
                    "stop_reason": result.stop_reason or result.status,
                }
                yield await _image_event(body, await load_png(service, result), size_of(result), **more)


async def _image_event(body: schemas.ImageFields, png: bytes, size: str, **more: Any) -> ServerSentEvent:
    action = "image_edit" if isinstance(body, schemas.EditBody) else "image_generation"
    name = f"{action}.{'partial_image' if 'partial_image_index' in more else 'completed'}"
    kind = body.output_format or "png"
    image_event = schemas.ImageEvent(
        type=cast("schemas.ImageEventType", name),
        b64_json=await encode_image(png, kind, body.output_compression),
        background=await background_of(png, kind),
        output_format=kind,
        quality=schemas.quality_of(body.rounds),
        size=size,
        **more,
    )
    return sse_event(image_event, name)


async def load_source(body: schemas.EditBody, generator: GeneratorCapabilities) -> SourceImage:
    """Decode the image of a request; raise AnswerError or EditingUnsupportedError if it cannot be edited."""
    uploads = body.uploads
    if not uploads:
        raise AnswerError("image is missing.", param="image", code="missing_required_parameter")
    check_editing(generator)
    if len(uploads) > 1:
        message = f"{len(uploads)} images were sent, but only one can be edited."
        raise AnswerError(message, param="image", code="too_many_images")
    try:
        return await asyncio.to_thread(read_source_image, await uploads[0].read())
    except RequestError as error:
        raise AnswerError(f"Invalid image. {error}", param="image", code="invalid_image") from None


async def load_mask(body: schemas.EditBody, source: SourceImage) -> bytes | None:
    """Return the mask of a request, if it has one; raise AnswerError if it does not fit the image."""
    if body.mask is None:
        return None
    data = await body.mask.read()
    try:
        await asyncio.to_thread(read_mask_image, data, (source.width, source.height))
    except RequestError as error:
        raise AnswerError(str(error), param="mask", code="invalid_mask") from None
    return data


images_router = new_router(more=RUN_ERRORS)
_IMAGE_FIELDS = ("image", "image[]", "mask")
_TAKEN = "Send the image as a data URL, as base64, or as a file of multipart/form-data."


class _EditRoute(OpenAIRoute):
    """Route that takes its form as JSON too, and images in it as texts: data URLs or base64."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            form: httpx.Request | None = None
            try:
                if kind == "application/json":
                    form = await asyncio.to_thread(_form_of_json, await request.body())
                elif kind == "multipart/form-data":
                    # The handler finds this form again.
                    given = (await request.form(max_part_size=MAX_BASE64)).multi_items()
                    if any(isinstance(value, str) for name, value in given if name in _IMAGE_FIELDS):
                        items = [(name, v if isinstance(v, str) else await v.read()) for name, v in given]
                        form = await asyncio.to_thread(_form_of_texts, items)
            except Exception as error:  # noqa: BLE001 - reported to the client, and logged if unexpected
                await request.close()
                return failure(error)
            if form is None:
                return await handle(request)
            await request.close()
            form_type = form.headers.get("content-type", "application/x-www-form-urlencoded")
            return await handle(with_body(request, form.read(), form_type))

        return handled


def _form_of_texts(items: list[tuple[str, str | bytes]]) -> httpx.Request:
    """Convert a form in which images are texts to one with files; raise AnswerError for an invalid one. Blocking."""
    images = [(name, value) for name, value in items if name in _IMAGE_FIELDS and value]
    files = [
        (name, ("image", value if isinstance(value, bytes) else _decode_image(value, name.removesuffix("[]"))))
        for name, value in images
    ]
    fields = {name: value for name, value in items if name not in _IMAGE_FIELDS}
    return httpx.Request("POST", "http://form", data=fields, files=files or None)


def _form_of_json(body: bytes) -> httpx.Request:
    """Convert the JSON body of an edit to a form; raise AnswerError if it is invalid. Blocking."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("The body is not valid JSON.", code=None) from None
    if not isinstance(data, dict):
        raise AnswerError("The body is not a JSON object.", code=None)
    fields: dict[str, str] = {}
    files: list[tuple[str, tuple[str, bytes]]] = []
    for name, value in data.items():
        if name in ("image", "image[]", "images", "mask"):
            given = value if isinstance(value, list) else [] if value is None else [value]
            upload = "mask" if name == "mask" else "image"
            files += [(upload, ("image", _decode_image(item, upload))) for item in given]
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            fields[name] = ", ".join(value)
        elif value is not None:
            fields[name] = value if isinstance(value, str) else json.dumps(value)
    try:
        return httpx.Request("POST", "http://form", data=fields, files=files or None)
    except UnicodeEncodeError:
        raise AnswerError("The body is not valid Unicode.") from None


def _decode_image(given: Any, param: str) -> bytes:
    """Return the bytes of an image in a JSON body: base64, a data URL, or an object that holds one."""
    value = given
    for name in ("image_url", "url", "b64_json"):
        value = value.get(name, value) if isinstance(value, dict) else value
    if not isinstance(value, str) or not value:
        fault = "Files cannot be stored here." if isinstance(given, dict) and "file_id" in given else "Invalid image."
        raise AnswerError(f"{fault} {_TAKEN}", param=param, code="invalid_image")
    if "://" in value[:20]:
        raise AnswerError(f"Images are not fetched from addresses. {_TAKEN}", param=param, code="invalid_image_url")
    try:
        return decode_base64(value, param, _TAKEN)
    except RequestError as error:
        raise AnswerError(str(error), param=param, code="invalid_image") from None


edits_router = new_router(_EditRoute, RUN_ERRORS)
_IMAGES = {
    "type": "array",
    "items": {"type": "object", "properties": {"image_url": {"type": "string"}}, "required": ["image_url"]},
    "description": "One image, as a data URL or base64.",
}
_JSON_FORM = {
    "type": "object",
    "description": "The fields of the form, with the image as text.",
    "properties": {"prompt": {"type": "string"}, "images": _IMAGES},
    "required": ["prompt", "images"],
}
_AS_JSON = {"requestBody": {"content": {"application/json": {"schema": _JSON_FORM}}}}


@images_router.post(
    "/v1/images/generations", name="generate_image", response_model=schemas.ImagesAnswer, responses={200: STREAM}
)
async def generate(
    body: schemas.ImageBody, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
) -> schemas.ImagesAnswer | EventSourceResponse:
    """Generate one or more images; each comes from its own run, which checks and refines it."""
    return await _run_images(request, caller, body, response)


@edits_router.post(
    "/v1/images/edits",
    name="edit_image",
    response_model=schemas.ImagesAnswer,
    responses={200: STREAM},
    openapi_extra=_AS_JSON,
)
async def edit(
    body: Annotated[schemas.EditBody, Form(media_type="multipart/form-data")],
    request: Request,
    response: Response,
    caller: Annotated[Caller, Depends(caller_of)],
) -> schemas.ImagesAnswer | EventSourceResponse:
    """Edit an image; each result comes from its own run, which checks the change and retries."""
    service = service_of(request)
    generator = service.gems.resources.context(chosen_models(service, body)).generator.capabilities
    supported_size(body.size, generator)
    source = await load_source(body, generator)
    mask = await load_mask(body, source)
    return await _run_images(request, caller, body, response, source, mask)


async def _run_images(
    request: Request,
    caller: Caller,
    body: schemas.ImageFields,
    response: Response,
    source: SourceImage | None = None,
    mask: bytes | None = None,
) -> schemas.ImagesAnswer | EventSourceResponse:
    service = service_of(request)
    if body.stream and body.count > 1:
        raise AnswerError("A streamed response contains one image; omit n.", param="n")
    check_background(service, body)
    begun = await start_runs(service, caller, body.prompt, body, body.count, source, mask)
    if body.stream:
        events = stop_if_left(service, begun, _stream_image(service, begun, body))
        return stream_response(service, events, begun.headers)
    response.headers.update(begun.headers)
    results = await wait_unless_left(service, begun, request, wait_for_results(service, begun))
    response.headers[STOP_HEADER] = ",".join(result.stop_reason or result.status for result in results)
    kind = body.output_format or "png"
    pngs = [await load_png(service, result) for result in results]
    data = [
        schemas.ImageData(
            b64_json=await encode_image(png, kind, body.output_compression), revised_prompt=result.final_prompt
        )
        for result, png in zip(results, pngs, strict=True)
    ]
    return schemas.ImagesAnswer(
        data=data,
        background=await background_of(pngs[0], kind),
        output_format=kind,
        quality=schemas.quality_of(body.rounds),
        size=size_of(results[0]),
        usage=schemas.image_usage(results),
    )
