"""A skill tried on its own examples: is it chosen where it should be, and what do its prompts lose?

Nothing is drawn and no run is recorded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from langgraph.runtime import Runtime

from gems.errors import OptionError, ProviderError, SkillError
from gems.graphs.skill_nodes import any_skill_node
from gems.models.chat.watching import WatchedClient
from gems.models.tasks import KeptReply
from gems.models.usage import merged
from gems.nodes.decomposer import state_requirements
from gems.nodes.options import resolved
from gems.nodes.planner import choose_skills
from gems.nodes.prompts import numbered, question
from gems.nodes.skill_graphs import skill_graph
from gems.resources import Resources
from gems.skill_reports import SkillTrial, TriedExample
from gems.skills.examples import Example, read_examples
from gems.skills.registry import SkillRegistry
from gems.skills.skill import FaultySkill, Skill
from gems.state import Context, Input, State
from gems.types import Role, Usage
from gems.work import Work

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

    async def trial_of(example: Example) -> _Trial:
        nonlocal done
        trial = _Trial(skill.name, example, context)
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
    known = ", ".join(skill.name for skill in registry.all()) or "there are none yet"
    raise OptionError(f"There is no skill {wanted[:80]!r}.", hint=f"Known skills: {known}.")


@dataclass
class _Trial:
    """One example; `carry_out` fills in what came of it."""

    skill: str
    example: Example
    context: Context
    skills: list[str] = field(default_factory=list)
    chosen: bool | None = None
    new_prompt: str | None = None
    kept: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    fault: str = ""

    def __post_init__(self) -> None:
        self._clients: dict[Role, WatchedClient] = {
            role: WatchedClient(client) for role, client in self.context.chats.items()
        }
        self.context = replace(self.context, chats=self._clients)

    @property
    def unanswered(self) -> list[str]:
        """Why models gave no usable answers."""
        return list(dict.fromkeys(fault for client in self._clients.values() for fault in client.faults))

    def usage(self) -> dict[str, Usage]:
        """What was consumed, by role."""
        used: dict[str, Usage] = {}
        for role, client in self._clients.items():
            for usage in client.spent:
                used = merged(used, {role: usage})
        return used

    async def carry_out(self) -> None:
        plan = await choose_skills(self.example.prompt, "auto", self._work())
        if not self.unanswered:
            self.skills, self.chosen = plan["skills"], self.skill in plan["skills"]
        if self.example.trigger and self.example.keeps:
            await self._rewrite()

    async def _rewrite(self) -> None:
        before = len(self.unanswered)
        update = await any_skill_node()(await self._state(), runtime=Runtime(context=self.context))
        self.fault = update["skill_uses"][-1]["fault"]
        # A prompt that nobody answered for is the user's own, which keeps everything.
        if self.fault or len(self.unanswered) > before:
            return
        self.new_prompt = update["draw_prompt"]
        lost = await self._lost(self.new_prompt)
        if len(self.unanswered) == before:
            self.lost = lost
            self.kept = [statement for statement in self.example.keeps if statement not in lost]

    async def _state(self) -> State:
        """A run's state at the moment when it is the skill's turn."""
        prompt = self.example.prompt
        # Every time the same, and nothing that a default of the settings could forbid.
        wanted: Input = {"prompt": prompt, "seed": 0, "skills": self.skill, "memory": False}
        requirements = await state_requirements(prompt, self._work())
        return {
            "prompt": prompt,
            "draw_prompt": prompt,
            "options": resolved(wanted, self.context),
            "plan": {"skills": [self.skill], "why": "It is tried.", "prompt": prompt},
            "requirements": requirements,
            "skill_uses": [],
        }

    async def _lost(self, new_prompt: str) -> list[str]:
        """The statements that a new prompt does not keep: neither word by word nor, says the model, in sense.

        Nothing where it does not answer; `unanswered` says so.
        """
        said = _folded(new_prompt)
        open_ = [statement for statement in self.example.keeps if _folded(statement) not in said]
        if not open_:
            return []
        slots = {
            "user_prompt": self.example.prompt,
            "new_prompt": new_prompt,
            "questions": numbered(open_),
        }
        try:
            reply = await self._work().ask(question("keep", slots))
        except ProviderError:
            # Remembered by the client; what never answers at all has ended the trial before.
            return []
        numbers = {loss.number for loss in reply.form(KeptReply).lost}
        return [statement for number, statement in enumerate(open_, 1) if number in numbers]

    def _work(self) -> Work:
        """A turn of no run: nothing is entered into the ledger."""
        return Work(
            context=self.context,
            run_id="",
            round=1,
            profile="balanced",
            deadline_s=None,
            write=lambda _: None,
        )

    def report(self) -> TriedExample:
        """What came of it."""
        example, unanswered = self.example, self.unanswered
        came_out = self.chosen == example.trigger and not self.lost
        return TriedExample(
            line=example.line,
            prompt=example.prompt,
            trigger=example.trigger,
            chosen=self.chosen,
            skills=self.skills,
            new_prompt=self.new_prompt,
            kept=self.kept,
            lost=self.lost,
            unanswered=unanswered,
            fault=self.fault,
            passed=came_out and not unanswered and not self.fault,
        )


def _report(name: str, trials: Sequence[_Trial], seconds: float) -> SkillTrial:
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


def _folded(text: str) -> str:
    """Without what does not matter: case, and how blanks are written."""
    return " ".join(text.split()).casefold()


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
