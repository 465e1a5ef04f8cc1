"""Any picture checked against a prompt, as the loop checks its own; nothing is drawn and nothing is kept."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field

from gems.errors import InvalidImageError, RequestError
from gems.memory.images import ImageStore
from gems.models.pictures import MAX_PIXELS, verified_png
from gems.nodes.decomposer import state_requirements
from gems.nodes.options import checked_prompt
from gems.nodes.scoring import pass_rate
from gems.nodes.skill_verifying import answered_by_skills
from gems.nodes.verifying import Judgement, confirmed, judged
from gems.resources import Resources
from gems.results import CheckedRequirement
from gems.state import State
from gems.types import Answer, Requirement, Usage
from gems.work import Work

MAX_BYTES = 50_000_000
"""Largest file that is read as a picture."""
_TEXT_SKILL = "text-rendering"
_ORIENTATION = 0x0112


class Verification(BaseModel):
    """What a picture has of what a prompt asks for."""

    model_config = ConfigDict(frozen=True)

    prompt: str = Field(description="What the picture was checked against.")
    passed: bool = Field(description="Whether every requirement is met, asked twice.")
    score: float = Field(description="Share of requirements met, in [0, 1].")
    requirements: list[CheckedRequirement]
    usage: dict[str, Usage] = Field(description="By planner and judge.")
    warnings: list[str]
    seconds: float


async def verified(image: bytes | Path, prompt: str, resources: Resources) -> Verification:
    """Check a picture; see `Gems.verify`."""
    started = time.monotonic()
    checked_prompt(prompt)
    held = _HeldImage(await asyncio.to_thread(_readable_png, image))
    work = Work(
        context=replace(resources.context(), images=held),
        run_id="",
        round=1,
        profile="balanced",
        deadline_s=None,
        write=lambda _event: None,
    )
    requirements = await state_requirements(prompt, work)
    judgement = await _answered(held.image, prompt, requirements, work)
    answers = [answer["answer"] for answer in judgement.answers]
    return Verification(
        prompt=prompt,
        passed=all(answer == "yes" for answer in answers),
        score=pass_rate(answers),
        requirements=[
            _checked(requirement, answer)
            for requirement, answer in zip(requirements, judgement.answers, strict=True)
        ],
        usage=work.usage,
        warnings=work.warnings,
        seconds=round(time.monotonic() - started, 3),
    )


async def _answered(image: str, prompt: str, requirements: list[Requirement], work: Work) -> Judgement:
    """The same questions as in the loop: first all at once, then each again where all seem met."""
    known = await _read_texts(image, prompt, requirements, work)
    judgement = await judged(image, requirements, work, known)
    if all(answer["answer"] == "yes" for answer in judgement.answers):
        return await confirmed(image, judgement, requirements, work)
    return judgement


async def _read_texts(
    image: str, prompt: str, requirements: list[Requirement], work: Work
) -> dict[str, Answer]:
    """What the reader of the skill for texts says, where the prompt wants some to be seen."""
    from gems.skills.lettering import wanted_texts  # noqa: PLC0415 - much code that few commands need

    if not wanted_texts(prompt) or work.context.skills.get(_TEXT_SKILL) is None:
        return {}
    state: State = {
        "prompt": prompt,
        "requirements": requirements,
        "skill_uses": [
            {
                "name": _TEXT_SKILL,
                "prompt": prompt,
                "restored": [],
                "requirements": [],
                "drawing": {},
                "fault": "",
            }
        ],
    }
    return await answered_by_skills(image, state, work)


def _checked(requirement: Requirement, answer: Answer) -> CheckedRequirement:
    found = {name: answer[name] for name in ("answer", "evidence", "probability", "source")}
    return CheckedRequirement.model_validate({**requirement, **found})


class _HeldImage(ImageStore):
    """A single picture in memory, where the nodes look for stored ones."""

    def __init__(self, png: bytes) -> None:
        super().__init__(Path())
        self.image = hashlib.sha256(png).hexdigest()
        self._held[self.image] = png


def _readable_png(image: bytes | Path) -> bytes:
    """PNG bytes of a picture in a common format, upright. Blocking.

    Raises:
        RequestError: there is no such file, or it holds no picture that can be taken.
    """
    name = image.name if isinstance(image, Path) else "What was sent"
    data = _content(image) if isinstance(image, Path) else image
    if len(data) > MAX_BYTES:
        raise RequestError(f"{name} has more than {MAX_BYTES:,} bytes.", hint="Send a smaller picture.")
    try:
        png, _, _ = verified_png(data, name)
    except InvalidImageError as error:
        # What a file holds that is no picture is nobody's business, so it is not quoted.
        if error.__cause__ is None or isinstance(error.__cause__, Image.DecompressionBombError):
            raise RequestError(
                f"{name} has more than {MAX_PIXELS:,} pixels.", hint="Send a smaller picture."
            ) from None
        raise RequestError(
            f"{name} is no whole picture.", hint="PNG, JPEG and WebP can be checked."
        ) from None
    return png if png is data else _upright(data, png)


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise RequestError(f"There is no file {path}.", hint="Give the path of a picture.")
        # A file may be larger than memory.
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise RequestError(
            f"{str(path)[:200]} cannot be read: {reason}.", hint="Give the path of a picture."
        ) from None


def _upright(data: bytes, png: bytes) -> bytes:
    """The converted picture, turned as cameras say it should be."""
    with Image.open(io.BytesIO(data)) as original:
        orientation = original.getexif().get(_ORIENTATION)
        if orientation in (None, 1):
            return png
        turned = ImageOps.exif_transpose(original).convert("RGB")
    out = io.BytesIO()
    turned.save(out, "PNG")
    return out.getvalue()
