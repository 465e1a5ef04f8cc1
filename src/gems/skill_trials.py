"""A skill tried on its own examples: is it chosen where it should be, and what do its prompts lose?

Nothing is drawn and no run is recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gems.errors import OptionError, SkillError
from gems.models.usage import merged
from gems.nodes.skill_graphs import skill_graph
from gems.resources import Resources
from gems.runs.skill_testing import ExampleTrial
from gems.skill_reports import SkillTrial
from gems.skills.examples import Example, read_examples
from gems.skills.models import FaultySkill, Skill
from gems.skills.registry import SkillRegistry
from gems.types import Usage

T = TypeVar("T")
_AT_A_TIME = 8
"""Examples; how many questions an endpoint gets at a time is the clients' own business."""


async def tried(
    wanted: str | Path,
    resources: Resources,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SkillTrial:
    """Try a skill on its examples.

    Args:
        wanted: The skill's name; or its folder, which must be among those that are looked into.
        resources: The opened models, and the catalogue that the planner chooses from.
        limit: Take only so many examples, the first ones.
        progress: Told how many examples are done, of how many.

    Raises:
        OptionError: there is no such skill.
        SkillError: it has no examples, or broken ones.
        UnreachableError: nothing answers at a chat model's address.
        ConfigurationError: a chat model cannot be used as configured.
    """
    started = time.monotonic()
    skill = known_skill(wanted, resources.skills.current)
    if skill.folder is None:
        raise SkillError(f"The skill {skill.name} was made by a program and has no folder with examples.")
    examples = (await asyncio.to_thread(read_examples, skill.folder))[:limit]
    with suppress(SkillError):
        # Code that hangs is waited for once, and told about with each example.
        await asyncio.to_thread(skill_graph, skill)
    context, done = resources.context(), 0

    async def trial_of(example: Example) -> ExampleTrial:
        nonlocal done
        trial = ExampleTrial(skill.name, example, context)
        await trial.carry_out()
        done += 1
        if progress is not None:
            progress(done, len(examples))
        return trial

    trials = await _at_a_time(trial_of, examples)
    return _report(skill.name, trials, time.monotonic() - started)


def known_skill(wanted: str | Path, registry: SkillRegistry) -> Skill:
    """The skill that a person means, by its name or its folder.

    Raises:
        OptionError: there is none, or it cannot be used.
    """
    faulty = [item for item in registry.left_out if isinstance(item, FaultySkill)]
    if isinstance(wanted, Path):
        skills = [skill for skill in registry.all() if skill.folder and skill.folder.resolve() == wanted]
        found = skills[0].name if skills else None
        fault = next((item for item in faulty if item.folder.resolve() == wanted), None)
    else:
        found = registry.match(wanted)
        fault = next((item for item in faulty if item.folder.name == wanted), None)
    if found is not None and (skill := registry.get(found)) is not None:
        return skill
    if fault is not None:
        raise OptionError(f"{fault}", hint="`gems skills validate` says what is wrong with it.")
    if isinstance(wanted, Path):
        raise OptionError(f"There is no skill in {wanted}.", hint="A skill's folder holds a SKILL.md.")
    return registry.named(wanted)


def _report(name: str, trials: Sequence[ExampleTrial], seconds: float) -> SkillTrial:
    examples = [trial.report() for trial in trials]
    usage: dict[str, Usage] = {}
    for trial in trials:
        usage = merged(usage, trial.usage())
    answered = [example for example in examples if example.chosen is not None]
    right = sum(example.trigger and bool(example.chosen) for example in answered)
    kept = sum(len(example.kept) for example in examples)
    return SkillTrial(
        skill=name,
        passed=all(example.passed for example in examples),
        precision=_share(right, sum(bool(example.chosen) for example in answered)),
        recall=_share(right, sum(example.trigger for example in answered)),
        kept=kept,
        checked=kept + sum(len(example.lost) for example in examples),
        unanswered=sum(bool(example.unanswered) for example in examples),
        calls=sum(used["calls"] for used in usage.values()),
        seconds=round(seconds, 3),
        usage=usage,
        examples=examples,
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


async def _at_a_time(doing: Callable[[Example], Awaitable[T]], examples: Iterable[Example]) -> list[T]:
    """All results in order, a few at a time; the first error ends all the others."""
    places = asyncio.Semaphore(_AT_A_TIME)

    async def placed(example: Example) -> T:
        async with places:
            return await doing(example)

    tasks = [asyncio.create_task(placed(example)) for example in examples]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
