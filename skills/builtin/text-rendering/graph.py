"""Text rendering: ask for every wanted text and check it by OCR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph.graph import END, START, StateGraph

from gems.skills.authoring import ExtraRequirement, NodeContext, SkillContext, Verifier
from gems.skills.lettering import RapidReader, TextVerifier, wanted_texts
from gems.types import Requirement


def build(context: SkillContext) -> StateGraph[Any, Any, Any, Any]:
    """Load, enhance and keep; then make sure that each text is checked."""
    steps = [
        ("load", context.load),
        ("enhance", context.enhance),
        ("keep", context.keep),
        ("require", context.node(require)),
    ]
    return context.graph().add_sequence(steps).add_edge(START, "load").add_edge("require", END)


def verifiers(context: SkillContext) -> list[Verifier]:  # noqa: ARG001 - the form that every skill has
    """Return the OCR verifier if it is installed."""
    return [TextVerifier(RapidReader())] if RapidReader.is_installed() else []


async def require(state: Any, work: NodeContext) -> dict[str, Any]:
    """Add a requirement for each quoted text that no requirement asks about."""
    wanted = wanted_texts(state["user_prompt"])
    asked = wanted or any(requirement["kind"] == "text" for requirement in state["requirements"])
    if asked and not RapidReader.is_installed():
        work.warn(
            "The text in the picture is checked by the judge alone; "
            "pip install 'gems-agent[ocr]' has it read letter by letter."
        )
    return {"extra_requirements": missing(wanted, state["requirements"])}


def missing(wanted: Sequence[str], requirements: Sequence[Requirement]) -> list[ExtraRequirement]:
    """Return requirements for the texts that no requirement asks about."""
    asked = {_same(text) for item in requirements for text in wanted_texts(item["question"])}
    extra: list[ExtraRequirement] = []
    for text in wanted:
        if _same(text) not in asked:
            line = " ".join(text.split())
            extra.append({"question": f'Does the picture show the text "{line}"?', "kind": "text"})
    return extra


def _same(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
