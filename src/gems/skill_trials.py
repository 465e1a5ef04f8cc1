"""Test a skill on its own examples: whether it is chosen, and what its prompts lose.

Nothing is generated and no run is recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from gems.errors import OptionError, SkillError
from gems.nodes.skills import skill_graph
from gems.resources import Resources
from gems.runs.skill_testing import ExampleTrial
from gems.skills.examples import Example, read_examples
from gems.skills.models import FaultySkill, Skill, SkillRegistry
from gems.skills.reports import SkillTrial
from gems.types import Usage, merge_usage

T = TypeVar("T")
_CONCURRENCY = 8
"""Examples at a time; the clients limit the requests to each endpoint."""


async def run_skill_test(
    wanted: str | Path,
    resources: Resources,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SkillTrial:
    """Test a skill on its examples.

    Args:
        wanted: The skill's name, or its folder, which must be below a search path.
        resources: The opened models, and the catalogue that the planner chooses from.
        limit: Use only this many examples, the first ones.
        progress: Called with the number of examples that are done, and their total.

    Raises:
        OptionError: there is no such skill.
        SkillError: it has no examples, or invalid ones.
    """
    started = time.monotonic()
    skill = find_skill(wanted, resources.skills.current)
    if skill.folder is None:
        raise SkillError(f"The skill {skill.name} was created by a program and has no folder with examples.")
    examples = (await asyncio.to_thread(read_examples, skill.folder))[:limit]
    with suppress(SkillError):
        # Code that hangs is awaited only once; each example reports it.
        await asyncio.to_thread(skill_graph, skill)
    context, done = resources.context(), 0

    async def run_trial(example: Example) -> ExampleTrial:
        nonlocal done
        trial = ExampleTrial(skill.name, example, context)
        await trial.run()
        done += 1
        if progress is not None:
            progress(done, len(examples))
        return trial

    trials = await _map_concurrently(run_trial, examples)
    return _build_report(skill.name, trials, time.monotonic() - started)


def find_skill(wanted: str | Path, registry: SkillRegistry) -> Skill:
    """Return the skill with this name or folder; OptionError if there is none or it is not valid."""
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
        raise OptionError(f"{fault}", hint="Run `gems skills validate` for details.")
    if isinstance(wanted, Path):
        raise OptionError(f"There is no skill in {wanted}.", hint="A skill's folder has a SKILL.md.")
    return registry.named(wanted)


def _build_report(name: str, trials: Sequence[ExampleTrial], seconds: float) -> SkillTrial:
    examples = [trial.report() for trial in trials]
    usage: dict[str, Usage] = {}
    for trial in trials:
        usage = merge_usage(usage, trial.usage())
    answered = [example for example in examples if example.chosen is not None]
    true_positives = sum(example.trigger and bool(example.chosen) for example in answered)
    kept = sum(len(example.kept) for example in examples)
    return SkillTrial(
        skill=name,
        passed=all(example.passed for example in examples),
        precision=_ratio(true_positives, sum(bool(example.chosen) for example in answered)),
        recall=_ratio(true_positives, sum(example.trigger for example in answered)),
        kept=kept,
        checked=kept + sum(len(example.lost) for example in examples),
        unanswered=sum(bool(example.unanswered) for example in examples),
        calls=sum(used["calls"] for used in usage.values()),
        seconds=round(seconds, 3),
        usage=usage,
        examples=examples,
    )


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


async def _map_concurrently(
    function: Callable[[Example], Awaitable[T]], examples: Iterable[Example]
) -> list[T]:
    """Return all results in order, running a few at a time; the first error cancels the others."""
    semaphore = asyncio.Semaphore(_CONCURRENCY)

    async def limited(example: Example) -> T:
        async with semaphore:
            return await function(example)

    tasks = [asyncio.create_task(limited(example)) for example in examples]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
