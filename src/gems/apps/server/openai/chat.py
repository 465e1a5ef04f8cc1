"""/v1/chat/completions, /v1/models."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gems.apps.run_view import RunView
from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service, caller_of, service_of
from gems.apps.server.openai import images, schemas
from gems.apps.server.openai.conversation import ChatRequest, read_request
from gems.apps.server.openai.errors import RUN_ERRORS, STOP_HEADER, AnswerError, OpenAIRoute, failure, new_router
from gems.apps.server.openai.images import STREAM, encode_image, shrink_image, sse_event, stream_response
from gems.apps.server.openai.responses import responses_router
from gems.apps.server.openai.runs import (
    StartedRuns,
    check_model,
    chosen_models,
    load_png,
    model_names,
    outcome_text,
    start_runs,
    stop_if_left,
    wait_unless_left,
    watch_places,
    watch_until_due,
)
from gems.events import Event, Finished, Judged, LessonsRecalled, Planned, RequirementsListed, Warned, wait_for_result
from gems.results import RunResult

_ALT = 120
"""Longest alternative text of an image, in characters."""
_PIECE = 32_768
"""Characters per delta; images are split, since some clients reject long lines."""
_SIDE = 512
"""Pixels of the longer side of an image in a text, which chat programs store and send again with every message."""
_SHOWS_IMAGES = "x-openwebui-"
"""Beginning of headers of a client that takes images beside the text."""
_STOP: Literal["stop"] = "stop"
_STARTED = schemas.now()
_POSTED = ("images/generations", "images/edits", "chat/completions", "responses")


chat_router = new_router(more=RUN_ERRORS)


@chat_router.post(
    "/v1/chat/completions", name="complete_chat", response_model=schemas.ChatAnswer, responses={200: STREAM}
)
async def complete(
    body: schemas.ChatBody, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
) -> schemas.ChatAnswer | EventSourceResponse:
    """Generate or edit an image as the last user message asks; reply with progress, then the image."""
    service = service_of(request)
    asked = await read_request(service, caller, body.messages, chosen_models(service, body))
    if asked.helper is not None:
        return _answer_helper(service, asked.helper, body)
    begun = await start_runs(service, caller, asked.prompt, body, source=asked.source)
    form = ReplyForm(asked, _shows_images(service, body, request), str(request.base_url))
    if body.stream:
        events = stop_if_left(service, begun, _stream_chunks(service, begun, body, form))
        return stream_response(service, events, begun.headers)
    response.headers.update(begun.headers)
    reply, result = await wait_unless_left(service, begun, request, _complete_reply(service, begun, form))
    response.headers[STOP_HEADER] = result.stop_reason or result.status
    return reply


@dataclass(frozen=True, slots=True)
class ReplyForm:
    """How a reply is written: to which request, whether its image stands beside the text, and this server's address."""

    asked: ChatRequest
    shows_images: bool
    base_url: str

    @property
    def beginning(self) -> str:
        """What is said before anything is drawn."""
        return f"Warning: {self.asked.warning}\n\n" if self.asked.warning else ""


def _shows_images(service: Service, body: schemas.ChatBody, request: Request) -> bool:
    """Return whether the client takes images beside the text."""
    wanted = service.settings.serve.chat_images
    if wanted != "auto":
        return wanted == "field"
    return "image" in (body.modalities or ()) or any(name.startswith(_SHOWS_IMAGES) for name in request.headers)


def _answer_helper(service: Service, text: str, body: schemas.ChatBody) -> schemas.ChatAnswer | EventSourceResponse:
    """Return the answer to a request of a chat program for itself."""
    model = check_model(service, body.model)
    if not body.stream:
        choice = schemas.Choice(message=schemas.ChatMessage(content=text))
        return schemas.ChatAnswer(
            id=_new_completion_id(), model=model, choices=[choice], usage=schemas.chat_usage(None)
        )

    async def events() -> AsyncGenerator[ServerSentEvent]:
        frame = schemas.ChatChunk(id=_new_completion_id(), created=schemas.now(), model=model, choices=[])
        for delta, finish in ((schemas.Delta(role="assistant", content=text), None), (schemas.Delta(), _STOP)):
            choice = schemas.ChunkChoice(delta=delta, finish_reason=finish)
            yield sse_event(frame.model_copy(update={"choices": [choice]}))
        if body.stream_options is not None and body.stream_options.include_usage:
            yield sse_event(frame.model_copy(update={"usage": schemas.chat_usage(None)}))
        yield sse_event("[DONE]")

    return stream_response(service, events(), {})


async def _complete_reply(
    service: Service, begun: StartedRuns, form: ReplyForm
) -> tuple[schemas.ChatAnswer, RunResult]:
    run, lines = RunView(), [form.beginning]

    async def collect(event: Event) -> None:
        run.take(event)
        lines.append(progress_line(event, run))

    result = await wait_for_result(watch_until_due(service, begun, begun.run_ids[0]), collect)
    text, images = await _final_reply(service, result, form)
    message = schemas.ChatMessage(content="".join(lines) + text, images=images or None)
    reply = schemas.ChatAnswer(
        id=_new_completion_id(),
        model=begun.model,
        choices=[schemas.Choice(message=message)],
        usage=schemas.chat_usage(result, form.asked.usage),
    )
    return reply, result


async def _stream_chunks(
    service: Service, begun: StartedRuns, body: schemas.ChatBody, form: ReplyForm
) -> AsyncGenerator[ServerSentEvent]:
    frame = schemas.ChatChunk(id=_new_completion_id(), created=schemas.now(), model=begun.model, choices=[])

    def chunk(delta: schemas.Delta, *, is_last: bool = False) -> ServerSentEvent:
        choice = schemas.ChunkChoice(delta=delta, finish_reason=_STOP if is_last else None)
        return sse_event(frame.model_copy(update={"choices": [choice]}))

    yield chunk(schemas.Delta(role="assistant", content=form.beginning))
    async for place in watch_places(begun):
        yield chunk(schemas.Delta(content=f"Waiting for a free place: {place}.\n\n"))
    run = RunView()
    async with aclosing(watch_until_due(service, begun, begun.run_ids[0])) as events:
        async for event in events:
            run.take(event)
            if line := progress_line(event, run):
                yield chunk(schemas.Delta(content=line))
            elif isinstance(event, Finished):
                text, images = await _final_reply(service, event.result, form)
                for start in range(0, len(text), _PIECE):
                    yield chunk(schemas.Delta(content=text[start : start + _PIECE]))
                if images:
                    yield chunk(schemas.Delta(images=images))
                yield chunk(schemas.Delta(), is_last=True)
                if body.stream_options is not None and body.stream_options.include_usage:
                    yield sse_event(
                        frame.model_copy(update={"usage": schemas.chat_usage(event.result, form.asked.usage)})
                    )
    yield sse_event("[DONE]")


def progress_line(event: Event, run: RunView) -> str:
    """Format an event as a paragraph of the reply; empty for most."""
    text = ""
    match event:
        case Planned() if event.plan["skills"]:
            text = f"Skills: {', '.join(event.plan['skills'])}."
        case RequirementsListed():
            text = f"{len(run.questions)} requirements will be checked."
        case Judged():
            judged = run.round(event.round)
            text = f"Round {event.round}: {judged.met} of {len(judged.answers)} met."
            unmet = [name for name, answer in judged.answers.items() if answer["answer"] != "yes"]
            if lacking := " ".join(filter(None, (run.questions.get(name) for name in unmet[:3]))):
                text += f" Not yet: {lacking}"
        case LessonsRecalled() if event.recall["lessons"]:
            text = f"Lessons of earlier runs: {len(event.recall['lessons'])}."
        case Warned():
            text = f"Warning: {event.message}"
    return f"{text}\n\n" if text else ""


async def _final_reply(service: Service, result: RunResult, form: ReplyForm) -> tuple[str, list[schemas.ReplyImage]]:
    """Return the outcome of a run with the address of its image, and the image beside it or small in the text."""
    ending = outcome_text(result)
    # Later messages of the conversation find the image by its address.
    link = f"[Full size]({form.base_url}images/{result.image_id}.png)"
    png = await load_png(service, result)
    if form.shows_images:
        address = schemas.ImageAddress(url=f"data:image/png;base64,{await encode_image(png)}")
        return f"{ending} {link}", [schemas.ReplyImage(image_url=address)]
    words = "".join(" " if letter in "[]()!\\`<>\r\n" else letter for letter in form.asked.prompt)
    small = await asyncio.to_thread(shrink_image, png, _SIDE)
    return f"{ending} {link}\n\n![{' '.join(words.split())[:_ALT]}](data:image/jpeg;base64,{small})", []


def _new_completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


models_router = new_router()


@models_router.get("/v1/models", name="list_models")
async def models(request: Request, _caller: Annotated[Caller, Depends(caller_of)]) -> schemas.Models:
    """List `gems` and the name of the generator; both select the loop with that generator."""
    names = model_names(service_of(request))
    return schemas.Models(data=[schemas.Model(id=name, created=_STARTED) for name in names])


@models_router.get("/v1/models/{name:path}", name="get_model")
async def model(name: str, request: Request, _caller: Annotated[Caller, Depends(caller_of)]) -> schemas.Model:
    """Return a model."""
    return schemas.Model(id=check_model(service_of(request), name), created=_STARTED)


router = APIRouter(route_class=OpenAIRoute)
for part in (models_router, images.images_router, images.edits_router, chat_router, responses_router):
    router.include_router(part)


@router.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], include_in_schema=False)
async def missing(rest: str, request: Request) -> Response:
    """Reject all other paths in OpenAI's error format."""
    requested = f"{request.method} /v1/{rest[:80]}"
    is_model = rest.split("/", maxsplit=1)[0] == "models"
    method = "POST" if rest in _POSTED else "GET" if is_model else None
    if rest == "images/variations":
        message = "Variations are not supported. Use /v1/images/edits with a prompt that says what may differ."
        return failure(AnswerError(message, code="unsupported_endpoint", status=404))
    if method is None:
        return failure(AnswerError(f"Unknown URL: {requested}.", code="unknown_url", status=404))
    error = AnswerError(f"{requested} is not allowed. Use {method}.", code="method_not_supported", status=405)
    refused = failure(error)
    refused.headers["allow"] = method
    return refused
