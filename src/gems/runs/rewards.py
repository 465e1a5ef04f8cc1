"""Rewards of images for trainers: one look per image, by a checklist that is made once per prompt."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from gems.errors import GemsError, InvalidImageError, RequestError
from gems.memory.source_images import read_png
from gems.nodes.checklist import judge_image
from gems.options import check_prompt
from gems.resources import Resources
from gems.runs.verification import SingleImageStore, list_requirements, open_work, read_texts
from gems.types import AnswerValue, Requirement, RequirementKind, Usage, merge_usage

T = TypeVar("T")
CHECKLISTS = "checklists"
"""In place of a run in the ledger, which keeps the requirements of prompts."""
MOST_ITEMS = 256
"""Most images of a request."""
MOST_QUESTIONS = 60
_KEPT = 20_000
"""Rewards that are remembered by prompt, image and checklist."""


@dataclass(frozen=True, slots=True)
class RewardItem:
    """An image for a prompt; with `questions`, yes/no questions in place of the prompt's own requirements."""

    prompt: str
    image: bytes = field(repr=False)
    questions: tuple[str, ...] = ()


class RequirementReward(BaseModel):
    """The answer to one requirement."""

    model_config = ConfigDict(frozen=True)

    question: str
    kind: RequirementKind
    answer: AnswerValue
    probability: float | None = Field(description="Of yes, in [0, 1]: the model's own where it tells; else 1 or 0.")
    evidence: str


class Reward(BaseModel):
    """The reward of one image."""

    model_config = ConfigDict(frozen=True)

    score: float | None = Field(
        description="Mean of the probabilities in [0, 1], unknown as 0; null if nothing could be judged."
    )
    requirements: list[RequirementReward]
    checklist: str = Field(description="Digest of the questions; only rewards with the same one compare.")
    cached: bool = Field(description="Whether the same image was judged before.")
    error: str | None = Field(None, description="Why there is no score.")


class RewardBatch(BaseModel):
    """Rewards in the order of the items."""

    model_config = ConfigDict(frozen=True)

    rewards: list[Reward]
    usage: dict[str, Usage] = Field(
        description="By planner and judge; a checklist that was kept counts with what it cost when it was made."
    )
    warnings: list[str]


class RewardJudge:
    """Judges images for trainers; see `Gems.rewards`.

    The requirements of a prompt are kept in the ledger, so that they stay the same over restarts. Rewards are
    remembered in memory; the same image is judged once even if it is asked for twice at a time.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._judged: OrderedDict[str, asyncio.Task[Reward]] = OrderedDict()
        self._listed: OrderedDict[str, asyncio.Task[list[Requirement]]] = OrderedDict()

    async def score(self, items: Sequence[RewardItem]) -> RewardBatch:
        """Return the rewards of at most `MOST_ITEMS` images.

        An image that cannot be read or judged has no score and an error; the others keep theirs.

        Raises:
            RequestError: There are too many items, or one has an empty prompt or too many questions.
        """
        _check(items)
        usages: list[dict[str, Usage]] = []
        warnings: list[str] = []
        rewards = await asyncio.gather(*(self._score(item, usages, warnings) for item in items))
        usage: dict[str, Usage] = {}
        for used in usages:
            usage = merge_usage(usage, used)
        return RewardBatch(rewards=rewards, usage=usage, warnings=list(dict.fromkeys(warnings)))

    async def _score(self, item: RewardItem, usages: list[dict[str, Usage]], warnings: list[str]) -> Reward:
        try:
            png = await asyncio.to_thread(read_png, item.image)
            requirements = await self._requirements(item, usages, warnings)
        except GemsError as error:
            return _without_score(error)
        key = hashlib.sha256(png).hexdigest() + _digest(requirements)
        known = self._judged.get(key)
        if known is None:
            known = asyncio.ensure_future(self._judge(item.prompt, png, requirements, usages, warnings))
            _remember(self._judged, key, known)
            is_cached = False
        else:
            self._judged.move_to_end(key)
            is_cached = True
        try:
            # Another request may wait for the same judgement: it goes on if this one is cancelled.
            reward = await asyncio.shield(known)
        except GemsError as error:
            self._judged.pop(key, None)
            return _without_score(error)
        return reward.model_copy(update={"cached": is_cached})

    async def _requirements(
        self, item: RewardItem, usages: list[dict[str, Usage]], warnings: list[str]
    ) -> list[Requirement]:
        if item.questions:
            return [
                {"id": f"r{number}", "question": question, "kind": "other", "parents": []}
                for number, question in enumerate(item.questions, 1)
            ]
        listing = self._listed.get(item.prompt)
        if listing is None:
            listing = asyncio.ensure_future(self._list(item.prompt, usages, warnings))
            _remember(self._listed, item.prompt, listing)
        try:
            return await asyncio.shield(listing)
        except GemsError:
            self._listed.pop(item.prompt, None)
            raise

    async def _list(self, prompt: str, usages: list[dict[str, Usage]], warnings: list[str]) -> list[Requirement]:
        work = replace(open_work(self._resources), run_id=CHECKLISTS)
        try:
            requirements, unchecked = await list_requirements(prompt, work)
        finally:
            usages.append(work.usage)
            warnings += work.warnings
        warnings += [f"No requirement checks this part of a prompt: {part}" for part in unchecked]
        return requirements

    async def _judge(
        self,
        prompt: str,
        png: bytes,
        requirements: list[Requirement],
        usages: list[dict[str, Usage]],
        warnings: list[str],
    ) -> Reward:
        held = SingleImageStore(png)
        work = open_work(self._resources, held)
        try:
            known = await read_texts(held.image, prompt, requirements, work)
            judgement = await judge_image(held.image, requirements, work, known)
        finally:
            usages.append(work.usage)
            warnings += work.warnings
        found = [
            RequirementReward(
                question=requirement["question"],
                kind=requirement["kind"],
                answer=answer["answer"],
                probability=_probability(answer["answer"], answer["probability"]),
                evidence=answer["evidence"],
            )
            for requirement, answer in zip(requirements, judgement.answers, strict=True)
        ]
        known_ones = [each for each in found if each.probability is not None]
        score = sum(each.probability or 0.0 for each in found) / len(found) if known_ones else None
        return Reward(
            score=score,
            requirements=found,
            checklist=_digest(requirements),
            cached=False,
            error=None if known_ones else "The judge answered none of the questions.",
        )


def _remember(tasks: OrderedDict[str, asyncio.Task[T]], key: str, task: asyncio.Task[T]) -> None:
    tasks[key] = task
    while len(tasks) > _KEPT:
        tasks.popitem(last=False)


def _check(items: Sequence[RewardItem]) -> None:
    if not 1 <= len(items) <= MOST_ITEMS:
        raise RequestError(f"There are {len(items):,} items.", hint=f"Send 1 to {MOST_ITEMS} in a request.")
    for item in items:
        check_prompt(item.prompt)
        if len(item.questions) > MOST_QUESTIONS or not all(question.strip() for question in item.questions):
            raise RequestError(
                f"A checklist has {len(item.questions)} questions, or an empty one.",
                hint=f"Send at most {MOST_QUESTIONS} questions that can be answered by yes or no.",
            )


def _probability(answer: AnswerValue, known: float | None) -> float | None:
    if answer == "unknown":
        return None
    return known if known is not None else float(answer == "yes")


def _digest(requirements: Sequence[Requirement]) -> str:
    asked = json.dumps([requirement["question"] for requirement in requirements], ensure_ascii=False)
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def _without_score(error: GemsError) -> Reward:
    whose = "" if isinstance(error, InvalidImageError | RequestError) else f" {error.hint}".rstrip()
    return Reward(score=None, requirements=[], checklist="", cached=False, error=f"{error.message}{whose}")
