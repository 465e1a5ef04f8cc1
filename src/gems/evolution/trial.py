"""Try a patch: runs without and with it, of the same prompts and seeds, until it is proven, refused or paid out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gems.errors import CorruptStoreError, ImageMissingError, OptionError, ProviderError, RefusedError
from gems.evals.records import gather_or_cancel
from gems.evolution.instruments import Instrument
from gems.evolution.significance import Plan, count_pairs, fewest_pairs, p_of_signs, share_of_alpha
from gems.files.shared import write_atomically
from gems.memory.patches import Counts, Evidence, Patch
from gems.memory.sqlite import storage_error
from gems.options import MAX_ROUNDS, check_prompt, derived_seed, resolve_options
from gems.results import RunResult
from gems.service import Gems

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
BATCH = 8
"""Pairs that are run at a time, between which it is decided whether to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRequest:
    """What a patch is tried on.

    Attributes:
        prompts: Held-out prompts, on which it must be better.
        keep: Prompts that pass today, on which it must not be worse.
        budget: Most images of all runs together.
        rounds: Most rounds of a run; None for the default of runs.
        seed: From which each prompt's seed is derived.
        batch: Pairs at a time.
    """

    prompts: Sequence[str]
    keep: Sequence[str]
    budget: int
    rounds: int | None = None
    seed: int = 0
    batch: int = BATCH

    def checked(self) -> TrialRequest:
        """Return the request without repeated prompts; OptionError or PromptError if it is invalid."""
        prompts, keep = (
            tuple(dict.fromkeys(check_prompt(text).strip() for text in s)) for s in (self.prompts, self.keep)
        )
        if not prompts:
            raise OptionError("There are no held-out prompts.", hint="Name a file with one prompt per line.")
        if not keep:
            raise OptionError(
                "The preservation set is empty, so nothing would show what the patch spoils.",
                hint="Name a file with prompts that pass today, one per line.",
            )
        if both := set(prompts) & set(keep):
            raise OptionError(
                f"{len(both)} prompts are in both sets, such as {min(both)[:80]!r}.", hint="Each may be in one only."
            )
        if self.rounds is not None and not 1 <= self.rounds <= MAX_ROUNDS:
            raise OptionError(f"rounds is {self.rounds}; it must be from 1 to {MAX_ROUNDS}.")
        if self.budget < 1 or self.batch < 1:
            raise OptionError("Budget and batch must be at least 1.")
        return TrialRequest(
            prompts=prompts, keep=keep, budget=self.budget, rounds=self.rounds, seed=self.seed, batch=self.batch
        )


class PairOutcome(BaseModel):
    """One pair of runs."""

    model_config = ConfigDict(frozen=True)

    part: Literal["held", "keep"]
    number: int = Field(description="Of the prompt in its part, from 0.")
    without: bool | None = Field(description="Whether the image without the patch meets everything; null: not known.")
    with_patch: bool | None
    images: tuple[int, int]
    runs: tuple[str, str]
    fault: str = ""


class TrialPlan(BaseModel):
    """What a trial will do, told before it begins."""

    model_config = ConfigDict(frozen=True)

    patch: str
    trial: str
    held: int = Field(description="Pairs of held-out prompts.")
    keep: int = Field(description="Pairs of prompts that are to go on passing.")
    done: int = Field(description="Pairs that an interrupted trial has left.")
    images_low: int = Field(description="Expected images, if it is not ended early.")
    images_high: int = Field(description="Images with all rounds; no more than the budget are made.")
    usd_high: float | None = Field(description="US dollars with all rounds; null if a price is not known.")
    budget: int
    level: float = Field(description="p-value to reach.")
    tried: int = Field(description="Which trial on these prompts it is, from 1.")
    needed: int = Field(description="Least number of better pairs that can prove anything.")
    measured_by: str


class TrialRecord(BaseModel):
    """A trial on disk."""

    id: str
    patch: str
    created: str
    prompts: list[str]
    keep: list[str]
    level: float
    tried: int
    outcomes: list[PairOutcome] = []


class Trial:
    """One trial of a patch, which continues where it was interrupted."""

    def __init__(self, gems: Gems, instrument: Instrument, patch: Patch, request: TrialRequest, folder: Path) -> None:
        self._gems, self._instrument, self._patch = gems, instrument, patch
        self._request = request
        self._base = gems.resources.patches.current.in_force
        self._folder = folder / "trials"
        identity = [patch.id, request.prompts, request.keep, request.seed, request.rounds, self._base]
        models = gems.resources.models()
        self.id = hashlib.sha256(json.dumps([*identity, models, instrument.name]).encode()).hexdigest()[:12]
        self._record = self._load(self.id) or self._new_record()

    def _new_record(self) -> TrialRecord:
        # Another seed or another patch on a prompt is another chance to be lucky.
        mine = set(self._request.prompts)
        earlier = [record for record in self._others() if record.outcomes and mine & set(record.prompts)]
        tried = len(earlier) + 1
        return TrialRecord(
            id=self.id,
            patch=self._patch.id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            prompts=list(self._request.prompts),
            keep=list(self._request.keep),
            level=share_of_alpha(tried),
            tried=tried,
        )

    def _others(self) -> Iterable[TrialRecord]:
        found = (self._load(path.stem) for path in self._folder.glob("*.json"))
        return [record for record in found if record is not None and record.id != self.id]

    def _load(self, name: str) -> TrialRecord | None:
        path = self._folder / f"{name}.json"
        try:
            return TrialRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error, path) from error
        except ValidationError as error:
            raise CorruptStoreError(
                f"The trial in {path} is damaged, so the trials on its prompts cannot be counted.",
                hint="Restore the file from a backup, or remove it and use prompts that were in no trial.",
            ) from error

    def _save(self) -> None:
        path = self._folder / f"{self.id}.json"
        try:
            write_atomically(path, self._record.model_dump_json(indent=1).encode())
        except OSError as error:
            raise storage_error(error, path) from error

    @property
    def _plan(self) -> Plan:
        return Plan(held=len(self._request.prompts), keep=len(self._request.keep), level=self._record.level)

    async def plan(self) -> TrialPlan:
        """Return what the trial will do; OptionError if it could prove nothing."""
        request, needed = self._request, fewest_pairs(self._record.level)
        if len(request.prompts) < needed:
            raise OptionError(
                f"{len(request.prompts)} held-out prompts can prove nothing: this is trial {self._record.tried} on "
                f"some of them, so at least {needed} are needed.",
                hint="Add prompts, or use others.",
            )
        pairs = len(request.prompts) + len(request.keep)
        each = await self._gems.estimate(request.prompts[0], **self._arguments(request.prompts[0], with_patch=True))
        low = 2 * (needed + len(request.keep)) * max(1, each.images_low)
        if request.budget < 2 * (needed + len(request.keep)):
            raise OptionError(
                f"A budget of {request.budget} images can prove nothing: at least {needed} pairs of held-out prompts "
                f"and {len(request.keep)} of the preservation set are needed, with two images each."
            )
        return TrialPlan(
            patch=self._patch.id,
            trial=self.id,
            held=len(request.prompts),
            keep=len(request.keep),
            done=len(self._record.outcomes),
            images_low=low,
            images_high=pairs * sum(self._worst_images()),
            usd_high=None if each.usd_high is None else 2 * pairs * each.usd_high,
            budget=request.budget,
            level=self._record.level,
            tried=self._record.tried,
            needed=needed,
            measured_by=self._instrument.name,
        )

    def _worst_images(self) -> tuple[int, int]:
        """Return the most images that a run without and with the patch can make."""
        context = self._gems.resources.context()
        found = []
        for with_patch in (False, True):
            options = resolve_options(self._arguments("", with_patch=with_patch), context)
            found.append(options["max_rounds"] * options["candidates"])
        return found[0], found[1]

    def _arguments(self, prompt: str, *, with_patch: bool) -> dict[str, Any]:
        given: dict[str, Any] = {
            "patches": [*self._base, *([self._patch.id] if with_patch else [])],
            "seed": derived_seed("evolve", self._request.seed, prompt),
            "memory": False,
        }
        return given | ({"max_rounds": self._request.rounds} if self._request.rounds else {})

    async def run(self, progress: Progress | None = None) -> Evidence:
        """Run pairs batch by batch, and return what was found. Each batch is on disk before the next one begins."""
        waiting = self._waiting()
        worst = sum(self._worst_images())
        standing, why = self._plan.standing(*self._counts())
        while waiting and standing == "open":
            affordable = (self._request.budget - self._images()) // worst
            batch, waiting = waiting[: min(self._request.batch, affordable)], waiting[self._request.batch :]
            if not batch:
                why = f"The budget of {self._request.budget} images is used up. {why}"
                break
            self._record.outcomes += await gather_or_cancel(self._pair(part, number) for part, number in batch)
            await asyncio.to_thread(self._save)
            standing, why = self._plan.standing(*self._counts())
            waiting = self._waiting()
            if progress is not None:
                progress(len(self._record.outcomes), self._plan.held + self._plan.keep)
        decision: Literal["proven", "refused", "unfinished"] = "refused"
        if standing in ("open", "proven"):
            decision = "proven" if standing == "proven" else "unfinished"
        return self._evidence(decision, why)

    def _waiting(self) -> list[tuple[Literal["held", "keep"], int]]:
        """Return the pairs that are still to be run, of both parts in turn."""
        done = {(outcome.part, outcome.number) for outcome in self._record.outcomes}
        parts: list[tuple[Literal["held", "keep"], int]] = [("held", self._plan.held), ("keep", self._plan.keep)]
        listed = sorted((number / total, part, number) for part, total in parts for number in range(total))
        return [(part, number) for _, part, number in listed if (part, number) not in done]

    def _counts(self) -> tuple[Counts, Counts]:
        outcomes = self._record.outcomes
        held, keep = (
            count_pairs((each.without, each.with_patch) for each in outcomes if each.part == part)
            for part in ("held", "keep")
        )
        return held, keep

    def _images(self) -> int:
        return sum(sum(outcome.images) for outcome in self._record.outcomes)

    async def _pair(self, part: Literal["held", "keep"], number: int) -> PairOutcome:
        prompt = (self._request.prompts if part == "held" else self._request.keep)[number]
        names = tuple(f"evolve-{self.id}-{part}{number}-{arm}" for arm in ("without", "with"))
        arms = (self._arm(prompt, names[with_patch], with_patch=with_patch) for with_patch in (False, True))
        (without, images, fault), (with_patch, others, other_fault) = await gather_or_cancel(arms)
        return PairOutcome(
            part=part,
            number=number,
            without=without,
            with_patch=with_patch,
            images=(images, others),
            runs=(names[0], names[1]),
            fault=fault or other_fault,
        )

    async def _arm(self, prompt: str, name: str, *, with_patch: bool) -> tuple[bool | None, int, str]:
        """Return what came of a run, its images, and why nothing could be measured."""
        try:
            result = await self._result(prompt, name, with_patch=with_patch)
        except RefusedError:
            return False, 0, ""
        images = sum(len(turn["candidates"]) for turn in result.rounds)
        if result.failure is not None:
            raise ProviderError(
                f"The run {name} of the trial failed: {result.failure['message']}",
                hint="Nothing is lost: the same command goes on.",
            )
        try:
            return await self._instrument.measure(result), images, ""
        except ImageMissingError as error:
            logger.warning("The image of the run %s cannot be measured: %s", name, error)
            return None, images, error.message

    async def _result(self, prompt: str, name: str, *, with_patch: bool) -> RunResult:
        target: dict[str, Any] = {"out": self._folder / self.id}
        if await self._gems.resources.ledger.run(name) is not None:
            return await self._gems.resume(name, **target)
        return await self._gems.run(prompt, new_id=name, **target, **self._arguments(prompt, with_patch=with_patch))

    def _evidence(self, decision: Literal["proven", "refused", "unfinished"], why: str) -> Evidence:
        held, keep = self._counts()
        return Evidence(
            trial=self.id,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            decision=decision,
            reason=why,
            held=held,
            keep=keep,
            p=p_of_signs(held.better, held.worse),
            level=self._record.level,
            tried=self._record.tried,
            images=self._images(),
            images_with=sum(outcome.images[1] for outcome in self._record.outcomes),
            measured_by=self._instrument.name,
            models=self._gems.resources.models(),
            base=self._base,
        )
