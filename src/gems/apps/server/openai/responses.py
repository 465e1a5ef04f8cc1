"""/v1/responses."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from itertools import count
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service, caller_of, service_of
from gems.apps.server.openai import schemas
from gems.apps.server.openai.conversation import ChatRequest, read_request
from gems.apps.server.openai.errors import RUN_ERRORS, STOP_HEADER, AnswerError, new_router
from gems.apps.server.openai.images import (
    STREAM,
    Partials,
    background_of,
    check_background,
    encode_image,
    size_of,
    sse_event,
    stream_response,
)
from gems.apps.server.openai.runs import (
    StartedRuns,
    check_model,
    chosen_models,
    load_png,
    outcome_text,
    start_runs,
    stop_if_left,
    wait_unless_left,
    watch_places,
    watch_until_due,
)
from gems.events import Finished, Judged
from gems.results import RunResult

_UNSUPPORTED = {
    "previous_response_id": "Responses are not stored. Send the conversation in input.",
    "conversation": "Conversations are not stored. Send the messages in input.",
    "background": "Start a run with POST /runs instead, and watch its events.",
    "prompt": "Prompt templates are not stored. Send the text in input.",
}
_TOOL = "image_generation"
_CALL = "image_generation_call"
_IGNORED = ("reasoning", "compaction")
"""Items of earlier responses of other servers that say nothing about images."""

responses_router = new_router(more=RUN_ERRORS)


@responses_router.post(
    "/v1/responses", name="create_response", response_model=schemas.ResponseAnswer, responses={200: STREAM}
)
async def respond(
    body: schemas.ResponseBody, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
) -> schemas.ResponseAnswer | EventSourceResponse:
    """Generate or edit an image as the last user message asks; reply with the image and what it meets."""
    service = service_of(request)
    tool = _find_tool(body)
    frame = schemas.ResponseAnswer(id=_new_id("resp"), model=check_model(service, body.model), tools=[tool])
    asked = await _read_input(service, caller, body, tool)
    if asked.helper is not None:
        answered = _answer_helper(_Events(frame), asked.helper)
        return stream_response(service, _as_sse(answered), {}) if body.stream else await _last_response(answered)
    fields = _image_fields(body, tool, asked.prompt)
    check_background(service, fields)
    begun = await start_runs(service, caller, asked.prompt, fields, source=asked.source)
    frame.metadata["run_id"] = begun.run_ids[0]
    events = _generate(service, begun, fields, asked, _Events(frame))
    if body.stream:
        return stream_response(service, stop_if_left(service, begun, _as_sse(events)), begun.headers)
    response.headers.update(begun.headers)
    reply = await wait_unless_left(service, begun, request, _last_response(events))
    response.headers[STOP_HEADER] = reply.metadata["stop_reason"]
    return reply


def _find_tool(body: schemas.ResponseBody) -> schemas.ImageTool:
    """Return the only tool of a request; raise AnswerError if it asks for anything else."""
    for name, hint in _UNSUPPORTED.items():
        if getattr(body, name):
            raise AnswerError(f"{name} is not supported. {hint}", param=name, code="unsupported_parameter")
    tools = body.tools or []
    for tool in tools:
        if tool.type != _TOOL:
            message = f"Unsupported tool: {tool.type!r}. The only tool is {_TOOL!r}."
            raise AnswerError(message, param="tools", code="unsupported_parameter")
        if tool.input_image_mask:
            message = "input_image_mask is not supported. Send the mask to /v1/images/edits."
            raise AnswerError(message, param="tools", code="unsupported_parameter")
    if len(tools) != 1 or body.tool_choice == "none":
        message = f'Only images are generated here. Send "tools": [{{"type": "{_TOOL}"}}] and no tool_choice.'
        raise AnswerError(message, param="tool_choice" if tools else "tools")
    return tools[0]


async def _read_input(
    service: Service, caller: Caller, body: schemas.ResponseBody, tool: schemas.ImageTool
) -> ChatRequest:
    """Return what the input asks for; raise AnswerError if it cannot be done, or not as `action` says."""
    items = [schemas.InputItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    try:
        messages = [_message_of(item) for item in items if item.type not in _IGNORED]
        asked = await read_request(service, caller, messages, chosen_models(service, body))
    except AnswerError as error:
        if error.details.param == "messages":
            error.details.param = "input"
        raise
    action = "generate" if asked.source is None else "edit"
    if asked.helper is None and tool.action not in (None, "auto", action):
        found = "refers to an image, which would be edited" if asked.source else "refers to no image"
        raise AnswerError(f"action is {tool.action}, but the last user message {found}.", param="tools")
    return asked


def _message_of(item: schemas.InputItem) -> schemas.Message:
    if item.type == _CALL:
        picture = schemas.Part(type="input_image", image_url=f"data:image/png;base64,{item.result or ''}")
        return schemas.Message(role="assistant", content=[picture])
    if item.type != "message" or item.role is None:
        found = f"an item of type {item.type!r}" if item.type != "message" else "a message without a role"
        raise AnswerError(f"input has {found}. Send messages and items of type {_CALL!r}.", param="input")
    return schemas.Message(role=item.role, content=item.content)


def _image_fields(body: schemas.ResponseBody, tool: schemas.ImageTool, prompt: str) -> schemas.ImageBody:
    """Return the request as one to generate an image."""
    given = body.model_dump(include=set(schemas.RunFields.model_fields), exclude_none=True)
    given |= tool.model_dump(include=set(schemas.ImageBody.model_fields), exclude_none=True)
    if not body.stream:
        given["partial_images"] = 0
    return schemas.ImageBody.model_validate(given | {"prompt": prompt})


class _Events:
    """Creates the events of one response, numbered."""

    def __init__(self, frame: schemas.ResponseAnswer) -> None:
        self._frame, self._number = frame, count()

    def create(self, kind: str, **fields: Any) -> schemas.ResponseEvent:
        """Create an event of the type `response.KIND`."""
        return schemas.ResponseEvent(type=f"response.{kind}", sequence_number=next(self._number), **fields)

    def create_state(self, kind: str, **changes: Any) -> schemas.ResponseEvent:
        """Create an event with the response itself, in which `changes` are new."""
        state = {"status": "in_progress" if kind == "created" else kind}
        self._frame = self._frame.model_copy(update=state | changes)
        return self.create(kind, response=self._frame)

    def create_message(self, index: int, message: schemas.OutputMessage) -> Iterator[schemas.ResponseEvent]:
        """Create the events of a complete message with one text."""
        (part,) = message.content
        item = {"output_index": index, "item_id": message.id, "content_index": 0}
        begun = message.model_copy(update={"status": "in_progress", "content": []})
        yield self.create("output_item.added", output_index=index, item=begun)
        yield self.create("content_part.added", **item, part=schemas.OutputText(text=""))
        yield self.create("output_text.delta", **item, delta=part.text, logprobs=[])
        yield self.create("output_text.done", **item, text=part.text, logprobs=[])
        yield self.create("content_part.done", **item, part=part)
        yield self.create("output_item.done", output_index=index, item=message)


async def _generate(
    service: Service, begun: StartedRuns, fields: schemas.ImageBody, asked: ChatRequest, events: _Events
) -> AsyncGenerator[schemas.ResponseEvent]:
    """Yield the events of a response: those of its image, then those of what is said about it."""
    kind = fields.output_format or "png"
    action = "generate" if asked.source is None else "edit"
    call = schemas.ImageCall(id=_new_id("ig"), action=action)
    item = {"output_index": 0, "item_id": call.id}
    yield events.create_state("created")
    async for _place in watch_places(begun):
        yield events.create_state("queued")
    yield events.create_state("in_progress")
    yield events.create("output_item.added", output_index=0, item=call)
    yield events.create(f"{_CALL}.in_progress", **item)
    yield events.create(f"{_CALL}.generating", **item)
    partials = Partials(fields.partial_images or 0, fields.rounds)
    async with aclosing(watch_until_due(service, begun, begun.run_ids[0])) as watched:
        async for event in watched:
            if isinstance(event, Judged) and (image := partials.select_image(event)):
                png = await service.gems.resources.images.load(image)
                partial = {
                    "partial_image_b64": await encode_image(png, kind, fields.output_compression),
                    "partial_image_index": partials.sent - 1,
                    "output_format": kind,
                }
                yield events.create(f"{_CALL}.partial_image", **item, **partial)
            elif isinstance(event, Finished):
                result = event.result
    png = await load_png(service, result)
    made = {
        "status": "completed",
        "result": await encode_image(png, kind, fields.output_compression),
        "revised_prompt": result.final_prompt,
        "background": await background_of(png, kind),
        "output_format": kind,
        "quality": schemas.quality_of(fields.rounds),
        "size": size_of(result),
    }
    call = call.model_copy(update=made)
    yield events.create(f"{_CALL}.completed", **item)
    yield events.create("output_item.done", output_index=0, item=call)
    message = _message_with(_verdicts_text(result, asked.warning))
    for said in events.create_message(1, message):
        yield said
    yield events.create_state(
        "completed",
        output=[call, message],
        usage=schemas.ResponseUsage.of(schemas.chat_usage(result, asked.usage)),
        metadata={"run_id": result.run_id, "stop_reason": result.stop_reason or result.status},
    )


def _message_with(text: str) -> schemas.OutputMessage:
    return schemas.OutputMessage(id=_new_id("msg"), status="completed", content=[schemas.OutputText(text=text)])


def _verdicts_text(result: RunResult, warning: str) -> str:
    """Say what an image meets, one requirement a line."""
    lines = [f"Warning: {warning}"] if warning else []
    lines += [outcome_text(result), *(f"- {item.question} {item.answer}" for item in result.requirements)]
    return "\n".join(lines)


async def _answer_helper(events: _Events, text: str) -> AsyncGenerator[schemas.ResponseEvent]:
    """Yield the events of the answer to a request of a chat program for itself."""
    yield events.create_state("created")
    message = _message_with(text)
    for said in events.create_message(0, message):
        yield said
    usage = schemas.ResponseUsage.of(schemas.chat_usage(None))
    yield events.create_state("completed", output=[message], usage=usage)


async def _as_sse(events: AsyncGenerator[schemas.ResponseEvent]) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(events):
        async for event in events:
            yield sse_event(event, event.type)


async def _last_response(events: AsyncGenerator[schemas.ResponseEvent]) -> schemas.ResponseAnswer:
    """Return the response as it is after its last event."""
    async with aclosing(events):
        states = [event.response async for event in events if event.response is not None]
    return states[-1]


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"
