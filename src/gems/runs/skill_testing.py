"""Test one example of a skill: what the planner chooses, and what the skill's prompt loses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from gems.errors import ProviderError
from gems.graphs.routing import ANY_SKILL
from gems.graphs.skills import any_skill_node
from gems.models.chat.watching import RecordingClient
from gems.models.schemas import KeptReply
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import state_requirements
from gems.nodes.planner import choose_skills
from gems.nodes.prompts import numbered, question
from gems.options import resolve_options
from gems.skills.examples import Example
from gems.skills.reports import TriedExample
from gems.state import Context, Input, State
from gems.types import Role, Usage, merge_usage

_INTERRUPT = "__interrupt__"
"""LangGraph's key of a graph's questions to a person."""


@dataclass
class ExampleTrial:
    """One example with its outcome, which `run` sets."""

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
        self._clients: dict[Role, RecordingClient] = {
            role: RecordingClient(client) for role, client in self.context.chats.items()
        }
        self.context = replace(self.context, chats=self._clients)

    @property
    def unanswered(self) -> list[str]:
        """The errors of models that gave no usable answers."""
        return list(dict.fromkeys(fault for client in self._clients.values() for fault in client.errors))

    def usage(self) -> dict[str, Usage]:
        """Return the usage by role."""
        used: dict[str, Usage] = {}
        for role, client in self._clients.items():
            for usage in client.usages:
                used = merge_usage(used, {role: usage})
        return used

    async def run(self) -> None:
        """Ask the planner, and if the example calls for the skill, write its prompt and check it."""
        plan = await choose_skills(self.example.prompt, "auto", self._work())
        if not self.unanswered:
            self.skills, self.chosen = plan["skills"], self.skill in plan["skills"]
        if self.example.trigger and self.example.keeps:
            await self._rewrite()

    async def _rewrite(self) -> None:
        before = len(self.unanswered)
        update = await _skill_graph().ainvoke(await self._initial_state(), context=self.context)
        if _INTERRUPT in update:
            self.fault = "The skill asks a person a question, which a test cannot answer."
            return
        self.fault = update["skill_uses"][-1]["fault"]
        # Without an answer the prompt is the user's own, which keeps everything.
        if self.fault or len(self.unanswered) > before:
            return
        self.new_prompt = update["draw_prompt"]
        lost = await self._find_lost(self.new_prompt)
        if len(self.unanswered) == before:
            self.lost = lost
            self.kept = [statement for statement in self.example.keeps if statement not in lost]

    async def _initial_state(self) -> State:
        """Return a run's state right before the skill's node."""
        prompt = self.example.prompt
        # Reproducible, and independent of the settings' defaults.
        graph_input: Input = {"prompt": prompt, "seed": 0, "skills": self.skill, "memory": False}
        requirements = await state_requirements(prompt, self._work())
        return {
            "prompt": prompt,
            "draw_prompt": prompt,
            "options": resolve_options(graph_input, self.context),
            "plan": {"skills": [self.skill], "why": "It is tried.", "prompt": prompt},
            "requirements": requirements,
            "skill_uses": [],
        }

    async def _find_lost(self, new_prompt: str) -> list[str]:
        """Return the statements that a new prompt lost: neither verbatim nor, by the model, in meaning.

        Empty if the model gives no answer; `unanswered` has the error.
        """
        folded_prompt = _normalize_text(new_prompt)
        open_statements = [
            statement for statement in self.example.keeps if _normalize_text(statement) not in folded_prompt
        ]
        if not open_statements:
            return []
        slots = {
            "user_prompt": self.example.prompt,
            "new_prompt": new_prompt,
            "questions": numbered(open_statements),
        }
        try:
            reply = await self._work().ask(question("keep", slots))
        except ProviderError:
            # The client records the error; unreachable models have already ended the test.
            return []
        numbers = {loss.number for loss in reply.form(KeptReply).lost}
        return [statement for number, statement in enumerate(open_statements, 1) if number in numbers]

    def _work(self) -> NodeContext:
        """A turn of no run: nothing is entered into the ledger."""
        return NodeContext(
            context=self.context,
            run_id="",
            round=1,
            profile="balanced",
            deadline_s=None,
            write=lambda _: None,
        )

    def report(self) -> TriedExample:
        """Return the outcome."""
        example, unanswered = self.example, self.unanswered
        is_as_expected = self.chosen == example.trigger and not self.lost
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
            passed=is_as_expected and not unanswered and not self.fault,
        )


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
