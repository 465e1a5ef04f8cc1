"""Check any image against a prompt, or only decompose the prompt; nothing is generated or stored."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gems.memory.images import ImageStore
from gems.memory.source_images import read_png
from gems.nodes.checklist import Judgement, ask_verifiers, judge_image
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import complete_requirements, state_requirements
from gems.nodes.judge import all_met, confirm, doubtful_answers, recheck
from gems.options import NO_OPTIONS, check_prompt
from gems.resources import Resources
from gems.results import CheckedRequirement, check_requirements
from gems.state import State
from gems.types import Answer, Requirement, SkillUse, Usage, pass_rate

_TEXT_SKILL = "text-rendering"


class Verification(BaseModel):
    """Result of checking an image against a prompt."""

    model_config = ConfigDict(frozen=True)

    prompt: str = Field(description="The prompt that the image was checked against.")
    passed: bool = Field(description="Whether every requirement is met, asked twice.")
    score: float = Field(description="Share of requirements met, in [0, 1].")
    requirements: list[CheckedRequirement]
    usage: dict[str, Usage] = Field(description="By planner and judge.")
    warnings: list[str]
    seconds: float


class Decomposition(BaseModel):
    """The requirements of a prompt."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    requirements: list[Requirement]
    unchecked: list[str] = Field(description="Parts of the prompt that no requirement checks.")
    usage: dict[str, Usage] = Field(description="By planner and judge.")
    warnings: list[str]


async def verify_image(image: bytes | Path, prompt: str, resources: Resources) -> Verification:
    """Check an image; see `Gems.verify`."""
    started = time.monotonic()
    check_prompt(prompt)
    held = SingleImageStore(await asyncio.to_thread(read_png, image))
    work = open_work(resources, held)
    requirements, unchecked = await list_requirements(prompt, work)
    judgement = await _judge_image(held.image, prompt, requirements, work)
    answers = [answer["answer"] for answer in judgement.answers]
    return Verification(
        prompt=prompt,
        passed=all(answer == "yes" for answer in answers) and not unchecked,
        score=pass_rate(answers),
        requirements=check_requirements(requirements, judgement.answers),
        usage=work.usage,
        warnings=work.warnings,
        seconds=round(time.monotonic() - started, 3),
    )


async def decompose_prompt(prompt: str, resources: Resources) -> Decomposition:
    """List the requirements of a prompt; see `Gems.decompose`."""
    check_prompt(prompt)
    work = open_work(resources)
    requirements, unchecked = await list_requirements(prompt, work)
    return Decomposition(
        prompt=prompt, requirements=requirements, unchecked=unchecked, usage=work.usage, warnings=work.warnings
    )


def open_work(
    resources: Resources, images: ImageStore | None = None, options: Mapping[str, Any] = NO_OPTIONS
) -> NodeContext:
    """Return a context for questions outside of runs, which no ledger records; `options` may name models on offer."""
    return NodeContext(
        context=replace(resources.context(options), images=images or resources.images),
        run_id="",
        round=1,
        profile="balanced",
        deadline_s=None,
        write=lambda _event: None,
    )


async def list_requirements(prompt: str, work: NodeContext) -> tuple[list[Requirement], list[str]]:
    """Return the requirements that runs check, and what could not become one."""
    requirements, unchecked = await state_requirements(prompt, work)
    completed = await complete_requirements({"prompt": prompt, "requirements": requirements}, work)
    return completed.get("requirements", requirements), [*unchecked, *completed.get("unchecked", [])]


async def _judge_image(image: str, prompt: str, requirements: list[Requirement], work: NodeContext) -> Judgement:
    """Ask the same questions as the loop: all at once, and again where little is missing."""
    known = await read_texts(image, prompt, requirements, work)
    judgement = await judge_image(image, requirements, work, known)
    judgement = await recheck(image, judgement, doubtful_answers(judgement.answers), requirements, work)
    if all_met(judgement.answers):
        return await confirm(image, judgement, requirements, work)
    return judgement


async def read_texts(image: str, prompt: str, requirements: list[Requirement], work: NodeContext) -> dict[str, Answer]:
    """Read the texts in the image if the prompt asks for some, with the skill for texts."""
    from gems.skills.lettering import wanted_texts  # noqa: PLC0415 - much code for few commands

    asked = any(requirement["kind"] == "text" for requirement in requirements) or wanted_texts(prompt)
    if not asked or work.context.skills.get(_TEXT_SKILL) is None:
        return {}
    use: SkillUse = {
        "name": _TEXT_SKILL,
        "prompt": prompt,
        "restored": [],
        "requirements": [],
        "drawing": {},
        "fault": "",
    }
    state: State = {"prompt": prompt, "requirements": requirements, "skill_uses": [use]}
    return await ask_verifiers(image, state, work)


class SingleImageStore(ImageStore):
    """A single image in memory, as the image store of nodes."""

    def __init__(self, png: bytes) -> None:
        super().__init__(Path())
        self.image = hashlib.sha256(png).hexdigest()
        self._in_memory[self.image] = png
