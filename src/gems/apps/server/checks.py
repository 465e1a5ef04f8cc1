"""/verify and /decompose: checklists without a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import caller_of, service_of
from gems.apps.server.schemas import StrictBody
from gems.options import MAX_PROMPT
from gems.runs.source_images import MAX_BASE64, decode_base64
from gems.runs.verification import Decomposition, Verification

router = APIRouter(tags=["checks"])
CurrentCaller = Annotated[Caller, Depends(caller_of)]


class DecomposeRequest(StrictBody):
    """Request to list the requirements of a prompt."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What an image should show.")


class VerifyRequest(DecomposeRequest):
    """Request to check an image against a prompt."""

    image: str = Field(max_length=MAX_BASE64, description="PNG, JPEG, WebP, GIF, AVIF or HEIC image as base64.")


@router.post("/verify")
async def verify(request: Request, body: VerifyRequest, caller: CurrentCaller) -> Verification:
    """Check an image against a prompt as runs check their own; nothing is generated or stored."""
    service = service_of(request)
    await service.access.admit(caller, 0)
    return await service.gems.verify(decode_base64(body.image, "image"), body.prompt)


@router.post("/decompose")
async def decompose(request: Request, body: DecomposeRequest, caller: CurrentCaller) -> Decomposition:
    """List the requirements of a prompt as runs check them; nothing is generated or stored."""
    service = service_of(request)
    await service.access.admit(caller, 0)
    return await service.gems.decompose(body.prompt)
