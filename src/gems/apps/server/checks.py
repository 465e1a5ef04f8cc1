"""/verify, /decompose and /v1/rewards: checklists without a run."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from gems.apps.server.auth import Caller
from gems.apps.server.dependencies import caller_of, service_of
from gems.apps.server.openai.errors import REWARDS_PATH
from gems.apps.server.schemas import ANY_ERRORS, StrictBody, error_responses
from gems.memory.source_images import MAX_BASE64, decode_base64
from gems.options import MAX_PROMPT
from gems.runs.rewards import MOST_ITEMS, MOST_QUESTIONS, RewardBatch, RewardItem
from gems.runs.verification import Decomposition, Verification

router = APIRouter(tags=["checks"], responses=error_responses(*ANY_ERRORS, 413, 429, 502))
CurrentCaller = Annotated[Caller, Depends(caller_of)]


class DecomposeRequest(StrictBody):
    """Request to list the requirements of a prompt."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What an image should show.")


class VerifyRequest(DecomposeRequest):
    """Request to check an image against a prompt."""

    image: str = Field(max_length=MAX_BASE64, description="PNG, JPEG, WebP, GIF, AVIF or HEIC image as base64.")


@router.post("/verify", name="verify_image")
async def verify(request: Request, body: VerifyRequest, caller: CurrentCaller) -> Verification:
    """Check an image against a prompt as runs check their own; nothing is generated or stored."""
    service = service_of(request)
    async with service.access.beginning(caller, 0):
        image = decode_base64(body.image, "image")
    checked = await service.gems.verify(image, body.prompt)
    await service.gems.resources.ledger.enter_questions(caller.owner, checked.usage)
    return checked


@router.post("/decompose", name="decompose_prompt")
async def decompose(request: Request, body: DecomposeRequest, caller: CurrentCaller) -> Decomposition:
    """List the requirements of a prompt as runs check them; nothing is generated or stored."""
    service = service_of(request)
    async with service.access.beginning(caller, 0):
        prompt = body.prompt
    decomposed = await service.gems.decompose(prompt)
    await service.gems.resources.ledger.enter_questions(caller.owner, decomposed.usage)
    return decomposed


class RewardRequestItem(VerifyRequest):
    """An image to be judged for a prompt."""

    checklist: list[str] = Field(
        default=[], max_length=MOST_QUESTIONS, description="Yes/no questions in place of the prompt's requirements."
    )


class RewardRequest(StrictBody):
    """Images to be judged; rewards come in the same order."""

    items: list[RewardRequestItem] = Field(min_length=1, max_length=MOST_ITEMS)


@router.post(REWARDS_PATH, name="score_images")
async def reward(request: Request, body: RewardRequest, caller: CurrentCaller) -> RewardBatch:
    """Judge images for a trainer: one look each, by a checklist that is made once per prompt and kept."""
    service = service_of(request)
    async with service.access.beginning(caller, 0):
        items = [
            RewardItem(item.prompt, decode_base64(item.image, f"items[{number}].image"), tuple(item.checklist))
            for number, item in enumerate(body.items)
        ]
    batch = await service.gems.rewards.score(items)
    await service.gems.resources.ledger.enter_questions(caller.owner, batch.usage)
    return batch
