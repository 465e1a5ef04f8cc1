"""/v1/chat/completions, /v1/models."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import Depends, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gems.apps.run_view import RunView
from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service, caller_of, service_of
from gems.apps.server.openai import images, schemas
from gems.apps.server.openai.errors import RUN_HEADER, AnswerError, failure, new_router
from gems.apps.server.openai.images import STREAM, encode_image, sse_event, stream_response
from gems.apps.server.openai.runs import StartedRuns, check_model, load_png, model_names, start_runs, watch_until_due
from gems.events import Event, Finished, Judged, LessonsRecalled, Planned, RequirementsListed, Warned, wait_for_result
from gems.options import MAX_PROMPT
from gems.results import RunResult

_ALT = 120
"""Longest alternative text of an image, in characters."""
_PIECE = 32_768
"""Characters per delta; images are split, since some clients reject long lines."""
_STARTED = schemas.now()
_METHODS = {"/v1/images/generations": "POST", "/v1/images/edits": "POST", "/v1/chat/completions": "POST"}


def prompt_of(messages: Sequence[schemas.Message]) -> str:
    """Return the text of the last user message; raise AnswerError if it is missing or not text."""
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    if last is None:
        raise AnswerError("messages contains no user message.", param="messages")
    text = _message_text(last).strip()
    if not text:
        raise AnswerError("The last user message has no text.", param="messages")
    if len(text) > MAX_PROMPT:
        raise AnswerError(f"The last user message has more than {MAX_PROMPT:,} characters.", param="messages")
    if text.startswith("### Task:") and "<chat_history>" in text:
        # Open WebUI asks the selected model to write titles and tags of conversations.
        message = "This model only generates images; select another one for Open WebUI tasks."
        raise AnswerError(message, param="messages")
    return text


def _message_text(message: schemas.Message) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text":
            found = f"Unsupported content type: {part.type[:40]!r}."
            hint = "Only text is allowed; URLs are not fetched. Edit images with /v1/images/edits."
            raise AnswerError(f"{found} {hint}", param="messages")
    return "\n".join(part.text or "" for part in message.content)


chat_router = new_router()


@chat_router.post("/v1/chat/completions", response_model=schemas.ChatAnswer, responses={200: STREAM})
async def complete(
    body: schemas.ChatBody, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
) -> schemas.ChatAnswer | EventSourceResponse:
    """Generate an image from the last user message; reply with progress, then the image as Markdown."""
    service = service_of(request)
    begun = await start_runs(service, caller, prompt_of(body.messages), body)
    if body.stream:
        return stream_response(service, _stream_chunks(service, begun, body), begun)
    response.headers[RUN_HEADER] = begun.run_ids[0]
    return await _complete_reply(service, begun)


async def _complete_reply(service: Service, begun: StartedRuns) -> schemas.ChatAnswer:
    run, lines = RunView(), []

    async def collect(event: Event) -> None:
        run.take(event)
        lines.append(progress_line(event, run))

    result = await wait_for_result(watch_until_due(service, begun, begun.run_ids[0]), collect)
    text = "".join(lines) + await _final_text(service, result)
    return schemas.ChatAnswer(
        id=_new_completion_id(),
        model=begun.model,
        choices=[schemas.Choice(message=schemas.ChatMessage(content=text))],
        usage=schemas.chat_usage(result),
    )


async def _stream_chunks(
    service: Service, begun: StartedRuns, body: schemas.ChatBody
) -> AsyncGenerator[ServerSentEvent]:
    frame = schemas.ChatChunk(id=_new_completion_id(), created=schemas.now(), model=begun.model, choices=[])

    def chunk(delta: schemas.Delta, *, is_last: bool = False) -> ServerSentEvent:
        choice = schemas.ChunkChoice(delta=delta, finish_reason="stop" if is_last else None)
        return sse_event(frame.model_copy(update={"choices": [choice]}))

    yield chunk(schemas.Delta(role="assistant", content=""))
    run = RunView()
    async with aclosing(watch_until_due(service, begun, begun.run_ids[0])) as events:
        async for event in events:
            run.take(event)
            if line := progress_line(event, run):
                yield chunk(schemas.Delta(content=line))
            elif isinstance(event, Finished):
                text = await _final_text(service, event.result)
                for start in range(0, len(text), _PIECE):
                    yield chunk(schemas.Delta(content=text[start : start + _PIECE]))
                yield chunk(schemas.Delta(), is_last=True)
                if body.stream_options is not None and body.stream_options.include_usage:
                    yield sse_event(frame.model_copy(update={"usage": schemas.chat_usage(event.result)}))
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


async def _final_text(service: Service, result: RunResult) -> str:
    """Return the outcome of a run, and its image as Markdown."""
    met = sum(item.answer == "yes" for item in result.requirements)
    reason = f" ({result.stop_reason})" if result.stop_reason else ""
    ending = f"Round {result.best_round} is best: {met} of {len(result.requirements)} met{reason}."
    words = "".join(" " if letter in "[]()!\\`<>\r\n" else letter for letter in result.prompt)
    alt = " ".join(words.split())[:_ALT]
    image = await encode_image(await load_png(service, result))
    return f"{ending}\n\n![{alt}](data:image/png;base64,{image})"


def _new_completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


models_router = new_router()


@models_router.get("/v1/models")
async def models(request: Request, _caller: Annotated[Caller, Depends(caller_of)]) -> schemas.Models:
    """List `gems` and the name of the generator; both select the loop with that generator."""
    names = model_names(service_of(request))
    return schemas.Models(data=[schemas.Model(id=name, created=_STARTED) for name in names])


@models_router.get("/v1/models/{name:path}")
async def model(name: str, request: Request, _caller: Annotated[Caller, Depends(caller_of)]) -> schemas.Model:
    """Return a model."""
    return schemas.Model(id=check_model(service_of(request), name), created=_STARTED)


router = new_router()
for part in (models_router, images.images_router, images.edits_router, chat_router):
    router.include_router(part)


@router.api_route("/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], include_in_schema=False)
async def missing(rest: str, request: Request) -> Response:
    """Reject all other paths in OpenAI's error format."""
    requested = f"{request.method} /v1/{rest[:80]}"
    method = _METHODS.get(f"/v1/{rest}", "GET" if rest.split("/", maxsplit=1)[0] == "models" else None)
    if method is None:
        return failure(AnswerError(f"Unknown URL: {requested}.", code="unknown_url", status=404))
    error = AnswerError(f"{requested} is not allowed. Use {method}.", code="method_not_supported", status=405)
    refused = failure(error)
    refused.headers["allow"] = method
    return refused
