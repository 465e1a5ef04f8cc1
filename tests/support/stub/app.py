"""The stub's routes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gems.errors import GemsError
from gems.generation import ImageRequest
from tests.support.stub import chat_pictures
from tests.support.stub import responses as wire
from tests.support.stub.error_responses import refusal
from tests.support.stub.faults import CHAT_EDITS, PICTURE_EDITS, Fault
from tests.support.stub.models import ChatBrain, PictureBrain
from tests.support.stub.records import Body, Kind, Record, Recorded, now

_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body>It works!</body></html>"


@dataclass(slots=True)
class Behaviour:
    """How the stub behaves; may be changed while it runs.

    Attributes:
        chat_s: Seconds each chat answer takes.
        image_s: Seconds each picture takes.
        logprobs: Whether log-probabilities are given where asked for.
        reasoning: Sent as `reasoning_content` where the brain gives none.
        revised_prompt: Sent beside each picture where given.
        picture_form: How chat answers hold pictures, as named in `chat_pictures.FORMS`; where it is empty, only
            requests with `modalities` are answered with one.
        cost: US dollars that chat answers with pictures say they cost.
        api_key: The only key that is accepted; None for any or none.
        respond: Answers requests in the stub's place where it gives a response. Called in a thread.
    """

    chat_s: float = 0.0
    image_s: float = 0.0
    logprobs: bool = False
    reasoning: str | None = None
    revised_prompt: str | None = None
    picture_form: str = ""
    cost: float | None = None
    api_key: str | None = None
    respond: Callable[[Recorded], Response | None] | None = None


@dataclass(slots=True)
class World:
    """Everything a request handler needs."""

    chat: ChatBrain
    draw: PictureBrain
    behaviour: Behaviour
    record: Record
    drop: Callable[[Request], Awaitable[None]]
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Reply:
    """An answer in pieces, so that it can drip or be cut."""

    pieces: list[bytes]
    media_type: str = "application/json"


Handler = Callable[[World, Request, Body, list[Fault]], Awaitable[_Reply]]


def build(world: World) -> Starlette:
    """The application."""
    return Starlette(
        routes=[
            _route(world, "/v1/chat/completions", "chat", _chat),
            _route(world, "/v1/images/generations", "images", _generations),
            _route(world, "/v1/images/edits", "images", _generations),
            _route(world, "/generate", "generate", _generate),
            _route(world, "/v1/models", "models", _models, "GET"),
            _route(world, "/files/{name}", "files", _file, "GET"),
        ]
    )


def _route(world: World, path: str, kind: Kind, handler: Handler, method: str = "POST") -> Route:
    async def endpoint(request: Request) -> Response:
        body, files = await _read(request)
        recorded = Recorded(kind, request.url.path, body, dict(request.headers), now(), len(request.url.query), files)
        with world.record.serving(recorded):
            return await _answer(world, request, handler, recorded)

    return Route(path, endpoint, methods=[method])


async def _answer(world: World, request: Request, handler: Handler, recorded: Recorded) -> Response:
    key = world.behaviour.api_key
    if key is not None and recorded.headers.get("authorization") != f"Bearer {key}":
        return JSONResponse(wire.error("Incorrect API key provided.", "invalid_api_key"), 401)
    respond = world.behaviour.respond
    if respond is not None and (response := await asyncio.to_thread(respond, recorded)) is not None:
        return response
    faults = world.record.take(recorded.kind, {**recorded.body, **recorded.files})
    for fault in faults:
        if fault.where == "status":
            return refusal(fault)
        if fault.name == "reset":
            await world.drop(request)
            return Response(status_code=500)
        if fault.name == "hang":
            await asyncio.sleep(fault.seconds)
            return Response(status_code=504)
    try:
        reply = await handler(world, request, {**recorded.body, **recorded.files}, faults)
    except HTTPException:
        raise
    except GemsError as error:
        return JSONResponse(wire.error(str(error)), 400 if error.fault == "request" else 500)
    except Exception as error:  # noqa: BLE001 - brains fail in any way, and who asked should see how
        return JSONResponse(wire.error(f"{type(error).__name__}: {error}"), 500)
    return _response(world, request, _garbled(reply, faults), faults)


async def _read(request: Request) -> tuple[Body, dict[str, bytes]]:
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/form-data"):
        form = await request.form()
        files: dict[str, bytes] = {}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                # Further ones of the same name are numbered.
                files[f"{name}{len(files)}" if name in files else name] = await value.read()
        fields = {n: v for n, v in form.multi_items() if not isinstance(v, UploadFile)}
        await form.close()
        return fields, files
    raw = await request.body()
    body = json.loads(raw) if raw else {}
    return {**request.query_params, **body}, {}


async def _chat(world: World, request: Request, body: Body, faults: list[Fault]) -> _Reply:
    await asyncio.sleep(world.behaviour.chat_s)
    if "image" in (body.get("modalities") or ()) or world.behaviour.picture_form:
        return await _chat_picture(world, request, body, faults)
    answer = await world.chat(body["messages"])
    if answer.reasoning is None and world.behaviour.reasoning is not None:
        answer = replace(answer, reasoning=world.behaviour.reasoning)
    for fault in faults:
        if fault.name in CHAT_EDITS:
            answer = CHAT_EDITS[fault.name](fault, answer)
    logprobs = world.behaviour.logprobs
    if body.get("stream"):
        return _Reply(list(wire.events(body, answer, logprobs=logprobs)), "text/event-stream")
    return _json(wire.completion(body, answer, logprobs=logprobs))


async def _chat_picture(world: World, request: Request, body: Body, faults: list[Fault]) -> _Reply:
    """Answer as chat models do that draw; faults of chats take the picture away."""
    said = next((CHAT_EDITS[fault.name](fault, wire.Answer("")) for fault in faults if fault.name in CHAT_EDITS), None)
    if said is not None:
        return _json(wire.completion(body, said, logprobs=False))
    data = await _picture(world, chat_pictures.read_request(body), 0, faults)
    name = f"{len(world.files)}.png"
    world.files[name] = data
    url = next(
        (fault.text for fault in faults if fault.name == "url" and fault.text), f"{request.base_url}files/{name}"
    )
    answer = wire.completion(body, wire.Answer(None), logprobs=False)
    answer["choices"][0]["message"] |= chat_pictures.FORMS[world.behaviour.picture_form or "images"](data, url)
    answer["usage"] |= {"cost": world.behaviour.cost} if world.behaviour.cost else {}
    return _json(answer)


async def _generations(world: World, request: Request, body: Body, faults: list[Fault]) -> _Reply:
    first = _image_request(body)
    items: list[dict[str, Any]] = []
    for index in range(int(body.get("n") or 1)):
        data = await _picture(world, first, index, faults)
        items.append(_item(world, request, body, data, faults))
    if any(fault.name == "no_picture" for fault in faults):
        items = []
    return _json(wire.images(items, first.prompt))


async def _generate(world: World, request: Request, body: Body, faults: list[Fault]) -> _Reply:
    return _Reply([await _picture(world, _image_request(body), 0, faults)], "image/png")


async def _models(world: World, request: Request, body: Body, faults: list[Fault]) -> _Reply:
    return _json({"object": "list", "data": [{"id": "stub", "object": "model", "owned_by": "gems"}]})


async def _file(world: World, request: Request, body: Body, faults: list[Fault]) -> _Reply:
    if (data := world.files.get(request.path_params["name"])) is None:
        raise HTTPException(404)
    return _Reply([data], "image/png")


async def _picture(world: World, first: ImageRequest, index: int, faults: list[Fault]) -> bytes:
    await asyncio.sleep(world.behaviour.image_s)
    data = await world.draw(replace(first, seed=first.seed + index))
    for fault in faults:
        if fault.name in PICTURE_EDITS:
            data = PICTURE_EDITS[fault.name](fault, data)
    return data


def _item(world: World, request: Request, body: Body, data: bytes, faults: list[Fault]) -> dict[str, Any]:
    asked = next((fault for fault in faults if fault.name == "url"), None)
    revised = world.behaviour.revised_prompt
    more = {"revised_prompt": revised} if revised is not None else {}
    if asked is None and body.get("response_format", "b64_json") != "url":
        return {"b64_json": base64.b64encode(data).decode(), **more}
    name = f"{len(world.files)}.png"
    world.files[name] = data
    return {"url": (asked and asked.text) or f"{request.base_url}files/{name}", **more}


def _image_request(body: Body) -> ImageRequest:
    width, _, height = str(body.get("size") or "").partition("x")
    steps = body.get("num_inference_steps") or body.get("steps")
    guidance = body.get("guidance_scale", body.get("guidance"))
    images = [data for name, data in body.items() if name.startswith("image") and isinstance(data, bytes)]
    images += [data for image in body.get("images") or () if (data := _decode(image)) is not None]
    return ImageRequest(
        prompt=str(body.get("prompt", "")),
        # SGLang's default, so that a client which forgets the seed is noticed.
        seed=int(body.get("seed", 1024)),
        width=int(width) if height else int(body.get("width", 512)),
        height=int(height) if height else int(body.get("height", 512)),
        negative_prompt=str(body.get("negative_prompt", "")),
        steps=int(steps) if steps else None,
        guidance=float(guidance) if guidance is not None else None,
        source=images[0] if images else None,
        references=tuple(images[1:]),
        mask=mask if isinstance(mask := body.get("mask"), bytes) else _decode(mask),
    )


def _decode(image: Any) -> bytes | None:
    """Decode an image of a JSON edit."""
    return base64.b64decode(image["image_url"].partition(",")[2]) if isinstance(image, dict) else None


def _json(value: Any) -> _Reply:
    return _Reply([json.dumps(value).encode()])


def _garbled(reply: _Reply, faults: list[Fault]) -> _Reply:
    whole = b"".join(reply.pieces)
    for fault in faults:
        match fault.name:
            case "truncated_json":
                reply = _Reply([whole[: len(whole) // 2]], reply.media_type)
            case "malformed_json":
                reply = _Reply([b'{"choices": [{"message": oops, "data": ['])
            case "html":
                reply = _Reply([_PAGE], "text/html; charset=utf-8")
            case "no_choices":
                reply = _Reply([b"{}"])
    return reply


def _response(world: World, request: Request, reply: _Reply, faults: list[Fault]) -> Response:
    named: dict[str, Fault] = {fault.name: fault for fault in faults}
    if "drip" not in named and "cut" not in named:
        return StreamingResponse(_all(reply.pieces), media_type=reply.media_type)
    return StreamingResponse(_slowly(world, request, reply, named), media_type=reply.media_type)


async def _all(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _slowly(world: World, request: Request, reply: _Reply, named: dict[str, Fault]) -> AsyncIterator[bytes]:
    whole = b"".join(reply.pieces)
    step = max(1, len(whole) // 20)
    for start in range(0, len(whole), step):
        if "cut" in named and start >= len(whole) // 2:
            await world.drop(request)
            return
        if "drip" in named:
            await asyncio.sleep(named["drip"].seconds / 20)
        yield whole[start : start + step]
