"""Knowledge grounding: state what must be visible, ask for it and check it."""

from __future__ import annotations

from typing import Any

from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field

from gems.skills.authoring import ExtraRequirement, NodeContext, SkillContext

MOST_FACTS = 4
INSTRUCTIONS = """
The prompt leaves something for the reader to know or to work out. State what must be visible in the picture
so that it shows the right answer, and why; at most four facts, the most telling first. Each has a question
about the picture that yes answers if the fact is visible, and that somebody can answer who only looks and
does not know the answer: it names the thing or its looks, never the riddle. State only what you are sure of,
and nothing that the prompt says itself; no fact at all where nothing has to be known.
Form: {"facts": [{"visible": "what is to be seen", "why": "the reason", "question": "Is there ...?"}]}
"""


class Fact(BaseModel):
    """Something that must be visible."""

    visible: str
    why: str = ""
    question: str = ""


class Facts(BaseModel):
    """The answer to `INSTRUCTIONS`."""

    facts: list[Fact] = Field(default_factory=list)


def build(context: SkillContext) -> StateGraph[Any, Any, Any, Any]:
    """Load the guidance, state the facts, enhance the prompt with both, and restore what was lost."""

    async def ground(state: Any, work: NodeContext) -> dict[str, Any]:
        """State what must be visible and why, as guidance and as requirements."""
        found = await context.consult(work, INSTRUCTIONS, state["user_prompt"], Facts)
        facts = [fact for fact in found.facts if fact.visible.strip()][:MOST_FACTS]
        if not facts:
            return {}
        lines = [f"- {fact.visible} ({fact.why})" if fact.why else f"- {fact.visible}" for fact in facts]
        extra: list[ExtraRequirement] = [
            {"question": fact.question, "kind": "other"} for fact in facts if fact.question.strip()
        ]
        stated = "\n".join(["# What must be visible in this picture, and why", "", *lines])
        return {"guidance": f"{state['guidance']}\n\n{stated}", "extra_requirements": extra}

    steps = [
        ("load", context.load),
        ("ground", context.node(ground)),
        ("enhance", context.enhance),
        ("keep", context.keep),
    ]
    return context.graph().add_sequence(steps).add_edge(START, "load").add_edge("keep", END)
