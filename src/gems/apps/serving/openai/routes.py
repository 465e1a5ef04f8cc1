"""Routes of the OpenAI-compatible API."""

from __future__ import annotations

from fastapi import Request, Response

from gems.apps.server.openai import chat
from gems.apps.server.openai.errors import AnswerError, failure, new_router
from gems.apps.serving.openai import images, models

router = new_router()
for part in (models.models_router, images.images_router, chat.chat_router):
    router.include_router(part)
_METHODS = {"/v1/images/generations": "POST", "/v1/images/edits": "POST", "/v1/chat/completions": "POST"}


@router.api_route(
    "/v1/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"], include_in_schema=False
)
async def missing(rest: str, request: Request) -> Response:
    """Reject all other paths in OpenAI's error format."""
    requested = f"{request.method} /v1/{rest[:80]}"
    method = _METHODS.get(f"/v1/{rest}", "GET" if rest.split("/", maxsplit=1)[0] == "models" else None)
    if method is None:
        return failure(AnswerError(f"Unknown URL: {requested}.", code="unknown_url", status=404))
    refused = failure(
        AnswerError(f"{requested} is not allowed. Use {method}.", code="method_not_supported", status=405)
    )
    refused.headers["allow"] = method
    return refused
