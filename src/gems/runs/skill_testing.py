"""One example of a skill, tried: what the planner chooses for it, and what the skill's prompt loses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from gems.errors import ProviderError
from gems.graphs.routing import ANY_SKILL
from gems.graphs.skills import any_skill_node
from gems.models.chat.watching import WatchedClient
from gems.models.schemas import KeptReply
from gems.models.usage import merged
from gems.nodes.context import NodeContext
from gems.nodes.decomposer import state_requirements
from gems.nodes.planner import choose_skills
from gems.nodes.prompts import numbered, question
from gems.options import resolve_options
from gems.skill_reports import TriedExample
from gems.skills.examples import Example
from gems.state import Context, Input, State
from gems.types import Role, Usage

_ASKS = "__interrupt__"
"""Where LangGraph puts the questions of a graph that a person is to answer."""


@dataclass
class ExampleTrial:
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
        """Ask the planner, and where the skill is called for, make its prompt and look at it.

        Raises:
            UnreachableError: nothing answers at a chat model's address.
            ConfigurationError: a chat model cannot be used as configured.
        """
        plan = await choose_skills(self.example.prompt, "auto", self._work())
        if not self.unanswered:
            self.skills, self.chosen = plan["skills"], self.skill in plan["skills"]
        if self.example.trigger and self.example.keeps:
            await self._rewrite()

    async def _rewrite(self) -> None:
        before = len(self.unanswered)
        update = await _stage().ainvoke(await self._state(), context=self.context)
        if _ASKS in update:
            self.fault = "It asks a person something, and nobody is there to answer."
            return
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
            "options": resolve_options(wanted, self.context),
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


@cache
def _stage() -> CompiledStateGraph[Any, Any, Any, Any]:
    """A graph of nothing but a skill's turn; without a checkpointer nothing of it is kept."""
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(State, context_schema=Context)
    graph.add_node(ANY_SKILL, any_skill_node())
    graph.add_edge(START, ANY_SKILL)
    graph.add_edge(ANY_SKILL, END)
    return graph.compile(name="trial")


def _folded(text: str) -> str:
    """Without what does not matter: case, and how blanks are written."""
    return " ".join(text.split()).casefold()
