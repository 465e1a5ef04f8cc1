"""`POST /v1/chat/completions`: streams the progress of a run, and its image as Markdown."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import StreamingResponse

from gems.apps.run_view import Teller, markdown
from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import Service, caller_of, service_of
from gems.apps.server.openai.errors import RUN_HEADER, new_router
from gems.apps.server.openai.runs import StartedRuns, load_png, start_runs, watch_until_due
from gems.apps.server.openai.schemas import (
    ChatAnswer,
    ChatBody,
    ChatChunk,
    ChatMessage,
    Choice,
    ChunkChoice,
    Delta,
    chat_usage,
    now,
)
from gems.apps.serving.openai.conversation import prompt_of
from gems.apps.serving.openai.pictures import encode_image
from gems.apps.serving.openai.sse import BEAT, STREAM, format_event, stream_response
from gems.errors import InternalError
from gems.events import Finished
from gems.results import RunResult

chat_router = new_router()
_PIECE = 32_768
"""Characters per delta; images are split, since some clients reject long lines."""


@chat_router.post("/v1/chat/completions", response_model=ChatAnswer, responses={200: STREAM})
async def complete(
    body: ChatBody, request: Request, response: Response, caller: Annotated[Caller, Depends(caller_of)]
) -> ChatAnswer | StreamingResponse:
    """Generate an image from the last user message; reply with progress, then the image as Markdown."""
    service = service_of(request)
    begun = await start_runs(service, caller, prompt_of(body.messages), body)
    if body.stream:
        return stream_response(_stream_chunks(service, begun, body), begun)
    response.headers[RUN_HEADER] = begun.run_ids[0]
    return await _complete_reply(service, begun)


async def _complete_reply(service: Service, begun: StartedRuns) -> ChatAnswer:
    text, result = "", None
    async with aclosing(_reply_pieces(service, begun)) as news:
        async for piece in news:
            if isinstance(piece, RunResult):
                result = piece
            else:
                text += piece or ""
    if result is None:
        raise InternalError("A run ended without a result.")
    return ChatAnswer(
        id=_new_completion_id(),
        model=begun.model,
        choices=[Choice(message=ChatMessage(content=text))],
        usage=chat_usage(result),
    )


async def _stream_chunks(service: Service, begun: StartedRuns, body: ChatBody) -> AsyncGenerator[str]:
    frame = ChatChunk(id=_new_completion_id(), created=now(), model=begun.model, choices=[])

    def chunk(delta: Delta, *, is_last: bool = False) -> str:
        choice = ChunkChoice(delta=delta, finish_reason="stop" if is_last else None)
        return format_event(frame.model_copy(update={"choices": [choice]}))

    yield chunk(Delta(role="assistant", content=""))
    async with aclosing(_reply_pieces(service, begun)) as news:
        async for piece in news:
            if piece is None:
                yield BEAT
            elif isinstance(piece, str):
                yield chunk(Delta(content=piece))
            else:
                yield chunk(Delta(), is_last=True)
                if body.stream_options is not None and body.stream_options.include_usage:
                    yield format_event(frame.model_copy(update={"usage": chat_usage(piece)}))
    yield "data: [DONE]\n\n"


async def _reply_pieces(service: Service, begun: StartedRuns) -> AsyncGenerator[str | RunResult | None]:
    """Yield pieces of text, None as keep-alive, and last the result."""
    teller = Teller()
    async with aclosing(watch_until_due(service, begun, begun.run_ids[0])) as events:
        async for news in events:
            if news is None:
                yield None
            elif not isinstance(news, Finished):
                if line := teller.line(news):
                    yield f"{line}\n\n"
            else:
                image = await encode_image(await load_png(service, news.result))
                text = f"{teller.end(news.result)}\n\n{markdown(news.result, image)}"
                for start in range(0, len(text), _PIECE):
                    yield text[start : start + _PIECE]
                yield news.result


def _new_completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"
