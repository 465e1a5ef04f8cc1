"""Instruments that say whether an image meets its prompt, independently of the judge that the loop asked.

A patch can make a judge lenient, so the loop's own verdict proves nothing: what counts is known truth, or another
model.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol, get_args

from PIL import Image

from gems.errors import ConfigurationError, RequestError
from gems.models.factory import open_chat
from gems.models.specs import parse_chat_spec
from gems.resources import Resources
from gems.results import RunResult
from gems.runs.rewards import RewardItem, RewardJudge
from gems.settings import Settings
from gems.types import Role, best_round

_WORLD = ("blocks", "blocks:poor")


class Instrument(Protocol):
    """Measures images of finished runs."""

    name: str

    def check(self, prompts: Sequence[str]) -> None:
        """Raise RequestError if nothing can be known about one of the prompts."""
        ...

    async def measure(self, result: RunResult) -> bool | None:
        """Return whether the image of a run meets all of its prompt; None if that cannot be told.

        Raises ImageMissingError if the image is gone.
        """
        ...


@asynccontextmanager
async def open_instrument(settings: Settings, resources: Resources) -> AsyncIterator[Instrument]:
    """Open what measures the images of these models; ConfigurationError if only the loop's own judge could."""
    if resources.generator.capabilities.model in _WORLD:
        yield KnownTruth(resources)
        return
    spec = settings.chat_for("eval_judge")
    if parse_chat_spec(spec.model).kind == "blocks" or spec.model == settings.chat_for("judge").model:
        raise ConfigurationError(
            "Gains would be measured by the judge that the loop asks, which a patch may have made lenient.",
            hint="Set GEMS_EVAL_JUDGE__MODEL to another vision model than the judge's.",
        )
    client = open_chat(spec)
    try:
        roles: tuple[Role, ...] = get_args(Role)
        yield OtherJudge(replace(resources, chats=dict.fromkeys(roles, client)), client.name)
    finally:
        await client.aclose()


class KnownTruth:
    """The scenes of the built-in world, whose truth is known."""

    name = "known truth"

    def __init__(self, resources: Resources) -> None:
        self._images = resources.images

    def check(self, prompts: Sequence[str]) -> None:
        """Raise RequestError for a prompt beyond the built-in world."""
        from gems.models.blocks.prompt_spec import explain_limits  # noqa: PLC0415 - for the built-in world only

        for prompt in prompts:
            if fault := explain_limits(prompt):
                raise RequestError(f"The truth about {prompt[:80]!r} is not known: {fault}", hint="Leave it out.")

    async def measure(self, result: RunResult) -> bool | None:
        """Compare the scene that was really drawn with what the prompt says."""
        data = await self._images.load(result.image_id or "")
        return await asyncio.to_thread(_is_true, result, data)


def _is_true(result: RunResult, data: bytes) -> bool:
    from gems.models.blocks import render, truth  # noqa: PLC0415 - for the built-in world only
    from gems.models.blocks.detection import detect_scene  # noqa: PLC0415
    from gems.models.blocks.prompt_spec import decompose_prompt  # noqa: PLC0415

    turn = best_round(result.rounds)
    candidate = turn["candidates"][turn["best"]]
    if turn.get("parent"):
        with Image.open(io.BytesIO(data)) as picture:
            scene = detect_scene(picture.convert("RGB"))
    else:
        scene = render(turn["prompt"], candidate["seed"], candidate["width"], candidate["height"]).scene
    # Not the run's own requirements, which depend on its models.
    return all(truth(scene, requirement.question) == "yes" for requirement in decompose_prompt(result.prompt))


class OtherJudge:
    """Another model than the loop's judge, with a checklist that is made once per prompt and that no patch changes."""

    def __init__(self, resources: Resources, name: str) -> None:
        self.name = f"judge {name}"
        self._images = resources.images
        self._judge = RewardJudge(resources)

    def check(self, prompts: Sequence[str]) -> None:
        """Accept any prompt."""

    async def measure(self, result: RunResult) -> bool | None:
        """Ask about each requirement of the prompt."""
        image = await self._images.load(result.image_id or "")
        batch = await self._judge.score([RewardItem(result.prompt, image)])
        answers = {requirement.answer for requirement in batch.rewards[0].requirements}
        if not answers or "no" in answers:
            return False if answers else None
        return None if "unknown" in answers else True
