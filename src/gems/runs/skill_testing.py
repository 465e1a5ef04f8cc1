"""`Gems.skills.test`: a skill on its own examples."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from gems.errors import OptionError, ProviderError, SkillError
from gems.graphs.routing import ANY_SKILL
from gems.graphs.skills import any_skill_node
from gems.models.chat.client import ChatClient
from gems.models.chat.messages import ChatReply, Question
from gems.models.chat.schemas import KeptReply
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import state_requirements
from gems.nodes.planner import choose_skills
from gems.nodes.prompts import numbered, question
from gems.nodes.skills import skill_graph
from gems.options import resolve_options
from gems.resources import Resources
from gems.runs.skill_learning import DraftRequest, propose_skills
from gems.skills.examples import Example, read_examples
from gems.skills.models import FaultySkill, Skill, SkillRegistry
from gems.skills.reports import SkillDrafts, SkillTrial, TriedExample
from gems.state import Context, Input, State
from gems.types import Role, Usage, merge_usage

S = TypeVar("S")
T = TypeVar("T")
Progress = Callable[[int, int], None]
_CONCURRENCY = 8
"""Examples at a time; the clients limit the requests to each endpoint."""
_INTERRUPT = "__interrupt__"
"""LangGraph's key of a graph's questions to a person."""


class RecordingClient(ChatClient):
    """Forwards questions to `client`; records usage and errors, after which nodes may go on silently."""

    def __init__(self, client: ChatClient) -> None:
        super().__init__(client.model, name=client.name, limits=client.limits)
        self._client = client
        self.usages: list[Usage] = []
        self.errors: list[str] = []

    async def ask(
        self, question: Question, on_usage: Callable[[Usage], None] | None = None, attempts: int | None = None
    ) -> ChatReply:
        """Ask the wrapped client and record usage and errors."""

        def record(usage: Usage) -> None:
            self.usages.append(usage)
            if on_usage is not None:
                on_usage(usage)

        try:
            return await self._client.ask(question, record, attempts)
        except ProviderError as error:
            self.errors.append(str(error))
            raise


class ExampleTrial:
    """One example of a skill, tried with models whose usage and errors are recorded."""

    def __init__(self, skill: str, example: Example, context: Context) -> None:
        self._skill, self._example = skill, example
        self._clients = {role: RecordingClient(client) for role, client in context.chats.items()}
        chats: dict[Role, ChatClient] = {**self._clients}
        self._context = replace(context, chats=chats)

    def _unanswered(self) -> list[str]:
        """Return the errors of models that gave no usable answers."""
        return list(dict.fromkeys(fault for client in self._clients.values() for fault in client.errors))

    def usage(self) -> dict[str, Usage]:
        """Return the usage by role."""
        used: dict[str, Usage] = {}
        for role, client in self._clients.items():
            for usage in client.usages:
                used = merge_usage(used, {role: usage})
        return used

    async def run(self) -> TriedExample:
        """Ask the planner, and if the example calls for the skill, write its prompt and check it."""
        example = self._example
        plan = await choose_skills(example.prompt, "auto", self._work())
        chosen = None if self._unanswered() else self._skill in plan["skills"]
        outcome: dict[str, Any] = {"new_prompt": None, "kept": [], "lost": [], "fault": ""}
        if example.trigger and example.keeps:
            outcome |= await self._rewrite()
        unanswered = self._unanswered()
        return TriedExample(
            line=example.line,
            prompt=example.prompt,
            trigger=example.trigger,
            chosen=chosen,
            skills=[] if chosen is None else plan["skills"],
            unanswered=unanswered,
            passed=chosen == example.trigger and not (outcome["lost"] or outcome["fault"] or unanswered),
            **outcome,
        )

    async def _rewrite(self) -> dict[str, Any]:
        """Return the fields of the outcome that come from the skill's prompt."""
        before = len(self._unanswered())
        update = await _skill_graph().ainvoke(await self._initial_state(), context=self._context)
        if _INTERRUPT in update:
            return {"fault": "The skill asks a person a question, which a test cannot answer."}
        fault = update["skill_uses"][-1]["fault"]
        # Without an answer the prompt is the user's own, which keeps everything.
        if fault or len(self._unanswered()) > before:
            return {"fault": fault}
        # What the skill wrote itself: the user's own words are drawn in any case.
        new_prompt = update["skill_uses"][-1]["prompt"]
        lost = await self._find_lost(new_prompt)
        if len(self._unanswered()) > before:
            return {"new_prompt": new_prompt}
        kept = [statement for statement in self._example.keeps if statement not in lost]
        return {"new_prompt": new_prompt, "lost": lost, "kept": kept}

    async def _initial_state(self) -> State:
        """Return a run's state right before the skill's node."""
        prompt = self._example.prompt
        # Reproducible, and independent of the settings' defaults.
        graph_input: Input = {"prompt": prompt, "seed": 0, "skills": self._skill, "memory": False}
        requirements, _ = await state_requirements(prompt, self._work())
        return {
            "prompt": prompt,
            "current_prompt": prompt,
            "options": resolve_options(graph_input, self._context),
            "plan": {"skills": [self._skill], "why": "It is tried.", "prompt": prompt},
            "requirements": requirements,
            "skill_uses": [],
        }

    async def _find_lost(self, new_prompt: str) -> list[str]:
        """Return the statements that a prompt keeps neither verbatim nor, by the model, in meaning."""
        folded = _normalize_text(new_prompt)
        open_statements = [said for said in self._example.keeps if _normalize_text(said) not in folded]
        if not open_statements:
            return []
        slots = {"user_prompt": self._example.prompt, "new_prompt": new_prompt}
        slots["questions"] = numbered(open_statements)
        try:
            reply = await self._work().ask(question("keep", slots))
        except ProviderError:
            # The client records the error; unreachable models have already ended the test.
            return []
        numbers = {loss.number for loss in reply.form(KeptReply).lost}
        return [statement for number, statement in enumerate(open_statements, 1) if number in numbers]

    def _work(self) -> NodeContext:
        """Return a node's context without a run: nothing is entered into the ledger."""
        run: dict[str, Any] = {"run_id": "", "round": 1, "profile": "balanced", "deadline_s": None}
        return NodeContext(context=self._context, write=lambda _: None, **run)


@cache
def _skill_graph() -> CompiledStateGraph[Any, Any, Any, Any]:
    """Build a graph of only a skill's node, without a checkpointer."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State, context_schema=Context)
    graph.add_node(ANY_SKILL, any_skill_node())
    graph.add_edge(START, ANY_SKILL)
    graph.add_edge(ANY_SKILL, END)
    return graph.compile(name="trial")


def _normalize_text(text: str) -> str:
    """Normalize case and whitespace."""
    return " ".join(text.split()).casefold()


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


def _build_report(name: str, examples: list[TriedExample], usage: dict[str, Usage], seconds: float) -> SkillTrial:
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


async def _map_concurrently(function: Callable[[S], Awaitable[T]], items: Iterable[S]) -> list[T]:
    """Return all results in order, running a few at a time; the first error cancels the others."""
    semaphore = asyncio.Semaphore(_CONCURRENCY)

    async def limited(item: S) -> T:
        async with semaphore:
            return await function(item)

    tasks = [asyncio.create_task(limited(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class SkillWorkshop:
    """Tools for authors of skills; see `Gems.skills`."""

    def __init__(self, resources: Resources, home: Path) -> None:
        self._resources, self._home = resources, home

    async def try_out(
        self, skill: str | Path, limit: int | None = None, progress: Progress | None = None
    ) -> SkillTrial:
        """Test a skill, given by name or folder, on its own examples, or on the first `limit` of them.

        `progress` is called with the number of examples that are done, and their total. Raises `OptionError`
        if there is no such skill, and `SkillError` if it has no or invalid examples.
        """
        started = time.monotonic()
        found = find_skill(skill, self._resources.skills.current)
        if found.folder is None:
            raise SkillError(f"The skill {found.name} was created by a program and has no folder with examples.")
        examples = (await asyncio.to_thread(read_examples, found.folder))[:limit]
        with suppress(SkillError):
            # Code that hangs is awaited only once; each example reports it.
            await asyncio.to_thread(skill_graph, found)
        context, done = self._resources.context(), 0

        async def run_trial(trial: ExampleTrial) -> TriedExample:
            nonlocal done
            outcome = await trial.run()
            done += 1
            if progress is not None:
                progress(done, len(examples))
            return outcome

        trials = [ExampleTrial(found.name, example, context) for example in examples]
        outcomes = await _map_concurrently(run_trial, trials)
        usage: dict[str, Usage] = {}
        for trial in trials:
            usage = merge_usage(usage, trial.usage())
        return _build_report(found.name, outcomes, usage, time.monotonic() - started)

    async def learn(self, request: DraftRequest | None = None, progress: Progress | None = None) -> SkillDrafts:
        """Draft skills from lessons; `progress` is called with the groups that are done, and their total."""
        return await propose_skills(self._resources, self._home, request or DraftRequest(), progress)
